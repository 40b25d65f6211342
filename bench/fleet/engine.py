"""The engine of a simulated fleet: leases and transactions."""

from __future__ import annotations

import dataclasses

from waportd.fleet.engine import Host, HostState, Row, State

STEP_S = 0.5
TTL_S = 45.0


@dataclasses.dataclass
class Held:
    """A lease in the engine."""

    incarnation: int
    left_s: float


@dataclasses.dataclass
class Data:
    """What the engine keeps, and forgets when it is restored."""

    revision: int = 1
    hosts: dict[str, HostState] = dataclasses.field(default_factory=dict)
    leases: dict[str, Held] = dataclasses.field(default_factory=dict)
    rows: dict[str, Row] = dataclasses.field(default_factory=dict)

    def copy(self) -> Data:
        """Return a copy that shares nothing which changes."""
        leases = {name: dataclasses.replace(held) for name, held in self.leases.items()}
        return Data(self.revision, dict(self.hosts), leases, dict(self.rows))


class Engine:
    """The engine: its transactions, on a clock that may be as wrong as any."""

    def __init__(self, rate: float, capacity: int) -> None:
        self.up = True
        self.epoch = 1
        self.confirmed: set[str] = set()
        self.settled = True
        self.data = Data()
        self._rate, self._capacity = rate, capacity
        self._state: State | None = None

    def step(self) -> None:
        """Let leases go that were not renewed."""
        for name, held in list(self.data.leases.items()) if self.up else ():
            held.left_s -= STEP_S * self._rate
            if held.left_s <= 0:
                del self.data.leases[name]
                self.changed()

    def start(self) -> None:
        """Answer again: a new leader gives each lease its whole time."""
        self.up = True
        for held in self.data.leases.values():
            held.left_s = TTL_S

    def restore(self, backup: Data) -> None:
        """Forget all that came after a backup. The leases in it live again."""
        self.data = backup.copy()
        self.start()
        self.epoch += 1
        self.confirmed, self.settled = set(), False
        self._state = None

    def changed(self) -> int:
        """Return the revision of a change."""
        self._state = None
        self.data.revision += 1
        return self.data.revision

    def state(self) -> State:
        """Return everything."""
        if self._state is None:
            leases = self.data.leases
            hosts = tuple(
                Host(
                    name,
                    name,
                    state,
                    "",
                    self._capacity,
                    0.0,
                    name in leases,
                    held.incarnation if held else None,
                )
                for name, state in sorted(self.data.hosts.items())
                for held in [leases.get(name)]
            )
            rows = tuple(self.data.rows[user] for user in sorted(self.data.rows))
            confirmed = frozenset(self.confirmed)
            self._state = State(
                hosts, rows, self.data.revision, str(self.epoch), confirmed=confirmed, settled=self.settled
            )
        return self._state

    def holds(self, name: str, incarnation: int | None) -> bool:
        """Return whether that lease is there."""
        held = self.data.leases.get(name)
        return held is not None and held.incarnation == incarnation

    def describe(self, name: str) -> None:
        """Put a member back that is not listed, while the epoch is not settled."""
        if not self.settled and name not in self.data.hosts:
            self.data.hosts[name] = HostState.ACTIVE
            self.changed()

    def acquire(self, name: str) -> int | None:
        """Return a new incarnation; None where somebody holds the name, or it is not a member's."""
        if name in self.data.leases or self.data.hosts.get(name, HostState.LEFT) == HostState.LEFT:
            return None
        incarnation = self.changed()
        self.data.leases[name] = Held(incarnation, TTL_S)
        return incarnation

    def put(self, row: Row) -> None:
        """Write a row."""
        self.data.rows[row.user] = dataclasses.replace(row, revision=self.changed())

    def move(self, row: Row, host: str) -> bool:
        """Make another host the owner, if the row is as it was seen; return whether that was so."""
        now = self.data.rows.get(row.user)
        if now is None or now.revision != row.revision:
            return False
        self.put(dataclasses.replace(row, host=host, token=max(row.token, self.data.revision) + 1))
        return True

    def count_start(self, row: Row) -> bool:
        """Count a start, if the row is as it was seen; return whether that was so."""
        now = self.data.rows.get(row.user)
        if now is None or now.revision != row.revision:
            return False
        self.put(dataclasses.replace(row, runs=row.runs + 1))
        return True

    def reclaim(self, row: Row) -> None:
        """Put a row back that somebody holds by a higher token than the engine knows."""
        now = self.data.rows.get(row.user)
        if now is None or now.token < row.token:
            self.put(row)
