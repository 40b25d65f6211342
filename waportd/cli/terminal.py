"""What is shown: tables and colours on a terminal, plain text elsewhere, JSON where it is asked for.

rich is imported when the first thing is shown, not before: a call for JSON does without it.
"""

import datetime as dt
import functools
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from waportd.contract import CONTRACT

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_WIDE = 10_000
"""Columns where there is no terminal: the reader cuts lines."""

_STYLES = {
    **dict.fromkeys(("ready", "running", "ok"), "green"),
    **dict.fromkeys(("failed", "crash_loop", "unreachable", "error", "fail", "undelivered"), "bold red"),
    **dict.fromkeys(("stopped", "skip", "–"), "dim"),
}
"""Colours of states. All others are yellow: they are on their way, or wait for somebody."""

_GAP = 2
"""Columns between those of a table."""
_LEAST = 10
"""Columns that are left for the last one at least."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Screen:
    """Where a command shows its results."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    @property
    def interactive(self) -> bool:
        """Whether there is a person who can be asked."""
        return sys.stdin.isatty() and sys.stdout.isatty()

    @property
    def live(self) -> bool:
        """Whether what was shown can be drawn over."""
        return sys.stdout.isatty() and not self.as_json and not self.console.is_dumb_terminal

    @functools.cached_property
    def console(self) -> "Console":
        """The terminal, or whatever stands in its place."""
        from rich.console import Console

        return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)

    def document(self, document: Any) -> None:
        """Show JSON, indented."""
        print(in_json(document, indent=2), flush=True)

    def line(self, document: Any) -> None:
        """Show JSON on one line: one of a stream."""
        print(in_json(document), flush=True)

    def text(self, text: str) -> None:
        """Show plain text, wrapped at words where the terminal ends; a link that is longer stays whole, to be copied."""
        for line in plain(text).split("\n"):
            whole = not sys.stdout.isatty() or any(len(word) > self.console.width for word in line.split())
            self.console.print(line, markup=False, soft_wrap=whole)
        sys.stdout.flush()

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str | None]],
        dispensable: Sequence[str] = (),
        *,
        wide: bool = False,
    ) -> None:
        """Show a table. Where the terminal is narrow its last column gives way, then the dispensable ones, one by one.

        ``wide``: it is shown whole, and the terminal breaks its lines.
        """
        from rich.cells import cell_len
        from rich.table import Table

        cells = [[plain(cell or "–") for cell in row] for row in rows]
        widths = {
            column: max(map(cell_len, (column, *entries))) + _GAP
            for column, *entries in zip(columns[:-1], *(row[:-1] for row in cells), strict=True)
        }
        console = self._wide_console() if wide else self.console
        room = console.width - _GAP  # rich reckons with one after the last column, too
        for name in dispensable:
            if name in widths and sum(widths.values()) + _LEAST > room:
                del widths[name]
                place = columns.index(name)
                columns, *cells = ([*row[:place], *row[place + 1 :]] for row in (columns, *cells))
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
        for column, width in widths.items():
            table.add_column(column, no_wrap=True, width=width - _GAP)
        left = room - sum(widths.values())
        # rich itself would take from every column, and cut off users and ports.
        widest = max(cell_len(row[-1]) for row in [columns, *cells])
        table.add_column(columns[-1], no_wrap=True, overflow="ellipsis", width=max(_LEAST, min(left, widest)))
        for row in cells:
            table.add_row(*map(state, row))
        self._show(table, console)

    def pairs(self, pairs: Iterable[tuple[str, str | None]]) -> None:
        """Show names and values below each other; values that are None are left out."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in pairs:
            if value is not None:
                table.add_row(name, state(plain(value)))
        self._show(table)

    def findings(self, findings: Iterable[tuple[str, str, str, str | None]]) -> None:
        """Show verdict, subject, cause and fix of each; nothing is cut, as there are commands in it."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for verdict, subject, message, fix in findings:
            table.add_row(state(verdict), Text(subject), Text(plain(message)))
            if fix:
                table.add_row("", "", Text(f"→ {plain(fix)}", style="bold"))
        self._show(table)

    @staticmethod
    def _wide_console() -> "Console":
        from rich.console import Console

        return Console(highlight=False, width=_WIDE)

    def _show(self, table: Any, console: "Console | None" = None) -> None:
        if sys.stdout.isatty():
            (console or self.console).print(table)
            return
        with self.console.capture() as capture:
            self.console.print(table)
        print("\n".join(line.rstrip() for line in capture.get().splitlines()), flush=True)


def complain(text: str, hint: str | None = None) -> None:
    """Say something to the person, on standard error; and below it, what to do."""
    print(plain(text), file=sys.stderr, flush=True)
    if hint:
        print(plain(f"  {hint}"), file=sys.stderr, flush=True)


def confirmed(question: str) -> bool:
    """Ask the person; only a yes is one."""
    try:
        return input(f"{plain(question)} [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def in_json(document: Any, indent: int | None = None) -> str:
    r"""Return JSON for programs and terminals alike: what is piped may end in one, too.

    What `plain` leaves out is written as ``\u202e`` and the like; what can be seen stays as it is.
    """
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def plain(text: str) -> str:
    """Return the text without control characters: names and log lines are untrusted."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


def state(word: str) -> "Text":
    """Return the word in the colour of the state that it names, if it names one."""
    from rich.text import Text

    others = {*CONTRACT["session_states"], *CONTRACT["process_states"], "warn"}
    return Text(word, style=_STYLES.get(word, "yellow" if word in others else ""))


def moment(at: dt.datetime | None) -> str | None:
    """Return a time in the time zone of this process, with its offset, to the second."""
    return at.astimezone().isoformat(" ", "seconds") if at else None


def age(since: dt.datetime | None) -> str | None:
    """Return how long ago that was, in the largest unit that fits: 42s, 5m, 3h, 2d."""
    if since is None:
        return None
    return span((dt.datetime.now(dt.UTC) - since).total_seconds())


def span(seconds: float) -> str:
    """Return a time in the largest unit that fits."""
    whole = max(0, int(seconds))
    for unit, size in (("d", _DAY), ("h", _HOUR), ("m", _MINUTE)):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def size(count: int | None) -> str | None:
    """Return a number of bytes in the unit that people read it in."""
    if count is None:
        return None
    megabytes = count / (1 << 20)
    return f"{megabytes / 1024:.1f} GiB" if megabytes >= 1024 else f"{megabytes:.0f} MiB"  # noqa: PLR2004
