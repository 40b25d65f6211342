"""``/v1/health``: whether the daemon is well, for monitoring and load balancers."""

from aiohttp import web

from waportd import __version__
from waportd.api.operations import Answer, Operation, Scope
from waportd.api.representation import respond
from waportd.api.requests import supervisor_of
from waportd.api.schemas import array, integer, record, text, words
from waportd.model import ProcessState

_HEALTH = record(
    "Health",
    status=words("ok"),
    version=text("The daemon's version."),
    users=integer("Users who have a port."),
    running=integer("Servers that run."),
    failed=integer("Servers that failed and are not started again by themselves."),
    unassigned_ports=array(integer(), "Ports whose unit runs although nobody owns them."),
)


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    return [Operation("GET", "/v1/health", show, Scope.ADMIN, {200: Answer("the daemon is well", _HEALTH)})]


async def show(request: web.Request) -> web.Response:
    """Show that the daemon answers, and what it looks after."""
    supervisor = supervisor_of(request)
    states = [instance.process.state for instance in supervisor.picture]
    return respond(
        {
            "status": "ok",
            "version": __version__,
            "users": len(states),
            "running": states.count(ProcessState.RUNNING),
            "failed": states.count(ProcessState.FAILED) + states.count(ProcessState.CRASH_LOOP),
            "unassigned_ports": sorted(supervisor.unassigned),
        }
    )
