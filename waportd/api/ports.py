"""``/v1/ports/{port}``: whom a port belongs to, and who holds it."""

from aiohttp import web

from waportd.api.representation import respond
from waportd.api.requests import port_in_path, supervisor_of
from waportd.model import socket_unit


def routes() -> list[web.RouteDef]:
    """Return the routes of this resource."""
    return [web.get("/v1/ports/{port}", show)]


async def show(request: web.Request) -> web.Response:
    """Show a port. Who holds it is told as far as the daemon's user may see it."""
    port = port_in_path(request)
    supervisor = supervisor_of(request)
    instance = supervisor.picture.on_port(port)
    holders = await supervisor.holders(port)
    return respond(
        {
            "port": port,
            "user": instance.assignment.user if instance else None,
            "preferred_by": supervisor.preferred_by(port),
            "unit": socket_unit(port) if instance else None,
            "held": bool(holders),
            "holders": [
                {"user": holder.user, "pid": holder.pid, "command": holder.command} for holder in holders
            ],
        }
    )
