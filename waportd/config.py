"""config.yaml: the schema, and the frozen Config that a file becomes.

The dataclasses below are the schema: each field carries what its value may be, what it means and whether
a running daemon can take a new value. Validation reads it from here, and so does ``tools/reference``, which
writes ``config.example.yaml``, ``docs/configuration.md`` and the manual page: their prose stands here only.
"""

import dataclasses
import difflib
import enum
import functools
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import yaml

from waportd.errors import ConfigError
from waportd.kinds import FLAG, Kind, choice, matching, number, whole
from waportd.model import BUNDLED, ENGINE_PATTERN

MAX_FILE_SIZE: Final = 64 * 1024
"""Bytes of a configuration file that are read at most."""

_MAX_DEPTH: Final = 8
_MAX_ITEMS: Final = 1000
_MAX_SHOWN: Final = 60
_SUN_PATH: Final = 107
"""Bytes of a unix socket's path (unix(7): sun_path is 108 with its terminating zero)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DURATION = re.compile(r"(?:([0-9]{1,6})h)? ?(?:([0-9]{1,6})min)? ?(?:([0-9]{1,6})s?)?")
_SIZE = re.compile(r"([0-9]{1,18})([KMGT]?)")
_SIZE_IN_JSON = "^(?:(?:12[89]|1[3-9][0-9]|[2-9][0-9]{2}|[1-9][0-9]{3,5})M|[1-9][0-9]{0,4}G)$"
"""From 128M, which is the least of what JSON tells."""
_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?")
_HEXTET = "[0-9A-Fa-f]{1,4}"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_HOST = "|".join(
    (
        # A name whose last part is no number, which would make it an IPv4 address (https://url.spec.whatwg.org).
        r"(?:[A-Za-z0-9_-]{1,63}\.){0,20}[A-Za-z_][A-Za-z0-9_-]{0,62}\.?",
        rf"{_OCTET}(?:\.{_OCTET}){{3}}",
        rf"\[{_HEXTET}(?::{_HEXTET}){{7}}\]",
        *(
            rf"\[(?:{_HEXTET}(?::{_HEXTET}){{{before - 1}}})?::(?:{_HEXTET}(?::{_HEXTET}){{0,{6 - before}}})?\]"
            for before in range(1, 7)
        ),
    )
)
_URL_PORT = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
_URL = re.compile(f"[Hh][Tt][Tt][Pp][Ss]?://(?:{_HOST})(?::(?:{_URL_PORT}))?(?:[/?#][!-~]*)?")
"""What node's ``fetch`` takes: it refuses URLs that carry a user name or password."""
_MAX_URL: Final = 2000
_ENGINES: Final = Path("/var/lib/waportd-engines")
"""Not below the store's folder, where the daemon's user may write, nor below /usr/local, where others may."""
_UNIT_PATH = re.compile(r"""/[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"'\\$%]*(?<! )""")


class Bus(enum.StrEnum):
    """Whose systemd supervises the servers."""

    SYSTEM = "system"
    SESSION = "session"


class Takeover(enum.StrEnum):
    """What becomes of a left-over ``whatsapp_server.js`` that holds a user's port."""

    NEVER = "never"
    OWN = "own"


class LogLevel(enum.StrEnum):
    """The least severity that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen in TCP."""

    host: str
    """An IP address."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Tell whether this host only reaches it."""
        return ipaddress.ip_address(self.host).is_loopback


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """The ports from ``first`` to ``last``, both included."""

    first: int
    last: int

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.first <= port <= self.last

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.last + 1))

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def overlaps(self, other: "PortRange") -> bool:
        """Tell whether the two have a port in common."""
        return self.first <= other.last and other.first <= self.last


def _duration(first: int, last: int) -> Kind:
    def parse(text: str) -> int:
        match = _DURATION.fullmatch(text)
        if not match or not any(match.groups()) or text != text.strip():
            raise ValueError(text)
        hours, minutes, seconds = (int(group or 0) for group in match.groups())
        total = hours * 3600 + minutes * 60 + seconds
        if not first <= total <= last:
            raise ValueError(text)
        return total

    return Kind(f"a time from {first} to {last} seconds, such as 90, 90s or 2min", parse)


def _size(least: str, *, zero: str) -> Kind:
    def read(text: str) -> int:
        match = _SIZE.fullmatch(text)
        if not match:
            raise ValueError(text)
        return int(match[1]) << 10 * " KMGT".index(match[2] or " ")

    def parse(text: str) -> int:
        size = read(text)
        if size != 0 and not read(least) <= size <= 1024**5:
            raise ValueError(text)
        return size

    # Each keyword holds for its own type only: the pattern for texts, the bounds for numbers, which are bytes.
    schema = {
        "type": ["integer", "string"],
        "pattern": _SIZE_IN_JSON,
        "anyOf": [{"const": 0}, {"minimum": read(least), "maximum": 1024**5}],
    }
    return Kind(
        f"0 ({zero}) or a size of at least {least}, such as 512M or 1G",
        parse,
        show=_shown_size,
        schema=schema,
    )


def _shown_size(size: int) -> str:
    unit = ""
    for larger in "KMGT":
        if not size or size % 1024:
            break
        size, unit = size // 1024, larger
    return f"{size}{unit}"


def _shown_list(items: Iterable[Any]) -> str:
    return f"[{', '.join(map(str, items))}]"


def installed_below() -> Path:
    """Return what the daemon is installed below: ``/usr/local`` of ``/usr/local/lib/…/waportd``."""
    above = Path(__file__).resolve().parents
    return next((folder.parent for folder in above if folder.name == "lib"), Path("/usr"))


def shipped(name: str) -> Path:
    """Return where a file that comes with the daemon lies: beside the package in a checkout, or installed."""
    in_checkout = Path(__file__).resolve().parent.parent / name
    return in_checkout if in_checkout.exists() else installed_below() / "lib/waportd" / name


def has_control_characters(text: str) -> bool:
    """Tell whether a text holds what could end a line or cannot be written as UTF-8."""
    return _CONTROL.search(text) is not None


def is_unit_path(text: str) -> bool:
    """Tell whether an absolute path can stand in a unit file without meaning something else there.

    systemd expands ``%``, in commands also ``$``, quotes and backslashes; it cuts trailing blanks.
    """
    return _UNIT_PATH.fullmatch(text) is not None


def _path(text: str) -> Path:
    if not is_unit_path(text) or ".." in Path(text).parts:
        raise ValueError(text)
    return Path(text)


def _socket_path(text: str) -> Path:
    path = _path(text)
    if len(bytes(path)) > _SUN_PATH or text.endswith("/"):
        raise ValueError(text)
    return path


def _auto_or_path(text: str) -> str:
    return text if text == "auto" else str(_path(text))


def _browser(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", text):
        return text
    return str(_path(text))


def _browser_argument(text: str) -> str:
    if not text.startswith("-") or len(text) > 2000 or has_control_characters(text):  # noqa: PLR2004
        raise ValueError(text)
    return text


def _webhook_url(text: str) -> str:
    if text and (len(text) > _MAX_URL or not _URL.fullmatch(text)):
        raise ValueError
    return text


def _path_or_nothing(text: str) -> str:
    return text and str(_path(text))


def _client_id_prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError(text)
    return text


def _account(text: str) -> str | int:
    if text.isascii() and text.isdigit():
        uid = whole(text)
        if uid >= 2**32 - 1:
            raise ValueError(text)
        return uid
    if not _ACCOUNT.fullmatch(text):
        raise ValueError(text)
    return text


def _origin(text: str) -> str:
    if text == "self" or re.fullmatch(
        r"https?://(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[1-9][0-9]{0,4})?", text
    ):
        return text
    raise ValueError(text)


def _ports(first: int) -> Callable[[str], PortRange]:
    def parse(text: str) -> PortRange:
        start, dash, end = text.partition("-")
        ports = PortRange(whole(start), whole(end if dash else start))
        if not first <= ports.first <= ports.last <= 65535:  # noqa: PLR2004
            raise ValueError(text)
        return ports

    return parse


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv6Address(host[1:-1])
    else:
        address = ipaddress.IPv4Address("127.0.0.1" if host == "localhost" else host)
    number = whole(port)
    if not 1 <= number <= 65535 or "%" in host:  # noqa: PLR2004
        raise ValueError(text)
    return Address(str(address), number)


def _port_range(text: str) -> PortRange:
    if "-" not in text:
        raise ValueError(text)
    return _ports(1024)(text)


def _port_set(ranges: list[PortRange]) -> frozenset[int]:
    return frozenset(port for ports in ranges for port in ports)


def _two(items: list[int]) -> tuple[int, int]:
    first, later = items
    return first, later


PORT_RANGE: Final = Kind("FIRST-LAST with 1024 <= FIRST <= LAST <= 65535", _port_range)
WEBHOOK_URL: Final = Kind(
    "an http or https URL of plain ASCII without user name and password, or '' for none",
    _webhook_url,
    secret=True,
    schema={"type": "string", "maxLength": _MAX_URL, "pattern": f"^(?:{_URL.pattern})?$"},
)
MEMORY_MAX: Final = _size("128M", zero="no limit")
ENGINE: Final = matching(
    f"{BUNDLED}|{ENGINE_PATTERN}", f"{BUNDLED}, or a version that is installed, such as 1.34.7"
)
PATH: Final = Kind("an absolute path without .., quotes, backslash, $, % or control characters", _path)


def _key(kind: Kind, doc: str, *, reloadable: bool = True) -> dict[str, Any]:
    return {"kind": kind, "doc": doc, "reloadable": reloadable}


@dataclass(frozen=True, slots=True)
class Api:
    """Where the daemon answers, and whom."""

    socket: Path = field(
        default=Path("/run/waportd/api.sock"),
        metadata=_key(
            Kind(f"{PATH.allowed}, of at most {_SUN_PATH} bytes", _socket_path),
            "The unix socket on which waportd answers. The packaged waportd.socket creates it and "
            "hands it over; whoever changes it here changes it there too (`systemctl edit "
            "waportd.socket`).",
            reloadable=False,
        ),
    )
    listen: tuple[Address, ...] = field(
        default=(),
        metadata=_key(
            Kind(
                "a list of addresses",
                tuple,
                Kind(
                    "an IP address or localhost with a port, such as 127.0.0.1:8080 or '[::1]:8080'", _address
                ),
                show=_shown_list,
            ),
            "TCP addresses on which waportd answers, too, e.g. [127.0.0.1:8080]. Whoever calls there "
            "needs a token, which `waportctl token create NAME` makes, or a connect link. It "
            "is HTTP without TLS: for other hosts, put a reverse proxy in front. The packaged service "
            "may be reached from this host only: for an address that is not loopback, add the networks "
            "that may call (`systemctl edit waportd`, [Service], IPAddressAllow=192.0.2.0/24).",
            reloadable=False,
        ),
    )
    allow_users: tuple[str | int, ...] = field(
        default=(),
        metadata=_key(
            Kind(
                "a list of user names or numeric user ids",
                tuple,
                Kind("a user name or numeric user id", _account),
                show=_shown_list,
            ),
            "Who may call, by name or numeric user id, e.g. [www-data, 1001]. Left empty, it is "
            "whoever may open the socket (group waportd), and each server answers every local "
            "user on its port. Otherwise a server answers these users, root and waportd only; one "
            "that runs takes a changed list over at its next start.",
        ),
    )
    frame_ancestors: tuple[str, ...] = field(
        default=("self",),
        metadata=_key(
            Kind(
                "a list of origins",
                tuple,
                Kind("self, or an origin such as https://app.example.com or https://*.example.com", _origin),
                show=_shown_list,
            ),
            "Whose pages may show the connect page in a frame: self is the origin under which waportd itself "
            "is seen. Left empty, it is none.",
        ),
    )


@dataclass(frozen=True, slots=True)
class Store:
    """Where the daemon keeps what must survive."""

    directory: Path = field(
        default=Path("/var/lib/waportd"),
        metadata=_key(
            PATH,
            "Holds the assignments of users to ports (waportd.db) and one environment file per "
            "server (instances/PORT.env). Back it up together with /var/lib/private/whatsapp.",
            reloadable=False,
        ),
    )

    @property
    def database(self) -> Path:
        """The assignments."""
        return self.directory / "waportd.db"

    @property
    def instances(self) -> Path:
        """The directory of the environment files, one per assigned port."""
        return self.directory / "instances"


@dataclass(frozen=True, slots=True)
class Ports:
    """Which ports users get."""

    base: int = field(
        default=5001,
        metadata=_key(
            number(1024, 65535),
            "User 1 prefers this port, user 2 the next one, user N base + N - 1. A port once "
            "assigned never changes by itself, whatever is changed here later.",
        ),
    )
    range: PortRange = field(
        default=PortRange(5001, 5431),
        metadata=_key(
            PORT_RANGE, "Preferred ports lie in this range. By default it ends before PostgreSQL's 5432."
        ),
    )
    overflow: PortRange = field(
        default=PortRange(20000, 31999),
        metadata=_key(
            PORT_RANGE,
            "Users whose preferred port is taken, reserved or outside the range get the next free "
            "port of this one, as do users that are not numbers. By default it stays below the "
            "ports that the kernel gives to outgoing connections (32768 and up).",
        ),
    )
    reserved: frozenset[int] = field(
        default=frozenset(),
        metadata=_key(
            Kind(
                "a list of ports and ranges FIRST-LAST",
                _port_set,
                Kind("a port from 1 to 65535 or a range FIRST-LAST of such", _ports(1)),
                show=_shown_list,
            ),
            "Ports that nobody gets, single or as ranges, e.g. [5002, 5060-5061]. A port that "
            "another program holds is noticed anyway, but only while that program runs: name the "
            "web app's own port here.",
        ),
    )
    takeover: Takeover = field(
        default=Takeover.NEVER,
        metadata=_key(
            choice(Takeover),
            "What becomes of a whatsapp_server.js that was left over from an earlier setup and "
            "holds a user's port. never: it is named, not touched. own: it is ended, if it runs "
            "as waportd's own user and its command line and working directory show that it is "
            "one. A process of another user is never touched; for those there is `waportctl port "
            "PORT --end-stale`, as root.",
        ),
    )


@dataclass(frozen=True, slots=True)
class Instances:
    """What each user's server is told."""

    webhook_url: str = field(
        default="http://localhost:5002/webhook",
        repr=False,
        metadata=_key(
            WEBHOOK_URL,
            "Where each server posts incoming messages; '' for nowhere. A user may be given "
            "another one over the API.",
        ),
    )
    client_id_prefix: str = field(
        default="ylada_bot",
        metadata=_key(
            Kind("1 to 64 of the characters A-Z a-z 0-9 _ -", _client_id_prefix),
            "A server's client id is PREFIX_PORT, and its login is stored under that name, in "
            ".wwebjs_auth_PORT/session-PREFIX_PORT: another prefix makes every user link anew.",
        ),
    )
    browser: str = field(
        default="auto",
        metadata=_key(
            Kind(f"auto, a program's name, or {PATH.allowed}", _browser),
            "The browser: a path or a program's name. auto takes the lightest of "
            "chromium-headless-shell, chromium and google-chrome; when WhatsApp's page gives neither a "
            "code nor a login in one, the next is tried.",
        ),
    )
    browser_args: tuple[str, ...] = field(
        default=(),
        metadata=_key(
            Kind(
                "a list of arguments",
                tuple,
                Kind("an argument that starts with -, without control characters", _browser_argument),
                show=_shown_list,
            ),
            'Further arguments for the browser, e.g. ["--proxy-server=http://proxy:3128"]. `--no-sandbox` '
            "would let a hostile page out of the browser; it is never needed.",
        ),
    )
    engine: str = field(
        default=BUNDLED,
        metadata=_key(
            ENGINE,
            "The version of whatsapp-web.js that the servers run: bundled, which came with waportd, or one that "
            "`waportctl engine install` put beside it. `waportctl engine use` sets it, and can try it on some "
            "users first. A user may be given another one.",
        ),
    )
    web_version: str = field(
        default="",
        metadata=_key(
            Kind(f"{PATH.allowed}, or '' for none", _path_or_nothing, show=lambda value: value or "''"),
            "A pinned page: a file with WhatsApp Web's start page of an earlier day, which the servers load in place of "
            "that of the site; '' for none. First aid while WhatsApp's newest page does not work, until there is "
            "an engine that does; take it back then. Everybody must be able to read it.",
        ),
    )
    qr_max_retries: int = field(
        default=5,
        metadata=_key(
            number(1, 100),
            "Codes that are shown before a server closes its browser and waits until somebody "
            "asks for a new one.",
        ),
    )
    qr_lifetime: tuple[int, int] = field(
        default=(60, 20),
        metadata=_key(
            Kind(
                "a list of two times: of the first code, and of each later one",
                _two,
                _duration(1, 600),
                show=_shown_list,
            ),
            "How long the first code and each later one is valid. WhatsApp decides this; change "
            "it only when WhatsApp does.",
        ),
    )
    start_timeout: int = field(
        default=90,
        metadata=_key(_duration(1, 3600), "From the browser's start until a code or a login must have come."),
    )
    ready_timeout: int = field(
        default=120,
        metadata=_key(
            _duration(1, 3600),
            "From the scan until the session must be ready. Accounts with many chats take longest.",
        ),
    )
    probe_interval: int = field(
        default=10,
        metadata=_key(
            _duration(1, 60),
            "How often a server checks that its browser and page answer, and how long they may take to.",
        ),
    )
    idle_timeout: int = field(
        default=600,
        metadata=_key(
            _duration(1, 86400),
            "A server without a login ends when nobody asked it for this long. Its port stays "
            "open, and the next request starts it again.",
        ),
    )
    node: str = field(
        default="auto",
        metadata=_key(
            Kind(f"auto or {PATH.allowed}", _auto_or_path),
            "The node program; auto: /usr/bin/node. It stands in the unit file: with `systemd.bus: session` "
            "a restart applies it; on the system bus also run `waportd generate-units`.",
            reloadable=False,
        ),
    )
    script: str = field(
        default="auto",
        metadata=_key(
            Kind(f"auto or {PATH.allowed}", _auto_or_path),
            "The server's script; auto: the whatsapp_server.js that came with waportd. It stands "
            "in the unit file, as the node program does.",
            reloadable=False,
        ),
    )

    @property
    def node_path(self) -> Path:
        """The node program that runs the servers, whether or not it exists."""
        return Path("/usr/bin/node") if self.node == "auto" else Path(self.node)

    @property
    def script_path(self) -> Path:
        """The script that node runs, whether or not it exists."""
        return shipped("whatsapp_server.js") if self.script == "auto" else Path(self.script)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the machine the servers may use."""

    max_running: int = field(
        default=0, metadata=_key(number(0, 10000), "Servers that run at the same time; 0 for no limit.")
    )
    max_sockets: int = field(
        default=1000,
        metadata=_key(
            number(1, 10000),
            "Ports that are held open at the same time. With more than about 1000, systemd "
            "becomes slow to reload.",
        ),
    )
    start_concurrency: int = field(
        default=4,
        metadata=_key(
            number(1, 100),
            "Servers that start at the same time when many are due, as after a boot. A starting "
            "browser keeps a processor busy for a second or more.",
        ),
    )
    memory_max: int = field(
        default=1024**3,
        metadata=_key(
            MEMORY_MAX,
            "Memory of one server together with its browser. One that outgrows it is ended and "
            "started again; its login survives. 0 for no limit.",
        ),
    )
    min_available_memory: int = field(
        default=256 * 1024**2,
        metadata=_key(
            _size("1M", zero="off"),
            "No further server starts while the host has less memory available than this; 0 for "
            "no such check.",
        ),
    )


@dataclass(frozen=True, slots=True)
class Systemd:
    """Which systemd supervises the servers."""

    bus: Bus = field(
        default=Bus.SYSTEM,
        metadata=_key(
            choice(Bus),
            "Whose systemd runs the servers. system: the host's, each server under a user id of "
            "its own. session: that of the user who runs waportd, without root.",
            reloadable=False,
        ),
    )


@dataclass(frozen=True, slots=True)
class Log:
    """What the daemon tells the journal."""

    level: LogLevel = field(
        default=LogLevel.INFO,
        metadata=_key(choice(LogLevel), "The least severity that is logged: debug, info, warning or error."),
    )


@dataclass(frozen=True, slots=True)
class Metrics:
    """What Prometheus is told."""

    per_user: bool = field(
        default=True,
        metadata=_key(
            FLAG,
            "Whether GET /metrics has series for each user, labelled with the user. With many users that is much to "
            "store, and it tells Prometheus who they are.",
        ),
    )


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration; without arguments, all defaults."""

    api: Api = Api()
    store: Store = Store()
    ports: Ports = Ports()
    instances: Instances = Instances()
    limits: Limits = Limits()
    systemd: Systemd = Systemd()
    metrics: Metrics = Metrics()
    log: Log = Log()

    @property
    def engines(self) -> Path:
        """Where other versions of whatsapp-web.js lie: in a folder of root's where servers are the system's."""
        return _ENGINES if self.systemd.bus is Bus.SYSTEM else self.store.directory / "engines"


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the schema."""

    section: str
    name: str
    kind: Kind
    default: Any
    doc: str
    reloadable: bool
    """A running daemon takes a new value on reload; a server that runs does at its next start."""

    @property
    def path(self) -> str:
        """The key as messages name it: ``ports.range``."""
        return f"{self.section}.{self.name}"


@functools.cache
def schema() -> dict[str, Key]:
    """Return every key by its path, in the order of the file."""
    sections: list[tuple[str, Any]] = [(section.name, section.default) for section in fields(Config)]
    keys = [
        Key(section, entry.name, default=entry.default, **entry.metadata)
        for section, default in sections
        for entry in fields(default)
    ]
    return {key.path: key for key in keys}


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong with a configuration."""

    source: str
    line: int | None
    """Counted from 1; None where no line is to blame."""
    key: str
    problem: str

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return ": ".join(part for part in (place, self.key, self.problem) if part)


class InvalidConfig(ConfigError):
    """The text is not a valid configuration. ``faults`` holds all that is wrong, in the order of the file."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line or 0))
        super().__init__(
            "\n".join(map(str, self.faults)),
            hint="config.example.yaml describes every key; waportd --check-config checks a file",
        )


class _Composer(yaml.BaseLoader):
    """Composes the node graph.

    BaseLoader leaves scalars as text: the schema knows each key's type, so that ``off``, ``1:30`` or ``010``
    never become something else on the way.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        alias = self.check_event(yaml.AliasEvent)
        if alias or self.depth == _MAX_DEPTH:
            problem = "aliases are not supported" if alias else "nested too deeply"
            raise yaml.composer.ComposerError(None, None, problem, self.current_event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Reader:
    """Reads one text into a Config and notes every fault on the way."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.faults: list[Fault] = []
        self.lines: dict[str, int] = {}
        """The line of each key that the text sets."""
        self.faulty: set[str] = set()
        """Keys whose value could not be read; what depends on them is not judged."""

    def fault(self, line: int | None, key: str, problem: str) -> None:
        self.faults.append(Fault(self.source, line, key, problem))

    def read(self, text: str) -> Config:
        try:
            root = yaml.compose(text, _Composer)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.fault(mark.line + 1 if mark else None, "", f"not valid YAML: {error.problem}")
            return Config()
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            self.fault(line, "", "not valid YAML: control characters are not allowed")
            return Config()
        sections: dict[str, Any] = {section.name: section.default for section in fields(Config)}
        for name, node in self.members(root, "", list(sections)):
            keys = [key.name for key in schema().values() if key.section == name]
            values = {}
            for key, value in self.members(node, name, keys):
                path = f"{name}.{key}"
                self.lines[path] = _line(value)
                try:
                    values[key] = self.value(schema()[path], value)
                except ValueError:
                    self.faulty.add(path)
            sections[name] = dataclasses.replace(sections[name], **values)
        config = Config(**sections)
        for paths, problem in _contradictions(config):
            if self.faulty.isdisjoint(paths):
                blamed = next((path for path in paths if path in self.lines), paths[0])
                self.fault(self.lines.get(blamed), blamed, problem)
        return config

    def members(
        self, node: yaml.Node | None, parent: str, known: list[str]
    ) -> Iterator[tuple[str, yaml.Node]]:
        """Yield the known keys of a mapping; nothing below a key is the same as an empty mapping."""
        if node is None or _is_null(node):
            return
        if not isinstance(node, yaml.MappingNode) or not _is_plain(node):
            self.fault(_line(node), parent, f"must be a mapping of {', '.join(known)}, not {_shown(node)}")
            return
        first_seen: dict[str, int] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else _shown(key)
            path = f"{parent}.{name}" if parent else name
            if name not in known:
                self.fault(
                    _line(key), _cut(_on_one_line(path)), f"unknown key{_suggestion(path, parent, known)}"
                )
            elif name in first_seen:
                self.fault(_line(key), path, f"given twice; it stands in line {first_seen[name]} already")
            else:
                first_seen[name] = _line(key)
                yield name, value

    def value(self, key: Key, node: yaml.Node) -> Any:
        """Return the key's value; note what is wrong and raise ValueError."""
        if key.kind.item is None:
            return self.scalar(key.path, key.kind, node)
        if not isinstance(node, yaml.SequenceNode) or not _is_plain(node) or len(node.value) > _MAX_ITEMS:
            self.must_be(key.path, key.kind, node)
            raise ValueError
        items, failed = [], False
        for index, item in enumerate(node.value):
            try:
                items.append(self.scalar(f"{key.path}[{index}]", key.kind.item, item))
            except ValueError:
                failed = True
        if failed:
            raise ValueError
        try:
            return key.kind.parse(items)
        except ValueError:
            self.must_be(key.path, key.kind, node)
            raise

    def scalar(self, path: str, kind: Kind, node: yaml.Node) -> Any:
        try:
            if not isinstance(node, yaml.ScalarNode) or not _is_plain(node) or _is_null(node):
                raise ValueError  # noqa: TRY301
            return kind.parse(node.value)
        except ValueError:
            self.must_be(path, kind, node)
            raise

    def must_be(self, path: str, kind: Kind, node: yaml.Node) -> None:
        instead = "" if kind.secret else f", not {_shown(node)}"
        self.fault(_line(node), path, f"must be {kind.allowed}{instead}")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _is_plain(node: yaml.Node) -> bool:
    """Tell whether the node has no tag of its own: ``!!python/…`` and its like have no meaning here."""
    return node.tag in {
        "tag:yaml.org,2002:str",
        "tag:yaml.org,2002:seq",
        "tag:yaml.org,2002:map",
    }


def _is_null(node: yaml.Node) -> bool:
    return (
        isinstance(node, yaml.ScalarNode)
        and node.style is None
        and node.value in {"", "~", "null", "Null", "NULL"}
    )


def _shown(node: yaml.Node) -> str:
    """Return the words for a value in a message: short, on one line."""
    if not _is_plain(node):
        return f"a value tagged {_cut(str(node.tag))}"
    if isinstance(node, yaml.SequenceNode):
        return f"a list of {len(node.value)}"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "empty" if _is_null(node) else repr(_cut(str(node.value)))


def _on_one_line(text: str) -> str:
    """Return the text with control characters escaped, which could forge a line of the log."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def _suggestion(path: str, parent: str, known: list[str]) -> str:
    """Return what the writer of an unknown key may have meant, or what is allowed there."""
    if path in schema():  # ``ports.base: 5001`` on one line
        key = schema()[path]
        return f"; write {key.name}: below {key.section}:"
    name = path.rpartition(".")[2]
    if close := difflib.get_close_matches(name, known, 1):
        return f"; did you mean {close[0]}?"
    names = {key.name: key.path for key in schema().values()}
    if close := difflib.get_close_matches(name, names, 1, 0.8):
        return f"; did you mean {names[close[0]]}?"
    return f"; {parent or 'the file'} has {', '.join(known)}"


def _contradictions(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what does not fit together: the keys concerned, the likeliest culprit first, and why."""
    ports = config.ports
    running, sockets = config.limits.max_running, config.limits.max_sockets
    if ports.base not in ports.range:
        yield (
            ("ports.base", "ports.range"),
            f"ports.base ({ports.base}) must lie inside ports.range ({ports.range})",
        )
    if ports.overflow.overlaps(ports.range):
        yield (
            ("ports.overflow", "ports.range"),
            f"ports.overflow ({ports.overflow}) must not overlap ports.range ({ports.range})",
        )
    if ports.reserved.issuperset({*ports.range, *ports.overflow}):
        yield (
            ("ports.reserved", "ports.range", "ports.overflow"),
            "ports.reserved leaves nobody a port of ports.range or ports.overflow",
        )
    if running > sockets:
        yield (
            ("limits.max_running", "limits.max_sockets"),
            f"limits.max_running ({running}) must not exceed limits.max_sockets ({sockets})",
        )


def parse(text: str, source: str) -> Config:
    """Return the configuration that the text describes; an empty text is all defaults.

    ``source`` names the text in messages. Raise InvalidConfig with every fault, each with its line.
    """
    reader = _Reader(source)
    config = reader.read(text)
    if reader.faults:
        raise InvalidConfig(reader.faults)
    return config


def load(path: Path) -> Config:
    """Read a configuration file. Raise ConfigError when it cannot be read or is not valid."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_SIZE + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file",
            hint="name another with --config, or copy config.example.yaml; an empty file is all defaults",
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}",
            hint="it must be a file that the daemon's user may read",
        ) from None
    if len(content) > MAX_FILE_SIZE:
        raise InvalidConfig([Fault(str(path), None, "", f"larger than {MAX_FILE_SIZE // 1024} KiB")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidConfig([Fault(str(path), line, "", "not UTF-8 text")]) from None
    return parse(text, str(path))


@dataclass(frozen=True, slots=True)
class Change:
    """A key whose value differs between two configurations."""

    key: str
    reloadable: bool


def changes(old: Config, new: Config) -> list[Change]:
    """Return the keys that differ, in the order of the schema."""
    return [
        Change(key.path, key.reloadable)
        for key in schema().values()
        if getattr(getattr(old, key.section), key.name) != getattr(getattr(new, key.section), key.name)
    ]


def reloaded(old: Config, new: Config) -> Config:
    """Return what holds after a reload: ``new``, but for the keys that a running daemon cannot change."""
    kept: dict[str, dict[str, Any]] = {}
    for key in schema().values():
        if not key.reloadable:
            kept.setdefault(key.section, {})[key.name] = getattr(getattr(old, key.section), key.name)
    sections = {name: dataclasses.replace(getattr(new, name), **values) for name, values in kept.items()}
    return dataclasses.replace(new, **sections)
