"""Hosts of one fleet as web apps see them: the whole API on fakes, with real TLS from daemon to daemon.

What an engine would do is played: all hosts see one state at once.
"""

import asyncio
import contextlib
import dataclasses
import socket
from types import SimpleNamespace

import aiohttp
from contract import keeps_its_word
from fakes import FakeSystemd, MemoryStore, Messages
from fleet_states import fleet as state_of
from memory_engine import Client, MemoryEngine
from support import access_for, settled
from talking import identity
from testbed.ports import free_port, own_address

from waportd.api.server import ApiServer, make_app
from waportd.config import PortRange
from waportd.fleet import addresses
from waportd.fleet.between_hosts import BetweenHosts
from waportd.fleet.engine import Host, HostState, Row
from waportd.fleet.forwarded_ports import ForwardedPorts
from waportd.fleet.holdings import Holdings, opened
from waportd.fleet.object_server import ObjectServer
from waportd.fleet.others import Others
from waportd.fleet.port_calls import PortCalls
from waportd.fleet.record import document_of
from waportd.fleet.remote_objects import RemoteObjects
from waportd.host import SingleHost
from waportd.model import Assignment, Port, User
from waportd.shortcuts import ALL
from waportd.supervisor import Supervisor


class Fleet:
    """Some hosts; each test breaks what it is about."""

    def __init__(self, folder, config):
        self.folder, self.config = folder, config
        self.engine = MemoryEngine()
        self.state = state_of((), revision=1)
        self.sites = {}
        self._open = contextlib.AsyncExitStack()

    @property
    def state(self):
        return self.engine.state

    @state.setter
    def state(self, state):
        self.engine.state = state

    async def add(self, name, **options):
        """Have one more host, which serves."""
        self.sites[name] = site = Site(self, name, len(self.sites), **options)
        await site.open(self._open)
        return site

    def describe(self, name, **values):
        """Change what is known of a host."""
        hosts = {host.name: host for host in self.state.hosts}
        hosts[name] = dataclasses.replace(hosts[name], **values)
        leases = {each.name: 7 for each in hosts.values() if each.alive}
        self.state = dataclasses.replace(self.state, hosts=tuple(hosts.values()), leases=leases)

    def know(self, name, address, capacity=100):
        host = Host(name, address, HostState.ACTIVE, "1.0", capacity, 0.0, alive=True, incarnation=7)
        leases = {**self.state.leases, name: 7}
        self.state = dataclasses.replace(self.state, hosts=(*self.state.hosts, host), leases=leases)

    def put(self, row):
        rows = {one.user: one for one in self.state.rows} | {row.user: row}
        self.state = dataclasses.replace(self.state, rows=tuple(rows.values()))

    def coming(self, user, site):
        """Have a linked user be a host's, who is not there yet; return the assignment."""
        assignment = Assignment(User(user), Port(site.config.ports.base + 5), linked=True)
        self.put(Row(user, assignment.port, site.name, document=document_of(assignment)))
        return assignment

    def row(self, user):
        return next(row for row in self.state.rows if row.user == user)

    def remove(self, user):
        if self.state is not None:
            rows = tuple(row for row in self.state.rows if row.user != user)
            self.state = dataclasses.replace(self.state, rows=rows)

    async def close(self):
        await self._open.aclose()


class Seen:
    """What one host has seen of the fleet: all, or an older state until it asks."""

    def __init__(self, fleet):
        self.fleet, self.older, self.asked = fleet, None, 0

    @property
    def state(self):
        return self.older or self.fleet.state

    async def refresh(self):
        self.older = None
        self.asked += 1
        return self.fleet.state


class Following:
    """Reports at once what has changed."""

    def __init__(self, fleet):
        self.fleet = fleet

    @property
    def state(self):
        return self.fleet.state

    def subscribe(self):
        changed = asyncio.Event()
        changed.set()
        return changed


class Store(MemoryStore):
    """Puts its users on the list of the fleet."""

    def __init__(self, fleet, name):
        super().__init__()
        self.fleet, self.name = fleet, name

    async def put(self, assignments):
        await super().put(assignments)
        for one in assignments:
            self.fleet.put(Row(one.user, one.port, self.name, document=document_of(one)))

    async def remove(self, user):
        await self.give_away(user)
        self.fleet.remove(user)

    async def give_away(self, user):
        """Forget a user who belongs to another host now."""
        await super().remove(user)


class Site:
    """One host: its daemon, and a client on its unix socket."""

    def __init__(self, fleet, name, number, *, capacity=100, serves=True):
        self.fleet, self.name, self.capacity, self.serves = fleet, name, capacity, serves
        base = fleet.config.ports.base + 20 * number
        self.config = dataclasses.replace(
            fleet.config,
            store=dataclasses.replace(fleet.config.store, directory=fleet.folder / name),
            ports=dataclasses.replace(
                fleet.config.ports,
                base=base,
                range=PortRange(base, base + 10),
                overflow=PortRange(base + 11, base + 19),
            ),
        )
        self.socket = fleet.folder / f"{name}.sock"

    async def open(self, stack):
        (self.fleet.folder / self.name / "instances").mkdir(parents=True)
        who = identity(self.fleet.folder, self.name)
        self.way = Client(self.fleet.engine)
        self.others = Others(
            who, self.way, lambda: self.fleet.state, lambda row: row.user not in self.store.rows
        )
        stack.push_async_callback(self.others.close)
        host = SingleHost(self.config.store.instances)
        host.fleet = self.others
        self.store = Store(self.fleet, self.name)
        self.systemd = FakeSystemd()
        stack.push_async_callback(self.systemd.close)
        self.supervisor = Supervisor(self.config, self.store, self.systemd, ALL, host)
        stack.push_async_callback(self.supervisor.close)
        await self.supervisor.start()
        await settled(self.supervisor)
        self.access = access_for(store=self.store)
        app = make_app(self.supervisor, self.access)
        app.middlewares.insert(1, keeps_its_word)
        self.server = ApiServer(app)
        self.port_calls = PortCalls(self.supervisor.registry, self.others.admit)
        stack.push_async_callback(self.port_calls.close)
        stack.push_async_callback(self.end)
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(self.socket))
        tcp = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{tcp.getsockname()[1]}"
        await self.server.start([unix, tcp])
        here = own_address()
        self.door = (here, free_port(here))
        address, port = self.door
        self.fleet.know(self.name, f"{address}:{port - addresses.DAEMON}", self.capacity)
        self.tls = who.server
        if self.serves:
            self.keep()
            self.open_to_hosts()
        connector = aiohttp.UnixConnector(str(self.socket), limit=0)
        self.api = await stack.enter_async_context(
            aiohttp.ClientSession("http://localhost", connector=connector)
        )
        self.tcp = await stack.enter_async_context(aiohttp.ClientSession(self.url))

    def open_to_hosts(self):
        """Begin to answer the other hosts."""
        self.server.start_for_hosts(socket.create_server(self.door), self.tls, self.answer)

    def keep(self):
        """Begin to keep objects for the others, as after a start."""
        self.kept = self.fleet.folder / self.name / "snapshots"
        self.seen, self.now = Seen(self.fleet), 0.0
        self.holdings = Holdings(self.name, opened(self.kept), self.seen, clock=lambda: self.now)
        self.objects = ObjectServer(self.holdings, self.others.admit)

    async def answer(self, call):
        """Answer a call that another host makes for itself."""
        return await BetweenHosts(self.port_calls, self.objects).answer(call)

    def forwarded(self, **options):
        """Return the ports of other hosts' users on this one."""
        here = SimpleNamespace(name=self.name, follower=Following(self.fleet), store=self.store)
        options = {"permits": self.access.permits_at_servers} | options
        return ForwardedPorts(here, self.others, **options)

    def store_on(self, host):
        """Return the store of another host, as this one uses it."""
        return RemoteObjects(self.others, host)

    async def end(self):
        """End as the daemon does."""
        if self.supervisor.registry.released:
            return
        self.supervisor.registry.release()
        await self.server.drain()
        await self.server.close()

    async def call(self, method, path, expected=200, *, over=None, **options):
        """Call this host; return what it answers."""
        async with (over or self.api).request(method, path, **options) as answer:
            content = await answer.read()
            assert answer.status == expected, content
            return await answer.json(content_type=None) if content else None

    async def has(self, user):
        """Have a user."""
        return await self.call("PUT", f"/v1/users/{user}?wait=none", 201)

    def linked(self, user):
        """Have a user whose server answers about messages."""
        messages = Messages()
        self.systemd.prepare = lambda server: setattr(server, "on_messages", messages.handle)
        return messages
