"""The types of values of config.yaml: durations, sizes, addresses, URLs, paths, each with its check."""

import dataclasses
import enum
import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from waportd.config.text import has_control_characters, is_unit_path
from waportd.contract import LIMITS, PATTERNS, SETTINGS
from waportd.model import BUNDLED, ENGINE_PATTERN, Event, Ignored
from waportd.value_types import Kind, matching, number, several, shown_list, whole

DAY_S: Final = 24 * 3600
_SUN_PATH_BYTES: Final = 107
"""Bytes of a unix socket's path (unix(7): sun_path is 108 with its terminating zero)."""

_DURATION = re.compile(r"(?:([0-9]{1,6})d)? ?(?:([0-9]{1,6})h)? ?(?:([0-9]{1,6})min)? ?(?:([0-9]{1,6})s?)?")
_SIZE = re.compile(r"([0-9]{1,18})([KMGT]?)")
_SIZE_IN_JSON = "^(?:(?:12[89]|1[3-9][0-9]|[2-9][0-9]{2}|[1-9][0-9]{3,5})M|[1-9][0-9]{0,4}G)$"
"""From 128M, which is the smallest one in JSON."""
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
_URL = f"[Hh][Tt][Tt][Pp][Ss]?://(?:{_HOST})(?::(?:{_URL_PORT}))?(?:[/?#][!-~]*)?"
"""What node's ``fetch`` takes: it refuses URLs that carry a user name or password. To compile it takes a millisecond of
each start, so that is done where there is a URL."""
_MAX_URL: Final = 2000
_CREDENTIAL = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%(?:[2-6][0-9A-Fa-f]|7[0-9A-Ea-e])){1,255}"
_PROXY = (
    f"https?://(?:{_CREDENTIAL}:{_CREDENTIAL}@)?(?:{_HOST}):(?:{_URL_PORT})/?"
    f"|socks[45]://(?:{_HOST}):(?:{_URL_PORT})/?"
)
"""What Chromium takes. It knows no passwords of SOCKS proxies (net/docs/proxy.md)."""
_SECRET = PATTERNS["webhook_secret"]
"""24 to 65 bytes (https://www.standardwebhooks.com)."""
_MAX_SECRETS: Final[int] = LIMITS["webhook_secrets"]
_HEADER = "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}"
"""RFC 9110, section 5.6.2."""
_SERVERS_OWN = {
    *(
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
    ),
    *("trailer", "transfer-encoding", "upgrade", "webhook-id", "webhook-signature", "webhook-timestamp"),
}
"""Headers of a webhook that the server sets itself."""
_MAX_HEADERS: Final = 20
_MAX_EXTENSIONS: Final = 5
"""The page asks each of them in turn whether it is there."""


class Bus(enum.StrEnum):
    """Whose systemd supervises the servers."""

    SYSTEM = "system"
    SESSION = "session"


class Takeover(enum.StrEnum):
    """What to do with a left-over ``whatsapp_server.js`` that holds a user's port."""

    NEVER = "never"
    OWN = "own"


class LogLevel(enum.StrEnum):
    """The lowest severity that is logged."""

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
        """Return whether this host only reaches it."""
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
        """Return whether the two have a port in common."""
        return self.first <= other.last and other.first <= self.last


def limits(name: str) -> tuple[int, int]:
    """Return the least and the largest number of a key of ``instances`` that servers know, too."""
    found = SETTINGS[name].range
    assert found is not None, name
    return found


def duration(first: int, last: int) -> Kind:
    """Accept a time in this range of seconds, both included, as seconds."""

    def parse(text: str) -> int:
        match = _DURATION.fullmatch(text)
        if not match or not any(match.groups()) or text != text.strip():
            raise ValueError(text)
        days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
        total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        if not first <= total <= last:
            raise ValueError(text)
        return total

    such = "90, 90s or 2min" if last <= DAY_S else "3600, 12h or 7d"
    return Kind(f"a time from {first} to {last} seconds, such as {such}", parse, show=_shown_duration)


def _shown_text(text: str) -> str:
    return text or "''"


def _shown_duration(seconds: int) -> str:
    return f"{seconds // DAY_S}d" if seconds and seconds % DAY_S == 0 else str(seconds)


def size(least: str, *, zero: str | None) -> Kind:
    """Accept a size of at least this, as bytes; 0 where ``zero`` says what it means."""

    def read(text: str) -> int:
        match = _SIZE.fullmatch(text)
        if not match:
            raise ValueError(text)
        return int(match[1]) << 10 * " KMGT".index(match[2] or " ")

    def parse(text: str) -> int:
        size = read(text)
        if not (size == 0 and zero) and not read(least) <= size <= 1024**5:
            raise ValueError(text)
        return size

    # Each keyword holds for its own type only: the pattern for texts, the bounds for numbers, which are bytes.
    schema = {
        "type": ["integer", "string"],
        "pattern": _SIZE_IN_JSON,
        "anyOf": [{"const": 0}, {"minimum": read(least), "maximum": 1024**5}],
    }
    return Kind(
        f"{f'0 ({zero}) or ' if zero else ''}a size of at least {least}, such as 512M or 1G",
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


def _path(text: str) -> Path:
    if not is_unit_path(text) or ".." in Path(text).parts:
        raise ValueError(text)
    return Path(text)


def _socket_path(text: str) -> Path:
    path = _path(text)
    if len(bytes(path)) > _SUN_PATH_BYTES or text.endswith("/"):
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
    if text and (len(text) > _MAX_URL or not re.fullmatch(_URL, text)):
        raise ValueError
    return text


def _public_url(text: str) -> str:
    if text and (len(text) > _MAX_URL or not re.fullmatch(_URL, text) or {"?", "#"} & set(text)):
        raise ValueError
    return text.rstrip("/")


def _proxy(text: str) -> str:
    if text in {"auto", "none"}:
        return text
    if len(text) > _MAX_URL or not re.fullmatch(_PROXY, text):
        raise ValueError
    return text.removesuffix("/")


def _secrets(items: list[str]) -> tuple[str, ...]:
    if len(items) > _MAX_SECRETS:
        raise ValueError
    return tuple(items)


def _secret(text: str) -> str:
    if not re.fullmatch(_SECRET, text):
        raise ValueError
    return text


def _header_name(text: str) -> str:
    if not re.fullmatch(_HEADER, text) or text.lower() in _SERVERS_OWN:
        raise ValueError
    return text


def _header_value(text: str) -> str:
    if not re.fullmatch(r"[!-~](?:[ -~]{0,1998}[!-~])?", text):
        raise ValueError
    return text


def _headers(items: dict[str, str]) -> tuple[tuple[str, str], ...]:
    if len(items) > _MAX_HEADERS or len({name.lower() for name in items}) < len(items):
        raise ValueError
    return tuple(items.items())


def _extension_id(text: str) -> str:
    if not re.fullmatch("[a-p]{32}", text):
        raise ValueError(text)
    return text


def _extension_url(text: str) -> str:
    if not text:
        raise ValueError(text)
    return _webhook_url(text)


def _extensions(items: dict[str, str]) -> tuple[tuple[str, str], ...]:
    if len(items) > _MAX_EXTENSIONS:
        raise ValueError(items)
    return tuple(items.items())


def _path_or_nothing(text: str) -> str:
    return text and str(_path(text))


def _client_id_prefix(text: str) -> str:
    if not re.fullmatch(PATTERNS["client_id_prefix"], text):
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


def _network(text: str) -> str:
    network = ipaddress.ip_network(text)
    if ipaddress.ip_address("127.0.0.1") in network or ipaddress.ip_address("::1") in network:
        raise ValueError(text)  # no caller could reach a server
    return str(network)


def _port_range(text: str) -> PortRange:
    if "-" not in text:
        raise ValueError(text)
    return _ports(1024)(text)


def _port_set(ranges: list[PortRange]) -> frozenset[int]:
    return frozenset(port for ports in ranges for port in ports)


def _two(items: list[int]) -> tuple[int, int]:
    first, later = items
    return first, later


LOCAL_NETWORKS: Final = (
    *("169.254.0.0/16", "fe80::/10"),
    *("fd00:ec2::254/128", "100.100.100.200/32", "168.63.129.16/32"),
)
"""Link-local networks, and the addresses of AWS, Alibaba and Azure for what others have at 169.254.169.254."""
PORT_RANGE: Final = Kind("FIRST-LAST with 1024 <= FIRST <= LAST <= 65535", _port_range)
WEBHOOK_URL: Final = Kind(
    "an http or https URL of plain ASCII without user name and password, or '' for none",
    _webhook_url,
    secret=True,
    schema={"type": "string", "maxLength": _MAX_URL, "pattern": f"^(?:{_URL})?$"},
)
PUBLIC_URL: Final = Kind(
    "an http or https URL of plain ASCII without ? and #, or '' for none",
    _public_url,
    show=_shown_text,
    schema={
        "type": "string",
        "maxLength": _MAX_URL,
        "pattern": f"^(?:{_URL.replace('[/?#][!-~]*', '/[!-~]*')})?$",
    },
)
PROXY: Final = Kind(
    "auto, none, or a proxy with its port: http://proxy:3128, http://NAME:PASSWORD@proxy:3128 (or https), "
    "socks5://proxy:1080 (or socks4; Chromium gives these no login)",
    _proxy,
    secret=True,
    schema={"type": "string", "maxLength": _MAX_URL, "pattern": f"^(?:auto|none|{_PROXY})$"},
)
WEBHOOK_SECRET: Final = Kind(
    "one or two secrets as a list, or '' for none",
    _secrets,
    Kind("whsec_ and the base64 of 24 to 64 random bytes", _secret, secret=True),
    alone=True,
    secret=True,
    show=lambda secrets: shown_list(["***"] * len(secrets)) if secrets else "''",
    schema={
        "type": ["array", "string"],
        "items": {"type": "string", "pattern": f"^{_SECRET}$"},
        "maxItems": _MAX_SECRETS,
        "pattern": f"^(?:{_SECRET})?$",
    },
)
WEBHOOK_EVENTS: Final = several(Event)
IGNORE: Final = several(Ignored)
DEFAULT_COUNTRY: Final = dataclasses.replace(
    matching(
        f"(?:{PATTERNS['default_country']})?",
        "a calling code without + and zeros, such as 55, or '' for none",
    ),
    show=_shown_text,
)
SEND_RATE: Final = number(*limits("send_rate"))
MEMORY_MAX: Final = size("128M", zero="no limit")
ENGINE: Final = matching(
    f"{BUNDLED}|{ENGINE_PATTERN}", f"{BUNDLED}, or a version that is installed, such as 1.34.7"
)
PATH: Final = Kind("an absolute path without .., quotes, backslash, $, % or control characters", _path)
SOCKET_PATH: Final = Kind(f"{PATH.allowed}, of at most {_SUN_PATH_BYTES} bytes", _socket_path)
ADDRESSES: Final = Kind(
    "a list of addresses",
    tuple,
    Kind(
        "an IP address or localhost with a port, such as 127.0.0.1:8080 or '[::1]:8080'",
        _address,
    ),
    show=shown_list,
)
ACCOUNTS: Final = Kind(
    "a list of user names or numeric user ids",
    tuple,
    Kind("a user name or numeric user id", _account),
    show=shown_list,
)
ORIGINS: Final = Kind(
    "a list of origins",
    tuple,
    Kind(
        "self, or an origin such as https://app.example.com or https://*.example.com",
        _origin,
    ),
    show=shown_list,
)
PORT_SET: Final = Kind(
    "a list of ports and ranges FIRST-LAST",
    _port_set,
    Kind("a port from 1 to 65535 or a range FIRST-LAST of such", _ports(1)),
    show=shown_list,
)
HEADERS: Final = Kind(
    f"at most {_MAX_HEADERS} headers, as NAME: VALUE",
    _headers,
    Kind("plain ASCII of at most 2000 characters", _header_value, secret=True),
    name=Kind("named after headers that waportd does not set itself", _header_name, secret=True),
    secret=True,
    show=lambda headers: f"{{{', '.join(f'{name}: ***' for name, _ in headers)}}}",
)
CLIENT_ID_PREFIX: Final = Kind("1 to 64 of the characters A-Z a-z 0-9 _ -", _client_id_prefix)
BROWSER: Final = Kind(f"auto, a program's name, or {PATH.allowed}", _browser)
BROWSER_ARGUMENTS: Final = Kind(
    "a list of arguments",
    tuple,
    Kind("an argument that starts with -, without control characters", _browser_argument),
    show=shown_list,
)
PATH_OR_NOTHING: Final = Kind(f"{PATH.allowed}, or '' for none", _path_or_nothing, show=_shown_text)
NETWORKS: Final = Kind(
    "a list of networks",
    tuple,
    Kind(
        "an IP address or a network without loopback, such as 10.0.0.0/8 or fe80::/10",
        _network,
    ),
    show=shown_list,
)
CODE_LIFETIMES: Final = Kind(
    "a list of two times: of the first code, and of each later one",
    _two,
    duration(*limits("qr_lifetime")),
    show=shown_list,
)
AUTO_OR_PATH: Final = Kind(f"auto or {PATH.allowed}", _auto_or_path)
EXTENSIONS: Final = Kind(
    f"at most {_MAX_EXTENSIONS} extensions, as ID: URL",
    _extensions,
    Kind(
        "an http or https URL of plain ASCII, where to get the extension",
        _extension_url,
    ),
    name=Kind("named by Chromium's id of an extension, 32 letters from a to p", _extension_id),
    show=lambda extensions: f"{{{', '.join(f'{name}: {url!r}' for name, url in extensions)}}}",
)
