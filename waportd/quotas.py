"""How much one caller may have of what all callers share. No I/O.

Anything that a call uses (memory for unread data, a stream, a wait, a body that comes byte by byte), it uses with a
connection. So connections are counted, for each caller; and also how often a caller does something
that costs others more than a connection does.

A caller is a user id on the unix socket; over TCP a token, or a user's connect links; or unknown, without either.
docs/security.md has the table; a test keeps the two in step.
"""

import collections
import dataclasses
import math
from collections.abc import Hashable
from typing import Final


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """The share of one caller of the API."""

    connections: int
    """Connections at a time."""
    turns: int | None
    """New connections and requests that are processed every `TURN_S` seconds; the rest waits. None: no limit."""
    changes: tuple[int, int] = (3000, 20_000)
    """Changes in a minute, and in an hour. Each is a line in the journal, whose size is limited."""


TURN_S: Final = 0.005
"""Seconds. A caller's work within it takes the event loop a few milliseconds at most, so that others do not wait."""
NOBODY: Final = Share(128, 4)
"""Unknown callers over TCP; all of them together."""
LINK: Final = Share(16, 2, (30, 300))
"""All connect links of a user: a page needs two connections."""
USER_TOKEN: Final = Share(64, 4, (120, 1200))
TOKEN: Final = Share(512, None)
UID: Final = Share(1024, None)
REFUSED: Final = Share(64, 4)
"""A user id that may open the unix socket, but may not call."""
ARRIVALS_PER_TURN: Final = 6
"""New connections every `TURN_S` seconds of a caller whose requests are not counted."""

WOKEN_PER_TURN: Final = 16
"""Streams and long polls on one user, or on all, that receive a change every `TURN_S`; the others get it later."""
PIECES_PER_TURN: Final = 4
"""Pieces of `READ_BYTES` and more between a caller and users' servers, in either direction, every `TURN_S`."""

TCP_CONNECTIONS: Final = 1024
UNIX_CONNECTIONS: Final = 2048
"""Connections at a time, of all callers. With the servers' streams and all logs these are fewer than LimitNOFILE=."""
SILENT_CONNECTIONS: Final = 512
"""Connections over TCP on which nothing has come yet."""

FIRST_REQUEST_S: Final = 10.0
"""Seconds for a caller to send the head of a first request."""
BODY_S: Final = 20.0
"""Seconds that a body may take; the largest is 64 KiB."""
UNREAD_S: Final = 30.0
"""Seconds within which a caller must have read some of an answer."""
READ_BYTES: Final = 16 * 1024
"""Bytes that are read from a connection at a time, and that may wait behind a request that is being answered."""

LOGS_PER_CALLER: Final = 10
"""Logs that one caller may follow."""
LOGS: Final = 50
"""Logs that may be followed, each with the journal's files open."""

PASSAGES_PER_CALLER: Final = 512
"""Calls of one caller to users' servers at a time: each takes two connections and some 200 KiB."""
PASSAGES: Final = 1024
"""Calls to users' servers at a time."""
PIECE_S: Final = 20.0
"""Seconds for the next piece of a body that is passed on as it comes."""

BAD_REQUEST_LINES: Final = (1, 60.0)
"""Lines in the journal about invalid HTTP requests of one source: how many, in how many seconds."""
CHANGE_LINES: Final = (1, 60.0)
"""Lines in the journal about a caller who changes too much."""
SESSION_LINES: Final = (20, 60.0)
"""Lines in the journal about changes of one session."""
SESSION_UPDATES: Final = (10, 1.0)
"""How often the reports of one server are processed; of those in between the newest counts."""
STORAGE_NOTES: Final = (6, 3600.0)
"""How often the size of one session is stored; it is measured every hour."""

PASSKEYS: Final = (10, 60.0)
"""How often a user's server accepts answers about a passkey."""

REMEMBERED_CALLERS: Final = 4096
"""Callers whose pace is remembered; beyond that, the oldest are forgotten first."""


class Pace:
    """Counts how often each caller has done something lately. Times are those of one monotonic clock."""

    def __init__(self, most: int, window: float) -> None:
        """``most`` times within ``window`` seconds."""
        self._most = most
        self._window = window
        self._counts: collections.OrderedDict[Hashable, tuple[float, int]] = collections.OrderedDict()
        """When a caller's window began, and the count since then."""

    def count(self, caller: Hashable, now: float) -> float:
        """Count once more; return for how many seconds the caller must wait; 0 within the limit."""
        began, count = self._counts.get(caller, (now, 0))
        if now >= began + self._window:
            began, count = now, 0
            self._counts.pop(caller, None)
        self._counts[caller] = began, count + 1
        if len(self._counts) > REMEMBERED_CALLERS:
            self._counts.popitem(last=False)
        return began + self._window - now if count >= self._most else 0.0

    def counted(self, caller: Hashable) -> int:
        """Return the count since the caller's window began."""
        return self._counts.get(caller, (0.0, 0))[1]

    @property
    def remembered(self) -> int:
        """How many callers are remembered."""
        return len(self._counts)


class Changes:
    """Counts how often each caller has changed something lately."""

    def __init__(self) -> None:
        self._paces: dict[tuple[int, float], Pace] = {}

    def count(self, caller: Hashable, share: Share, now: float) -> float:
        """Count a change; return for how many seconds the caller must wait; 0 where it may be made.

        A change that is refused for the minute does not count for the hour.
        """
        for most, window in zip(share.changes, (60.0, 3600.0), strict=True):
            pace = self._paces.setdefault((most, window), Pace(most, window))
            if wait := pace.count(caller, now):
                return wait
        return 0.0


def retry_after(wait: float) -> int:
    """Return a wait for the header Retry-After: in whole seconds, rounded up."""
    return max(1, math.ceil(wait))
