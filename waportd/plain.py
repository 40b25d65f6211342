"""Makes text from other people and programs harmless to show: in a terminal, the journal, a page, a log."""

import re

_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for tabs and line ends
    "\u2028\u2029"  # line ends that only some programs know
    "\ud800-\udfff"  # lone surrogates
    # Invisible characters that change how others look (category Cf): directions, joiners, tags.
    "\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_RUN = re.compile(f"[{_UNSEEN}]")
_LINE_ENDS = re.compile(r"[\t\n]")


def plain(text: str, instead: str = "") -> str:
    """Return a text without invisible characters, or with something ``instead`` of each."""
    return text if text.isascii() and text.isprintable() else _RUN.sub(instead, text)


def one_line(text: str) -> str:
    """Return a text as `plain` does, with tabs and line ends as spaces."""
    return _LINE_ENDS.sub(" ", plain(text))
