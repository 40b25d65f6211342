"""What a check says: how it went, why, and what to do."""

import dataclasses
import enum
from collections.abc import Iterator


class Verdict(enum.StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    """It could not be checked."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    verdict: Verdict
    message: str
    fix: str | None = None
    """The command, or the change, that fixes it."""


Findings = Iterator[Finding]


def ok(message: str) -> Finding:
    """Return the finding that something is as it should be."""
    return Finding(Verdict.OK, message)


def warn(message: str, fix: str | None) -> Finding:
    """Return the finding that something may become a problem, or is a small one."""
    return Finding(Verdict.WARN, message, fix)


def fail(message: str, fix: str | None) -> Finding:
    """Return the finding that something does not work."""
    return Finding(Verdict.FAIL, message, fix)


def skip(message: str, fix: str | None = None) -> Finding:
    """Return the finding that something could not be checked, and what would check it."""
    return Finding(Verdict.SKIP, message, fix)
