"""``/v1/health``: whether the daemon is well, for monitoring and load balancers."""

from typing import Any

from aiohttp import web

from waportd import __version__
from waportd.api.operations import WATCHERS, Answer, Operation, Scope
from waportd.api.representation import respond, timestamp
from waportd.api.requests import supervisor_of
from waportd.api.schemas import array, integer, moment, nullable, record, text, words
from waportd.lookout import Raised
from waportd.model import ProcessState

_HEALTH = record(
    "Health",
    status=words("ok"),
    version=text("The daemon's version."),
    engine=text(
        "`instances.engine`: which version of whatsapp-web.js servers start with that have none of their own."
    ),
    web_version=nullable(text("`instances.web_version`: the file of a pinned page; null for none.")),
    users=integer("Users who have a port."),
    running=integer("Servers that run."),
    failed=integer("Servers that failed and are not started again by themselves."),
    unassigned_ports=array(integer(), "Ports whose unit runs although nobody owns them."),
    alarm=nullable(
        record(
            "Alarm",
            cause=text("What many users have in common: the `cause` of their sessions or processes."),
            since=moment("When the first of them began to fail."),
            users=integer("How many fail."),
            build=nullable(
                text("The version of WhatsApp's page that most of them have; null where it has none.")
            ),
            message=text("What is wrong, in words."),
            hint=text("What mends it."),
        )
    ),
)


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    return [
        Operation(
            "GET",
            "/v1/health",
            show,
            Scope.ADMIN,
            {200: Answer("the daemon is well", _HEALTH)},
            also=WATCHERS,
        )
    ]


async def show(request: web.Request) -> web.Response:
    """Show that the daemon answers, what it looks after, and whether many users fail in the same way.

    While there is an `alarm`, the daemon itself starts one linked session every half minute at most.
    """
    supervisor = supervisor_of(request)
    states = [instance.process.state for instance in supervisor.picture]
    return respond(
        {
            "status": "ok",
            "version": __version__,
            "engine": supervisor.instances.engine,
            "web_version": supervisor.instances.web_version or None,
            "users": len(states),
            "running": states.count(ProcessState.RUNNING),
            "failed": states.count(ProcessState.FAILED) + states.count(ProcessState.CRASH_LOOP),
            "unassigned_ports": sorted(supervisor.unassigned),
            "alarm": _alarm(supervisor.alarm),
        }
    )


def _alarm(raised: Raised | None) -> dict[str, Any] | None:
    if raised is None:
        return None
    alarm = raised.alarm
    return {
        "cause": alarm.cause,
        "since": timestamp(raised.since),
        "users": alarm.users,
        "build": alarm.build,
        "message": alarm.message,
        "hint": alarm.hint,
    }
