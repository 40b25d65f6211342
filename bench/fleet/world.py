"""A simulated fleet, the time, and what must hold in each step."""

from __future__ import annotations

import random

from bench.fleet.engine import STEP_S, Data, Engine
from bench.fleet.machine import Machine, Rules
from waportd.fleet.engine import HostState, Row

DRIFT = 0.1
"""How far the rate of a clock may be off."""
WELL = Rules()


class Broken(Exception):
    """A rule of the fleet does not hold."""


class World:
    """A fleet, and the time."""

    def __init__(
        self, seed: int, hosts: int, users: int, rules: Rules = WELL, *, on_first: bool = False
    ) -> None:
        """``on_first`` puts all users on the first host, otherwise they are spread."""
        self.chance = random.Random(seed)
        self.rules = rules
        self.time = 0.0
        self.slots, self.start_s = 10_000, (0.0, 0.0)
        self.engine = Engine(self.rate(), capacity=2 * users)
        self.machines: list[Machine] = []
        self.down: dict[str, float] = {}
        """Users without a session that is ready, and since when."""
        self.outages: list[float] = []
        """Seconds that each user was down, each time it was."""
        self.takes = 0
        self.backup: Data | None = None
        names = [f"h{number:03}" for number in range(hosts)]
        self.engine.data.hosts = dict.fromkeys(names, HostState.ACTIVE)
        for name in names:
            self.machines.append(Machine(self, name, established=True))
        for number in range(users):
            host = names[0] if on_first else names[number % hosts]
            self.engine.put(Row(f"u{number}", 5000 + number, host, token=1, document={"linked": True}))

    def rate(self) -> float:
        """Return the rate of somebody's clock."""
        return 1 + self.chance.uniform(-DRIFT, DRIFT)

    def named(self, name: str) -> Machine:
        """Return a host."""
        return next(machine for machine in self.machines if machine.name == name)

    def answering(self, name: str) -> Machine | None:
        """Return the host which answers its peers at the address of that name."""
        machine = next((each for each in self.machines if each.name == name and each.on), None)
        return machine if machine and machine.reaches_peers and not machine.keeper_stopped else None

    def evict(self, name: str) -> None:
        """Take a host for dead, as an administrator does."""
        self.engine.data.hosts[name] = HostState.LEFT
        self.engine.changed()

    def join(self, name: str, *, like: Machine | None = None) -> Machine:
        """Add a host, or a machine that is a copy of one."""
        if like is None:
            self.engine.data.hosts[name] = HostState.ACTIVE
            self.engine.changed()
        machine = Machine(self, name, established=like is not None and like.established)
        if like is not None:
            machine.copy, machine.remembered = dict(like.copy), like.remembered
        self.machines.append(machine)
        return machine

    def run(self, seconds: float) -> None:
        """Let time pass. Raises Broken."""
        for _ in range(int(seconds / STEP_S)):
            self.time += STEP_S
            self.engine.step()
            for machine in self.machines:
                machine.step()
            self._check()

    def _check(self) -> None:
        owners: dict[str, Machine] = {}
        ready = set()
        for machine in self.machines:
            for user, dead_at in machine.sessions.items():
                if dead_at is not None and dead_at <= machine.now:
                    continue
                if user in owners:
                    raise Broken(
                        f"at {self.time:.1f} s user {user} runs on {owners[user].name} and on {machine.name}"
                    )
                owners[user] = machine
                if dead_at is None and machine.ready_at[user] <= machine.now:
                    ready.add(user)
        for user in self.engine.data.rows:
            if user not in ready:
                self.down.setdefault(user, self.time)
            elif user in self.down:
                self.outages.append(self.time - self.down.pop(user))

    def check_take(self, machine: Machine, row: Row) -> None:
        """Check that a user may be taken, by what the engine has. Raises Broken."""
        self.takes += 1
        members = [name for name, state in self.engine.data.hosts.items() if state != HostState.LEFT]
        silent = [name for name in members if name not in self.engine.data.leases]
        if 2 * len(silent) > len(members):
            raise Broken(
                f"at {self.time:.1f} s {machine.name} takes {row.user} of {row.host}, "
                f"while {len(silent)} of {len(members)} members are silent"
            )
