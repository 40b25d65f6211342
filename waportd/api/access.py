"""Who may call: decided by the uid at the other end of the socket (SO_PEERCRED, unix(7))."""

import socket
import struct
from collections.abc import Iterable

from aiohttp import web

from waportd.accounts import name_of, uid_of
from waportd.api.problems import Handler
from waportd.errors import Forbidden

_UCRED = struct.Struct("iII")
"""struct ucred: pid, uid, gid; ids above 2^31 are valid."""


def peer_uid(request: web.Request) -> int | None:
    """Return the uid of the caller's process; None where the connection is no unix socket."""
    transport = request.transport
    peer = None if transport is None else transport.get_extra_info("socket")
    if peer is None or peer.family != socket.AF_UNIX:
        return None
    _, uid, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


class Access:
    """The callers that ``api.allow_users`` names. Empty: everybody who can open the socket. Root always may."""

    def __init__(self, allowed: Iterable[str | int]) -> None:
        self._allowed = list(allowed)

    def allow(self, allowed: Iterable[str | int]) -> None:
        """Replace the list."""
        self._allowed = list(allowed)

    def permits(self, uid: int | None) -> bool:
        """Tell whether that uid may call."""
        if not self._allowed or uid == 0:
            return True
        return uid is not None and any(uid_of(name) == uid for name in self._allowed)


@web.middleware
async def check_access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse callers whom the configuration does not name."""
    access: Access = request.app["access"]
    uid = peer_uid(request)
    if not access.permits(uid):
        raise Forbidden(
            f"user {'unknown' if uid is None else name_of(uid)} may not call this socket",
            hint="add the user to api.allow_users in the configuration and reload waportd",
        )
    return await handler(request)
