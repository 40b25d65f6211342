"""``backup`` and ``restore``: logins with ports and options, copied while everything runs."""

import contextlib
import errno
import http.client
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from waportd import model
from waportd.cli import exit_status, terminal
from waportd.cli.arguments import CONFIG_FILE, YES
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.cli.locate import configuration_for_root
from waportd.client import ApiError, User, WaportdClientError
from waportd.command_line import argument, flag

if TYPE_CHECKING:
    from waportd.cli.backup_file import Entry, Origin, Writer
    from waportd.config import Config

COMMANDS = Commands()

_RECIPIENTS: Final = Path("/etc/waportd/backup.recipients")
_SNAPSHOT_TIMEOUT_S: Final = 60.0
_LINK_TIMEOUT_S: Final = 180.0
"""Seconds until a restored session must be ready."""
_DAY: Final = 86_400
_OLD_S: Final = 7 * _DAY
"""Seconds after which WhatsApp may refuse a login that was used elsewhere since."""


@COMMANDS.add(
    "backup",
    "write logins, ports and options into an encrypted file, while everything runs",
    """
    Each server copies its login; its browser pauses for some milliseconds. The copies go into one file, with
    messages, ports and options. age encrypts it for the public keys of --recipient, or of
    /etc/waportd/backup.recipients; age-keygen makes a key. The secret key is only needed to restore: keep it off
    this host. Anyone who has the key and the file has access to the accounts.

    A user who cannot be copied is reported and skipped. Exit status 1: at least one user was skipped.
    """,
    argument(
        "users", metavar="USER", nargs="*", help="the users' numbers or names, as in the web app: 2 3 2_1"
    ),
    argument(
        "target",
        metavar="FILE",
        help="the file; a folder, for one file per user; or - for standard output",
    ),
    flag("--all", help="instead of USER: all users whose phone is linked"),
    argument(
        "--recipient",
        metavar="KEY",
        action="append",
        help="a public key of age or ssh that can decrypt it; may be repeated",
    ),
    flag("--unencrypted", help="do not encrypt: another program does"),
    flag("--final", help="stop the servers first, and keep them stopped: they move to another host"),
    CONFIG_FILE,
    examples={
        "back up all users": "sudo waportctl backup --all /var/backups/waportd.age",
        "back up user 2 for one key": (
            "sudo waportctl backup 2 /root/2.age --recipient age1p4xrs9hz6g9yw9d2v8m7l3k5n0qj8c2t6u4e0a7s5f3d1h9w8r2qk"
        ),
        "back up all users into object storage": (
            "sudo waportctl backup --all - | aws s3 cp - s3://backups/waportd.age"
        ),
    },
)
def backup(context: Context) -> Exit:
    """Back up users."""
    from waportd.cli import backup_file

    options = context.options
    config = configuration_for_root(options.config, "read what sessions keep")
    if options.all == bool(options.users):
        raise Problem("name users, or --all", "waportctl backup --help", Exit.USAGE, "usage")
    if context.screen.as_json and options.target == "-":
        raise Problem("--json and the backup cannot both go to standard output", None, Exit.USAGE, "usage")
    recipients = _recipients(options)
    users = (
        [user for user in context.client.users(host="self") if user.linked]
        if options.all
        else _named(context)
    )
    outcome = _Outcome()
    targets = {options.target: users}
    if _is_folder(options.target):
        targets = {str(Path(options.target, f"{user.user}.waportd.age")): [user] for user in users}
    for target, its_users in targets.items():
        with (
            _new(target) as file,
            backup_file.encrypted(file, recipients) as stream,
            backup_file.writer(stream, _origin(final=options.final)) as archive,
        ):
            for user in its_users:
                outcome.add(context, config, user, archive)
    return outcome.show(context)


def _origin(*, final: bool) -> "Origin":
    from waportd.cli import backup_file

    return backup_file.Origin(time.time(), socket.gethostname(), backup_file.machine(), final)


class _Outcome:
    """Who is in the backup, and who is not."""

    def __init__(self) -> None:
        self._done: list[tuple[Entry, int]] = []
        self._failed: dict[str, Problem] = {}

    def add(self, context: Context, config: "Config", user: User, archive: "Writer") -> None:
        """Add a user; a failure does not stop the others."""
        try:
            # On a disk, in root's own folder: it is as large as the login, and as secret.
            with tempfile.TemporaryDirectory(prefix="waportctl-backup-", dir="/var/tmp") as folder:
                entry, size = _copied(context, config, user, Path(folder))
                archive.add(entry, Path(folder))
        except (Problem, WaportdClientError) as error:
            problem = error if isinstance(error, Problem) else exit_status.of_client(error)
            self._failed[user.user] = problem
            terminal.complain(f"user {user.user}: {problem.message}", problem.hint)
        else:
            self._done.append((entry, size))

    def show(self, context: Context) -> Exit:
        """Say what the backup holds."""
        target = context.options.target
        if context.screen.as_json:
            done = [
                {"user": entry.user, "snapshot_at": _moment(entry.at), "bytes": size}
                for entry, size in self._done
            ]
            context.screen.document(
                {"target": target, "users": done, "failed": exit_status.documents(self._failed)}
            )
        else:
            count = len(self._done)
            total = terminal.size(sum(size for _, size in self._done))
            said = f"{count} user{'' if count == 1 else 's'} backed up ({total})"
            terminal.complain(said) if target == "-" else context.screen.text(f"{said}: {target}")
        return Exit.FAILED if self._failed else Exit.OK


def _copied(context: Context, config: "Config", user: User, place: Path) -> "tuple[Entry, int]":
    """Copy what belongs to a user into a folder; return who that is, and how many bytes the login has."""
    from waportd import files
    from waportd.cli import copying, login_copies, old_session
    from waportd.cli.backup_file import LOGIN, MESSAGES, Entry

    if not user.linked:
        raise Problem("no phone is linked: there is no login to back up", code="not_linked")
    if context.options.final:
        user = context.client.stop(user.user)
    elif user.process.state == "running":
        _take_snapshot(user)
    auth = old_session.auth_folder(config, user.port)
    try:
        copy = login_copies.copy_newest(auth, place / LOGIN)
        with contextlib.suppress(FileNotFoundError), files.opened(auth / MESSAGES) as source:
            (place / MESSAGES).mkdir(mode=0o700)
            copying.copy(source, place / MESSAGES, ())
    except OSError as error:
        raise Problem(
            f"the login cannot be copied to {place.parent}: {error.strerror}",
            "is the disk full?" if error.errno in {errno.ENOSPC, errno.EDQUOT} else None,
        ) from error
    if copy is None:
        raise Problem(
            f"its server keeps no copy of the login in {auth}",
            f"start it, so that it makes one: waportctl start {user.user} --wait ready",
            code="no_snapshot",
        )
    return Entry(model.User(user.user), user.port, copy.at, _options(config, user.user)), copy.bytes


def _take_snapshot(user: User) -> None:
    """Have the user's server copy its login."""
    connection = http.client.HTTPConnection("127.0.0.1", user.port, timeout=_SNAPSHOT_TIMEOUT_S)
    try:
        connection.request("POST", "/snapshot", body="{}", headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        document = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Problem(f"its server on port {user.port} made no copy of the login: {error}") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise Problem(f"its server made no copy of the login: {document.get('error')}", document.get("hint"))


def _options(config: "Config", user: str) -> dict[str, Any]:
    """Return a user's own options, with the secrets that the API does not show."""
    from waportd.errors import StoreError
    from waportd.model import Options
    from waportd.store import read_assignments

    try:
        assignments = read_assignments(config.store.database)
    except StoreError as error:
        raise Problem(error.message, error.hint) from error
    found = next((each for each in assignments if each.user == user), None)
    known = {name: getattr(found, name) for name in Options.__annotations__} if found else {}
    return {name: value for name, value in known.items() if value is not None}


def _recipients(options: Any) -> list[str] | None:
    if options.unencrypted:
        return None
    if options.recipient:
        return [word for key in options.recipient for word in ("--recipient", key)]
    if _RECIPIENTS.exists():
        return ["--recipients-file", str(_RECIPIENTS)]
    raise Problem(
        "no recipient was given who can read the backup",
        f"age-keygen -o backup.key; put the public key that it prints into {_RECIPIENTS}, and keep backup.key "
        "elsewhere; or name a key: --recipient KEY",
        Exit.USAGE,
        "no_recipient",
    )


def _named(context: Context) -> list[User]:
    return [context.client.status(name) for name in dict.fromkeys(context.options.users)]


def _is_folder(target: str) -> bool:
    return target != "-" and (target.endswith("/") or Path(target).is_dir())


@contextlib.contextmanager
def _new(target: str) -> Iterator[IO[bytes]]:
    """Give the file to write; it gets its name when it is complete."""
    if target == "-":
        if sys.stdout.isatty():
            raise Problem("a backup cannot be written to a terminal", "name a file", Exit.USAGE, "usage")
        yield sys.stdout.buffer
        return
    path = Path(target)
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        raise Problem(f"{path} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


# Restoring


@COMMANDS.add(
    "restore",
    "restore users from a backup, without a new scan",
    """
    Gives each user their earlier port if it is free, or another one. It puts login, messages and options in place,
    starts the server and waits until it is connected. Nothing changes for other users.

    A login must not run on two hosts: WhatsApp ends one of them. So a user who is linked here is refused. A backup of
    another host is refused, too, unless its servers were stopped for it (backup --final), or you confirm that the host
    is gone (--old-host-is-gone).
    """,
    argument("file", metavar="FILE", type=Path, help="the backup"),
    argument("users", metavar="USER", nargs="*", help="users in it"),
    flag("--all", help="instead of USER: all users in it"),
    flag("--list", help="only show what is in it"),
    argument("--identity", metavar="KEY", type=Path, help="the file of the secret key"),
    flag("--old-host-is-gone", help="the backup's host will not run these logins again"),
    flag("--no-start", help="do not start the servers"),
    YES,
    CONFIG_FILE,
    examples={
        "see what is in a backup": "sudo waportctl restore waportd.age --identity backup.key --list",
        "restore user 2": "sudo waportctl restore waportd.age 2 --identity backup.key",
        "restore all users on a new host": (
            "sudo waportctl restore waportd.age --all --identity backup.key --old-host-is-gone"
        ),
    },
)
def restore(context: Context) -> Exit:
    """Restore users."""
    from waportd.cli import backup_file, old_session

    options = context.options
    if not options.list and options.all == bool(options.users):
        raise Problem("name users, or --all", "waportctl restore --help", Exit.USAGE, "usage")
    config = configuration_for_root(options.config, "put sessions where their servers find them")
    sessions = old_session.sessions_folder(config)
    with old_session.workspace(sessions) as place:
        with backup_file.decrypted(options.file, options.identity) as stream:
            origin, held = backup_file.unpack(stream, place, options.file)
        if options.list:
            return _show(context, origin, held)
        entries = _wanted(context, held)
        _refuse_if_it_may_run_elsewhere(context, origin)
        age = terminal.span(time.time() - origin.created_at)
        question = f"Restore {len(entries)} user{'' if len(entries) == 1 else 's'}, as of {age} ago?"
        if not context.agreed(question):
            return Exit.FAILED
        return _restore_all(context, config, entries, place)


def _show(context: Context, origin: "Origin", held: "list[Entry]") -> Exit:
    if context.screen.as_json:
        users = [{"user": each.user, "port": each.port, "snapshot_at": _moment(each.at)} for each in held]
        about = {"created_at": _moment(origin.created_at), "host": origin.host, "final": origin.final}
        context.screen.document({**about, "users": users})
        return Exit.OK
    now = time.time()
    stopped = ", whose servers were stopped for it" if origin.final else ""
    context.screen.text(f"Of {origin.host}, {terminal.span(now - origin.created_at)} ago{stopped}.")
    rows = [[each.user, str(each.port), terminal.span(now - each.at)] for each in held]
    context.screen.table(("USER", "PORT", "AGE"), rows, ())
    return Exit.OK


def _wanted(context: Context, held: "list[Entry]") -> "list[Entry]":
    options = context.options
    if options.all:
        return held
    known = {str(each.user): each for each in held}
    if unknown := [name for name in options.users if name not in known]:
        raise Problem(
            f"the backup does not hold user {unknown[0]}",
            f"it holds: {', '.join(known) or 'no user'}",
            Exit.UNKNOWN_USER,
            "unknown_user",
        )
    return [known[name] for name in dict.fromkeys(options.users)]


def _refuse_if_it_may_run_elsewhere(context: Context, origin: "Origin") -> None:
    """Refuse a backup of another host: only that host knows whether it still uses the login."""
    from waportd.cli import backup_file

    if origin.final or context.options.old_host_is_gone or origin.machine == backup_file.machine():
        return
    raise Problem(
        f"the backup is of {origin.host}, which may still run these logins: WhatsApp ends one of two",
        "stop them there for good and make the backup then (waportctl backup --final); if that host is gone, say so: "
        "--old-host-is-gone",
        code="may_run_elsewhere",
    )


def _restore_all(context: Context, config: "Config", entries: "list[Entry]", place: Path) -> Exit:
    done: list[User] = []
    failed: dict[str, Problem] = {}
    for entry in entries:
        try:
            shown = _restored(context, config, entry, place / entry.folder)
        except (Problem, WaportdClientError) as error:
            problem = error if isinstance(error, Problem) else exit_status.of_client(error)
            failed[entry.user] = problem
            terminal.complain(f"user {entry.user}: {problem.message}", problem.hint)
        else:
            done.append(shown)
            if not context.screen.as_json:
                state = shown.session.state if shown.session else "not started"
                context.screen.text(f"user {entry.user}: restored on port {shown.port}, {state}")
    if context.screen.as_json:
        context.screen.document(
            {"users": [user.raw for user in done], "failed": exit_status.documents(failed)}
        )
    return next((problem.exit_status for problem in failed.values()), Exit.OK)


def _restored(context: Context, config: "Config", entry: "Entry", folder: Path) -> User:
    """Put one user's login in place, and have its server started."""
    from waportd.cli import login_copies, old_session
    from waportd.cli.backup_file import LOGIN
    from waportd.cli.import_session import assign, refuse_if_known_to_be_linked, refuse_if_there_is_one

    copy = login_copies.verify(folder / LOGIN)
    if time.time() - copy.at > _OLD_S:
        terminal.complain(
            f"user {entry.user}: the login is {terminal.span(time.time() - copy.at)} old; messages of that time may be "
            "missing, and WhatsApp may want a new scan"
        )
    refuse_if_known_to_be_linked(context, entry.user)
    assigned = assign(context, entry.user)
    refuse_if_there_is_one(assigned, old_session.sessions_folder(config) / str(assigned.port))
    assigned = _moved_back(context, assigned, entry.port)
    place = old_session.sessions_folder(config) / str(assigned.port)
    refuse_if_there_is_one(assigned, place)
    _set_options(context, entry)
    old_session.make_profile(folder, folder / LOGIN)
    old_session.put(folder, place, assigned.port, config.instances.client_id_prefix)
    if context.options.no_start:
        return assigned
    try:
        return context.client.ensure(entry.user, "ready", _LINK_TIMEOUT_S)
    except ApiError as error:
        raise Problem(
            f"the login is in place, but is not connected: {error.detail}",
            f"`waportctl show {entry.user}` shows what happens next; if it shows a code, WhatsApp does not accept the "
            f"login any more: waportctl qr {entry.user}",
            code="not_linked",
        ) from error


def _moved_back(context: Context, user: User, port: int) -> User:
    """Give a user the port of the backup if it is free: web apps may know it."""
    if user.port == port:
        return user
    try:
        return context.client.move(user.user, port)
    except ApiError:
        terminal.complain(f"user {user.user}: port {port} is not free here; using port {user.port}")
        return user


def _set_options(context: Context, entry: "Entry") -> None:
    """Set the options that can be set here: a missing engine does not prevent a restore."""
    for name, value in entry.options.items():
        try:
            context.client.set_options(entry.user, **{name: value})
        except ApiError as error:
            terminal.complain(f"user {entry.user}: {name} was not restored: {error.detail}")


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
