"""The program of waportd-lease.service, for the host and the engine that fleet.yaml names.

It also answers the other hosts: whether the daemon runs or not, they need an answer when they do not reach the engine.
"""

import logging
import os
import sys
from pathlib import Path

from waportd.errors import WaportdError
from waportd.fleet import addresses
from waportd.fleet.engine import Lease
from waportd.fleet.etcd import Etcd
from waportd.fleet.failsafe import Peers as Others
from waportd.fleet.host_list import HostList
from waportd.fleet.identity import Identity
from waportd.fleet.keeper import ExitStatus, Leases
from waportd.fleet.lease import LeaseFolder
from waportd.fleet.peer_calls import Reach
from waportd.fleet.peer_server import PeerServer
from waportd.fleet.peers import Peers
from waportd.fleet.program import main
from waportd.fleet.settings import Settings
from waportd.fleet.timing import Timing

log = logging.getLogger(__name__)

FOLDER = Path(os.environ.get("WAPORTD_FLEET", "/etc/waportd/fleet"))


class OwnLeases:
    """The engine, for the keeper: who renews reads the list of hosts, too, and so knows which ones to ask when it is away."""

    def __init__(self, engine: Etcd, hosts: HostList) -> None:
        self._engine = engine
        self._hosts = hosts
        self.lease: Lease | None = None
        """The one that was taken or renewed last."""
        self.is_reached = False

    async def acquire(self, host: str, ttl_s: float) -> Lease:
        """Return a new lease. Raises NameTaken, EngineUnavailable."""
        self.is_reached = False
        self.lease = await self._engine.acquire(host, ttl_s)
        return self.lease

    async def renew(self, lease: Lease) -> None:
        """Give the lease its whole time again. Raises LeaseLost, EngineUnavailable."""
        self.is_reached = False
        self._hosts.replace(await self._engine.renewed(lease))
        self.lease, self.is_reached = lease, True

    async def release(self, lease: Lease) -> None:
        """End the lease now. Raises EngineUnavailable."""
        await self._engine.release(lease)


class Answers:
    """What this host does for the others."""

    def __init__(self, name: str, engine: Etcd, own: OwnLeases, folder: LeaseFolder) -> None:
        self._name = name
        self._engine = engine
        self._own = own
        self._folder = folder

    async def renew(self, lease: Lease) -> None:
        """Renew the lease of another host. Raises LeaseLost, EngineUnavailable."""
        await self._engine.renew(lease)

    def reach(self) -> Reach:
        """Return whether this host reaches the engine."""
        lease = self._own.lease
        return Reach(self._name, self._own.is_reached, lease.incarnation if lease else None, None)

    def note_outage(self) -> None:
        """Have the daemon count silence again."""
        self._folder.note_outage()


def run() -> None:
    """Hold the lease of this host."""
    try:
        settings = Settings.load(FOLDER)
        if settings is None:
            sys.exit(f"{FOLDER} has no fleet.yaml: this host belongs to no fleet")
        identity, timing = Identity.load(FOLDER, settings.name), Timing.from_environment()
        tls = settings.tls()
    except WaportdError as error:
        print(f"{error}; {error.hint}", file=sys.stderr)  # noqa: T201
        sys.exit(ExitStatus.REFUSED)

    async def connect() -> tuple[Leases, Others]:
        hosts = HostList()
        engine = Etcd(settings.engine, tls=tls, prefix=settings.prefix, limit_s=timing.call_s)
        own = OwnLeases(engine, hosts)
        folder = LeaseFolder(Path(os.environ["RUNTIME_DIRECTORY"]))
        answers = Answers(settings.name, engine, own, folder)
        server = PeerServer(identity, hosts, answers, engine_s=timing.call_s)
        await server.start(addresses.listen(settings.address, addresses.KEEPER))
        return own, Peers(identity, hosts, call_s=timing.ask_s, learn=hosts.learn)

    main(settings.name, connect)


if __name__ == "__main__":
    run()
