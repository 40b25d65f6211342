"""``/v1/ports/{port}``: whom a port belongs to, and who holds it."""

from aiohttp import web

from waportd.api.operations import READERS, Answer, Operation, Scope
from waportd.api.representation import respond
from waportd.api.requests import PORT, supervisor_of
from waportd.api.schemas import array, flag, integer, nullable, record, text
from waportd.model import socket_unit

_PORT = record(
    "Port",
    port=integer("The port."),
    user=nullable(text("Whom it is assigned to.")),
    preferred_by=nullable(text("Whose number prefers it, which need not be whom it is assigned to.")),
    unit=nullable(text("The systemd unit that holds it for that user.")),
    held=flag("Somebody listens on it."),
    holders=array(
        record(
            "Holder",
            user=nullable(text("Whose process it is; null where that may not be seen.")),
            pid=nullable(integer("The process; null where it may not be seen.")),
            command=nullable(text("What it runs; null where it may not be seen.")),
        )
    ),
)


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    answers = {200: Answer("the port", _PORT)}
    return [Operation("GET", "/v1/ports/{port}", show, Scope.ADMIN, answers, (PORT,), also=READERS)]


async def show(request: web.Request) -> web.Response:
    """Show whom a port belongs to, and who listens on it.

    The holder is told as far as the daemon's user may see it.
    """
    port = PORT.of(request)
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
