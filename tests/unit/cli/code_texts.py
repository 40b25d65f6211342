"""Texts as long as WhatsApp's codes, and what a terminal makes of their drawings."""

import base64
import random

_SEXTANTS = 0x1FB00
_OF_OLD = {" ": 0, "▌": 0b010101, "▐": 0b101010, "█": 0b111111}


def real_code(length, seed=1):
    """Return what looks like a code of WhatsApp's: a reference and three keys in base64."""
    made = random.Random(seed)
    keys = [base64.b64encode(made.randbytes(32)).decode() for _ in range(3)]
    left = length - len("2@,1") - sum(len(key) + 1 for key in keys)
    return f"2@{base64.b64encode(made.randbytes(300)).decode()[:left]},{','.join(keys)},1"


def rendered(text, width=8, height=18):
    """Return a terminal's characters, white on black, each so many pixels wide and high, as PGM; letters are dark."""
    lines = text.split("\n")
    columns = max(map(len, lines))
    rows = [[0] * (columns + 4) * width for _ in range(2 * height)]
    for line in lines:
        cells = [_cell(char) for char in f"  {line.ljust(columns)}  "]
        rows += [[cell(x / width, y / height) for cell in cells for x in range(width)] for y in range(height)]
    rows += [[0] * (columns + 4) * width for _ in range(2 * height)]
    return b"P5 %d %d 255\n" % (len(rows[0]), len(rows)) + b"".join(map(bytes, rows))


def _cell(char):
    """Return which part of a character is white."""
    if char in "▀▄":
        return lambda _, y: 255 * ((y < 0.5) == (char == "▀"))
    bits = _OF_OLD.get(char, 0)
    if "\U0001fb00" <= char <= "\U0001fb3b":
        number = ord(char) - _SEXTANTS + 1
        number += number >= 0b010101
        bits = number + (number >= 0b101010)
    return lambda x, y: 255 * (bits >> (2 * int(3 * y) + int(2 * x)) & 1)
