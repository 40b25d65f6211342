"""``list``, ``show``, ``start``, ``stop``, ``restart``, ``logout``, ``delete``: users and their servers."""

import dataclasses
import datetime as dt
from collections.abc import Callable

from waportd.cli import exit_status, terminal, upstream
from waportd.cli.arguments import USER, YES, port, seconds, users_or_all
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.cli.following import waits_for_passkey
from waportd.client import User, WaportdClientError, Webhook
from waportd.command_line import argument, flag

COMMANDS = Commands()


@COMMANDS.add(
    "list",
    "list all users with the state of their servers",
    """
    Shows one line per user: port, state of the process, state of the session, since when, the linked phone, and
    what there is to say. On a narrow terminal, columns are left out. It changes nothing.
    """,
    flag("--memory", help="measure memory and CPU, too; takes longer"),
    flag("--disk", help="show what each session keeps on disk, and how old the copy of its login is"),
    flag("--messages", help="show how many of each user's messages were delivered since the server started"),
    examples={
        "see how all users are": "waportctl list",
        "find users whose messages the web app does not take": "waportctl list --messages",
        "list the users whose phone is linked, for a script": (
            "waportctl list --json | jq -r '.users[] | select(.linked) | .user'"
        ),
    },
)
def list_users(context: Context) -> Exit:
    """List all users, by port."""
    users = context.client.users(usage=context.options.memory)
    if context.screen.as_json:
        context.screen.document({"users": [user.raw for user in users]})
        return Exit.OK
    if not users:
        context.screen.text("There are no users yet. `waportctl qr 1` creates user 1 and shows the code.")
        return Exit.OK
    measured = ["MEMORY", "CPU"] if context.options.memory else []
    counted = ["QUEUED", "OLDEST", "DELIVERED", "FAILED", "UNDELIVERED"] if context.options.messages else []
    kept = ["LOGIN", "CACHE", "JOURNAL", "SNAPSHOTS", "COPIED"] if context.options.disk else []
    rows = []
    for user in users:
        figures = [terminal.size(user.memory), _cpu(user)] if measured else []
        if kept:
            figures += [*map(terminal.size, _sizes(user)), _copied(user)]
        if counted:
            figures += _figures(user)
        shown, message = user.summary, user.summary.message
        if counted and shown.state == "ready" and shown.cause is None and _refusal(user):
            message = f"the web app does not take messages: {_refusal(user)}"
        phone = (user.session.phone_number if user.session else None) or ("linked" if user.linked else None)
        rows.append(
            [
                *(
                    user.user,
                    str(user.port),
                    user.process.state,
                    _session_state(user),
                    terminal.age(shown.since),
                ),
                *(phone, *figures, message),
            ]
        )
    columns = ("USER", "PORT", "PROCESS", "SESSION", "SINCE", "PHONE", *measured, *kept, *counted, "MESSAGE")
    # What was asked for stays longest.
    dispensable = (
        "SINCE",
        "PHONE",
        "CPU",
        "CACHE",
        "JOURNAL",
        "SNAPSHOTS",
        "PORT",
        "PROCESS",
        "MEMORY",
        "COPIED",
        "LOGIN",
        "DELIVERED",
        "FAILED",
    )
    context.screen.table(columns, rows, dispensable)
    return Exit.OK


@COMMANDS.add(
    "show",
    "show everything about one user",
    """
    Shows the server's process, the session, the linked phone, and what the server uses. If something is wrong, it
    shows the cause and the fix. It changes nothing. Exit status 5: there is no such user.
    """,
    USER,
    examples={"see why user 2 is not connected": "waportctl show 2"},
)
def show(context: Context) -> Exit:
    """Show everything about one user."""
    return _show(context, context.client.status(context.options.user))


@dataclasses.dataclass(frozen=True)
class _Verb:
    """What is done to one user or to many."""

    question: str
    """Asked before many are concerned, or where something gets lost."""
    do: Callable[[str], User]
    outcome: Callable[[User], str]
    concerns: Callable[[User], bool]
    """Whether ``--all`` means this user."""
    destroys: bool = False


@COMMANDS.add(
    "start",
    "start the servers of users",
    """
    Starts each server and waits until it has got as far as --wait says: none returns at once, listening waits for
    the server to answer, qr for a code to scan or a linked session, ready for a connection to WhatsApp. After a boot
    it starts again, unless the user's autostart is off. A server that runs already stays as it is.

    If one of several users fails, the others are still started, and the exit status is that of the first failure.
    Exit status 6: it was not ready in time; the start continues.
    """,
    *users_or_all("all users whose phone is linked and whose server does not run"),
    argument(
        "--wait",
        choices=("none", "listening", "qr", "ready"),
        default="listening",
        help="how far the server must get before the command ends (default: listening)",
    ),
    argument(
        "--timeout", type=seconds, metavar="SECONDS", help="how long to wait (default: depends on --wait)"
    ),
    examples={
        "start two servers and wait until both are connected": "waportctl start 2 3 --wait ready",
        "see which servers --all would start": "waportctl start --all --dry-run",
    },
)
def start(context: Context) -> Exit:
    """Start servers."""
    options = context.options
    return _for_each(
        context,
        _Verb(
            "Start the servers of",
            lambda user: context.client.start(user, options.wait, options.timeout),
            lambda _: "started",
            lambda user: user.linked and user.process.state not in {"running", "starting"},
        ),
    )


@COMMANDS.add(
    "stop",
    "stop the servers of users and keep their logins",
    """
    Stops each server and keeps port, login and options: `waportctl start` connects again without a scan. The server
    stays stopped until somebody starts it, also at boot.
    """,
    *users_or_all("all users who are not stopped"),
    examples={
        "stop the server of user 2": "waportctl stop 2",
        "stop all servers, in a script": "waportctl stop --all --yes",
    },
)
def stop(context: Context) -> Exit:
    """Stop servers and keep their logins."""
    return _for_each(
        context,
        _Verb(
            "Stop the servers of",
            context.client.stop,
            lambda _: "stopped, login kept",
            lambda user: user.desired == "running" or user.process.state != "stopped",
        ),
    )


@COMMANDS.add(
    "restart",
    "restart the servers of users",
    """
    Stops each server and starts it again. The login is kept, so no scan is needed; the user is disconnected for some
    seconds. A changed configuration or engine takes effect.
    """,
    *users_or_all("all users whose server runs"),
    examples={
        "restart the server of user 2": "waportctl restart 2",
        "restart every server that runs": "waportctl restart --all",
    },
)
def restart(context: Context) -> Exit:
    """Restart servers."""
    return _for_each(
        context,
        _Verb(
            "Restart the servers of",
            context.client.restart,
            lambda _: "restarted",
            lambda user: user.process.state == "running",
        ),
    )


@COMMANDS.add(
    "logout",
    "unlink users' phones and delete their sessions",
    """
    Removes the device on the phone and deletes the login on this host. The user keeps the port, and has to scan a new
    code to be linked again. It asks first; without a terminal it needs --yes.
    """,
    *users_or_all("all users whose phone is linked"),
    examples={"unlink the phone of user 2": "waportctl logout 2"},
)
def logout(context: Context) -> Exit:
    """Unlink phones and delete their sessions."""
    return _for_each(
        context,
        _Verb(
            "Unlink the phone and delete the session of",
            context.client.logout,
            lambda user: user.session.message if user.session else "logged out",
            lambda user: user.linked,
            destroys=True,
        ),
    )


def _for_each(context: Context, verb: _Verb) -> Exit:
    """Do it to the users that the command line names; a failure does not stop the others."""
    options = context.options
    if options.all == bool(options.users):
        raise Problem("name users, or --all", f"waportctl {options.command} --help", Exit.USAGE, "usage")
    names = list(dict.fromkeys(options.users))
    if options.all:
        names = [user.user for user in context.client.users() if verb.concerns(user)]
    elif verb.destroys:
        for name in names:
            context.client.status(name)  # before asking: the user may not exist
    if options.dry_run or not names:
        return _preview(context, names)
    if (options.all or verb.destroys) and not context.agreed(
        f"{verb.question} {_listed(names)}?", loses=True
    ):
        return Exit.FAILED
    if len(names) == 1 and not options.all:
        shown = verb.do(names[0])
        return _done(context, shown, verb.outcome(shown))
    return _do_all(context, names, verb)


def _preview(context: Context, names: list[str]) -> Exit:
    if context.screen.as_json:
        context.screen.document({"concerns": names})
    else:
        context.screen.text(f"This affects {_listed(names)}." if names else "No user is affected.")
    return Exit.OK


def _listed(names: list[str]) -> str:
    """Name the users, and how many they are where they cannot be counted at a glance."""
    if len(names) == 1:
        return f"user {names[0]}"
    return f"{len(names)} users: {', '.join(names)}"


def _do_all(context: Context, names: list[str], verb: _Verb) -> Exit:
    done: list[User] = []
    problems: dict[str, Problem] = {}
    for name in names:
        try:
            shown = verb.do(name)
        except WaportdClientError as error:
            problem = problems[name] = exit_status.of_client(error)
            if problem.exit_status in {Exit.UNREACHABLE, Exit.NOT_PERMITTED}:
                raise  # it would be the same for the next one
            if not context.screen.as_json:
                terminal.complain(f"user {name}: {problem.message}")
        else:
            done.append(shown)
            if not context.screen.as_json:
                _done(context, shown, verb.outcome(shown))
    if context.screen.as_json:
        failed = exit_status.documents(problems)
        context.screen.document({"users": [user.raw for user in done], "failed": failed})
    elif problems:
        terminal.complain(f"{len(problems)} of {len(names)} failed")
    return next((problem.exit_status for problem in problems.values()), Exit.OK)


@COMMANDS.add(
    "move",
    "give the user another port, with login, options and drop-ins",
    """
    Stops the server, gives it another port and starts it there, if it ran before. A linked session connects again
    without a scan. It says what will happen, and asks first if there is a terminal.

    Exit status 1: the user was moved, but the server does not run.
    """,
    USER,
    argument(
        "--port", type=port, metavar="PORT", help="the new port (default: that of a new user of that name)"
    ),
    flag("--dry-run", help="only say what would be done"),
    YES,
    examples={
        "give user 2 port 5002": "waportctl move 2 --port 5002",
        "see what a move would do": "waportctl move 2 --port 5002 --dry-run",
    },
)
def move(context: Context) -> Exit:
    """Give the user another port."""
    options = context.options
    before = context.client.status(options.user)
    was_up = before.process.state != "stopped"
    target = "another port" if options.port is None else f"port {options.port}"
    if not was_up:
        fate = "The server stays stopped."
    elif before.linked:
        fate = "The server is down for some seconds, and connects again without a scan."
    else:
        fate = "The server is down for some seconds."
    plan = f"User {before.user} moves from port {before.port} to {target}, with login, options and drop-ins. {fate}"
    if options.dry_run:
        if context.screen.as_json:
            context.screen.document({"user": before.user, "port": before.port, "target": options.port})
        else:
            context.screen.text(plan)
        return Exit.OK
    if not context.agreed(f"{plan} Do it?"):
        return Exit.FAILED
    shown = context.client.move(before.user, options.port)
    _done(context, shown, f"moved here from port {before.port}")
    if was_up and shown.process.state != "running":
        terminal.complain(f"user {shown.user}: {shown.process.message}")
        return Exit.FAILED
    return Exit.OK


@COMMANDS.add(
    "delete",
    "stop the user's server, delete the session, free the port",
    """
    Deletes all that waportd keeps of the user: assignment, login, journal of messages and options. The port may then
    go to another user. It asks first; without a terminal it needs --yes.
    """,
    USER,
    YES,
    examples={"delete user 2": "waportctl delete 2"},
)
def delete(context: Context) -> Exit:
    """Stop the server, delete the session, free the port."""
    user = context.options.user
    shown = context.client.status(user)
    question = f"Delete user {user} with the session on port {shown.port}, and free the port?"
    if not context.agreed(question, loses=True):
        return Exit.FAILED
    context.client.delete(user)
    if context.screen.as_json:
        context.screen.document({"deleted": shown.user, "port": shown.port})
    else:
        context.screen.text(f"user {user}: deleted; port {shown.port} is free")
    return Exit.OK


def _done(context: Context, user: User, outcome: str) -> Exit:
    if context.screen.as_json:
        context.screen.document(user.raw)
    else:
        context.screen.text(f"user {user.user}: {outcome} (port {user.port}, {user.unit})")
    return Exit.OK


def _session_state(user: User) -> str | None:
    """Return the word for the session; None where the process is what matters."""
    shown = user.summary
    if shown.cause == "undelivered":
        return shown.cause
    return None if shown.state == user.process.state else shown.state


def _refusal(user: User) -> str | None:
    return user.session.webhook.error if user.session else None


def waiting(webhook: Webhook) -> str:
    """Say how many messages wait for the web app, for how long, and why."""
    wait, why = terminal.age(webhook.oldest_at), webhook.error or "it does not answer in time"
    if webhook.queued == 1:
        return f"1 message waits for the web app, for {wait}: {why}"
    return f"{webhook.queued} messages wait for the web app, the oldest for {wait}: {why}"


def _figures(user: User) -> list[str | None]:
    if user.session is None:
        return [None] * 5
    webhook = user.session.webhook
    oldest = terminal.age(webhook.oldest_at) if webhook.queued else None
    counts = (webhook.delivered, webhook.failed, webhook.undelivered)
    return [str(webhook.queued), oldest, *map(str, counts)]


def _sizes(user: User) -> list[int | None]:
    kept = user.storage
    return [None] * 4 if kept is None else [kept.login, kept.cache, kept.journal, kept.snapshots]


def _copied(user: User) -> str | None:
    at = user.storage.snapshot_at if user.storage else None
    return None if at is None else terminal.age(at)


def _disk(user: User) -> str | None:
    if user.storage is None:
        return None
    login, cache, journal, snapshots = map(terminal.size, _sizes(user))
    sizes = f"login {login}, cache {cache}, journal {journal}, snapshots {snapshots}"
    return f"{sizes}, measured {terminal.age(user.storage.measured_at)} ago"


def _snapshot(user: User) -> str | None:
    kept = user.storage
    if kept is None or kept.snapshot_at is None:
        return None
    said = f"{terminal.age(kept.snapshot_at)} ago ({terminal.size(kept.snapshots)})"
    if kept.restored_at is not None:
        said += f"; a copy replaced a damaged login {terminal.age(kept.restored_at)} ago"
    return said


def _cpu(user: User) -> str | None:
    return None if user.cpu is None else terminal.span(user.cpu)


def _show(context: Context, user: User) -> Exit:
    if context.screen.as_json:
        context.screen.document(user.raw)
        return Exit.OK
    process, session = user.process, user.session
    since = terminal.age(process.since)
    context.screen.pairs(
        [
            ("User", user.user),
            ("Address", user.url or "– (the port is not held)"),
            ("Note", user.note),
            ("Unit", user.unit),
            ("Process", process.state),
            ("", process.message + (f", for {since}" if since else "")),
            ("", process.hint),
            ("Next start", _moment(process.next_start)),
            ("PID", None if process.pid is None else str(process.pid)),
            ("Restarts", str(process.restarts)),
            ("Desired", f"{user.desired}{'' if user.autostart else ', not at boot'}"),
            ("Session", session.state if session else "–"),
            ("", f"{session.message}, for {terminal.age(session.since)}" if session else None),
            ("", _way_out(user)),
            *(upstream.rows(session.upstream) if session and session.upstream else []),
            ("Next engine", _next_engine(user)),
            ("Linked", "yes" if user.linked else "no"),
            ("Phone", _phone(user)),
            ("Memory", terminal.size(user.memory)),
            ("Disk", _disk(user)),
            ("Login copied", _snapshot(user)),
            ("Memory limit", terminal.size(user.memory_max)),
            ("CPU time", _cpu(user)),
            ("Webhook", "own" if user.own_webhook else "default"),
            *(_deliveries(user.user, session.webhook) if session else []),
            ("Proxy", f"{user.proxy}{' (own)' if user.own_proxy else ''}"),
            ("Created", _moment(user.created_at)),
        ]
    )
    return Exit.OK


def _way_out(user: User) -> str | None:
    if user.session is None or not waits_for_passkey(user.session):
        return user.session.hint if user.session else None
    return (
        f"`waportctl connect-link {user.user}` makes a link to the page for this step; "
        f"`waportctl passkey {user.user}` works without that page"
    )


def _deliveries(user: str, webhook: Webhook) -> list[tuple[str, str | None]]:
    """Return what happened to the messages."""
    error, at = webhook.error, _moment(webhook.error_at)
    failed = "1 try failed" if webhook.failed == 1 else f"{webhook.failed} tries failed"
    queued = None
    if webhook.queued and webhook.oldest_at:
        queued = waiting(webhook)
    elif webhook.queued and error:
        queued = f"{webhook.queued} messages are waiting"
    again = f"`waportctl messages redeliver {user}` sends the undelivered ones again"
    return [
        ("", f"does not take them: {error}" + (f" ({at})" if at else "") if error else None),
        (
            "Messages",
            f"{webhook.delivered} delivered, {webhook.queued} waiting, {webhook.undelivered} undelivered, {failed}",
        ),
        ("", queued),
        ("", again if webhook.undelivered else None),
        ("", f"{webhook.dropped} messages lost since the server started" if webhook.dropped else None),
    ]


def _next_engine(user: User) -> str | None:
    """Return what the server starts with next, where that is another one than runs, or the user's own."""
    upstream = user.session.upstream if user.session else None
    if not user.own_engine and upstream is not None and upstream.engine == user.engine:
        return None
    return f"{user.engine}{' (own)' if user.own_engine else ''}"


def _moment(at: dt.datetime | None) -> str | None:
    return at.astimezone().isoformat(" ", "seconds") if at else None


def _phone(user: User) -> str | None:
    if user.session is None or user.session.phone_number is None:
        return None
    name = f" ({user.session.name})" if user.session.name else ""
    return f"+{user.session.phone_number}{name}"
