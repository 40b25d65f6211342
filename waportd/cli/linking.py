"""``qr``, ``pair`` and ``connect-link``: how a phone gets linked."""

import datetime as dt
import time
from typing import TYPE_CHECKING

from waportd.cli import terminal
from waportd.cli.exits import Exit
from waportd.cli.main import Context
from waportd.client import QR, WaportdUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, ConsoleOptions, RenderableType

_WAIT = 25.0
"""Seconds of one long poll."""
_PATIENCE = 90.0
"""Seconds that the first code is waited for, where nobody watches."""
_ENDS = {"ready", "qr_timeout", "passkey_required", "logged_out", "failed", "crash_loop"}
"""States in which nothing comes by itself any more. An error is tried again."""
_STEPS = "On the phone: WhatsApp, Linked devices, Link a device."


def qr(context: Context) -> Exit:
    """Draw the code, live on a terminal; elsewhere print its text once."""
    user = context.options.user
    context.client.ensure(user, "none")
    if context.screen.live:
        return _watch(context, user)
    timeout = _PATIENCE if context.options.timeout is None else context.options.timeout
    shown = _until_code(context, user, time.monotonic() + timeout)
    if context.screen.as_json:
        context.screen.document(shown.raw)
    elif shown.qr:
        print(shown.qr, flush=True)
    else:
        terminal.complain(f"user {user}: {shown.message}")
    if shown.qr or shown.ready:
        return Exit.OK
    if shown.status not in _ENDS:
        return Exit.NOT_IN_TIME
    if shown.hint and not context.screen.as_json:
        terminal.complain(shown.hint)
    return Exit.FAILED


def _until_code(context: Context, user: str, deadline: float) -> QR:
    """Return the first code, or the state that is left at the end."""
    shown = context.client.qr(user)
    while shown.qr is None and shown.status not in _ENDS and (left := deadline - time.monotonic()) > 0:
        shown = context.client.qr(user, min(left, _WAIT), shown)
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

        from waportd.drawing import Format, draw

        shown = self.shown
        if shown is None or self.trouble:
            return Text(terminal.plain(self.trouble or f"user {self._user}: starting …"), style="yellow")
        if shown.qr is None:
            told = Text(terminal.plain(f"user {self._user}: {shown.message}"), style="yellow")
            return Group(told, Text(terminal.plain(shown.hint or "")))
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
    from rich.live import Live

    console = context.screen.console
    view = _View(user)
    timeout = context.options.timeout
    deadline = None if timeout is None else time.monotonic() + timeout
    # On a screen of its own, so that no code stays in the scrollback.
    with Live(
        view, console=console, screen=True, auto_refresh=True, refresh_per_second=4, vertical_overflow="crop"
    ):
        shown = _follow(context, view, user, deadline)
    context.screen.text(f"user {user}: {shown.message}" + (f"\n{shown.hint}" if shown.hint else ""))
    if shown.ready:
        return Exit.OK
    return Exit.FAILED if shown.status in _ENDS else Exit.NOT_IN_TIME


def _follow(context: Context, view: _View, user: str, deadline: float | None) -> QR:
    """Keep the view up to date until a phone is linked, nothing more comes, or time is up."""
    shown = view.shown = context.client.qr(user)
    lost_at: float | None = None
    while shown.status not in _ENDS:
        wait = _WAIT if deadline is None else min(_WAIT, deadline - time.monotonic())
        if wait <= 0:
            break
        try:
            shown = context.client.qr(user, wait, shown)
        except WaportdUnavailable as error:
            # A daemon that is restarted is back within two seconds.
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > _WAIT:
                raise
            view.trouble = f"{error.message}; trying again …"
            time.sleep(0.5)
            continue
        lost_at = view.trouble = None
        view.shown = shown
    return shown


def pair(context: Context) -> Exit:
    """Get a code to type on the phone."""
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
        f"`waportctl show {options.user}` tells when it is linked."
    )
    return Exit.OK


def connect_link(context: Context) -> Exit:
    """Make a link to the connect page, for whoever holds the phone."""
    options = context.options
    link = context.client.connect_link(options.user, options.ttl)
    if context.screen.as_json:
        context.screen.document(link.raw)
        return Exit.OK
    print(link.url, flush=True)
    if link.url.startswith("/"):
        terminal.complain(
            "Put in front of it where people reach waportd: the address of your web app, or api.listen."
        )
    return Exit.OK
