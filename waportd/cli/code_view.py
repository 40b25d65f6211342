"""What `qr` shows on a terminal: the code with its caption, or the state in place of it, as there is room."""

import datetime as dt
from typing import TYPE_CHECKING

from waportd.cli import code_drawing, terminal
from waportd.cli.code_drawing import Drawing
from waportd.client import QR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.text import Text

STEPS = "On the phone: WhatsApp, Linked devices, Link a device."
_GAP = 2
"""Columns between a code and what stands beside it."""
_LEAST = 18
"""Columns of text that is still read beside a code."""


class View:
    """What the terminal shows now. rich asks for it four times a second, so the time that is left runs down."""

    def __init__(self, user: str) -> None:
        self.shown: QR | None = None
        self.trouble: str | None = None
        self._user = user
        self._code: str | None = None
        self._drawings: tuple[Drawing, ...] = ()

    def __rich_console__(self, console: "Console", _: "ConsoleOptions") -> "Iterator[RenderableType]":
        yield self._view(console)

    def _view(self, console: "Console") -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        shown = self.shown
        if shown is None or self.trouble:
            return Text(terminal.plain(self.trouble or f"user {self._user}: starting …"), style="yellow")
        if shown.qr is None:
            state = Text(terminal.plain(f"user {self._user}: {shown.message}"), style="yellow")
            return Group(state, Text(terminal.plain(shown.hint or "")))
        title = f"user {self._user}: code {shown.attempt} of {shown.attempts}, {_left(shown)} s left"
        if not code_drawing.has_blocks(console.encoding):
            return self._ways_out(title, "The code cannot be drawn here: the terminal's locale is not UTF-8.")
        drawings = self._drawn(shown.qr)
        for drawing in drawings:
            notes = self._notes(drawing, drawings)
            for arrange in (_stacked, _beside):
                if lines := arrange(drawing, title, notes, console.width, console.height):
                    return Group(*lines)
        smallest = drawings[-1]
        rows = smallest.rows + sum(
            len(_wrapped(text, smallest.columns)) for text in (title, *self._notes(smallest, drawings))
        )
        return self._ways_out(
            title,
            f"The code needs a terminal of {smallest.columns} columns and {rows} lines; this one has {console.width} "
            f"and {console.height}. Make it larger, or:",
        )

    def _drawn(self, code: str) -> tuple[Drawing, ...]:
        if code != self._code:
            self._code = code
            self._drawings = tuple(code_drawing.drawings(code, compact=code_drawing.has_sextants()))
        return self._drawings

    def _notes(self, drawing: Drawing, drawings: tuple[Drawing, ...]) -> tuple[str, ...]:
        """Return what is said below a drawing."""
        if not drawing.is_compact:
            return (STEPS,)
        large = [each for each in drawings if not each.is_compact][-1]
        way_out = (
            f"No code to see? Then this font lacks its characters. {large.rows + 2} lines are enough for others. Or: "
            f"waportctl qr {self._user} --png FILE"
        )
        return (STEPS, way_out)

    def _ways_out(self, title: str, why: str) -> "RenderableType":
        from rich.text import Text

        return Text(
            f"{title}\n{why}\nwaportctl qr {self._user} --png FILE writes it as a picture.\n"
            f"waportctl connect-link {self._user} makes a link to a page with it.",
            style="yellow",
        )


def _left(shown: QR) -> int:
    """Return for how many seconds a code is valid."""
    left = (shown.expires_at - dt.datetime.now(dt.UTC)).total_seconds() if shown.expires_at else 0.0
    return max(0, int(left))


def _stacked(
    drawing: Drawing, title: str, notes: tuple[str, ...], width: int, height: int
) -> "list[RenderableType] | None":
    """Return the code with the title above it and the notes below; None where there is no room."""
    from rich.text import Text

    above = _wrapped(title, width)
    below = [line for note in notes for line in _wrapped(note, width)]
    if width < drawing.columns or height < len(above) + drawing.rows + len(below):
        return None
    return [
        *(Text(line, style="bold") for line in above),
        *(_code(line) for line in drawing.lines),
        *map(Text, below),
    ]


def _beside(
    drawing: Drawing, title: str, notes: tuple[str, ...], width: int, height: int
) -> "list[RenderableType] | None":
    """Return the code with all words to its right; None where there is no room."""
    from rich.text import Text

    room = width - drawing.columns - _GAP
    if room < _LEAST:
        return None
    words = [Text(line, style="bold") for line in _wrapped(title, room)]
    for note in notes:
        words += [Text(), *map(Text, _wrapped(note, room))]
    if height < max(drawing.rows, len(words)):
        return None
    words += [Text()] * (drawing.rows - len(words))
    codes = [_code(line) for line in drawing.lines]
    codes += [Text(" " * drawing.columns)] * (len(words) - len(codes))
    gap = Text(" " * _GAP)
    return [Text.assemble(code, gap, text) for code, text in zip(codes, words, strict=True)]


def _code(line: str) -> "Text":
    from rich.text import Text

    # In colours of its own: a phone wants dark on light, whatever the terminal's theme.
    return Text(line, style="bright_white on black", no_wrap=True)


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, max(1, width), break_on_hyphens=False)
