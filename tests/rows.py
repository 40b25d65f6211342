"""What docs/reliability.md is made of: each test of a fault notes a row; tools/reliability writes the page."""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

_NOTES = Path(__file__).resolve().parent.parent / ".run/test"
MACHINES = _NOTES / "faults.json"
"""Rows of booted machines."""
BESIDE = _NOTES / "faults-sessions.json"
"""Rows of a systemd of one user, beside which other tests run as another user of this machine."""
EVERYTHING = os.environ.get("WAPORTD_FAULTS") == "all"
"""`make reliability` takes its time; otherwise one release and a few moments have to do."""


@dataclass(frozen=True)
class Row:
    """One fault of a table."""

    release: str
    fault: str
    saw: str
    seconds: float | None
    """From the fault until all was well; None where nothing was ever amiss."""
    lost: str = "nothing"


def note(row, report):
    """Add a row to a report, in place of an earlier one of the same fault. Tests of other machines add theirs, too."""
    report.parent.mkdir(parents=True, exist_ok=True)
    module = os.environ["PYTEST_CURRENT_TEST"].partition("::")[0]
    with report.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        rows = json.loads(file.read() or "[]")
        rows = [kept for kept in rows if (kept["release"], kept["fault"]) != (row.release, row.fault)]
        file.truncate(0)
        json.dump([*rows, {**asdict(row), "module": module}], file, indent=1, ensure_ascii=False)
