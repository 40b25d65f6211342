"""``qr``, ``pair`` and ``connect-link``: how a phone gets linked."""

import argparse
import contextlib
import datetime as dt
import os
import re
import sys
import time
from pathlib import Path

from waportd.cli import terminal
from waportd.cli.arguments import USER, count, seconds
from waportd.cli.code_view import STEPS, View
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.cli.following import ENDS, LONG_POLL_S, Follower, Step, message
from waportd.client import QR, ConnectLink
from waportd.command_line import argument

COMMANDS = Commands()

_PATIENCE = 90.0
"""Seconds that the first code is waited for, where nobody watches."""
_SETTLES = 5.0
"""Seconds until all know that a pairing code is shown in place of codes to scan; it takes milliseconds."""
_LINK_HOLDS = 900
"""Seconds: WhatsApp waits up to ten minutes for a passkey, and two more for each step after it."""
_LINK_NEEDED = 600
"""Seconds that a link must still be valid if WhatsApp asks once more."""
BEGINS_S = 10.0
"""Seconds in which a server that was just asked for a new round of codes says that it has begun; it takes a tenth of one."""
_OUTPUT = Path("-")
"""In place of a file: standard output."""
_IN_FRONT = "Prefix this with your public address, such as https://app.example.com, or set api.public_url."
_PAIRING_STEPS = """\
1. On the phone with that number, open WhatsApp, then Linked devices: below the three dots (Android) or in the
   settings (iPhone).
2. Choose "Link a device", then "Link with phone number instead".
3. Type the code."""
_LONG_NUMBER = 12
"""Digits from which a number has its country code, since no country has so many in its own numbers."""
_NATIONAL = re.compile(r"0?([1-9]{2})(9?[2-9][0-9]{3})([0-9]{4})")
"""A number of Brazil without its country code."""


def picture(text: str) -> Path:
    """Read the file of a picture, whose name says its format."""
    path = Path(text)
    if path != _OUTPUT and path.suffix.lower() not in {".png", ".svg"}:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .png or .svg")
    return path


@COMMANDS.add(
    "qr",
    "show the user's QR code until a phone is linked",
    """
    Draws the code in the terminal and replaces it when WhatsApp does. If WhatsApp wants a passkey after the scan, it
    shows the next step. A new user gets a server first, and a user whose codes ran out gets new ones.

    A code fits a terminal of 80 columns and 24 lines, if its font has the characters for that; from 32 lines on every
    font has them. --png writes a picture instead, and `waportctl open USER` shows the code in a browser.

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
    argument(
        "--png",
        type=picture,
        metavar="FILE",
        help="write the code into FILE, as SVG if its name ends in .svg; on a terminal, replace it when WhatsApp does, "
        "and remove it at the end; - writes it to standard output",
    ),
    examples={
        "link a phone to user 2": "waportctl qr 2",
        "write the code as a picture": "waportctl qr 2 --png code.png",
        "show that picture with another program": "waportctl qr 2 --png - | feh -",
        "draw the code with another program": "waportctl qr 2 | qrencode -t ansiutf8",
    },
    also=("link", "code", "scan", "login"),
)
def qr(context: Context) -> Exit:
    """Draw the code, live on a terminal; elsewhere print its text once, or write its picture."""
    options = context.options
    if options.png == _OUTPUT and (sys.stdout.isatty() or context.screen.as_json):
        raise Problem(
            "a picture cannot be written to a terminal, nor beside JSON", "name a file", Exit.USAGE, "usage"
        )
    context.client.ensure(options.user, "none")
    if context.screen.live:
        return _watch(context, options.user)
    timeout = _PATIENCE if options.timeout is None else options.timeout
    shown = _until_code(context, options.user, timeout)
    if shown.qr and options.png:
        _Picture(options.png).write(shown.qr)
    if context.screen.as_json:
        context.screen.document(shown.raw)
    elif shown.qr and options.png:
        terminal.complain(_written(options.user, shown, options.png))
    elif shown.qr:
        print(shown.qr, flush=True)
    else:
        terminal.complain(f"user {options.user}: {shown.message}")
    if shown.qr or shown.ready:
        return Exit.OK
    if shown.status not in ENDS:
        return Exit.NOT_IN_TIME
    if not context.screen.as_json and (hint := _hint(context, shown)):
        terminal.complain(hint)
    return Exit.FAILED


def _is_over(shown: QR) -> bool:
    """Return whether a round of codes has ended, and no phone was linked."""
    return shown.status in ENDS and not shown.ready


def _begun(follower: Follower) -> QR:
    """Return how things are, once the round of codes that was just asked for has begun.

    Until then the end of an earlier round is shown. If that stays so, it is the answer.
    """
    shown = follower.now()
    deadline = time.monotonic() + BEGINS_S
    while _is_over(shown) and follower.has_time:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        shown = follower.next(left)
    return shown


def _until_code(context: Context, user: str, timeout: float) -> QR:
    """Return the first code, or the state at the end. Reports it if a passkey is wanted meanwhile."""
    follower = Follower(context.client, user, timeout)
    step = Step(user)
    shown = _begun(follower)
    while shown.qr is None and shown.status not in ENDS and follower.has_time:
        if step.changed(shown) and step.passkey and not context.screen.as_json:
            # Without a link: this may go to a log, and anyone who has the link can link a phone.
            terminal.complain(step.words(f"`waportctl connect-link {user}` makes a link to it."))
        shown = follower.next(LONG_POLL_S)
    return shown


def _watch(context: Context, user: str) -> Exit:
    """Draw each code, and show each step after it, until a phone is linked."""
    follower = Follower(context.client, user, context.options.timeout)
    shown = follower.now()
    if _is_over(shown):
        context.screen.text(f"user {user}: asking for new codes …")
        shown = _begun(follower)
    path = context.options.png
    picture_file = _Picture(path) if path else None
    try:
        while shown.status not in ENDS and follower.has_time:
            if Step.is_passkey(shown):
                shown = accompany(context, user, follower)
            elif picture_file:
                shown = _keep_picture(context, user, follower, picture_file)
            else:
                shown = _draw(context, user, follower)
    finally:
        if picture_file:
            picture_file.remove()
    return _end(context, user, shown)


def _draw(context: Context, user: str, follower: Follower) -> QR:
    """Draw codes until there is something else to do, nothing more comes, or time is up."""
    from rich.live import Live

    console = context.screen.console
    view = View(user)
    shown = view.shown = follower.shown
    # On a screen of its own, so that no code stays in the scrollback.
    with Live(
        view, console=console, screen=True, auto_refresh=True, refresh_per_second=4, vertical_overflow="crop"
    ):
        while shown.status not in ENDS and not Step.is_passkey(shown) and follower.has_time:
            shown = view.shown = follower.next(LONG_POLL_S)
            view.trouble = follower.trouble
    return shown


def _keep_picture(context: Context, user: str, follower: Follower, file: "_Picture") -> QR:
    """Likewise, with each code in a file: no code stays there that is no longer valid."""
    step, drawn = Step(user), None
    shown = follower.shown
    while shown.status not in ENDS and not Step.is_passkey(shown) and follower.has_time:
        if shown.qr is None:
            file.remove()
        elif shown.qr != drawn:
            file.write(shown.qr)
            context.screen.text(_written(user, shown, file.path))
        if step.changed(shown) and shown.qr is None:
            context.screen.text(message(user, shown))
        drawn = shown.qr
        shown = follower.next(LONG_POLL_S)
    return shown


def _written(user: str, shown: QR, path: Path) -> str:
    until = f", valid until {terminal.moment(shown.expires_at)}" if shown.expires_at else ""
    place = "on standard output" if path == _OUTPUT else f"in {path}"
    return f"user {user}: code {shown.attempt} of {shown.attempts} is {place}{until}. {STEPS}"


class _Picture:
    """A file with the picture of a code, which only the caller can read: it is a secret."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_there = False

    def write(self, code: str) -> None:
        """Write a code, in place of what is there. Raises Problem."""
        from waportd.qr_image import Format, draw

        drawn = draw(code, Format.SVG if self.path.suffix.lower() == ".svg" else Format.PNG)
        if self.path == _OUTPUT:
            sys.stdout.buffer.write(drawn)
            sys.stdout.buffer.flush()
            return
        part = self.path.with_name(f".{self.path.name}.{os.urandom(4).hex()}")
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(drawn)
            part.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise Problem(
                f"{self.path} cannot be written: {error.strerror}", code="unwritable_file"
            ) from error
        self._is_there = True

    def remove(self) -> None:
        """Delete the file, if this wrote it."""
        if self._is_there:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._is_there = False


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
    hint = _hint(context, shown)
    context.screen.text(f"user {user}: {shown.message}" + (f"\n{hint}" if hint else ""))
    if shown.ready:
        return Exit.OK
    return Exit.FAILED if shown.status in ENDS else Exit.NOT_IN_TIME


def _hint(context: Context, shown: QR) -> str | None:
    """Return what to do next, on this terminal: the server's own words are for the connect page, too."""
    if shown.status == "qr_timeout":
        options = context.options
        if options.command == "pair":
            return f"`waportctl pair {options.user} '{_phone_words(options.phone)}'` asks for another code"
        return f"`waportctl qr {options.user}` asks for new codes"
    return shown.hint if shown.passkey is None else None


def phone_digits(text: str, user: str) -> str:
    """Return the digits of a phone number in international form. Raises Problem: a wrong country is a stranger's phone."""
    digits = re.sub(r"[\s().+\u00a0-]", "", text)
    if text.strip().startswith("+") or (len(digits) >= _LONG_NUMBER and not digits.startswith("0")):
        return text
    again = f"waportctl pair {user} "
    if digits.startswith("00") and digits.isdecimal():
        meant, hint = f"; it would be +{digits[2:]}", f"{again}+{digits[2:]}"
    elif found := _NATIONAL.fullmatch(digits):
        number = f"+55 {found[1]} {found[2]}-{found[3]}"
        meant, hint = f"; in Brazil it would be {number}", f"{again}'{number}'"
    else:
        meant, hint = "", f"{again}'+55 11 99999-8888'"
    raise Problem(
        f"{text} has no country code{meant}",
        f"write it with + and its country code: {hint}",
        Exit.USAGE,
        "bad_phone",
    )


def _phone_words(text: str) -> str:
    """Return a number so that a person can read it."""
    digits = re.sub("[^0-9]", "", text)
    brazil = re.fullmatch(r"(55)([0-9]{2})([0-9]{4,5})([0-9]{4})", digits)
    return "+{} {} {}-{}".format(*brazil.groups()) if brazil else f"+{digits}"


@COMMANDS.add(
    "pair",
    "get a code to type on the user's phone, instead of scanning",
    """
    Prints a code for WhatsApp's "Link with phone number instead", and on a terminal waits until the phone is linked.
    A new user gets a server first; a user whose phone is linked is refused. WhatsApp limits how often it gives such a
    code to a number.

    The number must have its country code, with + before it: the phone of that number shows a request, so a wrong country
    disturbs a stranger. Without a country code nothing is asked for; the message says which number it would be.

    Without a terminal, prints the code and ends. Exit status 6: no phone was linked in time; the code may still work.
    """,
    USER,
    argument(
        "phone", metavar="PHONE", help="the phone's number with + and country code: '+55 11 99999-8888'"
    ),
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
    phone = phone_digits(options.phone, options.user)
    pairing = context.client.pairing_code(options.user, phone)
    if context.screen.as_json:
        context.screen.document(pairing.raw)
        return Exit.OK
    if not context.screen.live:
        print(pairing.code, flush=True)
        return Exit.OK
    context.screen.pairs(
        [("Code", pairing.code), ("For", _phone_words(phone)), ("Valid", _validity(pairing.expires_at))]
    )
    context.screen.text(
        f"\n{_PAIRING_STEPS}\n\nThis waits until the phone is linked. After Ctrl-C the code stays valid."
    )
    follower = Follower(context.client, options.user, options.timeout)
    if (shown := follower.now()).qr is not None or _is_over(shown):
        follower.next(_SETTLES)
    shown = accompany(context, options.user, follower)
    if shown.qr is not None:
        context.screen.text(f"user {options.user}: the code has expired; codes to scan are shown again")
        return Exit.FAILED
    return _end(context, options.user, shown)


def _validity(until: dt.datetime | None) -> str | None:
    """Return how long a code is valid."""
    if until is None:
        return None
    left = max(0, round((until - dt.datetime.now(dt.UTC)).total_seconds()))
    return f"for {left // 60} min {left % 60:02} s, until {until.astimezone():%H:%M:%S}"


@COMMANDS.add(
    "connect-link",
    "make a link to the connect page of one user",
    """
    Prints a link that opens the connect page of this user, and nothing else, without a token. Anyone who has the link
    can link a phone until it expires. `waportctl token revoke-links` ends all links early.

    If api.public_url is not set, the link is a path: put the address of your web app in front of it.

    With --return-to, the page has a button "Back to the app". api.frame_ancestors has to name the origin of that
    address. Nobody is led there without a click.
    """,
    USER,
    argument(
        "--ttl",
        type=count,
        default=600,
        metavar="SECONDS",
        help="how long the link is valid (default: 600)",
    ),
    argument(
        "--return-to",
        metavar="URL",
        help='where "Back to the app" on the page leads, when the phone is linked or the link has expired '
        "(default: the page has no such button)",
    ),
    examples={
        "make a link that is valid for an hour": "waportctl connect-link 2 --ttl 3600",
        "make a link that leads back to the web app": (
            "waportctl connect-link 2 --return-to https://app.example.com/settings"
        ),
    },
)
def connect_link(context: Context) -> Exit:
    """Make a link to the connect page, for the person with the phone."""
    options = context.options
    link = context.client.connect_link(options.user, options.ttl, options.return_to)
    if context.screen.as_json:
        context.screen.document(link.raw)
        return Exit.OK
    print(link.url, flush=True)
    if link.url.startswith("/"):
        terminal.complain(_IN_FRONT)
    return Exit.OK
