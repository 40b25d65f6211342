"""Memory that runs out: the kernel ends processes of the sessions, as on a host that has too little for them."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

from faults import kill_all
from testbed import cgroups

LEFT = 8 << 20
"""Bytes that all sessions together are left with: with so little nothing of them starts."""
PAUSE = 0.05
"""Seconds until a process that has just been started is found."""
_GROUPS = Path("/sys/fs/cgroup/memory")
"""Groups of the first version of the kernel's memory controller."""
_SLICE = "whatsapp.slice"
_TAKE = """
import os, sys

with open(sys.argv[1], "w") as group:
    group.write(str(os.getpid()))
taken = b"x" * int(sys.argv[2])
"""
"""A program that takes the memory of a group, and more. It has less than what runs a session, so the kernel ends it last."""


class _Limit:
    """systemd limits the slice of all sessions: where it has the controller, in the unified hierarchy."""

    is_real = True

    def __init__(self, site):
        self._site = site

    def __enter__(self):
        self._before = self.kills()
        self._site.machine.systemctl(
            "set-property", "--runtime", _SLICE, f"MemoryMax={LEFT}", "MemorySwapMax=0"
        )
        return self

    def __exit__(self, *_):
        self._site.machine.systemctl("set-property", "--runtime", _SLICE, "MemoryMax=infinity")

    def kills(self):
        said = self._site.machine.run("cat", f"/sys/fs/cgroup/{_SLICE}/memory.events").stdout
        return int(re.search(r"^oom_kill (\d+)", said, re.MULTILINE)[1])

    def killed(self):
        """Return how many processes the kernel has ended."""
        return self.kills() - self._before


class _Group:
    """A group of this machine, by the first version of the kernel's controller, that processes of another one are put into."""

    def __init__(self, machine, folder, size):
        """``folder`` is the group that systemd has these processes in; ``size`` is in bytes."""
        self._group = _GROUPS / machine.name
        self._folder = folder
        self._size = size

    def __enter__(self):
        self._group.mkdir()
        self.limit(self._size)
        self.gather()
        return self

    def __exit__(self, *_):
        self.limit(-1)
        while pids := (self._group / "cgroup.procs").read_text().split():
            for pid in pids:
                _move(pid, _GROUPS)
        self._group.rmdir()

    def limit(self, size):
        (self._group / "memory.limit_in_bytes").write_text(str(size))

    def gather(self):
        """Put processes into the group that are not in it yet; what they start is in it."""
        there = set(self.processes.read_text().split())
        # A service that ends takes its folder along, be it while this one is looked through.
        for folder, _, files in os.walk(self._folder):
            if "cgroup.procs" not in files:
                continue
            with contextlib.suppress(OSError):
                for pid in set(Path(folder, "cgroup.procs").read_text().split()) - there:
                    _move(pid, self._group)

    @property
    def processes(self):
        return self._group / "cgroup.procs"

    def kills(self):
        """Return how many processes of the group the kernel has ended."""
        said = (self._group / "memory.oom_control").read_text()
        return int(re.search(r"^oom_kill (\d+)", said, re.MULTILINE)[1])

    def available(self):
        """Return how many bytes programs could get: what is not used, and files that need not be kept in memory."""
        said = dict(line.split() for line in (self._group / "memory.stat").read_text().splitlines())
        used = int((self._group / "memory.usage_in_bytes").read_text())
        return self._size - used + int(said["total_inactive_file"]) + int(said["total_active_file"])


class _Pressed:
    """All processes of the sessions are in a group of this machine, beside one that takes all that is left."""

    is_real = True

    def __init__(self, site):
        machine = site.machine
        self._group = _Group(machine, next(_group_of(machine).glob(f"**/{_SLICE}")), LEFT)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._press)

    def __enter__(self):
        self._group.__enter__()
        command = [sys.executable, "-c", _TAKE, self._group.processes, str(8 * LEFT)]
        self._taker = subprocess.Popen(command)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._done.set()
        self._thread.join()
        self._group.limit(-1)
        self._taker.kill()
        self._taker.wait()
        self._group.__exit__(*error)

    def _press(self):
        while not self._done.wait(PAUSE):
            self._group.gather()

    def killed(self):
        """Return how many processes of the sessions the kernel has ended."""
        return self._group.kills() - (self._taker.poll() is not None)


class _Played:
    """Where the kernel limits no one's memory, it is the test that ends the processes."""

    is_real = False

    def __init__(self, site):
        self._site = site
        self._killed = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._kill)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _kill(self):
        while not self._done.wait(1):
            self._killed += kill_all(self._site, "whatsapp_server.js|--user-data-dir=")

    def killed(self):
        """Return how many processes were ended."""
        return self._killed


def shortage(site):
    """Return what takes the sessions' memory away here, for as long as its block lasts."""
    if not site.machine.run("test", "-e", f"/sys/fs/cgroup/{_SLICE}/memory.max", check=False).returncode:
        return _Limit(site)
    return _Pressed(site) if _can_group(site.machine) else _Played(site)


class Confined:
    """A machine with less memory than this one: the kernel holds all its processes to it, and its /proc/meminfo says so.

    As lxcfs does it for containers. Where the kernel's controller is not to be had, the machine only believes it.
    """

    def __init__(self, machine, meminfo, size):
        """``meminfo`` is the file that the machine sees as its own; ``size`` is in bytes."""
        self._meminfo = meminfo
        self._size = size
        self.is_real = _can_group(machine)
        self._group = _Group(machine, _group_of(machine), size) if self.is_real else None
        self._least = size
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep)

    def __enter__(self):
        if self._group:
            self._group.__enter__()
            self._group.gather()  # who was started by somebody who had not been moved yet
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._done.set()
        self._thread.join()
        if self._group:
            self._group.__exit__(*error)

    def _keep(self):
        while not self._done.wait(PAUSE):
            tell_memory(self._meminfo, self._size, self.available())

    def available(self):
        """Return the bytes that programs could get."""
        return self._group.available() if self._group else self._size // 2

    def kills(self):
        """Return how many processes the kernel has ended."""
        return self._group.kills() if self._group else 0


def tell_memory(meminfo, size, available):
    """Write what /proc/meminfo would say, in place: it may be bound somewhere."""
    free = available // 2
    said = {"MemTotal": size, "MemFree": free, "MemAvailable": available, "Buffers": 0, "Cached": available - free,
            "SwapCached": 0, "Active": size - available, "Inactive": available - free, "SwapTotal": 0, "SwapFree": 0,
            "Shmem": 0, "Slab": 0, "SReclaimable": 0}  # fmt: skip
    text = "".join(f"{name + ':':15} {bytes_ // 1024:8} kB\n" for name, bytes_ in said.items())
    with meminfo.open("r+" if meminfo.exists() else "w") as file:
        file.write(text)


def _can_group(machine):
    """Return whether the first version of the kernel's memory controller may be used here."""
    try:
        trial = _GROUPS / f"{machine.name}-trial"
        trial.mkdir()
        trial.rmdir()
    except OSError:
        return False
    return True


def _group_of(machine):
    """Return the group of the machine, as this one sees it."""
    return next(cgroups.ROOT.glob(f"**/{machine.name}"))


def _move(pid, group):
    with contextlib.suppress(OSError):  # it has just ended
        (group / "cgroup.procs").write_text(pid)
