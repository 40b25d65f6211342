"""systemd's manager over D-Bus: jobs that are waited for, units that are read and watched.

The interface is documented in org.freedesktop.systemd1(5).
"""

import asyncio
import contextlib
import dataclasses
import fnmatch
import logging
import re
import string
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from waportd.systemd.connection import BusName, Connection, RemoteError, Variant
from waportd.systemd.manager import (
    AccessDenied,
    Accounting,
    BusLost,
    BusTimeout,
    JobFailed,
    LoadFailed,
    NoSuchUnit,
    SystemdError,
    UnitBusy,
    UnitMasked,
    UnitStatus,
)
from waportd.systemd.rights import DENIALS, refused_by_bus

log = logging.getLogger(__name__)

_SYSTEMD = "org.freedesktop.systemd1"
_MANAGER = f"{_SYSTEMD}.Manager"
_UNIT = f"{_SYSTEMD}.Unit"
_PATH = "/org/freedesktop/systemd1"
_UNIT_PATH = f"{_PATH}/unit/"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_DBUS = "org.freedesktop.DBus"
_INFINITY = 2**64 - 1
"""How systemd writes ``infinity`` in a limit."""

_Result = TypeVar("_Result")
_States = tuple[str, str, str]
"""Load, active and sub state of a unit."""
_NEVER_LOADED: _States = ("", "inactive", "")


_End = tuple[str, UnitStatus | None]
"""How a job ended, and its unit as signals had told of it by then."""


class AlreadySubscribed(SystemdError):
    """This connection has asked for signals before."""


class NothingToClean(SystemdError):
    """The unit has no directories."""


_ERRORS: dict[str, type[SystemdError]] = {
    f"{_SYSTEMD}.NoSuchUnit": NoSuchUnit,
    f"{_SYSTEMD}.UnitMasked": UnitMasked,
    f"{_SYSTEMD}.UnitBusy": UnitBusy,
    f"{_SYSTEMD}.AlreadySubscribed": AlreadySubscribed,
    f"{_SYSTEMD}.NothingToClean": NothingToClean,
    f"{_SYSTEMD}.LoadFailed": LoadFailed,
    f"{_SYSTEMD}.BadUnitSetting": LoadFailed,
    **dict.fromkeys(DENIALS, AccessDenied),
    # As long as systemd re-executes itself (its package is being upgraded) it is not on the bus.
    f"{_DBUS}.Error.ServiceUnknown": BusTimeout,
    f"{_DBUS}.Error.NameHasNoOwner": BusTimeout,
}
_HINTS: dict[type[SystemdError], str] = {
    NoSuchUnit: "install the unit files (`waportd generate-units`), then `systemctl daemon-reload`",
    UnitMasked: "`systemctl unmask` it if it is meant to run",
    UnitBusy: "stop the unit first",
    LoadFailed: "`systemd-analyze verify` of the unit says where; a drop-in may be wrong",
    AccessDenied: "the daemon must run as user waportd, with waportd's polkit rule and D-Bus policy installed",
    BusTimeout: "systemd may be restarting itself; try again",
}
_RELOAD_BUS = (
    "`systemctl reload dbus`: the bus has not read waportd's policy since waportd's user was made; if that does not help, "
    "install the policy again"
)
_UNSET = 2**64 - 1
"""systemd's value of a figure it does not have."""
_TOLD = {"ActiveState", "SubState", "Result", "StateChangeTimestamp", "AssertResult"}
"""What signals of a service or socket hold at least, where their values are to be relied on."""
_SINCE = {
    "active": "ActiveEnterTimestamp",
    "inactive": "InactiveEnterTimestamp",
    "failed": "InactiveEnterTimestamp",
    "activating": "InactiveExitTimestamp",
}
_OF_UNIT = (
    "LoadState",
    "ActiveState",
    "SubState",
    "StateChangeTimestamp",
    *sorted({*_SINCE.values()}),
    "ConditionResult",
    "ConditionTimestamp",
    "AssertResult",
    "AssertTimestamp",
    "Job",
)
"""What is read of the properties that all units have."""
_OF_TYPE = (
    "Result",
    "MainPID",
    "NRestarts",
    "ExecMainCode",
    "ExecMainStatus",
    "StatusText",
    "ControlGroup",
)
"""What is read of those of a service or socket."""
_SETTLING = 0.05
"""Seconds after which a unit that was loaded or unloaded is read: mostly signals have told everything by then."""
_RETRY_INTERVAL = 1.0
"""Seconds until a unit that could not be read is read again."""
_PLAIN = string.ascii_letters + string.digits
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class _Job:
    """A job that is waited for. Hears of every job that ends, from before it is known which one it is itself."""

    def __init__(self) -> None:
        self.end: asyncio.Future[_End] = asyncio.get_running_loop().create_future()
        self._path: str | None = None
        self._ended: dict[str, _End] = {}

    def is_at(self, path: str) -> None:
        """Take the job's path, which systemd's answer gives."""
        self._path = path
        if path in self._ended:
            self.hear(path, self._ended[path])

    def hear(self, path: str, end: _End) -> None:
        """Take notice of the end of a job."""
        if self._path is None:
            self._ended[path] = end
        elif path == self._path and not self.end.done():
            self.end.set_result(end)


class DBusUnitManager:
    """The UnitManager of the running system, or of this user's session."""

    def __init__(self, connection: Connection, call_timeout: float, job_timeout: float) -> None:
        self._connection = connection
        self._call_timeout = call_timeout
        self._job_timeout = job_timeout
        self._jobs: set[_Job] = set()
        """Jobs that are waited for."""
        self._watches: tuple[tuple[str, Callable[[UnitStatus], None]], ...] = ()
        """Replaced as a whole: the thread that receives signals looks at it."""
        self._known: dict[str, _States] = {}
        """Watched units as last read."""
        self._said: dict[str, Any] = {}
        """What a signal has just told of a watched unit as a service or socket, packed; the rest follows at once."""
        self._heard: dict[str, UnitStatus] = {}
        """Watched units as signals have told of them last."""
        self._changed: set[str] = set()
        """Watched units to be read anew."""
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        """What is done beside everything else."""
        self._questions: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._reloading = False
        self.on_call: Callable[[str, float], None] = lambda _method, _seconds: None
        """Called after each call with its method and how long the answer took."""

    @classmethod
    async def connect(cls, bus: BusName, *, call_timeout: float = 10.0, job_timeout: float = 100.0) -> Self:
        """Connect to the system's manager or to that of the user's session.

        A call may take ``call_timeout`` seconds; a job ``job_timeout``, which should be more than the units'
        TimeoutStartSec and TimeoutStopSec. Raises BusLost, BusTimeout, AccessDenied.
        """
        connection = await Connection.open(bus, _SYSTEMD, call_timeout)
        manager = cls(connection, call_timeout, job_timeout)
        try:
            await manager._subscribe()
        except BaseException:
            await manager.close()
            raise
        return manager

    async def close(self) -> None:
        """Let go of the bus. Units go on untouched."""
        tasks = [*self._tasks, *self._readers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._connection.close()

    @property
    def lost(self) -> asyncio.Future[BusLost]:
        """Done when the connection to the bus is gone, with the error to end on."""
        return self._connection.lost

    # Jobs

    async def start(self, unit: str) -> None:
        """Start the unit and return when its job is done: at once where it is active.

        Raises JobFailed when the job ends otherwise, NoSuchUnit, UnitMasked, LoadFailed.
        """
        await self._run_job("StartUnit", unit)

    async def begin(self, unit: str) -> None:
        """Have systemd start the unit, and do not wait until it is up. Raises NoSuchUnit, UnitMasked, LoadFailed."""
        await self._ask("StartUnit", "(ss)", unit, "replace", reply="(o)")

    async def stop(self, unit: str) -> None:
        """Stop the unit and whatever requires it; return when all are down. One that does not exist is down."""
        with contextlib.suppress(NoSuchUnit):
            await self._run_job("StopUnit", unit)

    async def restart(self, unit: str) -> None:
        """Restart the unit, or start it; return when it is up. Raises what `start` raises."""
        await self._run_job("RestartUnit", unit)

    async def _run_job(self, method: str, unit: str) -> None:
        job = _Job()
        # Listens before it asks: the job may have ended before the answer comes.
        self._jobs.add(job)
        try:
            async with self._within_job_timeout(method, unit):
                [path] = await self._ask(method, "(ss)", unit, "replace", reply="(o)")
                job.is_at(path)
                result, status = await self._unless_lost(job.end)
        finally:
            self._jobs.discard(job)
        if result != "done":
            # Told before the end of the job: by now systemd may have started it again, and forgotten why it failed.
            status = status or await self.status(unit)
            if result == "assert":
                # The unit may be unloaded already, and with it what was found.
                status = dataclasses.replace(status, condition=False)
            raise JobFailed(
                f"{method} {unit}: the job ended as {result!r}; the unit is {status.active_state} "
                f"({status.sub_state}), its result {status.result!r}",
                result=result,
                unit=status,
                hint=f"see `journalctl {'--user ' if self._connection.bus == 'session' else ''}-u {unit}`",
            )

    # What else is asked of units

    async def reset_failed(self, unit: str) -> None:
        """Forget failures and start limits; a unit that is not loaded is fine."""
        with contextlib.suppress(NoSuchUnit):
            await self._ask("ResetFailedUnit", "(s)", unit)

    async def clean(self, unit: str, keep: float = 0.0) -> None:
        """Delete state and cache directories of a stopped unit; return when they are gone.

        Raises UnitBusy where it runs or is failed (`reset_failed` comes first then), SystemdError where something
        could not be deleted; the unit is failed then. It stays loaded for ``keep`` seconds more. Needs the polkit verbs
        ``clean`` and ``ref``.
        """
        changed = asyncio.Event()
        watch = (unit, lambda status: None if status.active_state == "maintenance" else changed.set())
        self._watches = (*self._watches, watch)
        try:
            async with self._within_job_timeout("CleanUnit", unit):
                # Kept loaded, and with it the outcome.
                await self._ask("RefUnit", "(s)", unit)
                try:
                    result = await self._clean(unit, changed)
                finally:
                    asyncio.get_running_loop().call_later(
                        keep, lambda: self._in_background(self._let_go(unit), f"let go of {unit}")
                    )
        finally:
            self._watches = tuple(each for each in self._watches if each is not watch)
        if result != "success":
            raise SystemdError(
                f"CleanUnit {unit}: not everything could be deleted ({result})",
                hint="see the journal; check the disk, then try again",
            )

    async def _clean(self, unit: str, changed: asyncio.Event) -> str:
        """Clean a unit that is kept loaded; return with what result. ``changed`` is set when it may be done."""
        try:
            await self._ask("CleanUnit", "(sas)", unit, ["state", "cache"])
        except NothingToClean:
            return "success"
        path = _unit_path(unit)
        # A signal alone may be of an earlier change.
        while await self._property(path, _UNIT, "ActiveState") == "maintenance":
            await self._unless_lost(asyncio.create_task(changed.wait()))
            changed.clear()
        result: str = await self._property(path, _type_interface(unit), "CleanResult")
        return result

    async def _let_go(self, unit: str) -> None:
        """Let systemd unload a unit again that was kept."""
        with contextlib.suppress(SystemdError):
            await self._ask("UnrefUnit", "(s)", unit)

    async def limit_memory(self, unit: str, memory_max: int) -> None:
        """Set MemoryMax of the unit, in bytes, until the next boot; 0 means no limit."""
        limit = [("MemoryMax", Variant("t", memory_max or _INFINITY))]
        await self._ask("SetUnitProperties", "(sba(sv))", unit, True, limit)  # noqa: FBT003  # runtime

    async def status(self, unit: str) -> UnitStatus:
        """Return the unit as it is now; one that never ran is ``inactive``, not an error."""
        async with self._asking(unit):
            return await self._status(unit)

    async def _status(self, unit: str) -> UnitStatus:
        heard = self._heard.get(unit)
        # Asked for the properties of a unit that is not loaded, systemd loads it. "" stands for all interfaces.
        answer = await self._call(_unit_path(unit), _PROPERTIES, "GetAll", "(s)", "", reply="(a{sv})")
        status = _status_of(unit, _read(answer.get_child_value(0)))
        newer = self._heard.get(unit)
        if newer is not None and newer is not heard:
            # A signal that came meanwhile may be of a later time than the answer, and has the last word anyway.
            return dataclasses.replace(newer, control_group=status.control_group)
        if self._is_watched(unit):
            self._known[unit] = (status.load_state, status.active_state, status.sub_state)
        return status

    async def list_units(self, pattern: str) -> list[UnitStatus]:
        """Return the loaded units whose name matches the shell pattern; of sockets that are up only their states.

        To have systemd tell all it knows of a unit takes a millisecond or two, and there may be 1,000 sockets.
        """
        listed = await self._list(pattern)
        up = {
            unit for unit, (_, active, _) in listed.items() if unit.endswith(".socket") and active == "active"
        }
        self._known |= {
            unit: listed[unit] for unit in up if unit not in self._heard and self._is_watched(unit)
        }
        told = await asyncio.gather(*map(self.status, listed.keys() - up))
        return [*told, *(UnitStatus(unit, *listed[unit]) for unit in up)]

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

    # What is asked of the manager

    async def boot(self) -> str:
        """Name this life of the manager: the kernel's boot, and when in it the manager started."""
        boot_id = await asyncio.to_thread(_BOOT_ID.read_text, "ascii")
        started = await self._property(_PATH, _MANAGER, "UserspaceTimestampMonotonic")
        return f"{boot_id.strip()}:{started}"

    async def reload(self) -> None:
        """Read the unit files again."""
        async with self._within_job_timeout("Reload", "systemd"):
            await self._call(_PATH, _MANAGER, "Reload", timeout=self._job_timeout)

    # Watching

    def watch(self, pattern: str, on_change: Callable[[UnitStatus], None]) -> None:
        """Call back on the event loop with the new status of each matching unit that changed.

        Changes that come in quick succession make one call. A unit that gets unloaded reads as inactive.
        """
        self._watches = (*self._watches, (pattern, on_change))

    async def _subscribe(self) -> None:
        subscribe = self._connection.subscribe
        await subscribe(_MANAGER, "JobRemoved", self._on_job_removed)
        await subscribe(_MANAGER, "Reloading", self._on_reloading)
        # A unit's first change is announced by UnitNew alone.
        await subscribe(_MANAGER, "UnitNew", self._on_loaded_or_unloaded)
        await subscribe(_MANAGER, "UnitRemoved", self._on_loaded_or_unloaded)
        # Sent at every change, first of the interface of the unit's type, then of the one that all units have, and
        # each time with all values that may change: to ask for them costs both sides milliseconds.
        for interface in (f"{_SYSTEMD}.Service", f"{_SYSTEMD}.Socket", _UNIT):
            await subscribe(
                _PROPERTIES, "PropertiesChanged", self._on_properties_changed, arg0=interface,
                wanted=lambda path: self._is_watched(_unit_name(path)),
            )  # fmt: skip
        await subscribe(_DBUS, "NameOwnerChanged", self._on_owner_changed, sender=_DBUS, arg0=_SYSTEMD)
        await self._ask_for_signals()

    async def _ask_for_signals(self) -> None:
        with contextlib.suppress(AlreadySubscribed):
            await self._ask("Subscribe")

    def _on_properties_changed(self, path: str, arguments: Any) -> None:
        unit = _unit_name(path)
        values = arguments.get_child_value(1)
        if arguments.get_child_value(0).get_string() != _UNIT:
            self._said[unit] = values
            return
        told = {**_read(self._said.pop(unit, None), _OF_TYPE), **_read(values, _OF_UNIT)}
        if not told.keys() >= _TOLD:
            self._mark(unit)
            return
        # Not told, since it does not change as long as the unit is loaded.
        load_state = self._known.get(unit, ("loaded", "", ""))[0]
        status = dataclasses.replace(_status_of(unit, told), load_state=load_state)
        self._known[unit] = (load_state, status.active_state, status.sub_state)
        self._heard[unit] = status
        self._changed.discard(unit)
        self._tell(status)

    def _on_job_removed(self, _path: str, arguments: Any) -> None:
        _, job, unit, result = arguments.unpack()
        for waiting in self._jobs:
            waiting.hear(job, (result, self._heard.get(unit)))

    def _on_loaded_or_unloaded(self, _path: str, arguments: Any) -> None:
        unit, _ = arguments.unpack()
        # A reload announces every unit as removed and as new.
        if not self._reloading:
            self._mark(unit)

    def _on_reloading(self, _path: str, arguments: Any) -> None:
        [self._reloading] = arguments.unpack()
        if not self._reloading:
            self._start_resync()

    def _on_owner_changed(self, _path: str, arguments: Any) -> None:
        _, _, owner = arguments.unpack()
        if owner:
            # systemd re-executed itself.
            self._reloading = False
            self._start_resync()

    def _start_resync(self) -> None:
        self._in_background(self._resync(), "resync units")

    def _in_background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resync(self) -> None:
        """Find out which units changed while systemd did not say so."""
        try:
            await self._ask_for_signals()
            listed = [await self._list(pattern) for pattern, _ in self._watches]
        except SystemdError as error:
            log.warning("Cannot list the units after a reload: %s", error)
            if not self.lost.done():
                await asyncio.sleep(_RETRY_INTERVAL)
                self._start_resync()
            return
        loaded = {unit: states for units in listed for unit, states in units.items()}
        for unit in loaded.keys() | self._known.keys():
            if loaded.get(unit) != self._known.get(unit):
                self._mark(unit)

    def _mark(self, unit: str) -> None:
        """Have a unit that may have changed read anew, once for all changes that come before that happens."""
        if not self._is_watched(unit):
            return
        self._changed.add(unit)
        if unit not in self._readers:
            self._readers[unit] = asyncio.create_task(self._read(unit), name=f"read {unit}")

    async def _read(self, unit: str) -> None:
        try:
            while unit in self._changed and not self.lost.done():
                await asyncio.sleep(_SETTLING)
                if unit not in self._changed:
                    return  # a signal has told it meanwhile
                self._changed.discard(unit)
                try:
                    status = await self._status_if_loaded(unit)
                except SystemdError as error:
                    log.warning("Cannot read %s: %s", unit, error)
                    self._changed.add(unit)
                    await asyncio.sleep(_RETRY_INTERVAL)
                else:
                    self._tell(status)
        finally:
            del self._readers[unit]

    async def _status_if_loaded(self, unit: str) -> UnitStatus | None:
        """Return the unit's status; None where it is not loaded and was not up before either."""
        async with self._asking(unit):
            heard = self._heard.get(unit)
            try:
                await self._ask("GetUnit", "(s)", unit, reply="(o)")
            except NoSuchUnit:
                if self._heard.get(unit) is not heard:
                    return None  # it was loaded again meanwhile, and what a signal told of it is newer
                # To ask for its properties would load it: that is announced, too, and so on for ever.
                self._heard.pop(unit, None)
                _, active_state, _ = self._known.pop(unit, _NEVER_LOADED)
                return None if active_state == "inactive" else UnitStatus(unit)
            return await self._status(unit)

    def _asking(self, unit: str) -> asyncio.Lock:
        """Return what is held from a question for a unit to its answer.

        Calls are made by several threads: of two at once, the older answer could come last, and be believed.
        """
        lock = self._questions.get(unit)
        if lock is None:
            lock = self._questions[unit] = asyncio.Lock()
        return lock

    def _tell(self, status: UnitStatus | None) -> None:
        if status is None:
            return
        for pattern, on_change in tuple(self._watches):
            if fnmatch.fnmatchcase(status.name, pattern):
                try:
                    on_change(status)
                except Exception:  # one that fails must not keep the news from the others
                    log.exception("Cannot tell of a change of %s", status.name)

    def _is_watched(self, unit: str) -> bool:
        return any(fnmatch.fnmatchcase(unit, pattern) for pattern, _ in self._watches)

    # Talking to systemd

    async def _list(self, pattern: str) -> dict[str, _States]:
        """Return load, active and sub state of each loaded unit that matches."""
        [units] = await self._ask("ListUnitsByPatterns", "(asas)", [], [pattern], reply="(a(ssssssouso))")
        return {name: (load, active, sub) for name, _, load, active, sub, *_ in units}

    async def _property(self, path: str, interface: str, name: str) -> Any:
        answer = await self._call(path, _PROPERTIES, "Get", "(ss)", interface, name, reply="(v)")
        return answer.unpack()[0]

    async def _ask(
        self, method: str, signature: str = "()", *arguments: Any, reply: str = "()"
    ) -> tuple[Any, ...]:
        answer = await self._call(_PATH, _MANAGER, method, signature, *arguments, reply=reply)
        values: tuple[Any, ...] = answer.unpack()
        return values

    async def _call(
        self,
        path: str,
        interface: str,
        method: str,
        signature: str = "()",
        *arguments: Any,
        reply: str = "()",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Any:
        """Return the method's answer, a Variant. Raises the SystemdError that systemd's answer stands for."""
        began = time.monotonic()
        try:
            return await self._connection.call(
                path, interface, method, Variant(signature, arguments), reply, timeout or self._call_timeout
            )
        except RemoteError as error:
            subject = next((argument for argument in arguments if isinstance(argument, str)), "")
            kind = _ERRORS.get(error.name, SystemdError)
            hint = _RELOAD_BUS if refused_by_bus(error.message) else _HINTS.get(kind)
            raise kind(f"{method} {subject}: {error.message}", hint=hint) from None
        finally:
            self.on_call(method, time.monotonic() - began)

    @contextlib.asynccontextmanager
    async def _within_job_timeout(self, method: str, unit: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._job_timeout):
                yield
        except TimeoutError:
            raise BusTimeout(
                f"{method} {unit}: not done within {self._job_timeout:g} s", hint="see `systemctl list-jobs`"
            ) from None

    async def _unless_lost(self, future: asyncio.Future[_Result]) -> _Result:
        """Return the future's result; raise BusLost where the bus goes away before there is one."""
        first: set[asyncio.Future[Any]] = {future, self.lost}
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
            lost = self.lost.result()
            raise BusLost(lost.message, hint=lost.hint)
        finally:
            future.cancel()


def _read(properties: Any, names: Iterable[str] = _OF_UNIT + _OF_TYPE) -> dict[str, Any]:
    """Return those values of a Variant with a unit's properties that have these names; nothing of None.

    Looked up one by one: to unpack all 400 takes twenty times as long.
    """
    found = [] if properties is None else [(name, properties.lookup_value(name, None)) for name in names]
    return {name: value.unpack() for name, value in found if value is not None}


def _status_of(unit: str, properties: Mapping[str, Any]) -> UnitStatus:
    """Make a status of a unit's properties; what is missing is as of a unit that never ran."""
    read = properties.get
    active_state = read("ActiveState", "inactive")
    return UnitStatus(
        name=unit,
        load_state=read("LoadState", "loaded"),
        active_state=active_state,
        sub_state=read("SubState", "dead"),
        result=read("Result", "success"),
        since=read(_SINCE.get(active_state, "StateChangeTimestamp"), 0) / 1e6,  # from microseconds
        main_pid=read("MainPID", 0),
        restarts=read("NRestarts", 0),
        exit_code=read("ExecMainCode", 0),
        exit_status=read("ExecMainStatus", 0),
        status_text=read("StatusText", ""),
        control_group=read("ControlGroup", ""),
        has_job=read("Job", (0, ""))[0] != 0,
        # A check that was never made reads as failed.
        condition=all(
            read(f"{check}Result", True) or not read(f"{check}Timestamp", 0)  # noqa: FBT003
            for check in ("Condition", "Assert")
        ),
    )


def _type_interface(unit: str) -> str:
    return f"{_SYSTEMD}.{unit.rpartition('.')[2].capitalize()}"


def _unit_path(unit: str) -> str:
    """Return the path of a unit's object (sd_bus_path_encode(3))."""
    return _UNIT_PATH + "".join(
        chr(byte) if chr(byte) in _PLAIN and (position or not chr(byte).isdigit()) else f"_{byte:02x}"
        for position, byte in enumerate(unit.encode())
    )


def _unit_name(path: str) -> str:
    """Return the unit of an object's path."""
    return re.sub("_([0-9a-f]{2})", lambda code: chr(int(code[1], 16)), path.removeprefix(_UNIT_PATH))
