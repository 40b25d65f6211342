"""``history``: the last hours as the daemon has sampled them, a line for each figure."""

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from waportd.cli import terminal
from waportd.cli.arguments import hours
from waportd.cli.code_drawing import has_blocks
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit
from waportd.client import LastHours
from waportd.command_line import argument

COMMANDS = Commands()

_HOUR_S = 3600
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 24
"""Bars of a line: with the figures before it, it fits 80 columns."""

_Column = Sequence[float | None]


def _count(value: float) -> str:
    return f"{value:.0f}"


def _size(value: float) -> str:
    return terminal.size(int(value)) or ""


def _processors(value: float) -> str:
    return f"{value:.2f}"


class _Figure(NamedTuple):
    name: str
    """As the API calls it."""
    label: str
    shown: Callable[[float], str] = _count


_FIGURES = (
    _Figure("linked", "Linked"),
    _Figure("waiting", "Waiting for a person"),
    _Figure("working", "In progress"),
    _Figure("trouble", "Problems"),
    _Figure("asleep", "Asleep"),
    _Figure("idle", "Idle"),
    _Figure("servers_memory", "Server memory", _size),
    _Figure("host_memory", "Host memory", _size),
    _Figure("servers_cpu", "Server CPUs", _processors),
    _Figure("load", "Host load", _processors),
    _Figure("queued", "Messages queued"),
    _Figure("delivered", "Delivered a minute"),
    _Figure("undelivered", "Undelivered a minute"),
    _Figure("restarts", "Restarts a minute"),
)


@COMMANDS.add(
    "history",
    "show the last hours: users, memory, processor, messages and restarts",
    """
    Shows a line for each figure: what it is now, the least, the most, and how it came to that. The daemon takes a sample
    a minute and keeps those of a day in memory: a restart of the daemon begins again. A blank in a line is a time
    without a sample, as while the machine slept. The dashboard shows the same as charts. For longer times, have
    Prometheus read /metrics.
    """,
    argument(
        "--hours", metavar="N", type=hours, default=6, help="how far to look back, 24 at most (default: 6)"
    ),
    examples={
        "see the last six hours": "waportctl history",
        "count the messages that were delivered in the last day, for a script": (
            "waportctl history --hours 24 --json | jq '[.delivered[]] | add'"
        ),
    },
    also=("stats", "charts"),
)
def show(context: Context) -> Exit:
    """Show the last hours, a line for each figure."""
    back = context.options.hours
    history = context.client.last_hours(back)
    if context.screen.as_json:
        context.screen.document(history.raw)
        return Exit.OK
    if not history.times:
        context.screen.text(
            "There is no sample yet: waportd takes the first one some seconds after its start."
        )
        return Exit.OK
    rows = [_row(figure, history, back) for figure in _FIGURES if figure.name in history.figures]
    columns: tuple[str, ...] = (
        "FIGURE",
        "NOW",
        "LEAST",
        "MOST",
        f"LAST {back} H" if back > 1 else "LAST HOUR",
    )
    if not has_blocks(sys.stdout.encoding):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    context.screen.table(columns, rows)
    context.screen.text(f"\n{_sums(history)} since {terminal.moment(history.times[0])}.")
    return Exit.OK


def _row(figure: _Figure, history: LastHours, back: int) -> list[str | None]:
    column = history.figures[figure.name]
    known = [value for value in column if value is not None]
    figures = [figure.shown(value) for value in (min(known), max(known))] if known else [None, None]
    now = None if column[-1] is None else figure.shown(column[-1])
    return [figure.label, now, *figures, bars(column, back * _HOUR_S // history.step_s)]


def bars(column: _Column, length: int) -> str:
    """Draw the last ``length`` values as bars from zero up, each the average of its time; a blank where nothing is known."""
    spans: list[list[float]] = [[] for _ in range(_WIDTH)]
    for age, value in enumerate(reversed(column)):
        if value is not None and age < length:
            spans[-1 - age * _WIDTH // length].append(value)
    most = max(map(max, filter(None, spans)), default=0.0)
    return "".join(_bar(sum(span) / len(span), most) if span else " " for span in spans)


def _bar(value: float, most: float) -> str:
    return _BARS[min(len(_BARS) - 1, int(value / most * len(_BARS)))] if most else _BARS[0]


def _sums(history: LastHours) -> str:
    delivered, undelivered, restarts = (
        sum(value or 0 for value in history.figures.get(name, ()))
        for name in ("delivered", "undelivered", "restarts")
    )
    messages = "1 message was" if delivered == 1 else f"{delivered:.0f} messages were"
    servers = "1 restart" if restarts == 1 else f"{restarts:.0f} restarts"
    return f"{messages} delivered, {undelivered:.0f} undelivered; {servers} of servers"
