"""``logs``: the journal of a user's server."""

import contextlib
from collections.abc import Iterable

from waportd.cli import terminal
from waportd.cli.exits import Exit
from waportd.cli.main import Context
from waportd.client import LogLine

_ERROR, _WARNING = 3, 4
"""Priorities of syslog."""


def show(context: Context) -> Exit:
    """Show the last lines, and with ``-f`` those that come."""
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
