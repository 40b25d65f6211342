"""``audit``: who changed what through the API, from the journal."""

import datetime as dt
import os
import re
from typing import Any

from waportd.cli import terminal
from waportd.cli.exits import Exit, Problem
from waportd.cli.main import Context

_UNITS = {"m": 60, "h": 3600, "d": 86_400}
_FIELDS = {
    "caller": "WAPORTD_CALLER",
    "uid": "WAPORTD_CALLER_UID",
    "token": "WAPORTD_TOKEN",
    "link": "WAPORTD_LINK",
    "address": "WAPORTD_ADDRESS",
    "user": "WAPORTD_USER",
    "action": "WAPORTD_ACTION",
    "status": "WAPORTD_STATUS",
}


def show(context: Context) -> Exit:
    """Show the calls that changed something, the oldest first."""
    entries = _entries(since(context.options.since), context.options.user)
    if context.screen.as_json:
        context.screen.document({"changes": entries})
    elif not entries:
        context.screen.text("Nobody has changed anything.")
    else:
        rows = [
            [
                entry["time"],
                entry["caller"] or "–",
                entry["address"] or "–",
                entry["status"] or "–",
                entry["action"] or "–",
            ]
            for entry in entries
        ]
        context.screen.table(("TIME", "CALLER", "ADDRESS", "STATUS", "CALL"), rows)
    return Exit.OK


def since(text: str) -> dt.datetime:
    """Read how far to look back: ``30m``, ``12h``, ``7d``, or a day such as 2026-01-31."""
    now = dt.datetime.now(dt.UTC)
    if match := re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text, re.ASCII):
        return now - dt.timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    try:
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except ValueError:
        raise Problem(
            f"{text!r} is no time to look back to",
            "say 30m, 12h, 7d, or a day such as 2026-01-31",
            Exit.USAGE,
            "usage",
        ) from None


def _entries(begin: dt.datetime, user: str | None) -> list[dict[str, Any]]:
    from systemd import journal

    from waportd.systemd.journal import AUDIT_LOGGER

    with journal.Reader() as reader:
        reader.seek_tail()
        if not reader.get_previous():
            raise Problem(
                "there is no journal that this user may read",
                "run it with sudo, or join the group systemd-journal",
                Exit.NOT_PERMITTED,
                "permission_denied",
            )
        # Anybody may write a field that does not begin with "_": journald vouches for who wrote these.
        more = {"WAPORTD_USER": user} if user else {}
        reader.add_match(LOGGER=AUDIT_LOGGER, _SYSTEMD_UNIT="waportd.service", **more)
        reader.add_disjunction()
        reader.add_match(
            f"_UID={os.getuid()}", LOGGER=AUDIT_LOGGER, _SYSTEMD_USER_UNIT="waportd.service", **more
        )
        reader.seek_realtime(begin)
        return [_entry(entry) for entry in reader]


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    moment = entry["__REALTIME_TIMESTAMP"].astimezone(dt.UTC)
    values = {name: entry.get(field) for name, field in _FIELDS.items()}
    return {
        "time": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        **{name: None if value is None else terminal.plain(str(value)) for name, value in values.items()},
    }
