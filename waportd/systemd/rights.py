"""Checks the rights of the daemon's user at systemd: makes each of the daemon's calls, in a form that changes nothing.

Run as that user, ``python3 -m waportd.systemd.rights`` prints the calls that are refused, as JSON.
"""

import asyncio
import enum
import json
import sys
from typing import Any

from waportd.systemd.connection import Connection, RemoteError, Variant

DENIALS = {
    f"org.freedesktop.DBus.Error.{name}"
    for name in ("AccessDenied", "InteractiveAuthorizationRequired", "AuthFailed")
}
"""The errors of the bus and systemd for a caller that may not."""

_SYSTEMD = "org.freedesktop.systemd1"
_UNIT = "whatsapp@1000.service"
"""A unit that the rule covers, and that no user has: users get ports from 1024 on."""
_PAUSE = "whatsapp-pause@1000.service"
_MOVE = "whatsapp-move@1000:1001.service"
_NO_START = "triggering"
"""A job mode that systemd accepts only for a stop, and refuses after it has asked polkit."""
_CALLS: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("RefUnit", "(s)", (_UNIT,)),  # until this connection ends; the calls below need a unit that is loaded
    ("StartUnit", "(ss)", (_UNIT, _NO_START)),
    ("StopUnit", "(ss)", (_UNIT, "replace")),  # it is down
    ("RestartUnit", "(ss)", (_UNIT, _NO_START)),
    ("ResetFailedUnit", "(s)", (_UNIT,)),
    ("SetUnitProperties", "(sba(sv))", (_UNIT, True, [])),
    ("CleanUnit", "(sas)", (_UNIT, [])),
    ("StartUnit", "(ss)", (_PAUSE, _NO_START)),
    ("StopUnit", "(ss)", (_PAUSE, "replace")),
    ("StartUnit", "(ss)", (_MOVE, _NO_START)),
)
_TIMEOUT_S = 30.0
"""More than the bus waits for polkit."""
_OF_THE_BUS = ("Rejected send message", "Sender is not authorized")
"""How the refusals of dbus-daemon and dbus-broker begin; all other refusals are polkit's."""
_POLKIT = ("polkit.service", "org.freedesktop.PolicyKit1", "Method call timed out")
"""What refusals say where polkit does not start: its unit is masked, or it ends at once. Systemd asks nobody else."""


class Refuser(enum.StrEnum):
    """What refuses a call of the daemon."""

    BUS = "the bus"
    POLKIT = "polkit"
    NO_POLKIT = "polkit, which does not start,"


def refuser(message: str) -> Refuser:
    """Return who refused, by the words of the refusal."""
    if message.startswith(_OF_THE_BUS):
        return Refuser.BUS
    # The bus starts polkit when systemd asks it, and systemd passes on why the unit cannot start.
    return Refuser.NO_POLKIT if any(name in message for name in _POLKIT) else Refuser.POLKIT


async def refused() -> dict[str, str]:
    """Return the calls that this process's user may not make, and the words of the refusal. Raises SystemdError."""
    found = {}
    connection = await Connection.open("system", _SYSTEMD, _TIMEOUT_S)
    try:
        for method, signature, arguments in _CALLS:
            try:
                await connection.call(
                    "/org/freedesktop/systemd1", f"{_SYSTEMD}.Manager", method,
                    Variant(signature, arguments), "r", _TIMEOUT_S,
                )  # fmt: skip
            except RemoteError as error:
                if error.name in DENIALS or refuser(error.message) is Refuser.NO_POLKIT:
                    found[method] = error.message
                if refuser(error.message) is Refuser.NO_POLKIT:
                    break  # each further call may take as long
    finally:
        await connection.close()
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(refused())))
