"""The daemon's interface to systemd, independent of its transport."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

from waportd.errors import WaportdError


@dataclasses.dataclass(frozen=True, slots=True)
class UnitStatus:
    """A unit at one moment. Names and values are systemd's own (org.freedesktop.systemd1(5))."""

    name: str
    load_state: str = "loaded"
    """``loaded``, ``not-found``, ``masked``, ``bad-setting``, ``error``."""
    active_state: str = "inactive"
    """``active``, ``reloading``, ``inactive``, ``failed``, ``activating``, ``deactivating``."""
    sub_state: str = "dead"
    """``running``, ``auto-restart``, ``start``, ``listening``, …"""
    result: str = "success"
    """``success``, ``exit-code``, ``signal``, ``core-dump``, ``watchdog``, ``timeout``, ``oom-kill``,
    ``start-limit-hit``, ``resources``, ``service-start-limit-hit``, …

    A service that was restarted more often than StartLimitBurst= allows keeps the result of its last run
    (``exit-code``); it is its socket that says ``service-start-limit-hit``."""
    since: float = 0.0
    """Seconds since the epoch at which the unit entered its state."""
    main_pid: int = 0
    restarts: int = 0
    """How often systemd restarted the service automatically (NRestarts)."""
    exit_code: int = 0
    """ExecMainCode: 1 exited, 2 killed, 3 dumped core (the CLD_ constants of waitid(2)); 0 never ended."""
    exit_status: int = 0
    """ExecMainStatus: exit status or signal number."""
    control_group: str = ""
    has_job: bool = False
    """systemd is about to start or to stop it. Known where the unit was queried, not where a signal reported it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Accounting:
    """systemd's measurements of a unit's control group; None where it measures nothing."""

    memory: int | None
    """Bytes (MemoryCurrent)."""
    cpu: float | None
    """Seconds (CPUUsageNSec)."""


class SystemdError(WaportdError):
    """systemd refused or could not do what was asked."""

    code = "systemd_error"
    status = 502
    title = "systemd could not do it"


class NoSuchUnit(SystemdError):
    """There is no unit of that name."""

    code = "no_such_unit"


class UnitMasked(SystemdError):
    """The administrator masked the unit."""

    code = "unit_masked"
    status = 409


class LoadFailed(SystemdError):
    """The unit's file cannot be read or is not valid."""

    code = "unit_load_failed"


class UnitBusy(SystemdError):
    """The unit is not stopped, or has a job under way."""

    code = "unit_busy"
    status = 409


class AccessDenied(SystemdError):
    """The daemon's user is not allowed to do this: a polkit rule or bus policy is missing."""

    code = "systemd_access_denied"


class BusTimeout(SystemdError):
    """systemd did not answer in time."""

    code = "systemd_timeout"
    status = 504


class BusLost(SystemdError):
    """The connection to the bus is gone; the daemon ends and systemd restarts it."""

    code = "bus_lost"
    status = 503


class JobFailed(SystemdError):
    """A job ended without success; ``unit`` is its state then."""

    code = "job_failed"

    def __init__(self, message: str, *, result: str, unit: UnitStatus, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.result = result
        """JobRemoved's word: ``failed``, ``dependency``, ``timeout``, ``canceled``, ``assert``, ``skipped``…"""
        self.unit = unit


class UnitManager(Protocol):
    """systemd, seen from the daemon. Every call has a timeout and may raise a SystemdError."""

    async def boot(self) -> str:
        """Return an id for this life of the manager: it changes at a reboot, or when a user's manager restarts."""

    async def start(self, unit: str) -> None:
        """Start the unit and return when its job is done: at once where it is active.

        Raises JobFailed when the job ends otherwise, NoSuchUnit, UnitMasked, LoadFailed.
        """

    async def begin(self, unit: str) -> None:
        """Have systemd start the unit, and do not wait until it is up. Raises NoSuchUnit, UnitMasked, LoadFailed."""

    async def stop(self, unit: str) -> None:
        """Stop the unit and all that require it; return when all are down. One that does not exist is down."""

    async def restart(self, unit: str) -> None:
        """Restart the unit, or start it; return when it is up."""

    async def reset_failed(self, unit: str) -> None:
        """Forget failures and start limits; a unit that is not loaded is fine."""

    async def keep_loaded(self, unit: str, seconds: float) -> None:
        """Have systemd keep the unit loaded for that long: a start in that time need not wait for it to load."""

    async def clean(self, unit: str) -> None:
        """Delete state and cache directories of a stopped unit; return when they are gone.

        Raises UnitBusy where it runs or is failed (`reset_failed` comes first then), SystemdError where something
        could not be deleted.
        """

    async def status(self, unit: str) -> UnitStatus:
        """Return the unit as it is now; one that never ran is ``inactive``, not an error."""

    async def list_units(self, pattern: str) -> list[UnitStatus]:
        """Return the loaded units whose name matches the shell pattern; of sockets that are up only their states."""

    async def last_start(self, unit: str) -> float:
        """Return when the unit's main process was last started, in seconds of the monotonic clock; 0: never."""

    async def accounting(self, unit: str) -> Accounting:
        """Return what systemd measured of the unit."""

    async def limit_memory(self, unit: str, memory_max: int) -> None:
        """Set MemoryMax of the unit, in bytes, until the next boot; 0 means no limit."""

    async def reload(self) -> None:
        """Read the unit files again."""

    def watch(self, pattern: str, on_change: Callable[[UnitStatus], None]) -> None:
        """Call back on the event loop with the new status of each matching unit that changed."""
