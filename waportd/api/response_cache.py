"""Frequent answers, kept as bytes while nothing that they show has changed.

A page polls every few seconds, and there may be many pages. Routing, validation, JSON and ETag of an unchanged
answer are the same each time, and together cost more than all else that answering takes.
"""

import dataclasses
import time

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

from waportd.api.access import Access
from waportd.registry import Instance
from waportd.supervisor import Supervisor

_MOST = 4096
"""The most answers that are kept, of about 1 KiB each."""
_MARK = "waportd.lasting"
_CONDITIONS = ("If-None-Match", "Sec-Fetch-Site", "Origin")

_Question = tuple[str, str | None]
"""The target as it was sent, and the Accept header: such an answer depends on these and the instance alone."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Kept:
    instance: Instance
    until: float
    """Seconds since the epoch."""
    head: bytes
    """All but the lines that change from answer to answer."""
    body: bytes


class _Whole(web.StreamResponse):
    """A kept answer, written in one piece.

    aiohttp writes head and body one after the other, and to hand something to the kernel is half of what such an
    answer costs.
    """

    _request: web.BaseRequest

    def __init__(self, kept: _Kept) -> None:
        super().__init__()
        self._kept = kept

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Take the request whose answer it is."""
        self._request = request
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        return None

    async def write_eof(self, _data: bytes = b"") -> None:
        """Send it."""
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the caller is gone")
        last = "" if self._keep_alive else "Connection: close\r\n"
        lines = f"Date: {rfc822_formatted_time()}\r\n{last}\r\n".encode()
        transport.write(self._kept.head + lines + self._kept.body)
        await self._request.writer.drain()


def mark_lasting(request: web.Request, instance: Instance) -> None:
    """Mark that the answer to this request follows from its target, its Accept header and the instance alone.

    Call it before the answer is made: one that is made while the code ends must not be kept beyond its end.
    """
    request[_MARK] = instance, instance.code_ends_at(time.time())


class ResponseCache:
    """Keeps answers given over the unix socket. Where it is not ``enabled``, it keeps nothing."""

    def __init__(self, supervisor: Supervisor, access: Access, *, enabled: bool) -> None:
        self._enabled = enabled
        self._supervisor = supervisor
        self._access = access
        self._kept: dict[_Question, _Kept] = {}
        self.answered = 0
        """How often a kept answer was given."""

    def answer(self, request: web.BaseRequest, uid: int) -> web.StreamResponse | None:
        """Return the answer that is still valid; None where there is none.

        None too for a request whose answer depends on more: on what the caller has, or on which site's page asks; and
        for a caller who may not ask.
        """
        headers = request.headers
        question = (request.raw_path, headers.get("Accept"))
        kept = self._kept.get(question)
        if (
            kept is None
            or request.method != "GET"
            or request.version != HttpVersion11
            or any(name in headers for name in _CONDITIONS)
            or not self._access.permits(uid)
        ):
            return None
        instance = kept.instance
        if (
            kept.until <= time.time()
            or self._supervisor.registry.get(instance.assignment.user) is not instance
        ):
            del self._kept[question]
            return None
        if self._supervisor.starts_by_poll(instance):
            return None  # which is recorded with its caller
        self._supervisor.note_poll(instance)
        self.answered += 1
        return _Whole(kept)

    def keep(self, request: web.Request, response: web.StreamResponse) -> None:
        """Remember an answer that its handler has marked as lasting."""
        mark: tuple[Instance, float] | None = request.get(_MARK)
        if not self._enabled or mark is None or request.method != "GET" or response.status != 200:  # noqa: PLR2004
            return
        if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
            return
        if len(self._kept) >= _MOST:
            self._kept.clear()
        headers = {**response.headers, "Content-Length": len(response.body), "Server": SERVER_SOFTWARE}
        head = "HTTP/1.1 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._kept[request.raw_path, request.headers.get("Accept")] = _Kept(
            *mark, head.encode(), response.body
        )
