"""How much one caller may have of what all callers share. No I/O.

Whatever a call takes (memory for what is not read, a stream, a wait, a body that comes byte by byte), it takes a
connection for as long. So connections are what is counted, for each caller; and besides, how often something may be
done that costs others more than a connection does.

A caller is a user id on the unix socket; over TCP a token, or a user's connect links; and nobody, who has shown nothing.
docs/security.md has the table; a test holds the two together.
"""

import collections
import dataclasses
import math
from collections.abc import Hashable
from typing import Final


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """What one caller may have of the API."""

    connections: int
    """At a time."""
    turns: int | None
    """New connections and requests that are looked at every `TURN` seconds; the rest waits. None: as many as come."""


TURN: Final = 0.005
"""Seconds. What a caller does within it takes the event loop some milliseconds at most, so that others do not wait."""
NOBODY: Final = Share(128, 4)
"""Who has shown nothing over TCP; all of them together."""
LINK: Final = Share(16, 2)
"""All connect links of a user: a page needs two connections."""
USER_TOKEN: Final = Share(64, 4)
TOKEN: Final = Share(512, None)
UID: Final = Share(1024, None)
ARRIVALS: Final = 6
"""New connections every `TURN` seconds of a caller whose requests are not counted."""

TCP_CONNECTIONS: Final = 1024
UNIX_CONNECTIONS: Final = 2048
"""Connections at a time, of all callers. With the servers' streams and all logs these are fewer than LimitNOFILE=."""
SILENT: Final = 512
"""Connections over TCP by which nothing has come yet."""

FIRST_REQUEST: Final = 10.0
"""Seconds that a caller has to send the head of a first request."""
BODY: Final = 20.0
"""Seconds that a body may take; the largest is 64 KiB."""
UNREAD: Final = 30.0
"""Seconds within which a caller must have read some of an answer."""
READ: Final = 16 * 1024
"""Bytes that are read of a connection at a time, and that may wait behind a request that is being answered."""

OF_LOGS: Final = 10
"""Logs that one caller may follow."""
LOGS: Final = 50
"""Logs that may be followed, each with the journal's files open."""

BAD_REQUEST_LINES: Final = (1, 60.0)
"""Lines in the journal about requests of one source that are no HTTP: how many, in how many seconds."""
SESSION_LINES: Final = (20, 60.0)
"""Lines in the journal about changes of one session."""
PICTURES: Final = (10, 1.0)
"""How often what one server says is looked at; of what it says meanwhile the newest counts."""

_REMEMBERED: Final = 4096
"""Callers whose pace is remembered; of more, those who began first are forgotten first."""


class Pace:
    """How often each caller has done something lately. Times are those of one monotonic clock."""

    def __init__(self, most: int, window: float) -> None:
        """``most`` times within ``window`` seconds."""
        self._most = most
        self._window = window
        self._counts: collections.OrderedDict[Hashable, tuple[float, int]] = collections.OrderedDict()
        """When a caller's window began, and how often it was since."""

    def count(self, caller: Hashable, now: float) -> float:
        """Count once more; return for how many seconds the caller shall wait, 0 where it is not once too often."""
        began, count = self._counts.get(caller, (now, 0))
        if now >= began + self._window:
            began, count = now, 0
            self._counts.pop(caller, None)
        self._counts[caller] = began, count + 1
        if len(self._counts) > _REMEMBERED:
            self._counts.popitem(last=False)
        return began + self._window - now if count >= self._most else 0.0

    def counted(self, caller: Hashable) -> int:
        """Return how often it was since the caller's window began."""
        return self._counts.get(caller, (0.0, 0))[1]


def retry_after(wait: float) -> int:
    """Return a wait as HTTP tells it: in whole seconds, never too few."""
    return max(1, math.ceil(wait))
