"""Memory and disk: whether there is room for what runs and grows."""

import os
import shutil
from pathlib import Path

import psutil

from waportd.capacity import MEMORY_PER_SESSION
from waportd.cli import terminal
from waportd.cli.checks.finding import Findings, fail, ok, skip, warn
from waportd.cli.checks.host import Host, exists
from waportd.client import User

_DISK_MIN, _DISK_LOW = 64 << 20, 1 << 30
"""Bytes: servers refuse to start below the first half of this; a session takes some 100 MiB."""


LARGE_LOGIN = 1 << 30
"""Bytes of a login that is reported: ten times the size of a new one."""


_TOLD = 10
"""Users that are listed one by one where each has a problem."""


_CACHES = Path("/var/cache/whatsapp")


def memory(host: Host) -> Findings:
    """Check whether another server has room."""
    available, least = psutil.virtual_memory().available, host.config.limits.min_available_memory
    said = f"{terminal.size(available)} of memory are available"
    if available < least:
        yield fail(
            f"{said}; below {terminal.size(least)} no server starts",
            "stop users who are not needed (waportctl list --memory), add memory, or lower "
            "limits.min_available_memory",
        )
        return
    fitting = (available - least) // MEMORY_PER_SESSION
    if not fitting:
        yield warn(f"{said}, hardly enough for one more session", "waportctl list --memory")
    else:
        room = f"about {fitting} more sessions" if fitting > 1 else "about one more session"
        yield ok(f"{said}, enough for {room} at {terminal.size(MEMORY_PER_SESSION)} each")


def disk(host: Host) -> Findings:
    """Check the room for assignments, sessions and caches."""
    places = [host.config.store.directory]
    if host.system:
        places += [Path("/var/lib/whatsapp"), _CACHES]
    seen: set[int] = set()
    for place in places:
        there = _nearest(place)
        device = there.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(there).free
        said = f"{terminal.size(free)} are free on the disk of {place}"
        if free < _DISK_MIN:
            yield fail(said, "free some space: du -xh / | sort -h | tail; journalctl --vacuum-size=200M")
        elif free < _DISK_LOW:
            yield warn(said, "free some space: journalctl --vacuum-size=200M; apt clean")
        else:
            yield ok(said)


def _nearest(place: Path) -> Path:
    """Return the folder, or the one above it that is there."""
    return next(path for path in (place, *place.parents) if exists(str(path)))


def growth(host: Host) -> Findings:
    """Check what the sessions keep on disk, and whether there is room for their caches to grow."""
    if host.users is None:
        why = "unknown disk usage of the sessions: waportd does not answer"
        yield skip(why, "systemctl status waportd")
        return
    yield from _what_has_grown(host.users, host.config.instances.cache_max)
    caches = _CACHES if host.system else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    free = shutil.disk_usage(_nearest(caches)).free
    yield from _what_may_grow(host, host.users, free)
    kept = [user.storage for user in host.users if user.storage]
    kinds = {
        "logins": [each.login for each in kept],
        "caches": [each.cache for each in kept],
        "journals": [each.journal for each in kept],
        "snapshots": [each.snapshots for each in kept],
    }
    sums = ", ".join(f"{kind} {terminal.size(sum(sizes))}" for kind, sizes in kinds.items())
    measured = f"{len(kept)} of {len(host.users)} sessions measured: {sums}"
    yield ok(f"{measured}; {terminal.size(free)} are free")


def _what_has_grown(users: list[User], cache_max: int) -> Findings:
    logins = {user.user: user.storage.login for user in users if user.storage}
    caches = {user.user: user.storage.cache for user in users if user.storage}
    running = {user.user for user in users if user.process.state == "running"}
    large = _largest(logins, LARGE_LOGIN)
    full = _largest(caches, cache_max) if cache_max else []
    for user, count in large[:_TOLD]:
        yield warn(
            f"user {user}: the login has {terminal.size(count)}",
            f"to make it smaller, delete it (waportctl logout {user}) and link the phone again",
        )
    for user, count in full[:_TOLD]:
        start = "restart" if user in running else "start"
        yield warn(
            f"user {user}: the cache has {terminal.size(count)}; instances.cache_max is {terminal.size(cache_max)}",
            f"empty it: waportctl {start} {user}",
        )
    if more := len(large[_TOLD:]) + len(full[_TOLD:]):
        yield warn(f"{more} more logins and caches are too large", "waportctl list --disk")


def _largest(sizes: dict[str, int], most: int) -> list[tuple[str, int]]:
    """Return who has more than that, the largest first."""
    over = [(user, count) for user, count in sizes.items() if count > most]
    return sorted(over, key=lambda one: -one[1])


def _what_may_grow(host: Host, users: list[User], free: int) -> Findings:
    cache_max = host.config.instances.cache_max
    room = f"{terminal.size(free)} are free on their disk"
    if not cache_max:
        yield warn(
            f"instances.cache_max is 0, so the caches have no limit, and {room}",
            f"in {host.config_file}: instances: {{cache_max: 256M}}; then: systemctl reload waportd",
        )
        return
    missing = sum(max(0, cache_max - (user.storage.cache if user.storage else 0)) for user in users)
    if missing > free:
        limit = f"{len(users)} users, instances.cache_max is {terminal.size(cache_max)}"
        yield warn(
            f"the caches may grow by {terminal.size(missing)} ({limit}), and {room}",
            "lower instances.cache_max, delete users who are not needed, or make the disk larger",
        )
