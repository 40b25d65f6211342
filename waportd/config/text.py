"""Which texts can stand on a line, and in a unit file."""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNIT_PATH = re.compile(r"""/[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"'\\$%]*(?<! )""")


def has_control_characters(text: str) -> bool:
    """Return whether a text could end a line, or cannot be written as UTF-8."""
    return _CONTROL.search(text) is not None


def on_one_line(text: str) -> str:
    """Return the text with control characters escaped, which could forge a line of the log."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def is_unit_path(text: str) -> bool:
    """Return whether an absolute path can stand in a unit file without meaning something else there.

    systemd expands ``%``, in commands also ``$``, quotes and backslashes; it cuts trailing blanks.
    """
    return _UNIT_PATH.fullmatch(text) is not None
