"""What a private manager runs, as which user, and what that may reach."""

from __future__ import annotations

import contextlib
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAME = "with-systemd"
PRIVATE = Path("/run") / NAME
# systemd leaves the uids 60578 to 61183 to nobody (https://systemd.io/UIDS-GIDS).
UNUSED_UID = 60578


class StartError(Exception):
    """The private manager could not be brought up; the text says why and what to do."""


@dataclass(frozen=True)
class Owner:
    """The user that the manager and the command run as."""

    uid: int
    gid: int
    name: str

    def drop_privileges(self) -> None:
        """Turn this process into the owner's, for good."""
        os.setgroups([])
        os.setgid(self.gid)
        os.setuid(self.uid)

    @contextlib.contextmanager
    def effective(self) -> Iterator[None]:
        """Act as the owner for a while."""
        groups = os.getgroups()
        os.setgroups([])
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)


@dataclass(frozen=True)
class Plan:
    """A command, and its surroundings."""

    command: Sequence[str]
    working_directory: Path
    owner: Owner
    checkout: Path
    writable: Sequence[Path]
    home: Path
    private_network: bool = False


def owner_of(checkout: Path) -> Owner:
    """Return the owner of the checkout, or, where that is root, an id that belongs to nobody."""
    status = checkout.stat()
    if status.st_uid == 0:
        return Owner(UNUSED_UID, UNUSED_UID, NAME)
    try:
        name = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        name = NAME
    return Owner(status.st_uid, status.st_gid, name)


def give(folder: Path, owner: Owner) -> None:
    """Make all of `folder` the owner's; follows no links."""
    for root, folders, files, descriptor in os.fwalk(folder):
        os.chown(root, owner.uid, owner.gid, follow_symlinks=False)
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):  # it may be in use
                os.chown(name, owner.uid, owner.gid, dir_fd=descriptor, follow_symlinks=False)
