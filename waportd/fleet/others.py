"""The other hosts as this host's API sees them: who has which user, and calls from daemon to daemon.

A `waportd.host.Fleet`. What it knows follows from the newest state of the fleet.
"""

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping
from typing import Any, Final, TypeVar

import aiohttp
from yarl import URL

from waportd.errors import HostRefused, HostSilent
from waportd.fleet import addresses, administration, placement
from waportd.fleet.callers import Callers
from waportd.fleet.coverage import coverage
from waportd.fleet.engine import Engine, EngineUnavailable, Host, HostState, Row, State
from waportd.fleet.identity import Identity
from waportd.fleet.peer_calls import CALL_S
from waportd.fleet.peer_faults import fault, silence
from waportd.fleet.record import assignment_of
from waportd.fleet.sealing import Sealing
from waportd.host import Figures, HostCall, Member
from waportd.model import Assignment, Port, User
from waportd.relay import Upload

T = TypeVar("T")

LOOK_S: Final = 2.0
"""Seconds between two looks whether a host that has not answered yet holds its lease."""
FIRST_S: Final = 2.0
"""Seconds that a call waits for the engine's first answer, just after this daemon has started."""
_KNOWN_S: Final = 1.0
"""Seconds in which a change is seen that another host has made; some milliseconds are usual."""
_POLL_S: Final = 0.01
_AGAIN_S: Final = 0.2
"""Seconds until a daemon is tried again that was not reached."""
_REPEATABLE: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Calls that may be made once more (RFC 9110, section 9.2.2); later versions of aiohttp do so, too."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Known:
    """What follows from one state."""

    state: State | None
    owners: Mapping[User, str]
    hosts: Mapping[str, Host]


class Others:
    """The fleet around one host."""

    def __init__(
        self,
        identity: Identity,
        engine: Engine,
        newest: Callable[[], State | None],
        is_new: Callable[[Row], bool],
        *,
        sealing: Sealing | None = None,
        copies: int = 0,
        certificate_ends_at: float | None = None,
    ) -> None:
        """Speak with the identity of this host. An event loop has to run.

        ``newest`` returns the newest state of the fleet; None until the engine was read for the first time. ``is_new``
        returns whether the user of a row of this host is not there yet. ``sealing`` opens the secrets of rows. ``copies``
        is on how many other hosts each login should be.
        """
        self._engine = engine
        self._sealing = sealing
        self._copies = copies
        self._certificate_ends_at = certificate_ends_at
        self.name = identity.name
        self._newest = newest
        self._is_new = is_new
        self._known = _Known(None, {}, {})
        self._callers = Callers(self._hosts)
        self._http = addresses.client(identity, self._hosts, connect_s=CALL_S)

    async def close(self) -> None:
        """End all calls."""
        await self._http.close()

    # Who has which user

    def owners(self) -> Mapping[User, str]:
        """Return the host of each user, as far as it is known here."""
        return self._now().owners

    async def find(self, user: User) -> str | None:
        """Return the host of a user; None where nobody has the user. Raises EngineUnavailable."""
        await self._first_state()
        return self.owners().get(user)

    def is_coming(self, user: User) -> bool:
        """Return whether a user belongs to this host, and is not there yet."""
        return self.owners().get(user) == self.name and any(row.user == user for row in self._coming())

    def coming(self) -> list[Assignment]:
        """Return these users, as the engine has them."""
        return [_shown(row, self._sealing) for row in self._coming()]

    async def until_known(self, user: User) -> None:
        """Return when it is known here which host has a new user, or after a second."""
        await _wait_for(lambda: user in self.owners(), _KNOWN_S)

    def place(self, user: User, unfit: Collection[str]) -> str:
        """Return the host for a new user: this one where no other is known to have room."""
        state = self._newest()
        if state is None or not state.settled:
            return self.name
        try:
            return placement.place(user, state, unfit=unfit)
        except placement.NoRoom:
            return self.name

    def lives(self) -> Mapping[str, bool]:
        """Return of each host that has not left whether it holds its lease."""
        return {name: host.alive for name, host in self._hosts().items() if host.state is not HostState.LEFT}

    async def members(self) -> list[Member]:
        """Return the hosts that have not left, by name. Raises EngineUnavailable."""
        state = await self._first_state()
        users, stuck = Counter(row.host for row in state.rows), _stuck(state)
        return [
            Member(
                host.name,
                host.address,
                host.state,
                host.alive,
                users[host.name],
                host.capacity,
                host.version,
                stuck.get(host.name, {}),
            )
            for host in sorted(state.hosts, key=lambda each: each.name)
            if host.state is not HostState.LEFT
        ]

    def figures(self) -> Figures | None:
        """Return the fleet in numbers."""
        if (state := self._newest()) is None:
            return None
        members = [host for host in state.hosts if host.state is not HostState.LEFT]
        counted = Counter(str(host.state) if host.alive else "silent" for host in members)
        found = coverage(state, self.name, self._copies)
        return Figures(
            hosts={name: counted[name] for name in ("active", "draining", "silent")},
            has_lease=any(host.name == self.name and host.alive for host in members),
            is_settled=state.settled,
            certificate_ends_at=self._certificate_ends_at,
            logins={"enough": len(found.enough), "few": len(found.few), "none": len(found.none)},
            coming=len(self._coming()),
        )

    # What an administrator orders

    async def drain(self, host: str) -> None:
        """Have a host give its users to others. Raises UnknownHost, Conflict, HostSilent, EngineUnavailable."""
        await administration.drain(self._engine, host)
        await self._until(host, HostState.DRAINING)

    async def activate(self, host: str) -> None:
        """Have a host take users again. Raises UnknownHost, Conflict, EngineUnavailable."""
        await administration.activate(self._engine, host)
        await self._until(host, HostState.ACTIVE)

    async def evict(self, host: str) -> None:
        """Remove a host that is off for good. Raises UnknownHost, Conflict, EngineUnavailable."""
        await administration.evict(self._engine, host)
        await self._until(host, HostState.LEFT)

    async def send(self, user: User, host: str) -> None:
        """Order a user to another host. Raises UnknownUser, UnknownHost, Conflict, HostSilent, EngineUnavailable."""
        await administration.send(self._engine, user, host)

    async def _until(self, host: str, state: HostState) -> None:
        """Return when this host knows it, too: what the caller asks next is about it."""
        await _wait_for(lambda: (known := self._hosts().get(host)) and known.state is state, _KNOWN_S)

    def has_left(self, host: str) -> bool:
        """Return whether a host has left the fleet, as far as is known here."""
        known = self._hosts().get(host)
        return known is not None and known.state is HostState.LEFT

    def assignments(self, host: str) -> list[Assignment]:
        """Return the users of a host as the engine has them. Raises EngineUnavailable."""
        return [_shown(row, self._sealing) for row in self._state().rows if row.host == host]

    # Calls

    @contextlib.asynccontextmanager
    async def call(
        self, host: str, call: HostCall, patience_s: float = 0
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Call the daemon of another host; give the answer once its head is there. Raises HostSilent, HostRefused."""
        upload = Upload(call.body) if isinstance(call.body, AsyncIterator) else None
        data = upload.body if upload else call.body
        repeatable = upload is None and call.method in _REPEATABLE

        async def ask() -> aiohttp.ClientResponse:
            url = URL(addresses.base(host, self._hosts, addresses.DAEMON) + call.target, encoded=True)
            return await self._http.request(
                call.method, url, headers=call.headers, data=data, allow_redirects=False
            )

        try:
            answer = await self._while_alive(host, _asked(ask, repeatable=repeatable, patience_s=patience_s))
        except (OSError, aiohttp.ClientError) as error:
            raise (upload and upload.error) or _fault(host, error) from error
        try:
            yield answer
        finally:
            answer.close()

    def admit(self, certificate: Mapping[str, Any]) -> str:
        """Return which host showed this certificate. Raises HostRefused."""
        return self._callers.admit(certificate)

    async def _while_alive(self, host: str, work: Coroutine[Any, Any, T]) -> T:
        """Return what work returns. Raises HostSilent once the host holds no lease."""
        task = asyncio.ensure_future(work)
        try:
            while self._is_alive(host):
                done, _ = await asyncio.wait({task}, timeout=LOOK_S)
                if done:
                    return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        raise silence(host, "holds no lease: its users go to other hosts")

    def _is_alive(self, host: str) -> bool:
        known = self._hosts().get(host)
        return known is not None and known.alive

    # What is known

    def _coming(self) -> list[Row]:
        state = self._newest()
        rows = state.rows if state else ()
        return [row for row in rows if row.host == self.name and self._is_new(row)]

    def _hosts(self) -> Mapping[str, Host]:
        return self._now().hosts

    async def _first_state(self) -> State:
        await _wait_for(lambda: self._newest() is not None, FIRST_S)
        return self._state()

    def _state(self) -> State:
        state = self._newest()
        if state is None:
            raise EngineUnavailable(
                "this host does not know yet which host has which user: the engine has not answered since waportd started",
                hint="`waportctl fleet status` asks the engine, too",
                retry_after=1,
            )
        return state

    def _now(self) -> _Known:
        state = self._newest()
        if state is not self._known.state and state is not None:
            self._known = _Known(
                state,
                {User(row.user): row.host for row in state.rows},
                {host.name: host for host in state.hosts},
            )
        return self._known


async def _asked(
    ask: Callable[[], Awaitable[aiohttp.ClientResponse]], *, repeatable: bool, patience_s: float
) -> aiohttp.ClientResponse:
    """Make a call, again where a daemon has just restarted: it is not reached, or a connection that was kept has ended."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while True:
        try:
            return await ask()
        except aiohttp.ClientSSLError:
            raise
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError):
            if loop.time() >= deadline:
                raise
            await asyncio.sleep(_AGAIN_S)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not repeatable:
                raise
            repeatable = False


def _fault(host: str, error: OSError | aiohttp.ClientError) -> HostSilent | HostRefused:
    match error:
        case aiohttp.ServerTimeoutError():
            return silence(host, f"is not reached within {CALL_S:g} s", HostSilent.NOT_REACHED)
        case aiohttp.ClientConnectorError():
            return fault(host, error)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return silence(host, "closed the connection without an answer")
    return fault(host, error)


def _shown(row: Row, sealing: Sealing | None) -> Assignment:
    """Return what a row says; of one that a newer waportd has written only whose it is."""
    try:
        return assignment_of(row, sealing)
    except EngineUnavailable:
        return Assignment(User(row.user), Port(row.port))


def _stuck(state: State) -> dict[str, dict[User, str]]:
    """Return by host the users who were to leave it and have not, with the reasons."""
    found: dict[str, dict[User, str]] = {}
    for row in state.rows if state.orders else ():
        if (order := state.order_of(row)) and order.failed:
            found.setdefault(row.host, {})[User(row.user)] = order.failed
    for host in state.hosts:
        if host.state is HostState.DRAINING:
            stuck = administration.due(state, host.name).stuck
            found.setdefault(host.name, {}).update((User(user), why) for user, why in stuck.items())
    return found


async def _wait_for(condition: Callable[[], object], limit_s: float) -> None:
    """Return when a condition holds, or after so many seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    while not condition() and loop.time() < deadline:  # noqa: ASYNC110  # the one event is the agent's
        await asyncio.sleep(_POLL_S)
