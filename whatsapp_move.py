"""Moves the data of one port of a WhatsApp server to another port: the login, the cache, and the drop-ins of its units.

``whatsapp-move@.service`` runs it as root, which alone may rename these folders; on a session bus, as the user. waportd
requests that and decides which ports they are. Each step is a rename within one folder, and a finished one is not
repeated: another run finishes, or undoes, a move that a crash cut short.
"""

import argparse
import contextlib
import itertools
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_PORT = "([1-9][0-9]{3,4})"
TASK = re.compile(rf"{_PORT}:{_PORT}(?::(back|check))?")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_ENTRIES = 1000
"""Entries in the folder of a session, which usually has a few: the session itself may write anything there."""


class Refused(Exception):
    """The move is not possible; nothing, or only a part, is done."""


class Move:
    """From one port to another."""

    def __init__(self, source: str, target: str, kept: Sequence[Path], units: Sequence[Path]) -> None:
        self._source = source
        self._target = target
        self._kept = [folder for folder in kept if folder.is_dir()]
        self._units = [folder for folder in units if folder.is_dir()]

    def check(self) -> None:
        """Raise Refused where something of the target's would be in the way."""
        for folder, _, target in self._folders():
            with _opened(folder) as descriptor:
                if _has(target, descriptor):
                    raise Refused(f"{folder / target} is in the way")

    def run(self, *, back: bool) -> None:
        """Rename the source's files. ``back`` leaves alone what the target has already."""
        if not back:
            self._check_halves()
        for folder, source, target in self._folders():
            with _opened(folder) as descriptor:
                if _has(source, descriptor) and not _has(target, descriptor):
                    os.rename(source, target, src_dir_fd=descriptor, dst_dir_fd=descriptor)
                elif _is_systemds(source, descriptor):
                    os.unlink(source, dir_fd=descriptor)
                os.fsync(descriptor)  # also for a rename before a crash
        for folder in self._kept:
            with _opened(folder) as descriptor:
                self._rename_inside(folder, descriptor, back=back)

    def has_drop_ins(self) -> bool:
        """Return whether systemd has to reload its units."""
        return any((folder / name).is_dir() for folder in self._units for name in _drop_ins(self._target))

    def _folders(self) -> Iterator[tuple[Path, str, str]]:
        """Yield the renames: folder, old name, new name."""
        for folder in self._kept:
            yield folder, self._source, self._target
        for folder in self._units:
            for names in zip(_drop_ins(self._source), _drop_ins(self._target), strict=True):
                yield folder, *names

    def _check_halves(self) -> None:
        """Raise Refused where both ports have something: neither must be lost."""
        for folder, source, target in self._folders():
            with _opened(folder) as descriptor:
                if _has(source, descriptor) and _has(target, descriptor):
                    raise Refused(f"{folder / target} is in the way of {folder / source}")

    def _rename_inside(self, folder: Path, descriptor: int, *, back: bool) -> None:
        """Rename what has the port's number in its name, in a folder that belongs to the session."""
        if not _is_folder(self._target, descriptor):
            return
        with _opened(Path(self._target), descriptor) as inside:
            for kind in ("auth", "cache"):
                names = (f".wwebjs_{kind}_{self._source}", f".wwebjs_{kind}_{self._target}")
                self._rename(folder / self._target, inside, *names, back=back)
            auth = f".wwebjs_auth_{self._target}"
            if not _is_folder(auth, inside):
                return
            with _opened(Path(auth), inside) as profiles:
                found = _names(profiles)
                if len(found) > _MAX_ENTRIES and not back:  # nor was any of them renamed
                    raise Refused(
                        f"{folder / self._target / auth} has more than {_MAX_ENTRIES} files: no login"
                    )
                for name in found[:_MAX_ENTRIES]:
                    if match := re.fullmatch(rf"(session-.*_){self._source}", name):
                        shown, new = folder / self._target / auth, match[1] + self._target
                        self._rename(shown, profiles, name, new, back=back)

    @staticmethod
    def _rename(shown: Path, descriptor: int, source: str, target: str, *, back: bool) -> None:
        if _is_folder(source, descriptor):
            if not _is_there(target, descriptor):
                os.rename(source, target, src_dir_fd=descriptor, dst_dir_fd=descriptor)
            elif not back:
                raise Refused(f"{shown / target} is in the way")
        os.fsync(descriptor)


def _drop_ins(port: str) -> list[str]:
    return [f"whatsapp@{port}.{kind}.d" for kind in ("service", "socket")]


@contextlib.contextmanager
def _opened(folder: Path, above: int | None = None) -> Iterator[int]:
    """Open a folder, but not a link to one."""
    descriptor = os.open(folder, _FOLDER, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _has(name: str, folder: int) -> bool:
    """Return whether there is anything of that name that must not be lost."""
    return _is_there(name, folder) and not _is_systemds(name, folder)


def _is_systemds(name: str, folder: int) -> bool:
    """Return whether it is a link that systemd makes for a unit with DynamicUser=, and recreates where missing."""
    try:
        parts = Path(os.readlink(name, dir_fd=folder)).parts
    except OSError:  # it is none
        return False
    return parts[-3:-2] == ("private",) and parts[-1] == name


def _is_there(name: str, folder: int) -> bool:
    """Return whether there is anything of that name, even a dangling link."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_folder(name: str, folder: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _names(folder: int) -> list[str]:
    """Return what is in a folder, up to one entry more than is allowed."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in itertools.islice(entries, _MAX_ENTRIES + 1)]


def _refuse_if_up(ports: Sequence[str], systemctl: Sequence[str]) -> None:
    """Raise Refused where a server may be writing, or about to."""
    names = [f"whatsapp@{port}.{kind}" for port in ports for kind in ("service", "socket")]
    said = subprocess.run(  # noqa: S603  # of numbers alone
        [*systemctl, "show", "--property=Id,ActiveState", *names], check=True, capture_output=True, text=True
    ).stdout
    for unit in said.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in unit.splitlines())
        if values["ActiveState"] not in {"inactive", "failed"}:
            raise Refused(f"{values['Id']} is {values['ActiveState']}: stop it first")


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="whatsapp_move.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("manager", choices=("system", "user"), help="whose units they are")
    parser.add_argument("task", help="SOURCE:TARGET, SOURCE:TARGET:back or SOURCE:TARGET:check")
    for name, text in (("state", "%S"), ("cache", "%C"), ("settings", "%E"), ("runtime", "%t")):
        parser.add_argument(name, type=Path, help=f"the folder that units call {text.replace('%', '%%')}")
    options = parser.parse_args()
    task = TASK.fullmatch(options.task)
    if task is None or task[1] == task[2]:
        parser.error(f"{options.task!r:.80} names no move")
    source, target, how = task.groups()
    systemctl = ["/usr/bin/systemctl", f"--{options.manager}"]
    # For units with DynamicUser=, systemd keeps the data in "private".
    kept = [
        base / inner for base in (options.state, options.cache) for inner in ("private/whatsapp", "whatsapp")
    ]
    # Not the settings of this boot that systemctl set-property makes: waportd sets its limits again.
    units = [
        options.settings / "systemd" / options.manager,
        options.settings / "systemd" / f"{options.manager}.control",
        options.runtime / "systemd" / options.manager,
    ]
    move = Move(source, target, kept, units)
    try:
        if how == "check":
            move.check()
            return 0
        _refuse_if_up((source, target), systemctl)
        move.run(back=how == "back")
        if move.has_drop_ins():
            subprocess.run([*systemctl, "daemon-reload"], check=True)  # noqa: S603
    except (Refused, OSError, subprocess.CalledProcessError) as error:
        print(f"Cannot move port {source} to {target}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
