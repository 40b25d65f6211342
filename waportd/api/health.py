"""``/v1/health``: whether the daemon is well, for monitoring and load balancers."""

from aiohttp import web

from waportd import __version__
from waportd.api.representation import respond
from waportd.api.requests import supervisor_of
from waportd.model import ProcessState


def routes() -> list[web.RouteDef]:
    """Return the routes of this resource."""
    return [web.get("/v1/health", show)]


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
