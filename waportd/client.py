"""waportd for Python programs: this one file, which needs Python 3.9 or newer and nothing else.

    from waportd.client import Client

    waportd = Client()
    waportd.ensure("2")                  # user 2 has a running server when this returns
    code = waportd.qr("2")               # at once, from memory
    if code.ready: ...                   # a phone is linked
    elif code.qr: ...                    # the text to draw as a QR code
    code = waportd.qr("2", timeout=25, known=code)  # as soon as there is another one
    waportd.send("2", "+55 11 98888-7777", "Hello!")
    for message in waportd.follow_messages("2", after=last_cursor): ...

Any program that may open the socket may call: put its user into group ``waportd``. Failures raise
`WaportdUnavailable` (nothing answers; it says why) or an `ApiError` (waportd answered, and says what and why).
Results are frozen dataclasses; members that a newer waportd adds are in their ``raw``.

For a front end that thinks in ports there is `waportd.compat`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import email.message
import http.client
import json
import logging
import os
import select
import socket as sockets
import threading
import time
import urllib.parse
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence  # noqa: TC003  # for readers of annotations, too
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, TypeVar

log = logging.getLogger("waportd.client")

SOCKET = "/run/waportd/api.sock"
"""Where a packaged waportd answers."""

_TIMEOUT_S = 10.0
"""Seconds for an answer that needs no wait; it takes a millisecond."""
_CHANGE_TIMEOUT_S = 90.0
"""Seconds for a change: a logout may first have to connect the session, which may take half of it."""
_PASSKEY_TIMEOUT_S = 35.0
"""Seconds for an answer about a passkey; the user's server is given 20."""
_ASK_TIMEOUT_S = 50.0
"""Seconds for calls that read from a user's server; it is given 40, and for media 90."""
_SEND_TIMEOUT_S = 130.0
"""Seconds for calls that send to WhatsApp; a server is given 120 after the last piece of a file."""
_PIECE_BYTES = 64 * 1024
"""Bytes of a file that are in memory at a time."""
_PATIENCE_S = {"none": 0.0, "listening": 30.0, "qr": 90.0, "ready": 180.0}
"""Seconds that waportd waits for a server by default."""
_SILENCE_S = 45.0
"""Seconds without a sign of life after which a stream is taken for dead: heartbeats come every 15."""
_STUCK_S = 300.0
"""Seconds for which messages may wait for the web app."""
RECONNECT_S = 30.0
"""Seconds that a broken stream is given to come back: a restart of waportd takes one or two."""
MOST_EVENT_BYTES = 16 << 20
"""Bytes of one event of a stream; a message has one MiB at most."""
_MOST_DIGITS = 9
_PACE_S = 120.0
"""Seconds that a call waits, in all, where this caller has changed too much: two times its minute."""


# What goes wrong


class WaportdClientError(Exception):
    """Base of all errors of calls. ``hint`` says how to fix it, where that is known."""

    hint: str | None = None


class WaportdUnavailable(WaportdClientError):
    """waportd does not answer. ``reason`` is for programs.

    ``no_socket``, ``permission_denied``, ``refused``, ``unreachable``, ``timeout``, ``connection_lost`` or
    ``bad_answer``: the answer is not from waportd. After the last three the call may or may not have been carried out.
    """

    def __init__(self, reason: str, message: str, hint: str | None = None) -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.reason = reason
        self.message = message
        self.hint = hint


class ApiError(WaportdClientError):
    """waportd answered with an error. The subclasses group ``code``; unknown codes go by their status."""

    codes: ClassVar[frozenset[str]] = frozenset()
    """The codes of this class."""
    statuses: ClassVar[frozenset[int]] = frozenset()
    """The HTTP status whose other codes belong to this class, too."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        hint: str | None = None,
        cause: str | None = None,
        retry_after: float | None = None,
        raw: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{detail}; {hint}" if hint else detail)
        self.status = status
        """The HTTP status."""
        self.code = code
        self.detail = detail
        self.hint = hint
        self.cause = cause
        """Why, for programs: node_missing, port_held, browser_missing and so on."""
        self.retry_after = retry_after
        """Seconds after which asking again makes sense."""
        self.raw = raw or {}


class BadRequest(ApiError):
    """The call cannot be understood: a user's name, a phone number or an option is not valid."""

    codes = frozenset({"bad_request", "bad_phone", "method_not_allowed", "too_large", "too_slow"})
    statuses = frozenset({400, 405, 408, 413, 422})


class NotAllowed(ApiError):
    """The caller may not do this: the token is missing, wrong or not for this user, or the account not allowed."""

    codes = frozenset({"forbidden", "unauthorized"})
    statuses = frozenset({401, 403})


class NotFound(ApiError):
    """What was asked for does not exist."""

    codes = frozenset({"not_found"})
    statuses = frozenset({404})


class UnknownUser(NotFound):
    """The user has no port. `Client.ensure` gives one."""

    codes = frozenset({"unknown_user"})
    statuses = frozenset()


class Conflict(ApiError):
    """The request does not fit the current state: already linked or not linked, no code now, port held."""

    codes = frozenset({"conflict", "already_linked", "not_linked", "no_code", "port_held", "unknown_engine"})
    statuses = frozenset({409})


class NoRoom(ApiError):
    """A limit is reached, or there were too many requests. ``retry_after`` says when to retry."""

    codes = frozenset({"limit_reached", "ports_exhausted", "too_many_requests", "busy"})
    statuses = frozenset({429})


class ServerFailed(ApiError):
    """The user's server does not run, or did not get far enough; ``cause`` says why and ``hint`` how to fix it."""

    codes = frozenset({"server_failed", "not_running", "not_connected"})
    statuses = frozenset({502})


class NotInTime(ApiError):
    """The server did not get far enough within the timeout. It continues; ask again."""

    codes = frozenset({"timeout"})
    statuses = frozenset({504})


class PerhapsSent(ApiError):
    """It is not known whether a message was sent. The same call with the same key joins the first one."""

    codes = frozenset({"perhaps_sent"})


class CursorGone(ApiError):
    """The journal does not reach back to that cursor. A call without one reads from the oldest message."""

    codes = frozenset({"cursor_gone"})
    statuses = frozenset({410})


_KINDS: tuple[type[ApiError], ...] = (
    BadRequest,
    NotAllowed,
    UnknownUser,
    NotFound,
    Conflict,
    NoRoom,
    ServerFailed,
    NotInTime,
    PerhapsSent,
    CursorGone,
)


def _api_error(status: int, problem: Mapping[str, Any], retry_after: str | None) -> ApiError:
    code = str(problem.get("code") or "")
    kind = next((kind for kind in _KINDS if code in kind.codes), None)
    if kind is None:
        kind = next((kind for kind in _KINDS if status in kind.statuses), ApiError)
    return kind(
        status,
        code or f"http_{status}",
        str(problem.get("detail") or problem.get("error") or f"waportd answers with HTTP status {status}"),
        _text(problem.get("hint")),
        _text(problem.get("cause")),
        _whole(retry_after),
        problem,
    )


# What comes back


def _bad_answer(what: str) -> WaportdUnavailable:
    return WaportdUnavailable(
        "bad_answer", f"the answer is not from waportd: {what}", "is another program at that address?"
    )


# A member of another type than the API says counts as missing: ``raw`` has it unchanged.


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _part(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _parts(value: Any) -> list[Mapping[str, Any]]:
    return [_part(each) for each in _list(value)]


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _whole(text: str | None) -> float | None:
    """Return a few digits as a number."""
    is_number = text is not None and len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit()
    return float(text) if text is not None and is_number else None


def _time(text: Any) -> dt.datetime | None:
    with contextlib.suppress(ValueError):
        # Python 3.9 does not read the Z.
        time = dt.datetime.fromisoformat(text.replace("Z", "+00:00")) if isinstance(text, str) else None
        return time if time is not None and time.tzinfo is not None else None
    return None


def _time_of(milliseconds: Any) -> dt.datetime | None:
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, (int, float)) or not milliseconds:
        return None
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return dt.datetime.fromtimestamp(milliseconds / 1000, dt.timezone.utc)
    return None


_R = TypeVar("_R", bound="_Result")
_N = TypeVar("_N", int, float)


@dataclass(frozen=True)
class _Result:
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The JSON object, unchanged."""

    @classmethod
    def _of(cls: type[_R], document: Mapping[str, Any], **converted: Any) -> _R:  # noqa: PYI019  # Python 3.9 has no Self
        known = cls.__dataclass_fields__
        members = {name: value for name, value in document.items() if name in known}
        members.update(converted, raw=document)
        return cls(**members)


@dataclass(frozen=True)
class Process(_Result):
    """The process of a user's server, as systemd sees it."""

    state: str = "stopped"
    """stopped, starting, running, stopping, failed, crash_loop, unreachable or moving."""
    since: dt.datetime | None = None
    message: str = ""
    cause: str | None = None
    hint: str | None = None
    pid: int | None = None
    restarts: int = 0
    next_start: dt.datetime | None = None
    """When systemd next starts a server that keeps ending."""


@dataclass(frozen=True)
class Summary(_Result):
    """What matters about a user now: the session while the server runs, else the process; and waiting messages."""

    state: str = "stopped"
    """As that of a `Session`, or of a `Process`."""
    group: str = "idle"
    """``linked``, ``waiting`` (for a person), ``working``, ``trouble``, ``asleep`` (linked, and stopped) or ``idle``."""
    message: str = ""
    cause: str | None = None
    """What is wrong: as that of a session or process, or ``not_answering``, or ``undelivered``."""
    hint: str | None = None
    since: dt.datetime | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Summary:
        """Read what the API calls a summary."""
        return cls._of(document, since=_time(document.get("since")))


@dataclass(frozen=True)
class Missing(_Result):
    """A member of WhatsApp's page that a feature needs, and that the page does not have as it is needed."""

    feature: str = ""
    module: str = ""
    member: str = ""
    found: str = ""
    """What is there instead."""


@dataclass(frozen=True)
class Upstream(_Result):
    """WhatsApp's page as a server has found it, and the library that uses it."""

    build: str | None = None
    """The page's version; None until the page reports it."""
    library: str | None = None
    """The version of whatsapp-web.js that runs."""
    engine: str | None = None
    """Which of the installed ones that is: ``bundled``, or a version."""
    pinned: str | None = None
    """The file that is served in place of the site's page."""
    ok: bool = True
    """Nothing of what was checked is missing."""
    checked: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()
    shims: Mapping[str, str] = field(default_factory=dict)
    """Fixes that were made in the page for the library."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Upstream:
        """Read what the API calls upstream."""
        return cls._of(
            document,
            checked=tuple(_list(document.get("checked"))),
            missing=tuple(Missing._of(each) for each in _parts(document.get("missing"))),  # noqa: SLF001
        )


@dataclass(frozen=True)
class Webhook(_Result):
    """What happened to a server's incoming messages since it started."""

    queued: int = 0
    """Messages that wait to be delivered."""
    delivered: int = 0
    failed: int = 0
    """Failed tries; each was followed by a retry or a drop."""
    dropped: int = 0
    error: str | None = None
    """Why the last try failed; None once a message has been delivered since."""
    error_at: dt.datetime | None = None
    undelivered: int = 0
    """Undelivered messages that are kept; `Client.redeliver` sends them again."""
    oldest_at: dt.datetime | None = None
    """Since when the oldest message has waited."""

    @property
    def stuck(self) -> bool:
        """Messages have waited for the web app for more than five minutes."""
        if not self.queued or self.oldest_at is None:
            return False
        return (dt.datetime.now(dt.timezone.utc) - self.oldest_at).total_seconds() > _STUCK_S

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Webhook:
        """Read what the API calls a webhook."""
        return cls._of(
            document,
            error_at=_time(document.get("error_at")),
            oldest_at=_time(document.get("oldest_at")),
        )


@dataclass(frozen=True)
class Session(_Result):
    """The WhatsApp session of a user's server."""

    state: str = "generating"
    """generating, qr, pairing, authenticated, ready, disconnected, qr_timeout, logged_out, passkey_required, error."""
    since: dt.datetime | None = None
    message: str = ""
    cause: str | None = None
    hint: str | None = None
    attempt: int = 0
    attempts: int = 0
    progress: int | None = None
    phone_number: str | None = None
    name: str | None = None
    answering: bool = True
    upstream: Upstream | None = None
    webhook: Webhook = field(default_factory=Webhook)
    last_message_at: dt.datetime | None = None
    """When a message last came or went since the server started."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Session:
        """Read what the API calls a session."""
        upstream = _part(document.get("upstream"))
        return cls._of(
            document,
            since=_time(document.get("since")),
            upstream=Upstream.of(upstream) if upstream else None,
            webhook=Webhook.of(_part(document.get("webhook"))),
            last_message_at=_time(document.get("last_message_at")),
        )


@dataclass(frozen=True)
class Storage(_Result):
    """What a session keeps on disk, as its server measured it last."""

    login: int = 0
    """Bytes of the login with its browser profile."""
    cache: int = 0
    """Bytes of the browser's cache."""
    journal: int = 0
    """Bytes of the journal of messages."""
    snapshots: int = 0
    """Bytes of the copies of the login."""
    snapshot_at: dt.datetime | None = None
    """When the newest copy was made; None as long as there is none."""
    restored_at: dt.datetime | None = None
    """When a copy replaced a login that was found damaged; None: never."""
    measured_at: dt.datetime | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Storage:
        """Read what the API calls storage."""
        times = ("snapshot_at", "restored_at", "measured_at")
        return cls._of(document, **{name: _time(document.get(name)) for name in times})


@dataclass(frozen=True)
class User(_Result):
    """A user and the server that is the user's own."""

    user: str = ""
    host: str | None = None
    """The host of the fleet that has the user; None on a host of its own."""
    port: int = 0
    url: str | None = None
    """The address of the server, http://localhost:<port>, on that host; None while systemd does not hold the port for it."""
    unit: str = ""
    desired: str = "running"
    """running, stopped or deleted."""
    linked: bool = False
    """A phone was linked when the server last reported."""
    linked_at: dt.datetime | None = None
    """When that phone was linked; None where none is, or where that was not noted at the time."""
    note: str | None = None
    """Why it is not the preferred port."""
    own_webhook: bool = False
    own_webhook_secret: bool = False
    webhook_events: tuple[str, ...] | None = None
    """Which events go to the webhook; None for what the configuration says, here and in the next three."""
    ignore: tuple[str, ...] | None = None
    """Chats that are ignored."""
    default_country: str | None = None
    send_rate: int | None = None
    """Messages a minute; 0 for no limit."""
    memory_max: int | None = None
    """Bytes."""
    autostart: bool = True
    engine: str = "bundled"
    """The version of whatsapp-web.js for the server's next start; the running one is ``session.upstream.engine``."""
    own_engine: bool = False
    """Whether it is the user's own; else it is that of the configuration."""
    proxy: str = "auto"
    """The proxy for the browser's next start: ``auto``, ``none``, or its URL without the password."""
    own_proxy: bool = False
    """Whether it is the user's own; else it is that of the configuration."""
    created_at: dt.datetime | None = None
    storage: Storage | None = None
    """None where that was not measured since the login was deleted."""
    summary: Summary = field(default_factory=Summary)
    """What matters now; it follows from ``process`` and ``session``."""
    process: Process = field(default_factory=Process)
    session: Session | None = None
    memory: int | None = None
    """Bytes that the server uses with its browser; None where it was not measured."""
    cpu: float | None = None
    """Seconds of processor time; None where it was not measured."""

    @property
    def ready(self) -> bool:
        """A phone is linked and connected: messages come and go."""
        return self.session is not None and self.session.answering and self.session.state == "ready"

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> User:
        """Read what the API calls a user."""
        process, session = _part(document.get("process")), _part(document.get("session"))
        storage = _part(document.get("storage"))
        events, ignored = document.get("webhook_events"), document.get("ignore")
        return cls._of(
            document,
            webhook_events=None if events is None else tuple(_list(events)),
            ignore=None if ignored is None else tuple(_list(ignored)),
            created_at=_time(document.get("created_at")),
            linked_at=_time(document.get("linked_at")),
            storage=Storage.of(storage) if storage else None,
            summary=Summary.of(_part(document.get("summary"))),
            process=Process._of(  # noqa: SLF001
                process, since=_time(process.get("since")), next_start=_time(process.get("next_start"))
            ),
            session=Session.of(session) if session else None,
            memory=_part(document.get("memory")).get("bytes"),
            cpu=_part(document.get("cpu")).get("seconds"),
        )


@dataclass(frozen=True)
class Passkey(_Result):
    """WhatsApp's current passkey request. ``options`` and ``code`` are secrets, as codes to scan are."""

    stage: str = ""
    """opening, asked, given, code or failed. In ``asked`` and ``code`` a person has to act."""
    options: Mapping[str, Any] | None = field(default=None, repr=False)
    """The challenge, in ``asked``: for ``navigator.credentials.get`` on a page of https://web.whatsapp.com."""
    expires_at: dt.datetime | None = None
    code: str | None = field(default=None, repr=False)
    """The code that the phone must show, too, in ``code``."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Passkey:
        """Read what the API calls a passkey."""
        return cls._of(document, expires_at=_time(document.get("expires_at")))


@dataclass(frozen=True)
class QR(_Result):
    """The code to scan, or why there is none. ``qr`` is a secret: anyone who scans it can link their phone."""

    user: str = ""
    port: int = 0
    status: str = ""
    """A state of the session or, where that does not run, of the process; ``ready`` when a phone is linked."""
    qr: str | None = field(default=None, repr=False)
    expires_at: dt.datetime | None = None
    attempt: int = 0
    attempts: int = 0
    message: str = ""
    cause: str | None = None
    hint: str | None = None
    passkey: Passkey | None = None
    """WhatsApp's passkey request; the connect link (`Client.connect_link`) leads a person through it."""
    etag: str | None = field(default=None, repr=False, compare=False)

    @property
    def ready(self) -> bool:
        """A phone is linked and connected."""
        return self.status == "ready"

    @classmethod
    def of(cls, document: Mapping[str, Any], etag: str | None = None) -> QR:
        """Read what the API calls a QR."""
        passkey = _part(document.get("passkey"))
        return cls._of(
            document,
            expires_at=_time(document.get("expires_at")),
            passkey=Passkey.of(passkey) if passkey else None,
            etag=etag,
        )


@dataclass(frozen=True)
class PairingCode(_Result):
    """The code that a user types on the phone instead of scanning one. A secret."""

    user: str = ""
    code: str = field(default="", repr=False)
    expires_at: dt.datetime | None = None


@dataclass(frozen=True)
class Holder(_Result):
    """A process that listens on a port; members that waportd may not see are None."""

    user: str | None = None
    pid: int | None = None
    command: str | None = None


@dataclass(frozen=True)
class Port(_Result):
    """A port: its owner, and the processes that listen on it."""

    port: int = 0
    user: str | None = None
    """The user that it is assigned to."""
    preferred_by: str | None = None
    """The user who would get it by number, whether or not it is assigned to another one."""
    unit: str | None = None
    held: bool = False
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True)
class LogLine(_Result):
    """A line of the journal of a user's server."""

    time: dt.datetime | None = None
    priority: int = 6
    """As in syslog: 3 and less are errors, 4 warnings."""
    source: str = "server"
    """Who wrote it: server, systemd or waportd."""
    message: str = ""


@dataclass(frozen=True)
class Change(_Result):
    """A call of the API that changed something, or tried to; None stands for what was not there."""

    time: dt.datetime | None = None
    caller: str | None = None
    """The account, what the token is for, or whose link it was."""
    uid: str | None = None
    token: str | None = None
    """The id of the token that was sent."""
    link: str | None = None
    """The user whose connect link was sent."""
    address: str | None = None
    """Where the call came from; None for the unix socket."""
    user: str | None = None
    action: str | None = None
    """Method and path, such as ``PUT /v1/users/2``."""
    status: str | None = None
    """The HTTP status of the answer."""


@dataclass(frozen=True)
class ConnectLink(_Result):
    """A link to the connect page of one user, for that user alone. A secret until it expires."""

    url: str = field(default="", repr=False)
    path: str = field(default="", repr=False)
    expires_at: dt.datetime | None = None


@dataclass(frozen=True)
class Alarm(_Result):
    """Many users fail in the same way."""

    cause: str = ""
    """The cause that they have in common."""
    since: dt.datetime | None = None
    users: int = 0
    """How many fail."""
    build: str | None = None
    """The version of WhatsApp's page that most of them have."""
    message: str = ""
    hint: str | None = None


@dataclass(frozen=True)
class Health(_Result):
    """The daemon, and what it manages."""

    status: str = ""
    version: str = ""
    users: int = 0
    running: int = 0
    failed: int = 0
    unassigned_ports: tuple[int, ...] = ()
    """Ports of servers that run although no user owns them."""
    alarm: Alarm | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Health:
        """Read what the API calls health."""
        alarm = _part(document.get("alarm"))
        return cls._of(
            document,
            unassigned_ports=tuple(_list(document.get("unassigned_ports"))),
            alarm=Alarm._of(alarm, since=_time(alarm.get("since"))) if alarm else None,  # noqa: SLF001
        )


@dataclass(frozen=True)
class Host(_Result):
    """The machine that the servers run on."""

    memory_total: int = 0
    """Bytes."""
    memory_available: int = 0
    """Bytes that are available to programs without swapping."""
    cpus: int = 0
    load: tuple[float, ...] = ()
    """Over 1, 5 and 15 minutes."""
    running: int = 0
    max_running: int = 0
    """0 for no limit."""
    min_available_memory: int = 0
    memory_per_session: int = 0
    more_sessions: int | None = None
    """How many more servers fit; None where no limit is set."""


@dataclass(frozen=True)
class FleetHost(_Result):
    """A host of the fleet."""

    name: str = ""
    address: str = ""
    """Where the others reach it: IP:PORT."""
    state: str = "active"
    """active or draining."""
    alive: bool = False
    """It holds its lease."""
    users: int = 0
    capacity: int = 0
    """How many users it has at most."""
    version: str = ""
    stuck: Mapping[str, str] = field(default_factory=dict)
    """The users who were to leave it and have not, each with the reason."""


@dataclass(frozen=True)
class LastHours(_Result):
    """The last hours, minute by minute. Each figure has one entry for each time; None where nothing was measured."""

    since: dt.datetime | None = None
    """The first sample: waportd keeps none from before its own start."""
    step_s: int = 60
    """Seconds from one sample to the next."""
    cpus: int = 0
    memory_total: int = 0
    """Bytes of memory of the machine."""
    times: tuple[dt.datetime | None, ...] = ()
    figures: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """By the names that the API gives them: ``linked``, ``servers_memory``, ``delivered``, …"""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> LastHours:
        """Read what the API calls the history."""
        times = tuple(map(_time, _list(document.get("times"))))
        columns = {name: value for name, value in document.items() if name != "times"}
        return cls._of(
            document,
            since=_time(document.get("since")),
            times=times,
            figures={
                name: tuple(map(_number, column))
                for name, column in columns.items()
                if isinstance(column, list) and len(column) == len(times)
            },
        )


@dataclass(frozen=True)
class Token(_Result):
    """A token for the API over TCP. ``token`` is there only in the answer that creates it."""

    id: str = ""
    name: str = ""
    scope: str = ""
    """``admin``, ``read``, ``metrics``, or ``user:<user>``."""
    created_at: dt.datetime | None = None
    last_used_at: dt.datetime | None = None
    expires_at: dt.datetime | None = None
    """When it expires; None for never."""
    token: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Token:
        """Read what the API calls a token."""
        return cls._of(
            document,
            created_at=_time(document.get("created_at")),
            last_used_at=_time(document.get("last_used_at")),
            expires_at=_time(document.get("expires_at")),
        )


@dataclass(frozen=True)
class Caller(_Result):
    """Who calls, and what that allows."""

    scope: str = ""
    """``admin``, ``user``, ``read`` or ``metrics``."""
    user: str | None = None
    """The user whose calls it allows; None: all users."""
    token: str | None = None
    """The id of the token; None on the unix socket."""
    name: str = ""


@dataclass(frozen=True)
class Event(_Result):
    """One event of a stream: the whole state, never a difference."""

    event: str = ""
    """``user``, ``qr`` and ``deleted``; of all users also ``complete`` and ``reset``; and newer ones."""
    id: str | None = None
    user: User | None = None
    """Of a ``user`` event."""
    qr: QR | None = None
    """Of a ``qr`` event."""

    @classmethod
    def of(cls, event: str, identifier: str | None, document: Mapping[str, Any]) -> Event:
        """Read an event of the API."""
        return cls(
            document,
            event,
            identifier,
            User.of(document) if event == "user" else None,
            QR.of(document) if event == "qr" else None,
        )


@dataclass(frozen=True)
class Message(_Result):
    """One event about a user's messages. More members are in ``raw``."""

    cursor: str = ""
    """Its place in the journal: `Client.messages` continues after it."""
    event: str = "message"
    """``message``, ``message.sent``, ``message.ack``, ``session`` and so on; ``reset`` where a stream starts over."""
    event_id: str = ""
    """Unique: the same event, delivered twice, has the same id."""
    id: str | None = None
    type: str | None = None
    """WhatsApp's word for its type: ``chat`` is a text."""
    chat: str | None = None
    """The id of the chat, which is what to answer to."""
    phone: str | None = None
    """The sender's number, where it is known."""
    name: str | None = None
    """The sender's name."""
    body: str = field(default="", repr=False)
    """The text, or the caption."""
    from_me: bool = False
    recovered: bool = False
    """It was recovered later: nothing listened when it came."""
    time: dt.datetime | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Message:
        """Read what the API calls a message."""
        chat, sender = document.get("chat"), document.get("sender")
        return cls._of(
            document,
            chat=chat.get("id") if isinstance(chat, dict) else document.get("from"),
            name=sender.get("name") if isinstance(sender, dict) else None,
            body=_text(document.get("body")) or "",
            from_me=bool(document.get("fromMe")),
            time=_time_of(document.get("timestamp")),
        )


@dataclass(frozen=True)
class Messages(_Result):
    """Some messages of a journal, the oldest first."""

    messages: tuple[Message, ...] = field(default=(), repr=False)
    next: str | None = None
    """The cursor to continue after."""
    more: bool = False
    """There are more."""


@dataclass(frozen=True)
class Outcome(_Result):
    """The outcome of a message that was sent."""

    id: str | None = None
    outcome: str = ""
    """``sent``: WhatsApp's server has it. ``pending``: not known yet. ``failed``: ``code`` says why."""
    code: str | None = None
    ack: str | None = None
    """How far it came: pending, server, device, read, played or error."""


@dataclass(frozen=True)
class Number(_Result):
    """Whether a phone number is on WhatsApp."""

    number: str = ""
    exists: bool = False
    id: str | None = None
    """The id to send to."""
    lid: str | None = None


@dataclass(frozen=True)
class Media(_Result):
    """A picture, video or file of a message, which was written into the caller's file."""

    content_type: str = ""
    """As the sender gave it: not reliable."""
    name: str | None = None
    size: int = 0
    """Bytes."""


@dataclass(frozen=True)
class Answer:
    """An unchanged HTTP answer, for programs that pass it on."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    headers: http.client.HTTPMessage = field(repr=False)

    def json(self) -> Mapping[str, Any]:
        """Return the document in it: all that waportd answers in JSON are objects. Raises WaportdUnavailable."""
        return _document(self.body)


def _document(text: str | bytes) -> Mapping[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(text)
        if isinstance(document, dict):
            return document
    raise _bad_answer("it is no JSON object")


def _count(document: Mapping[str, Any], name: str) -> int:
    """Return a number that an answer must have."""
    number = document.get(name)
    if isinstance(number, bool) or not isinstance(number, int):
        raise _bad_answer(f"it names no {name}")
    return number


# The way there


class _Connection(http.client.HTTPConnection):
    """A connection that closes when the thread that kept it ends."""

    def __del__(self) -> None:
        self.close()


class _TlsConnection(_Connection, http.client.HTTPSConnection):
    pass


class UnixConnection(_Connection):
    """HTTP over a unix socket, for programs that pass it on unchanged."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open the socket; raise OSError."""
        self.sock = sockets.socket(sockets.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Kept(threading.local):
    """The connection that a thread keeps, and the process that opened it."""

    connection: http.client.HTTPConnection | None = None
    pid = 0


class _NoAnswer(Exception):
    """The connection ended before any answer."""


class Client:
    """A client of one waportd. Threads may share it: each keeps a connection of its own.

    A kept connection that turns out closed is replaced by a fresh one, and the call sent again where that is
    safe: it was not sent yet, or sending it twice means the same as once.
    """

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        url: str | None = None,
        token: str | None = None,
        timeout: float = _TIMEOUT_S,
        pace: float = _PACE_S,
    ) -> None:
        """Set up a client; nothing is opened yet.

        ``socket`` is where waportd answers (default: ``$WAPORTD_SOCKET``, else ``/run/waportd/api.sock``). With
        ``url`` and ``token`` it is called over TCP instead, e.g. ``http://127.0.0.1:8080``. ``timeout`` is the
        number of seconds for an answer, beyond the timeout of a call. ``pace``: a caller that makes too many changes
        (3000 a minute) has to wait; a call does so automatically for this number of seconds at most, and logs a
        warning. Where that is not enough it raises NoRoom.
        """
        if url is not None and socket is not None:
            raise ValueError("give either a socket or a url")
        self.socket = None if url else os.fspath(socket or os.environ.get("WAPORTD_SOCKET") or SOCKET)
        self.url = url
        self.timeout = timeout
        self.pace = pace
        self._address = urllib.parse.urlsplit(url or "")
        if url is not None and (self._address.scheme not in {"http", "https"} or not self._address.hostname):
            raise ValueError("the url must look like http://127.0.0.1:8080")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._kept = _Kept()

    def __repr__(self) -> str:
        return f"Client({self.socket or self.url!r})"

    def __enter__(self) -> Client:  # noqa: PYI034
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection that this thread keeps; the next call opens another one."""
        if self._kept.connection is not None:
            self._kept.connection.close()
            self._kept.connection = None

    # Users

    def users(self, *, usage: bool = False, host: str | None = None) -> list[User]:
        """Return all users by port; with ``usage`` also their memory and CPU, which takes longer.

        In a fleet these are the users of all hosts, or of the one named ``host``: ``self`` is the one that is asked.
        """
        query = ({"usage": "true"} if usage else {}) | ({} if host is None else {"host": host})
        document = self._get("/v1/users", query or None)
        return [User.of(user) for user in _parts(document.get("users"))]

    def status(self, user: str | int) -> User:
        """Return a user with memory and CPU. Raises UnknownUser."""
        return User.of(self._get(_path(user)))

    def ensure(
        self,
        user: str | int,
        wait: str = "listening",
        timeout: float | None = None,
        **options: Any,
    ) -> User:
        """Give the user a port and a running server, and return when it is as far as ``wait`` says.

        ``wait``: ``none``, ``listening`` (it answers), ``qr`` (there is a code, or a phone is linked already) or
        ``ready``. ``timeout`` seconds at most. ``options``: ``webhook_url``, ``webhook_secret``, ``webhook_events``,
        ``ignore``, ``default_country``, ``send_rate``, ``memory_max``, ``autostart``, ``engine``, ``proxy``; other
        options stay as they are. Raises ServerFailed with the cause, NotInTime, NoRoom.
        """
        return self._bring_up("PUT", _path(user), wait, timeout, options)

    def set_options(self, user: str | int, **options: Any) -> User:
        """Change options of a user who has a port, as in `ensure`; this starts no server. Raises UnknownUser."""
        answer = self.request("PATCH", _path(user), body=options, timeout=_CHANGE_TIMEOUT_S)
        return User.of(answer.json())

    def start(self, user: str | int, wait: str = "listening", timeout: float | None = None) -> User:
        """As `ensure`, for a user who has a port already. Raises UnknownUser, too."""
        return self._bring_up("POST", _path(user, "start"), wait, timeout, {})

    def stop(self, user: str | int) -> User:
        """Stop the user's server and keep its login."""
        return User.of(self._post(_path(user, "stop"), timeout=_CHANGE_TIMEOUT_S))

    def restart(self, user: str | int) -> User:
        """Restart the user's server; requests on its port wait meanwhile."""
        return User.of(self._post(_path(user, "restart"), timeout=_CHANGE_TIMEOUT_S, repeatable=False))

    def logout(self, user: str | int) -> User:
        """Unlink the phone and delete the session; the port stays the user's."""
        return User.of(self._post(_path(user, "logout"), timeout=_CHANGE_TIMEOUT_S))

    def move(self, user: str | int, port: int | None = None, host: str | None = None) -> User:
        """Give the user another port, with the login; without ``port`` one that waportd chooses.

        With ``host`` the user goes to that host of the fleet, with the port. The user is on the way when this returns:
        `user` and `events` show when the user is there. Raises UnknownUser, Conflict: that port is not available, or the
        host takes nobody.
        """
        wish = {"port": port, "host": host}
        body = {name: value for name, value in wish.items() if value is not None}
        return User.of(self._post(_path(user, "move"), body, timeout=_CHANGE_TIMEOUT_S, repeatable=False))

    def delete(self, user: str | int) -> None:
        """Stop the server, delete the session, free the port. Raises UnknownUser."""
        self.request("DELETE", _path(user), timeout=_CHANGE_TIMEOUT_S)

    # Linking a phone

    def qr(
        self, user: str | int, timeout: float = 0.0, known: QR | None = None, *, wait: float | None = None
    ) -> QR:
        """Return the code to scan, or why there is none; ensures that the user has a server.

        With ``timeout`` the answer is held for up to that many seconds (60 at most), until it differs from ``known``,
        or from the one at the time of the call. Where nothing changed, it returns ``known`` itself.
        ``wait`` is the former name of ``timeout``.
        """
        timeout = _renamed(timeout, wait)
        query = {"timeout": f"{timeout:g}"} if timeout else None
        headers = {"If-None-Match": known.etag} if known is not None and known.etag else {}
        answer = self.request(
            "GET", _path(user, "qr"), query=query, headers=headers, timeout=self.timeout + timeout
        )
        if answer.status == 304 and known is not None:  # noqa: PLR2004
            return known
        return QR.of(answer.json(), answer.headers["ETag"])

    def picture(self, user: str | int, format: str = "svg") -> Answer:  # noqa: A002  # the API's name
        """Return the code as a picture: ``svg``, ``png``, ``txt`` or ``dataurl``. Raises Conflict: there is none."""
        return self.request("GET", _path(user, "qr"), query={"format": format})

    def pairing_code(self, user: str | int, phone: str) -> PairingCode:
        """Return a code to type on the phone of that number. Raises BadRequest, Conflict (already linked), NoRoom."""
        document = self._post(_path(user, "pairing-code"), {"phone": phone}, timeout=150.0)
        return PairingCode._of(document, expires_at=_time(document.get("expires_at")))  # noqa: SLF001

    def end_pairing(self, user: str | int) -> None:
        """Show codes to scan again in place of a pairing code, unless a phone has answered. Raises NotFound."""
        self.request("DELETE", _path(user, "pairing-code"))

    def passkey(self, user: str | int) -> Passkey:
        """Return WhatsApp's current passkey request. Raises Conflict: there is none (``no_passkey_request``)."""
        return Passkey.of(self._get(_path(user, "passkey")))

    def give_passkey(self, user: str | int, credential: Mapping[str, Any]) -> Passkey:
        """Submit what a browser has signed with the account's passkey; return the next request.

        ``credential`` is what ``PublicKeyCredential.toJSON()`` gives. Raises BadRequest (``code`` says why it is not
        valid; another one may follow), Conflict (none is wanted, or there is one), NoRoom (too many within a minute).
        """
        path = _path(user, "passkey")
        return Passkey.of(self._post(path, dict(credential), timeout=_PASSKEY_TIMEOUT_S, repeatable=False))

    def confirm_passkey(self, user: str | int, code: str) -> Passkey:
        """Confirm that the phone shows this code, too, once a person has compared them. Raises Conflict, NoRoom."""
        path = _path(user, "passkey", "confirm")
        return Passkey.of(self._post(path, {"code": code}, timeout=_PASSKEY_TIMEOUT_S, repeatable=False))

    def cancel_passkey(self, user: str | int) -> None:
        """Cancel the passkey request, and go back to codes to scan. Raises Conflict: there is none."""
        self.request("DELETE", _path(user, "passkey"), timeout=_PASSKEY_TIMEOUT_S, repeatable=False)

    def connect_link(self, user: str | int, ttl: int = 600, return_to: str | None = None) -> ConnectLink:
        """Return a link to the connect page of that user, which is valid for ``ttl`` seconds.

        ``return_to`` is where "Back to the app" on the page leads; `api.frame_ancestors` has to name its origin. Raises
        BadRequest where it does not.
        """
        body = {"ttl": ttl} if return_to is None else {"ttl": ttl, "return_to": return_to}
        document = self._post(_path(user, "connect-link"), body)
        return ConnectLink._of(document, expires_at=_time(document.get("expires_at")))  # noqa: SLF001

    # Streams

    def events(
        self, user: str | int | None = None, last_event_id: str | None = None
    ) -> Generator[Event, None, None]:
        """Yield what happens to a user, or to all: first the current state, then every change.

        Listening starts no server and asks for no code; `qr` and `ensure` do. Survives a restart of waportd, and
        resumes where it was. Ends when the user is deleted. Raises WaportdUnavailable when waportd is gone for half
        a minute.
        """
        path = "/v1/events" if user is None else _path(user, "events")
        for event, identifier, document in self._stream(path, None, last_event_id):
            yield Event.of(event, identifier, document)
            if event == "deleted" and user is not None:
                return

    def logs(self, user: str | int, lines: int = 100, level: str | None = None) -> list[LogLine]:
        """Return the last lines of the journal of a user's server, the newest last.

        ``level`` is ``error`` for errors only, ``warning`` for these and warnings.
        """
        document = self._get(_path(user, "logs"), _query(lines=lines, level=level))
        return [_log_line(line) for line in _parts(document.get("lines"))]

    def follow_logs(
        self, user: str | int, lines: int = 10, level: str | None = None
    ) -> Generator[LogLine, None, None]:
        """Yield the last lines of the journal of a user's server, and then each new one; ``level`` as in `logs`."""
        query = _query(lines=lines, level=level, follow="true")
        for event, _, document in self._stream(_path(user, "logs"), query, None):
            if event == "log":
                yield _log_line(document)

    # Messages

    def messages(
        self,
        user: str | int,
        after: str | None = None,
        *,
        timeout: int = 0,
        limit: int = 100,
        events: Sequence[str] | None = None,
        chat: str | None = None,
        state: str | None = None,
        wait: int | None = None,
    ) -> Messages:
        """Return sent and received messages, the oldest first, ``after`` a cursor; reading removes nothing.

        Where there is nothing, it waits for something, ``timeout`` seconds (60 at most). ``events`` says which events
        to return, ``chat`` of which chat; ``state`` is ``pending`` for those that still wait for the webhook,
        ``undelivered`` for undelivered ones, and excludes ``timeout``, whose former name is ``wait``.
        Raises CursorGone, ServerFailed, Conflict (no phone is linked).
        """
        timeout = _renamed(timeout, wait)
        query = _query(
            after=after,
            timeout=timeout or None,
            limit=limit,
            events=events and ",".join(events),
            chat=chat,
            state=state,
        )
        answer = self.request(
            "GET", _path(user, "messages"), query=query, timeout=max(self.timeout, _ASK_TIMEOUT_S) + timeout
        )
        document = answer.json()
        return Messages._of(  # noqa: SLF001
            document, messages=tuple(Message.of(each) for each in _parts(document.get("messages")))
        )

    def follow_messages(
        self, user: str | int, after: str | None = None, *, events: Sequence[str] | None = None
    ) -> Generator[Message, None, None]:
        """Yield sent and received messages, after a cursor, for ever; after an interruption it continues where it was.

        An event ``reset`` says that the journal begins later than that. Raises what `messages` raises, and
        WaportdUnavailable when waportd is gone for half a minute.
        """
        query = _query(events=events and ",".join(events))
        for event, cursor, document in self._stream(_path(user, "messages"), query, after):
            yield Message.of({"event": event, "cursor": cursor or "", **document})

    def send(
        self,
        user: str | int,
        to: str,
        text: str | None = None,
        *,
        file: str | os.PathLike[str] | BinaryIO | None = None,
        kind: str | None = None,
        name: str | None = None,
        key: str | None = None,
        **more: Any,
    ) -> Outcome:
        """Send a text, a file with ``text`` as its caption, or whatever ``more`` names (``location=…``, ``poll=…``).

        ``to`` is a phone number or the id of a chat. ``kind`` is image, video, document, audio, voice or sticker;
        by default what fits the name of the file. ``key`` is the idempotency key: a call with the same one joins the
        first, for a day. There always is one, so that a broken call can be sent again without a second message.
        ``more`` may also be ``quote``, ``mentions``, ``link_preview``. Raises BadRequest, Conflict, NoRoom,
        ServerFailed, and PerhapsSent.
        """
        message: dict[str, Any] = {"to": to, **more}
        headers = {"Idempotency-Key": key or os.urandom(16).hex()}
        path = _path(user, "messages")
        if file is None:
            if text is not None:
                message["text"] = text
            answer = self.request(
                "POST", path, body=message, headers=headers, timeout=_SEND_TIMEOUT_S, repeatable=True
            )
            return Outcome._of(answer.json())  # noqa: SLF001
        with contextlib.ExitStack() as stack:
            stream = (
                stack.enter_context(open(file, "rb"))  # noqa: PTH123  # a path or whatever names a file
                if isinstance(file, (str, os.PathLike))
                else file
            )
            name = name or os.path.basename(str(getattr(stream, "name", ""))) or "file"  # noqa: PTH119
            upload = _Upload(stream, name, kind, message, text)
            headers.update({"Content-Type": upload.content_type, "Content-Length": str(upload.size)})
            answer = self.request(
                "POST", path, body=upload, headers=headers, timeout=_SEND_TIMEOUT_S, repeatable=True
            )
        return Outcome._of(answer.json())  # noqa: SLF001

    def redeliver(self, user: str | int, cursor: str | None = None) -> int:
        """Send undelivered messages to the webhook again: one, or all; return how many."""
        body: dict[str, Any] = {"all": True} if cursor is None else {"cursor": cursor}
        document = self._post(_path(user, "messages/redeliver"), body, timeout=_ASK_TIMEOUT_S)
        return _count(document, "redelivered")

    def outcome(self, user: str | int, message: str) -> Outcome:
        """Return how far a message of the user's own has come."""
        return Outcome._of(self._ask("GET", _path(user, "messages", message)))  # noqa: SLF001

    def edit(self, user: str | int, message: str, text: str) -> None:
        """Replace the text of a message."""
        self._ask("PATCH", _path(user, "messages", message), {"text": text})

    def delete_message(self, user: str | int, message: str, *, for_all: bool = True) -> None:
        """Delete a message, for everyone or only for the user."""
        self._ask("DELETE", f"{_path(user, 'messages', message)}?for={'all' if for_all else 'me'}")

    def react(self, user: str | int, message: str, reaction: str) -> None:
        """React to a message with an emoji; an empty text removes the reaction."""
        self._ask("POST", _path(user, "messages", message, "reaction"), {"reaction": reaction})

    def forward(self, user: str | int, message: str, to: str, *, key: str | None = None) -> Outcome:
        """Forward a message to another chat. ``key`` and what it raises are as for ``send``."""
        path = _path(user, "messages", message, "forward")
        headers = {"Idempotency-Key": key or os.urandom(16).hex()}
        answer = self.request(
            "POST", path, body={"to": to}, headers=headers, timeout=_SEND_TIMEOUT_S, repeatable=True
        )
        return Outcome._of(answer.json())  # noqa: SLF001

    def signal(self, user: str | int, chat: str, what: str, *, on: bool = True) -> None:
        """Show the other side that the user is ``typing`` or ``recording`` (or has stopped), or has ``seen`` it all."""
        self._ask("POST", _path(user, "chats", chat, what), None if what == "seen" else {"on": on})

    def number(self, user: str | int, number: str) -> Number:
        """Return whether a phone number, as people write it, is on WhatsApp."""
        return Number._of(self._ask("GET", _path(user, "numbers", number)))  # noqa: SLF001

    def chats(self, user: str | int, limit: int | None = None, offset: int = 0) -> Mapping[str, Any]:
        """Return ``chats``, the newest first, and ``total``, as the API has them."""
        return self._ask("GET", _path(user, "chats"), query=_query(limit=limit, offset=offset or None))

    def chat(self, user: str | int, chat: str) -> Mapping[str, Any]:
        """Return one chat. Raises NotFound."""
        return self._ask("GET", _path(user, "chats", chat))

    def history(
        self, user: str | int, chat: str, limit: int = 100, before: str | None = None
    ) -> Mapping[str, Any]:
        """Return ``messages`` of a chat, the oldest first, and ``nextCursor``, to continue ``before`` it."""
        return self._ask(
            "GET", _path(user, "chats", chat, "messages"), query=_query(limit=limit, before=before)
        )

    def ask_for_earlier(self, user: str | int, chat: str) -> Mapping[str, Any]:
        """Ask the phone for older messages of a chat."""
        return self._ask("POST", _path(user, "chats", chat, "earlier"))

    def contacts(self, user: str | int, limit: int | None = None, offset: int = 0) -> Mapping[str, Any]:
        """Return contacts, as the API has them."""
        return self._ask("GET", _path(user, "contacts"), query=_query(limit=limit, offset=offset or None))

    def contact(self, user: str | int, contact: str) -> Mapping[str, Any]:
        """Return one contact. Raises NotFound."""
        return self._ask("GET", _path(user, "contacts", contact))

    def groups(self, user: str | int, limit: int | None = None, offset: int = 0) -> Mapping[str, Any]:
        """Return groups, as the API has them."""
        return self._ask("GET", _path(user, "groups"), query=_query(limit=limit, offset=offset or None))

    def group(self, user: str | int, group: str) -> Mapping[str, Any]:
        """Return one group and its members. Raises NotFound."""
        return self._ask("GET", _path(user, "groups", group))

    def create_group(self, user: str | int, subject: str, participants: Sequence[str]) -> Mapping[str, Any]:
        """Create a group of these people."""
        return self._ask(
            "POST", _path(user, "groups"), {"subject": subject, "participants": list(participants)}
        )

    def change_participants(
        self, user: str | int, group: str, action: str, participants: Sequence[str]
    ) -> Mapping[str, Any]:
        """``add``, ``remove``, ``promote`` or ``demote`` people of a group; return the outcome for each."""
        body = {"action": action, "participants": list(participants)}
        return self._ask("POST", _path(user, "groups", group, "participants"), body)

    def change_group(
        self, user: str | int, group: str, *, subject: str | None = None, description: str | None = None
    ) -> None:
        """Change the name or description of a group."""
        self._ask("PATCH", _path(user, "groups", group), _query(subject=subject, description=description))

    def leave_group(self, user: str | int, group: str) -> None:
        """Leave a group."""
        self._ask("DELETE", _path(user, "groups", group))

    def media(self, user: str | int, message: str, into: BinaryIO) -> Media:
        """Write the picture, video or file of a message into an open file, piece by piece. Raises NotFound."""
        size, failure = 0, None
        with self._opened(_path(user, "media", message), {"Accept": "*/*"}, _SEND_TIMEOUT_S) as response:
            while piece := response.read(_PIECE_BYTES):
                try:
                    into.write(piece)
                except OSError as error:
                    failure = error  # of the caller's file, not of the connection
                    break
                size += len(piece)
            if response.length and failure is None:
                raise http.client.IncompleteRead(b"", response.length)
            head = email.message.Message()
            head["Content-Disposition"] = response.headers.get("Content-Disposition", "attachment")
            kind = response.headers.get("Content-Type", "application/octet-stream")
        if failure is not None:
            raise failure
        return Media(dict(response.headers), kind, head.get_filename(), size)

    # The rest

    def port(self, user: str | int) -> int:
        """Return the user's port; assign one where there is none. The server starts with the first request to it."""
        document = self._get("/api/port", {"user_id": str(user)})
        if not document.get("success"):
            # The front end's own shape reports errors in answers with status 200.
            raise _api_error(200, document, None)
        return _count(document, "port")

    def port_info(self, port: int) -> Port:
        """Return the owner of a port, and who listens on it."""
        document = self._get(f"/v1/ports/{int(port)}")
        return Port._of(  # noqa: SLF001
            document,
            holders=tuple(Holder._of(holder) for holder in _parts(document.get("holders"))),  # noqa: SLF001
        )

    def health(self) -> Health:
        """Return the daemon's version and how many users and servers there are."""
        return Health.of(self._get("/v1/health"))

    def host(self) -> Host:
        """Return memory and load of the host, and how many more sessions fit."""
        document = self._get("/v1/host")
        memory = _part(document.get("memory"))
        return Host._of(  # noqa: SLF001
            document,
            load=tuple(_list(document.get("load"))),
            memory_total=memory.get("total", 0),
            memory_available=memory.get("available", 0),
        )

    def hosts(self) -> list[FleetHost]:
        """Return the hosts of the fleet, by name; none where the daemon belongs to no fleet."""
        return [_fleet_host(host) for host in _parts(self._get("/v1/hosts").get("hosts"))]

    def drain(self, host: str) -> FleetHost:
        """Have a host of the fleet give its users to the others, and take no new ones.

        `hosts` shows how many are left, and who is stuck. Raises ApiError ``unknown_host``, ``host_silent``.
        """
        return self._change_host(host, "drain")

    def activate(self, host: str) -> FleetHost:
        """Have a host of the fleet take users again."""
        return self._change_host(host, "activate")

    def evict(self, host: str) -> FleetHost:
        """Remove a host of the fleet that is off, and stays off. Raises Conflict where it is alive."""
        return self._change_host(host, "evict")

    def _change_host(self, host: str, verb: str) -> FleetHost:
        return _fleet_host(self._post(f"/v1/hosts/{urllib.parse.quote(host, safe='')}/{verb}"))

    def last_hours(self, hours: int = 24) -> LastHours:
        """Return how users, memory, processor and messages were in the last hours, minute by minute: 24 hours at most."""
        return LastHours.of(self._get("/v1/history", {"hours": hours}))

    def changes(
        self, user: str | int | None = None, *, since: int = 7 * 86_400, limit: int = 100
    ) -> list[Change]:
        """Return who changed what through the API, the oldest first: the newest ``limit`` (1000 at most).

        ``user`` limits it to one user's changes, ``since`` says how many seconds to look back. Raises ApiError
        ``journal_unavailable`` where waportd cannot read the journal: that is never an empty list.
        """
        query = {"since": since, "limit": limit} | ({} if user is None else {"user": user})
        return [
            Change._of(change, time=_time(change.get("time")))  # noqa: SLF001
            for change in _parts(self._get("/v1/audit", query).get("changes"))
        ]

    def tokens(self) -> list[Token]:
        """Return the tokens for the API over TCP, without the secrets."""
        return [Token.of(token) for token in _parts(self._get("/v1/tokens").get("tokens"))]

    def caller(self) -> Caller:
        """Return who waportd takes this client for, and what that allows."""
        return Caller._of(self._get("/v1/caller"))  # noqa: SLF001

    def create_token(self, name: str, scope: str = "admin", ttl: int | None = None) -> Token:
        """Create a token for the API over TCP. Only this answer holds the secret.

        ``scope`` is ``admin``, ``user:<user>``, ``read`` (all documents, no codes and no changes) or ``metrics``. It
        expires after ``ttl`` seconds, if given.
        """
        wish: dict[str, Any] = {"name": name, "scope": scope}
        if ttl is not None:
            wish["ttl"] = ttl
        return Token.of(self._post("/v1/tokens", wish, repeatable=False))

    def revoke_links(self) -> None:
        """Revoke all connect links, of all users."""
        self.request("DELETE", "/v1/connect-links")

    def revoke_token(self, identifier: str) -> None:
        """Revoke a token of the API."""
        self.request("DELETE", f"/v1/tokens/{urllib.parse.quote(identifier, safe='')}")

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        repeatable: bool | None = None,
    ) -> Answer:
        """Call the API and return the unchanged answer. Raises ApiError for a status of 400 and more.

        ``body`` is sent as JSON. ``repeatable``: sending it twice means the same as once (default: unless POST).
        """
        if query:
            path = f"{path}?{urllib.parse.urlencode(query)}"
        sent = {**self._headers, **headers} if headers else dict(self._headers)
        data: bytes | _Upload | None = None
        if isinstance(body, _Upload):
            data = body
        elif body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        if repeatable is None:
            repeatable = method != "POST"
        patience = self.pace
        while True:
            answer = self._exchange(method, path, data, sent, timeout or self.timeout, repeatable=repeatable)
            if answer.status < 400:  # noqa: PLR2004
                return answer
            error = _api_error(answer.status, _problem(answer.body), answer.headers["Retry-After"])
            wait = error.retry_after
            if error.cause != "too_many_changes" or wait is None or wait > patience:
                raise error
            # It was refused before anything was done, so any call may be sent again.
            patience -= wait
            self._wait(wait)

    # How it is done

    def _wait(self, seconds: float) -> None:
        """Wait until this caller may change something again."""
        log.warning("waportd accepts no more changes from this caller for %g s; waiting", seconds)
        time.sleep(seconds)

    def _ask(
        self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Make a call that is passed on to the user's server. One that changes something is sent once."""
        answer = self.request(
            method,
            path,
            body=body,
            query=query,
            timeout=_ASK_TIMEOUT_S if method == "GET" else _SEND_TIMEOUT_S,
            repeatable=method == "GET",
        )
        document: Mapping[str, Any] = answer.json() if answer.body else {}
        return document

    def _get(self, path: str, query: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        document: Mapping[str, Any] = self.request("GET", path, query=query).json()
        return document

    def _post(
        self, path: str, body: Any = None, *, timeout: float | None = None, repeatable: bool = True
    ) -> Mapping[str, Any]:
        answer = self.request("POST", path, body=body, timeout=timeout, repeatable=repeatable)
        document: Mapping[str, Any] = answer.json()
        return document

    def _bring_up(
        self, method: str, path: str, wait: str, timeout: float | None, options: Mapping[str, Any]
    ) -> User:
        query: dict[str, str] = {}
        if wait != "listening":
            query["wait"] = wait
        if timeout is not None:
            query["timeout"] = f"{timeout:g}"
        patience = _PATIENCE_S.get(wait, 0.0) if timeout is None else timeout
        answer = self.request(
            method,
            path,
            query=query,
            body=options or None,
            timeout=patience + self.timeout,
            repeatable=True,
        )
        return User.of(answer.json())

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | _Upload | None,
        headers: dict[str, str],
        timeout: float,
        *,
        repeatable: bool,
    ) -> Answer:
        kept = self._kept
        connection = kept.connection
        if connection is not None and (kept.pid != os.getpid() or _is_closed(connection)):
            # After a fork it belongs to the parent. Nothing has been sent, so any call may use a fresh one.
            connection.close()
            connection = kept.connection = None
        if connection is not None:
            try:
                return self._send(connection, method, path, body, headers, timeout)
            except _NoAnswer:
                kept.connection = None
                if not repeatable:
                    raise self._lost() from None
        connection = self._open(timeout)
        try:
            answer = self._send(connection, method, path, body, headers, timeout)
        except _NoAnswer:
            raise self._lost() from None
        if connection.sock is not None:
            kept.connection, kept.pid = connection, os.getpid()
        return answer

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | _Upload | None,
        headers: dict[str, str],
        timeout: float,
    ) -> Answer:
        complete = False
        response: http.client.HTTPResponse | None = None
        try:
            connection.sock.settimeout(timeout)
            try:
                _put(connection, method, path, body, headers)
                response = connection.getresponse()
            except ConnectionError as error:
                raise _NoAnswer from error
            content = response.read()
            complete = True
        except sockets.timeout:
            raise WaportdUnavailable(
                "timeout",
                f"waportd has not answered {method} {path.partition('?')[0]} in {timeout:g} s",
                "see `systemctl status waportd`",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise WaportdUnavailable(
                "connection_lost", f"the answer of waportd cannot be read: {error or type(error).__name__}"
            ) from error
        finally:
            if not complete:
                if response is not None:
                    response.close()
                connection.close()
                self._kept.connection = None
        if connection.sock is None:
            self._kept.connection = None
        content_type = response.headers.get("Content-Type", "application/octet-stream")
        return Answer(response.status, content_type, content, response.headers)

    def _open(self, timeout: float) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        wait = min(timeout, self.timeout)
        if self.socket is not None:
            connection = UnixConnection(self.socket, wait)
        else:
            kind = _TlsConnection if self._address.scheme == "https" else _Connection
            connection = kind(self._address.hostname or "", self._address.port, timeout=wait)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise self._unavailable(error) from error
        return connection

    def _stream(
        self, path: str, query: Mapping[str, Any] | None, last_event_id: str | None
    ) -> Iterator[tuple[str, str | None, Mapping[str, Any]]]:
        lost_at: float | None = None
        pause = 2.0
        while True:
            try:
                with self._opened_stream(path, query, last_event_id) as response:
                    lost_at = None
                    for event, identifier, data, retry in _parse_stream(response):
                        pause = retry or pause
                        last_event_id = identifier or last_event_id
                        if data:
                            yield event, identifier, _document(data)
            except ApiError as error:
                # A server that restarts is away for a moment.
                returns = lost_at is not None and error.status in {502, 503}
                if error.code != "restarting" and not (
                    returns and lost_at is not None and time.monotonic() - lost_at < RECONNECT_S
                ):
                    raise
            except WaportdUnavailable as error:
                if lost_at is None and error.reason != "connection_lost":
                    raise  # it never was there
                if lost_at is not None and time.monotonic() - lost_at > RECONNECT_S:
                    raise
            lost_at = time.monotonic() if lost_at is None else lost_at
            time.sleep(pause)

    @contextlib.contextmanager
    def _opened_stream(
        self, path: str, query: Mapping[str, Any] | None, last_event_id: str | None
    ) -> Iterator[http.client.HTTPResponse]:
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        target = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        with self._opened(target, headers, _SILENCE_S) as response:
            yield response

    @contextlib.contextmanager
    def _opened(
        self, target: str, headers: Mapping[str, str], silence: float
    ) -> Iterator[http.client.HTTPResponse]:
        """Open an answer that is read as it comes, on a connection of its own."""
        connection = self._open(self.timeout)
        try:
            connection.sock.settimeout(silence)
            connection.request("GET", target, headers={**self._headers, **headers})
            # Where the body ends with the connection, that is closed already.
            with contextlib.closing(connection.getresponse()) as response:
                if response.status != 200:  # noqa: PLR2004
                    problem = _problem(response.read())
                    raise _api_error(response.status, problem, response.headers["Retry-After"])
                yield response
        except (OSError, http.client.HTTPException) as error:
            raise self._lost() from error
        finally:
            connection.close()

    def _lost(self) -> WaportdUnavailable:
        return WaportdUnavailable(
            "connection_lost",
            f"waportd at {self.socket or self.url} closed the connection without an answer",
            "see `journalctl -u waportd`",
        )

    def _unavailable(self, error: OSError) -> WaportdUnavailable:
        place = self.socket or self.url
        if isinstance(error, sockets.timeout):
            return WaportdUnavailable(
                "timeout", f"{place} accepts no connection", "see `systemctl status waportd`"
            )
        if self.socket is None:
            reason = "refused" if isinstance(error, ConnectionRefusedError) else "unreachable"
            return WaportdUnavailable(
                reason,
                f"{place} cannot be reached: {error.strerror or error}",
                "is api.listen set in waportd?",
            )
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return WaportdUnavailable(
                "no_socket",
                f"there is no socket {place}",
                "start waportd (`systemctl start waportd.socket`), or name its api.socket",
            )
        if isinstance(error, PermissionError):
            name = _account()
            return WaportdUnavailable(
                "permission_denied",
                f"user {name} may not open {place}",
                f"add the user to group waportd (`usermod --append --groups waportd {name}`), then log in again, or "
                "restart the service",
            )
        if isinstance(error, ConnectionRefusedError):
            return WaportdUnavailable(
                "refused", f"nobody listens on {place}", "start waportd (`systemctl start waportd.socket`)"
            )
        return WaportdUnavailable("unreachable", f"{place} cannot be opened: {error.strerror or error}")


def _path(user: str | int, action: str = "", *parts: str) -> str:
    path = f"/v1/users/{urllib.parse.quote(str(user), safe='')}"
    rest = (urllib.parse.quote(part, safe="") for part in parts)
    return "/".join((path, *((action,) if action else ()), *rest))


def _renamed(timeout: _N, wait: _N | None) -> _N:
    """Return the seconds to wait, which were called ``wait`` in the previous release."""
    if wait is None:
        return timeout
    if timeout:
        raise TypeError("timeout and wait are both given: leave wait out")
    warnings.warn("say timeout, not wait, for the seconds to wait", DeprecationWarning, stacklevel=3)
    return wait


def _query(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _put(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | _Upload | None,
    headers: dict[str, str],
) -> None:
    """Send a request. An answer that comes before the whole file is sent counts."""
    if not isinstance(body, _Upload):
        connection.request(method, path, body, headers)
        return
    connection.putrequest(method, path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    try:
        for piece in body.pieces():
            connection.send(piece)
    except (BrokenPipeError, ConnectionResetError):
        if not select.select([connection.sock], [], [], 0)[0]:
            raise


class _Upload:
    """A file in the form of multipart/form-data (RFC 7578), read as it is sent."""

    def __init__(
        self, file: BinaryIO, name: str, kind: str | None, message: dict[str, Any], text: str | None
    ) -> None:
        """``text`` is its caption; raises ValueError for a file of unknown size."""
        import mimetypes  # noqa: PLC0415  # few callers send files, and it takes its time

        type_ = mimetypes.guess_type(name)[0] or "application/octet-stream"
        family = type_.partition("/")[0]
        kind = kind or (family if family in {"image", "video", "audio"} else "document")
        if text is not None:
            message[kind] = {**message.get(kind, {}), "caption": text}
        boundary = os.urandom(16).hex()
        safe = urllib.parse.quote(name, safe=" !#$&'()+,-.;=@[]^_`{}~", encoding="utf-8")
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="message"\r\n'
            f"Content-Type: application/json\r\n\r\n{json.dumps(message)}\r\n"
            f'--{boundary}\r\nContent-Disposition: form-data; name="{kind}"; filename="{safe}"\r\n'
            f"Content-Type: {type_}\r\n\r\n"
        )
        self._head, self._tail = head.encode(), f"\r\n--{boundary}--\r\n".encode()
        self.content_type = f"multipart/form-data; boundary={boundary}"
        if not file.seekable():
            raise ValueError("the size of the file is not known beforehand: a pipe cannot be sent")
        self._file, self._start = file, file.seek(0, os.SEEK_CUR)
        self._length = file.seek(0, os.SEEK_END) - self._start
        self.size = len(self._head) + self._length + len(self._tail)

    def pieces(self) -> Iterator[bytes]:
        """Yield it from its beginning. Raises OSError for a file that shrinks meanwhile."""
        self._file.seek(self._start)
        left = self._length
        yield self._head
        while left:
            piece = self._file.read(min(left, _PIECE_BYTES))
            if not piece:
                raise OSError("the file became shorter while it was sent")
            left -= len(piece)
            yield piece
        yield self._tail


def _problem(body: bytes) -> Mapping[str, Any]:
    try:
        return _document(body)
    except WaportdUnavailable:
        return {}


def _fleet_host(document: Mapping[str, Any]) -> FleetHost:
    stuck = {one.get("user", ""): one.get("message", "") for one in _parts(document.get("stuck"))}
    return FleetHost._of(document, stuck=stuck)  # noqa: SLF001


def _log_line(document: Mapping[str, Any]) -> LogLine:
    return LogLine._of(document, time=_time(document.get("time")))  # noqa: SLF001


def _is_closed(connection: http.client.HTTPConnection) -> bool:
    """Return whether the other side has closed a connection on which no answer is due."""
    if connection.sock is None:
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _parse_stream(
    response: http.client.HTTPResponse,
) -> Iterator[tuple[str, str | None, str, float | None]]:
    """Yield name, id, data and retry of each event, as the HTML standard reads server-sent events."""
    event, identifier, retry = "message", None, None
    data: list[str] = []
    size = 0
    while read := response.readline(MOST_EVENT_BYTES):
        size += len(read)
        if size >= MOST_EVENT_BYTES:
            raise _bad_answer("an event of it has no end")
        line = read.decode("utf-8", "replace").rstrip("\r\n")
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            yield event, identifier, "\n".join(data), retry
            event, identifier, retry = "message", None, None
            data.clear()
            size = 0
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id" and value.isascii() and value.isprintable():
            identifier = value  # what is sent back as a header
        elif name == "retry" and (wait := _whole(value)) is not None:
            retry = min(wait / 1000, RECONNECT_S)


def _account() -> str:
    try:
        import pwd  # noqa: PLC0415  # for an error's text only

        return pwd.getpwuid(os.geteuid()).pw_name
    except (ImportError, KeyError):
        return str(os.geteuid())


# What was in this file until 0.1, and is accepted here for one release


_IN_COMPAT = frozenset(
    {
        "AmbiguousPort",
        "UserPort",
        "ensure_whatsapp_server_running",
        "get_whatsapp_server_url",
        "port_for",
        "use",
    }
)

if not TYPE_CHECKING:  # or wrong names would go unnoticed

    def __getattr__(name: str) -> Any:
        if name not in _IN_COMPAT:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if __name__ != "waportd.client":  # a copy, whose classes differ from those of another copy
            raise ImportError(
                f"{name} is in waportd/compat.py now: copy both files, as docs/integration.md says"
            )
        warnings.warn(f"import {name} from waportd.compat", DeprecationWarning, stacklevel=2)
        from waportd import compat  # noqa: PLC0415  # it imports this file

        return getattr(compat, name)
