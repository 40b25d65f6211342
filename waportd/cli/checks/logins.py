"""Snapshots of the logins: whether they are made, and are what they say."""

import datetime as dt
import os
import tempfile
from pathlib import Path

from waportd.cli import login_copies, old_session, terminal
from waportd.cli.checks.finding import Findings, fail, ok, skip, warn
from waportd.cli.checks.host import Host
from waportd.cli.exit_status import Problem
from waportd.client import User

_TOLD = 10
"""Users that are listed one by one where each has a problem."""
_OLD = dt.timedelta(hours=1)
"""A snapshot is old after that, or after three of its intervals."""


def snapshots(host: Host) -> Findings:
    """Check how old the snapshots are, and read one to the last byte."""
    if host.users is None:
        yield skip(
            "unknown age of the logins' snapshots: waportd does not answer", "systemctl status waportd"
        )
        return
    interval = host.config.instances.snapshot_interval
    if not interval:
        yield ok("logins are not copied: instances.snapshot_interval is 0")
        return
    linked = [user for user in host.users if user.linked]
    now = dt.datetime.now(dt.UTC)
    old = [user for user in linked if _is_old(user, now, max(_OLD, dt.timedelta(seconds=3 * interval)))]
    for user in old[:_TOLD]:
        at = user.storage.snapshot_at if user.storage else None
        said = f"is {terminal.age(at)} old" if at else "was never made"
        yield warn(
            f"user {user.user}: the newest snapshot of the login {said}",
            f"waportctl logs {user.user} says why",
        )
    if more := len(old[_TOLD:]):
        yield warn(f"{more} more snapshots are too old", "waportctl list --disk")
    copied = [user for user in linked if user.storage and user.storage.snapshot_at]
    if not old:
        yield ok(f"{len(copied)} of {len(linked)} logins are copied, and no copy is too old")
    if copied:
        yield from _read_one(host, min(copied, key=_snapshot_at))


def _snapshot_at(user: User) -> dt.datetime:
    assert user.storage is not None
    assert user.storage.snapshot_at is not None
    return user.storage.snapshot_at


def _is_old(user: User, now: dt.datetime, limit: dt.timedelta) -> bool:
    """Return whether there should be a newer one: the session has been connected for longer than ``limit``."""
    if user.session is None or user.session.state != "ready" or not user.session.since:
        return False
    at = user.storage.snapshot_at if user.storage else None
    return now - user.session.since > limit and (at is None or now - at > limit)


def _read_one(host: Host, user: User) -> Findings:
    if host.system and os.geteuid() != 0:
        yield skip("only root can read a snapshot", "sudo waportctl doctor")
        return
    auth = old_session.auth_folder(host.config, user.port)
    try:
        with tempfile.TemporaryDirectory(prefix="waportctl-doctor-", dir="/var/tmp") as scratch:
            copy = login_copies.copy_newest(auth, Path(scratch) / "login")
    except Problem as problem:
        yield fail(
            f"user {user.user}: {problem.message}",
            f"make another one: curl -X POST http://localhost:{user.port}/snapshot",
        )
        return
    if copy is None:
        yield warn(f"user {user.user}: the snapshot that its server reports is not in {auth}", None)
    else:
        yield ok(f"user {user.user}: the snapshot is complete ({terminal.size(copy.bytes)} read)")
