"""The daemon of a host that belongs to a fleet."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from waportd.api.access import Access
from waportd.api.server import ApiServer
from waportd.concurrency import Background
from waportd.config import Bus, Config
from waportd.connect_links import Links
from waportd.daemon import DEFAULT_CONFIG, Daemon
from waportd.errors import WaportdError
from waportd.fleet import addresses, enrolment, holdings
from waportd.fleet.agent import Agent
from waportd.fleet.between_hosts import BetweenHosts
from waportd.fleet.boot_clock import BootClock
from waportd.fleet.bucket import KEY_FILE, BucketKey
from waportd.fleet.chunks import FleetKeys
from waportd.fleet.directory import Directory
from waportd.fleet.engine import Row
from waportd.fleet.etcd import Etcd
from waportd.fleet.facts import Facts
from waportd.fleet.forwarded_ports import ForwardedPorts
from waportd.fleet.founding import newcomer
from waportd.fleet.held_ports import HeldPorts
from waportd.fleet.holdings import Holdings
from waportd.fleet.host import FleetHost
from waportd.fleet.identity import Identity
from waportd.fleet.lease import OwnLease
from waportd.fleet.logins import Logins
from waportd.fleet.membership import Membership
from waportd.fleet.moves import Moves
from waportd.fleet.object_server import ObjectServer
from waportd.fleet.others import Others
from waportd.fleet.port_calls import PortCalls
from waportd.fleet.remote_objects import RemoteObjects
from waportd.fleet.sealing import Sealing
from waportd.fleet.settings import FOLDER, PEERS, SNAPSHOT_KEY, Settings
from waportd.fleet.snapshot_store import SnapshotStore
from waportd.fleet.store import read_members
from waportd.fleet.stores import HostStores, SameStores, Stores, in_bucket
from waportd.fleet.timing import Timing
from waportd.fleet.units import LEASE_UNIT, logins_folder, runtime_folder
from waportd.host import Host
from waportd.registry import Registry
from waportd.shortcuts import Shortcuts
from waportd.store import AllocationStore, SqliteStore
from waportd.supervisor import Supervisor
from waportd.systemd.manager import UnitManager
from waportd.tokens import Tokens

if TYPE_CHECKING:
    from waportd.fleet.objects import Objects

log = logging.getLogger(__name__)

_STORE: Final = "folder"
"""The name in `Row.copies` of the folder that all hosts have,"""
_BUCKET: Final = "bucket"
"""and of a bucket."""
_RETRY_S: Final = 5.0
"""Seconds until something is tried again that systemd or the network has not allowed."""


def make(config: Config, path: Path | None, shortcuts: Shortcuts) -> Daemon:
    """Return the daemon of this host: that of a fleet, where it belongs to one. Raises ConfigError."""
    settings = Settings.load((path or DEFAULT_CONFIG).parent / FOLDER)
    if settings is None:
        return Daemon(config, path, shortcuts)
    return FleetDaemon(config, path, shortcuts, settings)


class FleetDaemon(Daemon):
    """A daemon whose users may come from other hosts, and go there."""

    def __init__(self, config: Config, path: Path | None, shortcuts: Shortcuts, settings: Settings) -> None:
        super().__init__(config, path, shortcuts)
        self._settings = settings
        self._bus = config.systemd.bus
        self._keys: FleetKeys
        self._facts: Facts
        self._host: FleetHost
        self._identity: Identity
        self._others: Others
        self._own: Directory
        self._holdings: Holdings | None = None
        """What this host keeps for the others, where hosts do that."""
        self._ports: ForwardedPorts | None = None
        self._bucket: Objects | None = None

    async def join(
        self, store: SqliteStore, stack: contextlib.AsyncExitStack
    ) -> tuple[AllocationStore, Host]:
        """Return the store and the host of a member of the fleet.

        Raises CertificateUnusable, ConfigError, KeyUnusable, StoreError.
        """
        settings, clock = self._settings, BootClock()
        engine = Etcd(settings.engine, tls=settings.tls(), prefix=settings.prefix)
        stack.push_async_callback(engine.close)
        lease = OwnLease(runtime_folder(system=self._bus is Bus.SYSTEM), clock)
        stack.callback(lease.close)
        established, members = await read_members(store)
        membership = Membership(
            settings.name,
            ttl_s=Timing.from_environment().ttl_s,
            failover_after_s=settings.failover_after_s,
            established=established,
            remembered=members,
        )
        self._keys = FleetKeys.read(settings.folder / SNAPSHOT_KEY)
        sealing = Sealing(self._keys)
        if settings.bucket is not None:
            self._bucket = in_bucket(settings.bucket, BucketKey.read(settings.folder / KEY_FILE))
        self._identity = Identity.load(settings.folder, settings.name)
        self._others = Others(
            self._identity,
            engine,
            lambda: self._host.follower.state,
            self._is_coming,
            copies=settings.copies if settings.snapshots == PEERS else 0,
            sealing=sealing,
            certificate_ends_at=enrolment.installed(settings.folder).ends_at,
        )
        stack.push_async_callback(self._others.close)
        self._host = FleetHost(
            settings.name, engine, store, lease, membership, clock.now_s, self._others, sealing
        )
        if settings.snapshots == PEERS:
            self._own = holdings.opened(holdings.folder_in(self._config))
            self._holdings = Holdings(settings.name, self._own, self._host.follower)
        return self._host.store, self._host

    def _is_coming(self, row: Row) -> bool:
        return self._host.store.is_coming(row)

    async def callers(self, store: SqliteStore) -> tuple[Tokens, Links]:
        """Return the tokens and links that are good on all hosts. Raises StoreError, KeyUnusable."""
        self._facts = Facts(store, self._host.engine, self._keys, self._host.follower)
        return await self._facts.load()

    def listen(
        self, server: ApiServer, registry: Registry, access: Access, stack: contextlib.AsyncExitStack
    ) -> None:
        """Begin to answer the other hosts. The callers of this one do not wait for an address that is not there yet."""
        background = Background()
        stack.push_async_callback(background.close)
        calls = PortCalls(registry, self._others.admit)
        stack.push_async_callback(calls.close)
        objects = ObjectServer(self._holdings, self._others.admit) if self._holdings else None
        between_hosts = BetweenHosts(calls, objects).answer

        def answer(listener: socket.socket) -> None:
            server.start_for_hosts(listener, self._identity.server, between_hosts)

        work = _listen(self._settings.address, answer)
        background.run(work, "answer the other hosts")
        if self._settings.forward_ports:
            self._ports = ForwardedPorts(self._host, self._others, access.permits_at_servers)
            stack.push_async_callback(self._ports.close)
            background.run(self._ports.run(), "forward the ports of other hosts' users")

    def act(self, supervisor: Supervisor, manager: UnitManager, stack: contextlib.AsyncExitStack) -> None:
        """Begin to follow the fleet, and have the lease held."""
        log.info("this host is %s of its fleet", self._settings.name)
        host, logins = self._host, self._logins(supervisor, manager)
        moves = Moves(
            host.engine,
            host.store,
            supervisor,
            lambda: supervisor.limits.start_concurrency,
            save=logins.save if logins else None,
        )
        stack.push_async_callback(moves.close)
        background = Background()
        stack.push_async_callback(background.close)
        own = newcomer(self._settings.name, self._settings.address, self._config.limits.max_sockets)
        agent = Agent(host, supervisor, moves, logins, self._facts, self._ports, own)
        background.run(agent.run(), "follow the fleet")
        background.run(self._facts.run(), "follow the tokens of the fleet")
        background.run(HeldPorts(host).run(), "look which ports other programs have")
        if logins is None:
            log.warning("logins stay on this host: fleet.yaml has no place for them (`snapshots: peers`)")
        else:
            background.run(logins.run(), "publish the logins")
        if self._holdings is not None:
            background.run(self._holdings.run(), "look through the logins of other hosts' users")
        background.run(_start_lease(manager), "start the lease")

    def _logins(self, supervisor: Supervisor, manager: UnitManager) -> Logins | None:
        """Return what carries the logins, where the fleet has a place for them."""
        if not self._settings.snapshots:
            return None
        return Logins(
            self._host,
            SnapshotStore(self._keys, self._stores()),
            supervisor.registry,
            manager,
            logins_folder(self._config),
            self._config.instances.client_id_prefix,
        )

    def _stores(self) -> Stores:
        if (mount := self._settings.mount) is not None:
            return SameStores({_STORE: Directory(mount)})
        if self._bucket is not None:
            return SameStores({_BUCKET: self._bucket})
        return HostStores(
            self._settings.name,
            self._own,
            lambda host: RemoteObjects(self._others, host),
            lambda: self._host.follower.state,
            self._settings.copies,
        )


async def _listen(address: str, answer: Callable[[socket.socket], None]) -> None:
    """Have the other hosts answered on the port after the keeper's."""
    said: str | None = ""
    while True:
        try:
            listener = addresses.listen(address, addresses.DAEMON)
        except OSError as error:
            if said != error.strerror:
                log.warning("Cannot answer the other hosts on the port after %s: %s", address, error.strerror)
            said = error.strerror
            await asyncio.sleep(_RETRY_S)
        else:
            return answer(listener)


async def _start_lease(manager: UnitManager) -> None:
    """Have systemd start the lease unit, which is ready when the engine has given a lease.

    Once: from then on systemd starts it again whenever it ends, unless an administrator has stopped it.
    """
    said = ""
    while True:
        try:
            return await manager.begin(LEASE_UNIT)
        except WaportdError as error:
            if said != error.message:
                log.warning("Cannot start %s: %s", LEASE_UNIT, error)
            said = error.message
            await asyncio.sleep(_RETRY_S)
