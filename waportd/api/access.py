"""Who may call what.

Over the unix socket the kernel says who calls (SO_PEERCRED, unix(7)), and anyone who may call may call everything. Over
TCP a token says it, or a connect link for one user. The Host header is not checked against pages of other sites
that rebind their name to this host: a browser sends neither of the two automatically.

Another host of the fleet, which TLS has identified, has let in its caller itself. It hands over who that is, and what the
caller may do.
"""

import contextlib
import dataclasses
import json
import logging
import os
import re
import time
import urllib.parse
from collections.abc import Container, Hashable, Iterable, Mapping
from typing import Any, Final

from aiohttp import hdrs, web

from waportd.accounts import name_of, uid_of
from waportd.api import audit
from waportd.api.connections import Connection
from waportd.api.operations import Scope
from waportd.api.parameters import EXPIRES, OF_USER, SIGNATURE, supervisor_of
from waportd.api.throttle import Failures
from waportd.connect_links import Links
from waportd.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    LinkExpired,
    LinkInvalid,
    TooManyRequests,
    Unauthorized,
    WaportdError,
)
from waportd.model import User
from waportd.plain import one_line
from waportd.quotas import (
    CHANGE_LINES,
    LINK,
    REFUSED,
    TOKEN,
    UID,
    USER_TOKEN,
    Changes,
    Pace,
    Share,
    retry_after,
)
from waportd.tokens import Kind, Token, Tokens

log = logging.getLogger(__name__)

_BEARER = re.compile(rb"\nAuthorization: *Bearer +([\x21-\x7e]{1,100})", re.IGNORECASE)
_LINK = re.compile(
    rb"[A-Z]+ /v1/users/([\x21-\x2e\x30-\x3e\x40-\x7e]{1,200})(?:/[a-z-]+)?\?([\x21-\x7e]{1,1000}) "
)
_SCOPES = {
    Kind.ADMIN: Scope.ADMIN,
    Kind.USER: Scope.USER,
    Kind.READ: Scope.READ,
    Kind.METRICS: Scope.METRICS,
}
_TELL = "report this to the person who gave you this link"
_OWNER = "waportd.owner"
"""Where a request that was let in keeps the user that it concerns."""
_CALLER = "waportd.caller"
"""Where a request keeps who sent it."""
_SERVICE_UIDS: Final = range(61184, 65520)
"""Those that systemd gives to services with DynamicUser=, as the users' servers are (systemd.exec(5))."""
HANDED_OVER: Final = "Waportd-Caller"
"""The header with which one host of a fleet shows another whose call it passes on. From anybody else it is not read."""


def peer_uid(request: web.BaseRequest) -> int | None:
    """Return the uid of the caller's process; None where the connection is no unix socket."""
    connection = request.protocol
    return connection.uid if isinstance(connection, Connection) else None


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who called, as far as this decides what may be called."""

    scope: Scope
    user: User | None = None
    """Whose calls may be made; None where that does not matter."""
    token: str | None = None
    """The id of the token that was sent."""
    until: float | None = None
    """When the link that was sent ends, in seconds since the epoch."""
    key: int = 0
    """How often the key of all links had been changed when it was sent."""
    uid: int | None = None
    """Whose process called, over the unix socket."""
    via: str | None = None
    """The host of the fleet that passes the call on."""
    there: tuple[str, str] = ("", "")
    """To what the call counts there, and how the caller is named there."""

    @property
    def identity(self) -> Hashable:
        """To what a call counts: a uid, a token, all links of a user; None for nothing."""
        if self.via is not None:
            return self.via, self.there[0]
        if self.uid is not None or self.token is not None:
            return self.token if self.uid is None else self.uid
        return ("links", self.user) if self.user is not None else None

    @property
    def share(self) -> Share:
        """What the caller may have of the API at a time."""
        if self.uid is not None:
            return UID
        return {Scope.ADMIN: TOKEN, Scope.LINK: LINK}.get(self.scope, USER_TOKEN)

    def may(self, needed: Scope, owner: User | None, also: Container[Scope] = ()) -> bool:
        """Return whether this caller may make a call that needs that scope, or one of those, and concerns that user."""
        if needed <= Scope.TOKEN or self.scope is Scope.ADMIN or self.scope in also:
            return True
        return self.scope >= needed and self.user is not None and self.user == owner


def caller_of(request: web.Request) -> Caller:
    """Return who called."""
    caller: Caller = request[_CALLER]
    return caller


def is_passed_on(request: web.Request) -> bool:
    """Return whether another host of the fleet passes this call on."""
    return caller_of(request).via is not None


def handed_over(request: web.Request) -> Mapping[str, str]:
    """Return the headers that show another host who called, and what the caller may do."""
    caller = caller_of(request)
    # Every byte of it is ASCII, whatever a token is named.
    document = {
        "scope": caller.scope.name,
        "user": caller.user,
        "counts_to": repr(caller.identity),
        "name": access_of(request).name(caller),
    }
    return {HANDED_OVER: json.dumps(document)}


def of_this_host() -> Mapping[str, str]:
    """Return the headers with which this host calls another one for itself, to read."""
    document = {"scope": Scope.READ.name, "user": None, "counts_to": "itself", "name": "waportd"}
    return {HANDED_OVER: json.dumps(document)}


def by_link(request: web.Request) -> bool:
    """Return whether the caller has a connect link, and nothing else."""
    return caller_of(request).scope is Scope.LINK


def access_of(request: web.Request) -> "Access":
    """Return the application's access."""
    access: Access = request.app["access"]
    return access


def _holder(token: Token) -> Caller:
    return Caller(_SCOPES[token.kind], token.user, token=token.id)


def _passed_on(request: web.Request, certificate: Mapping[str, Any]) -> Caller:
    """Return the caller whose call another host passes on. Raises HostRefused, BadRequest."""
    fleet = supervisor_of(request).fleet
    assert fleet is not None
    host = fleet.admit(certificate)
    try:
        said = json.loads(request.headers[HANDED_OVER])
        user = None if said["user"] is None else OF_USER.parse(said["user"])
        there = str(said["counts_to"]), str(said["name"])
        return Caller(Scope[said["scope"]], user, via=host, there=there)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadRequest(
            f"host {host} does not say whose call it passes on",
            hint="run the same version of waportd on all hosts",
        ) from None


class Access:
    """Decides. ``allowed`` is ``api.allow_users``; empty: everybody who can open the socket. Root always may."""

    def __init__(self, allowed: Iterable[str | int], tokens: Tokens, links: Links) -> None:
        self._allowed = list(allowed)
        self.tokens = tokens
        self.links = links
        self._failures = Failures()
        self._changes = Changes()
        self._refusals = Pace(*CHANGE_LINES)

    def allow(self, allowed: Iterable[str | int]) -> None:
        """Replace the list."""
        self._allowed = list(allowed)

    def permits(self, uid: int) -> bool:
        """Return whether that uid may call. Names are looked up each time: accounts come and go."""
        return not self._allowed or uid == 0 or any(uid_of(name) == uid for name in self._allowed)

    def permits_at_servers(self, uid: int) -> bool:
        """Return whether that uid may call the users' own servers, as these decide it (server/caller_check.js).

        Sessions of other users may not, unless they are named.
        """
        return uid == os.geteuid() or (
            self.permits(uid) and (bool(self._allowed) or uid not in _SERVICE_UIDS)
        )

    def admit(
        self, request: web.Request, needed: Scope, owner: User | None, also: Container[Scope] = ()
    ) -> None:
        """Let a call pass, and keep who made it; raise a WaportdError that says why not.

        ``owner`` is the user that the call concerns; None where it concerns no particular user.
        """
        request[_CALLER] = caller = self._identify(request, needed, owner)
        if not caller.may(needed, owner, also):
            if caller.scope in {Scope.READ, Scope.METRICS}:
                raise Forbidden(
                    f"a token of scope {caller.scope.name.lower()} does not allow this call",
                    hint="use a token of that user, or one of scope admin",
                )
            whose = "another user" if needed is not Scope.ADMIN else "all users"
            raise Forbidden(
                f"this call concerns {whose}, and the token is for user {caller.user} only",
                hint="use a token of that user, or one of scope admin",
            )
        connection = request.protocol
        if caller.identity is not None and isinstance(connection, Connection):
            connection.door.belongs_to(connection, caller.identity, caller.share)
        request[_OWNER] = owner

    def begin_change(self, request: web.Request) -> None:
        """Record a call that was let in and is about to change something; raise TooManyRequests beyond the limit."""
        if audit.is_change(request):
            return
        caller = caller_of(request)
        now = time.monotonic()
        if wait := self._changes.count(caller.identity, caller.share, now):
            minute, hour = caller.share.changes
            if not self._refusals.count(caller.identity, now):
                log.warning("%s changes too much, and has to wait %.0f s", one_line(self.name(caller)), wait)
            raise TooManyRequests(
                f"this caller has changed something {minute} times within the minute, or {hour} times within the hour, "
                "which is the limit",
                hint=f"wait {retry_after(wait)} s",
                cause="too_many_changes",
                retry_after=retry_after(wait),
            )
        audit.mark(request)

    def confirm(self, request: web.Request) -> None:
        """Raise what `admit` would, where it would not let the same caller in any more."""
        caller = caller_of(request)
        if self.still_admits(caller):
            return
        if caller.uid is not None:
            raise Forbidden(f"user {name_of(caller.uid)} may not call this socket any more")
        if caller.token is not None:
            raise Unauthorized("that token was deleted meanwhile, or has ended", presented=True)
        raise LinkExpired("the link has expired", hint="ask for a new link where this one came from")

    def note(self, request: web.Request, status: int, path: str) -> None:
        """Write down who has changed something, now that it is answered with that status."""
        if audit.is_change(request):
            caller = caller_of(request)
            audit.note(request, path, caller, self.name(caller), request[_OWNER], status)

    def name(self, caller: Caller) -> str:
        """Return how the journal names who called."""
        if caller.uid is not None:
            return name_of(caller.uid)
        if caller.via is not None:
            return f"{caller.there[1]} on host {caller.via}"
        if caller.token is None:
            return f"a link of user {caller.user}"
        token = self.tokens.get(caller.token)
        return (None if token is None else token.name) or caller.token

    def for_caller(self, request: web.Request, error: WaportdError) -> WaportdError:
        """Return an error as the caller may see it: one with a link learns nothing about the machine's programs."""
        caller: Caller | None = request.get(_CALLER)
        if caller is not None and caller.scope is Scope.LINK and error.cause == "port_held":
            return Conflict("the server cannot be started now", hint=_TELL, cause=error.cause)
        return error

    def recognise(self, head: bytes) -> tuple[Hashable, Share] | None:
        """Return who sends a request over TCP, by its beginning; None where it shows no token or link of ours.

        It only decides whose turn it is: what the request may do is decided when it is read.
        """
        caller: Caller | None = None
        if match := _BEARER.search(head):
            token = self.tokens.recognise(match[1].decode())
            caller = _holder(token) if token else None
        elif match := _LINK.match(head):
            query = dict(urllib.parse.parse_qsl(match[2].decode()))
            user = User(urllib.parse.unquote(match[1].decode()))
            with contextlib.suppress(LinkInvalid, LinkExpired):
                until = self.links.check(user, query.get(EXPIRES.name, ""), query.get(SIGNATURE.name, ""))
                caller = Caller(Scope.LINK, user, until=until)
        return (caller.identity, caller.share) if caller else None

    def share_of(self, uid: int) -> Share:
        """Return what share of the unix socket a user id has."""
        return UID if self.permits(uid) else REFUSED

    def still_admits(self, caller: Caller) -> bool:
        """Return whether the caller may still call: it is on the list, or has a valid token or link."""
        if caller.uid is not None and not self.permits(caller.uid):
            return False
        if caller.token is not None and not self.tokens.is_valid(caller.token):
            return False
        return caller.until is None or (caller.until > time.time() and caller.key == self.links.changes)

    def _identify(self, request: web.Request, needed: Scope, owner: User | None) -> Caller:
        uid = peer_uid(request)
        if uid is not None:
            if self.permits(uid):
                return Caller(Scope.ADMIN, uid=uid)
            raise Forbidden(
                f"user {name_of(uid)} may not call this socket",
                hint="add the user to api.allow_users in the configuration and reload waportd",
            )
        # Only connections of other hosts have TLS, which lets in nobody without a certificate.
        if (certificate := request.get_extra_info("peercert")) is not None:
            return _passed_on(request, certificate)
        if needed is Scope.PUBLIC:
            return Caller(Scope.PUBLIC)
        try:
            if hdrs.AUTHORIZATION not in request.headers and needed is Scope.LINK and owner is not None:
                signature = request.query.get(SIGNATURE.name)
                if signature is not None:
                    until = self.links.check(owner, request.query.get(EXPIRES.name, ""), signature)
                    return Caller(Scope.LINK, owner, until=until, key=self.links.changes)
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
                "that token is unknown, or was deleted",
                hint="`waportctl token list` shows the known ones",
                presented=True,
            )
        return _holder(token)

    def _counted(self, request: web.Request, error: LinkInvalid | Unauthorized) -> WaportdError:
        """Return the error for a failed try; a caller who tries again and again gets another one.

        Not before the check: other callers behind the same reverse proxy must not be locked out, and
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
