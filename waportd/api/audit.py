"""Who changed what: one line in the journal for each call that changes something, with the caller in its fields.

`waportctl audit` shows them. Nothing secret is in one: no token or link, no body, and of a path no query.
"""

import logging
from typing import TYPE_CHECKING, Final

from aiohttp import web

from waportd.accounts import name_of
from waportd.model import User
from waportd.plain import one_line
from waportd.systemd.journal import AUDIT_LOGGER, log_fields

if TYPE_CHECKING:
    from waportd.api.access import Caller

CHANGING: Final = frozenset({"PUT", "PATCH", "POST", "DELETE"})

log = logging.getLogger(AUDIT_LOGGER)
log.setLevel(logging.INFO)  # whatever log.level says


def note(
    request: web.Request, caller: "Caller", token_name: str | None, user: User | None, status: int
) -> None:
    """Write the line of a call that was let in, and that is answered with that status.

    ``token_name`` tells what the token is for that was shown, ``user`` whom the call concerns.
    """
    action = f"{request.method} {request.path}"
    fields = {**log_fields(user), "WAPORTD_ACTION": action, "WAPORTD_STATUS": str(status)}
    if caller.uid is not None:
        who = name_of(caller.uid)
        fields |= {"WAPORTD_CALLER": who, "WAPORTD_CALLER_UID": str(caller.uid)}
    else:
        fields["WAPORTD_ADDRESS"] = request.remote or "unknown"
        who = token_name or f"a link of user {caller.user}"
        fields |= {"WAPORTD_CALLER": who}
        fields |= {"WAPORTD_TOKEN": caller.token} if caller.token else {"WAPORTD_LINK": str(caller.user)}
    log.info("%s by %s: %d", one_line(action), one_line(who), status, extra=fields)
