"""systemd's manager over D-Bus: jobs that are waited for, units that are read and watched.

The interface is documented in org.freedesktop.systemd1(5).
"""

import asyncio
import fnmatch
import logging
import string
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self

from waportd.systemd.connection import BusName, Connection, GLib, RemoteError
from waportd.systemd.manager import (
    AccessDenied,
    Accounting,
    BusLost,
    BusTimeout,
    JobFailed,
    NoSuchUnit,
    SystemdError,
    UnitBusy,
    UnitMasked,
    UnitNotLoaded,
    UnitStatus,
)

log = logging.getLogger(__name__)

_SYSTEMD = "org.freedesktop.systemd1"
_MANAGER = f"{_SYSTEMD}.Manager"
_UNIT = f"{_SYSTEMD}.Unit"
_PATH = "/org/freedesktop/systemd1"
_UNIT_PATH = f"{_PATH}/unit/"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_DBUS = "org.freedesktop.DBus"

_ALREADY_SUBSCRIBED = f"{_SYSTEMD}.AlreadySubscribed"
_NOTHING_TO_CLEAN = f"{_SYSTEMD}.NothingToClean"
_ERRORS: dict[str, type[SystemdError]] = {
    f"{_SYSTEMD}.NoSuchUnit": NoSuchUnit,
    f"{_SYSTEMD}.UnitMasked": UnitMasked,
    f"{_SYSTEMD}.UnitBusy": UnitBusy,
    f"{_SYSTEMD}.LoadFailed": UnitNotLoaded,
    f"{_SYSTEMD}.BadUnitSetting": UnitNotLoaded,
    f"{_DBUS}.Error.AccessDenied": AccessDenied,
    f"{_DBUS}.Error.InteractiveAuthorizationRequired": AccessDenied,
    f"{_DBUS}.Error.AuthFailed": AccessDenied,
    # As long as systemd re-executes itself (its package is being upgraded) it is not on the bus.
    f"{_DBUS}.Error.ServiceUnknown": BusTimeout,
    f"{_DBUS}.Error.NameHasNoOwner": BusTimeout,
}
_HINTS: dict[type[SystemdError], str] = {
    NoSuchUnit: "install the unit files (`waportd generate-units`), then `systemctl daemon-reload`",
    UnitMasked: "`systemctl unmask` it if it is meant to run",
    UnitBusy: "stop the unit first",
    UnitNotLoaded: "`systemd-analyze verify` of the unit says where; a drop-in may be wrong",
    AccessDenied: "the daemon must run as user waportd, with waportd's polkit rule and D-Bus policy installed",
    BusTimeout: "systemd may be restarting itself; try again",
}
_UNSET = 2**64 - 1
"""systemd's value of a figure it does not have."""
_RETRY_INTERVAL = 1.0
"""Seconds until a unit that could not be read is read again."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SINCE = {
    "active": "ActiveEnterTimestamp",
    "inactive": "InactiveEnterTimestamp",
    "failed": "InactiveEnterTimestamp",
    "activating": "InactiveExitTimestamp",
}


class DBusUnitManager:
    """The UnitManager of the running system, or of this user's session."""

    def __init__(self, connection: Connection, call_timeout: float, job_timeout: float) -> None:
        self._connection = connection
        self._call_timeout = call_timeout
        self._job_timeout = job_timeout
        self._job_ends: set[asyncio.Queue[tuple[str, str]]] = set()
        self._watches: list[tuple[str, Callable[[UnitStatus], None]]] = []
        self._up: set[str] = set()
        """Watched units that were not inactive when last read."""
        self._changed: set[str] = set()
        """Units to be read anew for those who watch them."""
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def connect(cls, bus: BusName, *, call_timeout: float = 10.0, job_timeout: float = 100.0) -> Self:
        """Connect to the system's manager or to that of the user's session.

        A call may take ``call_timeout`` seconds; a job ``job_timeout``, which must be more than the units'
        TimeoutStartSec and TimeoutStopSec, 90 by default. Raises BusLost, BusTimeout, AccessDenied.
        """
        connection = await Connection.open(bus, _SYSTEMD, call_timeout)
        manager = cls(connection, call_timeout, job_timeout)
        try:
            await manager._subscribe()
        except BaseException:
            await manager.close()
            raise
        return manager

    async def _subscribe(self) -> None:
        subscribe = self._connection.subscribe
        await subscribe(_MANAGER, "JobRemoved", self._on_job_removed)
        await subscribe(_MANAGER, "UnitNew", self._on_unit_listed)
        await subscribe(_MANAGER, "UnitRemoved", self._on_unit_listed)
        # systemd announces the change of a unit with this interface last, whichever properties changed.
        await subscribe(_PROPERTIES, "PropertiesChanged", self._on_properties_changed, arg0=_UNIT)
        await subscribe(_DBUS, "NameOwnerChanged", self._on_owner_changed, sender=_DBUS, arg0=_SYSTEMD)
        await self._ask_for_signals()

    async def _ask_for_signals(self) -> None:
        try:
            await self._connection.call(_PATH, _MANAGER, "Subscribe", None, "()", self._call_timeout)
        except RemoteError as error:
            if error.name != _ALREADY_SUBSCRIBED:
                raise _typed(error) from None

    @property
    def lost(self) -> asyncio.Future[BusLost]:
        """Done when the connection to the bus is gone, with the error to end on."""
        return self._connection.lost

    async def close(self) -> None:
        """Let go of the bus. Units go on untouched."""
        tasks = [*self._tasks, *self._readers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._connection.close()

    # What is asked of systemd

    async def boot(self) -> str:
        """Name this life of the manager: the kernel's boot, and when in it the manager started."""
        started = await self._property(_PATH, _MANAGER, "UserspaceTimestampMonotonic")
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()}:{started}"

    async def start(self, unit: str) -> None:
        """Start the unit and return when its job is done: at once where it is active already.

        Raises JobFailed when the job ends otherwise, NoSuchUnit, UnitMasked, UnitNotLoaded, AccessDenied.
        """
        await self._run_job("StartUnit", unit)

    async def stop(self, unit: str) -> None:
        """Stop the unit and whatever requires it; return when all are down. One that does not exist is down."""
        try:
            await self._run_job("StopUnit", unit)
        except NoSuchUnit:
            log.debug("%s is not loaded: nothing to stop", unit)

    async def restart(self, unit: str) -> None:
        """Restart the unit, or start it; return when it is up. Raises what `start` raises."""
        await self._run_job("RestartUnit", unit)

    async def reset_failed(self, unit: str) -> None:
        """Forget failures and start limits; a unit that is not loaded has none."""
        try:
            await self._ask("ResetFailedUnit", "(s)", unit)
        except NoSuchUnit:
            log.debug("%s is not loaded: nothing to reset", unit)

    async def status(self, unit: str) -> UnitStatus:
        """Return the unit as it is now; one that never ran is ``inactive``, not an error."""
        # systemd loads a unit whose object is asked for, if it has to.
        path = _unit_path(unit)
        arguments = GLib.Variant("(s)", ("",))  # of all interfaces
        reply = await self._call(path, _PROPERTIES, "GetAll", arguments, "(a{sv})")
        status = _read_status(unit, reply.get_child_value(0))
        if self._is_watched(unit):
            self._remember(status)
        return status

    async def list_units(self, pattern: str) -> list[UnitStatus]:
        """Return the loaded units whose name matches the shell pattern."""
        return list(await asyncio.gather(*map(self.status, await self._loaded(pattern))))

    async def accounting(self, unit: str) -> Accounting:
        """Return what systemd measured of the unit."""
        path, interface = _unit_path(unit), _type_interface(unit)
        memory, cpu = await asyncio.gather(
            self._property(path, interface, "MemoryCurrent"), self._property(path, interface, "CPUUsageNSec")
        )
        return Accounting(
            memory=None if memory == _UNSET else memory,
            cpu=None if cpu == _UNSET else cpu / 1e9,
        )

    async def limit_memory(self, unit: str, memory_max: int) -> None:
        """Set MemoryMax of the unit, in bytes, until the next boot."""
        limit = [("MemoryMax", GLib.Variant("t", memory_max))]
        await self._ask("SetUnitProperties", "(sba(sv))", unit, True, limit, reply="()")  # noqa: FBT003

    async def reload(self) -> None:
        """Read the unit files again. Takes about 3 ms per loaded unit."""
        await self._call(_PATH, _MANAGER, "Reload", None, "()", timeout=self._job_timeout)

    def watch(self, pattern: str, on_change: Callable[[UnitStatus], None]) -> None:
        """Call back on the event loop with the new status of each matching unit that changed."""
        self._watches.append((pattern, on_change))
