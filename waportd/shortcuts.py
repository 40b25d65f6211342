"""Optimisations. Everything works without them, more slowly; docs/decisions/ says what each costs and gains."""

import contextlib
import dataclasses
import gc
import os
from collections.abc import Iterator
from typing import Final, Self

from waportd.errors import ConfigError

VARIABLE = "WAPORTD_WITHOUT"
"""The environment variable with the names of those that are turned off, separated by spaces."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shortcuts:
    """A switch for each."""

    response_cache: bool = True
    """Answers that have not changed are kept as bytes (`api/response_cache`)."""
    cleaning_ahead: bool = True
    """The next new user's port is cleaned before that user comes (`cleaning_ahead`)."""
    first_answers: bool = True
    """A server is up when it answers, and not only when systemd hears that it is ready (`first_answers`)."""
    collector: bool = True
    """Imported objects are never searched for garbage (`collector_paused`)."""

    @classmethod
    def chosen(cls) -> Self:
        """Return those that the environment leaves on. Raises ConfigError for an unknown name."""
        without = _turned_off()
        known = [field.name for field in dataclasses.fields(cls)]
        for name in without:
            if name not in known:
                raise ConfigError(f"{VARIABLE}: there is no {name!r:.80}", hint=f"known: {', '.join(known)}")
        return cls(**dict.fromkeys(without, False))


ALL: Final = Shortcuts()
"""All are on."""


def _turned_off() -> list[str]:
    return os.environ.get(VARIABLE, "").split()


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Import without a garbage collection, now and later: nothing that is imported becomes garbage."""
    if "collector" in _turned_off():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
