"""``send``, ``messages``: messages out and in, and those that the web app has not got."""

import argparse
import collections
import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from waportd.cli import terminal
from waportd.cli.arguments import USER, count
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.client import Message, Outcome
from waportd.command_line import argument, flag
from waportd.model import Event

COMMANDS = Commands()


_AT_ONCE = 500
"""Messages that are asked for at a time."""
_REDELIVER = "redeliver"
_WRITTEN = ["message", "message.sent"]
"""What is shown unless something else is asked for."""
_LINES = 20
_TEXT = "chat"
"""The type of a message that is a text, in WhatsApp's words."""


def events(text: str) -> list[str]:
    """Read names of events with commas between."""
    names = text.split(",")
    if unknown := [name for name in names if name not in set(Event)]:
        raise argparse.ArgumentTypeError(f"there is no event {unknown[0]!r}; there are {', '.join(Event)}")
    return names


@COMMANDS.add(
    "send",
    "send a message as the user",
    """
    Sends a text or a file from the user's phone number, and prints the id of the message. The session must be
    connected.

    Exit status 6: it is not known yet whether WhatsApp has the message. Repeat the command with the same --key: a
    message with that key is sent once only.
    """,
    USER,
    argument(
        "to",
        metavar="TO",
        help="a phone number as people write it, with its country code unless default_country is set, or the id of a "
        "chat",
    ),
    argument(
        "text",
        metavar="TEXT",
        nargs="?",
        help="the text, or the caption of the file; - reads it from standard input, so that it does not show in a list "
        "of processes",
    ),
    argument("--file", metavar="FILE", type=Path, help="an image, video or any other file"),
    argument(
        "--as",
        dest="kind",
        choices=("image", "video", "document", "audio", "voice", "sticker"),
        help="how the file is sent (default: by its name)",
    ),
    argument("--reply", metavar="ID", help="the id of the message that is answered"),
    argument(
        "--key",
        metavar="KEY",
        help="an idempotency key: for a day, a second command with the same key sends nothing",
    ),
    examples={
        "send a text once, even if the command is repeated": (
            "waportctl send 2 '+55 11 98888-7777' 'It is on its way.' --key order-4711"
        ),
        "send a file with a caption": "waportctl send 2 '+55 11 98888-7777' 'The invoice' --file invoice.pdf",
        "send what another program writes": "date | waportctl send 2 '+55 11 98888-7777' -",
    },
)
def send(context: Context) -> Exit:
    """Send a text, or a file."""
    options = context.options
    if options.text is None and options.file is None:
        raise Problem("nothing to send", "give a text, or --file", Exit.USAGE, "usage")
    if options.kind and options.file is None:
        raise Problem("--as needs --file", exit_status=Exit.USAGE, code="usage")
    text = sys.stdin.read() if options.text == "-" else options.text
    if text is not None:
        text = text.removesuffix("\n")
    more = {"quote": options.reply} if options.reply else {}
    try:
        outcome = context.client.send(
            options.user, options.to, text, file=options.file, kind=options.kind, key=options.key, **more
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Problem(f"{options.file} cannot be sent: {why}", code="unreadable_file") from error
    return _told(context, outcome)


def _told(context: Context, outcome: Outcome) -> Exit:
    if context.screen.as_json:
        context.screen.document(outcome.raw)
    elif outcome.outcome == "sent":
        context.screen.text(f"sent: {outcome.id}")
    elif outcome.outcome == "pending":
        context.screen.text(f"pending: {outcome.id or 'not known yet'}")
        terminal.complain(
            "Whether WhatsApp has it is not known yet; do not send it again without the same --key."
        )
    else:
        terminal.complain(f"failed: {outcome.code or 'reason unknown'}")
    return {"sent": Exit.OK, "pending": Exit.NOT_IN_TIME}.get(outcome.outcome, Exit.FAILED)


@COMMANDS.add(
    "messages",
    "show the user's messages, or send undelivered ones to the web app again",
    """
    Shows what the user's journal of messages has kept. `messages redeliver USER` sends the undelivered messages to
    the web app again: those that it refused, or did not take in time.
    """,
    argument(
        "action",
        metavar="redeliver",
        nargs="?",
        choices=(_REDELIVER,),
        help="send the undelivered messages to the web app again",
    ),
    USER,
    flag("-f", "--follow", help="also show new messages, until Ctrl-C"),
    argument(
        "-n",
        "--lines",
        type=count,
        metavar="N",
        help="number of messages to show, the last ones (default: 20; with --state all)",
    ),
    argument(
        "--after",
        metavar="CURSOR",
        help="show all messages after this cursor, which --json shows, instead of -n",
    ),
    argument(
        "--events",
        type=events,
        metavar="EVENTS",
        help=f"which events to show: {', '.join(Event)}, separated by commas (default: message,message.sent; with "
        "--state all)",
    ),
    argument(
        "--state",
        choices=("pending", "undelivered"),
        help="only messages that still wait for the web app, or that were given up and are kept",
    ),
    argument(
        "--cursor",
        metavar="CURSOR",
        help="with redeliver: only the message with this cursor, which --json shows (default: all)",
    ),
    examples={
        "watch the messages of user 2": "waportctl messages 2 -f",
        "see what the web app did not take": "waportctl messages 2 --state undelivered",
        "send those to the web app again": "waportctl messages redeliver 2",
    },
)
def run(context: Context) -> Exit:
    """Show messages, or have them sent to the web app again."""
    options = context.options
    if options.action == _REDELIVER:
        return _redeliver(context)
    if options.user == _REDELIVER:
        raise Problem(
            "redeliver needs a user",
            "`waportctl messages redeliver USER`; `waportctl list --messages` shows who has undelivered ones",
            Exit.USAGE,
            "usage",
        )
    if options.cursor is not None:
        raise Problem("--cursor needs redeliver", exit_status=Exit.USAGE, code="usage")
    if options.state and options.follow:
        raise Problem("-f and --state cannot be combined", exit_status=Exit.USAGE, code="usage")
    # Of undelivered events all kinds are shown, not only messages.
    events = options.events or ([] if options.state else _WRITTEN)
    last = options.after
    kept = _kept(context, events)
    lines = options.lines or (None if options.state else _LINES)
    for message in kept if options.after is not None else collections.deque(kept, lines):
        _print(context, message)
        last = message.cursor
    if options.follow:
        stream = context.client.follow_messages(options.user, last, events=events)
        with contextlib.closing(stream) as messages:
            for message in messages:
                _print(context, message)
    return Exit.OK


def _kept(context: Context, events: Iterable[str]) -> Iterator[Message]:
    """Yield what the journal has after the cursor of the command line."""
    options = context.options
    after = options.after
    while True:
        page = context.client.messages(
            options.user, after, limit=_AT_ONCE, events=list(events) or None, state=options.state
        )
        yield from page.messages
        if not page.more or page.next in {None, after}:
            return
        after = page.next


def _redeliver(context: Context) -> Exit:
    options = context.options
    if options.follow or options.state or options.after is not None:
        raise Problem(
            "-f, --state and --after cannot be combined with redeliver", exit_status=Exit.USAGE, code="usage"
        )
    count = context.client.redeliver(options.user, options.cursor)
    if context.screen.as_json:
        context.screen.document({"user": options.user, "redelivered": count})
    elif count:
        what = "1 message is" if count == 1 else f"{count} messages are"
        context.screen.text(f"user {options.user}: {what} sent to the web app again")
    else:
        which = "no undelivered message with that cursor" if options.cursor else "no undelivered message"
        context.screen.text(f"user {options.user}: {which}, or no webhook")
    return Exit.OK


def _print(context: Context, message: Message) -> None:
    if context.screen.as_json:
        context.screen.line(message.raw)
        return
    when = message.time.astimezone().strftime("%b %d %H:%M:%S") if message.time else ""
    line = " ".join(filter(None, (when, _who(message), _what(message))))
    context.screen.console.print(
        terminal.plain(line.replace("\n", " ")), style="", markup=False, soft_wrap=True
    )


def _who(message: Message) -> str:
    """Return sender, receiver or chat, in a few words."""
    chat = message.raw.get("chat")
    place = (chat.get("name") if isinstance(chat, dict) else None) or message.chat
    if message.from_me:
        return f"to {place}:" if place else ""
    number = f"+{message.phone}" if message.phone else None
    named = [part for part in (message.name, number) if part]
    in_group = message.raw.get("isGroup") is True
    where = place if in_group or not named else None
    return (
        f"{' '.join([*named, *([f'in {where}' if named else where] if where else [])])}:"
        if named or where
        else ""
    )


def _what(message: Message) -> str:
    if message.event not in {"message", "message.sent"}:
        detail = message.raw.get("ack") or message.raw.get("reaction") or message.body
        return " ".join(str(part) for part in (f"[{message.event}]", detail, message.id) if part)
    kind = None if message.type in {None, _TEXT} else f"[{message.type}]"
    return " ".join(part for part in (kind, message.body) if part)
