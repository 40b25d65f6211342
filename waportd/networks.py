"""Networks that no session may reach, and the addresses in them that this host needs all the same.

systemd drops the sessions' packets to them, by the control group of all servers (systemd.resource-control(5),
IPAddressDeny=). `waportd deny-networks` sets this, as root: at each start of the machine, and whenever the
configuration or the name servers change (whatsapp-networks.path).
"""

import contextlib
import ipaddress
import subprocess
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from waportd.config import Config
from waportd.errors import WaportdError

SLICE: Final = "whatsapp.slice"
RESOLVER: Final = Path("/etc/resolv.conf")
"""The file with the name servers of the sessions: resolv.conf(5)."""
_DENY: Final = "IPAddressDeny"
_ALLOW: Final = "IPAddressAllow"
_TIMEOUT_S: Final = 30.0

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Filter(NamedTuple):
    """Networks as systemd writes them. A network in both lists is allowed."""

    denied: tuple[str, ...]
    allowed: tuple[str, ...]


def wanted(config: Config, resolver: str) -> Filter:
    """Return the networks to deny and to allow, where ``resolver`` is the text of resolv.conf.

    Name servers, and the proxy and the webhook of the configuration where it names addresses, stay reachable.
    """
    denied = [ipaddress.ip_network(network) for network in config.instances.deny_networks]
    needed = _name_servers(resolver)
    for url in (config.instances.proxy, config.instances.webhook_url):
        needed |= _addresses(urllib.parse.urlsplit(url).hostname or "")
    allowed = [ipaddress.ip_network(one) for one in needed if any(one in network for network in denied)]
    return Filter(_collapsed(denied), _collapsed(allowed))


def wanted_here(config: Config) -> Filter:
    """Return `wanted` with the name servers of this host."""
    return wanted(config, _resolver())


def in_force(shown: str) -> Filter:
    """Return the current rules, from the output of ``systemctl show --property=IPAddressDeny,IPAddressAllow``."""
    values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    denied, allowed = (tuple(sorted(values.get(name, "").split())) for name in (_DENY, _ALLOW))
    return Filter(denied, allowed)


def apply(config: Config) -> Filter:
    """Have systemd deny these networks to the sessions, running ones too, until the next boot; as root.

    Raises WaportdError where systemd does not do it.
    """
    found = wanted_here(config)
    _set(_ALLOW, found.allowed)  # first: needed addresses always stay reachable
    _set(_DENY, found.denied)
    return found


def keep_name_servers() -> None:
    """Keep name servers reachable whatever is denied; for a configuration that cannot be read."""
    _set(_ALLOW, _collapsed(map(ipaddress.ip_network, _name_servers(_resolver()))))


def _set(name: str, networks: tuple[str, ...]) -> None:
    # An empty list first: a property takes what is added to it.
    properties = [f"{name}=", f"{name}={' '.join(networks)}"]
    done = subprocess.run(  # noqa: S603  # networks that were parsed
        ["/usr/bin/systemctl", "set-property", "--runtime", SLICE, *properties],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=_TIMEOUT_S,
        check=False,
        text=True,
    )
    if done.returncode:
        raise WaportdError(
            f"systemd does not deny networks to the sessions: {done.stderr.strip()}",
            hint="run it as root, or with `systemctl start whatsapp-networks`",
        )


def _collapsed(networks: Iterable[_Network]) -> tuple[str, ...]:
    """Return each network once, sorted by name: systemd leaves out networks that others contain."""
    networks = list(networks)
    four = ipaddress.collapse_addresses(one for one in networks if isinstance(one, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(one for one in networks if isinstance(one, ipaddress.IPv6Network))
    return tuple(sorted(map(str, (*four, *six))))


def _resolver() -> str:
    try:
        return RESOLVER.read_text("utf-8", errors="replace")
    except OSError:  # no network yet
        return ""


def _name_servers(resolver: str) -> set[_Address]:
    found: set[_Address] = set()
    for line in resolver.splitlines():
        if line.startswith("nameserver"):
            found |= _addresses("".join(line.split()[1:2]))
    return found


def _addresses(text: str) -> set[_Address]:
    """Return a text's address, as a set; an empty one where the text is no address."""
    with contextlib.suppress(ValueError):
        return {ipaddress.ip_address(text.partition("%")[0])}
    return set()
