"""The words of the domain: users, ports, and the two states a server is in. No I/O."""

import dataclasses
import enum
import re
from typing import NewType

User = NewType("User", str)
"""Whom a server belongs to: a number of the web app, or a string such as ``2_1``."""

Port = NewType("Port", int)
"""The TCP port on loopback that a user's server answers on, 1 to 65535."""

USER_PATTERN = "[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}"
"""What may name a user, as a regular expression for the whole of it."""

BUNDLED = "bundled"
"""Names the version of whatsapp-web.js that comes with waportd."""

_NUMBER = "(?:0|[1-9][0-9]{0,5})"
_EARLY = "[0-9A-Za-z]{1,20}"
ENGINE_PATTERN = rf"{_NUMBER}(?:\.{_NUMBER}){{2}}(?:-{_EARLY}(?:[.-]{_EARLY}){{0,4}})?"
"""What names another one, as a regular expression for the whole of it: one exact version (https://semver.org)."""

_USER = re.compile(USER_PATTERN)
_UNIT = re.compile(r"whatsapp@([1-9][0-9]{0,4})\.(service|socket)")
_PAUSE = re.compile(r"whatsapp-pause@([1-9][0-9]{0,4})\.service")


def is_user(text: str) -> bool:
    """Tell whether the text may name a user: safe in paths, URLs, unit files and log fields."""
    return _USER.fullmatch(text) is not None


TARGET = "whatsapp.target"
"""The unit that stands for all servers: to stop it stops them, which is no decision about one of their users."""


def service_unit(port: Port) -> str:
    """Name the unit of the server on that port."""
    return f"whatsapp@{port}.service"


def socket_unit(port: Port) -> str:
    """Name the unit that holds the port, whether or not the server runs."""
    return f"whatsapp@{port}.socket"


def port_of_unit(unit: str) -> Port | None:
    """Return the port that a unit's name carries; None for a unit that is not one of ours."""
    return _port(_UNIT.fullmatch(unit))


def pause_unit(port: Port) -> str:
    """Name the unit that keeps the server on that port from starting, for a while."""
    return f"whatsapp-pause@{port}.service"


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


class Desired(enum.StrEnum):
    """What should be: kept in the store, so that a restart of the daemon or the host moves back to it."""

    RUNNING = "running"
    STOPPED = "stopped"
    DELETED = "deleted"
    """The session data is being removed; until that is done the port belongs to nobody else."""


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """A user's port and what was asked for it. This is what the store keeps."""

    user: User
    port: Port
    desired: Desired = Desired.RUNNING
    linked: bool = False
    """A phone was linked when the server was last heard of: such a session is brought back at boot."""
    autostart: bool = True
    """Bring a linked session back at boot."""
    webhook_url: str | None = dataclasses.field(default=None, repr=False)
    """Where incoming messages go; None means ``instances.webhook_url``. May hold a token."""
    memory_max: int | None = None
    """Bytes; None means ``limits.memory_max``."""
    engine: str | None = None
    """Which version of whatsapp-web.js runs; None means ``instances.engine``."""
    created_at: float = 0.0
    """Seconds since the epoch."""
    note: str | None = None
    """Why the user did not get the preferred port."""
    socket_boot: str | None = None
    """The life of the units (Observer.boot) in which the socket unit was last started; None once it was stopped from
    here. If it is this life's and the unit is down although it should be up, somebody stopped it by hand."""


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
    """When a server that ended again and again is started next, in seconds since the epoch."""


@dataclasses.dataclass(frozen=True, slots=True)
class PairingCode:
    """What a user types on the phone in place of scanning. A secret."""

    code: str = dataclasses.field(repr=False)
    expires_at: float
    """Seconds since the epoch."""


@dataclasses.dataclass(frozen=True, slots=True)
class Webhook:
    """What became of a server's incoming messages since it started, in numbers."""

    queued: int = 0
    """Messages that wait to be delivered."""
    delivered: int = 0
    failed: int = 0
    """Tries, each of which is followed by another or by a drop."""
    dropped: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Missing:
    """A member of WhatsApp's page that something needs, and that the page does not have as it is needed."""

    feature: str
    """What does not work without it, in one word: ``link``, ``send``, ``media_out``."""
    module: str
    member: str
    found: str
    """What is there in its place: ``undefined``, ``no such module``, ``number``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Upstream:
    """WhatsApp's page as a server has found it, and what talks to it."""

    build: str | None = None
    """The page's version; None until it has told it."""
    library: str | None = None
    """The version of whatsapp-web.js that runs."""
    engine: str | None = None
    """Which of the installed ones that is: ``bundled``, or a version."""
    pinned: str | None = None
    """The file that is served in place of the site's page; None for the site's own."""
    checked: tuple[str, ...] = ()
    """Parts of the page that were looked at: ``boot`` before a login, ``main`` after it."""
    missing: tuple[Missing, ...] = ()
    shims: tuple[tuple[str, str], ...] = ()
    """What was done for the library in the page, by name: ``absent``, ``not needed``, ``applied`` or ``failed``."""

    @property
    def ok(self) -> bool:
        """Nothing that was looked at is missing."""
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
    """The code to draw. A secret: whoever scans it gets the account."""
    expires_at: float | None = None
    attempt: int = 0
    attempts: int = 0
    pairing: PairingCode | None = dataclasses.field(default=None, repr=False)
    linked: bool = False
    progress: int | None = None
    phone_number: str | None = None
    pushname: str | None = None
    platform: str | None = None
    browser_running: bool = False
    upstream: Upstream | None = None
    """None where the server does not tell."""
    webhook: Webhook = dataclasses.field(default=Webhook(), compare=False)
    """Figures that are no news: nobody is woken for them."""


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
