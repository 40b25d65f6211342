"""``import-session``: takes over a linked session of an earlier setup, without a new scan.

The old setup kept the session of port 5002 in ``.wwebjs_auth_5002/session-ylada_bot_5002``. The folder is copied to
where the user's new server looks for it, under the new server's names. If waportd kept it, on another host, the journal
of its messages is beside it and comes along: what was not delivered there is delivered here, and what came meanwhile is
read back. systemd gives the copy to the server's own
uid, since the state directory does not exist before (measured on systemd 252 and 257: files that come later keep
their owner).
"""

import contextlib
from pathlib import Path

from waportd.cli.arguments import CONFIG_FILE
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.cli.locate import configuration_for_root
from waportd.client import ApiError, UnknownUser, User
from waportd.command_line import argument, flag
from waportd.model import is_user

COMMANDS = Commands()


_FIRST_PORT = 1024
"""A number from here on is the port of a session, below it a user: the earlier setup ran without root."""
_LINK_TIMEOUT = 180.0
"""Seconds until the copied session must be ready."""


@COMMANDS.add(
    "import-session",
    "take over a linked session of an earlier setup",
    """
    Copies a session that whatsapp-web.js has kept in a folder .wwebjs_auth_PORT, gives it to a user, starts the
    server and waits until it is connected, without a new scan. The folder stays as it is. End the old server first:
    a session must not run twice. It needs root if the servers are the system's.
    """,
    argument(
        "target",
        metavar="PORT|USER",
        help="the port that the session had (a number of 1024 and more), or the user who gets it",
    ),
    argument(
        "--from",
        dest="folder",
        metavar="DIR",
        type=Path,
        required=True,
        help="the folder .wwebjs_auth_PORT, or the one that holds it",
    ),
    argument(
        "--user",
        metavar="USER",
        help="the user who gets it, if PORT does not say so (default: the user who prefers PORT)",
    ),
    CONFIG_FILE,
    flag("--no-start", help="do not start the server"),
    examples={
        "take over the session of port 5002": (
            "sudo waportctl import-session 5002 --from /srv/bot/.wwebjs_auth_5002"
        ),
        "give a session to user ana": ("sudo waportctl import-session ana --from /srv/bot/.wwebjs_auth_5002"),
    },
)
def import_session(context: Context) -> Exit:
    """Copy the session, have the server started with it, and say whether the phone is linked."""
    from waportd.cli import old_session

    options = context.options
    config = configuration_for_root(options.config, "put a session where the user's server finds it")
    port = int(options.target) if options.target.isascii() and options.target.isdigit() else None
    if port is not None and port < _FIRST_PORT:
        port = None
    with contextlib.ExitStack() as stack:
        source = old_session.find(stack, options.folder, port, config.instances.client_id_prefix)
        user = _user(context, port)
        old_session.refuse_if_used(source)
        refuse_if_known_to_be_linked(context, user)
        sessions = old_session.sessions_folder(config)
        if not context.screen.as_json:
            context.screen.text(f"Copying {source.folder} …")
        with old_session.copied(source, sessions) as copy:
            assigned = assign(context, user)
            place = sessions / str(assigned.port)
            refuse_if_there_is_one(assigned, place)
            old_session.put(copy, place, assigned.port, config.instances.client_id_prefix)
    shown = assigned if options.no_start else _start(context, user)
    if context.screen.as_json:
        context.screen.document({**shown.raw, "imported_from": str(source.folder)})
    elif options.no_start:
        context.screen.text(f"user {user}: the session is in place; `waportctl start {user}` starts it")
    else:
        phone = f" as +{shown.session.phone_number}" if shown.session and shown.session.phone_number else ""
        context.screen.text(
            f"user {user}: linked{phone} on port {shown.port}, without a new scan. {source.folder} was not changed: "
            "delete it, since a session must not run twice."
        )
    return Exit.OK


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
        raise Problem(
            f"port {port} does not say which user", "name the user: --user USER", Exit.USAGE, "bad_request"
        )
    return str(user)


def refuse_if_known_to_be_linked(context: Context, user: str) -> None:
    """Refuse a user whose phone is linked: a login is not replaced by another one. Raises Problem."""
    try:
        known = context.client.status(user)
    except UnknownUser:
        return
    if known.linked:
        raise _linked(user, known.port)


def assign(context: Context, user: str) -> User:
    """Give the user a port, and stop the server: nothing may start one while the session is put in its place."""
    try:
        return context.client.stop(user)
    except UnknownUser:
        context.client.port(user)
        return context.client.stop(user)


def refuse_if_there_is_one(user: User, place: Path) -> None:
    """Refuse a port on whose folder a login may be. Raises Problem."""
    from waportd.cli import old_session

    if old_session.may_be_linked(place / f".wwebjs_auth_{user.port}"):
        raise _linked(user.user, user.port)


def _linked(user: str, port: int) -> Problem:
    return Problem(
        f"user {user} has a session on port {port} already",
        f"unlink and delete it first: waportctl logout {user}",
        code="already_linked",
    )


def _start(context: Context, user: str) -> User:
    try:
        return context.client.ensure(user, "ready", _LINK_TIMEOUT)
    except ApiError as error:
        raise Problem(
            f"the session was copied, but is not connected: {error.detail}",
            f"`waportctl show {user}` shows what happens next; if it shows a code, WhatsApp does not accept the old "
            f"login: waportctl qr {user}",
            code="not_linked",
        ) from error
