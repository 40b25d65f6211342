"""How fast a server that ends again and again is started again: at once at first, then ever more slowly, for ever.

systemd restarts a server by itself, at once and without a limit. After a few times a pause is put before the next
start: a unit of its own, which systemd has the server's start wait for. So a restart needs no daemon, the port stays
open, and who calls it meanwhile waits.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from waportd.model import Port, pause_unit, port_of_pause, port_of_unit
from waportd.systemd.manager import SystemdError, UnitManager, UnitStatus
from waportd.units import LONGEST_PAUSE

log = logging.getLogger(__name__)

AT_ONCE = 3
"""Restarts in a row that need not wait."""
PAUSES = (15.0, 60.0, 120.0, 120.0, float(LONGEST_PAUSE))
"""Seconds before the next restarts in a row; the last one holds from then on.

A fault that lasts costs 18 starts in its first hour, and 12 in each one after that. One that is gone within five minutes
is noticed two minutes later at most."""

_PAUSES_OF_ALL = "whatsapp-pause@*"


def pause_before(restart: int) -> float:
    """Return the seconds before the restart of that number in a row, from 1."""
    return 0.0 if restart <= AT_ONCE else PAUSES[min(restart - AT_ONCE, len(PAUSES)) - 1]


@dataclasses.dataclass
class _Series:
    """A server's ends in a row, in systemd's own count of the restarts that they caused."""

    well_at: int
    """How many there were when all was well."""
    seen: int
    server: UnitStatus
    """The server's service as it is now."""
    timer: asyncio.TimerHandle | None = None
    due: float | None = None
    """When the server that waits is to start, in seconds since the epoch."""

    @property
    def length(self) -> int:
        return self.seen - self.well_at

    def settle(self) -> None:
        """Nothing waits any more."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.due = None


class Pacer:
    """Puts pauses between the restarts of each server. Told of what the servers' units do, it follows the pauses itself."""

    def __init__(self, manager: UnitManager, on_change: Callable[[Port], None]) -> None:
        """``on_change`` is called when a server begins to wait, or waits no more."""
        self._manager = manager
        self._on_change = on_change
        self._series: dict[Port, _Series] = {}
        self._pausing: set[Port] = set()
        """Ports whose servers could not start now."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def start(self) -> None:
        """Find the pauses that an earlier life of the daemon has left, and follow all. Raises SystemdError."""
        self._manager.watch(_PAUSES_OF_ALL, self._on_pause)
        for status in await self._manager.list_units(_PAUSES_OF_ALL):
            self._on_pause(status)

    async def close(self) -> None:
        """Let go; pauses that are under way end by themselves."""
        self._closing = True
        for series in self._series.values():
            series.settle()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def due(self, port: Port) -> float | None:
        """Return when a server that waits is to start, in seconds since the epoch; None where none waits."""
        series = self._series.get(port)
        return series.due if series else None

    def note(self, server: UnitStatus) -> None:
        """Take notice of how a server's service is now."""
        port = port_of_unit(server.name)
        if port is None or self._closing:
            return
        series = self._series.get(port)
        if series is None:
            # What there was before this daemon is another story, unless it has led to a pause.
            known = 0 if port in self._pausing else server.restarts
            series = self._series[port] = _Series(known, known, server)
        if server.restarts < series.seen:
            series.well_at = series.seen = 0  # somebody has started it, or reset its failures
        has_ended, series.seen, series.server = server.restarts > series.seen, server.restarts, server
        if has_ended and (seconds := pause_before(series.length)):
            self._wait(port, series, seconds)
        elif _is_up(server):
            series.settle()
            if series.length >= AT_ONCE:
                # For the next end: until then nothing waits for it.
                self._pause(port)
        is_down = server.active_state == "inactive" and series.due is None
        if port in self._pausing and (series.length < AT_ONCE or is_down):
            # Its failures were reset, it has ended in order, or somebody restarts it.
            self._in_background(self.release(port), f"release {port}")

    async def release(self, port: Port) -> None:
        """Let the server start now: somebody asks for it. Its ends so far are forgotten. Raises SystemdError."""
        if series := self._series.get(port):
            series.settle()
            series.well_at = series.seen
        if port in self._pausing:
            self._pausing.discard(port)
            await self._manager.stop(pause_unit(port))

    def forget(self, port: Port) -> None:
        """Forget a port that has lost its owner."""
        if series := self._series.pop(port, None):
            series.settle()

    def _wait(self, port: Port, series: _Series, seconds: float) -> None:
        """Have the server wait for its next start, if it is not on its way already."""
        self._pause(port)
        series.settle()
        series.due = time.time() + seconds
        series.timer = asyncio.get_running_loop().call_later(seconds, self._end_pause, port)

    def _pause(self, port: Port) -> None:
        if port not in self._pausing:
            self._pausing.add(port)
            self._in_background(self._begin_pause(port), f"pause {port}")

    async def _begin_pause(self, port: Port) -> None:
        try:
            await self._manager.begin(pause_unit(port))
        except SystemdError:
            self._pausing.discard(port)
            raise

    def _end_pause(self, port: Port) -> None:
        self._in_background(self._manager.stop(pause_unit(port)), f"end the pause of {port}")

    def _on_pause(self, status: UnitStatus) -> None:
        port = port_of_pause(status.name)
        if port is None:
            return
        if status.active_state == "activating":
            self._pausing.add(port)
            return
        self._pausing.discard(port)
        series = self._series.get(port)
        if series is None:
            return
        series.settle()
        if _is_well(series.server):
            series.well_at = series.seen
        elif _is_up(series.server) and series.length >= AT_ONCE:
            self._pause(port)
        self._on_change(port)

    def _in_background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.warning("Cannot %s: %s", task.get_name(), error)


def _is_well(server: UnitStatus) -> bool:
    """Tell whether a server has run for as long as the longest pause, but for what clocks and timers make of it."""
    return server.active_state == "active" and time.time() - server.since >= LONGEST_PAUSE * 0.9


def _is_up(server: UnitStatus) -> bool:
    """Tell whether a start is under way, or done."""
    return server.active_state == "active" or (
        server.active_state == "activating" and server.sub_state.startswith("start")
    )
