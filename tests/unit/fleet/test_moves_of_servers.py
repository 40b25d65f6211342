"""Users who leave a host: what its supervisor and its lease do about their servers, which are played."""

import asyncio

import pytest
from memory_engine import COMING, GOING, Client, MemoryEngine, unanswered
from support import BASE, is_process, until

from waportd.fleet.agent import Agent
from waportd.fleet.boot_clock import BootClock
from waportd.fleet.engine import EngineUnavailable, Order
from waportd.fleet.host import FleetHost
from waportd.fleet.lease import Held, LeaseFolder, OwnLease
from waportd.fleet.membership import Membership
from waportd.fleet.moves import Moves
from waportd.model import Port, ProcessState, User
from waportd.readiness import Wait
from waportd.shortcuts import ALL
from waportd.store import SqliteStore
from waportd.supervisor import Supervisor

ONE, PORT = User("1"), Port(BASE)


class Site:
    """One host of two."""

    async def start(self, config, systemd, folder):
        self.engine, self.systemd, self.run = MemoryEngine(), systemd, folder / "run"
        self.run.mkdir()
        lease = self.engine.acquire("a")
        self.engine.acquire("b")
        for name in "ab":
            self.engine.set_up(name)
        clock = BootClock()
        with LeaseFolder(self.run) as run:
            run.keep(Held(lease, clock.now_s() + 1_000, clock.boot_id()))
        self.own = OwnLease(self.run, clock)
        self.client = Client(self.engine)
        membership = Membership("a", ttl_s=45.0, failover_after_s=15.0, established=True)
        local = await SqliteStore.open(folder / "fleet.db")
        self.host = FleetHost("a", self.client, local, self.own, membership, lambda: 1_000.0)
        self.supervisor = Supervisor(config, self.host.store, systemd, ALL, self.host)
        await self.supervisor.start()
        self.saved = []
        self.moves = Moves(self.client, self.host.store, self.supervisor, lambda: 2, self.save)
        self.agent = Agent(self.host, self.supervisor, self.moves)
        await self.look()

    async def save(self, user):
        assert PORT not in self.systemd.servers
        self.saved.append(user)

    async def look(self):
        await self.host.follower.refresh()
        await self.agent.look()
        await self.moves.idle()

    async def link(self):
        self.systemd.prepare = lambda server: server.link()
        await self.supervisor.ensure(ONE, wait=Wait.READY)
        await until(self.supervisor, ONE, lambda now: now.assignment.linked)
        await self.host.store.send()

    def order(self):
        return self.engine.order(Order("1", "b", self.engine.row("1").token))

    def environment(self):
        return (self.run / f"{PORT}.env").exists()

    async def close(self):
        await self.moves.close()
        await self.supervisor.close()
        await self.host.store.close()
        self.own.close()


@pytest.fixture
async def site(config, systemd, tmp_path):
    site = Site()
    await site.start(config, systemd, tmp_path)
    await site.link()
    yield site
    await site.close()


async def test_who_leaves_has_no_server_here_and_no_environment(site):
    assert site.environment()
    site.order()
    await site.look()
    assert site.engine.owners() == {"1": "b"}
    assert (site.saved, site.environment(), site.systemd.servers) == ([ONE], False, {})
    assert site.supervisor.registry.get(ONE) is None
    assert site.engine.row("1").document["linked"]


@pytest.mark.parametrize("way", [GOING, COMING])
async def test_a_server_starts_again_once_the_engine_has_said_that_its_user_has_stayed(site, way):
    site.client.faults["move", way] = unanswered
    site.client.faults["update", GOING] = unanswered
    site.order()
    await site.look()
    await asyncio.gather(site.supervisor.poll(ONE), return_exceptions=True)
    await site.supervisor.idle()
    assert (site.environment(), site.systemd.servers) == (False, {})
    site.client.faults.clear()
    await site.look()
    await site.look()
    if way == COMING:
        assert (site.engine.owners(), site.supervisor.registry.get(ONE)) == ({"1": "b"}, None)
        assert (site.environment(), site.systemd.servers) == (False, {})
    else:
        await until(site.supervisor, ONE, is_process(ProcessState.RUNNING))
        assert site.environment()


async def test_while_nobody_knows_a_server_that_is_asked_for_does_not_start(site):
    site.client.faults["move", GOING] = unanswered
    site.client.faults["update", GOING] = unanswered
    site.order()
    await site.look()
    with pytest.raises(EngineUnavailable):
        await site.look()
    with pytest.raises(Exception, match="may be on another host by now"):
        await site.supervisor.start_server(ONE)
    assert site.systemd.servers == {}
