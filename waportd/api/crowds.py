"""How many of something are under way, of each caller and of all."""

import collections
import contextlib
from collections.abc import Hashable, Iterator

from waportd.errors import TooManyRequests

_RETRY_AFTER_S = 30
"""Seconds after which it makes sense to ask again."""


class Crowd:
    """Counts calls that last. Callers beyond the limit are refused."""

    def __init__(self, of_one: str, of_all: str, hint: str) -> None:
        """``of_one`` and ``of_all`` say how many there are, in words, with ``{}`` for the number."""
        self._of_one, self._of_all, self._hint = of_one, of_all, hint
        self._callers: collections.Counter[Hashable] = collections.Counter()

    @contextlib.contextmanager
    def one_more(self, caller: Hashable, each: int, total: int) -> Iterator[None]:
        """Count one more while it lasts; raise TooManyRequests where the caller has ``each`` or all have ``total``."""
        own, all_there_are = self._callers[caller], self._callers.total()
        if own >= each or all_there_are >= total:
            many = self._of_all.format(all_there_are) if all_there_are >= total else self._of_one.format(own)
            raise TooManyRequests(f"{many}, which is the limit", hint=self._hint, retry_after=_RETRY_AFTER_S)
        self._callers[caller] += 1
        try:
            yield
        finally:
            self._callers -= collections.Counter({caller: 1})
