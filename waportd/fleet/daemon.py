"""The daemon of a host that belongs to a fleet."""

import asyncio
import contextlib
import logging
import ssl
from pathlib import Path
from typing import Final

from waportd.api.server import ApiServer
from waportd.concurrency import Background
from waportd.config import Bus, Config
from waportd.daemon import DEFAULT_CONFIG, Daemon
from waportd.errors import WaportdError
from waportd.fleet import addresses
from waportd.fleet.agent import Agent
from waportd.fleet.boot_clock import BootClock
from waportd.fleet.chunks import FleetKeys
from waportd.fleet.directory import Directory
from waportd.fleet.etcd import Etcd
from waportd.fleet.host import FleetHost
from waportd.fleet.identity import Identity
from waportd.fleet.lease import OwnLease
from waportd.fleet.logins import Logins
from waportd.fleet.membership import Membership
from waportd.fleet.moves import Moves
from waportd.fleet.others import Others
from waportd.fleet.settings import FOLDER, SNAPSHOT_KEY, Settings
from waportd.fleet.snapshot_store import SnapshotStore
from waportd.fleet.store import read_members
from waportd.fleet.timing import Timing
from waportd.fleet.units import LEASE_UNIT, logins_folder, runtime_folder
from waportd.host import Host
from waportd.shortcuts import Shortcuts
from waportd.store import AllocationStore, SqliteStore
from waportd.supervisor import Supervisor
from waportd.systemd.manager import UnitManager

log = logging.getLogger(__name__)

_STORE: Final = "folder"
"""The name of the only store in `Row.copies`."""
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
        self._keys: FleetKeys | None = None
        self._host: FleetHost
        self._identity: Identity

    async def join(
        self, store: SqliteStore, stack: contextlib.AsyncExitStack
    ) -> tuple[AllocationStore, Host]:
        """Return the store and the host of a member of the fleet. Raises CertificateUnusable, KeyUnusable, StoreError."""
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
        if settings.snapshots:
            self._keys = FleetKeys.read(settings.folder / SNAPSHOT_KEY)
        self._identity = Identity.load(settings.folder, settings.name)
        others = Others(self._identity, lambda: self._host.follower.state)
        stack.push_async_callback(others.close)
        self._host = FleetHost(settings.name, engine, store, lease, membership, clock.now_s, others)
        return self._host.store, self._host

    def listen(self, server: ApiServer, stack: contextlib.AsyncExitStack) -> None:
        """Begin to answer the other hosts. The callers of this one do not wait for an address that is not there yet."""
        background = Background()
        stack.push_async_callback(background.close)
        work = _listen(self._settings.address, server, self._identity.server)
        background.run(work, "answer the other hosts")

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
        background.run(Agent(host, supervisor, moves, logins).run(), "follow the fleet")
        if logins is None:
            log.warning("logins stay on this host: fleet.yaml names no folder for `snapshots`")
        else:
            background.run(logins.run(), "publish the logins")
        background.run(_start_lease(manager), "start the lease")

    def _logins(self, supervisor: Supervisor, manager: UnitManager) -> Logins | None:
        """Return what carries the logins, where the fleet has a place for them."""
        if self._keys is None:
            return None
        store = {_STORE: Directory(Path(self._settings.snapshots))}
        return Logins(
            self._host,
            SnapshotStore(self._keys, lambda _row: store),
            supervisor.registry,
            manager,
            logins_folder(self._config),
            self._config.instances.client_id_prefix,
        )


async def _listen(address: str, server: ApiServer, tls: ssl.SSLContext) -> None:
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
            return server.start_for_hosts(listener, tls)


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
