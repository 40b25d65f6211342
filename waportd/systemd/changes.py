"""Reads changes through the API from the journal: who made them, and when."""

import os
from typing import Any, Final

from systemd import journal

from waportd.plain import plain
from waportd.systemd.journal import AUDIT_LOGGER
from waportd.systemd.server_log import check_readable, in_thread

FIELDS: Final = {
    "caller": "WAPORTD_CALLER",
    "uid": "WAPORTD_CALLER_UID",
    "token": "WAPORTD_TOKEN",
    "link": "WAPORTD_LINK",
    "address": "WAPORTD_ADDRESS",
    "user": "WAPORTD_USER",
    "action": "WAPORTD_ACTION",
    "status": "WAPORTD_STATUS",
}
"""The members of a change, and their fields in the journal."""


def match(reader: Any, user: str | None) -> None:
    """Limit a reader of the journal to changes: all of them, or those of one user."""
    # Anybody may write a field that does not begin with "_": journald vouches for who wrote these.
    more = {"LOGGER": AUDIT_LOGGER} | ({"WAPORTD_USER": user} if user else {})
    reader.add_match(_SYSTEMD_UNIT="waportd.service", **more)
    reader.add_disjunction()
    reader.add_match(_UID=str(os.getuid()), _SYSTEMD_USER_UNIT="waportd.service", **more)


def values(entry: dict[str, Any]) -> dict[str, str | None]:
    """Return the text of an entry, without control sequences for a terminal or a page."""
    found = {name: entry.get(field) for name, field in FIELDS.items()}
    return {name: None if value is None else plain(str(value), "?") for name, value in found.items()}


async def newest(user: str | None, since: float, count: int) -> list[dict[str, Any]]:
    """Return the newest changes since a time (seconds since the epoch), the oldest first: ``count`` at most.

    Each has the members of `FIELDS`, and ``time`` in microseconds. Raises JournalUnavailable.
    """
    return await in_thread(lambda: _newest(user, since, count))


def _newest(user: str | None, since: float, count: int) -> list[dict[str, Any]]:
    reader = journal.Reader(converters={"__REALTIME_TIMESTAMP": int})
    try:
        check_readable(reader)
        match(reader, user)
        reader.seek_tail()
        found: list[dict[str, Any]] = []
        while len(found) < count and (entry := reader.get_previous()):
            if entry["__REALTIME_TIMESTAMP"] < since * 1e6:
                break
            found.append({"time": entry["__REALTIME_TIMESTAMP"], **values(entry)})
        return found[::-1]
    finally:
        reader.close()
