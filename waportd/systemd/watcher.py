"""Watches units of systemd: reads them where necessary, and otherwise keeps what signals report."""

import asyncio
import contextlib
import dataclasses
import fnmatch
import logging
from collections.abc import Callable, Iterator
from typing import Any

from waportd.concurrency import KeyedLocks
from waportd.systemd.calls import DBUS, MANAGER, PROPERTIES, AlreadySubscribed, Calls, States
from waportd.systemd.manager import NoSuchUnit, SystemdError, UnitStatus
from waportd.systemd.properties import (
    OF_TYPE,
    OF_UNIT,
    SIGNALLED,
    SYSTEMD,
    UNIT,
    read,
    status_of,
    unit_name,
    unit_path,
)

log = logging.getLogger(__name__)

_NEVER_LOADED: States = ("", "inactive", "")
_SETTLING_S = 0.05
"""After which a unit that was loaded or unloaded is read: mostly signals have reported everything by then."""
_RETRY_INTERVAL_S = 1.0
"""Until a unit that could not be read is read again."""


class UnitWatcher:
    """Keeps what is known of units, and calls back when one changes."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.watches: tuple[tuple[str, Callable[[UnitStatus], None]], ...] = ()
        """Replaced as a whole: the thread that receives signals reads it."""
        self._known: dict[str, States] = {}
        """Watched units as last read."""
        self._said: dict[str, Any] = {}
        """A watched unit's values as a service or socket from the last signal, packed; the rest follows at once."""
        self._heard: dict[str, UnitStatus] = {}
        """Watched units as signals have last reported them."""
        self._changed: set[str] = set()
        """Watched units to be read again."""
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._questions: KeyedLocks[str] = KeyedLocks()
        self._reloading = False

    async def idle(self) -> None:
        """Return when systemd reads no unit files, and each reported change is read."""
        while self._reloading or self._readers:
            if self._readers:
                await asyncio.wait(self._readers.values())
            else:
                await asyncio.sleep(_SETTLING_S)

    async def close(self) -> None:
        """Read nothing any more."""
        readers = [*self._readers.values()]
        for task in readers:
            task.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    async def status(self, unit: str) -> UnitStatus:
        """Return the unit as it is now; one that never ran is ``inactive``, not an error."""
        async with self._asking(unit):
            return await self._status(unit)

    async def _status(self, unit: str) -> UnitStatus:
        heard = self._heard.get(unit)
        # A query for the properties of a unit that is not loaded loads it. "" stands for all interfaces.
        answer = await self._calls.call(unit_path(unit), PROPERTIES, "GetAll", "(s)", "", reply="(a{sv})")
        status = status_of(unit, read(answer.get_child_value(0)))
        newer = self._heard.get(unit)
        if newer is not None and newer is not heard:
            # A signal that came meanwhile may be newer than the answer, and wins in any case.
            return dataclasses.replace(newer, control_group=status.control_group)
        if self._is_watched(unit):
            self._known[unit] = (status.load_state, status.active_state, status.sub_state)
        return status

    async def list_units(self, pattern: str) -> list[UnitStatus]:
        """Return the loaded units whose name matches the shell pattern; of sockets that are up only their states.

        To get all properties of a unit from systemd takes a millisecond or two, and there may be 1,000 sockets.
        """
        listed = await self._calls.list_units(pattern)
        up = {
            unit for unit, (_, active, _) in listed.items() if unit.endswith(".socket") and active == "active"
        }
        self._known |= {
            unit: listed[unit] for unit in up if unit not in self._heard and self._is_watched(unit)
        }
        others = await asyncio.gather(*map(self.status, listed.keys() - up))
        return [*others, *(UnitStatus(unit, *listed[unit]) for unit in up)]

    def watch(self, pattern: str, on_change: Callable[[UnitStatus], None]) -> None:
        """Call back on the event loop with the new status of each matching unit that changed.

        Changes that come in quick succession make one call. A unit that gets unloaded reads as inactive.
        """
        self.watches = (*self.watches, (pattern, on_change))

    @contextlib.contextmanager
    def watching(self, unit: str, on_change: Callable[[UnitStatus], None]) -> Iterator[None]:
        """Call back as `watch` does, for as long as the block lasts."""
        watch = (unit, on_change)
        self.watches = (*self.watches, watch)
        try:
            yield
        finally:
            self.watches = tuple(each for each in self.watches if each is not watch)

    def heard(self, unit: str) -> UnitStatus | None:
        """Return a watched unit as signals have last reported it; None where they have not."""
        return self._heard.get(unit)

    async def subscribe(self) -> None:
        """Subscribe to all changes. Raises what calls raise."""
        subscribe = self._calls.connection.subscribe
        await subscribe(MANAGER, "Reloading", self._on_reloading)
        # A unit's first change is announced by UnitNew alone.
        await subscribe(MANAGER, "UnitNew", self._on_loaded_or_unloaded)
        await subscribe(MANAGER, "UnitRemoved", self._on_loaded_or_unloaded)
        # Sent at every change, first for the interface of the unit's type, then for the one that all units have, and
        # each time with all values that may change: to query them costs both sides milliseconds.
        for interface in (f"{SYSTEMD}.Service", f"{SYSTEMD}.Socket", UNIT):
            await subscribe(
                PROPERTIES, "PropertiesChanged", self._on_properties_changed, arg0=interface,
                wanted=lambda path: self._is_watched(unit_name(path)),
            )  # fmt: skip
        await subscribe(DBUS, "NameOwnerChanged", self._on_owner_changed, sender=DBUS, arg0=SYSTEMD)
        await self._ask_for_signals()

    async def _ask_for_signals(self) -> None:
        with contextlib.suppress(AlreadySubscribed):
            await self._calls.ask("Subscribe")

    def _on_properties_changed(self, path: str, arguments: Any) -> None:
        unit = unit_name(path)
        values = arguments.get_child_value(1)
        if arguments.get_child_value(0).get_string() != UNIT:
            self._said[unit] = values
            return
        signalled = {**read(self._said.pop(unit, None), OF_TYPE), **read(values, OF_UNIT)}
        if not signalled.keys() >= SIGNALLED:
            self._mark(unit)
            return
        # Not signalled, since it does not change while the unit is loaded.
        load_state = self._known.get(unit, ("loaded", "", ""))[0]
        status = dataclasses.replace(status_of(unit, signalled), load_state=load_state)
        self._known[unit] = (load_state, status.active_state, status.sub_state)
        self._heard[unit] = status
        self._changed.discard(unit)
        self._tell(status)

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
        self._calls.background.run(self._resync(), "resync units")

    async def _resync(self) -> None:
        """Find out which units changed without a signal."""
        try:
            await self._ask_for_signals()
            listed = [await self._calls.list_units(pattern) for pattern, _ in self.watches]
        except SystemdError as error:
            log.warning("Cannot list the units after a reload: %s", error)
            if not self._calls.lost.done():
                await asyncio.sleep(_RETRY_INTERVAL_S)
                self._start_resync()
            return
        loaded = {unit: states for units in listed for unit, states in units.items()}
        for unit in loaded.keys() | self._known.keys():
            if loaded.get(unit) != self._known.get(unit):
                self._mark(unit)

    def _mark(self, unit: str) -> None:
        """Have a unit that may have changed read again, once for all changes until then."""
        if not self._is_watched(unit):
            return
        self._changed.add(unit)
        if unit not in self._readers:
            self._readers[unit] = asyncio.create_task(self._read(unit), name=f"read {unit}")

    async def _read(self, unit: str) -> None:
        try:
            while unit in self._changed and not self._calls.lost.done():
                await asyncio.sleep(_SETTLING_S)
                if unit not in self._changed:
                    return  # a signal has reported it meanwhile
                self._changed.discard(unit)
                try:
                    status = await self._status_if_loaded(unit)
                except SystemdError as error:
                    log.warning("Cannot read %s: %s", unit, error)
                    self._changed.add(unit)
                    await asyncio.sleep(_RETRY_INTERVAL_S)
                else:
                    self._tell(status)
        finally:
            del self._readers[unit]

    async def _status_if_loaded(self, unit: str) -> UnitStatus | None:
        """Return the unit's status; None where it is not loaded and was not up before either."""
        async with self._asking(unit):
            heard = self._heard.get(unit)
            try:
                await self._calls.ask("GetUnit", "(s)", unit, reply="(o)")
            except NoSuchUnit:
                if self._heard.get(unit) is not heard:
                    return None  # it was loaded again meanwhile, and the signal is newer
                # A query for its properties would load it: that is announced, too, and so on for ever.
                self._heard.pop(unit, None)
                _, active_state, _ = self._known.pop(unit, _NEVER_LOADED)
                return None if active_state == "inactive" else UnitStatus(unit)
            return await self._status(unit)

    def _asking(self, unit: str) -> asyncio.Lock:
        """Return the lock that is held from a query for a unit to its answer.

        Several threads make calls: of two at once, the older answer could come last, and win.
        """
        return self._questions[unit]

    def _tell(self, status: UnitStatus | None) -> None:
        if status is None:
            return
        for pattern, on_change in tuple(self.watches):
            if fnmatch.fnmatchcase(status.name, pattern):
                try:
                    on_change(status)
                except Exception:  # a failure must not keep the change from the others
                    log.exception("Cannot report a change of %s", status.name)

    def _is_watched(self, unit: str) -> bool:
        return any(fnmatch.fnmatchcase(unit, pattern) for pattern, _ in self.watches)
