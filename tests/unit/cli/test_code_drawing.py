"""Codes in characters: of every length that WhatsApp's have, a scanner reads each drawing."""

import io

import pytest
from code_texts import real_code, rendered
from rich.console import Console
from support import scanned

from waportd.cli import code_drawing
from waportd.cli.code_drawing import drawings
from waportd.cli.code_view import View
from waportd.client import QR
from waportd.qr_image import Format, draw


@pytest.mark.parametrize("length", [200, 230, 237, 250, 260])
def test_every_drawing_of_a_real_code_is_read(length):
    code = real_code(length)
    assert len(code) == length
    drawn = list(drawings(code, compact=True))
    assert [each.is_compact for each in drawn] == [False, False, False, True, True]
    for each in drawn:
        assert len({len(line) for line in each.lines}) == 1
        assert scanned(rendered("\n".join(each.lines)), "pgm") == code


@pytest.mark.parametrize("length", range(200, 271, 5))
def test_a_real_code_has_room_in_80_columns_and_24_lines(length):
    *_, smallest = drawings(real_code(length), compact=True)
    assert smallest.columns <= 31
    assert smallest.rows <= 20
    *_, smallest = drawings(real_code(length), compact=False)
    assert smallest.columns <= 59
    assert smallest.rows <= 30, "which is more than 24: half blocks alone are too large"


def test_with_room_for_it_a_code_is_as_the_api_draws_it():
    code = real_code(237)
    first = next(drawings(code, compact=False))
    assert "\n".join(first.lines) == draw(code, Format.TXT).decode().rstrip("\n")


def test_cells_of_other_proportions_are_read_too():
    code = real_code(237)
    for size in ((7, 15), (9, 20), (8, 16)):
        for each in drawings(code, compact=True):
            assert scanned(rendered("\n".join(each.lines), *size), "pgm") == code


@pytest.mark.parametrize(
    ("name", "has"), [("xterm-256color", True), ("screen", True), ("linux", False), ("vt220", False)]
)
def test_a_console_has_no_sextants(monkeypatch, name, has):
    monkeypatch.setenv("TERM", name)
    assert code_drawing.has_sextants() is has


@pytest.mark.parametrize(
    ("encoding", "has"), [("utf-8", True), ("UTF8", True), ("ascii", False), ("latin-1", False)]
)
def test_only_utf_8_has_blocks(encoding, has):
    assert code_drawing.has_blocks(encoding) is has


@pytest.mark.parametrize("height", [10, 22, 24, 29, 30, 32, 40])
@pytest.mark.parametrize("width", [20, 31, 50, 60, 80, 132])
def test_what_is_shown_is_never_larger_than_the_terminal(monkeypatch, width, height):
    monkeypatch.setenv("TERM", "xterm-256color")
    code = real_code(237)
    view = View("a-user-with-a-name-of-some-length")
    view.shown = QR(status="qr", qr=code, attempt=1, attempts=5)
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    Console(width=width, height=height, file=file).print(view)
    lines = file.buffer.getvalue().decode().rstrip().split("\n")
    assert max(map(len, lines)) <= width
    if "█" in "".join(lines):
        assert len(lines) <= height
        assert scanned(rendered("\n".join(lines)), "pgm") == code
        assert "Linked devices" in " ".join(" ".join(line.split("█")[-1] for line in lines).split())
    else:
        assert "needs a terminal of" in " ".join(" ".join(lines).split())
        assert width < 60 or height < 24


def test_a_terminal_that_is_not_utf_8_is_shown_the_ways_out():
    view = View("2")
    view.shown = QR(status="qr", qr=real_code(237), attempt=1, attempts=5)
    file = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", write_through=True)
    Console(width=100, height=50, file=file).print(view)
    said = file.buffer.getvalue().decode("latin-1")
    assert "the terminal's locale is not UTF-8" in said
    assert "waportctl qr 2 --png FILE" in said
    assert "waportctl connect-link 2" in said
