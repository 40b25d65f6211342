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
    """New connections and requests that are looked at every `TURN_S` seconds; the rest waits. None: as many as come."""
    changes: tuple[int, int] = (3000, 20_000)
    """How often something may be changed in a minute, and in an hour. Each is a line in the journal, which has an end."""


TURN_S: Final = 0.005
"""Seconds. What a caller does within it takes the event loop some milliseconds at most, so that others do not wait."""
NOBODY: Final = Share(128, 4)
"""Who has shown nothing over TCP; all of them together."""
LINK: Final = Share(16, 2, (30, 300))
"""All connect links of a user: a page needs two connections."""
USER_TOKEN: Final = Share(64, 4, (120, 1200))
TOKEN: Final = Share(512, None)
UID: Final = Share(1024, None)
REFUSED: Final = Share(64, 4)
"""A user id that may open the unix socket, and may not call."""
ARRIVALS_PER_TURN: Final = 6
"""New connections every `TURN_S` seconds of a caller whose requests are not counted."""

WOKEN_PER_TURN: Final = 16
"""Streams and long polls on one user, or on all, that are told of a change every `TURN_S`; the others have theirs later."""
PIECES_PER_TURN: Final = 4
"""Pieces of `READ_BYTES` and more on their way between a caller and users' servers, in either direction, every `TURN_S`."""

TCP_CONNECTIONS: Final = 1024
UNIX_CONNECTIONS: Final = 2048
"""Connections at a time, of all callers. With the servers' streams and all logs these are fewer than LimitNOFILE=."""
SILENT_CONNECTIONS: Final = 512
"""Connections over TCP by which nothing has come yet."""

FIRST_REQUEST_S: Final = 10.0
"""Seconds that a caller has to send the head of a first request."""
BODY_S: Final = 20.0
"""Seconds that a body may take; the largest is 64 KiB."""
UNREAD_S: Final = 30.0
"""Seconds within which a caller must have read some of an answer."""
READ_BYTES: Final = 16 * 1024
"""Bytes that are read of a connection at a time, and that may wait behind a request that is being answered."""

LOGS_PER_CALLER: Final = 10
"""Logs that one caller may follow."""
LOGS: Final = 50
"""Logs that may be followed, each with the journal's files open."""

PASSAGES_PER_CALLER: Final = 512
"""Calls of one caller that may be under way to users' servers: each takes two connections and some 200 KiB."""
PASSAGES: Final = 1024
"""Calls that may be under way to users' servers."""
PIECE_S: Final = 20.0
"""Seconds that the next piece of a body may take that is passed on as it comes."""

BAD_REQUEST_LINES: Final = (1, 60.0)
"""Lines in the journal about requests of one source that are no HTTP: how many, in how many seconds."""
CHANGE_LINES: Final = (1, 60.0)
"""Lines in the journal about a caller who changes too much."""
SESSION_LINES: Final = (20, 60.0)
"""Lines in the journal about changes of one session."""
SESSION_UPDATES: Final = (10, 1.0)
"""How often what one server says is looked at; of what it says meanwhile the newest counts."""
STORAGE_NOTES: Final = (6, 3600.0)
"""How often the size of one session is written down; it is measured every hour."""

PASSKEYS: Final = (10, 60.0)
"""How often a user's server is told what became of a passkey."""

REMEMBERED_CALLERS: Final = 4096
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
        if len(self._counts) > REMEMBERED_CALLERS:
            self._counts.popitem(last=False)
        return began + self._window - now if count >= self._most else 0.0

    def counted(self, caller: Hashable) -> int:
        """Return how often it was since the caller's window began."""
        return self._counts.get(caller, (0.0, 0))[1]

    @property
    def remembered(self) -> int:
        """How many callers are remembered."""
        return len(self._counts)


class Changes:
    """How often each caller has changed something lately."""

    def __init__(self) -> None:
        self._paces: dict[tuple[int, float], Pace] = {}

    def count(self, caller: Hashable, share: Share, now: float) -> float:
        """Count a change; return for how many seconds the caller shall wait, 0 where it may be made.

        One that is refused within the minute is none of the hour's.
        """
        for most, window in zip(share.changes, (60.0, 3600.0), strict=True):
            pace = self._paces.setdefault((most, window), Pace(most, window))
            if wait := pace.count(caller, now):
                return wait
        return 0.0


def retry_after(wait: float) -> int:
    """Return a wait as HTTP tells it: in whole seconds, never too few."""
    return max(1, math.ceil(wait))
