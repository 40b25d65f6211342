"""One caller takes all it can get, in every way there is; everybody else is answered at once as before."""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import attackers
import psutil
import pytest
from attackers import PATIENCE, ROOM, crowd, dismiss, head
from support import BASE


class Daemon(attackers.Target):
    """The API in a process of its own."""

    def __init__(self, folder, base, *allowed):
        self._log = (folder / "log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("lone_daemon.py"), folder, str(base), *allowed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        super().__init__(pid=self._process.pid, **json.loads(self._process.stdout.readline()))
        self.process = psutil.Process(self._process.pid)
        folder.chmod(0o755)  # for who is another user

    @property
    def log(self):
        """What it wrote, but of what the others have changed."""
        self._log.seek(0)
        return [line for line in self._log.read().splitlines() if "PUT /v1/users/1 by" not in line]

    def close(self):
        assert self._process.poll() is None, "it died"
        self._process.stdin.close()
        assert self._process.wait(PATIENCE) == 0
        self._process.stdout.close()
        self._log.close()


@pytest.fixture
def daemon():
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder), BASE)
        yield daemon
        daemon.close()


@pytest.fixture
def choosy():
    """The same, where api.allow_users names root only."""
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder), BASE, "root")
        yield daemon
        daemon.close()


def withstands(daemon, attack, **how):
    """Attack, while others call. Fails where they notice, or the daemon grows."""
    tries = attackers.tried(daemon, functools.partial(attack, daemon, **how))
    for one in tries:
        assert one["ended"] == 0
        assert one["calls"] >= attackers.ENOUGH, f"others made {one['calls']} calls only"
        assert one["refused"] == []
        assert one["grew"] < ROOM, f"grew by {one['grew'] >> 20} MiB"
    assert attackers.is_withstood(tries), [f"{one['p99'] * 1000:.0f} ms" for one in tries]


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
@pytest.mark.parametrize("blank", [b"\r\n", b"\n"], ids=["crlf", "lf"])
def test_requests_that_are_piled_up_on_one_connection(daemon, tcp, blank):
    withstands(daemon, attackers.pile_up, tcp=tcp, blank=blank)


@pytest.mark.parametrize(
    ("lines", "more"),
    [
        ([], b"GET / HTTP/1.1\r\n\r\n" * 2000),
        (["Connection: upgrade", "Upgrade: websocket"], b"x" * 65536),
    ],
    ids=["requests", "another-protocol"],
)
def test_what_is_piled_up_behind_a_request_that_waits(daemon, lines, more):
    withstands(daemon, attackers.pile_up_behind, lines=lines, more=more)


def test_many_connections_that_each_pile_up_requests(daemon):
    withstands(daemon, attackers.pile_up_on_many)


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_more_connections_than_there_are_descriptors(daemon, tcp):
    if not tcp and os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    withstands(daemon, attackers.connect_without_end, tcp=tcp)
    assert len(daemon.log) < 50


def test_where_there_is_no_descriptor_left_it_waits_and_continues(daemon):
    before = len(daemon.log)
    soft, hard = daemon.process.rlimit(psutil.RLIMIT_NOFILE)
    daemon.process.rlimit(psutil.RLIMIT_NOFILE, (daemon.process.num_fds() + 10, hard))
    connections = crowd(daemon, 100, head("/assets/icon.svg"), tcp=False)
    used = sum(daemon.process.cpu_times()[:2])
    end = time.monotonic() + 3
    while time.monotonic() < end:
        time.sleep(0.1)
    assert sum(daemon.process.cpu_times()[:2]) - used < 0.5
    assert len(daemon.log) - before < 5
    daemon.process.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
    for connection in connections:
        assert connection.recv(12) == b"HTTP/1.1 200"
    dismiss(connections)


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_what_is_no_http_again_and_again(daemon, tcp):
    withstands(daemon, attackers.talk_nonsense, tcp=tcp)
    assert len(daemon.log) < 50


@pytest.mark.parametrize(
    "path", ["/v1/users/2/events?", "/v1/users/2/qr?timeout=60&"], ids=["streams", "long-polls"]
)
def test_all_that_a_link_opens(daemon, path):
    withstands(daemon, attackers.open_by_link, path=path)


@pytest.mark.parametrize(
    "path", ["/v1/users/2/events", "/v1/users/2/qr?timeout=60"], ids=["streams", "long-polls"]
)
def test_all_that_a_token_opens(daemon, path):
    withstands(daemon, attackers.open_by_token, path=path)


def test_pairing_codes_that_a_link_asks_for(daemon):
    withstands(daemon, attackers.ask_for_codes)
    assert len(daemon.log) < 150


def test_bodies_that_never_end(daemon):
    withstands(daemon, attackers.drip_bodies)


def test_a_token_that_asks_all_the_time(daemon):
    withstands(daemon, attackers.ask_without_end)


def test_a_link_that_changes_something_all_the_time(daemon):
    withstands(daemon, attackers.change_without_end)
    assert len(daemon.log) < 150


def test_logs_that_are_followed_and_not_read(daemon):
    withstands(daemon, attackers.follow_logs)


def test_all_the_streams_that_a_user_id_opens(daemon):
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    withstands(daemon, attackers.open_streams)


def test_a_session_that_changes_all_the_time(daemon):
    withstands(daemon, attackers.flip)
    assert len(daemon.log) < 150


def test_a_session_that_answers_with_interim_answers_all_the_time(daemon):
    withstands(daemon, attackers.go_on_without_end)


def test_media_that_are_fetched_and_not_read(daemon):
    withstands(daemon, attackers.leave_media_unread)


def test_media_that_are_sent_slowly_to_a_session_that_does_not_read(daemon):
    withstands(daemon, attackers.send_media_slowly)


@pytest.mark.parametrize("reads", [True, False], ids=["reads", "reads-nothing"])
def test_who_may_open_the_socket_and_may_not_call(choosy, reads):
    """In group waportd, and not in api.allow_users: each request is refused, and costs as much as another one."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    withstands(choosy, attackers.be_refused_without_end, reads=reads)
    assert len(choosy.log) < 50
