"""``/v1/hosts``: the hosts of the fleet, and how many users each has."""

from typing import Annotated, Final

from aiohttp import web

from waportd.api.documents import respond
from waportd.api.json_schema import As, Document, of, words
from waportd.api.operations import READERS, UNKNOWN_FLEET, Answer, Operation, Scope
from waportd.api.parameters import OF_HOST, Parameter, supervisor_of
from waportd.errors import UnknownHost
from waportd.host import Member

_EXAMPLE: Final = {
    "name": "a",
    "address": "192.0.2.1:7467",
    "state": "active",
    "alive": True,
    "users": 12,
    "capacity": 100,
    "version": "2.0.0",
}
_HOST = Parameter[str]("host", OF_HOST, "The name of the host.", "path", required=True, example="a")


class FleetHostDocument(Document):
    """A host of the fleet."""

    name: Annotated[str, "Its name in the fleet."]
    address: Annotated[
        str,
        "IP:PORT at which the other hosts reach the program that holds its lease; waportd answers them on the next port.",
    ]
    state: Annotated[
        str,
        As(words("active", "draining")),
        "What an administrator wants of it: a host that drains gets no new users.",
    ]
    alive: Annotated[bool, "It holds its lease. The users of one that does not are on others within minutes."]
    users: Annotated[int, "How many users it has."]
    capacity: Annotated[int, "How many users it has at most."]
    version: Annotated[str, "The version of waportd."]


class HostsDocument(Document):
    """The hosts of the fleet."""

    host: Annotated[str | None, "The one that answers; null on a host that belongs to no fleet."]
    hosts: Annotated[tuple[FleetHostDocument, ...], "All, by name; none on a host that belongs to no fleet."]


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    listed = Answer("the hosts", of(HostsDocument), example={"host": "a", "hosts": [_EXAMPLE]})
    shown = Answer("the host", of(FleetHostDocument), example=_EXAMPLE)
    return [
        Operation(
            "GET", "/v1/hosts", index, Scope.ADMIN, {200: listed}, refusals=UNKNOWN_FLEET, also=READERS
        ),
        Operation(
            "GET",
            "/v1/hosts/{host}",
            show,
            Scope.ADMIN,
            {200: shown},
            (_HOST,),
            errors=(UnknownHost,),
            refusals=UNKNOWN_FLEET,
            also=READERS,
        ),
    ]


async def index(request: web.Request) -> web.Response:
    """List the hosts of the fleet.

    Any of them answers for the users of all. A host that belongs to no fleet lists none, so that a program that looks
    through the hosts runs with it, too. Hosts that have left are not listed.
    """
    fleet = supervisor_of(request).fleet
    if fleet is None:
        return respond(HostsDocument(host=None, hosts=()))
    members = await fleet.members()
    return respond(HostsDocument(host=fleet.name, hosts=tuple(map(_document, members))))


async def show(request: web.Request) -> web.Response:
    """Show a host of the fleet.

    `GET /v1/host` shows the machine that answers, with its memory and load.
    """
    fleet, name = supervisor_of(request).fleet, _HOST.of(request)
    if fleet is None:
        raise UnknownHost(
            f"there is no host {name}: this one belongs to no fleet", hint="`GET /v1/host` shows it"
        )
    found = next((member for member in await fleet.members() if member.name == name), None)
    if found is None:
        raise UnknownHost(f"the fleet has no host {name}", hint="`GET /v1/hosts` lists them")
    return respond(_document(found))


def _document(member: Member) -> FleetHostDocument:
    return FleetHostDocument(
        name=member.name,
        address=member.address,
        state=member.state,
        alive=member.alive,
        users=member.users,
        capacity=member.capacity,
        version=member.version,
    )
