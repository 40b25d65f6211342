"""The ports of other hosts' users on this one: `localhost:PORT` is a user's server, whichever host has it.

For a web app that calls the servers themselves. A call goes to the daemon of the host that has the user (`port_calls`).
As a server does, a port answers only those of this host who may call (`api.allow_users`).
"""

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast
from urllib.parse import quote

from aiohttp import web

from waportd import tcp_table
from waportd.api.connections import TiedHandler
from waportd.api.passing import tied
from waportd.errors import Forbidden, HostRefused, NotHere, TooManyRequests, WaportdError
from waportd.fleet.host import FleetHost
from waportd.fleet.passage import body_of, headers_of, pass_back
from waportd.fleet.peer_calls import SERVERS
from waportd.fleet.peer_faults import refusal
from waportd.host import Fleet, HostCall
from waportd.model import Port
from waportd.quotas import READ_BYTES
from waportd.server_client import start_of

if TYPE_CHECKING:
    from waportd.fleet.engine import Row, State

log = logging.getLogger(__name__)

ADDRESSES: Final = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
"""Both, or neither: "localhost" is either, and any program of this host could take the other one and be called."""
_IPV6_FREEBIND: Final = 78
"""From linux/in6.h: binds ::1 even where IPv6 is switched off, as FreeBind= does (systemd.socket(5))."""
_BACKLOG: Final = 128
CONNECTIONS: Final = 128
"""On one port at a time."""
ALL_CONNECTIONS: Final = 1024
"""On all of them: each with a call that is passed on takes some 200 KiB."""
PAUSE_S: Final = 0.2
"""Seconds from a change of the fleet to the look at it: many may come at once."""
RETRY_S: Final = 2.0
"""Seconds until a port is tried again that something else has."""
_RETRY_AFTER_S: Final = 2
"""Seconds after which a call may succeed that the other host has refused: its server starts, or its user moves."""
_PATIENCE_S: Final = 5.0
"""Seconds in which the daemon of the other host may come back, which restarts in less."""
_CLOSE_S: Final = 1.0
"""Seconds that open calls are given at the end."""
_OPTIONS: Final[Mapping[str, Any]] = {
    "access_log": None,
    "keepalive_timeout": 10.0,
    "max_line_size": 16 * 1024,
    "max_field_size": 16 * 1024,
    "read_bufsize": READ_BYTES,
    "auto_decompress": False,
    "lingering_time": 0,
}
"""As the servers have it (server/http.js)."""
_UNKNOWN: Final = -1


class ForwardedPorts:
    """Listens on these ports while the users are elsewhere."""

    def __init__(self, host: FleetHost, fleet: Fleet, permits: Callable[[int], bool]) -> None:
        """``permits`` returns whether a uid may call. An event loop has to run."""
        self._host = host
        self._fleet = fleet
        self._permits = permits
        self._changed = host.follower.subscribe()
        self._seen: State | None = None
        self._rows: dict[Port, Row] = {}
        """The users who are elsewhere, by port."""
        self._open: dict[Port, _Listeners] = {}
        self._held: dict[Port, str] = {}
        """The ports that something else has, with the reason."""
        self._leaving = False
        """Whether this host still has one of the users, who is another host's by now."""
        self._server = web.Server(self._answer)

    async def close(self) -> None:
        """Stop listening; calls that are open get a second."""
        for port in list(self._open):
            self._shut(port)
        await self._server.shutdown(timeout=_CLOSE_S)
        await asyncio.sleep(0)  # the connections' cancelled tasks end in the turn after

    @property
    def held(self) -> Mapping[Port, str]:
        """The ports that cannot be opened, each with the reason."""
        return self._held

    async def run(self) -> NoReturn:
        """Follow the users of other hosts until it is cancelled."""
        while True:
            await self._follow()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S):
                    await self._changed.wait()
            self._changed.clear()
            await asyncio.sleep(PAUSE_S)

    def release(self, port: Port) -> None:
        """Let go of a port at once: its user comes here."""
        self._rows.pop(port, None)
        self._held.pop(port, None)
        self._shut(port)

    async def _follow(self) -> None:
        state, here = self._host.follower.state, self._host.store.rows
        if state is None or (state is self._seen and not self._held and not self._leaving):
            return
        self._seen = state
        others = [row for row in state.rows if row.host != self._host.name]
        self._rows = {Port(row.port): row for row in others if row.user not in here}
        self._leaving = len(self._rows) < len(others)
        for port in self._open.keys() - self._rows.keys():
            self._shut(port)
        for port in self._held.keys() - self._rows.keys():
            del self._held[port]
        for port in sorted(self._rows.keys() - self._open.keys()):
            await self._listen(port)

    async def _listen(self, port: Port) -> None:
        try:
            listeners = await _Listeners.begin(self._server, port)
        except OSError as error:
            reason = error.strerror or str(error)
            if self._held.get(port) != reason:
                log.warning("Cannot forward port %d: %s", port, reason)
            self._held[port] = reason
            return
        self._held.pop(port, None)
        if port in self._rows:
            self._open[port] = listeners
        else:  # its user came here meanwhile
            listeners.close()

    def _shut(self, port: Port) -> None:
        if (listeners := self._open.pop(port, None)) is not None:
            listeners.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            with tied(request):
                return await self._forwarded(request)
        except WaportdError as error:
            return _refused(error)

    async def _forwarded(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast("_Connection", request.protocol)
        await connection.admit(self._permits)
        if len(self._server.connections) > ALL_CONNECTIONS:
            raise _too_many(f"{ALL_CONNECTIONS} connections to the ports of other hosts' users")
        if (row := self._rows.get(connection.port)) is None:
            raise _moved(connection.port)
        target = f"{SERVERS}{quote(row.user, safe='')}{request.rel_url.raw_path_qs}"
        call = HostCall(request.method, target, headers_of(request.headers), body_of(request))
        async with self._fleet.call(row.host, call, _PATIENCE_S) as answer:
            if answer.content_type == "application/problem+json":
                error = refusal(row.host, answer.status, await start_of(answer.content))
                error.retry_after = _RETRY_AFTER_S
                raise error
            return await pass_back(request, answer)


class _Listeners:
    """One port, on both addresses, and its connections."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.connections: set[_Connection] = set()
        self._servers: list[asyncio.Server] = []

    @classmethod
    async def begin(cls, server: web.Server, port: Port) -> "_Listeners":
        """Listen. Raises OSError."""
        self = cls(port)
        loop = asyncio.get_running_loop()
        sockets = _sockets(port)
        for one in sockets:
            self._servers.append(
                await loop.create_server(lambda: _Connection(self, server, loop=loop, **_OPTIONS), sock=one)
            )
        return self

    def close(self) -> None:
        """Stop listening at once, and end connections whose call is answered."""
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.close()


class _Connection(TiedHandler):
    """A connection to one of the ports."""

    def __init__(self, listeners: _Listeners, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._listeners = listeners
        self._uid: int | None = None
        """Of the caller; None before the first call."""

    @property
    def port(self) -> Port:
        """The port that was called."""
        return self._listeners.port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        super().connection_made(transport)
        self._listeners.connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count it no longer."""
        super().connection_lost(exc)
        self._listeners.connections.discard(self)

    async def admit(self, permits: Callable[[int], bool]) -> None:
        """Raise Forbidden where the caller may not call, and TooManyRequests where there are too many connections."""
        if len(self._listeners.connections) > CONNECTIONS:
            raise _too_many(f"{CONNECTIONS} connections to port {self.port}")
        if self._uid is None:
            self._uid = await asyncio.to_thread(self._look)
        if self._uid == _UNKNOWN:
            raise Forbidden("who calls is not known: keep the connection open")
        if not permits(self._uid):
            raise Forbidden(
                f"user id {self._uid} may not call this server",
                hint="add the user to api.allow_users in the configuration and reload waportd",
            )

    def _look(self) -> int:
        transport = self.transport
        if transport is None:
            return _UNKNOWN
        caller, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        uid = tcp_table.caller_uid(caller[:2], here[:2])
        return _UNKNOWN if uid is None else uid


def _sockets(port: Port) -> list[socket.socket]:
    """Return sockets that are bound to both addresses. Raises OSError."""
    with contextlib.ExitStack() as stack:
        found = []
        for family, address in ADDRESSES:
            try:
                one = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            except OSError:
                if family is socket.AF_INET6:  # a kernel without it
                    continue
                raise
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            one.bind((address, port))
            one.listen(_BACKLOG)
            found.append(one)
        stack.pop_all()
        return found


def _too_many(what: str) -> TooManyRequests:
    return TooManyRequests(
        f"more than {what}", hint="use connections again, or close them", retry_after=_RETRY_AFTER_S
    )


def _moved(port: Port) -> WaportdError:
    return NotHere(f"the user of port {port} has just come to this host", hint="connect again", retry_after=1)


def _refused(error: WaportdError) -> web.Response:
    """Return an error as the servers write theirs."""
    status = HTTPStatus.SERVICE_UNAVAILABLE if isinstance(error, HostRefused | NotHere) else error.status
    said = {"error": error.message, "code": error.code, "cause": error.cause, "hint": error.hint}
    headers = {"Cache-Control": "no-store"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    text = json.dumps({name: value for name, value in said.items() if value})
    response = web.Response(text=text, status=status, headers=headers, content_type="application/json")
    response.force_close()
    return response
