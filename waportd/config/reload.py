"""What differs between two configurations, and which changes a running daemon applies."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from waportd.config.model import Config, schema


@dataclass(frozen=True, slots=True)
class Change:
    """A key whose value differs between two configurations."""

    key: str
    reloadable: bool


def changes(old: Config, new: Config) -> list[Change]:
    """Return the keys that differ, in the order of the schema."""
    return [
        Change(key.path, key.reloadable)
        for key in schema().values()
        if getattr(getattr(old, key.section), key.name) != getattr(getattr(new, key.section), key.name)
    ]


def reloaded(old: Config, new: Config) -> Config:
    """Return what holds after a reload: ``new``, except for the keys that a running daemon cannot change."""
    kept: dict[str, dict[str, Any]] = {}
    for key in schema().values():
        if not key.reloadable:
            kept.setdefault(key.section, {})[key.name] = getattr(getattr(old, key.section), key.name)
    sections = {name: dataclasses.replace(getattr(new, name), **values) for name, values in kept.items()}
    return dataclasses.replace(new, **sections)
