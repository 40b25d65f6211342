"""``/v1/users/{user}/logs``: what the journal has about a user's server."""

import asyncio
import collections
import contextlib
from collections.abc import Hashable, Iterator
from typing import Any

from aiohttp import web

from waportd.api.access import caller_of
from waportd.api.operations import READERS, Answer, Operation, Scope
from waportd.api.representation import respond, timestamp
from waportd.api.requests import USER, Parameter, supervisor_of
from waportd.api.schemas import array, event, integer, moment, record, text, words
from waportd.api.sse import HEARTBEAT, HEARTBEAT_FRAME, Send, frame, stream
from waportd.errors import TooManyRequests, UnknownUser
from waportd.kinds import FLAG, Kind, number
from waportd.model import service_unit
from waportd.picture import Instance
from waportd.quotas import LOGS, OF_LOGS
from waportd.supervisor import Supervisor
from waportd.systemd.lines import AT_ONCE, JournalUnavailable, Line, ServerLog

_MAX_LINES = 1000
_PAUSE = 0.2
"""Seconds from one read of new lines to the next."""
_FOREVER = 1e9
_MAX_DIGITS = 18


def _parse_id(text: str) -> int:
    """Read the time of a line in microseconds; what is none of our ids is as good as none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else 0


_LINE = record(
    "LogLine",
    time=moment("When it was written."),
    priority=integer("From 0 (emergency) to 7 (debug), as in syslog."),
    source=words("server", "systemd", "waportd", doc="Who wrote it."),
    message=text("The line."),
)
_LOG = record(
    "Log",
    user=text("Whose server."),
    unit=text("The server's systemd unit."),
    lines=array(_LINE, "The newest lines, the oldest of them first."),
)
_LINES = Parameter[int]("lines", number(1, _MAX_LINES), "How many lines at most.", default=100)
_FOLLOW = Parameter[bool](
    "follow", FLAG, "Whether lines that come later are told too, as events `log`.", default=False
)
_SEEN = Parameter[int](
    "Last-Event-ID",
    Kind("an event's id", _parse_id),
    "The last event that was received: only what came after it is told.",
    "header",
    default=0,
)


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    return [
        Operation(
            "GET",
            "/v1/users/{user}/logs",
            show,
            Scope.USER,
            {
                200: Answer(
                    "the lines; with `follow=true` server-sent events, of which the schema is that of each",
                    _LOG,
                    others={"text/event-stream": event("log", _LINE)},
                )
            },
            (USER, _LINES, _FOLLOW, _SEEN),
            errors=(UnknownUser, JournalUnavailable, TooManyRequests),
            also=READERS,
            endless=True,
        )
    ]


class Followers:
    """Who follows logs."""

    def __init__(self) -> None:
        self._callers: collections.Counter[Hashable] = collections.Counter()

    @contextlib.contextmanager
    def one_more(self, caller: Hashable) -> Iterator[None]:
        """Count one more as long as it lasts; raise TooManyRequests where that is too many."""
        whose = f"you follow {self._callers[caller]} logs" if self._callers[caller] >= OF_LOGS else ""
        if self._callers.total() >= LOGS:
            whose = f"{self._callers.total()} logs are being followed"
        if whose:
            raise TooManyRequests(
                f"{whose}, which is as many as can be",
                hint="close some of them, or ask without `follow=true`",
                retry_after=30,
            )
        self._callers[caller] += 1
        try:
            yield
        finally:
            self._callers -= collections.Counter({caller: 1})


async def show(request: web.Request) -> web.StreamResponse:
    """Show what the journal has about the user's server.

    That is the server's own lines, systemd's about its units, and the daemon's, since the user got the port.
    """
    user = USER.of(request)
    supervisor = supervisor_of(request)
    instance = supervisor.known(user)
    if _FOLLOW.of(request):
        return await _follow(request, supervisor, instance)
    log = await supervisor.open_log(user)
    try:
        lines = await log.last(_LINES.of(request))
    finally:
        log.close()
    unit = service_unit(instance.assignment.port)
    return respond({"user": user, "unit": unit, "lines": [_document(line) for line in lines]})


async def _follow(request: web.Request, supervisor: Supervisor, instance: Instance) -> web.StreamResponse:
    followers: Followers = request.app["followers"]
    with followers.one_more(caller_of(request).identity):
        log = await supervisor.open_log(instance.assignment.user)
        try:
            return await stream(request, lambda send: _tell(request, supervisor, instance, log, send))
        finally:
            log.close()


async def _tell(
    request: web.Request, supervisor: Supervisor, instance: Instance, log: ServerLog, send: Send
) -> None:
    """Send the last lines, then those that come, until the user is gone or the daemon ends."""
    assignment = instance.assignment

    def is_gone(now: Instance | None) -> bool:
        return now is None or now.assignment.created_at != assignment.created_at

    news = asyncio.Event()
    gone = asyncio.create_task(supervisor.picture.wait(assignment.user, is_gone, _FOREVER), name="log")
    gone.add_done_callback(lambda _: news.set())
    try:
        lines = await log.last(_LINES.of(request), _SEEN.of(request))
        while True:
            await send(b"".join(frame("log", _document(line), str(line.time)) for line in lines))
            await asyncio.sleep(_PAUSE)
            with log.notified(news), contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await news.wait()
            if gone.done():
                return
            if not news.is_set():
                await send(HEARTBEAT_FRAME)
            news.clear()
            lines = await log.following()
            if len(lines) == AT_ONCE:
                news.set()
    except JournalUnavailable:
        # Told to whoever asks next; this answer has begun.
        return
    finally:
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)


def _document(line: Line) -> dict[str, Any]:
    return {
        "time": timestamp(line.time / 1e6),
        "priority": line.priority,
        "source": line.source,
        "message": line.message,
    }
