"""``logs``: the journal of users' servers."""

import contextlib
import datetime as dt
import queue
import threading
from collections.abc import Iterable, Iterator

from waportd.cli import terminal
from waportd.cli.arguments import USERS, count
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit
from waportd.client import LogLine, WaportdClientError
from waportd.command_line import argument, flag

COMMANDS = Commands()


_ERROR, _WARNING = 3, 4
"""Priorities of syslog."""
_FIRST = dt.datetime.fromtimestamp(0, dt.UTC)


@COMMANDS.add(
    "logs",
    "show the journal of users' servers",
    """
    Shows the last lines, the newest at the end. Errors are red and warnings are yellow on a terminal. With --json,
    each line is a JSON object. Of several users each line says whose it is.
    """,
    USERS,
    argument(
        "-n",
        "--lines",
        type=count,
        default=100,
        metavar="N",
        help="number of lines to show of each user (default: 100)",
    ),
    argument(
        "--level",
        choices=("warning", "error"),
        help="only warnings and errors, or only errors",
    ),
    flag("-f", "--follow", help="also show new lines, until Ctrl-C"),
    examples={
        "see the last 20 lines": "waportctl logs 2 -n 20",
        "watch what two servers do": "waportctl logs 2 3 -f",
        "see what went wrong lately": "waportctl logs 2 --level error",
    },
    also=("log", "journal", "tail"),
)
def show(context: Context) -> Exit:
    """Show the last lines, and with ``-f`` new ones."""
    options = context.options
    users = list(dict.fromkeys(options.users))
    if options.follow:
        _print(context, _followed(context, users), named=len(users) > 1)
    else:
        lines = [
            (user, line) for user in users for line in context.client.logs(user, options.lines, options.level)
        ]
        if len(users) > 1:
            lines.sort(key=lambda line: line[1].time or _FIRST)
        _print(context, lines, named=len(users) > 1)
    return Exit.OK


def _followed(context: Context, users: list[str]) -> Iterator[tuple[str, LogLine]]:
    """Yield the lines of all users as they come. Raises what the client raises of any of them."""
    lines, level = context.options.lines, context.options.level
    if len(users) == 1:
        with contextlib.closing(context.client.follow_logs(users[0], lines, level)) as stream:
            yield from ((users[0], line) for line in stream)
        return
    came: queue.SimpleQueue[tuple[str, LogLine] | WaportdClientError | None] = queue.SimpleQueue()

    def follow(user: str) -> None:
        try:
            for line in context.client.follow_logs(user, lines, level):
                came.put((user, line))
        except WaportdClientError as error:
            came.put(error)
        else:
            came.put(None)

    for user in users:
        threading.Thread(target=follow, args=(user,), daemon=True).start()
    left = len(users)
    while left:
        line = came.get()
        if isinstance(line, WaportdClientError):
            raise line
        if line is None:
            left -= 1
        else:
            yield line


def _print(context: Context, lines: Iterable[tuple[str, LogLine]], *, named: bool) -> None:
    """Print lines; ``named``: each with whose it is."""
    for user, line in lines:
        if context.screen.as_json:
            context.screen.line({"user": user, **line.raw} if named else line.raw)
            continue
        style = "red" if line.priority <= _ERROR else "yellow" if line.priority == _WARNING else ""
        when = line.time.astimezone().strftime("%b %d %H:%M:%S") if line.time else ""
        words = f"{when} {user}: {line.message}" if named else f"{when} {line.message}"
        text = terminal.plain(words.replace("\n", " "))
        context.screen.console.print(text, style=style, markup=False, soft_wrap=True)
