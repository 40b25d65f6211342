"""``logs``: the journal of a user's server."""

import contextlib
from collections.abc import Iterable

from waportd.cli import terminal
from waportd.cli.arguments import USER, count
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit
from waportd.client import LogLine
from waportd.command_line import argument, flag

COMMANDS = Commands()


_ERROR, _WARNING = 3, 4
"""Priorities of syslog."""


@COMMANDS.add(
    "logs",
    "show the journal of the user's server",
    """
    Shows the last lines, the newest at the end. Errors are red and warnings are yellow on a terminal. With --json,
    each line is a JSON object.
    """,
    USER,
    argument(
        "-n", "--lines", type=count, default=100, metavar="N", help="number of lines to show (default: 100)"
    ),
    flag("-f", "--follow", help="also show new lines, until Ctrl-C"),
    examples={
        "see the last 20 lines": "waportctl logs 2 -n 20",
        "watch what the server does": "waportctl logs 2 -f",
    },
)
def show(context: Context) -> Exit:
    """Show the last lines, and with ``-f`` new ones."""
    options = context.options
    if options.follow:
        with contextlib.closing(context.client.follow_logs(options.user, options.lines)) as lines:
            _print(context, lines)
    else:
        _print(context, context.client.logs(options.user, options.lines))
    return Exit.OK


def _print(context: Context, lines: Iterable[LogLine]) -> None:
    for line in lines:
        if context.screen.as_json:
            context.screen.line(line.raw)
            continue
        style = "red" if line.priority <= _ERROR else "yellow" if line.priority == _WARNING else ""
        when = line.time.astimezone().strftime("%b %d %H:%M:%S") if line.time else ""
        text = terminal.plain(f"{when} {line.message}".replace("\n", " "))
        context.screen.console.print(text, style=style, markup=False, soft_wrap=True)
