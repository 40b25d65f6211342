"""The last day in memory, minute by minute: how the users are, what the servers use, what was delivered.

For an operator without Prometheus. A restart of the daemon begins again: nothing is written to disk.
"""

import asyncio
import logging
import math
import os
import time
from array import array
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import psutil

from waportd import summary
from waportd.concurrency import Background
from waportd.metrics import Metrics, queued, total
from waportd.networks import SLICE
from waportd.registry import Registry
from waportd.summary import Group
from waportd.systemd.manager import Accounting, SystemdError, UnitManager

log = logging.getLogger(__name__)

STEP_S: Final = 60
"""Seconds from one sample to the next."""
MAX_HOURS: Final = 24
FIRST_S: Final = 5.0
"""Seconds until the first sample: the servers report how they are within moments."""
_AT_ONCE = 200
"""Users that are looked at before other tasks have a turn; each takes some microseconds."""

FIGURES: Final = (
    *Group,
    "servers_memory",
    "host_memory",
    "servers_cpu",
    "load",
    "queued",
    "delivered",
    "undelivered",
    "restarts",
)
"""What a sample holds: `LastHoursDocument` says what each is."""
_NOTHING = math.nan


def seconds_since_boot() -> float:
    """Return the time by the clock that no one sets, and that runs while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Excerpt(NamedTuple):
    """The samples of the last hours, the oldest first. What is missing is NaN."""

    since: float
    """When the daemon began to sample, in seconds since the epoch; so are ``times``."""
    times: list[float]
    columns: "Mapping[str, array[float]]"


class Samples:
    """The samples of the last day, one a minute, in a ring of fixed size.

    They are kept by the clock that cannot be set and that runs while the machine sleeps. What it read at some time is
    converted when somebody asks: so a clock that was wrong, and is right now, leaves no trace.
    """

    LENGTH = MAX_HOURS * 3600 // STEP_S

    def __init__(self, began: float) -> None:
        self._began = began
        self._last = -1
        """The number of the newest sample; they are numbered from when the daemon began."""
        self._columns = {name: array("d", [_NOTHING]) * self.LENGTH for name in FIGURES}

    def add(self, at: float, figures: Mapping[str, float | None]) -> None:
        """Keep a sample. Minutes without one, as while the machine slept, stay empty."""
        number = max(self._last + 1, round((at - self._began) / STEP_S))
        for name, column in self._columns.items():
            for missed in range(max(self._last + 1, number - self.LENGTH + 1), number):
                column[missed % self.LENGTH] = _NOTHING
            value = figures[name]
            column[number % self.LENGTH] = _NOTHING if value is None else value
        self._last = number

    def due_in(self, now: float) -> float:
        """Return in how many seconds the next sample is due."""
        return max(0.0, self._began + (self._last + 1) * STEP_S - now)

    def of_last(self, hours: int, now: float, wall: float) -> Excerpt:
        """Return the samples of the last hours. ``wall`` is what ``now`` is in seconds since the epoch."""
        ahead = wall - now
        newest = max(self._last, math.floor((now - self._began) / STEP_S))
        first = max(0, newest + 1 - hours * 3600 // STEP_S)
        count = max(0, self._last + 1 - first)
        begin = first % self.LENGTH
        return Excerpt(
            since=self._began + ahead,
            times=[self._began + number * STEP_S + ahead for number in range(first, first + count)],
            columns={
                name: (column[begin:] + column[:begin])[:count] for name, column in self._columns.items()
            },
        )


class History:
    """Takes the samples while the daemon runs."""

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        manager: UnitManager,
        clock: Callable[[], float] = seconds_since_boot,
    ) -> None:
        """``clock`` is one that cannot be set, and that runs while the machine sleeps."""
        self._registry = registry
        self._metrics = metrics
        self._manager = manager
        self._clock = clock
        self._samples = Samples(self._clock() + FIRST_S)
        self._counted = self._counts()
        self._cpu: tuple[float, float] | None = None
        """What the servers had used at the last sample, and when that was; both in seconds."""
        self._background = Background()

    def start(self) -> None:
        """Begin to take samples."""
        self._background.run(self._follow(), "record the last hours")

    async def close(self) -> None:
        """Take no more samples."""
        await self._background.close()

    def of_last(self, hours: int) -> Excerpt:
        """Return the samples of the last hours."""
        return self._samples.of_last(hours, self._clock(), time.time())

    async def sample(self) -> None:
        """Take a sample now."""
        accounting = await self._accounting()
        counted = self._counts()
        memory = psutil.virtual_memory()
        figures: dict[str, float | None] = {
            **await self._users(),
            "servers_memory": accounting.memory,
            "host_memory": memory.total - memory.available,
            "servers_cpu": self._processors(accounting.cpu),
            "load": os.getloadavg()[0],
            **{name: count - self._counted[name] for name, count in counted.items()},
        }
        self._counted = counted
        self._samples.add(self._clock(), figures)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._samples.due_in(self._clock()))
            await self.sample()

    async def _accounting(self) -> Accounting:
        """Ask for all servers in one question, whatever their number."""
        try:
            return await self._manager.accounting(SLICE)
        except SystemdError as error:
            log.debug("Cannot measure %s: %s", SLICE, error)
            return Accounting(None, None)

    def _processors(self, used: float | None) -> float | None:
        """Return how many processors the servers kept busy since the last sample; None where that is unknown."""
        before, now = self._cpu, time.monotonic()
        self._cpu = None if used is None else (used, now)
        # It counts from zero again where systemd has made the control group again.
        if before is None or used is None or used < before[0] or now <= before[1]:
            return None
        return (used - before[0]) / (now - before[1])

    def _counts(self) -> dict[str, float]:
        messages = self._metrics.webhook_calls
        return {
            "delivered": total(messages.labels("delivered")),
            "undelivered": total(messages.labels("undelivered")),
            "restarts": total(self._metrics.restarts),
        }

    async def _users(self) -> dict[str, float]:
        """Count the users by group, and the messages that wait."""
        counted = dict.fromkeys([*Group, "queued"], 0.0)
        instances = list(self._registry)
        wall = time.time()
        for begin in range(0, len(instances), _AT_ONCE):
            for instance in instances[begin : begin + _AT_ONCE]:
                shown = summary.of_server(instance, wall)
                counted[summary.group_of(shown, linked=instance.assignment.linked)] += 1
                counted["queued"] += queued(instance)
            await asyncio.sleep(0)
        return counted
