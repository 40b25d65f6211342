"""Pictures of codes: a scanner reads from each what was drawn."""

import base64
import random
import re

import pytest
from support import rendered_svg, rendered_text, scanned

from waportd.qr_image import Format, draw

random.seed(1)
CODE = "2@" + ",".join(base64.b64encode(random.randbytes(size)).decode() for size in (96, 32, 32, 32)) + ",1"
"""As long as WhatsApp's own."""


def test_a_png_is_read():
    assert scanned(draw(CODE, Format.PNG), "png") == CODE


def test_an_svg_is_read_on_a_dark_page_too():
    assert scanned(rendered_svg(draw(CODE, Format.SVG)), "png") == CODE


def test_an_svg_has_a_size_and_scales():
    head = draw(CODE, Format.SVG).decode()[:300]
    assert re.search(r'width="(\d+)px" height="\1px" viewBox="0 0 \1 \1"', head)


def test_a_text_is_read_off_a_dark_terminal():
    text = draw(CODE, Format.TXT).decode()
    assert scanned(rendered_text(text), "pgm") == CODE
    assert len({len(line) for line in text.splitlines()}) == 1


def test_a_data_url_is_the_png():
    kind, _, data = draw(CODE, Format.DATAURL).decode().partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == draw(CODE, Format.PNG)


def test_the_quiet_zone_is_kept():
    lines = draw(CODE, Format.TXT).decode().splitlines()
    assert set(lines[0] + lines[1]) == {"█"}
    assert all(line.startswith("████") and line.endswith("████") for line in lines[:-1])


@pytest.mark.parametrize("form", Format)
def test_what_does_not_fit_is_an_error_that_does_not_repeat_it(form):
    with pytest.raises(ValueError, match=r"(?i)data") as raised:
        draw("€" * 1000, form)
    assert "€" not in str(raised.value)
