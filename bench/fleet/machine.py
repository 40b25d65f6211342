"""A simulated host: its keeper, its daemon and its sessions."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from bench.fleet.engine import TTL_S
from waportd.fleet.drain import next_moves
from waportd.fleet.engine import HostState, Row, State
from waportd.fleet.membership import Membership, Standing
from waportd.fleet.placement import is_open, takeovers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.fleet.world import World

RENEW_S, STOP_S, WATCHDOG_S = 3.0, 15.0, 18.0
FAILOVER_AFTER_S = 15.0


@dataclasses.dataclass(frozen=True)
class Rules:
    """The rules of the fleet; each can be broken, to see that the simulation finds it."""

    fence_s: float = 15.0
    """Seconds after the begin of the last good renewal at which a host ends its sessions."""
    waits_for_epoch: bool = True
    brake: bool = True
    counts_again: bool = True
    """After an outage."""
    newcomers_wait: bool = True
    lists_are_fresh: bool = True
    """A peer that answers also says which members it knows."""


class Machine:
    """A host: keeper, daemon and sessions. Its times are those of its own clock."""

    def __init__(self, world: World, name: str, *, established: bool) -> None:
        self.world, self.name = world, name
        self.rate = world.rate()
        self._offset = world.chance.uniform(0, 1e6)
        self.on = True
        self.reaches_engine = self.reaches_peers = True
        self.keeper_stopped = self.daemon_stopped = False
        self.sessions: dict[str, float | None] = {}
        """Users whose sessions live, and when they are dead, if they are being stopped."""
        self.ready_at: dict[str, float] = {}
        # What outlives a reboot.
        self.copy: dict[str, Row] = {}
        self.established = established
        self.remembered: frozenset[str] = frozenset()
        self.boot()

    @property
    def now(self) -> float:
        """Seconds on this host's clock."""
        return self.world.time * self.rate + self._offset

    def boot(self) -> None:
        """Start with nothing but what the disk holds."""
        self.on, self.sessions = True, {}
        self.incarnation: int | None = None
        self.known: frozenset[str] = frozenset()
        self._good_at = self._next_renewal = self._next_look = self.now
        self.leaving: dict[str, str] = {}
        self._start_daemon()

    def _start_daemon(self) -> None:
        self.members = Membership(
            self.name,
            ttl_s=TTL_S,
            failover_after_s=FAILOVER_AFTER_S,
            established=self.established,
            remembered=self.remembered,
        )

    def restart_daemon(self) -> None:
        """Upgrade the daemon."""
        self.daemon_stopped = False
        self._start_daemon()

    def power_off(self) -> None:
        """Lose everything at once."""
        self.on, self.sessions, self.incarnation = False, {}, None

    def step(self) -> None:
        """Do what is due."""
        if not self.on:
            return
        self.sessions = {u: at for u, at in self.sessions.items() if at is None or at > self.now}
        self._keep()
        if not self.daemon_stopped and self.now >= self._next_look:
            self._next_look = self.now + 1.0
            self._look()

    @property
    def has_engine(self) -> bool:
        """Whether a call of this host reaches the engine now."""
        return self.world.engine.up and self.reaches_engine

    def _keep(self) -> None:
        """Be the keeper."""
        rules = self.world.rules
        if self.incarnation is None:
            if self.has_engine and not self.keeper_stopped and self.now >= self._next_renewal:
                self._next_renewal = self.now + RENEW_S
                if self.name in self.remembered:
                    self.world.engine.describe(self.name)
                self.incarnation = self.world.engine.acquire(self.name)
                self._renewed()
            return
        if self.keeper_stopped:
            if self.now >= self._good_at + WATCHDOG_S:
                self.keeper_stopped = False
                self._fence(0.0)
            return
        if self.now >= self._next_renewal:
            self._next_renewal = self.now + RENEW_S
            self._renew()
        if self.incarnation is not None and self.now >= self._good_at + rules.fence_s:
            self._fence(STOP_S)

    def _renew(self) -> None:
        engine = self.world.engine
        helpers = [self] if self.has_engine else list(self._ask())
        if helper := next((each for each in helpers if each.has_engine), None):
            if not engine.holds(self.name, self.incarnation):
                self._fence(0.0)
                return
            engine.data.leases[self.name].left_s = TTL_S
            self._renewed(fresh=helper is self or self.world.rules.lists_are_fresh)
        elif helpers and {each.name for each in helpers} >= self.known - {self.name}:
            self._good_at = self.now  # failsafe

    def _renewed(self, *, fresh: bool = True) -> None:
        self._good_at = self.now
        if fresh:
            hosts = self.world.engine.data.hosts
            self.known = frozenset(name for name, state in hosts.items() if state != HostState.LEFT)

    def _ask(self) -> Iterator[Machine]:
        """Yield the peers that answer, each of them asked whether it reaches the engine."""
        self.note_outage()
        asked: set[str] = {self.name}
        while self.reaches_peers and (names := self.known - asked):
            asked |= names
            for peer in filter(None, map(self.world.answering, sorted(names))):
                if not peer.has_engine:
                    peer.note_outage()
                    if self.world.rules.lists_are_fresh:
                        self.known |= peer.known
                yield peer

    def note_outage(self) -> None:
        """Count silence again from the end of this outage."""
        if self.world.rules.counts_again:
            self.members.lose()

    def _fence(self, within_s: float) -> None:
        """End all sessions. A third of them is deaf until it is killed."""
        chance = self.world.chance
        self.incarnation = None
        self.sessions = {
            user: min(
                float("inf") if at is None else at, self.now + within_s * min(1.0, chance.uniform(0, 1.5))
            )
            for user, at in self.sessions.items()
        }

    def _look(self) -> None:
        """Be the daemon."""
        engine, rules = self.world.engine, self.world.rules
        if not self.has_engine:
            self.note_outage()
            if not rules.counts_again:
                self.members.heard(self.now)
            self._start(self._standing(), list(self.copy.values()))
            return
        state = engine.state()
        if not rules.waits_for_epoch:
            state = dataclasses.replace(state, settled=True)
        self.members.observe(state, self.now)
        standing = self._standing()
        self.established, self.remembered = self.members.established, self.members.awaited
        if not engine.holds(self.name, self.incarnation):
            return
        if not engine.settled and self.name not in engine.confirmed:
            for row in self.copy.values():
                engine.reclaim(row)
            engine.confirmed.add(self.name)
            engine.changed()
        elif standing.settle:
            engine.settled = True
            engine.changed()
        elif standing.unsettled is None:
            mine = [row for row in state.rows if row.host == self.name]
            self.copy = {row.user: row for row in mine}
            self._stop_others()
            self._drain(state)
            self._start(standing, mine)
            self._take(state, standing)

    def _standing(self) -> Standing:
        standing = self.members.standing(self.now)
        if not self.world.rules.brake:
            standing = dataclasses.replace(standing, brake=None)
        if not self.world.rules.newcomers_wait:
            standing = dataclasses.replace(standing, newcomer=None)
        return standing

    def _take(self, state: State, standing: Standing) -> None:
        for row in takeovers(self.name, state, standing.takeable).due:
            if row.host not in self.world.engine.data.leases and self.world.engine.move(row, self.name):
                self.world.check_take(self, row)

    def _stop_others(self) -> None:
        for user, at in self.sessions.items():
            if user not in self.copy and at is None:
                self.sessions[user] = self.now + STOP_S

    def _start(self, standing: Standing, mine: list[Row]) -> None:
        if standing.unsettled or self.incarnation is None:
            return
        starting = sum(user in self.sessions and at > self.now for user, at in self.ready_at.items())
        for row in mine:
            if row.user in self.sessions or row.user in self.leaving or starting >= self.world.slots:
                continue
            if self.has_engine and not self.world.engine.count_start(row):
                continue  # the row has changed since
            starting += 1
            self.sessions[row.user] = None
            self.ready_at[row.user] = self.now + self.world.chance.uniform(*self.world.start_s)

    def _drain(self, state: State) -> None:
        draining = any(host.name == self.name and host.state == HostState.DRAINING for host in state.hosts)
        if draining:
            for move in next_moves(self.name, state, at_once=4, under_way=self.leaving).moves:
                self.leaving[move.row.user] = move.host
        fit = {host.name for host in state.hosts if is_open(host)}
        for user, target in list(self.leaving.items()):
            if user not in self.copy or not draining or target not in fit:
                del self.leaving[user]
            elif user not in self.sessions:
                # Whether it happened shows in the next state; until then the user is not started.
                self.world.engine.move(self.copy[user], target)
            elif self.sessions[user] is None:
                self.sessions[user] = self.now + self.world.chance.uniform(1, STOP_S)
