"""Types of values, described once for people, for programs (JSON Schema) and for the check itself."""

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = Mapping[str, Any]
"""A JSON Schema of the dialect that OpenAPI 3.1 uses (2020-12)."""

_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be. ``allowed`` completes the sentence "must be …"."""

    allowed: str
    parse: Callable[[Any], Any]
    """Turns a scalar's text, or a list's parsed items, into the value; raises ValueError, never shown."""
    item: "Kind | None" = None
    """What each item of a list, or each value of a mapping, may be; None where the value is a scalar."""
    name: "Kind | None" = None
    """What each name of a mapping may be; None where the value is none."""
    alone: bool = False
    """A single item may stand for a list of it, and an empty text for an empty list."""
    secret: bool = False
    """The value may hold a token: no message repeats it."""
    show: Callable[[Any], str] = str
    """Returns a value as it is written in the configuration."""
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    """The same for the value in JSON, where a number is no text."""


def shown_list(items: Iterable[Any]) -> str:
    """Return a list as it is written in the configuration."""
    return f"[{', '.join(map(str, items))}]"


def whole(text: str) -> int:
    """Read a whole number of at most 18 digits, without a sign or leading zeros."""
    if not re.fullmatch(r"0|[1-9][0-9]{0,17}", text):
        raise ValueError(text)
    return int(text)


def number(first: int, last: int) -> Kind:
    """Accept whole numbers."""

    def parse(text: str) -> int:
        value = whole(text)
        if not first <= value <= last:
            raise ValueError(text)
        return value

    schema = {"type": "integer", "minimum": first, "maximum": last}
    return Kind(f"a number from {first} to {last}", parse, schema=schema)


def seconds(most: float) -> Kind:
    """Accept a time in seconds, with fractions."""

    def parse(text: str) -> float:
        if not _NUMBER.fullmatch(text) or float(text) > most:
            raise ValueError(text)
        return float(text)

    schema = {"type": "number", "minimum": 0, "maximum": most}
    return Kind(f"seconds from 0 to {most:g}", parse, schema=schema)


def choice(choices: type[enum.StrEnum]) -> Kind:
    """Accept one of some words."""
    return Kind(
        " or ".join(choices), choices, schema={"type": "string", "enum": [str(one) for one in choices]}
    )


def word(*words: str) -> Kind:
    """Accept one of some words, unchanged."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return Kind(" or ".join(words), parse, schema={"type": "string", "enum": [str(one) for one in words]})


def several(choices: type[enum.StrEnum]) -> Kind:
    """Accept a list of some words, each once."""

    def parse(items: list[Any]) -> tuple[Any, ...]:
        if len(set(items)) < len(items):
            raise ValueError(items)
        return tuple(items)

    one = choice(choices)
    schema = {"type": "array", "items": one.schema, "uniqueItems": True}
    return Kind("a list, without repetition", parse, one, show=shown_list, schema=schema)


def matching(pattern: str, allowed: str) -> Kind:
    """Accept texts that match the whole pattern."""
    compiled = re.compile(pattern)

    def parse(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(text)
        return text

    return Kind(allowed, parse, schema={"type": "string", "pattern": f"^(?:{pattern})$"})


def _flag(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError(text)
    return text == "true"


FLAG = Kind("true or false", _flag, show=lambda value: str(value).lower(), schema={"type": "boolean"})
