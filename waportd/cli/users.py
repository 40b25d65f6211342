"""``list``, ``show``, ``start``, ``stop``, ``restart``, ``logout``, ``delete``: users and their servers."""

from waportd.cli import terminal, upstream
from waportd.cli.exits import Exit
from waportd.cli.main import Context
from waportd.client import User


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
        phone = user.session.phone_number if user.session else None
        since = user.session.since if user.session and user.session.answering else user.process.since
        rows.append(
            [
                *(user.user, str(user.port), user.process.state, session, terminal.age(since)),
                *(phone, *figures, message),
            ]
        )
    columns = ("USER", "PORT", "PROCESS", "SESSION", "SINCE", "PHONE", *measured, "MESSAGE")
    context.screen.table(columns, rows)
    return Exit.OK


def show(context: Context) -> Exit:
    """Show everything about one user."""
    return _show(context, context.client.status(context.options.user))


def start(context: Context) -> Exit:
    """Start the server."""
    options = context.options
    return _done(context, context.client.start(options.user, options.wait, options.timeout), "runs")


def stop(context: Context) -> Exit:
    """Stop the server and keep its login."""
    return _done(context, context.client.stop(context.options.user), "is stopped; the login is kept")


def restart(context: Context) -> Exit:
    """Start the server anew."""
    return _done(context, context.client.restart(context.options.user), "runs anew")


def logout(context: Context) -> Exit:
    """Unlink the phone and delete the session."""
    user = context.options.user
    if not context.agreed(f"Unlink the phone of user {user} and delete the session?"):
        return Exit.FAILED
    shown = context.client.logout(user)
    return _done(context, shown, shown.session.message if shown.session else "logged out")


def delete(context: Context) -> Exit:
    """Stop the server, delete the session, free the port."""
    user = context.options.user
    shown = context.client.status(user)
    if not context.agreed(f"Delete user {user} with the session on port {shown.port}, and free the port?"):
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
            ("Address", user.url),
            ("Note", user.note),
            ("Unit", user.unit),
            ("Process", process.state),
            ("", process.message + (f", for {since}" if since else "")),
            ("", process.hint),
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
            ("Created", user.created_at.astimezone().isoformat(" ", "seconds") if user.created_at else None),
        ]
    )
    return Exit.OK


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
