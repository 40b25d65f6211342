"""``import-session``: takes over a linked session of an earlier setup, without a new scan.

The old setup kept the session of port 5002 in ``.wwebjs_auth_5002/session-ylada_bot_5002``. The folder is copied to
where the user's new server looks for it, under the new server's names. systemd gives the copy to the server's own
uid, since the state directory does not exist before (measured on systemd 252 and 257: files that come later keep
their owner).
"""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from waportd.cli import exits, terminal
from waportd.cli.exits import Exit, Problem
from waportd.cli.main import Context
from waportd.cli.settings import read_config
from waportd.client import ApiError, UnknownUser, User
from waportd.config import Bus, Config
from waportd.errors import ConfigError
from waportd.holders import is_stale_server
from waportd.model import Port, is_user

_FOLDER = re.compile(r"\.wwebjs_auth_([1-9][0-9]{0,4})")
_FIRST_PORT = 1024
"""A number from here on is the port of a session, below it a user: the earlier setup ran without root."""
_LINK_TIMEOUT = 180.0
"""Seconds until the copied session must be ready."""
_LOCKS = ("SingletonLock", "SingletonCookie", "SingletonSocket", "DevToolsActivePort")
"""What a browser leaves that ran: of no use to another one."""


@dataclass(frozen=True)
class _Source:
    """The session of the earlier setup."""

    folder: Path
    """``.wwebjs_auth_<port>``."""
    profile: Path
    """``session-…`` in it."""
    port: int | None
    """As the folder's name has it."""


def import_session(context: Context) -> Exit:
    """Copy the session, have the server started with it, and say whether the phone is linked."""
    options = context.options
    config = _config(options.config)
    if config.systemd.bus is Bus.SYSTEM and os.geteuid() != 0:
        raise exits.needs_root("put a session where the user's server finds it")
    port = int(options.target) if options.target.isascii() and options.target.isdigit() else None
    if port is not None and port < _FIRST_PORT:
        port = None
    source = _find(options.folder, port, config.instances.client_id_prefix)
    user = _user(context, port)
    _refuse_if_used(source)
    _refuse_if_known_to_be_linked(context, user)
    sessions = _sessions(config)
    if not context.screen.as_json:
        context.screen.text(f"Copying {source.folder} …")
    with _copied(source, sessions) as copy:
        assigned = _assign(context, user)
        place = sessions / str(assigned.port)
        _refuse_if_there_is_one(assigned, place)
        _put(copy, place, assigned.port, config.instances.client_id_prefix)
    shown = assigned if options.no_start else _start(context, user)
    if context.screen.as_json:
        context.screen.document({**shown.raw, "imported_from": str(source.folder)})
    elif options.no_start:
        context.screen.text(f"user {user}: the session is in place; `waportctl start {user}` starts it")
    else:
        phone = f" as +{shown.session.phone_number}" if shown.session and shown.session.phone_number else ""
        context.screen.text(
            f"user {user}: linked{phone} on port {shown.port}, without a new scan. {source.folder} is as it was: "
            "delete it, since a session must not run twice."
        )
    return Exit.OK


def _config(path: Path) -> Config:
    try:
        return read_config(path)
    except ConfigError as error:
        raise Problem(error.message, error.hint, code=error.code) from error


def _find(folder: Path, port: int | None, prefix: str) -> _Source:
    """Find the session in the folder that was named, or below it."""
    if not folder.is_dir():
        raise Problem(
            f"{folder} is not a folder", "name the folder .wwebjs_auth_PORT, or the one that holds it"
        )
    folder = folder.resolve()
    if not _FOLDER.fullmatch(folder.name) and not any(folder.glob("session*")):
        found = [path for path in sorted(folder.glob(".wwebjs_auth_*")) if _FOLDER.fullmatch(path.name)]
        wanted = [path for path in found if path.name == f".wwebjs_auth_{port}"] if port else found
        if len(wanted) != 1:
            there = ", ".join(path.name for path in found) or "none"
            raise Problem(
                f"{folder} holds no one session that is meant (there: {there})", "name one of them: --from"
            )
        folder = wanted[0]
    named = _FOLDER.fullmatch(folder.name)
    number = int(named[1]) if named else port
    profiles = [path for path in sorted(folder.glob("session*")) if path.is_dir() and not path.is_symlink()]
    exact = [path for path in profiles if path.name == f"session-{prefix}_{number}"]
    if len(exact or profiles) != 1:
        there = ", ".join(path.name for path in profiles) or "none"
        raise Problem(
            f"{folder} holds no one profile session-{prefix}_{number} (there: {there})", "remove the others"
        )
    return _Source(folder, (exact or profiles)[0], number)


def _user(context: Context, port: int | None) -> str:
    options = context.options
    if options.user is not None:
        user = options.user
    elif port is None:
        user = options.target
    else:
        # The earlier setup gave user N port 5001 + (N - 1), as the daemon prefers to.
        user = context.client.port_info(port).preferred_by
    if user is None or not is_user(user):
        raise Problem(f"port {port} tells no user", "name the user: --user USER", Exit.USAGE, "bad_request")
    return str(user)


def _refuse_if_used(source: _Source) -> None:
    """Refuse while somebody uses the session: two browsers on one profile damage it."""
    for process in psutil.process_iter(["pid", "name", "username", "cmdline"]):
        for why in _uses(process, source):
            raise Problem(
                f"the old session is in use: {process.info['name']} (pid {process.pid}, user "
                f"{process.info['username']}) {why}",
                f"stop the old server first, with what started it; then: kill {process.pid}",
                code="session_in_use",
            )


def _uses(process: psutil.Process, source: _Source) -> Iterator[str]:
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


def _refuse_if_known_to_be_linked(context: Context, user: str) -> None:
    try:
        known = context.client.status(user)
    except UnknownUser:
        return
    if known.linked:
        raise _linked(user, known.port)


def _assign(context: Context, user: str) -> User:
    """Give the user a port, and stop the server: nothing may start one while the session is put in its place."""
    try:
        return context.client.stop(user)
    except UnknownUser:
        context.client.port(user)
        return context.client.stop(user)


def _sessions(config: Config) -> Path:
    """Return where systemd keeps the servers' state (systemd.exec(5), StateDirectory=)."""
    if config.systemd.bus is Bus.SYSTEM:
        return Path("/var/lib/private/whatsapp")
    # A user's systemd: since 254 the state has a place of its own, before it lay with the configuration.
    known = subprocess.run(
        ["systemd-path", "user-state-private"], capture_output=True, text=True, check=False
    )
    home = known.stdout.strip() or os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home, "whatsapp")


def _refuse_if_there_is_one(user: User, place: Path) -> None:
    folder = place / f".wwebjs_auth_{user.port}"
    note = folder / "login.json"
    # A profile without a note is of a server that did not get to write one: it may hold a login.
    unknown = any(folder.glob("session-*")) and not note.exists()
    if unknown or (note.exists() and '"linked":true' in note.read_text("utf-8").replace(" ", "")):
        raise _linked(user.user, user.port)


def _linked(user: str, port: int) -> Problem:
    return Problem(
        f"user {user} has a session on port {port} already",
        f"unlink and delete it first: waportctl logout {user}",
        code="already_linked",
    )


@contextlib.contextmanager
def _copied(source: _Source, sessions: Path) -> Iterator[Path]:
    """Copy the profile to where a rename puts it in place; what is left there at the end goes."""
    copy = sessions / f".import-{os.getpid()}"
    try:
        for folder in [*reversed(sessions.parents), sessions]:
            folder.mkdir(mode=0o700, exist_ok=True)  # systemd takes no /var/lib/private that others may enter
        copy.mkdir(mode=0o700)
        _copy_as_owner(source.profile, copy)
        yield copy
    except OSError as error:
        raise Problem(
            f"the session cannot be copied to {sessions}: {error.strerror}", "is the disk full?"
        ) from error
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _put(copy: Path, place: Path, port: int, prefix: str) -> None:
    """Put the copy in place, in new folders. What is there is an unlinked session, and goes."""
    if place.exists():
        shutil.rmtree(place)
    folder = place / f".wwebjs_auth_{port}"
    for new in (place, folder):
        new.mkdir(mode=0o700)
    copy.rename(folder / f"session-{prefix}_{port}")


def _copy_as_owner(source: Path, target: Path) -> None:
    """Copy a folder with the rights of its owner, who might lead root to any file by a link otherwise."""
    owner = source.stat()
    identity = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    excluded = [f"--exclude=./{name}" for name in _LOCKS]
    reading = ["tar", "--create", "--file=-", f"--directory={source}", *excluded, "."]
    writing = [
        "tar",
        "--extract",
        "--file=-",
        f"--directory={target}",
        "--no-same-owner",
        "--no-same-permissions",
    ]
    with subprocess.Popen(reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **identity) as reader:  # type: ignore[call-overload]
        assert reader.stdout is not None
        writer = subprocess.run(
            writing, stdin=reader.stdout, stderr=subprocess.PIPE, umask=0o077, check=False
        )
        reader.stdout.close()
        said = reader.stderr.read().decode(errors="replace") if reader.stderr else ""
    if reader.returncode or writer.returncode:
        said = terminal.plain((said or writer.stderr.decode(errors="replace")).strip().splitlines()[-1])
        raise Problem(
            f"the session cannot be copied: {said}", f"its owner must be able to read all of {source}"
        )


def _start(context: Context, user: str) -> User:
    try:
        return context.client.ensure(user, "ready", _LINK_TIMEOUT)
    except ApiError as error:
        raise Problem(
            f"the session was copied, and is not connected: {error.detail}",
            f"`waportctl show {user}` tells how it goes on; where it shows a code, WhatsApp does not take the old "
            f"login any more: waportctl qr {user}",
            code="not_linked",
        ) from error
