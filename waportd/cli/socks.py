"""The client's side of SOCKS 5 (RFC 1928), as Chromium has it: names go to the proxy, and it logs in nowhere."""

import socket
from typing import Final

_NONE_FITS: Final = 0xFF
_REPLIES: Final = {
    1: "it failed",
    2: "its rules do not allow it",
    3: "the network cannot be reached",
    4: "the host cannot be reached",
    5: "the connection was refused",
    6: "it took too long",
}


class SocksRefusedError(Exception):
    """The proxy does not do what it was asked for; the text says why."""


class SocksLoginError(SocksRefusedError):
    """The proxy wants a name and a password."""


def lead(connection: socket.socket, host: str, port: int) -> None:
    """Have the proxy at the other end lead the connection to that host and port.

    Raises SocksRefusedError, and OSError where the connection breaks.
    """
    connection.sendall(b"\x05\x01\x00")
    version, way = _read(connection, 2)
    if version != 5:  # noqa: PLR2004
        raise SocksRefusedError("it does not speak SOCKS 5")
    if way == _NONE_FITS:
        raise SocksLoginError("it wants a name and a password")
    name = host.encode("ascii")
    connection.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
    _, reply, _, kind = _read(connection, 4)
    if reply:
        raise SocksRefusedError(_REPLIES.get(reply, f"it answers {reply}"))
    # Where it connects from: an address of IPv4 or IPv6, or a name, and a port.
    length = {1: 4, 4: 16}.get(kind) or _read(connection, 1)[0]
    _read(connection, length + 2)


def _read(connection: socket.socket, count: int) -> bytes:
    read = b""
    while len(read) < count:
        more = connection.recv(count - len(read))
        if not more:
            raise SocksRefusedError("it closes the connection")
        read += more
    return read
