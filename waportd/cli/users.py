"""``list``, ``show``, ``start``, ``stop``, ``restart``, ``logout``, ``delete``: users and their servers."""

from waportd.cli import exit_status, fleet, terminal, upstream
from waportd.cli.arguments import CONFIG_FILE, USER, USERS, YES, port, seconds, users_or_all
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.cli.following import waits_for_passkey
from waportd.cli.many import Verb, do, for_each, listed
from waportd.client import UnknownUser, User, Webhook
from waportd.command_line import OneOf, argument, flag
from waportd.model import ProcessState, SessionState

COMMANDS = Commands()
_STATES = tuple(sorted({*map(str, ProcessState), *map(str, SessionState), "not_answering", "undelivered"}))
"""What the list shows of processes and sessions."""


@COMMANDS.add(
    "list",
    "list all users with the state of their servers",
    """
    Shows one line per user: port, state of the process, state of the session, since when, the linked phone, and
    what there is to say. On a narrow terminal, columns are left out and messages are cut, unless --wide says otherwise.
    It changes nothing.
    """,
    argument(
        "--state",
        metavar="STATE",
        choices=_STATES,
        action="append",
        help="only users whose process or session is in this state, as the list shows it; may be given several times: "
        f"{', '.join(_STATES)}",
    ),
    flag("--wide", help="show all columns and whole messages, even on a narrow terminal"),
    flag("--memory", help="measure memory and CPU, too; takes longer"),
    flag("--disk", help="show what each session keeps on disk, and how old the copy of its login is"),
    flag("--messages", help="show how many of each user's messages were delivered since the server started"),
    examples={
        "see how all users are": "waportctl list",
        "find users who have to scan a code": "waportctl list --state qr --state qr_timeout --state logged_out",
        "find users whose messages the web app does not take": "waportctl list --messages",
        "list the users whose phone is linked, for a script": (
            "waportctl list --json | jq -r '.users[] | select(.linked) | .user'"
        ),
    },
    also=("ls", "ps", "users"),
)
def list_users(context: Context) -> Exit:
    """List all users, by port."""
    wanted = set(context.options.state or ())
    known = context.client.users(usage=context.options.memory)
    users = [user for user in known if not wanted or wanted & _states(user)]
    if context.screen.as_json:
        context.screen.document({"users": [user.raw for user in users]})
        return Exit.OK
    if known and not users:
        context.screen.text(f"No user is in state {' or '.join(sorted(wanted))}.")
        return Exit.OK
    if not users:
        context.screen.text("There are no users yet. `waportctl qr 1` creates user 1 and shows the code.")
        return Exit.OK
    measured = ["MEMORY", "CPU"] if context.options.memory else []
    counted = ["QUEUED", "OLDEST", "DELIVERED", "FAILED", "UNDELIVERED"] if context.options.messages else []
    kept = ["LOGIN", "CACHE", "JOURNAL", "SNAPSHOTS", "COPIED"] if context.options.disk else []
    hosts = ["HOST"] if any(user.host for user in users) else []
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
                    *([user.host] if hosts else []),
                    str(user.port),
                    user.process.state,
                    _session_state(user),
                    terminal.age(shown.since),
                ),
                *(phone, *figures, message),
            ]
        )
    columns = (
        "USER",
        *hosts,
        "PORT",
        "PROCESS",
        "SESSION",
        "SINCE",
        "PHONE",
        *measured,
        *kept,
        *counted,
        "MESSAGE",
    )
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
    context.screen.table(columns, rows, dispensable, wide=context.options.wide)
    return Exit.OK


@COMMANDS.add(
    "show",
    "show everything about users",
    """
    Shows the server's process, the session, the linked phone, and what the server uses. If something is wrong, it
    shows the cause and the fix. It changes nothing. Exit status 5: there is no such user; the others are shown.
    """,
    USERS,
    examples={
        "see why user 2 is not connected": "waportctl show 2",
        "see two users": "waportctl show 2 3",
    },
    also=("status", "info", "get", "describe"),
)
def show(context: Context) -> Exit:
    """Show everything about one user, or about each of several."""
    names = list(dict.fromkeys(context.options.users))
    if len(names) == 1:
        return _show(context, context.client.status(names[0]))
    shown: list[User] = []
    problems: dict[str, Problem] = {}
    for name in names:
        try:
            shown.append(context.client.status(name))
        except UnknownUser as error:
            problems[name] = exit_status.of_client(error)
    if context.screen.as_json:
        failed = exit_status.documents(problems)
        context.screen.document({"users": [user.raw for user in shown], "failed": failed})
    else:
        for number, user in enumerate(shown):
            if number:
                context.screen.text("")
            _show(context, user)
        for name, problem in problems.items():
            terminal.complain(f"user {name}: {problem.message}")
    return next((problem.exit_status for problem in problems.values()), Exit.OK)


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
    return for_each(
        context,
        Verb(
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
    also=("kill",),
)
def stop(context: Context) -> Exit:
    """Stop servers and keep their logins."""
    return for_each(
        context,
        Verb(
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
    return for_each(
        context,
        Verb(
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
    also=("unlink", "unpair", "disconnect"),
)
def logout(context: Context) -> Exit:
    """Unlink phones and delete their sessions."""
    return for_each(
        context,
        Verb(
            "Unlink the phone and delete the session of",
            context.client.logout,
            lambda user: user.session.message if user.session else "logged out",
            lambda user: user.linked,
            destroys=True,
        ),
    )


@COMMANDS.add(
    "move",
    "give the user another port, with login, options and drop-ins, or another host",
    """
    Stops the server, gives it another port and starts it there, if it ran before. A linked session connects again
    without a scan. It says what will happen, and asks first if there is a terminal.

    With --to, the user goes to another host of the fleet and keeps the port; that needs root.

    Exit status 1: the user was moved, but the server does not run; with --to: the user has stayed, for the reason that
    it says. Exit status 6: the user has not gone in time, and still may.
    """,
    USER,
    OneOf(
        (
            argument(
                "--port",
                type=port,
                metavar="PORT",
                help="the new port (default: that of a new user of that name)",
            ),
            argument("--to", metavar="HOST", help="the host of the fleet to which the user goes"),
        )
    ),
    flag("--dry-run", help="only say what would be done"),
    YES,
    CONFIG_FILE,
    examples={
        "give user 2 port 5002": "waportctl move 2 --port 5002",
        "see what a move would do": "waportctl move 2 --port 5002 --dry-run",
        "have user 2 run on host b": "sudo waportctl move 2 --to b",
    },
)
def move(context: Context) -> Exit:
    """Give the user another port, or another host."""
    options = context.options
    if options.to is not None:
        return fleet.move_to_host(context)
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
    if context.screen.as_json:
        context.screen.document(shown.raw)
    else:
        context.screen.text(
            f"user {shown.user}: moved here from port {before.port} (port {shown.port}, {shown.unit})"
        )
    if was_up and shown.process.state != "running":
        terminal.complain(f"user {shown.user}: {shown.process.message}")
        return Exit.FAILED
    return Exit.OK


class _Delete(Verb):
    """A deletion: after it nothing of the user is there to show."""

    def words(self, user: User) -> str:
        return f"user {user.user}: deleted; port {user.port} is free"


@COMMANDS.add(
    "delete",
    "stop users' servers, delete their sessions, free their ports",
    """
    Deletes all that waportd keeps of each user: assignment, login, journal of messages and options. The port may then
    go to another user. It asks first; without a terminal it needs --yes. If one of the users does not exist, it
    deletes nothing.
    """,
    USERS,
    YES,
    examples={
        "delete user 2": "waportctl delete 2",
        "delete two users, in a script": "waportctl delete 2 3 --yes",
    },
    also=("rm", "remove", "purge"),
)
def delete(context: Context) -> Exit:
    """Stop the servers, delete the sessions, free the ports."""
    users = [context.client.status(name) for name in dict.fromkeys(context.options.users)]
    known = {user.user: user for user in users}

    def erase(name: str) -> User:
        context.client.delete(name)
        return known[name]

    if len(users) == 1:
        [user] = users
        question = f"Delete user {user.user} with the session on port {user.port}, and free the port?"
    else:
        question = f"Delete {listed(list(known))}, with their sessions, and free their ports?"
    if not context.agreed(question, loses=True):
        return Exit.FAILED
    verb = _Delete(
        question,
        erase,
        lambda _: "deleted",
        lambda _: False,
        document=lambda user: {"deleted": user.user, "port": user.port},
    )
    return do(context, verb, list(known))


def _states(user: User) -> set[str | None]:
    """Return in which states a user is shown."""
    return {user.process.state, user.summary.state, user.summary.cause, _session_state(user)}


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
            ("Next start", terminal.moment(process.next_start)),
            ("PID", None if process.pid is None else str(process.pid)),
            ("Restarts", str(process.restarts)),
            ("Desired", f"{user.desired}{'' if user.autostart else ', not at boot'}"),
            ("Session", session.state if session else "–"),
            ("", f"{session.message}, for {terminal.age(session.since)}" if session else None),
            ("", _way_out(user)),
            *(upstream.rows(session.upstream) if session and session.upstream else []),
            ("Next engine", _next_engine(user)),
            ("Linked", _linked(user)),
            ("Phone", _phone(user)),
            ("Memory", terminal.size(user.memory)),
            ("Disk", _disk(user)),
            ("Login copied", _snapshot(user)),
            ("Memory limit", terminal.size(user.memory_max)),
            ("CPU time", _cpu(user)),
            ("Webhook", "own" if user.own_webhook else "default"),
            *(_deliveries(user.user, session.webhook) if session else []),
            ("Proxy", f"{user.proxy}{' (own)' if user.own_proxy else ''}"),
            ("Created", terminal.moment(user.created_at)),
        ]
    )
    return Exit.OK


def _linked(user: User) -> str:
    """Return whether a phone is linked, and since when."""
    if not user.linked:
        return "no"
    since = terminal.moment(user.linked_at)
    return f"yes, since {since}" if since else "yes"


def _way_out(user: User) -> str | None:
    if user.session is not None and user.session.state == "qr_timeout":
        return f"`waportctl qr {user.user}` asks for new codes"
    if user.session is None or not waits_for_passkey(user.session):
        return user.session.hint if user.session else None
    return (
        f"`waportctl connect-link {user.user}` makes a link to the page for this step; "
        f"`waportctl passkey {user.user}` works without that page"
    )


def _deliveries(user: str, webhook: Webhook) -> list[tuple[str, str | None]]:
    """Return what happened to the messages."""
    error, at = webhook.error, terminal.moment(webhook.error_at)
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


def _phone(user: User) -> str | None:
    if user.session is None or user.session.phone_number is None:
        return None
    name = f" ({user.session.name})" if user.session.name else ""
    return f"+{user.session.phone_number}{name}"
