"""``list``, ``show``, ``start``, ``stop``, ``restart``, ``logout``, ``delete``: users and their servers."""

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

from waportd.cli import exits, terminal, upstream
from waportd.cli.exits import Exit, Problem
from waportd.cli.main import Context
from waportd.client import User, WaportdClientError


def list_users(context: Context) -> Exit:
    """List all users, by port."""
    users = context.client.users(usage=context.options.memory)
    if context.screen.as_json:
        context.screen.document({"users": [user.raw for user in users]})
        return Exit.OK
    if not users:
        context.screen.text(
            "There are no users yet. `waportctl qr 1` gives user 1 a server and draws its code."
        )
        return Exit.OK
    measured = ["MEMORY", "CPU"] if context.options.memory else []
    rows = []
    for user in users:
        figures = [terminal.size(user.memory), _cpu(user)] if measured else []
        session, message = _now(user)
        phone = (user.session.phone_number if user.session else None) or ("linked" if user.linked else None)
        since = user.session.since if user.session and user.session.answering else user.process.since
        rows.append(
            [
                *(user.user, str(user.port), user.process.state, session, terminal.age(since)),
                *(phone, *figures, message),
            ]
        )
    columns = ("USER", "PORT", "PROCESS", "SESSION", "SINCE", "PHONE", *measured, "MESSAGE")
    context.screen.table(columns, rows, dispensable=("CPU", "MEMORY", "SINCE", "PHONE", "PORT", "PROCESS"))
    return Exit.OK


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


def start(context: Context) -> Exit:
    """Start servers."""
    options = context.options
    return _for_each(
        context,
        _Verb(
            "Start the servers of",
            lambda user: context.client.start(user, options.wait, options.timeout),
            lambda _: "runs",
            lambda user: user.linked and user.process.state not in {"running", "starting"},
        ),
    )


def stop(context: Context) -> Exit:
    """Stop servers and keep their logins."""
    return _for_each(
        context,
        _Verb(
            "Stop the servers of",
            context.client.stop,
            lambda _: "is stopped; the login is kept",
            lambda user: user.desired == "running" or user.process.state != "stopped",
        ),
    )


def restart(context: Context) -> Exit:
    """Start servers anew."""
    return _for_each(
        context,
        _Verb(
            "Restart the servers of",
            context.client.restart,
            lambda _: "runs anew",
            lambda user: user.process.state == "running",
        ),
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
    """Do it to the users whom the command line names; one that fails keeps it from none of the others."""
    options = context.options
    if options.all == bool(options.users):
        raise Problem("name users, or --all", f"waportctl {options.command} --help", Exit.USAGE, "usage")
    names = list(dict.fromkeys(options.users))
    if options.all:
        names = [user.user for user in context.client.users() if verb.concerns(user)]
    elif verb.destroys:
        for name in names:
            context.client.status(name)  # nobody is asked about somebody who is not there
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
        context.screen.text(f"This concerns {_listed(names)}." if names else "This concerns nobody.")
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
            problem = problems[name] = exits.of_client(error)
            if problem.exit_status in {Exit.UNREACHABLE, Exit.NOT_PERMITTED}:
                raise  # nor would it be otherwise for the next one
            if not context.screen.as_json:
                terminal.complain(f"user {name}: {problem.message}")
        else:
            done.append(shown)
            if not context.screen.as_json:
                _done(context, shown, verb.outcome(shown))
    if context.screen.as_json:
        failed: list[dict[str, Any]] = [
            {"user": name, "code": problem.code, "detail": problem.message, "hint": problem.hint}
            for name, problem in problems.items()
        ]
        context.screen.document({"users": [user.raw for user in done], "failed": failed})
    elif problems:
        terminal.complain(f"{len(problems)} of {len(names)} failed")
    return next((problem.exit_status for problem in problems.values()), Exit.OK)


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


def _now(user: User) -> tuple[str | None, str]:
    """Return the state of the session, as far as it is known now, and what there is to say."""
    session = user.session
    if user.process.state == "running" and session is not None:
        if not session.answering:
            return "error", "the server does not answer"
        return session.state, session.message
    return None, user.process.message


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
            ("Address", user.url or "–, as the port is not held"),
            ("Note", user.note),
            ("Unit", user.unit),
            ("Process", process.state),
            ("", process.message + (f", for {since}" if since else "")),
            ("", process.hint),
            ("Next start", _moment(process.next_start)),
            ("PID", None if process.pid is None else str(process.pid)),
            ("Restarts", str(process.restarts)),
            ("Wanted", f"{user.desired}{'' if user.autostart else ', not at boot'}"),
            ("Session", session.state if session else "–"),
            ("", f"{session.message}, for {terminal.age(session.since)}" if session else None),
            ("", session.hint if session else None),
            *(upstream.rows(session.upstream) if session and session.upstream else []),
            ("Next engine", _next_engine(user)),
            ("Linked", "yes" if user.linked else "no"),
            ("Phone", _phone(user)),
            ("Memory", terminal.size(user.memory)),
            ("Memory limit", terminal.size(user.memory_max)),
            ("CPU time", _cpu(user)),
            ("Webhook", "own" if user.own_webhook else "that of the configuration"),
            ("Created", _moment(user.created_at)),
        ]
    )
    return Exit.OK


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
