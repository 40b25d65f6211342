"""Turns of the daemon's own starts: those that have waited longest come first, few at a time. Pure.

While there is an alarm it is one at a time: hundreds of starts into the same failure would only waste the machine's
time, and make WhatsApp suspicious of its address. The next one comes at once after a success, else half a minute later.

A user who failed and is to be retried waits again, behind all others. Times are seconds of one monotonic clock.
"""

import collections
from typing import Generic, TypeVar

PROBE_S = 30.0
"""Seconds from one turn to the next, while there is an alarm and nobody gets through."""

Ticket = TypeVar("Ticket")


class Turns(Generic[Ticket]):
    """A queue of those who are to start."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        """How many may have a turn at a time."""
        self._waiting: collections.deque[Ticket] = collections.deque()
        self._under_way: set[Ticket] = set()
        self._probe_at = float("-inf")
        """When the next turn is due, while there is an alarm."""

    def join(self, ticket: Ticket) -> None:
        """Wait for a turn."""
        self._waiting.append(ticket)

    def give(self, now: float, *, alarm: bool) -> list[Ticket]:
        """Return those whose turn begins now."""
        given: list[Ticket] = []
        at_once = 1 if alarm else self.at_once
        while self._waiting and len(self._under_way) < at_once and (not alarm or now >= self._probe_at):
            ticket = self._waiting.popleft()
            self._under_way.add(ticket)
            self._probe_at = now + PROBE_S
            given.append(ticket)
        return given

    def next_at(self, *, alarm: bool) -> float | None:
        """Return when to call `give` again even if nothing happens; None where there is no such time."""
        return self._probe_at if alarm and self._waiting and not self._under_way else None

    def end(self, ticket: Ticket, now: float, *, through: bool) -> None:
        """Take note that a turn is over, or that it is no longer waited for."""
        if ticket in self._under_way:
            self._under_way.remove(ticket)
            if through:
                self._probe_at = now
        else:
            self._waiting.remove(ticket)
