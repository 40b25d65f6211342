"""The journal: the daemon's own log lines go there with fields, a unit's last lines are read from it."""

import asyncio
import datetime as dt
import json
import logging
import os
import sys
import syslog
from typing import Any

from systemd import journal

from waportd.model import Port, User, service_unit

log = logging.getLogger(__name__)

_IDENTIFIER = "waportd"
READ_TIMEOUT_S = 5.0
_PRIORITIES = (
    (logging.CRITICAL, syslog.LOG_CRIT),
    (logging.ERROR, syslog.LOG_ERR),
    (logging.WARNING, syslog.LOG_WARNING),
    (logging.INFO, syslog.LOG_INFO),
)
AUDIT_LOGGER = "waportd.audit"
"""The logger of lines about changes, in the field LOGGER."""
_FIELDS = {
    "WAPORTD_USER": "user",
    "WAPORTD_PORT": "port",
    "UNIT": "unit",
    "WAPORTD_ACTION": "action",
    "WAPORTD_STATUS": "status",
    "WAPORTD_CALLER": "caller",
    "WAPORTD_CALLER_UID": "uid",
    "WAPORTD_TOKEN": "token",
    "WAPORTD_LINK": "link",
    "WAPORTD_ADDRESS": "address",
}
"""Journal fields, and their names in a line of text."""


def log_fields(user: User | str | None = None, port: Port | None = None) -> dict[str, str]:
    """Return the ``extra`` of a log call: which user and unit it is about.

    `journalctl WAPORTD_USER=2` finds such lines.
    """
    fields: dict[str, str] = {}
    if user is not None:
        fields["WAPORTD_USER"] = user
    if port is not None:
        fields["WAPORTD_PORT"] = str(port)
        fields["UNIT"] = service_unit(port)
    return fields


def set_up_logging(level: str) -> None:
    """Log to the journal where standard error leads there, else to standard error; ``level`` as in logging."""
    handler: logging.Handler
    if stderr_is_the_journal():
        handler = _JournalHandler()
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_LineFormatter())
    logging.basicConfig(level=level.upper(), format="%(message)s", handlers=[handler], force=True)


async def last_lines(unit: str, count: int) -> list[str]:
    """Return the unit's last lines of this boot, oldest first: of a system unit or of this user's own.

    Empty where there is no journal or no right to read it (membership in the group ``systemd-journal``).
    """
    try:
        return await asyncio.wait_for(asyncio.to_thread(_last_lines, unit, count), READ_TIMEOUT_S)
    except (OSError, TimeoutError) as error:
        log.debug("Cannot read the journal of %s: %s", unit, error)
        return []


def _last_lines(unit: str, count: int) -> list[str]:
    with journal.Reader() as reader:
        reader.this_boot()
        reader.add_match(_SYSTEMD_UNIT=unit)
        reader.add_disjunction()
        # Any user may give a unit of their own the name of one of ours.
        reader.this_boot()
        reader.add_match(f"_UID={os.getuid()}", _SYSTEMD_USER_UNIT=unit)
        reader.seek_tail()
        lines: list[str] = []
        while len(lines) < count and (entry := reader.get_previous()):
            message = entry.get("MESSAGE", "")
            lines.append(message.decode(errors="replace") if isinstance(message, bytes) else str(message))
    return lines[::-1]


def stderr_is_the_journal() -> bool:
    """Compare standard error with what systemd says it connected to the journal (systemd.exec(5))."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _JournalHandler(logging.Handler):
    """Sends records with the fields of `log_fields`.

    python3-systemd's own handler also sends the repr of a record's arguments, which may hold more than its text.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            journal.send(
                self.format(record),
                PRIORITY=str(_priority(record.levelno)),
                SYSLOG_IDENTIFIER=_IDENTIFIER,
                LOGGER=record.name,
                CODE_FILE=record.pathname,
                CODE_LINE=record.lineno,
                CODE_FUNC=record.funcName,
                **{field: getattr(record, field) for field in _FIELDS if hasattr(record, field)},
            )
        except Exception:  # noqa: BLE001  # as all handlers: a log line that cannot be written breaks nothing
            self.handleError(record)


def _priority(level: int) -> int:
    """Return syslog's priority for a level of logging."""
    for threshold, priority in _PRIORITIES:
        if level >= threshold:
            return priority
    return syslog.LOG_DEBUG


class _LineFormatter(logging.Formatter):
    """``time level message key=value``, the time in UTC; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        # The base class formats the message, and the traceback where there is one.
        message, *rest = super().format(record).split("\n", 1)
        fields = [
            f"{name}={_quoted(getattr(record, field))}"
            for field, name in _FIELDS.items()
            if hasattr(record, field)
        ]
        time = dt.datetime.fromtimestamp(record.created, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        head = f"{time}.{int(record.msecs):03}Z {record.levelname.lower()} {message}"
        return "\n".join([" ".join([head, *fields]), *rest])


def _quoted(value: Any) -> str:
    text = str(value)
    return text if text and not set(text) & set(' "=\n') else json.dumps(text)
