"""Measures a server's usage: systemd's accounting where there is any, else the sum over its processes."""

import asyncio
import dataclasses
import logging
import time
from pathlib import Path

import psutil

from waportd.model import Usage
from waportd.systemd.manager import SystemdError, UnitManager, UnitStatus

log = logging.getLogger(__name__)

FRESH_S = 10.0
"""Seconds for which a measurement is reused: summing over a browser's processes takes milliseconds each."""
CGROUP_ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


class UsageMeter:
    """Measures units, and remembers each figure."""

    def __init__(self, manager: UnitManager) -> None:
        self._manager = manager
        self._known: dict[str, tuple[float, int, Usage]] = {}

    def known(self, unit: str, pid: int) -> Usage | None:
        """Return the last measurement of the unit with that main process, however old."""
        known = self._known.get(unit)
        return known[2] if known and known[1] == pid else None

    async def measure(self, unit: str, pid: int, fresh: float | None = None) -> Usage:
        """Return what the unit uses, or used at most ``fresh`` seconds ago (ten); nothing where it does not run.

        ``pid`` is that of its main process: figures of an earlier process are not used.
        """
        now = time.monotonic()
        known = self._known.get(unit)
        if known and now - known[0] < (FRESH_S if fresh is None else fresh) and known[1] == pid:
            return known[2]
        try:
            status = await self._manager.status(unit)
            usage = await self._measure(status) if status.main_pid else Usage()
        except SystemdError as error:
            log.warning("Cannot measure %s: %s", unit, error)
            usage = Usage()
        self._known[unit] = (now, pid, usage)
        return usage

    def forget(self, unit: str) -> None:
        """Drop the measurements of a unit that is gone."""
        self._known.pop(unit, None)

    async def _measure(self, status: UnitStatus) -> Usage:
        accounting = await self._manager.accounting(status.name)
        if accounting.memory is not None and accounting.cpu is not None:
            return Usage(accounting.memory, "systemd", accounting.cpu, "systemd")
        usage = await asyncio.to_thread(_sum_processes, status)
        if accounting.memory is not None:
            usage = dataclasses.replace(usage, memory=accounting.memory, memory_source="systemd")
        if accounting.cpu is not None:
            usage = dataclasses.replace(usage, cpu=accounting.cpu, cpu_source="systemd")
        return usage


def _sum_processes(status: UnitStatus) -> Usage:
    """Add up what the unit's processes use: PSS where all may be read, else RSS, which counts shared pages often."""
    pss = rss = 0
    cpu = 0.0
    readable = True
    seen = 0
    for pid in pids(status):
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                rss += process.memory_info().rss
                # Children that ended and were reaped count too, as they do in a control group.
                cpu += times.user + times.system + times.children_user + times.children_system
                seen += 1
            pss += process.memory_full_info().pss
        except psutil.AccessDenied:
            readable = False
        except psutil.Error:
            # It ended meanwhile, as a browser's processes do all the time.
            continue
    if not seen:
        return Usage()
    return Usage(pss if readable else rss, "pss" if readable else "rss", cpu, "processes")


def pids(status: UnitStatus) -> list[int]:
    """Return the processes of a unit."""
    # An empty name would be the root group, with everything in it.
    for root in CGROUP_ROOTS if status.control_group else ():
        try:
            listed = (root / status.control_group.lstrip("/") / "cgroup.procs").read_text(encoding="ascii")
        except OSError:
            continue
        if listed:
            return [int(line) for line in listed.split()]
    try:
        # Where the control group is not visible, the main process and what it started come closest.
        main = psutil.Process(status.main_pid)
        return [main.pid, *(child.pid for child in main.children(recursive=True))]
    except psutil.Error:
        return []
