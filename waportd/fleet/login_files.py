"""Carries a login between the folder of its session, which only root may open, and one of the daemon's.

whatsapp-export@.service runs it as the daemon's user, with the right to read everything: it can write nothing but the
daemon's folder. whatsapp-import@.service runs it as root. The session may have written anything into its folder, and a
broken daemon anything into its own: no link is followed, and only files and folders are carried.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from waportd import files, login_copies
from waportd.errors import WaportdError
from waportd.fleet import tree

LOGIN: Final = "login"
"""In an export: a copy of the login, with its description."""
MESSAGES: Final = "messages"
"""In an export, and beside the profile: the journal."""

_PORT: Final = re.compile(r"[1-9][0-9]{3,4}")
_TRIES: Final = 3
"""The journal may lose its oldest file while it is read, and the server its oldest copy."""


class NotCarried(WaportdError):
    """A login cannot be carried."""

    code = "login_not_carried"
    title = "A login cannot be copied"


def export(auth: Path, target: Path) -> bool:
    """Copy the newest snapshot that a server keeps in ``auth``, and its journal, to where an earlier export may be.

    Returns False, and leaves no export there, where the server keeps no snapshot. Raises FolderRefused, DiskFailed, Torn.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in range(_TRIES - 1, -1, -1):
        shutil.rmtree(target, ignore_errors=True)
        try:
            return _export(auth, target)
        except tree.FolderRefused:
            if not left:
                raise
    raise AssertionError  # the last try returns or raises


def put(source: Path, place: Path) -> None:
    """Have a folder be that of a session, in place of what is there, which an earlier owner left.

    Raises FolderRefused, DiskFailed.
    """
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(place)
    # It belongs to root now: systemd gives it, with all that is in it, to the user of the next server.
    with tree.writing(place) as new:
        new.copy(source)


def _export(auth: Path, target: Path) -> bool:
    copy = _newest(auth / login_copies.FOLDER)
    if copy is None:
        return False
    with tree.writing(target) as new:
        new.copy(copy, LOGIN)
        if os.path.lexists(auth / MESSAGES):
            new.copy(auth / MESSAGES, MESSAGES, grows=True)
    try:
        login_copies.verify(target / LOGIN)
    except login_copies.Torn:
        shutil.rmtree(target)
        raise
    return True


def _newest(folder: Path) -> Path | None:
    """Return the newest copy of a login that is complete."""
    try:
        with files.opened(folder) as kept:
            for number in login_copies.numbers(kept):
                with contextlib.suppress(OSError), files.opened(Path(str(number)), kept) as copy:
                    files.read(login_copies.DESCRIPTION, 1, copy)
                    return folder / str(number)
    except FileNotFoundError:
        pass
    return None


def _refuse_if_up(manager: str, port: str) -> None:
    units = [f"whatsapp@{port}.service", f"whatsapp@{port}.socket"]
    command = ["/usr/bin/systemctl", f"--{manager}", "is-active", *units]
    said = subprocess.run(command, check=False, capture_output=True, text=True).stdout.split()  # noqa: S603
    if any(state not in {"inactive", "failed"} for state in said):
        raise NotCarried(f"the server on port {port} is up", hint="stop it first")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="login", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("export", "import"))
    parser.add_argument("manager", choices=("system", "user"), help="whose unit the server is")
    parser.add_argument("port", help="the port of the server")
    parser.add_argument("sessions", type=Path, help="the folder with the servers' state")
    parser.add_argument("logins", type=Path, help="the daemon's folder, with one for each port")
    options = parser.parse_args(arguments)
    if not _PORT.fullmatch(options.port):
        parser.error(f"{options.port!r:.80} is no port")
    place, folder = options.sessions / options.port, options.logins / options.port
    try:
        if options.what == "export":
            export(place / f".wwebjs_auth_{options.port}", folder)
        else:
            _refuse_if_up(options.manager, options.port)
            put(folder, place)
    except (WaportdError, OSError) as error:
        print(f"Cannot {options.what} the login of port {options.port}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
