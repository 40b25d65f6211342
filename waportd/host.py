"""This host, as far as its users depend on it: on its own it may do everything, in a fleet what its lease allows."""

import dataclasses
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from waportd.model import Assignment, Port, User
from waportd.units import EnvironmentFolder

if TYPE_CHECKING:
    import aiohttp


class Environments(Protocol):
    """The environments of the units: without one, the units of a port refuse to start.

    All calls do blocking file I/O, and raise StoreError.
    """

    def write(self, port: Port, text: str) -> bool:
        """Write a port's environment (`units.environment`) as a whole; return whether it changed."""

    def remove(self, port: Port) -> None:
        """Remove a port's environment; a missing one is no error."""

    def ports(self) -> list[Port]:
        """Return the ports that have an environment, in order."""


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A host of a fleet, as the fleet knows it."""

    name: str
    address: str
    """Where the other hosts reach it: IP:PORT."""
    state: str
    """What an administrator wants of it: ``active`` or ``draining``."""
    alive: bool
    """It holds its lease."""
    users: int
    capacity: int
    """How many users it has at most."""
    version: str
    """Of waportd."""
    stuck: Mapping[User, str] = dataclasses.field(default_factory=dict)
    """The users who were to leave it and have not, each with the reason, for people."""


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """A fleet in numbers, as one of its hosts sees it."""

    hosts: Mapping[str, int]
    """How many are ``active``, ``draining`` and ``silent``."""
    has_lease: bool
    """This host holds its lease."""
    is_settled: bool
    """Users may be started, made and moved."""
    certificate_ends_at: float | None
    """Seconds since the epoch."""
    logins: Mapping[str, int]
    """Those of this host's linked users by their copies on other hosts: ``enough``, ``few``, ``none``."""
    coming: int
    """Users who belong to this host, and are not there yet."""


@dataclasses.dataclass(frozen=True, slots=True)
class HostCall:
    """A call of the daemon of another host."""

    method: str
    target: str
    """Path and query, quoted."""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes | AsyncIterator[bytes] | None = None


class Fleet(Protocol):
    """The hosts that share the users: who has which user, and how one daemon calls another."""

    @property
    def name(self) -> str:
        """The name of this host."""

    def owners(self) -> Mapping[User, str]:
        """Return the host of each user, as far as it is known here. The live table: to be read, not kept or changed."""

    async def find(self, user: User) -> str | None:
        """Return the host of a user; None where nobody has the user. Raises WaportdError where nothing is known yet."""

    def is_coming(self, user: User) -> bool:
        """Return whether a user belongs to this host, and is not there yet: the login is on its way."""

    def coming(self) -> list[Assignment]:
        """Return these users, as the fleet knows them."""

    async def until_known(self, user: User) -> None:
        """Return when it is known here which host has a new user, or after a second."""

    def place(self, user: User, unfit: Collection[str]) -> str:
        """Return the host for a new user, but none that is ``unfit``: this one where no other has more to give."""

    def lives(self) -> Mapping[str, bool]:
        """Return of each host that has not left whether it holds its lease; of none where nothing is known yet."""

    async def members(self) -> list[Member]:
        """Return the hosts that have not left, by name. Raises WaportdError where nothing is known yet."""

    def figures(self) -> Figures | None:
        """Return the fleet in numbers; None where nothing is known yet."""

    async def drain(self, host: str) -> None:
        """Have a host give its users to others, and take no new ones. Raises WaportdError."""

    async def activate(self, host: str) -> None:
        """Have a host take users again. Raises WaportdError."""

    async def evict(self, host: str) -> None:
        """Remove a host that is off for good. Raises WaportdError, also where the host is alive."""

    async def send(self, user: User, host: str) -> None:
        """Order a user to another host, which takes some seconds. Raises WaportdError."""

    def assignments(self, host: str) -> list[Assignment]:
        """Return the users of a host as the fleet knows them, whether it answers or not. Raises WaportdError."""

    def call(
        self, host: str, call: HostCall, patience_s: float = 0
    ) -> AbstractAsyncContextManager["aiohttp.ClientResponse"]:
        """Call the daemon of another host; give the answer, whose body is still to be read, once its head is there.

        There is no limit for the head, but the host has to hold its lease all the while. A daemon that is not reached
        may come back within ``patience_s`` seconds. Raises HostSilent, HostRefused, and the WaportdError that ends the
        body.
        """

    def admit(self, certificate: Mapping[str, Any]) -> str:
        """Return which host showed this certificate to call this one. Raises HostRefused where it may not."""


class Host(Protocol):
    """What a host may do for its users."""

    @property
    def fleet(self) -> Fleet | None:
        """The hosts that share the users with this one; None for a host on its own."""

    @property
    def acts_at_once(self) -> bool:
        """Whether users may be started as soon as the daemon is there; otherwise `Supervisor.resume` says when."""

    def environments(self) -> Environments:
        """Return where the environments are now. Raises WaportdError where nothing may be started."""

    async def begin(self, user: User) -> None:
        """Return when a session of this user may begin. Raises WaportdError where it may not."""

    def elsewhere(self) -> dict[Port, str]:
        """Return the ports that users of other hosts have, each with words that follow "port N is".

        The live table: to be read, not kept or changed.
        """


class SingleHost:
    """A host that belongs to no fleet."""

    acts_at_once = True
    fleet = None

    def __init__(self, folder: Path) -> None:
        """Have the environments in this folder."""
        self._environments = EnvironmentFolder(folder)

    def environments(self) -> Environments:
        """Return the folder."""
        return self._environments

    async def begin(self, user: User) -> None:
        """Return at once: nobody else has the user."""

    def elsewhere(self) -> dict[Port, str]:
        """Return nothing: there are no other hosts."""
        return {}
