"""``/v1/users/{user}/logs``: what the journal has about a user's server."""

import asyncio
import contextlib
from typing import Annotated

from aiohttp import web

from waportd.api import examples
from waportd.api.access import caller_of
from waportd.api.crowds import Crowd
from waportd.api.documents import moment, respond
from waportd.api.json_schema import As, Document, Moment, event, of, words
from waportd.api.operations import READERS, Answer, Operation, Scope
from waportd.api.parameters import USER, Parameter, supervisor_of
from waportd.api.sse import HEARTBEAT_FRAME, HEARTBEAT_S, Send, frame, stream
from waportd.errors import TooManyRequests, UnknownUser
from waportd.model import service_unit
from waportd.quotas import LOGS, LOGS_PER_CALLER
from waportd.registry import Instance
from waportd.supervisor import Supervisor
from waportd.systemd.server_log import LINES_AT_ONCE, JournalUnavailable, Level, Line, ServerLog
from waportd.value_types import FLAG, Kind, choice, number

_MAX_LINES = 1000
_READ_PAUSE_S = 0.2
"""Seconds from one read of new lines to the next."""
_FOREVER_S = 1e9
_MAX_DIGITS = 18


def _parse_id(text: str) -> int:
    """Read the time of a line in microseconds; an id that is not ours counts as none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else 0


class LogLine(Document):
    """A line of the journal."""

    time: Annotated[Moment, "When it was written."]
    priority: Annotated[int, "From 0 (emergency) to 7 (debug), as in syslog."]
    source: Annotated[str, As(words("server", "systemd", "waportd")), "Who wrote it."]
    message: Annotated[str, "The line."]


class LogDocument(Document):
    """What the journal has about a user's server."""

    user: Annotated[str, "Whose server."]
    unit: Annotated[str, "The server's systemd unit."]
    lines: Annotated[tuple[LogLine, ...], "The newest lines, the oldest of them first."]


_LINES = Parameter[int]("lines", number(1, _MAX_LINES), "How many lines at most.", default=100)
_LEVEL = Parameter[Level](
    "level",
    choice(Level),
    "Which lines: `error` for errors, `warning` for these and warnings, `all` for all.",
    default=Level.ALL,
)
_FOLLOW = Parameter[bool]("follow", FLAG, "Whether later lines are sent too, as events `log`.", default=False)
_SEEN = Parameter[int](
    "Last-Event-ID",
    Kind("an event's id", _parse_id),
    "The last event that was received: only later lines are sent.",
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
                    of(LogDocument),
                    others={"text/event-stream": event("log", of(LogLine))},
                    example=examples.LOG,
                )
            },
            (USER, _LINES, _LEVEL, _FOLLOW, _SEEN),
            errors=(UnknownUser, JournalUnavailable, TooManyRequests),
            also=READERS,
            endless=True,
        )
    ]


def followers() -> Crowd:
    """Return the count of callers that follow logs: none yet."""
    return Crowd(
        "you follow {} logs",
        "{} logs are being followed",
        "close some of them, or ask without `follow=true`",
    )


async def show(request: web.Request) -> web.StreamResponse:
    """Show what the journal has about the user's server.

    These are the server's own lines, systemd's about its units, and the daemon's, since the user got the port.
    """
    user = USER.of(request)
    supervisor = supervisor_of(request)
    instance = supervisor.known(user)
    if _FOLLOW.of(request):
        return await _follow(request, supervisor, instance)
    log = await supervisor.open_log(user, _LEVEL.of(request))
    try:
        lines = await log.last(_LINES.of(request))
    finally:
        log.close()
    unit = service_unit(instance.assignment.port)
    return respond(LogDocument(user=user, unit=unit, lines=tuple(map(_document, lines))))


async def _follow(request: web.Request, supervisor: Supervisor, instance: Instance) -> web.StreamResponse:
    followers: Crowd = request.app["followers"]
    with followers.one_more(caller_of(request).identity, LOGS_PER_CALLER, LOGS):
        log = await supervisor.open_log(instance.assignment.user, _LEVEL.of(request))
        try:
            return await stream(request, lambda send: _tell(request, supervisor, instance, log, send))
        finally:
            log.close()


async def _tell(
    request: web.Request, supervisor: Supervisor, instance: Instance, log: ServerLog, send: Send
) -> None:
    """Send the last lines, then new ones, until the user is gone or the daemon ends."""
    assignment = instance.assignment

    def is_gone(now: Instance | None) -> bool:
        return now is None or now.assignment.created_at != assignment.created_at

    news = asyncio.Event()
    gone = asyncio.create_task(supervisor.registry.wait(assignment.user, is_gone, _FOREVER_S), name="log")
    gone.add_done_callback(lambda _: news.set())
    try:
        lines = await log.last(_LINES.of(request), _SEEN.of(request))
        while True:
            await send(b"".join(frame("log", _document(line), str(line.time)) for line in lines))
            await asyncio.sleep(_READ_PAUSE_S)
            with log.notified(news), contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await news.wait()
            if gone.done():
                return
            if not news.is_set():
                await send(HEARTBEAT_FRAME)
            news.clear()
            lines = await log.following()
            if len(lines) == LINES_AT_ONCE:
                news.set()
    except JournalUnavailable:
        # The next request gets the error; this answer has begun.
        return
    finally:
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)


def _document(line: Line) -> LogLine:
    return LogLine(
        time=moment(line.time / 1e6), priority=line.priority, source=line.source, message=line.message
    )
