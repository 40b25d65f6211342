"""The kernel's tables of sockets, read where sockets are opened for it."""

import os
import socket

import pytest

from waportd import tcp_table
from waportd.tcp_table import ESTABLISHED, LISTENING, sockets


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_listeners_and_both_ends_of_a_connection_are_found_with_their_user(host, family):
    with (
        socket.create_server((host, 0), family=family) as listener,
        socket.create_connection(listener.getsockname()[:2]) as client,
    ):
        server, caller = listener.getsockname()[1], client.getsockname()[1]
        accepted, _ = listener.accept()
        with accepted:
            seen = {
                (each.local[1], each.remote[1], each.state, each.uid)
                for each in sockets()
                if server in {each.local[1], each.remote[1]} and each.inode
            }
    uid = os.getuid()
    assert seen == {
        (server, 0, LISTENING, uid),
        (server, caller, ESTABLISHED, uid),
        (caller, server, ESTABLISHED, uid),
    }


def test_a_host_without_ipv6_has_no_sockets_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tcp_table, "TABLES", (tmp_path / "none", *tcp_table.TABLES[:1]))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert ("0100007F", listener.getsockname()[1]) in {
            (each.local[0], each.local[1]) for each in sockets() if each.state == LISTENING
        }
