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
    """Return the default of a key of ``instances``, which the server shares."""
    return SETTINGS[name].default


def _number(name: str, kind: Callable[[int, int], Kind], doc: str) -> Any:
    """Return the field of a number of ``instances``, whose default and limits the server shares."""
    return field(default=_default(name), metadata=_key(kind(*values.limits(name)), doc))


@dataclass(frozen=True, slots=True)
class Api:
    """Where the daemon answers, and which callers."""

    socket: Path = field(
        default=Path("/run/waportd/api.sock"),
        metadata=_key(
            values.SOCKET_PATH,
            "The unix socket on which waportd answers. The packaged waportd.socket creates it and "
            "hands it over; if you change it here, change it there, too (`systemctl edit "
            "waportd.socket`).",
            reloadable=False,
        ),
    )
    listen: tuple[Address, ...] = field(
        default=(),
        metadata=_key(
            values.ADDRESSES,
            "TCP addresses on which waportd answers, too, e.g. [127.0.0.1:8080]. Callers there "
            "need a token, which `waportctl token create NAME` makes, or a connect link. It "
            "is HTTP without TLS: for other hosts, put a reverse proxy in front. The packaged service "
            "can only be reached from this host: for an address that is not loopback, add the networks "
            "that may call (`systemctl edit waportd`, [Service], IPAddressAllow=192.0.2.0/24). A reload "
            "removes addresses; new ones need `waportd generate-units --tcp` (docs/security.md).",
            reloadable=False,
        ),
    )
    allow_users: tuple[str | int, ...] = field(
        default=(),
        metadata=_key(
            values.ACCOUNTS,
            "Which accounts may call, by name or numeric user id, e.g. [www-data, 1001]. Left empty, any "
            "that can open the socket (group waportd) may, and each server answers every local "
            "user on its port. Otherwise a server answers only these users, root and waportd; a "
            "running one applies a changed list at its next start.",
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
            "The web apps of the connect page: their pages may show it in a frame, and it may lead back to them "
            "(`return_to` of a connect link). self is the origin under which waportd itself "
            "is seen. Left empty, it is none.",
        ),
    )


@dataclass(frozen=True, slots=True)
class Store:
    """Where the daemon keeps its permanent data."""

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
            "assigned never changes automatically, even if this is changed later.",
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
            "Ports that no user gets, single or as ranges, e.g. [5002, 5060-5061]. A port that "
            "another program holds is noticed anyway, but only while that program runs: name the "
            "web app's own port here.",
        ),
    )
    takeover: Takeover = field(
        default=Takeover.NEVER,
        metadata=_key(
            choice(Takeover),
            "What to do with a whatsapp_server.js that was left over from an earlier setup and "
            "holds a user's port. never: report it, but do not touch it. own: end it, if it runs "
            "as waportd's own user and its command line and working directory show that it is "
            "one. A process of another user is never touched; to end one, run `waportctl port "
            "PORT --end-stale` as root.",
        ),
    )


@dataclass(frozen=True, slots=True)
class Instances:
    """The settings of each user's server."""

    webhook_url: str = field(
        default=_default("webhook_url"),
        repr=False,
        metadata=_key(
            values.WEBHOOK_URL,
            "Where each server posts incoming messages; '' for nowhere. The API can set "
            "another one for a user.",
        ),
    )
    webhook_secret: tuple[str, ...] = field(
        default=(),
        repr=False,
        metadata=_key(
            values.WEBHOOK_SECRET,
            "The secret that signs each message to the webhook, as Standard Webhooks specifies; create one with "
            "`echo whsec_$(openssl rand -base64 32)`. If there are two, both sign, so that the web app can switch from "
            "one to the other. '' for no signature. waportd never shows it; if set, other users must not be able to "
            "read this file. The API can set another one for a user.",
        ),
    )
    webhook_headers: tuple[tuple[str, str], ...] = field(
        default=(),
        repr=False,
        metadata=_key(
            values.HEADERS,
            "Further headers of each call of the webhook, e.g. {Authorization: Bearer TOKEN}. waportd never shows the "
            "values; if set, other users must not be able to read this file.",
        ),
    )
    webhook_events: tuple[Event, ...] = field(
        default=(Event(_default("webhook_events")),),
        metadata=_key(
            values.WEBHOOK_EVENTS,
            "Which events go to the webhook: message is what others write, message.sent what is sent from the phone or "
            "over the API, message.ack how far that has come, session a change of the session's state. The API can "
            "read all of them in any case, and set other ones for a user.",
        ),
    )
    webhook_timeout: int = _number(
        "webhook_timeout",
        values.duration,
        "How long the webhook may take to answer. A message that was not answered by then is sent again, with the "
        "same id; messages of other chats do not wait for it.",
    )
    webhook_retry: int = _number(
        "webhook_retry",
        values.duration,
        "How long a message is retried, after growing pauses, when the webhook does not accept it. After "
        "that it is kept as undelivered, and `waportctl messages redeliver` sends it again.",
    )
    ignore: tuple[Ignored, ...] = field(
        default=(Ignored(_default("ignore")),),
        metadata=_key(
            values.IGNORE,
            "Chats that are ignored: their messages go to no webhook and are not kept. status is what people "
            "show all their contacts for a day. The API can set other ones for a user.",
        ),
    )
    journal_age: int = _number(
        "journal_age",
        values.duration,
        "How long each server keeps messages in its message journal, from which they can be sent again and read. "
        "The journal lies beside the login; logout and deletion erase it.",
    )
    journal_size: int = field(
        default=_default("journal_size"),
        metadata=_key(
            values.size("1M", zero=None),
            "The largest size of each user's message journal on disk. The oldest messages are dropped first, delivered "
            "or not.",
        ),
    )
    snapshot_interval: int = _number(
        "snapshot_interval",
        values.duration,
        "How often a connected session's login is copied beside it, which halts the browser for some milliseconds; 0 "
        "for never. One more copy is made when the server stops. A login that the browser finds damaged at a start is "
        "replaced by the newest copy, and `waportctl backup` includes that copy.",
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
            "The calling code for numbers that are written without one, such as 55 for (11) 98888-7777; '' for none: "
            "each number must then have one. The API can set another one for a user.",
        ),
    )
    media_from_private: bool = field(
        default=_default("media_from_private"),
        metadata=_key(
            FLAG,
            "Whether a picture, video or file to send may be fetched from an address of this host or of a "
            "private network. Anyone who may send could then read what answers there.",
        ),
    )
    send_rate: int = field(
        default=_default("send_rate"),
        metadata=_key(
            values.SEND_RATE,
            "The most messages that a user sends in a minute; 0 for no limit. WhatsApp bans numbers that write to many "
            "strangers, however slowly. The API can set another limit for a user.",
        ),
    )
    client_id_prefix: str = field(
        default=_default("client_id_prefix"),
        metadata=_key(
            values.CLIENT_ID_PREFIX,
            "A server's client id is PREFIX_PORT, and its login is stored under that name, in "
            ".wwebjs_auth_PORT/session-PREFIX_PORT: with another prefix, every user has to link again. With the default, a "
            "login under the default of version 0.1, ylada_bot, is used as it is.",
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
            "`--no-sandbox` would let a hostile page break out of the browser; it is never needed.",
        ),
    )
    proxy: str = field(
        default=_default("proxy"),
        repr=False,
        metadata=_key(
            values.PROXY,
            "The proxy of the browsers to WhatsApp. auto: HTTPS_PROXY of the unit's environment, or no proxy; none: "
            "never a proxy. The API can set another one for a user. It may hold a name and a password, with %XX for "
            "other characters than letters and digits; waportd never shows the password; if set, other users must not "
            "be able to read this file. The webhook never uses a proxy.",
        ),
    )
    engine: str = field(
        default=BUNDLED,
        metadata=_key(
            values.ENGINE,
            "The version of whatsapp-web.js that the servers run: bundled, which came with waportd, or one that "
            "`waportctl engine install` put beside it. `waportctl engine use` sets it, and can try it on some "
            "users first. The API can set another one for a user.",
        ),
    )
    web_version: str = field(
        default="",
        metadata=_key(
            values.PATH_OR_NOTHING,
            "A pinned page: a file with an earlier start page of WhatsApp Web, which the servers load in place of "
            "the site's own; '' for none. A stopgap while WhatsApp's newest page does not work: remove it once an "
            "engine supports that page. Everybody must be able to read the file.",
        ),
    )
    deny_networks: tuple[str, ...] = field(
        default=values.LOCAL_NETWORKS,
        metadata=_key(
            values.NETWORKS,
            "Networks that no session may reach: by default the link-local ones and the metadata addresses of clouds, "
            "which serve secrets. The name servers of /etc/resolv.conf, and the addresses of `proxy` and "
            "`webhook_url`, stay reachable. Applies to all servers as soon as the file is written, where the kernel "
            "supports it; `waportctl doctor` says whether it does. [] for none.",
        ),
    )
    qr_max_retries: int = _number(
        "qr_max_retries",
        number,
        "How many codes are shown before a server closes its browser and waits until somebody "
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
        "How often a server checks that its browser and page answer, and how long they may take to answer.",
    )
    idle_timeout: int = _number(
        "idle_timeout",
        values.duration,
        "A server without a login ends after this time without a request. Its port stays "
        "open, and the next request starts it again.",
    )
    cache_max: int = field(
        default=_default("cache_max"),
        metadata=_key(
            values.size("1M", zero="no limit"),
            "A browser's cache that is larger is emptied before the browser's next start. It does not contain "
            "the login.",
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
            "The node program; auto: /usr/bin/node. The unit file contains it: with `systemd.bus: session` "
            "a restart applies it; on the system bus also run `waportd generate-units`.",
            reloadable=False,
        ),
    )
    script: str = field(
        default="auto",
        metadata=_key(
            values.AUTO_OR_PATH,
            "The server's script; auto: the whatsapp_server.js that came with waportd. The unit file "
            "contains it, as it does the node program.",
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
    """Limits on the servers' use of the machine."""

    max_running: int = field(
        default=0,
        metadata=_key(
            number(0, 10000),
            "How many servers may run at the same time; 0 for no limit. A server that a call to its port starts beyond "
            "that opens no browser until there is room.",
        ),
    )
    max_sockets: int = field(
        default=1000,
        metadata=_key(
            number(1, 10000),
            "How many ports are held open at the same time. With more than about 1000, systemd "
            "becomes slow to reload.",
        ),
    )
    start_concurrency: int = field(
        default=4,
        metadata=_key(
            number(1, 100),
            "How many servers start at the same time when many are due, as after a boot. A starting "
            "browser keeps a processor busy for a second or more.",
        ),
    )
    memory_max: int = field(
        default=1024**3,
        metadata=_key(
            values.MEMORY_MAX,
            "Memory of one server together with its browser. A server that exceeds it is ended and "
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
    """What the daemon logs to the journal."""

    level: LogLevel = field(
        default=LogLevel.INFO,
        metadata=_key(choice(LogLevel), "The lowest severity that is logged: debug, info, warning or error."),
    )


@dataclass(frozen=True, slots=True)
class Connect:
    """What the connect page offers when WhatsApp asks for a passkey."""

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
    """The metrics for Prometheus."""

    per_user: bool = field(
        default=True,
        metadata=_key(
            FLAG,
            "Whether GET /metrics has series for each user, labelled with the user. With many users that is much to "
            "store, and it reveals to Prometheus who they are.",
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
        """Where other versions of whatsapp-web.js lie: in a folder of root's where system units run the servers."""
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
    """A running daemon applies a new value on reload; a running server at its next start."""

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
