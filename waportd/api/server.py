"""The application and its listening socket; ends without failing one request."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterable

from aiohttp import web

from waportd.api import frontend, health, ports, qr, users
from waportd.api.access import Access, check_access
from waportd.api.problems import Handler, problems
from waportd.supervisor import Supervisor

log = logging.getLogger(__name__)

_MAX_BODY = 64 * 1024
"""Bytes; the largest body the API knows is a few hundred."""
_DRAIN = 6.0
"""Seconds given to open requests and idle connections at the end."""
_BACKLOG = 1024


def make_app(supervisor: Supervisor, access: Access) -> web.Application:
    """Build the application from its resources."""
    app = web.Application(middlewares=[_close_when_draining, problems, check_access], client_max_size=_MAX_BODY)
    app["supervisor"] = supervisor
    app["access"] = access
    app["max_body"] = _MAX_BODY
    app["draining"] = asyncio.Event()
    for resource in (users, qr, ports, health, frontend):
        app.add_routes(resource.routes())
    return app


@web.middleware
async def _close_when_draining(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    if request.app["draining"].is_set():
        response.force_close()
    return response


class ApiServer:
    """Serves an application on sockets that listen already."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=75.0)
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        """Begin to answer."""
        await self._runner.setup()
        assert self._runner.server is not None
        loop = asyncio.get_running_loop()
        for listener in sockets:
            listener.setblocking(False)
            self._sockets.append(listener)
            self._servers.append(
                await loop.create_unix_server(self._runner.server, sock=listener, backlog=_BACKLOG)
            )

    async def drain(self) -> None:
        """Stop accepting, and return when every request that was accepted is answered, 6 s later at most.

        The listening descriptor is not closed but only not read any more: where systemd keeps it, callers wait in
        its backlog for the successor. Every answer closes its connection, so that clients come back to that one.
        """
        self._app["draining"].set()
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            loop.remove_reader(listener.fileno())
        server = self._runner.server
        assert server is not None
        deadline = loop.time() + _DRAIN
        while server.connections and loop.time() < deadline:
            await asyncio.sleep(0.02)
        if server.connections:
            log.info("%d idle connections are closed", len(server.connections))

    async def close(self) -> None:
        """Close what is left."""
        await self._runner.cleanup()
        for server in self._servers:
            server.close()
        for listener in self._sockets:
            with contextlib.suppress(OSError):
                listener.close()
