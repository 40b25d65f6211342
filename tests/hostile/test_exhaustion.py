"""One caller takes all it can get, in every way there is; everybody else goes on being answered at once."""

import contextlib
import json
import multiprocessing
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from support import BASE

PATIENCE = 30.0
QUICK = 0.050
"""Seconds: the 99th percentile of what another caller waits for."""
ROOM = 64 << 20
"""Bytes that the daemon may grow by, whatever one caller does."""


class Daemon:
    """The API in a process of its own."""

    def __init__(self, folder, base):
        self._log = (folder / "log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("lone_daemon.py"), folder, str(base)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        vars(self).update(json.loads(self._process.stdout.readline()))
        self.process = psutil.Process(self._process.pid)

    @property
    def memory(self):
        return self.process.memory_info().rss

    @property
    def log(self):
        self._log.seek(0)
        return self._log.read().splitlines()

    def connect(self, *, tcp=True):
        if tcp:
            return socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        try:
            connection.connect(self.socket)
        except OSError:
            connection.close()
            raise
        return connection

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


def head(path, *lines, method="GET"):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def shown(token):
    return f"Authorization: Bearer {token}"


class Others:
    """Callers who go on calling, over TCP with a token and over the unix socket; each call on a connection of its own."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.waits = []
        self.refused = []
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(tcp,)) for tcp in (True, False)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _call(self, tcp):
        lines = [shown(self.daemon.admin)] if tcp else []
        request = head("/v1/users/1/qr", "Connection: close", *lines)
        while not self._ends.wait(0.005):
            began = time.perf_counter()
            try:
                with contextlib.closing(self.daemon.connect(tcp=tcp)) as connection:
                    connection.sendall(request)
                    answer = b"".join(iter(lambda: connection.recv(65536), b""))
            except OSError as error:
                self.refused.append(repr(error))
                continue
            self.waits.append(time.perf_counter() - began)
            if not answer.startswith(b"HTTP/1.1 200"):
                self.refused.append(answer[:100])

    @property
    def p99(self):
        return statistics.quantiles(self.waits, n=100)[-1]


ROUNDS = 5
"""Tries that an attack has to do no harm: this machine has other things to do, too."""


def withstands(daemon, attack):
    """Attack, while others call. Fails where they notice, or the daemon grows."""
    tries = []
    for _ in range(ROUNDS):
        before = daemon.memory
        # A process of its own, or those who measure would wait for the interpreter.
        attacker = multiprocessing.get_context("fork").Process(target=attack)
        attacker.start()
        with Others(daemon) as others:
            attacker.join(120)
        assert attacker.exitcode == 0
        assert others.refused == []
        assert daemon.memory - before < ROOM, f"grew by {(daemon.memory - before) >> 20} MiB"
        tries.append(others.p99)
        if tries[-1] < QUICK:
            return
    pytest.fail(f"p99 of the others: {[f'{one * 1000:.0f} ms' for one in tries]}")


def pour(connection, content, seconds, pause=0.0):
    """Send again and again what the other side takes, and read nothing; return how much that was."""
    connection.setblocking(False)
    sent = 0
    end = time.monotonic() + seconds
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < end:
            if select.select([], [connection], [], 0.05)[1]:
                sent += connection.send(content)
            time.sleep(pause)
    return sent


def crowd(daemon, count, content, *, tcp=True, each=None):
    """Open connections and send each the same; return them all, also those that were hung up on."""
    connections = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            connection = daemon.connect(tcp=tcp)
            connections.append(connection)
            if content:
                connection.sendall(content)
            if each:
                each(connection)
    return connections


def dismiss(connections):
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
@pytest.mark.parametrize("blank", [b"\r\n", b"\n"], ids=["crlf", "lf"])
def test_requests_that_are_piled_up_on_one_connection(daemon, tcp, blank):
    request = b"GET /openapi.json HTTP/1.1" + blank + b"Host: x" + blank + blank

    def attack():
        with daemon.connect(tcp=tcp) as connection:
            pour(connection, request * 2000, 5.0)

    withstands(daemon, attack)


def test_requests_that_are_piled_up_behind_one_that_waits(daemon):
    waiting = head("/v1/users/2/qr?wait=60", shown(daemon.token))

    def attack():
        with daemon.connect() as connection:
            connection.sendall(waiting)
            pour(connection, b"GET / HTTP/1.1\r\n\r\n" * 2000, 4.0)

    withstands(daemon, attack)


def test_what_is_sent_behind_a_request_to_speak_another_protocol(daemon):
    waiting = head("/v1/users/2/qr?wait=60", shown(daemon.token), "Connection: upgrade", "Upgrade: websocket")

    def attack():
        with daemon.connect() as connection:
            connection.sendall(waiting)
            pour(connection, b"x" * 65536, 4.0)

    withstands(daemon, attack)


def test_many_connections_that_each_pile_up_requests(daemon):
    def attack():
        connections = crowd(
            daemon, 400, b"GET / HTTP/1.1\r\n\r\n" * 3000, each=lambda c: c.setblocking(False)
        )
        time.sleep(1)
        dismiss(connections)

    # Each sends as much as fits into the kernel at once, and reads nothing.
    withstands(daemon, attack)


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_more_connections_than_there_are_descriptors(daemon, tcp):
    def attack():
        script = (
            "import socket, sys, time, resource\n"
            "family, address, count = eval(sys.argv[1])\n"
            "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))\n"
            "kept = []\n"
            "for _ in range(count):\n"
            "    one = socket.socket(family)\n"
            "    one.settimeout(5)\n"
            "    try:\n"
            "        one.connect(address)\n"
            "        one.sendall(b'GET /assets/icon.svg HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
            "    except OSError:\n"
            "        one.close()\n"
            "        continue\n"
            "    kept.append(one)\n"
            "    time.sleep(0.0002)\n"
            "time.sleep(1)\n"
        )
        address = ("127.0.0.1", daemon.port) if tcp else daemon.socket
        family = int(socket.AF_INET if tcp else socket.AF_UNIX)
        # Another user, who is root nowhere: another caller than those who go on calling.
        other = {"user": 65534} if os.geteuid() == 0 else {}
        folder = Path(daemon.socket).parent
        folder.chmod(0o755)
        subprocess.run(
            [sys.executable, "-c", script, repr((family, address, 17000))], check=True, timeout=120, **other
        )

    if not tcp and os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    withstands(daemon, attack)
    assert len(daemon.log) < 50


def test_where_there_is_no_descriptor_left_it_waits_and_goes_on(daemon):
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
    def attack():
        end = time.monotonic() + 3
        while time.monotonic() < end:
            with daemon.connect(tcp=tcp) as connection, contextlib.suppress(ConnectionError):
                connection.sendall(b"nonsense\r\n\r\n")
                connection.recv(100)

    withstands(daemon, attack)
    assert len(daemon.log) < 50


@pytest.mark.parametrize(
    "path", ["/v1/users/2/events?", "/v1/users/2/qr?wait=60&"], ids=["streams", "long-polls"]
)
def test_all_that_a_link_opens(daemon, path):
    def attack():
        connections = crowd(daemon, 2000, head(path + daemon.link))
        time.sleep(1)
        dismiss(connections)

    withstands(daemon, attack)


def test_bodies_that_never_end(daemon):
    def attack():
        connections = crowd(
            daemon, 500, head(f"/v1/users/2?{daemon.link}", "Content-Length: 60000", method="PUT")
        )
        for _ in range(20):
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.send(b" " * 100)
        dismiss(connections)

    withstands(daemon, attack)


def test_a_token_that_asks_all_the_time(daemon):
    def attack():
        request = head("/v1/users/2", shown(daemon.token))
        connections = crowd(daemon, 200, request * 100)
        time.sleep(2)
        dismiss(connections)

    withstands(daemon, attack)
