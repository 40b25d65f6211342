"""The schema of config.yaml, as frozen dataclasses.

Each field carries what its value may be, what it means and whether a running daemon can take a new value. Validation
reads it from here, and so does ``tools/reference``, which writes ``config.example.yaml``, ``docs/configuration.md`` and
the manual page: their prose stands here only.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from waportd.config import values
from waportd.config.paths import ENGINES, shipped
from waportd.config.values import Address, Bus, LogLevel, PortRange, Takeover
from waportd.contract import SETTINGS
from waportd.model import BUNDLED, Event, Ignored
from waportd.value_types import FLAG, Kind, choice, number


def _key(kind: Kind, doc: str, *, reloadable: bool = True) -> dict[str, Any]:
    return {"kind": kind, "doc": doc, "reloadable": reloadable}


def _default(name: str) -> Any:
    """Return the default of a key of ``instances``, which is that of the server, too."""
    return SETTINGS[name].default


def _number(name: str, kind: Callable[[int, int], Kind], doc: str) -> Any:
    """Return the field of a number of ``instances``: its default and its limits are known to the server, too."""
    return field(default=_default(name), metadata=_key(kind(*values.limits(name)), doc))


@dataclass(frozen=True, slots=True)
class Api:
    """Where the daemon answers, and whom."""

    socket: Path = field(
        default=Path("/run/waportd/api.sock"),
        metadata=_key(
            values.SOCKET_PATH,
            "The unix socket on which waportd answers. The packaged waportd.socket creates it and "
            "hands it over; whoever changes it here changes it there too (`systemctl edit "
            "waportd.socket`).",
            reloadable=False,
        ),
    )
    listen: tuple[Address, ...] = field(
        default=(),
        metadata=_key(
            values.ADDRESSES,
            "TCP addresses on which waportd answers, too, e.g. [127.0.0.1:8080]. Whoever calls there "
            "needs a token, which `waportctl token create NAME` makes, or a connect link. It "
            "is HTTP without TLS: for other hosts, put a reverse proxy in front. The packaged service "
            "may be reached from this host only: for an address that is not loopback, add the networks "
            "that may call (`systemctl edit waportd`, [Service], IPAddressAllow=192.0.2.0/24). A reload "
            "takes addresses away; new ones need `waportd generate-units --tcp` (docs/security.md).",
            reloadable=False,
        ),
    )
    allow_users: tuple[str | int, ...] = field(
        default=(),
        metadata=_key(
            values.ACCOUNTS,
            "Who may call, by name or numeric user id, e.g. [www-data, 1001]. Left empty, it is "
            "whoever may open the socket (group waportd), and each server answers every local "
            "user on its port. Otherwise a server answers these users, root and waportd only; one "
            "that runs takes a changed list over at its next start.",
        ),
    )
    public_url: str = field(
        default="",
        metadata=_key(
            values.PUBLIC_URL,
            "Where people reach the connect page, e.g. https://app.example.com/whatsapp: connect links begin with it. Left "
            "empty, they begin with the address that was called, or are paths where a unix socket was.",
        ),
    )
    frame_ancestors: tuple[str, ...] = field(
        default=("self",),
        metadata=_key(
            values.ORIGINS,
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
            values.PATH,
            "Holds the assignments of users to ports (waportd.db) and one environment file per "
            "server (instances/PORT.env).",
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
            values.PORT_RANGE,
            "Preferred ports lie in this range. By default it ends before PostgreSQL's 5432.",
        ),
    )
    overflow: PortRange = field(
        default=PortRange(20000, 31999),
        metadata=_key(
            values.PORT_RANGE,
            "Users whose preferred port is taken, reserved or outside the range get the next free "
            "port of this one, as do users that are not numbers. By default it stays below the "
            "ports that the kernel gives to outgoing connections (32768 and up).",
        ),
    )
    reserved: frozenset[int] = field(
        default=frozenset(),
        metadata=_key(
            values.PORT_SET,
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
        default=_default("webhook_url"),
        repr=False,
        metadata=_key(
            values.WEBHOOK_URL,
            "Where each server posts incoming messages; '' for nowhere. A user may be given "
            "another one over the API.",
        ),
    )
    webhook_secret: tuple[str, ...] = field(
        default=(),
        repr=False,
        metadata=_key(
            values.WEBHOOK_SECRET,
            "What signs each message that goes to the webhook, by the convention of Standard Webhooks: a text such as "
            "`echo whsec_$(openssl rand -base64 32)` makes. Of two, both sign, so that the web app can go over from one "
            "to the other. '' for no signature. waportd shows it to nobody, and this file must be closed to others "
            "then. A user may be given another one.",
        ),
    )
    webhook_headers: tuple[tuple[str, str], ...] = field(
        default=(),
        repr=False,
        metadata=_key(
            values.HEADERS,
            "Further headers of each call of the webhook, e.g. {Authorization: Bearer TOKEN}. waportd shows the values "
            "to nobody, and this file must be closed to others then.",
        ),
    )
    webhook_events: tuple[Event, ...] = field(
        default=(Event(_default("webhook_events")),),
        metadata=_key(
            values.WEBHOOK_EVENTS,
            "What goes to the webhook: message is what others write, message.sent what goes out from the phone or over "
            "the API, message.ack how far that came, session a change of the session's state. All of it can be "
            "read over the API, whatever stands here. A user may be given other ones.",
        ),
    )
    webhook_timeout: int = _number(
        "webhook_timeout",
        values.duration,
        "How long the webhook may take to answer. A message that was not answered by then is sent again, with the "
        "same id; those of other chats do not wait for it.",
    )
    webhook_retry: int = _number(
        "webhook_retry",
        values.duration,
        "How long a message is sent again and again, after growing pauses, to a webhook that does not take it. After "
        "that it is kept as undelivered, and `waportctl messages redeliver` sends it once more.",
    )
    ignore: tuple[Ignored, ...] = field(
        default=(Ignored(_default("ignore")),),
        metadata=_key(
            values.IGNORE,
            "Chats that are passed over: what is said there goes to no webhook and is not kept. status is what people "
            "show all their contacts for a day. A user may be given other ones.",
        ),
    )
    journal_age: int = _number(
        "journal_age",
        values.duration,
        "How long each server keeps what came and went in its journal of messages, to send it again and to be read "
        "from. The journal lies beside the login, and logout and deletion erase it.",
    )
    journal_size: int = field(
        default=_default("journal_size"),
        metadata=_key(
            values.size("1M", zero=None),
            "What the journal of messages takes on disk for each user at most. The oldest are dropped first, delivered or not.",
        ),
    )
    snapshot_interval: int = _number(
        "snapshot_interval",
        values.duration,
        "How often the login of a session that is connected is copied beside it, for some milliseconds of standstill; 0 "
        "for never. One more copy is made when the server stops. A login that the browser finds damaged at a start is "
        "replaced by the newest copy, and `waportctl backup` takes that along.",
    )
    snapshots: int = _number(
        "snapshots",
        number,
        "How many of these copies are kept. They share what has not changed between them.",
    )
    default_country: str = field(
        default="",
        metadata=_key(
            values.DEFAULT_COUNTRY,
            "The calling code of numbers that are written without one, such as 55 for (11) 98888-7777; '' for none: "
            "each number must then have it. A user may be given another one.",
        ),
    )
    media_from_private: bool = field(
        default=_default("media_from_private"),
        metadata=_key(
            FLAG,
            "Whether a picture, video or file that is to be sent may be fetched from an address of this host or of a "
            "private network. Whoever may send could then read what answers there.",
        ),
    )
    send_rate: int = field(
        default=_default("send_rate"),
        metadata=_key(
            values.SEND_RATE,
            "Messages that a user sends in a minute at most; 0 for no limit. WhatsApp bans numbers that write to many "
            "strangers, however slowly. A user may be given another one.",
        ),
    )
    client_id_prefix: str = field(
        default=_default("client_id_prefix"),
        metadata=_key(
            values.CLIENT_ID_PREFIX,
            "A server's client id is PREFIX_PORT, and its login is stored under that name, in "
            ".wwebjs_auth_PORT/session-PREFIX_PORT: another prefix makes every user link anew.",
        ),
    )
    browser: str = field(
        default=_default("browser"),
        metadata=_key(
            values.BROWSER,
            "The browser: a path or a program's name. auto takes the lightest of "
            "chromium-headless-shell, chromium and google-chrome; when WhatsApp's page gives neither a "
            "code nor a login in one, the next is tried.",
        ),
    )
    browser_args: tuple[str, ...] = field(
        default=(),
        metadata=_key(
            values.BROWSER_ARGUMENTS,
            'Further arguments for the browser, e.g. ["--disable-ipv6"]. Everybody on the host can read them. '
            "`--no-sandbox` would let a hostile page out of the browser; it is never needed.",
        ),
    )
    proxy: str = field(
        default=_default("proxy"),
        repr=False,
        metadata=_key(
            values.PROXY,
            "The proxy that the browsers take to WhatsApp. auto: what HTTPS_PROXY says in the unit's environment, or "
            "none; none: never one. A user may be given another one. It may hold a name and a password, with %XX "
            "for what is no letter or digit; waportd shows the password to nobody, and this file must be closed to "
            "others then. The webhook never takes a proxy.",
        ),
    )
    engine: str = field(
        default=BUNDLED,
        metadata=_key(
            values.ENGINE,
            "The version of whatsapp-web.js that the servers run: bundled, which came with waportd, or one that "
            "`waportctl engine install` put beside it. `waportctl engine use` sets it, and can try it on some "
            "users first. A user may be given another one.",
        ),
    )
    web_version: str = field(
        default="",
        metadata=_key(
            values.PATH_OR_NOTHING,
            "A pinned page: a file with WhatsApp Web's start page of an earlier day, which the servers load in place of "
            "that of the site; '' for none. First aid while WhatsApp's newest page does not work, until there is "
            "an engine that does; take it back then. Everybody must be able to read it.",
        ),
    )
    deny_networks: tuple[str, ...] = field(
        default=values.LOCAL_NETWORKS,
        metadata=_key(
            values.NETWORKS,
            "Networks that no session may reach: by default the link-local ones and where clouds tell a machine its "
            "secrets. The name servers of /etc/resolv.conf, and the addresses of `proxy` and `webhook_url`, stay "
            "within reach. Holds for all servers as soon as the file is written, where the kernel can do it; "
            "`waportctl doctor` tells. [] for none.",
        ),
    )
    qr_max_retries: int = _number(
        "qr_max_retries",
        number,
        "Codes that are shown before a server closes its browser and waits until somebody "
        "asks for a new one.",
    )
    qr_lifetime: tuple[int, int] = field(
        default=tuple(_default("qr_lifetime")),
        metadata=_key(
            values.CODE_LIFETIMES,
            "How long the first code and each later one is valid. WhatsApp decides this; change "
            "it only when WhatsApp does.",
        ),
    )
    start_timeout: int = _number(
        "start_timeout", values.duration, "From the browser's start until a code or a login must have come."
    )
    ready_timeout: int = _number(
        "ready_timeout",
        values.duration,
        "From the scan until the session must be ready. Accounts with many chats take longest.",
    )
    probe_interval: int = _number(
        "probe_interval",
        values.duration,
        "How often a server checks that its browser and page answer, and how long they may take to.",
    )
    idle_timeout: int = _number(
        "idle_timeout",
        values.duration,
        "A server without a login ends when nobody asked it for this long. Its port stays "
        "open, and the next request starts it again.",
    )
    cache_max: int = field(
        default=_default("cache_max"),
        metadata=_key(
            values.size("1M", zero="no limit"),
            "A browser's cache that is larger is emptied before the browser starts the next time. The login does not "
            "lie in it.",
        ),
    )
    media_max: int = field(
        default=_default("media_max"),
        metadata=_key(
            values.size("1M", zero="no limit"),
            "A picture, video or file of a message that is larger is not read (`GET /media`, status 413). The "
            "browser and the server hold several copies of one at a time, so raise limits.memory_max with it.",
        ),
    )
    node: str = field(
        default="auto",
        metadata=_key(
            values.AUTO_OR_PATH,
            "The node program; auto: /usr/bin/node. It stands in the unit file: with `systemd.bus: session` "
            "a restart applies it; on the system bus also run `waportd generate-units`.",
            reloadable=False,
        ),
    )
    script: str = field(
        default="auto",
        metadata=_key(
            values.AUTO_OR_PATH,
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
        default=0,
        metadata=_key(
            number(0, 10000),
            "Servers that run at the same time; 0 for no limit. One that a call to its port wakes beyond that "
            "opens no browser until there is room.",
        ),
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
            values.MEMORY_MAX,
            "Memory of one server together with its browser. One that outgrows it is ended and "
            "started again; its login survives. 0 for no limit.",
        ),
    )
    min_available_memory: int = field(
        default=256 * 1024**2,
        metadata=_key(
            values.size("1M", zero="off"),
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
class Connect:
    """What the connect page offers to whom WhatsApp asks for a passkey."""

    own_passkey_extension: bool = field(
        default=True,
        metadata=_key(
            FLAG,
            "Whether the page offers waportd's own browser extension, and uses it (docs/extension.md). Without any extension "
            "it offers a script to paste into the browser's console.",
        ),
    )
    passkey_extensions: tuple[tuple[str, str], ...] = field(
        default=(),
        metadata=_key(
            values.EXTENSIONS,
            "Other extensions that the page offers and uses, too, by their ids in Chromium and where to get them: those that "
            "understand the messages waha-passkey-ping and waha-passkey-sign, e.g. "
            "{ghpdcgnjffaaekflfpcgkgpbafmjldcp: 'https://chromewebstore.google.com/detail/ghpdcgnjffaaekflfpcgkgpbafmjldcp'}, "
            "which is that of WAHA. Such an extension may read web.whatsapp.com in the browsers of those who install it: "
            "trust its makers first.",
        ),
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
    connect: Connect = Connect()
    metrics: Metrics = Metrics()
    log: Log = Log()

    @property
    def engines(self) -> Path:
        """Where other versions of whatsapp-web.js lie: in a folder of root's where servers are the system's."""
        return ENGINES if self.systemd.bus is Bus.SYSTEM else self.store.directory / "engines"


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
