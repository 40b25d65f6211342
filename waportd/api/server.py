"""The application and its listening sockets; it ends without failing a single request."""

import asyncio
import functools
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from typing import Any, Final

from aiohttp import web

from waportd.api import (
    caller,
    changes,
    docs_page,
    events,
    forward,
    health,
    history,
    host,
    hosts,
    legacy,
    links,
    logs,
    messages,
    metrics,
    openapi,
    pages,
    pairing,
    passkey,
    ports,
    qr,
    tokens,
    users,
)
from waportd.api.access import Access, peer_uid
from waportd.api.connections import Connection, Door, TiedHandler, Turns
from waportd.api.cross_site import refuse_other_sites
from waportd.api.fleet_events import FleetEvents
from waportd.api.host_door import HostDoor
from waportd.api.operations import Operation
from waportd.api.problems import Handler, problems
from waportd.api.response_cache import ResponseCache
from waportd.config import Address
from waportd.quotas import READ_BYTES, TCP_CONNECTIONS, UNIX_CONNECTIONS, Share
from waportd.supervisor import Supervisor

log = logging.getLogger(__name__)

_RESOURCES = (
    users,
    qr,
    pairing,
    passkey,
    events,
    messages,
    logs,
    changes,
    links,
    ports,
    tokens,
    caller,
    host,
    hosts,
    health,
    history,
    metrics,
    openapi,
    docs_page,
    legacy,
    pages,
)

MAX_BODY_BYTES = 64 * 1024
"""Bytes; the largest body the API knows is a few hundred."""
_DRAIN_S = 6.0
"""Seconds that open requests are given at the end."""
BETWEEN_HOSTS: Final = "/fleet/"
"""How the paths of calls begin that hosts make for themselves: they are no part of the API."""
IDLE_DRAIN_S = 1.5
"""Seconds that idle connections are given at the end: a busy client uses them again and is asked to close."""
_OPTIONS: Final[Mapping[str, Any]] = {
    "access_log": None,  # none, as AppRunner takes it
    "keepalive_timeout": 75.0,
    "read_bufsize": READ_BYTES,
    "auto_decompress": False,  # a small body could grow without end; none that the API knows is compressed
}
"""How aiohttp serves each connection."""


def make_app(
    supervisor: Supervisor, access: Access, embedders: pages.Embedders | None = None
) -> web.Application:
    """Build the application from its resources."""
    app = web.Application(
        middlewares=[_follow_traffic, metrics.time_requests, problems, refuse_other_sites],
        client_max_size=MAX_BODY_BYTES,
    )
    app["supervisor"] = supervisor
    app["access"] = access
    app["embedders"] = embedders or pages.Embedders()
    pages.load()
    app["frames"] = events.Frames(supervisor.registry.epoch)
    app["followers"] = logs.followers()
    app["passages"] = messages.passages()
    app["turns"] = Turns()
    app["drawings"] = qr.Drawings()
    app["response_cache"] = ResponseCache(supervisor, access, enabled=supervisor.shortcuts.response_cache)
    app["max_body"] = MAX_BODY_BYTES
    app["traffic"] = _Traffic()
    app["operations"] = known = operations()
    if (fleet := supervisor.fleet) is not None:
        app["fleet_events"] = followed = FleetEvents(supervisor.registry, fleet)
        app.on_cleanup.append(followed.close)
        known = [forward.across(fleet, operation) for operation in known]
    app.add_routes(operation.route() for operation in known)
    return app


def operations() -> list[Operation]:
    """Return every operation of the API."""
    return [operation for resource in _RESOURCES for operation in resource.operations()]


class _Traffic:
    """How many requests are open, and whether new ones are refused."""

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


class ApiServer:
    """Serves an application on sockets that listen already."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._cache: ResponseCache = app["response_cache"]
        self._runner = web.AppRunner(app, handle_signals=False)
        self.doors: list[Door] = []
        """That over TCP, and that of the unix socket."""
        self._host_door: HostDoor | None = None
        """Where the other hosts of the fleet come in."""
        self._between_hosts: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        """Begin to answer."""
        await self._runner.setup()
        assert self._runner.server is not None
        # Before the application, whose routing and middlewares are most of the cost of an answer from memory.
        self._runner.server.request_handler = functools.partial(
            self._answer, self._runner.server.request_handler
        )
        access: Access = self._app["access"]
        self.doors = [
            Door(most, access.recognise, self._connection, access.share_of)
            for most in (TCP_CONNECTIONS, UNIX_CONNECTIONS)
        ]
        for listener in sockets:
            self.doors[listener.family == socket.AF_UNIX].open(listener)

    def start_for_hosts(
        self,
        listener: socket.socket,
        tls: ssl.SSLContext,
        between_hosts: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None,
    ) -> None:
        """Begin to answer the other hosts of the fleet, too. They have limited their callers already.

        ``between_hosts`` answers their calls below `BETWEEN_HOSTS`.
        """
        self._between_hosts = between_hosts
        server, loop = self._runner.server, asyncio.get_running_loop()
        assert server is not None
        self._host_door = HostDoor(
            listener, tls, lambda: TiedHandler(server, loop=loop, **_OPTIONS, lingering_time=0)
        )

    def _connection(self, door: Door, caller: Hashable, share: Share) -> Connection:
        return Connection(
            door,
            caller,
            share,
            self._runner.server,
            loop=asyncio.get_running_loop(),
            **_OPTIONS,
        )

    async def _answer(self, through_app: Handler, request: web.Request) -> web.StreamResponse:
        uid = peer_uid(request)
        if uid is None:
            # Only connections of other hosts have TLS.
            if (
                self._between_hosts is not None
                and request.path.startswith(BETWEEN_HOSTS)
                and request.get_extra_info("peercert") is not None
            ):
                return await self._between_hosts(request)
            return await through_app(request)
        kept = self._cache.answer(request, uid)
        if kept is None:
            response = await through_app(request)
            self._cache.keep(request, response)
            return response
        if self._app["traffic"].draining:
            kept.force_close()
        return kept

    def withdraw(self, address: Address) -> None:
        """Stop serving a TCP address."""
        tcp, _ = self.doors
        tcp.withdraw(address.host, address.port)

    async def drain(self) -> None:
        """Stop accepting, and return when every request that was accepted is answered, 6 s later at most.

        The listening descriptor is not closed but only not read any more: where systemd keeps it, callers wait in
        its backlog for the successor. Every answer closes its connection, so that clients come back to that one.
        """
        traffic: _Traffic = self._app["traffic"]
        traffic.draining = True
        loop = asyncio.get_running_loop()
        for door in self.doors:
            door.shut()
        if self._host_door is not None:
            self._host_door.shut()
        server = self._runner.server
        assert server is not None
        began = loop.time()
        # Callers that were accepted and wait for a turn cannot go to the successor any more.
        while server.connections or traffic.open or any(door.arriving for door in self.doors):
            if loop.time() > began + (_DRAIN_S if traffic.open else IDLE_DRAIN_S):
                break
            await asyncio.sleep(0.02)  # aiohttp reports to no one when a connection ends
        if traffic.open:
            log.warning("%d requests are not answered: they took longer than %g s", traffic.open, _DRAIN_S)

    async def close(self) -> None:
        """Close what is left."""
        if self._host_door is not None:
            await self._host_door.close()
        if self._runner.server is not None:
            await self._runner.server.shutdown(timeout=1.0)
        await self._runner.cleanup()
        await asyncio.sleep(0)  # the connections' cancelled tasks end in the turn after
        for door in self.doors:
            await door.close()
