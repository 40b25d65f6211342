"""The words of the domain: users, ports, and the two states a server is in. No I/O."""

import dataclasses
import enum
import re
from typing import Final, NewType, TypedDict

from waportd.contract import CONTRACT, LIMITS, PATTERNS

User = NewType("User", str)
"""The owner of a server: a number of the web app, or a string such as ``2_1``."""

Port = NewType("Port", int)
"""The TCP port on loopback that a user's server answers on, 1 to 65535."""

USER_PATTERN = PATTERNS["user"]
"""A regular expression for the whole name of a user."""

BUNDLED: Final[str] = CONTRACT["bundled_engine"]
"""Names the version of whatsapp-web.js that comes with waportd."""

_NUMBER = "(?:0|[1-9][0-9]{0,5})"
_EARLY = "[0-9A-Za-z]{1,20}"
ENGINE_PATTERN = rf"{_NUMBER}(?:\.{_NUMBER}){{2}}(?:-{_EARLY}(?:[.-]{_EARLY}){{0,4}})?"
"""A regular expression for the whole name of another one: one exact version (https://semver.org)."""

_USER = re.compile(USER_PATTERN)
_UNIT = re.compile(r"whatsapp@([1-9][0-9]{0,4})\.(service|socket)")
_PAUSE = re.compile(r"whatsapp-pause@([1-9][0-9]{0,4})\.service")


def is_user(text: str) -> bool:
    """Return whether the text may name a user: safe in paths, URLs, unit files and log fields."""
    return _USER.fullmatch(text) is not None


LIFE = "whatsapp-life.target"
"""The unit that stops before all servers, and starts after them: a stop in between was no decision about a user."""


def service_unit(port: Port) -> str:
    """Name the unit of the server on that port."""
    return f"whatsapp@{port}.service"


def socket_unit(port: Port) -> str:
    """Name the unit that holds the port, whether or not the server runs."""
    return f"whatsapp@{port}.socket"


def port_of_unit(unit: str) -> Port | None:
    """Return the port that a unit's name carries; None for another program's unit."""
    return _port(_UNIT.fullmatch(unit))


def pause_unit(port: Port) -> str:
    """Name the unit that keeps the server on that port from starting, for a while."""
    return f"whatsapp-pause@{port}.service"


class MoveStep(enum.StrEnum):
    """What the unit of a move does."""

    CHECK = ":check"
    """Checks whether something of the target's would be in the way; both ports may be up."""
    THERE = ""
    BACK = ":back"
    """Undoes the move in the opposite direction, as far as it was done."""


def move_unit(source: Port, target: Port, step: MoveStep) -> str:
    """Name the unit that gives what is kept for one port to another."""
    return f"whatsapp-move@{source}:{target}{step}.service"


def port_of_pause(unit: str) -> Port | None:
    """Return the port that the name of a pause carries; None for another unit."""
    return _port(_PAUSE.fullmatch(unit))


def _port(match: re.Match[str] | None) -> Port | None:
    return Port(int(match[1])) if match and int(match[1]) <= 65535 else None  # noqa: PLR2004


class ProcessState(enum.StrEnum):
    """What systemd says of the server's process."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FAILED = "failed"
    CRASH_LOOP = "crash_loop"
    UNREACHABLE = "unreachable"
    """The host that has the user does not answer; never that of a user of this host."""
    MOVING = "moving"
    """The user comes to a host, and the login is not there yet."""


ELSEWHERE: Final = {ProcessState.UNREACHABLE, ProcessState.MOVING}
"""States that no server of this host is in."""
AT_REST: Final = {ProcessState(state) for state in CONTRACT["at_rest"]}
"""States in which no server runs, and none is about to within moments."""


class SessionState(enum.StrEnum):
    """What the server says of its WhatsApp session."""

    GENERATING = "generating"
    QR = "qr"
    PAIRING = "pairing"
    AUTHENTICATED = "authenticated"
    READY = "ready"
    DISCONNECTED = "disconnected"
    QR_TIMEOUT = "qr_timeout"
    LOGGED_OUT = "logged_out"
    PASSKEY_REQUIRED = "passkey_required"
    ERROR = "error"


class PasskeyStage(enum.StrEnum):
    """The stage of a passkey request, which WhatsApp may make when a phone is linked."""

    OPENING = "opening"
    """WhatsApp's page says that it wants one; the challenge is still to come."""
    ASKED = "asked"
    """The challenge is there."""
    GIVEN = "given"
    """It was signed; the phone must answer."""
    CODE = "code"
    """The person compares a code with the one on the phone."""
    FAILED = "failed"
    """It failed, and may be retried."""


class Turn(enum.StrEnum):
    """Whether it is a linked session's turn to load WhatsApp's page: few do so at a time."""

    AWAITED = "awaited"
    TAKEN = "taken"


class Desired(enum.StrEnum):
    """The desired state: kept in the store, so that a restart of the daemon or the host restores it."""

    RUNNING = "running"
    STOPPED = "stopped"
    DELETED = "deleted"
    """The session data is being removed; until that is done the port is not assigned again."""


class Event(enum.StrEnum):
    """The events of a user's server."""

    MESSAGE = "message"
    SENT = "message.sent"
    ACK = "message.ack"
    EDITED = "message.edited"
    REVOKED = "message.revoked"
    REACTION = "message.reaction"
    SESSION = "session"
    CALL = "call"


class Ignored(enum.StrEnum):
    """A kind of chats that a server may ignore, as if nothing was written there."""

    GROUPS = "groups"
    CHANNELS = "channels"
    STATUS = "status"
    BROADCASTS = "broadcasts"


SIZES = ("login", "cache", "journal", "snapshots")
"""What a session keeps on disk, by what it is for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """What a session keeps on disk, as its server has measured it."""

    login: int
    """Bytes of the login with its browser profile."""
    cache: int
    """Bytes of the browser's cache."""
    journal: int
    """Bytes of the journal of messages."""
    measured_at: float
    """Seconds since the epoch."""
    snapshots: int = 0
    """Bytes of the copies of the login."""
    snapshot_at: float | None = None
    """When the newest copy of the login was made, in seconds since the epoch; None: there is none."""
    restored_at: float | None = None
    """When a copy replaced a damaged login; None: never."""

    @property
    def sizes(self) -> dict[str, int]:
        """The bytes by their purpose."""
        return {kind: getattr(self, kind) for kind in SIZES}


class Options(TypedDict, total=False):
    """What a caller may set for a user. A member that is missing stays as it is; None means the default."""

    webhook_url: str | None
    webhook_secret: tuple[str, ...] | None
    webhook_events: tuple[Event, ...] | None
    ignore: tuple[Ignored, ...] | None
    default_country: str | None
    send_rate: int | None
    memory_max: int | None
    autostart: bool
    engine: str | None
    proxy: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """A user's port and what was asked for it. This is what the store keeps."""

    user: User
    port: Port
    desired: Desired = Desired.RUNNING
    linked: bool = False
    """A phone was linked when the server last reported: such a session is started again at boot."""
    autostart: bool = True
    """Start a linked session again at boot."""
    webhook_url: str | None = dataclasses.field(default=None, repr=False)
    """Where incoming messages go; None means ``instances.webhook_url``. May hold a token."""
    webhook_secret: tuple[str, ...] | None = dataclasses.field(default=None, repr=False)
    """The secrets that sign them; None means ``instances.webhook_secret``."""
    webhook_events: tuple[Event, ...] | None = None
    """Which events go there; None means ``instances.webhook_events``."""
    ignore: tuple[Ignored, ...] | None = None
    """Chats that are ignored; None means ``instances.ignore``."""
    default_country: str | None = None
    """Calling code of numbers without one; None means ``instances.default_country``."""
    send_rate: int | None = None
    """Messages a minute; None means ``instances.send_rate``."""
    memory_max: int | None = None
    """Bytes; None means ``limits.memory_max``."""
    engine: str | None = None
    """Which version of whatsapp-web.js runs; None means ``instances.engine``."""
    proxy: str | None = dataclasses.field(default=None, repr=False)
    """The browser's proxy to WhatsApp; None means ``instances.proxy``. May hold a password."""
    created_at: float = 0.0
    """Seconds since the epoch."""
    note: str | None = None
    """Why the user did not get the preferred port, or which port it was before."""
    socket_boot: str | None = None
    """The life of the units (Observer.boot) in which the socket unit was last started; None once it was stopped from
    here. If it is this life's and the unit is down although it should be up, somebody stopped it by hand."""
    storage: Storage | None = None
    """As last measured; None where that was not since the login was deleted."""
    moving_to: Port | None = None
    """Where the user is being moved. Until that is done, or undone, neither port has an environment."""
    linked_at: float | None = None
    """When the phone was linked, in seconds since the epoch; None where none is, or where that was not noted."""

    @property
    def ports(self) -> tuple[Port, ...]:
        """The port, and during a move the new one: the user's data lies at either."""
        return (self.port,) if self.moving_to is None else (self.port, self.moving_to)


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """The process of a server, as systemd reports it."""

    state: ProcessState = ProcessState.STOPPED
    since: float = 0.0
    """Seconds since the epoch."""
    message: str = "not started"
    cause: str | None = None
    hint: str | None = None
    pid: int | None = None
    restarts: int = 0
    next_start: float | None = None
    """When systemd next starts a server that keeps ending, in seconds since the epoch."""


@dataclasses.dataclass(frozen=True, slots=True)
class PairingCode:
    """The code that a user types on the phone instead of scanning one. A secret."""

    code: str = dataclasses.field(repr=False)
    expires_at: float
    """Seconds since the epoch."""


@dataclasses.dataclass(frozen=True, slots=True)
class Passkey:
    """WhatsApp's passkey request; a person has to take the next step. A secret, as codes are."""

    stage: PasskeyStage
    options: str | None = dataclasses.field(default=None, repr=False)
    """The challenge, in `asked`: an unchanged PublicKeyCredentialRequestOptionsJSON, in JSON."""
    expires_at: float | None = None
    """When the stage ends at the latest, in seconds since the epoch; None where that is unknown."""
    code: str | None = dataclasses.field(default=None, repr=False)
    """The code that the phone must show, too, in `code`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Webhook:
    """What happened to a server's incoming messages since it started. A change of its numbers wakes no reader."""

    queued: int = dataclasses.field(default=0, compare=False)
    """Messages that wait to be delivered."""
    delivered: int = dataclasses.field(default=0, compare=False)
    failed: int = dataclasses.field(default=0, compare=False)
    """Failed tries; each is followed by a retry or a drop."""
    dropped: int = dataclasses.field(default=0, compare=False)
    """Messages that are lost."""
    error: str | None = None
    """Why the last try failed; None once a message has been delivered since. Holds nothing of the URL or a message."""
    error_at: float | None = dataclasses.field(default=None, compare=False)
    """When it failed, in seconds since the epoch."""
    undelivered: int = dataclasses.field(default=0, compare=False)
    """Undelivered messages that are kept: they can be sent again."""
    oldest_at: float | None = dataclasses.field(default=None, compare=False)
    """Since when the oldest message has waited, in seconds since the epoch; None where none waits."""

    def waited(self, now: float) -> float:
        """Return for how many seconds the oldest message has waited; 0 where none waits."""
        return max(0.0, now - self.oldest_at) if self.queued and self.oldest_at is not None else 0.0


UNDELIVERED_S: Final = float(LIMITS["undelivered_s"])
"""Seconds for which messages may wait for the web app before that counts as a fault."""


@dataclasses.dataclass(frozen=True, slots=True)
class Missing:
    """A member of WhatsApp's page that something needs, and that the page does not have as it is needed."""

    feature: str
    """What does not work without it, in one word: ``link``, ``send``, ``media_out``."""
    module: str
    member: str
    found: str
    """What is there instead: ``undefined``, ``no such module``, ``number``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Upstream:
    """WhatsApp's page as a server has found it, and the library that uses it."""

    build: str | None = None
    """The page's version; None until the page reports it."""
    library: str | None = None
    """The version of whatsapp-web.js that runs."""
    engine: str | None = None
    """Which of the installed ones that is: ``bundled``, or a version."""
    pinned: str | None = None
    """The file that is served in place of the site's page; None for the site's own page."""
    checked: tuple[str, ...] = ()
    """Parts of the page that were checked: ``boot`` before a login, ``main`` after it."""
    missing: tuple[Missing, ...] = ()
    shims: tuple[tuple[str, str], ...] = ()
    """Fixes made in the page for the library, by name: ``absent``, ``not needed``, ``applied`` or ``failed``."""

    @property
    def ok(self) -> bool:
        """Nothing of what was checked is missing."""
        return not self.missing

    @property
    def features(self) -> tuple[str, ...]:
        """The features for which something is missing, each once."""
        return tuple(dict.fromkeys(missing.feature for missing in self.missing))


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """The WhatsApp session of a server, as its event stream reports it."""

    state: SessionState = SessionState.GENERATING
    since: float = 0.0
    """Seconds since the epoch."""
    message: str = ""
    cause: str | None = None
    hint: str | None = None
    qr: str | None = dataclasses.field(default=None, repr=False)
    """The code to draw. A secret: anyone who scans it can link their phone."""
    expires_at: float | None = None
    attempt: int = 0
    attempts: int = 0
    pairing: PairingCode | None = dataclasses.field(default=None, repr=False)
    passkey: Passkey | None = None
    """None where WhatsApp asks for none now, or nothing can be done about it."""
    linked: bool = False
    turn: Turn | None = None
    """None where it needs none, or has come back."""
    progress: int | None = None
    phone_number: str | None = None
    pushname: str | None = None
    platform: str | None = None
    browser_running: bool = False
    upstream: Upstream | None = None
    """None where the server does not say."""
    storage: Storage | None = None
    """None until the server has measured it."""
    webhook: Webhook = Webhook()
    last_message_at: float | None = dataclasses.field(default=None, compare=False)
    """When a message last came or went since the server started. Another one wakes no reader."""


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """What a server's processes use, and who measured it."""

    memory: int | None = None
    """Bytes."""
    memory_source: str | None = None
    """``systemd`` (the control group's own figure), ``pss`` or ``rss`` (summed over the processes)."""
    cpu: float | None = None
    """Seconds of processor time."""
    cpu_source: str | None = None
