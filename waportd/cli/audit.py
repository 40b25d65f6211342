"""``audit``: who changed what through the API, from the journal."""

import datetime as dt
import re
from typing import Any

from waportd.cli import terminal
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.command_line import argument

COMMANDS = Commands()


_UNITS = {"m": 60, "h": 3600, "d": 86_400}
_FIRST = dt.datetime.fromtimestamp(0, dt.UTC)
"""Before it there is no journal: it counts from then on."""


@COMMANDS.add(
    "audit",
    "show who changed what through the API, from the journal",
    """
    Shows each call that changed something, the oldest first: local time, caller, address, status and call. It reads the
    journal, not the daemon: it needs root or group systemd-journal. Exit status 4: this user may not read the
    journal.
    """,
    argument("--user", metavar="USER", help="only what concerns this user"),
    argument(
        "--since",
        metavar="WHEN",
        default="7d",
        help="how far to look back: 30m, 12h, 7d, or a day (default: 7d)",
    ),
    examples={
        "see what was changed in the last day": "sudo waportctl audit --since 24h",
        "see who changed user 2": "sudo waportctl audit --user 2",
    },
)
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
                terminal.moment(dt.datetime.fromisoformat(entry["time"])),
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
    try:
        if match := re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text, re.ASCII):
            begin = now - dt.timedelta(seconds=int(match[1]) * _UNITS[match[2]])
        else:
            begin = dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise Problem(
            f"{text!r} is not a time to look back to",
            "say 30m, 12h, 7d, or a day such as 2026-01-31",
            Exit.USAGE,
            "usage",
        ) from None
    return max(begin, _FIRST)


def _entries(begin: dt.datetime, user: str | None) -> list[dict[str, Any]]:
    from systemd import journal

    from waportd.systemd import changes

    with journal.Reader() as reader:
        reader.seek_tail()
        if not reader.get_previous():
            raise Problem(
                "this user may not read the journal",
                "run it with sudo, or join the group systemd-journal",
                Exit.NOT_PERMITTED,
                "permission_denied",
            )
        changes.match(reader, user)
        reader.seek_realtime(begin)
        return [{"time": _time(entry), **changes.values(entry)} for entry in reader]


def _time(entry: dict[str, Any]) -> str:
    moment: dt.datetime = entry["__REALTIME_TIMESTAMP"].astimezone(dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
