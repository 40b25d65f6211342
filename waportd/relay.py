"""Calls that are passed on to the users' servers: request and answer go through piece by piece, and nothing is kept."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Final

import aiohttp
from yarl import URL

from waportd.errors import NotLinked, PerhapsSent, Refused, ServerFailed, WaportdError
from waportd.model import Port
from waportd.plain import one_line
from waportd.server_client import not_answering, start_of, why

_PIECE_BYTES: Final = 64 * 1024
"""Bytes that are read of an answer at a time; twice as many may wait for the caller."""
_CONNECT_TIMEOUT_S: Final = 5.0
_RETRY_AFTER_S: Final = 5
"""Seconds after which another try makes sense where a server does not answer or is not connected."""
_WORD_CHARS = 60
_TEXT_CHARS = 1000


class Upload:
    """A body on its way to a server."""

    def __init__(self, pieces: AsyncIterator[bytes] | None) -> None:
        """``pieces`` may raise a WaportdError, which then is what the call ends with."""
        self._pieces = pieces
        self._patience: asyncio.Timeout | None = None
        self._limit = 0.0
        self.error: WaportdError | None = None

    def await_answer(self, patience: asyncio.Timeout, limit: float) -> None:
        """Limit the wait for the answer to that many seconds after the last piece."""
        self._patience, self._limit = patience, limit

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the pieces to send."""
        assert self._pieces is not None
        try:
            async for piece in self._pieces:
                if self._patience is not None and not self._patience.expired():
                    self._patience.reschedule(asyncio.get_running_loop().time() + self._limit)
                yield piece
        except WaportdError as error:
            self.error = error
            raise

    @property
    def body(self) -> AsyncIterator[bytes] | None:
        """The data for aiohttp."""
        return None if self._pieces is None else self.pieces()


class Relay:
    """Calls users' servers. The caller has made sure that it may call them."""

    def __init__(self) -> None:
        self._http = aiohttp.ClientSession(
            # No connection is used twice: the next server on that port may belong to another user.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            auto_decompress=False,
            read_bufsize=_PIECE_BYTES,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
        )

    async def close(self) -> None:
        """End all calls."""
        await self._http.close()
        await asyncio.sleep(0)  # connections end in the turn after

    @contextlib.asynccontextmanager
    async def call(
        self,
        port: Port,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | None,
        limit: float,
        *,
        sends: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give the answer, whose body is still to be read, once its head is there.

        ``target`` is path and query, quoted. The head must come ``limit`` seconds after the last piece of the body.
        Raises Refused where the server says why not, ServerFailed where it does not answer, and PerhapsSent where it
        does not and the call ``sends`` a message.
        """
        upload = Upload(body)
        url = URL(f"http://127.0.0.1:{port}{target}", encoded=True)
        answer: aiohttp.ClientResponse | None = None
        try:
            try:
                async with asyncio.timeout(limit) as patience:
                    upload.await_answer(patience, limit)
                    answer = await self._http.request(
                        method, url, headers=headers, data=upload.body, allow_redirects=False
                    )
            except TimeoutError:
                raise upload.error or _no_answer(port, f"no answer within {limit:g} s", sends=sends) from None
            except (aiohttp.ClientError, OSError, WaportdError) as error:
                if upload.error is not None:
                    raise upload.error from None
                if isinstance(error, WaportdError):
                    raise
                reached = not isinstance(error, aiohttp.ClientConnectorError)
                raise _no_answer(port, why(error), sends=sends and reached) from None
            if answer.status >= 300:  # noqa: PLR2004
                raise await _refusal(port, answer, limit)
            yield answer
        finally:
            if answer is not None:
                answer.close()


def _no_answer(port: Port, reason: str, *, sends: bool) -> WaportdError:
    if sends:
        return PerhapsSent(
            f"the server on port {port} was given the message and did not answer: {reason}",
            hint="repeat the call with the same Idempotency-Key: it joins the first one",
        )
    error = not_answering(port, reason)
    error.retry_after = _RETRY_AFTER_S
    return error


async def _refusal(port: Port, answer: aiohttp.ClientResponse, limit: float) -> WaportdError:
    """Return a server's refusal as an error of this API."""
    try:
        async with asyncio.timeout(limit):
            said = _words(await start_of(answer.content))
    except (aiohttp.ClientError, OSError):  # TimeoutError is one
        said = {}
    status = answer.status
    code = said.get("code") or said.get("cause")
    wait = answer.headers.get("Retry-After", "")
    message = said.get("error") or f"the server on port {port} answers with status {status}"
    again = int(wait) if wait.isascii() and wait.isdecimal() and len(wait) < 6 else None  # noqa: PLR2004
    if code == NotLinked.code:
        return NotLinked(message, hint=said.get("hint"))
    if code == "not_connected" and status == 400:  # noqa: PLR2004  # as the front end of old knows it
        status, again = 503, again or _RETRY_AFTER_S
    if status == 403 and code:  # noqa: PLR2004  # which here means that the caller may not
        status = 422
    if not 400 <= status < 600:  # noqa: PLR2004
        return ServerFailed(message, cause="bad_answer")
    known = {404: "not_found", 413: "too_large", 429: "too_many_requests", 503: "busy"}
    return Refused(
        message,
        status,
        code or known.get(status, "server_failed" if status >= 500 else "bad_request"),  # noqa: PLR2004
        hint=said.get("hint"),
        cause=said.get("cause"),
        retry_after=again,
    )


def _words(body: bytes) -> dict[str, str]:
    """Return the members that matter. A session's page may have influenced them."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    said = {name: document.get(name) for name in ("error", "code", "cause", "hint")}
    return {
        name: one_line(text[: _WORD_CHARS if name in {"code", "cause"} else _TEXT_CHARS])
        for name, text in said.items()
        if isinstance(text, str) and text
    }
