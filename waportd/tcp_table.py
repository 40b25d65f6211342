"""The kernel's tables of TCP sockets: /proc/net/tcp and tcp6 (proc(5)), which everybody may read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ESTABLISHED: Final = "01"
LISTENING: Final = "0A"
TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


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
