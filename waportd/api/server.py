"""The application and its listening socket; ends without failing one request."""

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import Iterable

from aiohttp import web

from waportd.api import (
    events,
    frontend,
    health,
    host,
    links,
    logs,
    metrics,
    openapi,
    pages,
    pairing,
    ports,
    qr,
    tokens,
    users,
)
from waportd.api.access import Access, peer_uid
from waportd.api.operations import Operation
from waportd.api.origin import refuse_other_sites
from waportd.api.problems import Handler, problem, problems
from waportd.api.warm import WarmAnswers
from waportd.errors import BadRequest
from waportd.supervisor import Supervisor

log = logging.getLogger(__name__)

_RESOURCES = (
    users,
    qr,
    pairing,
    events,
    logs,
    links,
    ports,
    tokens,
    host,
    health,
    metrics,
    openapi,
    frontend,
    pages,
)

_MAX_BODY = 64 * 1024
"""Bytes; the largest body the API knows is a few hundred."""
_DRAIN = 6.0
"""Seconds that open requests are given at the end."""
_IDLE_DRAIN = 1.5
"""Seconds that idle connections are given at the end: a busy client comes back on them and is told to close."""
_FIRST_REQUEST = 10.0
"""Seconds that a caller has to send the head of a first request."""
_BACKLOG = 1024


def make_app(
    supervisor: Supervisor, access: Access, embedders: pages.Embedders | None = None
) -> web.Application:
    """Build the application from its resources."""
    app = web.Application(
        middlewares=[_follow_traffic, metrics.time_requests, problems, refuse_other_sites],
        client_max_size=_MAX_BODY,
    )
    app["supervisor"] = supervisor
    app["access"] = access
    app["embedders"] = embedders or pages.Embedders()
    pages.load()
    app["frames"] = events.Frames(supervisor.picture.epoch)
    app["followers"] = logs.Followers()
    app["drawings"] = qr.Drawings()
    app["warm"] = WarmAnswers(supervisor)
    app["max_body"] = _MAX_BODY
    app["traffic"] = _Traffic()
    app["operations"] = operations()
    app.add_routes(operation.route() for operation in app["operations"])
    return app


def operations() -> list[Operation]:
    """Return every operation of the API."""
    return [operation for resource in _RESOURCES for operation in resource.operations()]


class _Traffic:
    """How many requests are open, and whether there shall be no more."""

    def __init__(self) -> None:
        self.open = 0
        self.draining = False


@web.middleware
async def _follow_traffic(request: web.Request, handler: Handler) -> web.StreamResponse:
    traffic: _Traffic = request.app["traffic"]
    traffic.open += 1
    try:
        response = await handler(request)
    finally:
        traffic.open -= 1
    if traffic.draining:
        response.force_close()
    return response


class _Connection(web.RequestHandler):
    """A connection whose every answer is a problem document, also that to what is no HTTP.

    aiohttp hangs up on who is idle between two requests, and waits for ever for the first one: here a caller who
    does not get it sent is hung up on, too.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._first_request = self._loop.call_later(_FIRST_REQUEST, self.force_close)

    def data_received(self, data: bytes) -> None:
        """Take what arrives; end the wait when it makes a request."""
        super().data_received(data)
        if self._messages or self._current_request is not None:
            self._first_request.cancel()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._first_request.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the middlewares never see. aiohttp's own answer and log line repeat what was sent."""
        if status != BadRequest.status:
            return super().handle_error(request, status, exc, message)
        log.info("refused a request that is no valid HTTP (%s)", type(exc).__name__)
        response = problem(
            BadRequest(
                "the request is no valid HTTP/1.1",
                hint="a line or header may be 8190 bytes long, and plain text",
            )
        )
        response.force_close()
        return response


class ApiServer:
    """Serves an application on sockets that listen already."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._warm: WarmAnswers = app["warm"]
        self._runner = web.AppRunner(app, handle_signals=False)
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        """Begin to answer."""
        await self._runner.setup()
        assert self._runner.server is not None
        # Ahead of the application, whose routing and middlewares are most of what an answer from memory costs.
        self._runner.server.request_handler = functools.partial(
            self._answer, self._runner.server.request_handler
        )
        loop = asyncio.get_running_loop()
        connect = functools.partial(
            _Connection,
            self._runner.server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # none, as AppRunner takes it
            keepalive_timeout=75.0,
            auto_decompress=False,  # a small body could grow without end; none that the API knows is compressed
        )
        for listener in sockets:
            listener.setblocking(False)  # noqa: FBT003  # the standard library's signature
            self._sockets.append(listener)
            # Not create_unix_server: from Python 3.13 on it removes the socket's file at the end, which is systemd's.
            self._servers.append(await loop.create_server(connect, sock=listener, backlog=_BACKLOG))

    async def _answer(self, through_app: Handler, request: web.Request) -> web.StreamResponse:
        uid = peer_uid(request)
        if uid is None or not self._app["access"].permits(uid):
            return await through_app(request)
        warm = self._warm.answer(request)
        if warm is None:
            response = await through_app(request)
            self._warm.keep(request, response)
            return response
        if self._app["traffic"].draining:
            warm.force_close()
        return warm

    async def drain(self) -> None:
        """Stop accepting, and return when every request that was accepted is answered, 6 s later at most.

        The listening descriptor is not closed but only not read any more: where systemd keeps it, callers wait in
        its backlog for the successor. Every answer closes its connection, so that clients come back to that one.
        """
        traffic: _Traffic = self._app["traffic"]
        traffic.draining = True
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            loop.remove_reader(listener.fileno())
        server = self._runner.server
        assert server is not None
        began = loop.time()
        while server.connections or traffic.open:
            if loop.time() > began + (_DRAIN if traffic.open else _IDLE_DRAIN):
                break
            await asyncio.sleep(0.02)  # aiohttp tells nobody when a connection ends
        if traffic.open:
            log.warning("%d requests are not answered: they took longer than %g s", traffic.open, _DRAIN)

    async def close(self) -> None:
        """Close what is left."""
        if self._runner.server is not None:
            await self._runner.server.shutdown(timeout=1.0)
        await self._runner.cleanup()
        await asyncio.sleep(0)  # the connections' cancelled tasks end in the turn after
        for server in self._servers:
            server.close()
        for listener in self._sockets:
            with contextlib.suppress(OSError):
                listener.close()
