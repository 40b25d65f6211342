"""``qr``, ``pair`` and ``connect-link``: how a phone gets linked."""

import datetime as dt
from typing import TYPE_CHECKING

from waportd.cli import terminal
from waportd.cli.arguments import USER, count, seconds
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit
from waportd.cli.following import ENDS, LONG_POLL_S, Follower, Step, message
from waportd.client import QR, ConnectLink
from waportd.command_line import argument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, ConsoleOptions, RenderableType

COMMANDS = Commands()

_PATIENCE = 90.0
"""Seconds that the first code is waited for, where nobody watches."""
_SETTLES = 5.0
"""Seconds until all know that a pairing code is shown in place of codes to scan; it takes milliseconds."""
_LINK_HOLDS = 900
"""Seconds: WhatsApp waits up to ten minutes for a passkey, and two more for each step after it."""
_LINK_NEEDED = 600
"""Seconds that a link must still be valid if WhatsApp asks once more."""
_IN_FRONT = "Prefix this with your public address, such as https://app.example.com, or set api.public_url."
_STEPS = "On the phone: WhatsApp, Linked devices, Link a device."


@COMMANDS.add(
    "qr",
    "show the user's QR code until a phone is linked",
    """
    Draws the code in the terminal and replaces it when WhatsApp does. If WhatsApp wants a passkey after the scan, it
    shows the next step. A new user gets a server first.

    Without a terminal, prints the text of the code once and ends. The code is a secret: anyone who scans it links their
    phone. Exit status 6: there was no code in time. Exit status 1: there will be none; the message says why.
    """,
    USER,
    argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="give up after SECONDS (default: never on a terminal, else 90)",
    ),
    examples={
        "link a phone to user 2": "waportctl qr 2",
        "draw the code with another program": "waportctl qr 2 | qrencode -t ansiutf8",
    },
)
def qr(context: Context) -> Exit:
    """Draw the code, live on a terminal; elsewhere print its text once."""
    user = context.options.user
    context.client.ensure(user, "none")
    if context.screen.live:
        return _watch(context, user)
    timeout = _PATIENCE if context.options.timeout is None else context.options.timeout
    shown = _until_code(context, user, timeout)
    if context.screen.as_json:
        context.screen.document(shown.raw)
    elif shown.qr:
        print(shown.qr, flush=True)
    else:
        terminal.complain(f"user {user}: {shown.message}")
    if shown.qr or shown.ready:
        return Exit.OK
    if shown.status not in ENDS:
        return Exit.NOT_IN_TIME
    if shown.hint and not context.screen.as_json:
        terminal.complain(shown.hint)
    return Exit.FAILED


def _until_code(context: Context, user: str, timeout: float) -> QR:
    """Return the first code, or the state at the end. Reports it if a passkey is wanted meanwhile."""
    follower = Follower(context.client, user, timeout)
    step = Step(user)
    shown = follower.now()
    while shown.qr is None and shown.status not in ENDS and follower.has_time:
        if step.changed(shown) and step.passkey and not context.screen.as_json:
            # Without a link: this may go to a log, and anyone who has the link can link a phone.
            terminal.complain(step.words(f"`waportctl connect-link {user}` makes a link to it."))
        shown = follower.next(LONG_POLL_S)
    return shown


class _View:
    """What the terminal shows now. rich asks for it four times a second, so the time that is left runs down."""

    def __init__(self, user: str) -> None:
        self.shown: QR | None = None
        self.trouble: str | None = None
        self._user = user

    def __rich_console__(self, console: "Console", _: "ConsoleOptions") -> "Iterator[RenderableType]":
        yield self._view(console.width, console.height)

    def _view(self, width: int, height: int) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        from waportd.qr_image import Format, draw

        shown = self.shown
        if shown is None or self.trouble:
            return Text(terminal.plain(self.trouble or f"user {self._user}: starting …"), style="yellow")
        if shown.qr is None:
            state = Text(terminal.plain(f"user {self._user}: {shown.message}"), style="yellow")
            return Group(state, Text(terminal.plain(shown.hint or "")))
        left = (shown.expires_at - dt.datetime.now(dt.UTC)).total_seconds() if shown.expires_at else 0.0
        title = f"user {self._user}: code {shown.attempt} of {shown.attempts}, {max(0, int(left))} s left"
        drawing = draw(shown.qr, Format.TXT).decode().rstrip("\n")
        columns, rows = len(drawing.splitlines()[0]), drawing.count("\n") + 3
        if width < columns or height < rows:
            return Text(
                f"{title}\nThe code needs a terminal of {columns} columns and {rows} lines; this one has "
                f"{width} and {height}. Make it larger, or use `waportctl web`.",
                style="yellow",
            )
        # In colours of its own: a phone wants dark on light, whatever the terminal's theme.
        code = Text(drawing, style="bright_white on black", no_wrap=True)
        return Group(Text(title, style="bold"), code, Text(_STEPS))


def _watch(context: Context, user: str) -> Exit:
    """Draw each code, and show each step after it, until a phone is linked."""
    follower = Follower(context.client, user, context.options.timeout)
    shown = follower.now()
    while shown.status not in ENDS and follower.has_time:
        if Step.is_passkey(shown):
            shown = accompany(context, user, follower)
        else:
            shown = _draw(context, user, follower)
    return _end(context, user, shown)


def _draw(context: Context, user: str, follower: Follower) -> QR:
    """Draw codes until there is something else to do, nothing more comes, or time is up."""
    from rich.live import Live

    console = context.screen.console
    view = _View(user)
    shown = view.shown = follower.shown
    # On a screen of its own, so that no code stays in the scrollback.
    with Live(
        view, console=console, screen=True, auto_refresh=True, refresh_per_second=4, vertical_overflow="crop"
    ):
        while shown.status not in ENDS and not Step.is_passkey(shown) and follower.has_time:
            shown = view.shown = follower.next(LONG_POLL_S)
            view.trouble = follower.trouble
    return shown


def accompany(context: Context, user: str, follower: Follower) -> QR:
    """Show each step after the code, on the ordinary screen: there a link can be copied, and stays.

    Return when codes to scan are shown again, nothing more comes, or time is up.
    """
    step, link = Step(user), None
    shown = follower.shown
    while shown.status not in ENDS and shown.qr is None and follower.has_time:
        if step.changed(shown):
            if step.passkey and not _holds(link):
                link = context.client.connect_link(user, _LINK_HOLDS)
            context.screen.text(step.words(_told(link)))
        shown = follower.next(LONG_POLL_S)
    return shown


def _holds(link: ConnectLink | None) -> bool:
    """Return whether there is time enough to use a passkey by the link."""
    if link is None or link.expires_at is None:
        return False
    return (link.expires_at - dt.datetime.now(dt.UTC)).total_seconds() > _LINK_NEEDED


def _told(link: ConnectLink | None) -> str:
    """Return the link to the connect page, in words."""
    url = "" if link is None else link.url
    return f"{url}\n{_IN_FRONT}" if url.startswith("/") else url


def _end(context: Context, user: str, shown: QR) -> Exit:
    context.screen.text(message(user, shown))
    if shown.ready:
        return Exit.OK
    return Exit.FAILED if shown.status in ENDS else Exit.NOT_IN_TIME


@COMMANDS.add(
    "pair",
    "get a code to type on the user's phone, instead of scanning",
    """
    Prints a code for WhatsApp's "Link with phone number instead", and on a terminal waits until the phone is linked.
    A new user gets a server first; a user whose phone is linked is refused. WhatsApp limits how often it gives such a
    code to a number.

    Without a terminal, prints the code and ends. Exit status 6: no phone was linked in time; the code may still work.
    """,
    USER,
    argument("phone", metavar="PHONE", help="the phone's number with country code: +55 11 99999-8888"),
    argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="on a terminal, where it waits until a phone is linked: give up after SECONDS (default: never)",
    ),
    examples={"get a code for a phone": "waportctl pair 2 '+55 11 99999-8888'"},
)
def pair(context: Context) -> Exit:
    """Get a code to type on the phone; on a terminal, wait until it is linked."""
    options = context.options
    pairing = context.client.pairing_code(options.user, options.phone)
    if context.screen.as_json:
        context.screen.document(pairing.raw)
        return Exit.OK
    if not context.screen.live:
        print(pairing.code, flush=True)
        return Exit.OK
    left = (pairing.expires_at - dt.datetime.now(dt.UTC)).total_seconds() if pairing.expires_at else 0.0
    context.screen.pairs([("Code", pairing.code), ("Valid for", terminal.span(left))])
    context.screen.text(
        "On the phone: WhatsApp, Linked devices, Link a device, Link with phone number instead. "
        "This waits until the phone is linked; you may stop it, the code stays valid."
    )
    follower = Follower(context.client, options.user, options.timeout)
    if follower.now().qr is not None:
        follower.next(_SETTLES)
    shown = accompany(context, options.user, follower)
    if shown.qr is not None:
        context.screen.text(f"user {options.user}: the code has expired; codes to scan are shown again")
        return Exit.FAILED
    return _end(context, options.user, shown)


@COMMANDS.add(
    "connect-link",
    "make a link to the connect page of one user",
    """
    Prints a link that opens the connect page of this user, and nothing else, without a token. Anyone who has the link
    can link a phone until it expires. `waportctl token revoke-links` ends all links early.

    If api.public_url is not set, the link is a path: put the address of your web app in front of it.
    """,
    USER,
    argument(
        "--ttl",
        type=count,
        default=600,
        metavar="SECONDS",
        help="how long the link is valid (default: 600)",
    ),
    examples={"make a link that is valid for an hour": "waportctl connect-link 2 --ttl 3600"},
)
def connect_link(context: Context) -> Exit:
    """Make a link to the connect page, for the person with the phone."""
    options = context.options
    link = context.client.connect_link(options.user, options.ttl)
    if context.screen.as_json:
        context.screen.document(link.raw)
        return Exit.OK
    print(link.url, flush=True)
    if link.url.startswith("/"):
        terminal.complain(_IN_FRONT)
    return Exit.OK
