"""``/v1/health``: whether the daemon is well, for monitoring and load balancers."""

from typing import Annotated, Literal

from aiohttp import web

from waportd import __version__
from waportd.api import examples
from waportd.api.documents import moment, respond
from waportd.api.json_schema import Document, Moment, of
from waportd.api.operations import WATCHERS, Answer, Operation, Scope
from waportd.api.parameters import supervisor_of
from waportd.lookout import Raised
from waportd.model import ProcessState


class AlarmDocument(Document):
    """Many users who fail in the same way."""

    cause: Annotated[str, "What the users have in common: the `cause` of their sessions or processes."]
    since: Annotated[Moment, "When the first of them began to fail."]
    users: Annotated[int, "How many fail."]
    build: Annotated[
        str | None, "The version of WhatsApp's page that most of them have; null where that is unknown."
    ]
    message: Annotated[str, "What is wrong, in words."]
    hint: Annotated[str, "How to fix it."]


class HealthDocument(Document):
    """Whether the daemon is well."""

    status: Literal["ok"]
    version: Annotated[str, "The daemon's version."]
    engine: Annotated[
        str,
        "`instances.engine`: the version of whatsapp-web.js for servers without one of their own.",
    ]
    web_version: Annotated[str | None, "`instances.web_version`: the file of a pinned page; null for none."]
    users: Annotated[int, "Users who have a port."]
    running: Annotated[int, "Servers that run."]
    failed: Annotated[int, "Servers that failed and are not restarted automatically."]
    unassigned_ports: Annotated[tuple[int, ...], "Ports whose unit runs although no user owns them."]
    alarm: AlarmDocument | None


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    return [
        Operation(
            "GET",
            "/v1/health",
            show,
            Scope.ADMIN,
            {200: Answer("the daemon is well", of(HealthDocument), example=examples.HEALTH)},
            also=WATCHERS,
        )
    ]


async def show(request: web.Request) -> web.Response:
    """Show that the daemon answers, what it manages, and whether many users fail in the same way.

    While there is an `alarm`, the daemon itself starts one linked session at a time.
    """
    supervisor = supervisor_of(request)
    states = [instance.process.state for instance in supervisor.registry]
    return respond(
        HealthDocument(
            status="ok",
            version=__version__,
            engine=supervisor.instances.engine,
            web_version=supervisor.instances.web_version or None,
            users=len(states),
            running=states.count(ProcessState.RUNNING),
            failed=states.count(ProcessState.FAILED) + states.count(ProcessState.CRASH_LOOP),
            unassigned_ports=tuple(sorted(supervisor.unassigned)),
            alarm=_alarm(supervisor.alarm),
        )
    )


def _alarm(raised: Raised | None) -> AlarmDocument | None:
    if raised is None:
        return None
    alarm = raised.alarm
    return AlarmDocument(
        cause=alarm.cause,
        since=moment(raised.since),
        users=alarm.users,
        build=alarm.build,
        message=alarm.message,
        hint=alarm.hint,
    )
