"""Sessions that an earlier setup kept: found, copied, and put where the user's server looks for them."""

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from waportd import files
from waportd.cli import copying, terminal
from waportd.cli.exit_status import Problem
from waportd.config import Bus, Config
from waportd.contract import CONTRACT
from waportd.model import Port
from waportd.port_holders import is_stale_server

_FOLDER = re.compile(r"\.wwebjs_auth_([1-9][0-9]{0,4})")
_MAX_NOTE = 4096
"""Bytes of a server's note about its login; it has some 100."""
_LOCKS = ("SingletonLock", "SingletonCookie", "SingletonSocket", "DevToolsActivePort")
"""What a browser leaves behind: useless to another one."""
_EARLIER_PREFIX = CONTRACT["variables"]["WAPORTD_CLIENT_ID_PREFIX"]["earlier_default"]
_MESSAGES = "messages"
"""Beside the profile: the journal, and the keys of sends."""
_PROFILE = "profile"
"""The profile's name in the copy."""


@dataclass(frozen=True)
class Source:
    """The session of the earlier setup."""

    folder: Path
    """``.wwebjs_auth_<port>``."""
    profile: Path
    """``session-…`` in it."""
    port: int | None
    """As the folder's name has it."""
    opened: int
    """The profile's descriptor: what is there under its name may be another one by now."""
    messages: int | None
    """That of the journal's folder, where there is one."""


def find(stack: contextlib.ExitStack, named: Path, port: int | None, prefix: str) -> Source:
    """Find the session in the folder that was named, or below it, and keep it open."""
    opened = _open(stack, named)
    folder, inside = files.path_of(opened), _names(opened)
    if not _FOLDER.fullmatch(folder.name) and not any(name.startswith("session") for name in inside):
        found = [name for name in inside if _FOLDER.fullmatch(name)]
        wanted = [name for name in found if name == f".wwebjs_auth_{port}"] if port else found
        if len(wanted) != 1:
            there = ", ".join(map(terminal.plain, found)) or "none"
            raise Problem(
                f"{folder} holds not exactly one session to import (found: {there})",
                "name one of them: --from",
            )
        opened = _open(stack, Path(wanted[0]), opened)
        folder, inside = files.path_of(opened), _names(opened)
    match = _FOLDER.fullmatch(folder.name)
    number = int(match[1]) if match else port
    profiles = [name for name in inside if name.startswith("session") and _is_folder(name, opened)]
    exact = [name for name in profiles if name == f"session-{prefix}_{number}"] or [
        name for name in profiles if name == f"session-{_EARLIER_PREFIX}_{number}"
    ]
    if len(exact or profiles) != 1:
        there = ", ".join(map(terminal.plain, profiles)) or "none"
        raise Problem(
            f"{folder} holds not exactly one profile session-{prefix}_{number} (found: {there})",
            "remove the others",
        )
    profile = _open(stack, Path((exact or profiles)[0]), opened)
    messages = _open(stack, Path(_MESSAGES), opened) if _is_folder(_MESSAGES, opened) else None
    return Source(folder, files.path_of(profile), number, profile, messages)


def _open(stack: contextlib.ExitStack, path: Path, above: int | None = None) -> int:
    try:
        return stack.enter_context(files.opened(path, above))
    except OSError as error:
        failed = Path(error.filename) if above is None else files.path_of(above) / error.filename
        raise Problem(
            f"{failed} cannot be opened: {error.strerror}",
            "name the folder by a path without that link"
            if error.errno == errno.ELOOP
            else "name the folder .wwebjs_auth_PORT, or the one that holds it",
        ) from error


def _names(folder: int) -> list[str]:
    return sorted(os.listdir(folder))  # of the folder that is open


def _is_folder(name: str, folder: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def refuse_if_used(source: Source) -> None:
    """Refuse while somebody uses the session: two browsers on one profile damage it."""
    for process in psutil.process_iter(["pid", "name", "username", "cmdline"]):
        for why in _uses(process, source):
            raise Problem(
                f"the old session is in use: {process.info['name']} (pid {process.pid}, user "
                f"{process.info['username']}) {why}",
                f"stop the old server first, with what started it; then: kill {process.pid}",
                code="session_in_use",
            )


def _uses(process: psutil.Process, source: Source) -> Iterator[str]:
    try:
        option = "--user-data-dir="
        words = process.info["cmdline"] or []
        if any(
            Path(word.removeprefix(option)).resolve() == source.profile
            for word in words
            if word.startswith(option)
        ):
            yield "has its profile open"
        if source.port is None or not process.info["cmdline"]:
            return
        if is_stale_server(process, Port(source.port)) and Path(process.cwd()) == source.folder.parent:
            yield f"is its server, whatsapp_server.js on port {source.port}"
    except (psutil.Error, OSError):
        return


def sessions_folder(config: Config) -> Path:
    """Return where systemd keeps the servers' state (systemd.exec(5), StateDirectory=)."""
    if config.systemd.bus is Bus.SYSTEM:
        return Path("/var/lib/private/whatsapp")
    # A user's systemd: since 254 the state has a place of its own, before it lay with the configuration.
    known = subprocess.run(
        ["systemd-path", "user-state-private"], capture_output=True, text=True, check=False
    )
    home = known.stdout.strip() or os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home, "whatsapp")


def auth_folder(config: Config, port: int) -> Path:
    """Return where the server on a port keeps login, snapshots and messages."""
    return sessions_folder(config) / str(port) / f".wwebjs_auth_{port}"


def may_be_linked(folder: Path) -> bool:
    """Whether a folder may hold a login. Its server may put anything there: if in doubt, it may."""
    try:
        with files.opened(folder) as opened:
            try:
                note = json.loads(files.read("login.json", _MAX_NOTE, opened))
            except FileNotFoundError:
                # A profile without a note is of a server that did not get to write one.
                return any(name.startswith("session-") for name in _names(opened))
            return not isinstance(note, dict) or note.get("linked") is not False
    except FileNotFoundError:
        return False
    except (OSError, ValueError, RecursionError):
        return True


@contextlib.contextmanager
def copied(source: Source, sessions: Path) -> Iterator[Path]:
    """Copy profile and journal to where a rename puts them in place; what is left there at the end is deleted."""
    with workspace(sessions) as copy:
        for name, opened, excluded in ((_PROFILE, source.opened, _LOCKS), (_MESSAGES, source.messages, ())):
            if opened is not None:
                (copy / name).mkdir(mode=0o700)
                copying.copy(opened, copy / name, excluded)
        yield copy


@contextlib.contextmanager
def workspace(sessions: Path) -> Iterator[Path]:
    """Give a folder from where a rename puts a session in place; what is left there at the end is deleted."""
    copy = sessions / f".import-{os.getpid()}"
    try:
        for folder in [*reversed(sessions.parents), sessions]:
            folder.mkdir(mode=0o700, exist_ok=True)  # systemd takes no /var/lib/private that others may enter
        copy.mkdir(mode=0o700)
        yield copy
    except OSError as error:
        raise Problem(
            f"the session cannot be copied to {sessions}: {error.strerror}",
            "is the disk full?" if error.errno in {errno.ENOSPC, errno.EDQUOT} else None,
        ) from error
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def make_profile(copy: Path, login: Path) -> None:
    """Make the profile in ``copy`` of a copy of a login: of its folders, without its description."""
    profile = copy / _PROFILE
    profile.mkdir(mode=0o700)
    (login / "Default").rename(profile / "Default")


def put(copy: Path, place: Path, port: int, prefix: str) -> None:
    """Put the copy in place, in new folders. What is there is an unlinked session, and is deleted."""
    if place.exists():
        shutil.rmtree(place)
    folder = place / f".wwebjs_auth_{port}"
    for new in (place, folder):
        new.mkdir(mode=0o700)
    if (copy / _MESSAGES).exists():
        (copy / _MESSAGES).rename(folder / _MESSAGES)
    (copy / _PROFILE).rename(folder / f"session-{prefix}_{port}")
