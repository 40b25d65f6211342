"""``/v1/users``: the users and their servers."""

from typing import Final

from aiohttp import web

from waportd.api import elsewhere, examples
from waportd.api.access import by_link, caller_of, is_passed_on
from waportd.api.documents import UserDocument, respond, user, veiled
from waportd.api.json_schema import Document, members, of
from waportd.api.operations import (
    ALL_HOSTS,
    CHANGE_ERRORS,
    READERS,
    START_ERRORS,
    UNKNOWN_FLEET,
    Answer,
    Operation,
    Scope,
)
from waportd.api.parameters import HOST, MOVE, NO_BODY, OPTIONS, TIMEOUT, USER, WAIT, Parameter, supervisor_of
from waportd.api.problems import Handler
from waportd.errors import BadRequest, Forbidden, HostSilent, UnknownEngine, UnknownHost, UnknownUser
from waportd.registry import Instance
from waportd.value_types import FLAG

_USAGE = Parameter[bool]("usage", FLAG, "Whether to include memory and CPU.", default=False)
_DOCUMENT = of(UserDocument)
_SHOWN = Answer("the current state of the user", _DOCUMENT, example=examples.USER)
SELF: Final = "self"
"""In place of the name of a host: the one that is asked."""


class UsersDocument(Document):
    """All users."""

    users: tuple[UserDocument, ...]


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    one = "/v1/users/{user}"
    return [
        Operation(
            "GET",
            "/v1/users",
            index,
            Scope.ADMIN,
            {200: Answer("all users", of(UsersDocument), example={"users": [examples.USER]})},
            (_USAGE, HOST),
            errors=(UnknownHost,),
            refusals=UNKNOWN_FLEET,
            also=READERS,
        ),
        Operation("GET", one, show, Scope.USER, {200: _SHOWN}, (USER,), errors=(UnknownUser,), also=READERS),
        Operation(
            "PUT",
            one,
            ensure,
            Scope.LINK,
            {
                200: Answer("the user, who had a port before", _DOCUMENT, example=examples.USER),
                201: Answer(
                    "the user, who has a port now",
                    _DOCUMENT,
                    headers={"Location": "The user."},
                    example=examples.USER,
                ),
            },
            (USER, WAIT, TIMEOUT),
            OPTIONS,
            errors=(UnknownEngine, UnknownUser, *START_ERRORS),
            creates=True,
        ),
        Operation(
            "PATCH",
            one,
            set_options,
            Scope.USER,
            {200: _SHOWN},
            (USER,),
            OPTIONS,
            errors=(UnknownEngine, UnknownUser, *CHANGE_ERRORS),
        ),
        Operation(
            "DELETE",
            one,
            delete,
            Scope.USER,
            {204: Answer("the user is deleted")},
            (USER,),
            NO_BODY,
            errors=(UnknownUser, *CHANGE_ERRORS),
        ),
        Operation(
            "POST",
            f"{one}/start",
            start,
            Scope.USER,
            {200: _SHOWN},
            (USER, WAIT, TIMEOUT),
            NO_BODY,
            errors=(UnknownUser, *START_ERRORS),
        ),
        Operation(
            "POST",
            f"{one}/move",
            move,
            Scope.ADMIN,
            {
                200: Answer("the user, on the new port", _DOCUMENT, example=examples.USER),
                202: Answer(
                    "the user, who is on the way to the other host", _DOCUMENT, example=examples.USER
                ),
            },
            (USER,),
            MOVE,
            errors=(UnknownUser, UnknownHost, HostSilent, *START_ERRORS),
            refusals=ALL_HOSTS,
        ),
        _change("stop", stop),
        _change("restart", restart),
        _change("logout", log_out),
    ]


def _change(verb: str, handler: Handler) -> Operation:
    return Operation(
        "POST",
        f"/v1/users/{{user}}/{verb}",
        handler,
        Scope.USER,
        {200: _SHOWN},
        (USER,),
        NO_BODY,
        errors=(UnknownUser, *START_ERRORS),
    )


async def index(request: web.Request) -> web.Response:
    """List all users, by port.

    Memory and CPU are included only on demand, since they take milliseconds for each user. In a fleet these are the
    users of all hosts. Those of a host that does not answer within three seconds are in state `unreachable`, and those who
    come to another host `moving` until their login is there.
    """
    fleet, host = supervisor_of(request).fleet, HOST.of(request)
    if fleet is None and host not in {None, SELF}:
        raise UnknownHost(f"there is no host {host}: this one belongs to no fleet", hint="leave `host` out")
    if fleet is None or host in {fleet.name, SELF} or is_passed_on(request):
        return respond(UsersDocument(users=tuple(await _of_this_host(request))))
    # A host that has left may still have users, until others take them.
    others = {*(member.name for member in await fleet.members()), *fleet.owners().values()} - {fleet.name}
    if host is not None and host not in others:
        raise UnknownHost(f"the fleet has no host {host}", hint="`GET /v1/hosts` lists them")
    rows = await elsewhere.rows(request, fleet, others if host is None else {host})
    if host is None:
        rows += map(members, await _of_this_host(request))
    # Two hosts may name a user who has just moved: the owner knows better, and comes last.
    owners = fleet.owners()
    rows.sort(key=lambda row: row["host"] == owners.get(row["user"]))
    known = {row["user"]: row for row in rows}
    return respond({"users": sorted(known.values(), key=lambda row: int(row["port"]))})


async def _of_this_host(request: web.Request) -> list[UserDocument]:
    supervisor = supervisor_of(request)
    measured = _USAGE.of(request)
    shown = [
        user(instance, await supervisor.usage(instance) if measured else None)
        for instance in supervisor.registry
    ]
    if supervisor.fleet is not None:
        shown += elsewhere.coming(supervisor.fleet)
    return sorted(shown, key=lambda one: one.port)


async def show(request: web.Request) -> web.Response:
    """Show one user, with memory and CPU.

    `summary` is what matters now, of the process or of the session.
    """
    supervisor = supervisor_of(request)
    instance = supervisor.known(USER.of(request))
    return respond(user(instance, await supervisor.usage(instance)))


async def ensure(request: web.Request) -> web.Response:
    """Give the user a port and a running server.

    The port never changes afterwards. Options in the body apply from the server's next start; those that are
    missing stay as they are.
    """
    name = USER.of(request)
    options = OPTIONS.of(request)
    if options and by_link(request):
        raise Forbidden("a connect link sets no options", hint="send no body")
    instance, created = await supervisor_of(request).ensure(
        name, options, WAIT.of(request), TIMEOUT.of(request), undo_stop=not by_link(request)
    )
    if created:
        return _shown(request, instance, 201, Location=f"/v1/users/{name}")
    return _shown(request, instance)


async def set_options(request: web.Request) -> web.Response:
    """Set options of a user who has a port.

    It starts no server. Another `engine` applies from the server's next start; other options that a server reads when
    it starts, such as `webhook_url` or `proxy`, restart a running one. Options that are missing stay as they are.
    """
    return _shown(
        request, await supervisor_of(request).set_options(USER.of(request), OPTIONS.of(request) or {})
    )


async def start(request: web.Request) -> web.Response:
    """Start the server of a user who has a port.

    A server that runs is left alone. `PUT /v1/users/{user}` does the same, and gives a port where there is none.
    """
    instance = await supervisor_of(request).start_server(
        USER.of(request), WAIT.of(request), TIMEOUT.of(request)
    )
    return _shown(request, instance)


async def stop(request: web.Request) -> web.Response:
    """Stop the server and keep its login.

    It stays stopped until the next start, `PUT` or restart: neither a boot nor a page that polls starts it.
    """
    return _shown(request, await supervisor_of(request).stop(USER.of(request)))


async def restart(request: web.Request) -> web.Response:
    """Restart the server.

    A linked phone stays linked. One that was stopped is started.
    """
    return _shown(request, await supervisor_of(request).restart(USER.of(request)))


async def log_out(request: web.Request) -> web.Response:
    """Unlink the phone and delete the session.

    The user keeps the port and the options, and the server shows codes to scan again.
    """
    return _shown(request, await supervisor_of(request).log_out(USER.of(request)))


async def move(request: web.Request) -> web.Response:
    """Give the user another port, or in a fleet another host.

    Login, cache, options and the drop-ins of the units move along, and the old port is free again. A server that was
    up is down for some seconds, and connects again without a scan; one that was stopped stays so. If the move fails,
    all is as before. A move that a crash cuts short is finished when waportd starts.

    With `host`, the user goes to that host of the fleet, with login and port. The answer comes at once: `host` in the
    user's document, and in the events, says where the user is. `stuck` of `GET /v1/hosts` says why a user has not gone.
    """
    supervisor, name, wish = supervisor_of(request), USER.of(request), MOVE.of(request) or {}
    if (host := wish.get("host")) is None:
        return _shown(request, await supervisor.move(name, wish.get("port")))
    if caller_of(request).scope is not Scope.ADMIN:
        raise Forbidden("this call concerns the hosts", hint="use a token of scope admin")
    if supervisor.fleet is None:
        raise UnknownHost(f"there is no host {host}: this one belongs to no fleet", hint="leave `host` out")
    if "port" in wish:
        raise BadRequest("port and host exclude each other", hint="in a fleet a port does not change")
    await supervisor.fleet.send(name, host)
    return _shown(request, supervisor.known(name), 202)


async def delete(request: web.Request) -> web.Response:
    """Stop the server, delete the session, free the port.

    The next user may get that port, and nothing is left of this one.
    """
    await supervisor_of(request).delete(USER.of(request))
    return web.Response(status=204)


def _shown(request: web.Request, instance: Instance, status: int = 200, **headers: str) -> web.Response:
    """Show the result of a command, with memory and CPU as last measured.

    To measure them takes as long as a tenth of a start, and says nothing about a server that has just started.
    """
    if by_link(request):
        return respond(user(veiled(instance)), status, **headers)
    return respond(user(instance, supervisor_of(request).last_usage(instance)), status, **headers)
