"""Hosts of a fleet that talk over real TLS, each on an address of its own of the loopback network."""

import contextlib
import socket

from certified import FLEET
from testbed.ports import own_address

from waportd.fleet.engine import EngineUnavailable, Host, HostState, Lease, LeaseLost
from waportd.fleet.identity import CA_FILE, HOST_FILE, Identity
from waportd.fleet.peer_calls import Reach
from waportd.fleet.peer_server import PeerServer
from waportd.fleet.peers import Peers

EPOCH = "cluster-1"


def identity(folder, name, *, authority=FLEET, now=None):
    """Return who a host is to others, by a certificate of that name, which was made then by that CA."""
    folder = folder / f"{name}-{authority.fleet}-{now and now.year}"
    folder.mkdir(exist_ok=True)
    (folder / CA_FILE).write_bytes(FLEET.pem)
    (folder / HOST_FILE).write_bytes(authority.issue(name, now=now))
    return Identity.load(folder, name)


class Leases:
    """What an engine has to renew a lease with; and what a host says about itself."""

    def __init__(self, name):
        self.name = name
        self.reached = True
        self.leases = {}
        self.renewed = []
        self.outages = 0

    async def renew(self, lease):
        if not self.reached:
            raise EngineUnavailable("the engine did not answer", hint="look at it")
        if self.leases.get(lease.host) != lease:
            raise LeaseLost(f"{lease.host} has no such lease", hint="start again")
        self.renewed.append(lease)

    def reach(self):
        return Reach(self.name, self.reached, 7, EPOCH)

    def note_outage(self):
        self.outages += 1


class Fleet:
    """Some hosts that know one another. Each test breaks what it is about."""

    def __init__(self, folder):
        self.folder = folder
        self.hosts = {}
        self.answers = {}
        self._servers = []
        self._open = contextlib.AsyncExitStack()

    def members(self):
        return self.hosts

    def know(self, name, address="127.0.0.1:1", state=HostState.ACTIVE):
        """Put a host on the list of members."""
        self.hosts[name] = Host(name, address, state, "1.0", 100, 0.0, alive=True, incarnation=7)

    async def serve(self, name, port=0, **options):
        """Have a host answer, on an address of its own."""
        listener = socket.create_server((own_address(len(self._servers) % 4), port))
        self.know(name, "{}:{}".format(*listener.getsockname()))
        self.answers[name] = answers = Leases(name)
        who = options.pop("identity", None) or identity(self.folder, name)
        answers = options.pop("answers", answers)
        server = PeerServer(who, self.members, answers, **options)
        self._servers.append(server)
        await server.start(listener)
        self._open.push_async_callback(server.close)
        return server

    def peers(self, name="a", **options):
        """Return the side of a host that asks."""
        self.hosts.get(name) or self.know(name)
        who = options.pop("identity", None) or identity(self.folder, name)
        peers = Peers(who, self.members, **options)
        self._open.push_async_callback(peers.close)
        return peers

    def lease(self, name="a", number=1):
        """Give a host a lease that every other host's engine knows."""
        lease = Lease(name, number, 7, 45.0)
        for answers in self.answers.values():
            answers.leases[name] = lease
        return lease

    async def close(self):
        await self._open.aclose()
