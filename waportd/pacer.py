"""Paces the restarts of a server that keeps ending: at once at first, then more and more slowly, for ever.

systemd restarts a server automatically, at once and without a limit. After a few times a pause comes before the next
start: a separate unit, for which systemd makes the server's start wait. So a restart needs no daemon, the port stays
open, and callers wait meanwhile.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable

from waportd.concurrency import Background
from waportd.diagnosis import BEFORE_RESTART
from waportd.model import Port, pause_unit, port_of_pause, port_of_unit
from waportd.systemd.manager import SystemdError, UnitManager, UnitStatus
from waportd.units import LONGEST_PAUSE_S

log = logging.getLogger(__name__)

RESTARTS_AT_ONCE = 3
"""Restarts in a row without a pause."""
PAUSES_S = (15.0, 60.0, 120.0, 120.0, float(LONGEST_PAUSE_S))
"""Seconds before the next restarts in a row; the last one repeats.

A fault that lasts costs 18 starts in its first hour, and 12 in each one after that. The end of a fault of at most
five minutes is noticed two minutes later at most."""

_RESTART_STATES = (BEFORE_RESTART, "auto-restart-queued")
"""Sub states, from version 254 on, before a restart by systemd itself."""
_PAUSES_OF_ALL = "whatsapp-pause@*"


def pause_before(restart: int) -> float:
    """Return the seconds before restart N in a row, from 1."""
    return (
        0.0 if restart <= RESTARTS_AT_ONCE else PAUSES_S[min(restart - RESTARTS_AT_ONCE, len(PAUSES_S)) - 1]
    )


@dataclasses.dataclass
class _Series:
    """A server's ends in a row, by systemd's own count of the restarts that they caused."""

    well_at: int
    """The count when all was well."""
    seen: int
    server: UnitStatus
    """The server's service as it is now."""
    paced: int = 0
    """The length of the series when the server was last paused."""
    timer: asyncio.TimerHandle | None = None
    due: float | None = None
    """When the paused server is to start, in seconds since the epoch."""

    @property
    def length(self) -> int:
        return self.seen - self.well_at

    def stop_waiting(self) -> None:
        """Nothing waits any more."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.due = None


class Pacer:
    """Puts pauses between the restarts of each server. It is given unit changes of servers, and follows the pauses."""

    def __init__(self, manager: UnitManager, on_change: Callable[[Port], None]) -> None:
        """``on_change`` is called when a server begins or ends to wait."""
        self._manager = manager
        self._on_change = on_change
        self._series: dict[Port, _Series] = {}
        self._pausing: set[Port] = set()
        """Ports whose servers could not start now."""
        self._background = Background()
        self._closing = False
        self._names_restarts = False
        """Whether this systemd distinguishes ends that it follows by a restart from others."""

    async def start(self) -> None:
        """Find the pauses that an earlier daemon has left, and follow all. Raises SystemdError."""
        self._manager.watch(_PAUSES_OF_ALL, self._on_pause)
        for status in await self._manager.list_units(_PAUSES_OF_ALL):
            self._on_pause(status)

    async def close(self) -> None:
        """Close; running pauses end automatically."""
        self._closing = True
        for series in self._series.values():
            series.stop_waiting()
        await self._background.close()

    def due(self, port: Port) -> float | None:
        """Return when a paused server is to start, in seconds since the epoch; None where none is paused."""
        series = self._series.get(port)
        return series.due if series else None

    def note(self, server: UnitStatus) -> None:
        """Take note of the current state of a server's service."""
        port = port_of_unit(server.name)
        if port is None or self._closing:
            return
        series = self._series.get(port)
        if series is None:
            # Ends before this daemon do not count, unless they have led to a pause.
            known = 0 if port in self._pausing else server.restarts
            series = self._series[port] = _Series(known, known, server)
        if server.restarts < series.seen:
            series.well_at = series.seen = series.paced = 0  # somebody has started it, or reset its failures
        series.seen, series.server = server.restarts, server
        if _is_up(server):
            series.stop_waiting()
            if series.length >= RESTARTS_AT_ONCE:
                # For the next end: until then nothing waits for it.
                self._pause(port)
        else:
            self._consider(port, series)
        self._names_restarts = self._names_restarts or server.sub_state.endswith(_RESTART_STATES)
        if (port in self._pausing or series.due is not None) and (
            series.length < RESTARTS_AT_ONCE or _is_down(server)
        ):
            # Its failures were reset, it has ended in order, or somebody stops or restarts it.
            if series.length < RESTARTS_AT_ONCE or self._names_restarts:
                series.stop_waiting()
                self._background.run(self.release(port), f"release {port}")
            else:
                self._background.run(self._look_again(port, server.name), f"look at {port}")

    async def _look_again(self, port: Port, unit: str) -> None:
        """Release a server that was stopped. Before version 254, systemd shows each restart as an end first: a job follows.

        That job is the only sign of a server that an earlier daemon has paused.
        """
        status = await self._manager.status(unit)
        series = self._series.get(port)
        if series is None or not _is_down(status):
            return
        if not status.has_job:
            series.stop_waiting()
            await self.release(port)
            self._on_change(port)
        elif port in self._pausing and series.due is None and series.length != series.paced:
            self._wait(port, series, pause_before(max(series.length, RESTARTS_AT_ONCE + 1)))
            self._on_change(port)

    def _consider(self, port: Port, series: _Series) -> None:
        """Pause a server that has ended, or find out until when it is paused.

        It goes by the current state: systemd may have counted a restart while the start before it was seen, so that the
        pause for the next end comes one end too early; and the first report of a new pause may be that it does not run.
        """
        waits_already = port in self._pausing
        if not _waits(series.server) or (
            series.length == series.paced and (not waits_already or series.due is not None)
        ):
            return
        if seconds := pause_before(
            max(series.length, RESTARTS_AT_ONCE + 1) if waits_already else series.length
        ):
            self._wait(port, series, seconds)

    async def release(self, port: Port) -> None:
        """Let the server start now, on request. Its ends so far are forgotten. Raises SystemdError."""
        if series := self._series.get(port):
            series.stop_waiting()
            series.well_at, series.paced = series.seen, 0
        if port in self._pausing:
            self._pausing.discard(port)
            await self._manager.stop(pause_unit(port))

    def forget(self, port: Port) -> None:
        """Forget a port that has lost its owner."""
        if series := self._series.pop(port, None):
            series.stop_waiting()

    def _wait(self, port: Port, series: _Series, seconds: float) -> None:
        """Pause the next start of the server for that long, from its end on, which an earlier daemon may have seen."""
        self._pause(port)
        series.stop_waiting()
        series.paced = series.length
        now = time.time()
        # No longer, even if the clock was changed meanwhile.
        left = min(max(0.0, series.server.since + seconds - now), seconds)
        series.due = now + left
        series.timer = asyncio.get_running_loop().call_later(left, self._end_pause, port)

    def _pause(self, port: Port) -> None:
        if port not in self._pausing:
            self._pausing.add(port)
            self._background.run(self._begin_pause(port), f"pause {port}")

    async def _begin_pause(self, port: Port) -> None:
        try:
            await self._manager.begin(pause_unit(port))
        except SystemdError:
            self._pausing.discard(port)
            raise

    def _end_pause(self, port: Port) -> None:
        self._background.run(self._manager.stop(pause_unit(port)), f"end the pause of {port}")

    def _on_pause(self, status: UnitStatus) -> None:
        port = port_of_pause(status.name)
        if port is None:
            return
        series = self._series.get(port)
        if status.active_state == "activating":
            self._pausing.add(port)
            if series is not None and series.due is None:
                self._consider(port, series)
                self._on_change(port)
            return
        self._pausing.discard(port)
        if series is None:
            return
        if _is_down(series.server) and not self._names_restarts:
            # It counts as paused until its start is reported: a page that polls would start it as a stopped one.
            self._background.run(self._look_again(port, series.server.name), f"look at {port}")
        else:
            series.stop_waiting()
        if _is_well(series.server):
            series.well_at, series.paced = series.seen, 0
        elif _is_up(series.server) and series.length >= RESTARTS_AT_ONCE:
            self._pause(port)
        self._on_change(port)


def _is_well(server: UnitStatus) -> bool:
    """Return whether a server has run for as long as the longest pause, within the accuracy of clocks and timers."""
    return server.active_state == "active" and time.time() - server.since >= LONGEST_PAUSE_S * 0.9


def _is_up(server: UnitStatus) -> bool:
    """Return whether a start is under way, or done."""
    return server.active_state == "active" or (
        server.active_state == "activating" and server.sub_state.startswith("start")
    )


def _is_down(server: UnitStatus) -> bool:
    """Return whether nothing restarts the server. From version 254 on systemd shows a restart as an end first."""
    return server.active_state == "inactive" and not server.sub_state.endswith("auto-restart")


def _waits(server: UnitStatus) -> bool:
    """Return whether the server has ended, and systemd restarts it automatically as soon as it may."""
    return server.active_state == "activating" and server.sub_state.startswith("auto-restart")
