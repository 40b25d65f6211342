"""Draws codes with segno, dark on light with the quiet zone that scanners need."""

import enum
import io
from typing import Any

_QUIET_ZONE = 4
"""Modules of margin (ISO/IEC 18004)."""
_SCALE = 8
"""Pixels of a module: a code of WhatsApp's 240 to 270 characters gets about 520 pixels wide."""


class Format(enum.StrEnum):
    """The formats of a drawn code."""

    SVG = "svg"
    PNG = "png"
    TXT = "txt"
    """Half blocks, for a terminal with light text on a dark background."""
    DATAURL = "dataurl"
    """The PNG as a ``data:`` URL (RFC 2397)."""


def symbol(code: str) -> Any:
    """Return the code's modules, as segno has them. Raises ValueError where no symbol can hold it."""
    import segno  # noqa: PLC0415  # a tenth of the daemon's start, of which most have no use

    # The lowest error correction, as on WhatsApp's own page: on a screen larger modules help more than redundancy.
    return segno.make_qr(code, error="L", boost_error=False)


def draw(code: str, form: Format) -> bytes:
    """Return the code as a picture. Takes 15 to 40 ms of processor time: not to be called on the event loop."""
    made = symbol(code)
    if form is Format.DATAURL:
        data_url: str = made.png_data_uri(scale=_SCALE, border=_QUIET_ZONE)
        return data_url.encode()
    if form is Format.TXT:
        text = io.StringIO()
        made.terminal(text, border=_QUIET_ZONE, compact=True)
        return text.getvalue().encode()
    drawn = io.BytesIO()
    if form is Format.PNG:
        made.save(drawn, kind="png", scale=_SCALE, border=_QUIET_ZONE)
    else:
        # Sizes with a unit bring a viewBox: the picture has its own size, and scales to another.
        made.save(
            drawn, kind="svg", scale=_SCALE, border=_QUIET_ZONE, unit="px", light="#fff",
            svgclass=None, lineclass=None,
        )  # fmt: skip
    return drawn.getvalue()
