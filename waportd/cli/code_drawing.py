"""Codes as characters of a terminal: as large as there is room for, and small enough for 80 columns and 24 lines.

A code of WhatsApp has about 230 characters: 53 to 57 modules on a side. In half blocks, which every font has, it takes
29 to 31 lines with the smallest margin. In sextants, two modules by three to a character, it takes 20 to 22. Their modules are
a third higher than wide, which zbar and ZXing read, but not every font has them.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

_HALVES = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
_SEXTANTS = (
    " ",
    *map(chr, range(0x1FB00, 0x1FB14)),
    "▌",
    *map(chr, range(0x1FB14, 0x1FB28)),
    "▐",
    *map(chr, range(0x1FB28, 0x1FB3C)),
    "█",
)
"""By the sum of what is light in them: 1, 2 in the upper third, then 4, 8, then 16, 32."""
_BORDERS = (4, 2, 1)
"""Modules of margin: as the standard wants it, then less. Phones read a code with one."""
_WITHOUT_SEXTANTS = ("linux", "vt", "cons")
"""How the names of terminals begin whose fonts have no sextants: those of the console."""


class Drawing(NamedTuple):
    """A code, drawn light on dark."""

    lines: tuple[str, ...]
    is_compact: bool
    """In sextants, which not every font has."""

    @property
    def columns(self) -> int:
        """How wide it is."""
        return len(self.lines[0])

    @property
    def rows(self) -> int:
        """How many lines it has."""
        return len(self.lines)


def drawings(code: str, *, compact: bool) -> Iterator[Drawing]:
    """Yield the code as drawings, the best first; with ``compact`` also those that not every font has."""
    from waportd.qr_image import symbol

    drawn = symbol(code)
    for border in _BORDERS:
        yield Drawing(tuple(_halves(_light(drawn.matrix_iter(border=border)))), is_compact=False)
    for border in _BORDERS[1:] if compact else ():
        yield Drawing(tuple(_sextants(_light(drawn.matrix_iter(border=border)))), is_compact=True)


def has_blocks(encoding: str) -> bool:
    """Return whether a terminal of this encoding shows half blocks."""
    return encoding.lower().replace("-", "") == "utf8"


def has_sextants() -> bool:
    """Return whether the terminal may show sextants: no console has them."""
    return not os.environ.get("TERM", "").startswith(_WITHOUT_SEXTANTS)


def _light(modules: Iterator[bytearray]) -> list[list[bool]]:
    return [[not module for module in row] for row in modules]


def _halves(light: list[list[bool]]) -> Iterator[str]:
    dark = [False] * len(light[0])
    for at in range(0, len(light), 2):
        below = light[at + 1] if at + 1 < len(light) else dark
        yield "".join(_HALVES[pair] for pair in zip(light[at], below, strict=True))


def _sextants(light: list[list[bool]]) -> Iterator[str]:
    width = len(light[0]) + len(light[0]) % 2
    # What is added to fill a character is margin, and as light.
    rows = [row + [True] * (width - len(row)) for row in light]
    rows += [[True] * width] * (-len(rows) % 3)
    for at in range(0, len(rows), 3):
        yield "".join(_sextant(rows[at : at + 3], column) for column in range(0, width, 2))


def _sextant(rows: list[list[bool]], column: int) -> str:
    return _SEXTANTS[sum(rows[y][column + x] << (2 * y + x) for y in range(3) for x in range(2))]
