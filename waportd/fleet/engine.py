"""What the hosts of a fleet have in common, and the calls that change it: the protocol of an engine.

An engine is a store with consensus, leases and conditional changes of its own. Each change is one transaction: all its
conditions hold and it happens, or one does not hold and nothing is changed. Hosts never compare wall clocks: the order
is the engine's, by *revisions*, which grow with every change.
"""

import dataclasses
import enum
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol, TypeVar

from waportd.errors import WaportdError

T = TypeVar("T")


class EngineUnavailable(WaportdError):
    """Nobody answered within the limit. The call may or may not have happened, and may yet happen."""

    code = "engine_unavailable"
    status = 503
    title = "The engine of the fleet is not available"


class LeaseLost(WaportdError):
    """The lease is gone, or belongs to another incarnation. Nothing was changed."""

    code = "no_lease"
    status = 503
    title = "This host holds no lease"


class NameTaken(WaportdError):
    """A host of that name holds a lease: a live one, or one that died less than its lease's TTL ago."""

    code = "name_taken"
    status = 409
    title = "A live host has this name"


class Conflict(WaportdError):
    """A transaction's condition did not hold. Nothing was changed."""

    code = "engine_conflict"
    status = 409
    title = "The fleet has changed"


class Unsettled(Conflict):
    """The epoch is not settled, or is not the one that this process has read: a restored engine. Nothing was changed."""

    code = "epoch_unsettled"
    title = "The fleet is not settled"


class HostState(enum.StrEnum):
    """What an administrator wants of a host."""

    ACTIVE = "active"
    DRAINING = "draining"
    LEFT = "left"


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """A host's right to run its users, until it has not been renewed for ``ttl_s`` seconds."""

    host: str
    id: int
    """The engine's number of it."""
    incarnation: int
    """The revision at which it was acquired: no two leases of a host have the same."""
    ttl_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """A member of the fleet."""

    name: str
    address: str
    """Where its daemon answers the other hosts: ADDRESS:PORT."""
    state: HostState
    version: str
    """Of waportd."""
    capacity: int
    """How many users it runs at most."""
    joined_at: float
    """Seconds since the epoch, for people."""
    alive: bool
    """Somebody holds its lease."""
    incarnation: int | None
    """That of its lease; None if there is none."""
    revision: int = 0
    """That of the last change of what is above ``alive``, and of ``held``; 0 before the first."""
    held: tuple[int, ...] = ()
    """The ports of other hosts' users that another program has there: these users cannot come."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A user, its owner (the host that may run it), and what an owner after it needs."""

    user: str
    port: int
    """Unique in the fleet."""
    host: str
    """The owner."""
    token: int = 0
    """The fencing token: greater with each change of the owner, otherwise the same. Fits in 63 bits."""
    runs: int = 0
    """How often a daemon has ordered a start."""
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The rest of the assignment, as JSON."""
    revision: int = 0
    """That of the row's last change; 0 before the first."""
    snapshot: str | None = None
    """The manifest of the newest snapshot."""
    copies: tuple[str, ...] = ()
    """The hosts where it lies."""


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """Where a user is to be. The owner sees to it, or writes why it does not; it is forgotten after some time."""

    user: str
    host: str
    token: int
    """That of the row for which it was given: once the owner is another one, it means nothing."""
    failed: str | None = None
    """Why it is not done, for people; None where it is to be done."""
    revision: int = 0
    """That of its last change; 0 before the first."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fact:
    """Something that all hosts have in common beside the users."""

    name: str
    value: Mapping[str, Any]
    """As JSON."""
    revision: int = 0
    """That of its last change; 0 before the first."""


@dataclasses.dataclass(frozen=True, slots=True)
class HostChanged:
    """A host was described; ``host`` is None where it was removed, and knows nothing of its lease."""

    revision: int
    name: str
    host: Host | None


@dataclasses.dataclass(frozen=True, slots=True)
class LeaseChanged:
    """A host has acquired a lease; ``incarnation`` is None where it was lost or released."""

    revision: int
    host: str
    incarnation: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class RowChanged:
    """A row was created or changed; ``row`` is None where it was deleted."""

    revision: int
    user: str
    row: Row | None


@dataclasses.dataclass(frozen=True, slots=True)
class TombstoneChanged:
    """A user was deleted: ``token`` was the row's last. None where that has been forgotten, after a week."""

    revision: int
    user: str
    token: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class OrderChanged:
    """An order was given, or not done; ``order`` is None where it was forgotten."""

    revision: int
    user: str
    order: Order | None


@dataclasses.dataclass(frozen=True, slots=True)
class FactChanged:
    """A fact was written; ``fact`` is None where it was erased."""

    revision: int
    name: str
    fact: Fact | None


@dataclasses.dataclass(frozen=True, slots=True)
class EpochChanged:
    """A host has put back what it holds in this epoch; ``host`` is None where the epoch is settled."""

    revision: int
    host: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Reset:
    """Changes were missed: read the state again, and watch from there. The last change of a watch."""

    reason: str


Event = HostChanged | LeaseChanged | RowChanged | TombstoneChanged | OrderChanged | FactChanged | EpochChanged
Change = Event | Reset


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """All of a fleet at one revision."""

    hosts: tuple[Host, ...]
    """By name."""
    rows: tuple[Row, ...]
    """By user."""
    revision: int
    epoch: str
    """The engine's cluster id: another one after a restore."""
    leases: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """The incarnation of each live host, described or not."""
    tombstones: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """The last token of each user that was deleted in the last week."""
    confirmed: frozenset[str] = frozenset()
    """The hosts that have put back what they hold in this epoch."""
    settled: bool = False
    """Whether the epoch is settled: nothing is put back any more, and users may be created and moved."""
    orders: Mapping[str, Order] = dataclasses.field(default_factory=dict)
    """By user, also those that mean nothing any more."""
    facts: Mapping[str, Fact] = dataclasses.field(default_factory=dict)
    """By name."""

    def order_of(self, row: Row) -> Order | None:
        """Return the order to move a row's user; None where there is none, or the user is where it says."""
        order = self.orders.get(row.user)
        return order if order and order.token == row.token and order.host != row.host else None

    def after(self, *events: Event) -> "State":
        """Return the state that changes lead to, in their order. Several at once cost little more than one."""
        hosts, rows = {one.name: one for one in self.hosts}, {one.user: one for one in self.rows}
        leases, tombstones = dict(self.leases), dict(self.tombstones)
        orders, facts = dict(self.orders), dict(self.facts)
        confirmed, settled = self.confirmed, self.settled
        for event in events:
            match event:
                case HostChanged(_, name, host):
                    _set(hosts, name, host)
                case LeaseChanged(_, name, incarnation):
                    _set(leases, name, incarnation)
                case RowChanged(_, user, row):
                    _set(rows, user, row)
                case TombstoneChanged(_, user, token):
                    _set(tombstones, user, token)
                case OrderChanged(_, user, order):
                    _set(orders, user, order)
                case FactChanged(_, name, fact):
                    _set(facts, name, fact)
                case EpochChanged(_, None):
                    settled = True
                case EpochChanged(_, str(name)):
                    confirmed |= {name}
        return State(
            hosts=tuple(
                dataclasses.replace(one, alive=one.name in leases, incarnation=leases.get(one.name))
                for one in hosts.values()
            ),
            rows=tuple(rows.values()),
            revision=events[-1].revision if events else self.revision,
            epoch=self.epoch,
            leases=leases,
            tombstones=tombstones,
            confirmed=confirmed,
            settled=settled,
            orders=orders,
            facts=facts,
        )


def _set(known: dict[str, T], key: str, value: T | None) -> None:
    if value is None:
        known.pop(key, None)
    else:
        known[key] = value


class Engine(Protocol):
    """The calls of an engine. Each ends within its limit, in seconds, or raises EngineUnavailable.

    Those that take a lease raise LeaseLost where it is no longer held, those that change rows Unsettled where the epoch
    is not the one of the last `state`, or is not settled.
    """

    async def acquire(self, host: str, ttl_s: float) -> Lease:
        """Take the lease of a host, if there is none. Raises NameTaken."""

    async def renew(self, lease: Lease) -> None:
        """Keep a lease, also one of another host. It then lasts at least its TTL from the beginning of this call."""

    async def release(self, lease: Lease) -> None:
        """Give a lease up, which may be lost already. From then on others may take the host's users."""

    async def describe(self, host: Host) -> Host:
        """Write what is above ``alive``, and ``held``, if the host still has the revision seen; return it. Raises Conflict."""

    async def confirm(self, lease: Lease) -> None:
        """Put on record that this host has put back, in this epoch, what it holds."""

    async def settle(self, lease: Lease) -> None:
        """Put on record that the epoch of the last `state` is settled."""

    async def reclaim(self, lease: Lease, row: Row) -> Row:
        """Put back a row that this host holds, with its token; return it. Only while the epoch is not settled.

        Raises Conflict where the engine has a row or a tombstone of a higher token, or the port is another user's.
        """

    async def create(self, lease: Lease, row: Row) -> Row:
        """Create a row with this host as its owner; return it. Raises Conflict where user or port have one."""

    async def update(self, lease: Lease, row: Row) -> Row:
        """Change ``runs`` and ``document`` of a row of this host, if it has the revision seen; return it.

        Raises Conflict.
        """

    async def move(self, lease: Lease, row: Row, host: str) -> Row:
        """Make a live host the owner of a row that has the revision seen; return it, with its new token.

        Only the owner moves a row, or, where the owner holds no lease, anybody. Raises Conflict.
        """

    async def publish(self, lease: Lease, row: Row) -> Row:
        """Change ``snapshot`` and ``copies`` of a row of this host that still has the token; return it.

        Whatever else the owner has changed meanwhile stays. Raises Conflict.
        """

    async def delete(self, row: Row) -> None:
        """Delete a row that has the revision seen, and leave a tombstone for a week. Raises Conflict."""

    async def order(self, order: Order) -> Order:
        """Write an order, if it still has the revision seen; return it. Raises Conflict."""

    async def write(self, fact: Fact) -> Fact:
        """Write a fact, if it still has the revision seen; return it. Raises Conflict."""

    async def erase(self, name: str) -> None:
        """Erase a fact; one that is not there is no error."""

    async def state(self) -> State:
        """Return everything, as it is at one revision."""

    def watch(self, revision: int) -> AsyncGenerator[Change, None]:
        """Yield each change after that revision of the last `state`, once and in order, however long the engine is away.

        Ends after a `Reset`. Close it (`contextlib.aclosing`), or cancel who reads it: no connection is left.
        """

    async def epoch(self) -> str:
        """Return the engine's cluster id, now."""

    async def close(self) -> None:
        """End all connections."""
