"""Talks to the users' servers: follows each one's event stream, and passes on what only it can do."""

import asyncio
import contextlib
import datetime as dt
import json
import logging
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import Any

import aiohttp

from waportd.errors import AlreadyLinked, BadRequest, ServerFailed, StartTimeout, WaportdError
from waportd.model import Missing, PairingCode, Port, Session, SessionState, Upstream, Webhook
from waportd.plain import one_line
from waportd.quotas import PICTURES, Pace

log = logging.getLogger(__name__)

NOT_ANSWERING = "not_answering"
"""Cause of a call that a server did not answer. What became of the server, systemd knows better."""
_SILENCE = 40.0
"""Seconds without a byte after which a stream counts as dead; the server sends a heartbeat every 15 s."""
_CALL_TIMEOUT = 20.0
"""Seconds a server has to answer a call; a logout waits for the phone to be unlinked."""
_PAIRING_TIMEOUT = 70.0
"""Seconds a server has to answer with a pairing code; it gives up by itself after 60."""
_RETRY = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts to reach a server that runs; the last one repeats."""
_EVENT_STREAM = "text/event-stream"
_MAX_EVENT = 256 * 1024
"""Bytes of one event; a picture is about 1 KiB."""
_MAX_ANSWER = 64 * 1024
"""Bytes read of an answer that says why a call failed."""
_AT_A_TIME = 8 * 1024
"""Bytes that the kernel keeps of what a server sends; it makes some more of it (SO_RCVBUF in socket(7))."""
_MAX_TEXT = 1000
"""Characters kept of a text that a server sends."""
_MAX_WORD = 60
"""Characters kept of a name: of a feature, a module, a member."""
_MOST = 200
"""Entries kept of a list that a server sends: more than all that is looked for in WhatsApp's page."""
_LATEST = 2.0**33
"""Seconds since the epoch (year 2242): what is later is no time of a session, and may not fit a date."""


class BadEvent(ValueError):
    """A server sent something that is not the picture of a session."""


async def parse_events(chunks: AsyncIterable[bytes]) -> AsyncGenerator[str, None]:
    """Yield the data of each event of a stream (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    Lines end with LF or CRLF. An event that the end of the stream cuts off is dropped. Raises BadEvent for an
    event of more than 256 KiB.
    """
    pending = b""
    data: list[bytes] = []
    size = 0
    async for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        for line in (line.removesuffix(b"\r") for line in lines):
            if line.startswith(b"data:"):
                value = line[5:].removeprefix(b" ")
                size += len(value) + 1
                data.append(value)
            elif not line and data:
                yield b"\n".join(data).decode("utf-8", "replace")
                data, size = [], 0
            if size > _MAX_EVENT:
                raise BadEvent("an event is larger than 256 KiB")
        if len(pending) > _MAX_EVENT:
            raise BadEvent("a line is larger than 256 KiB")


def parse_session(text: str) -> Session:
    """Read the picture that a server sends of its session.

    A server runs a browser with a foreign page, so nothing it says is taken on trust: BadEvent where a member
    is not what it should be, long texts are cut, unknown members are ignored.
    """
    try:
        picture = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadEvent("not JSON") from error
    if not isinstance(picture, dict):
        raise BadEvent("not a JSON object")
    try:
        state = SessionState(str(picture.get("state")))
    except ValueError as error:
        raise BadEvent("unknown state") from error
    pairing = picture.get("pairing")
    return Session(
        state=state,
        since=_time(picture, "since") or 0.0,
        message=_text(picture, "message") or "",
        cause=_text(picture, "cause"),
        hint=_text(picture, "hint"),
        qr=_text(picture, "qr"),
        expires_at=_time(picture, "expires_at"),
        attempt=_number(picture, "attempt") or 0,
        attempts=_number(picture, "attempts") or 0,
        pairing=_pairing(pairing) if isinstance(pairing, dict) else None,
        linked=picture.get("linked") is True,
        progress=_number(picture, "progress"),
        phone_number=_text(picture, "phone_number"),
        pushname=_text(picture, "pushname"),
        platform=_text(picture, "platform"),
        browser_running=_browser_runs(picture.get("browser")),
        webhook=_webhook(picture.get("webhook")),
        upstream=_upstream(picture.get("upstream")),
    )


def _pairing(picture: dict[str, Any]) -> PairingCode | None:
    code, expires_at = _text(picture, "code"), _time(picture, "expires_at")
    return PairingCode(code, expires_at) if code and expires_at else None


def _webhook(picture: object) -> Webhook:
    if not isinstance(picture, dict):
        return Webhook()
    figures = {name: _number(picture, name) or 0 for name in ("queued", "delivered", "failed", "dropped")}
    return Webhook(**{name: max(0, figure) for name, figure in figures.items()})


def _upstream(picture: object) -> Upstream | None:
    if not isinstance(picture, dict):
        return None
    checked, missing, shims = (
        picture.get("checked") or [],
        picture.get("missing") or [],
        picture.get("shims") or {},
    )
    if not isinstance(checked, list) or not isinstance(missing, list) or not isinstance(shims, dict):
        raise BadEvent("upstream is not what it should be")
    return Upstream(
        build=_text(picture, "build"),
        library=_text(picture, "library"),
        engine=_text(picture, "engine"),
        pinned=_text(picture, "pinned"),
        checked=tuple(_word({"checked": part}, "checked") for part in checked[:_MOST]),
        missing=tuple(map(_missing, missing[:_MOST])),
        shims=tuple((_word({"shim": name}, "shim"), _word(shims, name)) for name in list(shims)[:_MOST]),
    )


def _missing(entry: object) -> Missing:
    if not isinstance(entry, dict):
        raise BadEvent("missing is not a list of objects")
    return Missing(*(_word(entry, name) for name in ("feature", "module", "member", "found")))


def _word(picture: dict[str, Any], name: str) -> str:
    return (_text(picture, name) or "")[:_MAX_WORD]


def _browser_runs(browser: object) -> bool:
    return isinstance(browser, dict) and browser.get("running") is True


def _text(picture: dict[str, Any], name: str) -> str | None:
    value = picture.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadEvent(f"{name} is not a string")
    # Names are chosen by the owners of phones, and all of it ends in pages, logs and terminals.
    return one_line(value[:_MAX_TEXT])


def _number(picture: dict[str, Any], name: str) -> int | None:
    value = picture.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e9 < value < 1e9:  # noqa: PLR2004
        raise BadEvent(f"{name} is not a number")
    return int(value)


def _time(picture: dict[str, Any], name: str) -> float | None:
    value = picture.get(name)
    if value is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(value)
        seconds = moment.timestamp()
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise BadEvent(f"{name} is not a time") from error
    if moment.tzinfo is None or not 0 <= seconds < _LATEST:
        raise BadEvent(f"{name} is not a time")
    return seconds


class _Narrow(aiohttp.TCPConnector):
    """Lets the kernel keep little of what a server sends: it is read, and taken apart, in one go."""

    async def connect(self, *arguments: Any, **options: Any) -> Any:
        connection = await super().connect(*arguments, **options)
        if connection.transport is not None:
            peer = connection.transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _AT_A_TIME)
        return connection


class Sessions:
    """One event stream per running server, and calls to a server.

    Connecting to a stopped server's port would start it, so nobody is called whom systemd does not report
    as running: the supervisor says whom to `follow`, and is asked again (``runs``) before each further attempt.
    """

    def __init__(
        self,
        on_session: Callable[[Port, Session], None],
        on_silence: Callable[[Port, str], None],
        runs: Callable[[Port], Awaitable[bool]],
    ) -> None:
        """``on_silence`` is called, with the reason, after each stream that ended or could not be had."""
        self._on_session = on_session
        self._on_silence = on_silence
        self._runs = runs
        self._followers: dict[Port, asyncio.Task[None]] = {}
        self._begun: dict[Port, aiohttp.ClientResponse] = {}
        """Event streams that servers have answered with, for `follow` to go on with."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._http = aiohttp.ClientSession(
            connector=_Narrow(limit=0, force_close=True),
            # A small stream could grow without end in memory.
            auto_decompress=False,
            read_bufsize=2**14,
            trust_env=False,
        )

    def follow(self, port: Port) -> None:
        """Follow the server on that port until `unfollow`, whenever it runs."""
        if port not in self._followers:
            task = asyncio.create_task(self._follow(port), name=f"follow {port}")
            self._followers[port] = task
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._followed(port, done))

    def unfollow(self, port: Port) -> None:
        """Stop following; harmless if nobody follows."""
        task = self._followers.pop(port, None)
        if task is not None:
            task.cancel()
        self._drop(port)

    async def close(self) -> None:
        """End all streams. The servers do not mind."""
        for port in [*self._followers, *self._begun]:
            self.unfollow(port)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()

    async def greet(self, port: Port, *, ask: bool) -> None:
        """Return when a server that starts answers. Raises ServerFailed.

        It is asked for its event stream, which `follow` then goes on with, and where ``ask`` for a code by the same
        request: while it starts, each further one would take from the time of what others ask it. Asks again where
        it ends before it answers: systemd holds the port, and starts the next one.
        """
        try:
            async with asyncio.timeout(_CALL_TIMEOUT):
                try:
                    answer = await self._request_stream(port, ask=ask)
                except (aiohttp.ClientError, OSError):
                    answer = await self._request_stream(port, ask=ask)
        except TimeoutError as error:
            raise _not_answering(port, f"no answer within {_CALL_TIMEOUT:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _not_answering(port, _why(error)) from error
        if answer.status == 200 and answer.content_type == _EVENT_STREAM:  # noqa: PLR2004
            self._drop(port)
            self._begun[port] = answer
            return
        answer.close()
        if answer.status >= 300:  # noqa: PLR2004
            raise _refused(port, answer.status, b"")

    async def ask_for_code(self, port: Port) -> None:
        """Let the server open a browser for a code, if none is open. Raises ServerFailed.

        Asks again where the server ends before it answers: systemd holds the port, and starts the next one.
        """
        await self._call(port, "/qr/new", again=True)

    async def relay_poll(self, port: Port) -> None:
        """Tell the server that somebody is looking at its code; it decides what that is worth."""
        await self._call(port, "/qr", method="GET")

    async def log_out(self, port: Port) -> None:
        """Unlink the phone and let the server delete its session. Raises ServerFailed."""
        await self._call(port, "/disconnect")

    async def pairing_code(self, port: Port, phone: str) -> PairingCode:
        """Return a code to type on the phone of that number, digits only; the same again while it is valid.

        Raises BadRequest, AlreadyLinked, StartTimeout where none came in time, ServerFailed with the cause.
        """
        answer = await self._call(port, "/pairing-code", body={"phone": phone}, limit=_PAIRING_TIMEOUT)
        try:
            code = _pairing(json.loads(answer))
        except (ValueError, RecursionError, AttributeError):
            code = None
        if code is None:
            raise ServerFailed(
                f"the server on port {port} answered with no pairing code",
                cause="bad_answer",
                hint="scan the QR code instead, or restart the user",
            )
        return code

    async def end_pairing(self, port: Port) -> None:
        """Let the server show codes to scan again, unless a phone has answered. Raises ServerFailed."""
        await self._call(port, "/pairing-code", "DELETE")

    async def _call(
        self,
        port: Port,
        path: str,
        method: str = "POST",
        body: dict[str, str] | None = None,
        limit: float | None = None,
        *,
        again: bool = False,
    ) -> bytes:
        limit = limit or _CALL_TIMEOUT
        url = f"http://127.0.0.1:{port}{path}"
        timeout = aiohttp.ClientTimeout(total=limit)
        try:
            # A redirect could lead anywhere, to another user's server too.
            async with self._http.request(
                method, url, json=body, timeout=timeout, allow_redirects=False
            ) as answer:
                said = await _start_of(answer.content)
                if answer.status < 300:  # noqa: PLR2004
                    return said
                raise _refused(port, answer.status, said)
        except TimeoutError as error:
            raise _not_answering(port, f"no answer within {limit:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            if not again:
                raise _not_answering(port, _why(error)) from error
        return await self._call(port, path, method, body, limit)

    def _followed(self, port: Port, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._followers.get(port) is task:
            del self._followers[port]
        if not task.cancelled() and (error := task.exception()):
            log.error("Cannot follow port %s: %r", port, error)

    async def _follow(self, port: Port) -> None:
        attempt = 0

        def hear(session: Session) -> None:
            nonlocal attempt
            attempt = 0
            self._on_session(port, session)

        # Who says whom to follow has just heard that it runs.
        runs = True
        while True:
            reason = None
            try:
                if runs or await self._runs(port):
                    await self._listen(port, hear)
                    reason = "the server closed its event stream"
            except TimeoutError:
                reason = f"the server said nothing for {_SILENCE:.0f} s"
            except BadEvent as error:
                reason = f"the server's event stream makes no sense: {error}"
            except (aiohttp.ClientError, OSError) as error:
                reason = f"the server's event stream broke: {_why(error)}"
            except WaportdError as error:
                # Of ``runs``: systemd is busy, or restarts itself.
                reason = f"cannot tell whether the server runs: {error}"
            runs = False
            if reason is not None:
                self._on_silence(port, reason)
            await asyncio.sleep(_RETRY[min(attempt, len(_RETRY) - 1)])
            attempt += 1

    async def _request_stream(self, port: Port, *, ask: bool = False) -> aiohttp.ClientResponse:
        """Ask a server for its event stream; return the answer, whatever it is."""
        method, path = ("POST", "/qr/new") if ask else ("GET", "/events")
        return await self._http.request(
            method,
            f"http://127.0.0.1:{port}{path}",
            headers={"Accept": _EVENT_STREAM},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=_SILENCE),
            allow_redirects=False,
        )

    def _drop(self, port: Port) -> None:
        if answer := self._begun.pop(port, None):
            answer.close()

    async def _listen(self, port: Port, hear: Callable[[Session], None]) -> None:
        """Pass on what a server says until it ends, however fast it talks: of what came at once, the newest."""
        newest = None
        pace = Pace(*PICTURES)

        async def pieces(content: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
            nonlocal newest
            async for piece in content.iter_any():
                yield piece
                # All events of this piece are known now.
                if newest is not None:
                    session, newest = parse_session(newest), None
                    hear(session)
                    await asyncio.sleep(pace.count(None, time.monotonic()))

        answer = self._begun.pop(port, None)
        if answer is None:
            # Of interim answers (100 Continue) there may be any number, each of which ends a silence.
            try:
                async with asyncio.timeout(_CALL_TIMEOUT):
                    answer = await self._request_stream(port)
            except TimeoutError:
                raise BadEvent(f"it has not begun within {_CALL_TIMEOUT:g} s") from None
        async with answer:
            if answer.status != 200:  # noqa: PLR2004
                raise BadEvent(f"status {answer.status}")
            async with contextlib.aclosing(parse_events(pieces(answer.content))) as events:
                async for text in events:
                    newest = text


_REFUSALS: dict[tuple[int, str | None], type[WaportdError]] = {
    (400, "bad_phone"): BadRequest,
    (409, "already_linked"): AlreadyLinked,
    (504, "pairing_timeout"): StartTimeout,
}
"""What a refusal is where it is not the server's own failure, by status and code."""


async def _start_of(body: aiohttp.StreamReader) -> bytes:
    content = b""
    async for chunk in body.iter_any():
        content += chunk
        if len(content) > _MAX_ANSWER:
            break
    return content[:_MAX_ANSWER]


def _refused(port: Port, status: int, body: bytes) -> WaportdError:
    """Pass on what the server says of its refusal, where that makes sense."""
    try:
        answer = json.loads(body)
        said = {name: _text(answer, name) for name in ("error", "code", "cause", "hint")}
    except (ValueError, RecursionError, AttributeError):
        said = {}
    return _REFUSALS.get((status, said.get("code")), ServerFailed)(
        f"the server on port {port} refused: {said.get('error') or f'HTTP status {status}'}",
        cause=said.get("cause") or said.get("code"),
        hint=said.get("hint"),
    )


def _why(error: Exception) -> str:
    """Say in plain words why a call broke off. The library's own words are about its insides."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return "the server ended in the middle of it"
    return "what came is no HTTP"


def _not_answering(port: Port, reason: str) -> ServerFailed:
    return ServerFailed(
        f"the server on port {port} does not answer: {reason}",
        cause=NOT_ANSWERING,
        hint="systemd ends and restarts a hung server by itself within a minute; try again then",
    )
