"""``/v1/users``: whom a server belongs to, and what is done with it."""

from aiohttp import web

from waportd.api.access import by_link
from waportd.api.documents import UserDocument, respond, user, veiled
from waportd.api.json_schema import Document, of
from waportd.api.operations import CHANGE_ERRORS, READERS, START_ERRORS, Answer, Operation, Scope
from waportd.api.parameters import MOVE, NO_BODY, OPTIONS, TIMEOUT, USER, WAIT, Parameter, supervisor_of
from waportd.api.problems import Handler
from waportd.errors import Forbidden, UnknownEngine, UnknownUser
from waportd.registry import Instance
from waportd.value_types import FLAG

_USAGE = Parameter[bool]("usage", FLAG, "Whether memory and CPU are told, too.", default=False)
_DOCUMENT = of(UserDocument)
_SHOWN = Answer("the user, as it is now", _DOCUMENT)


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
            {200: Answer("all users", of(UsersDocument))},
            (_USAGE,),
            also=READERS,
        ),
        Operation("GET", one, show, Scope.USER, {200: _SHOWN}, (USER,), errors=(UnknownUser,), also=READERS),
        Operation(
            "PUT",
            one,
            ensure,
            Scope.LINK,
            {
                200: Answer("the user, who had a port before", _DOCUMENT),
                201: Answer("the user, who has a port now", _DOCUMENT, headers={"Location": "The user."}),
            },
            (USER, WAIT, TIMEOUT),
            OPTIONS,
            errors=(UnknownEngine, UnknownUser, *START_ERRORS),
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
            {204: Answer("the user is gone")},
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
            {200: Answer("the user, on the new port", _DOCUMENT)},
            (USER,),
            MOVE,
            errors=(UnknownUser, *START_ERRORS),
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

    Memory and CPU are told only on demand, since they take milliseconds for each user.
    """
    supervisor = supervisor_of(request)
    instances = sorted(supervisor.registry, key=lambda instance: instance.assignment.port)
    measured = _USAGE.of(request)
    users = [user(instance, await supervisor.usage(instance) if measured else None) for instance in instances]
    return respond(UsersDocument(users=tuple(users)))


async def show(request: web.Request) -> web.Response:
    """Show one user, with memory and CPU."""
    supervisor = supervisor_of(request)
    instance = supervisor.known(USER.of(request))
    return respond(user(instance, await supervisor.usage(instance)))


async def ensure(request: web.Request) -> web.Response:
    """Give the user a port and a running server.

    The port stays the same ever after. Options in the body hold from the server's next start; those that are
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

    No server starts by that. Another `engine` holds from the server's next start; what else the server reads when it
    starts, such as `webhook_url` or `proxy`, starts it anew. Options that are missing stay as they are.
    """
    return _shown(
        request, await supervisor_of(request).set_options(USER.of(request), OPTIONS.of(request) or {})
    )


async def start(request: web.Request) -> web.Response:
    """Start the server of a user who has a port."""
    instance = await supervisor_of(request).start_server(
        USER.of(request), WAIT.of(request), TIMEOUT.of(request)
    )
    return _shown(request, instance)


async def stop(request: web.Request) -> web.Response:
    """Stop the server and keep its login."""
    return _shown(request, await supervisor_of(request).stop(USER.of(request)))


async def restart(request: web.Request) -> web.Response:
    """Start the server anew."""
    return _shown(request, await supervisor_of(request).restart(USER.of(request)))


async def log_out(request: web.Request) -> web.Response:
    """Unlink the phone and delete the session."""
    return _shown(request, await supervisor_of(request).log_out(USER.of(request)))


async def move(request: web.Request) -> web.Response:
    """Give the user another port.

    Login, cache, options and the drop-ins of the units move along, and the port before is free again. A server that was
    up is down for some seconds, and is connected again without a scan; one that was stopped stays so. Where it fails,
    all is as before. What a crash cuts short is finished when waportd starts.
    """
    port = (MOVE.of(request) or {}).get("port")
    return _shown(request, await supervisor_of(request).move(USER.of(request), port))


async def delete(request: web.Request) -> web.Response:
    """Stop the server, delete the session, free the port."""
    await supervisor_of(request).delete(USER.of(request))
    return web.Response(status=204)


def _shown(request: web.Request, instance: Instance, status: int = 200, **headers: str) -> web.Response:
    """Show what a command has led to, with memory and CPU as they are known.

    To measure them takes as long as a tenth of a start, and tells nothing of a server that has just started.
    """
    if by_link(request):
        return respond(user(veiled(instance)), status, **headers)
    return respond(user(instance, supervisor_of(request).last_usage(instance)), status, **headers)
