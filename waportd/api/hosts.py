"""``/v1/hosts``: the hosts of the fleet, and how many users each has."""

from collections.abc import Mapping
from typing import Annotated, Final

from aiohttp import web

from waportd.api.documents import respond
from waportd.api.json_schema import As, Document, of, words
from waportd.api.operations import ALL_HOSTS, READERS, UNKNOWN_FLEET, Answer, Operation, Scope
from waportd.api.parameters import NO_BODY, OF_HOST, Parameter, supervisor_of
from waportd.api.problems import Handler
from waportd.errors import Conflict, HostSilent, UnknownHost
from waportd.host import Fleet, Member

_EXAMPLE: Final = {
    "name": "a",
    "address": "192.0.2.1:7467",
    "state": "active",
    "alive": True,
    "users": 12,
    "capacity": 100,
    "version": "2.0.0",
    "stuck": [],
}
_HOST = Parameter[str]("host", OF_HOST, "The name of the host.", "path", required=True, example="a")


class StuckDocument(Document):
    """A user who was to leave a host, and has not."""

    user: Annotated[str, "The user."]
    message: Annotated[str, "Why, for people."]


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
    stuck: Annotated[
        tuple[StuckDocument, ...],
        "The users who were to leave it and have not. They are tried again with the next `drain` or `move`.",
    ]


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
        *(_change(verb, handler) for verb, handler in _CHANGES.items()),
    ]


def _change(verb: str, handler: Handler) -> Operation:
    return Operation(
        "POST",
        f"/v1/hosts/{{host}}/{verb}",
        handler,
        Scope.ADMIN,
        {200: Answer("the host, which begins with it", of(FleetHostDocument), example=_EXAMPLE)},
        (_HOST,),
        NO_BODY,
        errors=(UnknownHost, Conflict, HostSilent),
        refusals=ALL_HOSTS,
    )


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
    fleet, name = _named(request)
    return respond(_document(await _member(fleet, name)))


async def drain(request: web.Request) -> web.Response:
    """Have a host give its users to the others, and take no new ones.

    Before it is shut down, say. Users who run nothing go first, linked sessions last, `limits.start_concurrency` at a
    time: each is down for some seconds. `users` falls to 0; `stuck` has those who cannot leave. The same call tries these
    again. `activate` ends it.
    """
    fleet, name = _named(request)
    await fleet.drain(name)
    return respond(_document(await _member(fleet, name)))


async def activate(request: web.Request) -> web.Response:
    """Have a host take users again.

    Those who have gone stay where they are.
    """
    fleet, name = _named(request)
    await fleet.activate(name)
    return respond(_document(await _member(fleet, name)))


async def evict(request: web.Request) -> web.Response:
    """Remove a host that is off, and stays off.

    Its users go to others, also where too many hosts are silent for that to happen automatically. Only for a host that is
    certainly off: if it still ran sessions, they would run twice. One that holds its lease is refused.
    """
    fleet, name = _named(request)
    gone = await _member(fleet, name)
    await fleet.evict(name)
    return respond(_document(gone))


_CHANGES: Final[Mapping[str, Handler]] = {"drain": drain, "activate": activate, "evict": evict}


def _named(request: web.Request) -> tuple[Fleet, str]:
    """Return the fleet, and the name of the host in the path. Raises UnknownHost where there is no fleet."""
    fleet, name = supervisor_of(request).fleet, _HOST.of(request)
    if fleet is None:
        raise UnknownHost(
            f"there is no host {name}: this one belongs to no fleet", hint="`GET /v1/host` shows it"
        )
    return fleet, name


async def _member(fleet: Fleet, name: str) -> Member:
    found = next((member for member in await fleet.members() if member.name == name), None)
    if found is None:
        raise UnknownHost(f"the fleet has no host {name}", hint="`GET /v1/hosts` lists them")
    return found


def _document(member: Member) -> FleetHostDocument:
    return FleetHostDocument(
        name=member.name,
        address=member.address,
        state=member.state,
        alive=member.alive,
        users=member.users,
        capacity=member.capacity,
        version=member.version,
        stuck=tuple(StuckDocument(user=user, message=why) for user, why in sorted(member.stuck.items())),
    )
