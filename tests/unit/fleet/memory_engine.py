"""An engine in memory, whose calls a test can have hang, fail, lose their answer, or happen late."""

import asyncio
import dataclasses

from waportd.fleet.engine import Conflict, EngineUnavailable, Host, HostState, Lease, LeaseLost, State

GOING, COMING = "going", "coming"
"""The two ways of a call: before it has happened, and after it."""


class MemoryEngine:
    """What all hosts share. A `Client` is the way of one host to it."""

    def __init__(self):
        self.state = State((), (), 1, "e1", settled=True)
        self.late = []
        """Calls that stand in some member, and may yet happen."""

    def next(self, **values):
        self.state = dataclasses.replace(self.state, revision=self.state.revision + 1, **values)
        leases = self.state.leases
        hosts = tuple(
            dataclasses.replace(one, alive=one.name in leases, incarnation=leases.get(one.name))
            for one in self.state.hosts
        )
        self.state = dataclasses.replace(self.state, hosts=hosts)
        return self.state.revision

    def set_up(self, name, state=HostState.ACTIVE, capacity=100):
        """Have a host be one of the fleet, or change its state."""
        seen = next((one.revision for one in self.state.hosts if one.name == name), 0)
        host = Host(name, "192.0.2.1:7467", HostState(state), "2", capacity, 0.0, False, None, seen)
        self.describe(host)

    def describe(self, host):
        seen = next((one.revision for one in self.state.hosts if one.name == host.name), 0)
        if seen != host.revision:
            raise Conflict(f"host {host.name} was changed since it was read")
        host = dataclasses.replace(host, revision=self.state.revision + 1)
        hosts = {one.name: one for one in self.state.hosts} | {host.name: host}
        self.next(hosts=tuple(hosts[name] for name in sorted(hosts)))
        return host

    def settle(self, lease):
        self.next(settled=True)

    def acquire(self, name, _ttl_s=45.0):
        revision = self.next()
        self.next(leases={**self.state.leases, name: revision})
        return Lease(name, revision, revision, 45.0)

    def lose(self, name):
        """Have a host's lease end."""
        self.next(leases={each: one for each, one in self.state.leases.items() if each != name})

    def release(self, lease):
        self.lose(lease.host)

    def owners(self):
        return {row.user: row.host for row in self.state.rows}

    def delete(self, row):
        seen = self.row(row.user)
        if (seen.revision if seen else 0) != row.revision:
            raise Conflict(f"user {row.user} was changed")
        self.next(rows=tuple(one for one in self.state.rows if one.user != row.user))

    def deliver(self):
        """Have the calls happen that stood in some member, as far as their conditions hold."""
        for call in self.late:
            try:
                call()
            except (Conflict, LeaseLost):
                continue
        self.late.clear()

    def row(self, user):
        return next((row for row in self.state.rows if row.user == user), None)

    def put(self, row):
        others = tuple(one for one in self.state.rows if one.user != row.user)
        row = dataclasses.replace(row, revision=self.state.revision + 1)
        self.next(rows=(*others, row))
        return row

    def check(self, lease, row):
        if self.state.leases.get(lease.host) != lease.incarnation:
            raise LeaseLost(f"host {lease.host} has lost its lease")
        seen = self.row(row.user)
        if (seen.revision if seen else 0) != row.revision:
            raise Conflict(f"user {row.user} was changed")

    def create(self, lease, row):
        self.check(lease, row)
        return self.put(dataclasses.replace(row, host=lease.host, token=self.state.revision + 1))

    def update(self, lease, row):
        self.check(lease, row)
        if row.host != lease.host:
            raise Conflict(f"user {row.user} is on host {row.host}")
        return self.put(row)

    def move(self, lease, row, host):
        self.check(lease, row)
        if host not in self.state.leases or (row.host != lease.host and row.host in self.state.leases):
            raise Conflict("a host that must be alive has no lease, or one that must be dead has one")
        return self.put(dataclasses.replace(row, host=host, token=self.state.revision + 1))

    def write(self, fact):
        seen = self.state.facts.get(fact.name)
        if (seen.revision if seen else 0) != fact.revision:
            raise Conflict(f"{fact.name} was changed")
        fact = dataclasses.replace(fact, revision=self.state.revision + 1)
        self.next(facts={**self.state.facts, fact.name: fact})
        return fact

    def erase(self, name):
        if name in self.state.facts:
            self.next(facts={each: fact for each, fact in self.state.facts.items() if each != name})

    def order(self, order):
        seen = self.state.orders.get(order.user)
        if (seen.revision if seen else 0) != order.revision:
            raise Conflict("another order was given")
        order = dataclasses.replace(order, revision=self.state.revision + 1)
        self.next(orders={**self.state.orders, order.user: order})
        return order


class Client:
    """One host's way to the engine. ``fault(call, way)`` is a coroutine function that is awaited on each way."""

    def __init__(self, engine):
        self._engine = engine
        self.away = False
        self.faults = {}
        """By call and way: what is awaited there."""
        self.noticed = lambda call, way: asyncio.sleep(0)

    def __getattr__(self, name):
        call = getattr(self._engine, name)

        async def made(*arguments):
            await self._way(name, GOING, lambda: call(*arguments))
            result = call(*arguments)
            await self._way(name, COMING, lambda: None)
            return result

        return made

    async def _way(self, name, way, call):
        if self.away:
            raise EngineUnavailable("nobody answers")
        await self.noticed(name, way)
        if fault := self.faults.get((name, way)):
            await fault(call)

    async def state(self):
        await self._way("state", GOING, lambda: None)
        return self._engine.state

    async def close(self):
        """Nothing: there is no connection."""

    async def epoch(self):
        await self._way("epoch", GOING, lambda: None)
        return self._engine.state.epoch

    def hold(self, call):
        """Keep a call in some member: it is not answered, and may happen later."""
        self._engine.late.append(call)
        raise EngineUnavailable("no answer")


async def unanswered(_call):
    raise EngineUnavailable("no answer")
