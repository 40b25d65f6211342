"""The kernel's tables of sockets, read where sockets are opened for it."""

import os
import socket
import subprocess
import sys

import pytest

from waportd import tcp_table
from waportd.tcp_table import ESTABLISHED, LISTENING, caller_uid, sockets


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


@pytest.mark.parametrize(
    ("family", "there", "here"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::ffff:127.0.0.1", "127.0.0.1"),  # a client with an IPv6 socket
    ],
)
def test_the_caller_of_a_connection_is_known_until_it_closes(family, there, here):
    kind = socket.AF_INET6 if ":" in here else socket.AF_INET
    with socket.create_server((here, 0), family=kind) as listener, socket.socket(family) as client:
        client.connect((there, listener.getsockname()[1]))
        accepted, _ = listener.accept()
        with accepted:
            caller, this = accepted.getpeername()[:2], accepted.getsockname()[:2]
            assert caller_uid(caller, this) == os.getuid()
            assert caller_uid((caller[0], 1), this) is None
            client.close()
            # It is in the table still, and looks like root's.
            assert caller_uid(caller, this) is None


def test_a_caller_of_another_user_is_not_taken_for_this_one():
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    program = "import socket, sys, time; c = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-c", program, str(listener.getsockname()[1])]
        with subprocess.Popen(command, user=61184) as caller:
            try:
                accepted, _ = listener.accept()
                with accepted:
                    assert caller_uid(accepted.getpeername(), accepted.getsockname()) == 61184
            finally:
                caller.kill()
