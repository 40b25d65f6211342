"""Sockets that systemd opened for the daemon (sd_listen_fds(3))."""

import socket

from systemd import daemon

used = False


def was_used() -> bool:
    """Return whether systemd has handed over sockets."""
    return used


def listen_sockets() -> dict[str, list[socket.socket]]:
    """Return the sockets that were handed over, by the names from their socket units; empty without any.

    They do not block and are not inherited by children. The second call returns nothing. Raises OSError where
    something other than a socket was handed over.
    """
    global used  # noqa: PLW0603  # the variables are unset after the call
    sockets: dict[str, list[socket.socket]] = {}
    for descriptor, name in daemon.listen_fds_with_names(unset_environment=True).items():
        listener = socket.socket(fileno=descriptor)
        used = True
        listener.setblocking(False)  # noqa: FBT003
        sockets.setdefault(name, []).append(listener)
    return sockets
