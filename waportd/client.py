"""waportd for Python programs: this one file, which needs Python 3.9 or newer and nothing else.

    from waportd.client import Client

    waportd = Client()
    waportd.ensure("2")                  # user 2 has a running server when this returns
    code = waportd.qr("2")               # at once, from memory
    if code.ready: ...                   # a phone is linked
    elif code.qr: ...                    # the text to draw as a QR code
    code = waportd.qr("2", wait=25, known=code)  # as soon as there is another one

Whoever may open the socket may call: put the program's user into group ``waportd``. What goes wrong is a
`WaportdUnavailable` (nobody answers; it says why) or an `ApiError` (waportd answered, and says what and why).
Results are frozen dataclasses; members that a newer waportd adds are in their ``raw``.

At the end are drop-ins for a front end that thinks in ports: `ensure_whatsapp_server_running`,
`get_whatsapp_server_url` and `port_for`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import json
import logging
import os
import select
import socket as sockets
import threading
import time
import urllib.parse
from collections.abc import Generator, Iterator, Mapping  # noqa: TC003  # for readers of annotations, too
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

log = logging.getLogger("waportd.client")

SOCKET = "/run/waportd/api.sock"
"""Where a packaged waportd answers."""

_TIMEOUT = 10.0
"""Seconds for an answer that waits for nothing; it takes a millisecond."""
_CHANGE_TIMEOUT = 90.0
"""Seconds for a change: a logout may first have to get the session connected, which is given half of it."""
_PATIENCE = {"none": 0.0, "listening": 30.0, "qr": 90.0, "ready": 180.0}
"""Seconds that waportd waits for a server unless told otherwise."""
_SILENCE = 45.0
"""Seconds without a sign of life after which a stream is taken for dead: heartbeats come every 15."""
_RECONNECT = 30.0
"""Seconds that a broken stream is given to come back: a restart of waportd takes one or two."""


# What goes wrong


class WaportdClientError(Exception):
    """Base of all that calls raise. ``hint`` is the way out, where there is one."""

    hint: str | None = None


class WaportdUnavailable(WaportdClientError):
    """Nobody answers. ``reason`` is for programs.

    ``no_socket``, ``permission_denied``, ``refused``, ``unreachable``, ``timeout`` or ``connection_lost``.
    After the last two it is open whether the call was carried out.
    """

    def __init__(self, reason: str, message: str, hint: str | None = None) -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.reason = reason
        self.message = message
        self.hint = hint


class ApiError(WaportdClientError):
    """waportd answered with an error. The subclasses group ``code``; unknown codes go by their status."""

    codes: ClassVar[frozenset[str]] = frozenset()
    """The codes that this class stands for."""
    statuses: ClassVar[frozenset[int]] = frozenset()
    """What else it stands for: any other code with this HTTP status."""

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
    statuses = frozenset({400, 405, 408, 413})


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
    """What was asked for does not fit the state of things: already linked, no code now, port held, no such engine."""

    codes = frozenset({"conflict", "already_linked", "no_code", "port_held", "unknown_engine"})
    statuses = frozenset({409})


class NoRoom(ApiError):
    """A limit is reached, or asked too often. ``retry_after`` says when it is worth another try."""

    codes = frozenset({"limit_reached", "ports_exhausted", "too_many_requests"})
    statuses = frozenset({429})


class ServerFailed(ApiError):
    """The user's server does not run, or gave up; ``cause`` says why and ``hint`` what mends it."""

    codes = frozenset({"server_failed"})
    statuses = frozenset({502})


class NotInTime(ApiError):
    """The server did not get as far as was asked in the time given. It goes on; ask again."""

    codes = frozenset({"timeout"})
    statuses = frozenset({504})


_KINDS: tuple[type[ApiError], ...] = (
    BadRequest,
    NotAllowed,
    UnknownUser,
    NotFound,
    Conflict,
    NoRoom,
    ServerFailed,
    NotInTime,
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
        problem.get("hint"),
        problem.get("cause"),
        float(retry_after) if retry_after and retry_after.isdigit() else None,
        problem,
    )


# What comes back


def _time(text: Any) -> dt.datetime | None:
    # Python 3.9 does not read the Z.
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


_R = TypeVar("_R", bound="_Result")


@dataclass(frozen=True)
class _Result:
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The JSON object as it came."""

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
    """stopped, starting, running, stopping, failed or crash_loop."""
    since: dt.datetime | None = None
    message: str = ""
    cause: str | None = None
    hint: str | None = None
    pid: int | None = None
    restarts: int = 0
    next_start: dt.datetime | None = None
    """When a server that ended again and again is started next."""


@dataclass(frozen=True)
class Missing(_Result):
    """A member of WhatsApp's page that a feature needs, and that the page does not have as it is needed."""

    feature: str = ""
    module: str = ""
    member: str = ""
    found: str = ""
    """What is there in its place."""


@dataclass(frozen=True)
class Upstream(_Result):
    """WhatsApp's page as a server has found it, and what talks to it."""

    build: str | None = None
    """The page's version; None until the page has told it."""
    library: str | None = None
    """The version of whatsapp-web.js that runs."""
    engine: str | None = None
    """Which of the installed ones that is: ``bundled``, or a version."""
    pinned: str | None = None
    """The file that is served in place of the site's page."""
    ok: bool = True
    """Nothing that was looked at is missing."""
    checked: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()
    shims: Mapping[str, str] = field(default_factory=dict)
    """What was done for the library in the page."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Upstream:
        """Read what the API calls upstream."""
        return cls._of(
            document,
            checked=tuple(document.get("checked") or ()),
            missing=tuple(Missing._of(each) for each in document.get("missing") or ()),  # noqa: SLF001
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

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Session:
        """Read what the API calls a session."""
        upstream = document.get("upstream")
        return cls._of(
            document, since=_time(document.get("since")), upstream=upstream and Upstream.of(upstream)
        )


@dataclass(frozen=True)
class User(_Result):
    """A user and the server that is the user's own."""

    user: str = ""
    port: int = 0
    url: str | None = None
    """The address of the server, http://localhost:<port>; None while systemd does not hold the port for it."""
    unit: str = ""
    desired: str = "running"
    """running, stopped or deleted."""
    linked: bool = False
    """A phone was linked when the server was last heard of."""
    note: str | None = None
    """Why it is not the preferred port."""
    own_webhook: bool = False
    memory_max: int | None = None
    """Bytes."""
    autostart: bool = True
    engine: str = "bundled"
    """Which version of whatsapp-web.js the server starts with next; what runs now is ``session.upstream.engine``."""
    own_engine: bool = False
    """The user's own; else it is that of the configuration."""
    created_at: dt.datetime | None = None
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
        process, session = document.get("process") or {}, document.get("session")
        return cls._of(
            document,
            created_at=_time(document.get("created_at")),
            process=Process._of(  # noqa: SLF001
                process, since=_time(process.get("since")), next_start=_time(process.get("next_start"))
            ),
            session=session and Session.of(session),
            memory=(document.get("memory") or {}).get("bytes"),
            cpu=(document.get("cpu") or {}).get("seconds"),
        )


@dataclass(frozen=True)
class QR(_Result):
    """The code to scan, or why there is none. ``qr`` is a secret: whoever scans it gets the account."""

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
    etag: str | None = field(default=None, repr=False, compare=False)

    @property
    def ready(self) -> bool:
        """A phone is linked and connected."""
        return self.status == "ready"

    @classmethod
    def of(cls, document: Mapping[str, Any], etag: str | None = None) -> QR:
        """Read what the API calls a QR."""
        return cls._of(document, expires_at=_time(document.get("expires_at")), etag=etag)


@dataclass(frozen=True)
class PairingCode(_Result):
    """What a user types on the phone in place of scanning. A secret."""

    user: str = ""
    code: str = field(default="", repr=False)
    expires_at: dt.datetime | None = None


@dataclass(frozen=True)
class Holder(_Result):
    """A process that listens on a port; what waportd may not see is None."""

    user: str | None = None
    pid: int | None = None
    command: str | None = None


@dataclass(frozen=True)
class Port(_Result):
    """A port: whom it is assigned to, and who listens on it."""

    port: int = 0
    user: str | None = None
    """Whom it is assigned to."""
    preferred_by: str | None = None
    """Who would get it by number, whoever has it."""
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
class ConnectLink(_Result):
    """A link to the connect page of one user, for that user alone. A secret until it expires."""

    url: str = field(default="", repr=False)
    path: str = field(default="", repr=False)
    expires_at: dt.datetime | None = None


@dataclass(frozen=True)
class Alarm(_Result):
    """Many users fail in the same way."""

    cause: str = ""
    """What they have in common."""
    since: dt.datetime | None = None
    users: int = 0
    """How many fail."""
    build: str | None = None
    """The version of WhatsApp's page that most of them have."""
    message: str = ""
    hint: str | None = None


@dataclass(frozen=True)
class Health(_Result):
    """The daemon, and what it looks after."""

    status: str = ""
    version: str = ""
    users: int = 0
    running: int = 0
    failed: int = 0
    unassigned_ports: tuple[int, ...] = ()
    """Ports of servers that run and belong to nobody."""
    alarm: Alarm | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Health:
        """Read what the API calls health."""
        alarm = document.get("alarm")
        return cls._of(
            document,
            unassigned_ports=tuple(document.get("unassigned_ports") or ()),
            alarm=alarm and Alarm._of(alarm, since=_time(alarm.get("since"))),  # noqa: SLF001
        )


@dataclass(frozen=True)
class Host(_Result):
    """The machine that the servers run on."""

    memory_total: int = 0
    """Bytes."""
    memory_available: int = 0
    """Bytes that could be given to programs without swapping."""
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
class Token(_Result):
    """A key to the API over TCP. ``token`` is there only in the answer that creates it."""

    id: str = ""
    name: str = ""
    scope: str = ""
    """``admin``, ``read``, ``metrics``, or ``user:<user>``."""
    created_at: dt.datetime | None = None
    last_used_at: dt.datetime | None = None
    expires_at: dt.datetime | None = None
    """When it ends by itself; None for never."""
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
class Event(_Result):
    """One thing that an event stream told: whole state, never a difference."""

    event: str = ""
    """``user``, ``qr`` and ``deleted``; of all users also ``complete`` and ``reset``; what is new to this file, too."""
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
class Answer:
    """An HTTP answer as it came, for those who pass it on."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    headers: http.client.HTTPMessage = field(repr=False)

    def json(self) -> Any:
        """Return the document in it."""
        return json.loads(self.body)


# The way there


class _Connection(http.client.HTTPConnection):
    """One that closes itself when the thread that kept it ends."""

    def __del__(self) -> None:
        self.close()


class _TlsConnection(_Connection, http.client.HTTPSConnection):
    pass


class UnixConnection(_Connection):
    """HTTP over a unix socket, for those who pass it on as it is."""

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

    A kept connection that turns out closed is replaced by a fresh one, and the call sent again where that can do
    no harm: it was not sent yet, or sending it twice means the same as once.
    """

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        url: str | None = None,
        token: str | None = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        """Set up a client; nothing is opened yet.

        ``socket`` is where waportd answers (default: ``$WAPORTD_SOCKET``, else ``/run/waportd/api.sock``). With
        ``url`` and ``token`` it is called over TCP instead, e.g. ``http://127.0.0.1:8080``. ``timeout`` is the
        number of seconds for an answer, beyond what a call is told to wait.
        """
        if url is not None and socket is not None:
            raise ValueError("give either a socket or a url")
        self.socket = None if url else os.fspath(socket or os.environ.get("WAPORTD_SOCKET") or SOCKET)
        self.url = url
        self.timeout = timeout
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

    def users(self, *, usage: bool = False) -> list[User]:
        """Return all users by port; with ``usage`` also their memory and CPU, which takes longer."""
        document = self._get("/v1/users", {"usage": "true"} if usage else None)
        return [User.of(user) for user in document["users"]]

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
        ``ready``. ``timeout`` seconds at most. ``options``: ``webhook_url``, ``memory_max``, ``autostart``,
        ``engine``; what is not named stays as it is. Raises ServerFailed with the cause, NotInTime, NoRoom.
        """
        return self._bring_up("PUT", _path(user), wait, timeout, options)

    def set_options(self, user: str | int, **options: Any) -> User:
        """Change options of a user who has a port, as `ensure` takes them; no server starts by that. Raises UnknownUser."""
        answer = self.request("PATCH", _path(user), body=options, timeout=_CHANGE_TIMEOUT)
        return User.of(answer.json())

    def start(self, user: str | int, wait: str = "listening", timeout: float | None = None) -> User:
        """As `ensure`, for a user who has a port already. Raises UnknownUser, too."""
        return self._bring_up("POST", _path(user, "start"), wait, timeout, {})

    def stop(self, user: str | int) -> User:
        """Stop the user's server and keep its login."""
        return User.of(self._post(_path(user, "stop"), timeout=_CHANGE_TIMEOUT))

    def restart(self, user: str | int) -> User:
        """Start the user's server anew; requests on its port wait meanwhile."""
        return User.of(self._post(_path(user, "restart"), timeout=_CHANGE_TIMEOUT, repeatable=False))

    def logout(self, user: str | int) -> User:
        """Unlink the phone and delete the session; the port stays the user's."""
        return User.of(self._post(_path(user, "logout"), timeout=_CHANGE_TIMEOUT))

    def delete(self, user: str | int) -> None:
        """Stop the server, delete the session, free the port. Raises UnknownUser."""
        self.request("DELETE", _path(user), timeout=_CHANGE_TIMEOUT)

    # Linking a phone

    def qr(self, user: str | int, wait: float = 0.0, known: QR | None = None) -> QR:
        """Return the code to scan, or why there is none; ensures that the user has a server.

        With ``wait`` the answer is held for so many seconds (60 at most), until it is another one than ``known``,
        or than it was at the time of the call. ``known`` itself comes back where nothing changed.
        """
        query = {"wait": f"{wait:g}"} if wait else None
        headers = {"If-None-Match": known.etag} if known is not None and known.etag else {}
        answer = self.request(
            "GET", _path(user, "qr"), query=query, headers=headers, timeout=self.timeout + wait
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

    def connect_link(self, user: str | int, ttl: int = 600) -> ConnectLink:
        """Return a link to the connect page of that user, which holds for ``ttl`` seconds."""
        document = self._post(_path(user, "connect-link"), {"ttl": ttl})
        return ConnectLink._of(document, expires_at=_time(document.get("expires_at")))  # noqa: SLF001

    # Streams

    def events(
        self, user: str | int | None = None, last_event_id: str | None = None
    ) -> Generator[Event, None, None]:
        """Yield what happens to a user, or to all: first how things are, then every change.

        Listening starts no server and asks for no code; `qr` and `ensure` do. Goes on over a restart of waportd, and resumes where it was. Ends when the user is deleted. Raises
        WaportdUnavailable when waportd is gone for half a minute.
        """
        path = "/v1/events" if user is None else _path(user, "events")
        for event, identifier, document in self._stream(path, None, last_event_id):
            yield Event.of(event, identifier, document)
            if event == "deleted" and user is not None:
                return

    def logs(self, user: str | int, lines: int = 100) -> list[LogLine]:
        """Return the last lines of the journal of a user's server, the newest last."""
        document = self._get(_path(user, "logs"), {"lines": lines})
        return [_log_line(line) for line in document["lines"]]

    def follow_logs(self, user: str | int, lines: int = 10) -> Generator[LogLine, None, None]:
        """Yield the last lines of the journal of a user's server, and then each new one."""
        for event, _, document in self._stream(_path(user, "logs"), {"lines": lines, "follow": "true"}, None):
            if event == "log":
                yield _log_line(document)

    # The rest

    def port(self, user: str | int) -> int:
        """Return the user's port, assigning one where there is none; the server starts with the first request to it."""
        document = self._get("/api/port", {"user_id": str(user)})
        if not document.get("success"):
            # The front end's own shape has its errors in answers of status 200.
            raise _api_error(200, document, None)
        return int(document["port"])

    def port_info(self, port: int) -> Port:
        """Return whom a port is assigned to, and who listens on it."""
        document = self._get(f"/v1/ports/{int(port)}")
        return Port._of(  # noqa: SLF001
            document,
            holders=tuple(Holder._of(holder) for holder in document["holders"]),  # noqa: SLF001
        )

    def health(self) -> Health:
        """Return the daemon's version and how many users and servers there are."""
        return Health.of(self._get("/v1/health"))

    def host(self) -> Host:
        """Return memory and load of the host, and how many more sessions fit."""
        document = self._get("/v1/host")
        return Host._of(  # noqa: SLF001
            document,
            load=tuple(document.get("load", ())),
            memory_total=document["memory"]["total"],
            memory_available=document["memory"]["available"],
        )

    def tokens(self) -> list[Token]:
        """Return the keys to the API over TCP, without the secrets."""
        return [Token.of(token) for token in self._get("/v1/tokens")["tokens"]]

    def create_token(self, name: str, scope: str = "admin", ttl: int | None = None) -> Token:
        """Make a key to the API over TCP. Only this answer holds the secret.

        ``scope`` is ``admin``, ``user:<user>``, ``read`` (all documents, no codes and no changes) or ``metrics``. It ends by
        itself after ``ttl`` seconds, if they are given.
        """
        wish: dict[str, Any] = {"name": name, "scope": scope}
        if ttl is not None:
            wish["ttl"] = ttl
        return Token.of(self._post("/v1/tokens", wish, repeatable=False))

    def revoke_links(self) -> None:
        """Take all connect links back, of all users."""
        self.request("DELETE", "/v1/connect-links")

    def revoke_token(self, identifier: str) -> None:
        """Take a key to the API back."""
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
        """Call the API and return the answer as it came. Raises ApiError for a status of 400 and more.

        ``body`` is sent as JSON. ``repeatable``: sending it twice means the same as once (default: unless POST).
        """
        if query:
            path = f"{path}?{urllib.parse.urlencode(query)}"
        sent = {**self._headers, **headers} if headers else dict(self._headers)
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        if repeatable is None:
            repeatable = method != "POST"
        answer = self._exchange(method, path, data, sent, timeout or self.timeout, repeatable=repeatable)
        if answer.status >= 400:  # noqa: PLR2004
            raise _api_error(answer.status, _problem(answer.body), answer.headers["Retry-After"])
        return answer

    # How it is done

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
        patience = _PATIENCE.get(wait, 0.0) if timeout is None else timeout
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
        body: bytes | None,
        headers: dict[str, str],
        timeout: float,
        *,
        repeatable: bool,
    ) -> Answer:
        kept = self._kept
        connection = kept.connection
        if connection is not None and (kept.pid != os.getpid() or _is_closed(connection)):
            # After a fork it is the parent's. Nothing has been sent, so any call may take a fresh one.
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
        body: bytes | None,
        headers: dict[str, str],
        timeout: float,
    ) -> Answer:
        complete = False
        try:
            connection.sock.settimeout(timeout)
            try:
                connection.request(method, path, body, headers)
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
                            yield event, identifier, json.loads(data)
            except ApiError as error:
                if error.code != "restarting":
                    raise
            except WaportdUnavailable as error:
                if lost_at is None and error.reason != "connection_lost":
                    raise  # it never was there
                if lost_at is not None and time.monotonic() - lost_at > _RECONNECT:
                    raise
            lost_at = time.monotonic() if lost_at is None else lost_at
            time.sleep(pause)

    @contextlib.contextmanager
    def _opened_stream(
        self, path: str, query: Mapping[str, Any] | None, last_event_id: str | None
    ) -> Iterator[http.client.HTTPResponse]:
        """Open a stream on a connection of its own."""
        headers = {**self._headers, "Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        connection = self._open(self.timeout)
        try:
            connection.sock.settimeout(_SILENCE)
            connection.request(
                "GET", f"{path}?{urllib.parse.urlencode(query)}" if query else path, headers=headers
            )
            response = connection.getresponse()
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
                "timeout", f"{place} takes no connection", "see `systemctl status waportd`"
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


def _path(user: str | int, action: str = "") -> str:
    path = f"/v1/users/{urllib.parse.quote(str(user), safe='')}"
    return f"{path}/{action}" if action else path


def _problem(body: bytes) -> Mapping[str, Any]:
    with contextlib.suppress(ValueError):
        document = json.loads(body)
        if isinstance(document, dict):
            return document
    return {}


def _log_line(document: Mapping[str, Any]) -> LogLine:
    return LogLine._of(document, time=_time(document.get("time")))  # noqa: SLF001


def _is_closed(connection: http.client.HTTPConnection) -> bool:
    """Tell whether the other side has closed a connection on which no answer is due."""
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
    while read := response.readline():
        line = read.decode("utf-8", "replace").rstrip("\r\n")
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            yield event, identifier, "\n".join(data), retry
            event, identifier, retry = "message", None, None
            data.clear()
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            identifier = value
        elif name == "retry" and value.isdigit():
            retry = int(value) / 1000


def _account() -> str:
    try:
        import pwd  # noqa: PLC0415  # for an error's text only

        return pwd.getpwuid(os.geteuid()).pw_name
    except (ImportError, KeyError):
        return str(os.geteuid())


# For a front end that thinks in ports
#
# It knows user N by port 5001 + (N - 1), and calls with that number. But user 2's port is not 5002 where that is
# the front end's own, or another program's; so a port is a name for a user here, and the answer to "where is the
# server?" is a question to waportd. Three kinds of number come in:
#
# - what `port_for` returned: it carries its user along, and means that user;
# - a number that nobody has, or whose owner is the one who would get it by number: it means that user;
# - a number that is user A's port, and would be user B's by number: it may mean either. Guessing wrong would show
#   one user's WhatsApp to another, so that is an error; ``user_id`` settles it.


class UserPort(int):
    """A port that knows whose it is."""

    user: str

    def __new__(cls, port: int, user: str) -> UserPort:  # noqa: D102, PYI034
        made = super().__new__(cls, port)
        made.user = user
        return made

    def __reduce__(self) -> tuple[type[UserPort], tuple[int, str]]:  # copy and pickle
        return UserPort, (int(self), self.user)


class AmbiguousPort(WaportdClientError):
    """A number that is one user's port, and another user's by number."""

    hint = "pass what port_for(user_id) returned, or user_id= itself"


_default: Client | None = None


def use(client: Client) -> None:
    """Have the functions below call this client rather than ``Client()``."""
    global _default  # noqa: PLW0603  # functions with given signatures have nowhere else to keep it
    _default = client


def port_for(user_id: str | int) -> UserPort:
    """Return the user's port, assigning one where there is none. Raises what calls raise."""
    return UserPort(_client().port(user_id), str(user_id))


def ensure_whatsapp_server_running(port: int, user_id: str | int | None = None) -> bool:
    """Tell whether the server of the user whom ``port`` names answers; start it if need be.

    Never raises: why there is none is logged, to ``waportd.client``.
    """
    try:
        _client().ensure(_user_of(port, user_id))
    except (WaportdClientError, ValueError) as error:
        log.warning("Cannot ensure the WhatsApp server of port %s: %s", port, error)
        return False
    return True


def get_whatsapp_server_url(port: int, user_id: str | int | None = None) -> str:
    """Return where the server of the user whom ``port`` names is: ``http://localhost:`` and the user's real port.

    Raises what calls raise: an address that is only guessed might be another user's, and that of a user who was stopped
    anybody's (Conflict, cause ``stopped``).
    """
    return f"http://localhost:{_client().port(_user_of(port, user_id))}"


def _client() -> Client:
    if _default is None:
        use(Client())
    assert _default is not None
    return _default


def _user_of(port: int, user_id: str | int | None) -> str:
    """Return the user whom a port names; see above."""
    if user_id is not None:
        return str(user_id)
    if isinstance(port, UserPort):
        return port.user
    info = _client().port_info(port)
    if info.user is not None and info.preferred_by in {None, info.user}:
        return info.user
    if info.user is not None:
        raise AmbiguousPort(
            f"port {info.port} is user {info.user}'s, and user {info.preferred_by}'s by number; {AmbiguousPort.hint}"
        )
    if info.preferred_by is None:
        raise ValueError(f"port {info.port} is nobody's, neither assigned nor by number")
    return info.preferred_by
