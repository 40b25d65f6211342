"""The runtime directory of the lease unit: the lease as its keeper writes it, and the environments of the sessions.

systemd makes this folder when the lease unit starts, and removes it with all that is in it when the unit ends. Each
user's units refuse to start without an environment file in it, so nothing starts without a lease. A folder belongs to
one *incarnation*: who opened it under an earlier one can reach no file of a later one.

Everything here does blocking file I/O, on a tmpfs: nothing is synced, since nothing needs to outlive the boot.
"""

import contextlib
import dataclasses
import errno
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from waportd import files
from waportd.errors import StoreError
from waportd.fleet.boot_clock import Clock
from waportd.fleet.engine import Lease, LeaseLost
from waportd.model import Port

LEASE_FILE: Final = "lease.json"
OUTAGE_FILE: Final = "outage"
"""Written again each time another host hears from this one that it does not reach the engine."""

_ENVIRONMENT_FILE = re.compile(r"([1-9][0-9]{0,4})\.env")
_MAX_BYTES: Final = 64 * 1024
"""Bytes of a file that are read; a lease has some 200, an environment 2 KiB."""


@dataclasses.dataclass(frozen=True)
class Held:
    """A lease, and how long this host may act on it."""

    lease: Lease
    deadline_s: float
    """By CLOCK_BOOTTIME of the boot ``boot_id``: the host's units have no leave to run any longer."""
    boot_id: str

    def covers(self, now_s: float, boot_id: str) -> bool:
        """Return whether the lease still allows sessions to run."""
        return self.boot_id == boot_id and now_s < self.deadline_s


class LeaseFolder:
    """An open runtime directory. All calls raise OSError; one that systemd has removed is empty and takes no file."""

    def __init__(self, path: Path) -> None:
        with files.opened(path) as descriptor:
            self._folder = os.dup(descriptor)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def held(self) -> Held | None:
        """Return what the keeper wrote last; None where it has no lease, or the folder is that of a unit that ended.

        Raises ValueError for a file that no keeper wrote.
        """
        try:
            document = json.loads(files.read(LEASE_FILE, _MAX_BYTES, self._folder))
        except FileNotFoundError:
            return None
        return _held(document)

    def keep(self, held: Held) -> None:
        """Write the lease for the daemon, and for the next keeper of this unit."""
        document = dataclasses.asdict(held.lease) | {"deadline_s": held.deadline_s, "boot_id": held.boot_id}
        with self._replacing(LEASE_FILE, json.dumps(document)):
            pass

    def note_outage(self) -> None:
        """Have the daemon know that another host is about to hear that this one does not reach the engine."""
        with self._replacing(OUTAGE_FILE, secrets.token_hex(8)):
            pass

    def clear(self) -> None:
        """Remove every file, as before the first lease of a unit.

        systemd leaves a folder in place if a file appears in it while it removes the others: one that was written
        under an earlier incarnation must not start anything under this one. A file may be renamed while this looks
        for it, so it looks until there is nothing.
        """
        while names := self._names():
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._folder)

    def environment_ports(self) -> list[Port]:
        """Return the ports that have an environment, in order."""
        matches = [_ENVIRONMENT_FILE.fullmatch(name) for name in self._names()]
        return sorted(Port(int(match[1])) for match in matches if match)

    def write_environment(self, port: Port, text: str, incarnation: int) -> bool:
        """Write a port's environment as a whole; return whether it changed.

        Raises LeaseLost where the lease is not of this incarnation.
        """
        name = f"{port}.env"
        # What may not be read, such as a link, may still be replaced.
        with contextlib.suppress(OSError):
            if files.read(name, _MAX_BYTES, self._folder) == text.encode():
                self.require(incarnation)
                return False
        with self._replacing(name, text):
            # Asked when the new file is there, under whatever name: `clear` comes before a later lease, and either
            # removes that file or has this see the lease gone.
            self.require(incarnation)
        return True

    def remove_environment(self, port: Port) -> None:
        """Remove a port's environment, without which its units refuse to start; a missing one is no error."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{port}.env", dir_fd=self._folder)

    def require(self, incarnation: int) -> Held:
        """Return the lease of this incarnation; raise LeaseLost where there is none or another."""
        held = self.held()
        if held is None or held.lease.incarnation != incarnation:
            raise _lost(incarnation)
        return held

    def _names(self) -> list[str]:
        with os.scandir(self._folder) as found:
            return [one.name for one in found]

    @contextlib.contextmanager
    def _replacing(self, name: str, text: str) -> Iterator[None]:
        """Write a file beside another, and put it into its place after the body."""
        new = f".{name}.new"  # one name: what a crash leaves behind is overwritten
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=self._folder)
        try:
            with os.fdopen(os.open(new, files.NEW, 0o600, dir_fd=self._folder), "wb") as file:
                file.write(text.encode())
            yield
            os.replace(new, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=self._folder)
            raise


class Environments:
    """The daemon's side of one incarnation: where it writes the environments of its sessions.

    Open it once for each incarnation, and again after LeaseLost. What was decided under one can never be written
    under a later one: the folder is found once, not by its name each time.
    """

    def __init__(self, path: Path) -> None:
        """Open the folder of the lease that is held now. Raises LeaseLost where there is none, and StoreError."""
        self._path = path
        try:
            self._folder = LeaseFolder(path)
        except FileNotFoundError:
            raise _lost() from None
        except OSError as error:
            raise _unusable(path, error) from error
        with contextlib.ExitStack() as undone:
            undone.callback(self._folder.close)
            with self._reported(LEASE_FILE):
                held = self._folder.held()
            if held is None:
                raise _lost()
            undone.pop_all()
        self.lease: Final = held.lease

    def close(self) -> None:
        """Give the descriptor back."""
        self._folder.close()

    def require(self, now_s: float, boot_id: str) -> Held:
        """Return the lease; raise LeaseLost where it does not cover this moment of CLOCK_BOOTTIME."""
        with self._reported(LEASE_FILE):
            held = self._folder.require(self.lease.incarnation)
        if not held.covers(now_s, boot_id):
            raise _lost(self.lease.incarnation)
        return held

    def write(self, port: Port, text: str) -> bool:
        """Write a port's environment, as `waportd.units.environment` makes it; return whether it changed.

        Raises LeaseLost, and StoreError.
        """
        with self._reported(f"{port}.env"):
            return self._folder.write_environment(port, text, self.lease.incarnation)

    def remove(self, port: Port) -> None:
        """Remove a port's environment; a missing one is no error. Raises StoreError."""
        with self._reported(f"{port}.env"):
            self._folder.remove_environment(port)

    def ports(self) -> list[Port]:
        """Return the ports that have an environment, in order. Raises StoreError."""
        with self._reported(""):
            return self._folder.environment_ports()

    @contextlib.contextmanager
    def _reported(self, name: str) -> Iterator[None]:
        """Turn a failure in the folder into an error with a hint."""
        try:
            yield
        except OSError as error:
            # Nothing can be made in a folder that was removed.
            if error.errno == errno.ENOENT:
                raise _lost() from error
            raise _unusable(self._path / name, error) from error
        except ValueError as error:
            raise _unusable(self._path / name, error) from error


class OwnLease:
    """The lease of this host as it is now: one open folder for each incarnation, as its keeper comes and goes."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._open: Environments | None = None

    def current(self) -> Environments:
        """Return the folder of the lease that covers this moment: another object for each incarnation.

        Raises LeaseLost where there is none, and StoreError.
        """
        if self._open is not None:
            with contextlib.suppress(LeaseLost):
                self._require(self._open)
                return self._open
            self.close()
        found = Environments(self._path)
        try:
            self._require(found)
        except BaseException:
            found.close()
            raise
        self._open = found
        return found

    def outage(self) -> str | None:
        """Return what is another text after each `LeaseFolder.note_outage`; None for none under this lease.

        Raises StoreError.
        """
        try:
            return files.read(self._path / OUTAGE_FILE, _MAX_BYTES).decode()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(self._path / OUTAGE_FILE, error) from error

    def close(self) -> None:
        """Give the descriptor back."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _require(self, found: Environments) -> None:
        found.require(self._clock.now_s(), self._clock.boot_id())


def _held(document: Any) -> Held:
    try:
        lease = Lease(
            host=str(document["host"]),
            id=int(document["id"]),
            incarnation=int(document["incarnation"]),
            ttl_s=float(document["ttl_s"]),
        )
        return Held(lease, float(document["deadline_s"]), str(document["boot_id"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{LEASE_FILE} is not a keeper's") from error


def _lost(incarnation: int | None = None) -> LeaseLost:
    which = "" if incarnation is None else f" of incarnation {incarnation}"
    return LeaseLost(
        f"this host holds no lease{which}",
        hint="`systemctl status waportd-lease` says why; sessions start again when it holds one",
    )


def _unusable(path: Path, error: OSError | ValueError) -> StoreError:
    why = error.strerror if isinstance(error, OSError) else error
    return StoreError(
        f"{path} cannot be used: {why}",
        hint="check its owner and mode, and that /run is not full; `systemctl restart waportd-lease` makes it again, "
        "and stops the sessions for a moment",
    )
