"""Answers the other hosts of the fleet, over TLS in which both sides show a certificate.

The certificate alone says who calls (`callers`).
"""

import asyncio
import dataclasses
import json
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from aiohttp import web

from waportd.errors import HostRefused
from waportd.fleet.callers import Callers
from waportd.fleet.engine import EngineUnavailable, HostState, Lease, LeaseLost
from waportd.fleet.identity import Identity
from waportd.fleet.limits import within
from waportd.fleet.peer_calls import (
    ANSWERING,
    CALL_S,
    ENGINE_S,
    MAX_REQUEST_BYTES,
    REACH,
    RENEW,
    Members,
    Reach,
    Renewal,
    read_lease,
)
from waportd.fleet.peer_faults import reported

_HANDSHAKE_S: Final = CALL_S
"""Seconds for a handshake: the caller does not wait longer either."""
_KEEP_ALIVE_S: Final = 75.0
"""Seconds that an idle connection is kept; hosts ask every few seconds while the engine is away."""
_BODY_S: Final = CALL_S
"""Seconds for the body of a call to arrive."""
_CLOSE_S: Final = 1.0
"""Seconds that open calls are given at the end."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Answers(Protocol):
    """What a host does for the others, and says about itself."""

    async def renew(self, lease: Lease) -> None:
        """Renew the lease of another host, as `Engine.renew` does: an id of any other lease than that host's is lost.

        Raises LeaseLost, EngineUnavailable.
        """

    def reach(self) -> Reach:
        """Return whether this host reaches the engine, from memory."""

    def note_outage(self) -> None:
        """Have this host take no users because of what it sees now: another one is about to hear that it sees nothing."""


class PeerServer:
    """The side of a host that is asked."""

    def __init__(
        self,
        identity: Identity,
        members: Members,
        answers: Answers,
        *,
        engine_s: float = ENGINE_S,
        body_s: float = _BODY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the limits in seconds; the clock gives seconds since the epoch."""
        self._identity = identity
        self._members = members
        self._answers = answers
        self._engine_s = engine_s
        self._body_s = body_s
        self._callers = Callers(members, clock=clock)
        app = web.Application(middlewares=[_problems, self._admit], client_max_size=MAX_REQUEST_BYTES)
        app.router.add_post(RENEW, self._renew)
        app.router.add_get(REACH, self._reach)
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            keepalive_timeout=_KEEP_ALIVE_S,
            auto_decompress=False,  # a small body could grow without end
            lingering_time=0,  # nor is the rest of a refused one waited for, which aiohttp does after the caller left
        )
        self._listeners: list[asyncio.Server] = []

    async def start(self, listener: socket.socket) -> None:
        """Begin to answer on a socket that listens."""
        await self._runner.setup()
        assert self._runner.server is not None
        server = await asyncio.get_running_loop().create_server(
            self._runner.server, sock=listener, ssl=self._identity.server, ssl_handshake_timeout=_HANDSHAKE_S
        )
        self._listeners.append(server)

    async def close(self) -> None:
        """Stop to answer; calls that are open get a second."""
        for listener in self._listeners:
            listener.close()
        if self._runner.server is not None:
            await self._runner.server.shutdown(timeout=_CLOSE_S)
        await self._runner.cleanup()
        await asyncio.sleep(0)  # the connections' cancelled tasks end in the turn after

    @web.middleware
    async def _admit(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Let in who is a host of the fleet now, and make the call its last hop."""
        if (certificate := request.get_extra_info("peercert")) is None:
            raise ConnectionResetError  # while the call was read: TLS lets in nobody without one
        try:
            caller = self._callers.admit(certificate)
        except HostRefused as error:
            error.status = web.HTTPForbidden.status_code
            raise
        answering = ANSWERING.set(caller)
        try:
            return await handler(request)
        finally:
            ANSWERING.reset(answering)

    async def _renew(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(self._body_s):
                lease = read_lease(json.loads(await request.read()))
        except TimeoutError:
            raise _refused("too_slow", "the lease did not arrive in time", _SAME_VERSION, 408) from None
        except (ValueError, TypeError, KeyError, RecursionError):
            raise _refused("bad_request", "that is no lease", _SAME_VERSION, 400) from None
        if lease.host != (caller := ANSWERING.get()):
            raise _refused(
                "wrong_name",
                f"the certificate is that of host {caller}, and the lease that of host {lease.host!r}",
                f"give {caller} its own name in the configuration, or another certificate: `waportctl fleet invite`",
            )
        outcome = await self._renewal(lease)
        known = {name: host.address for name, host in self._members().items() if host.state != HostState.LEFT}
        return _json({"outcome": outcome, "hosts": known})

    async def _renewal(self, lease: Lease) -> Renewal:
        try:
            await within(self._engine_s, self._answers.renew(lease))
        except (EngineUnavailable, TimeoutError):
            self._answers.note_outage()
            return Renewal.UNREACHABLE
        except LeaseLost:
            return Renewal.GONE
        return Renewal.RENEWED

    async def _reach(self, _request: web.Request) -> web.Response:
        return _json(dataclasses.asdict(self._answers.reach()))


_SAME_VERSION: Final = "run the same version of waportd on all hosts"


def _refused(cause: str, message: str, hint: str, status: int = 403) -> HostRefused:
    return HostRefused(message, cause=cause, hint=hint, status=status)


def _json(document: Any) -> web.Response:
    return web.json_response(document, headers={"Cache-Control": "no-store"})


@web.middleware
async def _problems(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Answer every exception with what the caller needs for an error of the same words."""
    return await reported(request, _translated(request, handler))


async def _translated(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        raise _refused("too_large", f"more than {MAX_REQUEST_BYTES} bytes", _SAME_VERSION, 413) from None
    except web.HTTPException as error:
        what = f"{request.method} {request.path}: {error.reason}"
        raise _refused("no_such_call", what, _SAME_VERSION, error.status) from None
