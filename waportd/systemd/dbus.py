"""systemd's manager over D-Bus: units that are started, stopped, cleaned and limited.

The interface is documented in org.freedesktop.systemd1(5).
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

from waportd.systemd.calls import MANAGER, Calls, NothingToClean
from waportd.systemd.connection import BusName, Connection, Variant
from waportd.systemd.jobs import Jobs
from waportd.systemd.manager import Accounting, BusLost, NoSuchUnit, SystemdError, UnitStatus
from waportd.systemd.properties import PATH, SYSTEMD, UNIT, type_interface, unit_path
from waportd.systemd.watcher import UnitWatcher

_INFINITY = 2**64 - 1
"""How systemd writes ``infinity`` in a limit."""
_UNSET = 2**64 - 1
"""systemd's value of a figure it does not have."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class DBusUnitManager:
    """The UnitManager of the running system, or of this user's session."""

    def __init__(self, connection: Connection, call_timeout: float, job_timeout: float) -> None:
        self.calls = Calls(connection, call_timeout)
        self.watcher = UnitWatcher(self.calls)
        self.jobs = Jobs(self.calls, self.watcher, job_timeout)

    @classmethod
    async def connect(cls, bus: BusName, *, call_timeout: float = 30.0, job_timeout: float = 100.0) -> Self:
        """Connect to the system's manager or to that of the user's session.

        A call may take ``call_timeout`` seconds, which should be more than the 25 that the bus gives a program that it
        starts, such as polkit: then the call gets the bus's error. A job may take ``job_timeout``, which should be more
        than the units' TimeoutStartSec and TimeoutStopSec. Raises BusLost, BusTimeout, AccessDenied.
        """
        connection = await Connection.open(bus, SYSTEMD, call_timeout)
        manager = cls(connection, call_timeout, job_timeout)
        try:
            await manager.jobs.subscribe()
            await manager.watcher.subscribe()
        except BaseException:
            await manager.close()
            raise
        return manager

    async def idle(self) -> None:
        """Return when each reported change is read, and nothing else is done in the background."""
        await self.watcher.idle()
        await self.calls.background.idle()
        await self.watcher.idle()

    async def close(self) -> None:
        """Disconnect from the bus. Units continue untouched."""
        await asyncio.gather(self.watcher.close(), self.calls.background.close())
        await self.calls.connection.close()

    @property
    def lost(self) -> asyncio.Future[BusLost]:
        """Done when the connection to the bus is gone, with the error to end on."""
        return self.calls.lost

    @property
    def on_call(self) -> Callable[[str, float], None]:
        """Called after each call with its method and how long the answer took."""
        return self.calls.on_call

    @on_call.setter
    def on_call(self, on_call: Callable[[str, float], None]) -> None:
        self.calls.on_call = on_call

    # Jobs

    async def start(self, unit: str) -> None:
        """Start the unit and return when its job is done: at once where it is active.

        Raises JobFailed when the job ends otherwise, NoSuchUnit, UnitMasked, LoadFailed.
        """
        await self.jobs.run("StartUnit", unit)

    async def begin(self, unit: str) -> None:
        """Have systemd start the unit, and do not wait until it is up. Raises NoSuchUnit, UnitMasked, LoadFailed."""
        await self.calls.ask("StartUnit", "(ss)", unit, "replace", reply="(o)")

    async def stop(self, unit: str) -> None:
        """Stop the unit and all that require it; return when all are down. One that does not exist is down."""
        with contextlib.suppress(NoSuchUnit):
            await self.jobs.run("StopUnit", unit)

    async def restart(self, unit: str) -> None:
        """Restart the unit, or start it; return when it is up. Raises what `start` raises."""
        await self.jobs.run("RestartUnit", unit)

    # What else is asked of units

    async def reset_failed(self, unit: str) -> None:
        """Forget failures and start limits; a unit that is not loaded is fine."""
        with contextlib.suppress(NoSuchUnit):
            await self.calls.ask("ResetFailedUnit", "(s)", unit)

    async def keep_loaded(self, unit: str, seconds: float) -> None:
        """Have systemd keep the unit loaded for that long. Needs the polkit verb ``ref``."""
        await self.calls.ask("RefUnit", "(s)", unit)
        asyncio.get_running_loop().call_later(seconds, self._let_go_later, unit)

    async def clean(self, unit: str) -> None:
        """Delete state and cache directories of a stopped unit; return when they are gone.

        Raises UnitBusy where it runs or is failed (`reset_failed` comes first then), SystemdError where something
        could not be deleted; the unit is failed then. Needs the polkit verbs ``clean`` and ``ref``.
        """
        changed = asyncio.Event()

        def on_change(status: UnitStatus) -> None:
            if status.active_state != "maintenance":
                changed.set()

        with self.watcher.watching(unit, on_change):
            async with self.jobs.within_timeout("CleanUnit", unit):
                # Kept loaded, so that systemd keeps the outcome, too.
                await self.calls.ask("RefUnit", "(s)", unit)
                try:
                    result = await self._clean(unit, changed)
                finally:
                    self._let_go_later(unit)
        if result != "success":
            raise SystemdError(
                f"CleanUnit {unit}: not everything could be deleted ({result})",
                hint="see the journal; check the disk, then try again",
            )

    async def _clean(self, unit: str, changed: asyncio.Event) -> str:
        """Clean a unit that is kept loaded; return the result. ``changed`` is set when it may be done."""
        try:
            await self.calls.ask("CleanUnit", "(sas)", unit, ["state", "cache"])
        except NothingToClean:
            return "success"
        path = unit_path(unit)
        # A signal alone may report an earlier change.
        while await self.calls.get_property(path, UNIT, "ActiveState") == "maintenance":
            await self.calls.unless_lost(asyncio.create_task(changed.wait()))
            changed.clear()
        result: str = await self.calls.get_property(path, type_interface(unit), "CleanResult")
        return result

    def _let_go_later(self, unit: str) -> None:
        self.calls.background.run(self._let_go(unit), f"let go of {unit}")

    async def _let_go(self, unit: str) -> None:
        """Let systemd unload a unit again that was kept."""
        with contextlib.suppress(SystemdError):
            await self.calls.ask("UnrefUnit", "(s)", unit)

    async def limit_memory(self, unit: str, memory_max: int) -> None:
        """Set MemoryMax of the unit, in bytes, until the next boot; 0 means no limit."""
        limit = [("MemoryMax", Variant("t", memory_max or _INFINITY))]
        await self.calls.ask("SetUnitProperties", "(sba(sv))", unit, True, limit)  # noqa: FBT003  # runtime

    # Units as they are

    async def status(self, unit: str) -> UnitStatus:
        """Return the unit as it is now; one that never ran is ``inactive``, not an error."""
        return await self.watcher.status(unit)

    async def list_units(self, pattern: str) -> list[UnitStatus]:
        """Return the loaded units whose name matches the shell pattern; of sockets that are up only their states.

        To get all properties of a unit from systemd takes a millisecond or two, and there may be 1,000 sockets.
        """
        return await self.watcher.list_units(pattern)

    def watch(self, pattern: str, on_change: Callable[[UnitStatus], None]) -> None:
        """Call back on the event loop with the new status of each matching unit that changed.

        Changes that come in quick succession make one call. A unit that gets unloaded reads as inactive.
        """
        self.watcher.watch(pattern, on_change)

    async def last_start(self, unit: str) -> float:
        """Return when the unit's main process was last started, in seconds of the monotonic clock; 0: never."""
        path, interface = unit_path(unit), type_interface(unit)
        started: int = await self.calls.get_property(path, interface, "ExecMainStartTimestampMonotonic")
        return started / 1e6

    async def accounting(self, unit: str) -> Accounting:
        """Return what systemd measured of the unit."""
        path, interface = unit_path(unit), type_interface(unit)
        memory, cpu = await asyncio.gather(
            self.calls.get_property(path, interface, "MemoryCurrent"),
            self.calls.get_property(path, interface, "CPUUsageNSec"),
        )
        return Accounting(
            memory=None if memory == _UNSET else memory,
            cpu=None if cpu == _UNSET else cpu / 1e9,
        )

    # What is asked of the manager

    async def boot(self) -> str:
        """Return an id for this life of the manager: the kernel's boot, and when in it the manager started."""
        boot_id = await asyncio.to_thread(_BOOT_ID.read_text, "ascii")
        started = await self.calls.get_property(PATH, MANAGER, "UserspaceTimestampMonotonic")
        return f"{boot_id.strip()}:{started}"

    async def reload(self) -> None:
        """Read the unit files again."""
        async with self.jobs.within_timeout("Reload", "systemd"):
            await self.calls.call(PATH, MANAGER, "Reload", timeout=self.jobs.timeout)
