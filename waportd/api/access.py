"""Who may call what.

Over the unix socket the kernel says who calls (SO_PEERCRED, unix(7)), and whoever may call may call everything. Over
TCP a token says it, or a connect link for one user. No check of the Host header guards against pages of other sites
that rebind their name to this host: a browser sends neither along by itself.
"""

import dataclasses
import socket
import struct
import time
from collections.abc import Iterable

from aiohttp import hdrs, web

from waportd.accounts import name_of, uid_of
from waportd.api.failures import Failures
from waportd.api.operations import Scope
from waportd.api.requests import EXPIRES, SIGNATURE
from waportd.errors import Forbidden, LinkInvalid, TooManyRequests, Unauthorized, WaportdError
from waportd.links import Links
from waportd.model import User
from waportd.tokens import Tokens

_UCRED = struct.Struct("iII")
"""struct ucred: pid, uid, gid; ids above 2^31 are valid."""
_CALLER = "waportd.caller"
"""Where a request keeps who sent it."""


def peer_uid(request: web.BaseRequest) -> int | None:
    """Return the uid of the caller's process; None where the connection is no unix socket."""
    transport = request.transport
    peer = None if transport is None else transport.get_extra_info("socket")
    if peer is None or peer.family != socket.AF_UNIX:
        return None
    _, uid, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who called, as far as it matters for what may be called."""

    scope: Scope
    user: User | None = None
    """Whose calls may be made; None where that does not matter."""
    token: str | None = None
    """The id of the token that was shown."""
    until: float | None = None
    """When the link ends that was shown, in seconds since the epoch."""
    uid: int | None = None
    """Whose process called, over the unix socket."""

    def may(self, needed: Scope, owner: User | None) -> bool:
        """Tell whether this caller may make a call that needs that scope and concerns that user."""
        if needed is Scope.PUBLIC or self.scope is Scope.ADMIN:
            return True
        return self.scope >= needed and self.user is not None and self.user == owner


def caller_of(request: web.Request) -> Caller:
    """Return who called."""
    caller: Caller = request[_CALLER]
    return caller


def access_of(request: web.Request) -> "Access":
    """Return the application's access."""
    access: Access = request.app["access"]
    return access


class Access:
    """Decides. ``allowed`` is ``api.allow_users``; empty: everybody who can open the socket. Root always may."""

    def __init__(self, allowed: Iterable[str | int], tokens: Tokens, links: Links) -> None:
        self._allowed = list(allowed)
        self.tokens = tokens
        self.links = links
        self._failures = Failures()

    def allow(self, allowed: Iterable[str | int]) -> None:
        """Replace the list."""
        self._allowed = list(allowed)

    def permits(self, uid: int) -> bool:
        """Tell whether that uid may call. Names are looked up each time: accounts come and go."""
        return not self._allowed or uid == 0 or any(uid_of(name) == uid for name in self._allowed)

    def admit(self, request: web.Request, needed: Scope, owner: User | None) -> None:
        """Let a call pass, and note who made it; raise a WaportdError that says why not.

        ``owner`` is the user whom the call concerns, None where it concerns nobody in particular.
        """
        request[_CALLER] = caller = self._identify(request, needed, owner)
        if not caller.may(needed, owner):
            whose = "another user" if needed is not Scope.ADMIN else "all users"
            raise Forbidden(
                f"this call concerns {whose}, and the token is for user {caller.user} only",
                hint="use a token of that user, or one of scope admin",
            )

    def still_admits(self, caller: Caller) -> bool:
        """Tell whether the caller may still call: is on the list, or has a token or link that holds."""
        if caller.uid is not None and not self.permits(caller.uid):
            return False
        if caller.token is not None and not self.tokens.is_valid(caller.token):
            return False
        return caller.until is None or caller.until > time.time()

    def _identify(self, request: web.Request, needed: Scope, owner: User | None) -> Caller:
        uid = peer_uid(request)
        if uid is not None:
            if self.permits(uid):
                return Caller(Scope.ADMIN, uid=uid)
            raise Forbidden(
                f"user {name_of(uid)} may not call this socket",
                hint="add the user to api.allow_users in the configuration and reload waportd",
            )
        if needed is Scope.PUBLIC:
            return Caller(Scope.PUBLIC)
        try:
            if hdrs.AUTHORIZATION not in request.headers and needed is Scope.LINK and owner is not None:
                signature = request.query.get(SIGNATURE.name)
                if signature is not None:
                    until = self.links.check(owner, request.query.get(EXPIRES.name, ""), signature)
                    return Caller(Scope.LINK, owner, until=until)
            return self._bearer(request)
        except (LinkInvalid, Unauthorized) as error:
            raise self._counted(request, error) from None

    def _bearer(self, request: web.Request) -> Caller:
        header = request.headers.get(hdrs.AUTHORIZATION)
        if header is None:
            raise Unauthorized(
                "calls over TCP need a token",
                hint="send `Authorization: Bearer TOKEN`; `waportctl token create NAME` makes one",
            )
        scheme, _, text = header.partition(" ")
        token = self.tokens.recognise(text.strip()) if scheme.lower() == "bearer" else None
        if token is None:
            raise Unauthorized(
                "that token is none of ours, or was deleted",
                hint="`waportctl token list` shows those that there are",
                presented=True,
            )
        return Caller(Scope.ADMIN if token.user is None else Scope.USER, token.user, token=token.id)

    def _counted(self, request: web.Request, error: LinkInvalid | Unauthorized) -> WaportdError:
        """Return the error for a failed try, which is another one for who tries again and again.

        Not before the check: who shares a reverse proxy's address with such a caller shall not be locked out, and
        nobody finds a token or signature by trying.
        """
        if isinstance(error, Unauthorized) and not error.presented:
            return error
        wait = self._failures.count(request.remote or "nobody", time.monotonic())
        if wait is None:
            return error
        return TooManyRequests(
            "too many calls with a wrong token or link",
            hint=f"wait {wait} s, and use a valid one",
            retry_after=wait,
        )
