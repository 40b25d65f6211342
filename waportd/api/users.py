"""``/v1/users``: whom a server belongs to, and what is done with it."""

from aiohttp import web

from waportd.api.representation import respond, user
from waportd.api.requests import (
    MAX_TIMEOUT,
    flag_in_query,
    options_in_body,
    seconds_in_query,
    supervisor_of,
    user_in_path,
    wait_in_query,
)
from waportd.picture import Instance


def routes() -> list[web.RouteDef]:
    """Return the routes of this resource."""
    return [
        web.get("/v1/users", index),
        web.get("/v1/users/{user}", show),
        web.put("/v1/users/{user}", ensure),
        web.delete("/v1/users/{user}", delete),
        web.post("/v1/users/{user}/start", start),
        web.post("/v1/users/{user}/stop", stop),
        web.post("/v1/users/{user}/restart", restart),
        web.post("/v1/users/{user}/logout", log_out),
    ]


async def index(request: web.Request) -> web.Response:
    """List all users, by port. ``?usage=true`` adds memory and CPU, which takes milliseconds for each."""
    supervisor = supervisor_of(request)
    instances = sorted(supervisor.picture, key=lambda instance: instance.assignment.port)
    measured = flag_in_query(request, "usage")
    users = [user(instance, await supervisor.usage(instance) if measured else None) for instance in instances]
    return respond({"users": users})


async def show(request: web.Request) -> web.Response:
    """Show one user, with memory and CPU."""
    return await _shown(request, supervisor_of(request).known(user_in_path(request)))


async def ensure(request: web.Request) -> web.Response:
    """Give the user a port and a running server; 201 the first time, else 200."""
    name = user_in_path(request)
    options = await options_in_body(request)
    wait, timeout = wait_in_query(request), seconds_in_query(request, "timeout", MAX_TIMEOUT)
    instance, created = await supervisor_of(request).ensure(name, options, wait, timeout)
    if created:
        return await _shown(request, instance, 201, Location=f"/v1/users/{name}")
    return await _shown(request, instance)


async def start(request: web.Request) -> web.Response:
    """Start the server of a user who has a port."""
    name = user_in_path(request)
    wait, timeout = wait_in_query(request), seconds_in_query(request, "timeout", MAX_TIMEOUT)
    return await _shown(request, await supervisor_of(request).start_server(name, wait, timeout))


async def stop(request: web.Request) -> web.Response:
    """Stop the server and keep its login."""
    return await _shown(request, await supervisor_of(request).stop(user_in_path(request)))


async def restart(request: web.Request) -> web.Response:
    """Start the server anew."""
    return await _shown(request, await supervisor_of(request).restart(user_in_path(request)))


async def log_out(request: web.Request) -> web.Response:
    """Unlink the phone and delete the session."""
    return await _shown(request, await supervisor_of(request).log_out(user_in_path(request)))


async def delete(request: web.Request) -> web.Response:
    """Stop the server, delete the session, free the port."""
    await supervisor_of(request).delete(user_in_path(request))
    return web.Response(status=204)


async def _shown(request: web.Request, instance: Instance, status: int = 200, **headers: str) -> web.Response:
    usage = await supervisor_of(request).usage(instance)
    return respond(user(instance, usage), status, **headers)
