"""Who changed what: one line in the journal for each call that changes something, with the caller in its fields.

`waportctl audit` shows them. No line holds a secret: no token or link, no body, and no query of a path.
"""

import logging
from typing import TYPE_CHECKING, Final

from aiohttp import web

from waportd.model import User
from waportd.plain import one_line
from waportd.systemd.journal import AUDIT_LOGGER, log_fields

if TYPE_CHECKING:
    from waportd.api.access import Caller

CHANGING: Final = frozenset({"PUT", "PATCH", "POST", "DELETE"})
_MARK: Final = "waportd.changes"

log = logging.getLogger(AUDIT_LOGGER)
log.setLevel(logging.INFO)  # whatever log.level says


def mark(request: web.Request) -> None:
    """Say that this request changes something."""
    request[_MARK] = True


def is_change(request: web.Request) -> bool:
    """Return whether the request is to be written down."""
    return _MARK in request


def note(
    request: web.Request,
    path: str,
    caller: "Caller",
    name: str,
    user: User | None,
    status: int,
) -> None:
    """Write the line of a call that was let in, and that is answered with that status.

    ``path`` is how the line names it, ``name`` who called, ``user`` the user that the call concerns.
    """
    action = f"{request.method} {path}"
    fields = {**log_fields(user), "WAPORTD_ACTION": action, "WAPORTD_STATUS": str(status)}
    fields["WAPORTD_CALLER"] = name
    if caller.uid is not None:
        fields["WAPORTD_CALLER_UID"] = str(caller.uid)
    else:
        fields["WAPORTD_ADDRESS"] = request.remote or "unknown"
        fields |= {"WAPORTD_TOKEN": caller.token} if caller.token else {"WAPORTD_LINK": str(caller.user)}
    log.info("%s by %s: %d", one_line(action), one_line(name), status, extra=fields)
