"""Two whole daemons on a real etcd, but for systemd: a web app asks one, and the one that has the user answers."""

import asyncio
import contextlib
import socket
import time

import aiohttp
import pytest
from fakes import FakeSystemd
from support import config_in
from talking import identity
from test_agent import FAILOVER_AFTER_S, TTL_S, Machine, until
from testbed.ports import free_port, own_address

from waportd.api.access import Access
from waportd.api.server import ApiServer, make_app
from waportd.fleet import addresses
from waportd.fleet.agent import Agent
from waportd.fleet.boot_clock import BootClock
from waportd.fleet.chunks import FleetKeys
from waportd.fleet.engine import Host, HostState
from waportd.fleet.facts import Facts
from waportd.fleet.host import FleetHost
from waportd.fleet.lease import OwnLease
from waportd.fleet.membership import Membership
from waportd.fleet.moves import Moves
from waportd.fleet.others import Others
from waportd.shortcuts import ALL
from waportd.store import SqliteStore
from waportd.supervisor import Supervisor

RELEASE = "trixie"
KEYS = FleetKeys.create()


class Daemon(Machine):
    """A host whose users are those of a whole daemon, with a client on its unix socket."""

    def __init__(self, site, name, folder, address):
        super().__init__(site, name, folder)
        self.address = address
        self.stack = contextlib.AsyncExitStack()
        self.config = config_in(folder)

    async def serve(self, *, established=True):
        stack = self.stack
        local = await SqliteStore.open(self.folder / "waportd.db")
        stack.push_async_callback(local.close)
        own = OwnLease(self.runtime, BootClock())
        stack.callback(own.close)
        membership = Membership(
            self.name,
            ttl_s=TTL_S,
            failover_after_s=FAILOVER_AFTER_S,
            established=established,
            remembered=frozenset({"a", "b"}),
        )
        who = identity(self.folder, self.name)
        engine = self.site.engine()
        others = Others(who, engine, lambda: self.host.follower.state, self.is_coming)
        stack.push_async_callback(others.close)
        self.host = FleetHost(self.name, engine, local, own, membership, time.monotonic, others)
        systemd = FakeSystemd()
        stack.push_async_callback(systemd.close)
        self.supervisor = Supervisor(self.config, self.host.store, systemd, ALL, self.host)
        stack.push_async_callback(self.supervisor.close)
        await self.supervisor.start()
        facts = Facts(local, engine, KEYS, self.host.follower)
        self.server = ApiServer(make_app(self.supervisor, Access((), *await facts.load())))
        stack.push_async_callback(self.server.close)
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(self.folder / "api.sock"))
        tcp = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{tcp.getsockname()[1]}"
        await self.server.start([unix, tcp])
        self.server.start_for_hosts(addresses.listen(self.address, addresses.DAEMON), who.server)
        connector = aiohttp.UnixConnector(str(self.folder / "api.sock"))
        self.api = await stack.enter_async_context(
            aiohttp.ClientSession("http://localhost", connector=connector)
        )
        moves = Moves(engine, self.host.store, self.supervisor, lambda: 4, save=None)
        stack.push_async_callback(moves.close)
        self.tcp = await stack.enter_async_context(aiohttp.ClientSession(self.url))
        self._begin("daemon", Agent(self.host, self.supervisor, moves, common=facts).run())
        self._begin("facts", facts.run())

    async def end(self, name):
        parts = ("daemon", "facts") if name == "daemon" else (name,)
        tasks = {self.tasks.pop(part) for part in parts if part in self.tasks}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if name == "daemon":
            await self.stack.aclose()

    def is_coming(self, row):
        return self.host.store.is_coming(row)

    async def call(self, method, path, given=None):
        """Return status and document of a call of this host."""
        async with self.api.request(method, path, json=given) as answer:
            return answer.status, await answer.json(content_type=None)

    async def status(self, path, token=None):
        """Return the status of a call over TCP."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.tcp.get(path, headers=headers) as answer:
            return answer.status


@pytest.fixture
async def daemons(site, tmp_path):
    engine = site.engine()
    two = []
    for number, name in enumerate("ab", 1):
        here = own_address(number)
        address = f"{here}:{free_port(here) - addresses.DAEMON}"
        two.append(Daemon(site, name, tmp_path / name, address))
        await two[-1].keep()
        await engine.describe(Host(name, address, HostState.ACTIVE, "2.0.0", 100, 1.5, False, None))
    await engine.state()
    await engine.settle(two[0].lease)
    for daemon in two:
        await daemon.serve()
        await until(lambda daemon=daemon: daemon.host.follower.state, "the first look")
    yield two
    for daemon in two:
        await daemon.power_off()


async def test_a_web_app_that_knows_one_host_has_the_users_of_all(daemons):
    a, b = daemons
    made = {}
    for number in range(1, 13):
        status, user = await a.call("PUT", f"/v1/users/{number}?wait=none")
        assert status == 201
        made[user["user"]] = user["host"]
        # At once, by the same way.
        assert (await a.call("GET", f"/v1/users/{number}"))[1]["host"] == user["host"]
    assert set(made.values()) == {"a", "b"}, "each has its share"
    assert {str(one.assignment.user) for one in b.supervisor.registry} == {u for u in made if made[u] == "b"}
    for daemon in daemons:
        status, listed = await daemon.call("GET", "/v1/users")
        assert {user["user"]: user["host"] for user in listed["users"]} == made
    there = next(user for user in made if made[user] == "b")
    assert (await a.call("DELETE", f"/v1/users/{there}"))[0] == 204
    assert (await b.call("GET", f"/v1/users/{there}"))[0] == 404


async def test_a_token_and_a_link_are_good_on_every_host_until_they_are_deleted_on_one(daemons):
    a, b = daemons
    for user in range(1, 7):
        await a.call("PUT", f"/v1/users/{user}?wait=none")
    # The user is on one of them, and the token and the link of the other: neither cares.
    _, made = await a.call("POST", "/v1/tokens", {"name": "web app", "scope": "user:3"})
    _, link = await b.call("POST", "/v1/users/3/connect-link")
    path = f"/v1/users/3/qr?{link['path'].partition('?')[2]}".replace("user=3&", "")

    async def all_say(token, connect):
        said = [
            (await one.status("/v1/users/3", made["token"]) == 200, await one.status(path) != 403)
            for one in daemons
        ]
        return said == [(token, connect)] * 2

    await until(lambda: all_say(True, True), "both on both hosts")
    assert (await b.call("DELETE", f"/v1/tokens/{made['id']}"))[0] == 204
    assert await b.status("/v1/users/3", made["token"]) == 401
    await until(lambda: all_say(False, True), "the end of the token")
    assert (await a.call("DELETE", "/v1/connect-links"))[0] == 204
    assert await a.status(path) == 403
    await until(lambda: all_say(False, False), "the end of the link")


async def test_while_a_host_is_dead_that_is_said_and_then_its_users_answer_from_another(daemons):
    a, b = daemons
    there = None
    for number in range(1, 20):
        _, user = await a.call("PUT", f"/v1/users/{number}?wait=none")
        if user["host"] == "b":
            there = user["user"]
            break
    await b.power_off()
    status, said = await a.call("GET", f"/v1/users/{there}")
    assert (status, said["code"]) == (503, "host_silent")

    async def is_back():
        status, user = await a.call("GET", f"/v1/users/{there}")
        return status == 200 and user["host"] == "a"

    _, listed = await a.call("GET", "/v1/users")
    states = {user["user"]: user["process"]["state"] for user in listed["users"]}
    assert states[there] == "unreachable"
    await until(is_back, "the takeover")
