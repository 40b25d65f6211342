"""The kernel's tables of TCP sockets: /proc/net/tcp and tcp6 (proc(5)), which everybody may read."""

import ipaddress
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ESTABLISHED: Final = "01"
LISTENING: Final = "0A"
TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LOOKS: Final = 2
"""The kernel hands a table out in pieces, and a line can move from a later to an earlier one meanwhile."""
_STATE_TO_INODE: Final = re.compile(r"(\S+) \S+ \S+ \S+ +(\d+) +\d+ (\d+) ")


class TcpSocket(NamedTuple):
    """One line of a table."""

    local: tuple[str, int]
    """Address, as the kernel writes it: the bytes of memory in hexadecimal; and port."""
    remote: tuple[str, int]
    state: str
    uid: int
    inode: int
    """0 where its program has closed it: then it looks like root's."""


def sockets() -> Iterator[TcpSocket]:
    """Yield the sockets of this network namespace; those of IPv6 only where the kernel has it."""
    for table in TABLES:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            yield TcpSocket(
                _end(fields[1]), _end(fields[2]), fields[3], uid=int(fields[7]), inode=int(fields[9])
            )


def _end(text: str) -> tuple[str, int]:
    address, _, port = text.partition(":")
    return address, int(port, 16)


def caller_uid(caller: tuple[str, int], here: tuple[str, int]) -> int | None:
    """Return the uid of the program at the other end of a connection within this host; None where it is not known.

    ``caller`` and ``here`` are the addresses and ports of the two ends. Only an established end with an inode has an
    owner: one that was closed after a request was sent looks like root's.
    """
    starts = [
        f" {there}:{caller[1]:04X} {this}:{here[1]:04X} "
        for there, this in zip(_written(caller[0]), _written(here[0]), strict=False)
    ]
    for _ in range(_LOOKS):
        for table in TABLES:
            try:
                text = table.read_text(encoding="ascii")
            except FileNotFoundError:  # a kernel without IPv6
                continue
            for start in starts:
                at = text.find(start)
                found = _STATE_TO_INODE.match(text, at + len(start)) if at >= 0 else None
                if found and found[1] == ESTABLISHED and found[3] != "0":
                    return int(found[2])
    return None


def _written(address: str) -> list[str]:
    """Return an address as the tables have it: 32-bit words of the host's byte order; IPv4 as one and as mapped.

    A client with an IPv6 socket that talks to an IPv4 address is only in the second table.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return [_words(ip.packed)]
        ip = ip.ipv4_mapped
    return [_words(ip.packed), _words(bytes(10) + b"\xff\xff" + ip.packed)]


def _words(packed: bytes) -> str:
    parts = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(part, sys.byteorder):08X}" for part in parts)
