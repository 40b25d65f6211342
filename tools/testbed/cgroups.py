"""Control groups of the unified hierarchy (cgroups(7)): the tree in which systemd keeps units."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from testbed import linux

ROOT = Path("/sys/fs/cgroup")


def mount_unified() -> None:
    """Mount the unified hierarchy, whatever the machine's layout; needs a mount namespace of one's own."""
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    if not ROOT.is_dir():
        linux.mount("sysfs", "/sys", "sysfs", flags)
    linux.mount("tmpfs", ROOT, "tmpfs", flags)  # cgroup2 cannot be mounted directly over itself (EBUSY)
    linux.mount("cgroup2", ROOT, "cgroup2", flags)


def own() -> Path:
    """Return the group of this process."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    [path] = [line.removeprefix("0::") for line in lines if line.startswith("0::")]
    return ROOT / path.lstrip("/")


def enter(group: Path) -> None:
    """Move this process to a group."""
    (group / "cgroup.procs").write_text("0")


def delegate(group: Path, uid: int, gid: int) -> None:
    """Let somebody else make groups below `group` and move processes in there."""
    for name in (".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        os.chown(group / name, uid, gid)


def hand_down_controllers(group: Path) -> None:
    """Have the groups below `group` counted and limited, as far as `group` itself is."""
    for controller in (group / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):  # cpu refuses beside real-time processes
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def remove(group: Path) -> None:
    """Remove a group without processes, and those below it."""
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(FileNotFoundError):  # somebody else may clear up as well
            Path(folder).rmdir()
