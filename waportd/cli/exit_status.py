"""What an exit status means, and errors that end the program with one."""

import enum
from collections.abc import Mapping

from waportd.client import (
    ApiError,
    NotAllowed,
    NotInTime,
    PerhapsSent,
    UnknownUser,
    WaportdClientError,
    WaportdUnavailable,
)


class Exit(enum.IntEnum):
    """Exit statuses of waportctl. A promise: meanings are added, never changed."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_PERMITTED = 4
    UNKNOWN_USER = 5
    NOT_IN_TIME = 6
    ROLLED_BACK = 7
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "done; for doctor: nothing failed (doctor --upstream has its own statuses, 0 to 3)",
    Exit.FAILED: "waportd refused or failed; the message says why",
    Exit.USAGE: "the command line is wrong, or names no command",
    Exit.UNREACHABLE: "waportd does not answer",
    Exit.NOT_PERMITTED: "not permitted: another user, a group or root is needed",
    Exit.UNKNOWN_USER: "there is no such user",
    Exit.NOT_IN_TIME: "timed out; the operation may still complete",
    Exit.ROLLED_BACK: "a trial failed, and its changes were undone",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}
"""The one table of exit statuses: help text and manual page show it."""


class Problem(Exception):
    """Why a command cannot be done: cause, fix, exit status."""

    def __init__(
        self, message: str, hint: str | None = None, exit_status: Exit = Exit.FAILED, code: str = "failed"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_status = exit_status
        self.code = code


def documents(failed: Mapping[str, Problem]) -> list[dict[str, str | None]]:
    """Return what failed for which users, for ``--json``."""
    return [
        {"user": name, "code": problem.code, "detail": problem.message, "hint": problem.hint}
        for name, problem in failed.items()
    ]


def needs_root(what: str) -> Problem:
    """Return the problem of a caller who is not root."""
    return Problem(f"only root can {what}", "run it with sudo", Exit.NOT_PERMITTED, "not_root")


def of_client(error: WaportdClientError) -> Problem:
    """Return the problem that an error of the client is."""
    if isinstance(error, WaportdUnavailable):
        denied = error.reason == "permission_denied"
        status = Exit.NOT_PERMITTED if denied else Exit.UNREACHABLE
        return Problem(error.message, error.hint, status, error.reason)
    if not isinstance(error, ApiError):
        return Problem(str(error))
    status = Exit.FAILED
    hint = error.hint
    if isinstance(error, UnknownUser):
        status, hint = (
            Exit.UNKNOWN_USER,
            "`waportctl list` shows all users; `waportctl qr USER` creates one",
        )
    elif isinstance(error, NotAllowed):
        status = Exit.NOT_PERMITTED
    elif error.code == "not_linked":
        hint = "`waportctl qr USER` draws a code to scan"
    elif isinstance(error, NotInTime | PerhapsSent):
        status = Exit.NOT_IN_TIME
    return Problem(error.detail, hint, status, error.code)
