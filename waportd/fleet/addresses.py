"""Where the hosts of the fleet listen, and how one is reached: by name, at the address on the list of members.

Nothing is looked up. Who answers at an address has to show the certificate of that name.
"""

import ipaddress
import socket
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import aiohttp.abc

from waportd.fleet.identity import Identity
from waportd.fleet.peer_calls import Members
from waportd.fleet.peer_faults import BadAddress

KEEPER: Final = 0
"""The program that holds the lease listens on the port of a host's address,"""
DAEMON: Final = 1
"""and the daemon on the port after it."""

_KEEP_ALIVE_S: Final = 30.0
"""Seconds that an idle connection is kept: less than the other side keeps it, so that none is used while it closes."""


def client(identity: Identity, members: Members, *, connect_s: float | None = None) -> aiohttp.ClientSession:
    """Return what calls the other hosts, by URLs that have their names. An event loop has to run.

    A connection is there, TLS included, within ``connect_s`` seconds; else aiohttp.ServerTimeoutError is raised.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0,
            ssl=identity.client,
            resolver=_Addresses(members),
            use_dns_cache=False,
            keepalive_timeout=_KEEP_ALIVE_S,
        ),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # a small answer could grow without end
        skip_auto_headers=("User-Agent", "Accept-Encoding"),
        trust_env=False,
    )


def base(host: str, members: Members, program: int) -> str:
    """Return the URL of a program of a host, without a path: `KEEPER` or `DAEMON`. Raises BadAddress."""
    _, port = _address(host, members())
    return f"https://{host}:{port + program}"


def listen(address: str, program: int) -> socket.socket:
    """Return a socket that listens for a program at the address of this host, IP:PORT. Raises OSError."""
    parts = urlsplit(f"//{address}")
    family = socket.AF_INET6 if ":" in (parts.hostname or "") else socket.AF_INET
    return socket.create_server(
        (parts.hostname or "", (parts.port or 0) + program), family=family, backlog=128
    )


class _Addresses(aiohttp.abc.AbstractResolver):
    """The list of members, in place of DNS."""

    def __init__(self, members: Members) -> None:
        self._members = members

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[Any]:  # noqa: ARG002
        address, _ = _address(host, self._members())
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        # The name is what the certificate is checked against.
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": kind,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
        ]

    async def close(self) -> None:
        """Nothing is open."""


def _address(host: str, members: Mapping[str, Any]) -> tuple[str, int]:
    """Return IP address and port of a host. Raises BadAddress."""
    if (member := members.get(host)) is None:
        raise BadAddress(f"there is no host {host}")
    try:
        parts = urlsplit(f"//{member.address}")
        return str(ipaddress.ip_address(parts.hostname or "")), parts.port or 0
    except ValueError:
        raise BadAddress(f"its address in the list of hosts is {member.address!r}, not IP:PORT") from None
