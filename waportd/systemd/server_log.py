"""Reads the journal of one user's server: its own lines, systemd's about its units, and the daemon's."""

import asyncio
import collections
import contextlib
import dataclasses
import enum
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

from systemd import journal

from waportd.errors import WaportdError
from waportd.model import Assignment, service_unit, socket_unit
from waportd.plain import plain

T = TypeVar("T")

LINES_AT_ONCE = 500
"""Lines that are read in one go."""
_MESSAGE_CHARS = 2000
"""Characters kept of a line."""
TIMEOUT_S = 10.0
"""Seconds that a read may take: a large journal on a busy disk is slow."""
_THREADS = 2
"""Reads at the same time: the journal may be slow, and the rest of the daemon must not wait for it."""
_INFO = 6
_MICRO = 1_000_000

_threads = ThreadPoolExecutor(_THREADS, "journal")


class JournalUnavailable(WaportdError):
    """The journal cannot be read."""

    code = "journal_unavailable"
    status = 503
    title = "The journal cannot be read"


class Level(enum.StrEnum):
    """Which lines of a log are wanted, by how bad they are."""

    ALL = "all"
    WARNING = "warning"
    ERROR = "error"

    @property
    def priorities(self) -> range:
        """Return the priorities of these lines; none for all lines, of which some have no priority."""
        return range({Level.ALL: 0, Level.WARNING: 5, Level.ERROR: 4}[self])


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One entry of the journal."""

    time: int
    """Microseconds since the epoch."""
    priority: int
    """0 (emergency) to 7 (debug), as in syslog(3)."""
    source: str
    """Who wrote it: ``server``, ``systemd`` or ``waportd``."""
    message: str


async def in_thread(work: Callable[[], T]) -> T:
    """Read the journal in one of the few threads for that. Raises JournalUnavailable, also after ten seconds."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await asyncio.get_running_loop().run_in_executor(_threads, work)
    except TimeoutError:
        reason = f"no answer within {TIMEOUT_S:g} s"
    except OSError as error:
        reason = str(error.strerror or error)
    raise JournalUnavailable(
        f"the journal cannot be read: {reason}", hint="see `journalctl --verify` and the disk"
    )


def check_readable(reader: Any) -> None:
    """Raise JournalUnavailable where a reader without a match finds nothing: a journal is never empty."""
    reader.seek_tail()
    if not reader.get_previous():
        raise JournalUnavailable(
            "there is no journal that the daemon's user may read",
            hint="make that user a member of the group systemd-journal and restart waportd; "
            "where there is no journal at all, install and start systemd-journald",
        )


class ServerLog:
    """Reads an assignment's lines, from its creation on: lines about an earlier owner of the port are left out.

    All fields that it matches are written by journald itself, or by a process whose user journald names.
    """

    def __init__(self, assignment: Assignment, *, system: bool, level: Level = Level.ALL) -> None:
        """``system`` says which units to read: the host's, or those of this user's session."""
        self._matches = list(_matches(assignment, system=system))
        self._level = level
        self._since = int(assignment.created_at * _MICRO)
        self._lock = threading.Lock()
        self._reader: Any = None

    @classmethod
    async def open(cls, assignment: Assignment, *, system: bool, level: Level = Level.ALL) -> Self:
        """Open the journal. Raises JournalUnavailable."""
        log = cls(assignment, system=system, level=level)
        try:
            await log._in_thread(log._open)
        except WaportdError:
            log.close()
            raise
        return log

    def close(self) -> None:
        """Close the journal, when a read that is under way has ended."""
        _threads.submit(self._close)

    async def last(self, count: int, after: int = 0) -> list[Line]:
        """Return the newest lines, the oldest first: ``count`` at most, and only what is newer than ``after``."""
        return await self._in_thread(lambda: self._last(count, max(after, self._since - 1)))

    async def following(self) -> list[Line]:
        """Return the lines since the last read, 500 at most. Call it again until there are none."""
        return await self._in_thread(self._following)

    @contextlib.contextmanager
    def notified(self, news: asyncio.Event) -> Iterator[None]:
        """Set the event when there may be more to read; it is set again only after a read."""
        loop = asyncio.get_running_loop()
        descriptor = self._reader.fileno()

        def notify() -> None:
            # It stays readable until it is read, in a thread, and would call back all the time.
            loop.remove_reader(descriptor)
            news.set()

        loop.add_reader(descriptor, notify)
        try:
            yield
        finally:
            loop.remove_reader(descriptor)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        def locked() -> T:
            with self._lock:
                return work()

        return await in_thread(locked)

    def _open(self) -> None:
        self._reader = journal.Reader(converters={"__REALTIME_TIMESTAMP": int})
        check_readable(self._reader)
        for number, match in enumerate(self._matches):
            if number:
                self._reader.add_disjunction()
            self._reader.add_match(**match)
            for priority in self._level.priorities:  # of values of one field an entry has any
                self._reader.add_match(PRIORITY=str(priority))
        # Before the first read, or lines written meanwhile go unnoticed (sd_journal_get_fd(3)).
        self._reader.fileno()

    def _close(self) -> None:
        with self._lock:
            if self._reader is not None:
                self._reader.close()

    def _last(self, count: int, after: int) -> list[Line]:
        lines: collections.deque[Line] = collections.deque()
        cursor = None
        self._reader.seek_tail()
        while len(lines) < count and (entry := self._reader.get_previous()):
            line = _line(entry)
            if line.time <= after:
                break
            cursor = cursor or entry["__CURSOR"]
            lines.appendleft(line)
        if cursor is None:
            # From the tail there would never be a next one, even if lines come.
            self._reader.seek_realtime(int(time.time() * _MICRO))
        else:
            self._reader.seek_cursor(cursor)
            self._reader.get_next()
        return list(lines)

    def _following(self) -> list[Line]:
        self._reader.process()
        lines: list[Line] = []
        while len(lines) < LINES_AT_ONCE and (entry := self._reader.get_next()):
            line = _line(entry)
            if line.time >= self._since:
                lines.append(line)
        return lines


def _matches(assignment: Assignment, *, system: bool) -> Iterator[dict[str, str]]:
    """Yield the conditions for an entry: it must have all the fields of one of these."""
    service, socket = service_unit(assignment.port), socket_unit(assignment.port)
    # Anybody may write any field that does not begin with "_" (systemd.journal-fields(7)).
    mine = {"_UID": str(os.getuid())}
    if system:
        yield {"_SYSTEMD_UNIT": service}
        yield {"_PID": "1", "UNIT": service}
        yield {"_PID": "1", "UNIT": socket}
    else:
        yield {**mine, "_SYSTEMD_USER_UNIT": service}
        yield {**mine, "USER_UNIT": service}
        yield {**mine, "USER_UNIT": socket}
    yield {**mine, "WAPORTD_PORT": str(assignment.port)}
    yield {**mine, "WAPORTD_USER": assignment.user}


def _line(entry: dict[str, Any]) -> Line:
    message = entry.get("MESSAGE", "")
    if isinstance(message, list):
        message = message[0]
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    priority = entry.get("PRIORITY", _INFO)
    identifier = entry.get("SYSLOG_IDENTIFIER")
    return Line(
        time=entry["__REALTIME_TIMESTAMP"],
        priority=priority if isinstance(priority, int) else _INFO,
        source=str(identifier) if identifier in {"systemd", "waportd"} else "server",
        # No control sequences for a terminal.
        message=plain(text[:_MESSAGE_CHARS], "\ufffd"),
    )
