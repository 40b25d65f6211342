"""``/v1/ports/{port}``: the owner of a port, and the processes that hold it."""

from typing import Annotated

from aiohttp import web

from waportd.api import examples
from waportd.api.documents import respond
from waportd.api.json_schema import Document, of
from waportd.api.operations import READERS, Answer, Operation, Scope
from waportd.api.parameters import PORT, supervisor_of
from waportd.model import socket_unit


class HolderDocument(Document):
    """A process that listens on a port."""

    user: Annotated[str | None, "The account of the process; null where it may not be seen."]
    pid: Annotated[int | None, "The process; null where it may not be seen."]
    command: Annotated[str | None, "The program that it runs; null where it may not be seen."]


class PortDocument(Document):
    """The owner of a port, and the processes that hold it."""

    port: Annotated[int, "The port."]
    user: Annotated[str | None, "The user that it is assigned to."]
    preferred_by: Annotated[
        str | None, "The user whose number prefers it, who may be another one than it is assigned to."
    ]
    unit: Annotated[str | None, "The systemd unit that holds it for that user."]
    held: Annotated[bool, "A process listens on it."]
    holders: tuple[HolderDocument, ...]


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    answers = {200: Answer("the port", of(PortDocument), example=examples.PORT)}
    return [Operation("GET", "/v1/ports/{port}", show, Scope.ADMIN, answers, (PORT,), also=READERS)]


async def show(request: web.Request) -> web.Response:
    """Show the owner of a port, and who listens on it.

    The holder is shown as far as the daemon's user may see it.
    """
    port = PORT.of(request)
    supervisor = supervisor_of(request)
    instance = supervisor.registry.on_port(port)
    holders = await supervisor.holders(port)
    return respond(
        PortDocument(
            port=port,
            user=instance.assignment.user if instance else None,
            preferred_by=supervisor.preferred_by(port),
            unit=socket_unit(port) if instance else None,
            held=bool(holders),
            holders=tuple(HolderDocument(user=one.user, pid=one.pid, command=one.command) for one in holders),
        )
    )
