"""The machine's resources, and how many more servers fit on it."""

import dataclasses
import os
from collections.abc import Collection

import psutil

from waportd.config import Limits

MEMORY_PER_SESSION = 250 * 1024**2
"""Bytes to assume where nothing was measured: ten sessions of the real page are reported at 2.5 GB."""


@dataclasses.dataclass(frozen=True, slots=True)
class Capacity:
    """The machine at one moment."""

    memory_total: int
    """Bytes."""
    memory_available: int
    """Bytes that are available to programs without swapping."""
    cpus: int
    load: tuple[float, float, float]
    """Processes that run or want to, on average over 1, 5 and 15 minutes."""
    running: int
    """Servers."""
    memory_per_session: int
    """Bytes, measured on average, or else a documented figure."""
    more_sessions: int | None
    """How many more servers fit; None where nothing limits them."""


def measure(limits: Limits, running: int, memory: Collection[int]) -> Capacity:
    """Look at the machine. ``memory`` is what the measured servers use."""
    host = psutil.virtual_memory()
    each = max(1, sum(memory) // len(memory)) if memory else MEMORY_PER_SESSION
    by_limit = [max(0, limits.max_running - running)] if limits.max_running else []
    by_memory = (
        [max(0, host.available - limits.min_available_memory) // each] if limits.min_available_memory else []
    )
    return Capacity(
        memory_total=host.total,
        memory_available=host.available,
        cpus=os.cpu_count() or 1,
        load=os.getloadavg(),
        running=running,
        memory_per_session=each,
        more_sessions=min([*by_limit, *by_memory], default=None),
    )
