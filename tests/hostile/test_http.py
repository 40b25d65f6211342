"""What is sent to the daemon's socket and to a user's server: whatever it is, the next honest caller is answered."""

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

import pytest
from fakes import FakeSystemd, MemoryStore
from hypothesis import example, given
from hypothesis import strategies as st
from support import SPARE, access_for

from waportd.api.server import ApiServer, make_app
from waportd.config import Config
from waportd.supervisor import Supervisor

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
"""Seconds until an answer counts as missing."""
SECRET = b"Zx9-never-to-be-seen"
"""Sent here and there; comes back in no answer to what is no HTTP."""


class Daemon:
    """The daemon's API on a unix socket, in a thread of its own."""

    health = "/v1/health"

    def __init__(self, folder):
        self.path = str(folder / "api.sock")
        self._loop = asyncio.new_event_loop()
        self._ready, self._done = threading.Event(), None
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    async def _serve(self):
        self._done = asyncio.Event()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(1024)
        systemd = FakeSystemd()
        supervisor = Supervisor(Config(), MemoryStore(), systemd)
        supervisor._assignments.orphaned_ports = self._none  # there is no folder to look in
        await supervisor.start()
        server = ApiServer(make_app(supervisor, access_for()))
        await server.start([listener])
        self._ready.set()
        await self._done.wait()
        await server.close()
        await supervisor.close()

    async def _none(self):
        return []

    def connect(self):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        connection.connect(self.path)
        return connection

    def close(self):
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(PATIENCE)
        self._loop.close()


class Server:
    """A user's server, whose browser nobody asks for."""

    health = "/health"

    def __init__(self, folder):
        self.port = SPARE
        self._process = subprocess.Popen(
            ["node", ROOT / "whatsapp_server.js", str(self.port)],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "FLASK_WEBHOOK_URL": ""},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                self.connect().close()
                return
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def close(self):
        self._process.terminate()
        self._process.wait(PATIENCE)


@pytest.fixture(scope="module", params=[Daemon, Server], ids=["daemon", "server"])
def target(request):
    with tempfile.TemporaryDirectory() as folder:
        target = request.param(Path(folder))
        yield target
        target.close()


def send(target, *pieces):
    """Send pieces of bytes, and no more after them; return all that comes back."""
    with target.connect() as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        return receive(connection)


def ask(target, *requests):
    """Send whole requests, the last one of which ends the connection; return all that comes back."""
    with target.connect() as connection:
        connection.sendall(b"".join(requests))
        return receive(connection)


def receive(connection):
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def statuses(content):
    """Return the statuses of the answers, one after the other; fail where they are no HTTP."""
    found = []
    while content:
        head, end, content = content.partition(b"\r\n\r\n")
        match = re.fullmatch(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) [^\r\n]*", head.split(b"\r\n")[0])
        assert match, head[:80]
        found.append(int(match[1]))
        length = re.search(rb"\r\ncontent-length: ([0-9]+)", head, re.IGNORECASE)
        if not end or not length:
            return found  # cut off: the caller hung up first
        content = content[int(length[1]) :]
    return found


def get(path, *more):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *more, "", ""]).encode()


def is_well(target):
    return statuses(ask(target, get(target.health, "Connection: close"))) == [200]


LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n", b"GET /v1/users HTTP/1.1\r\n", b"PUT /v1/users/%00 HTTP/1.1\r\n", b"POST /send HTTP/1.1\r\n",
        b"GET /v1/users/..%2f..%2fetc HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n", b"GET http://evil/ HTTP/1.1\r\n",
        b"GET / HTTP/0.9\r\n", b"GET / HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\n",
        b"Host: localhost\r\n", b"Host: evil.example\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: x\r\n",
        b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"X: " + SECRET + b"\r\n",
        b'If-None-Match: "x"\r\n', b"Range: bytes=0-1\r\n", b"Accept: \xff\r\n", b"Cookie: " + b"a" * 9000 + b"\r\n",
        b": \r\n", b" folded\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffff\r\n", b"{}", b"[" * 2000, b"\0", b"\r\n", b"\n",
    ]
)  # fmt: skip
WIRE = st.lists(LINES | st.binary(max_size=40), max_size=12)


@given(pieces=WIRE)
@example(pieces=[b"GET / HTTP/1.1\r\n", b"Host: localhost\r\n", b"\r\n"] * 20)
@example(
    pieces=[
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ]
)
def test_no_bytes_bring_it_down_or_out_of_step(target, pieces):
    answer = send(target, *pieces)
    if answer:
        # 5xx only for what HTTP itself calls so: a method or version that is not implemented.
        assert all(status < 500 or status in {501, 505} for status in statuses(answer)), answer[:300]
    assert SECRET not in answer
    assert is_well(target)


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "TRACE", "BREW"]),
    path=st.lists(
        st.sampled_from(["v1", "users", "api", "qr", "ports", "events", "..", "%2e%2e", "%00", "%ff", "", "a" * 300, "1"])
        | st.text(max_size=12).map(lambda text: urllib.parse.quote(text, safe="")),
        max_size=5,
    ),
    query=st.sampled_from(["", "?", "?wait=0", "?wait=-1", "?wait=nan", "?user_id=%00", "?user_id=1&user_id=2", "?lines=x", "?%ff"]),
    body=st.binary(max_size=60) | st.just(b'{"webhook_url": "http://x/\\n"}'),
)  # fmt: skip
def test_no_request_is_answered_with_a_failure_of_ours(target, method, path, query, body):
    if method in {"PUT", "POST"} and isinstance(target, Daemon) and "users" in path:
        method = "PATCH"  # those start servers, which is tested elsewhere
    head = f"{method} /{'/'.join(path)}{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    with target.connect() as connection:
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode("latin-1", "replace") + body)
        status = connection.recv(12)
    # 503 says what is missing: there is no browser here, and no session.
    assert status[9:12] < b"500" or status[9:12] in {b"501", b"503"}, status


def test_a_body_of_ten_megabytes_is_refused_and_not_kept(target):
    path = "/v1/users/1" if isinstance(target, Daemon) else "/send"
    method = "PUT" if isinstance(target, Daemon) else "POST"
    body = b'{"a": "' + b"x" * 10_000_000 + b'"}'
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with target.connect() as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(head + body)
        answer = receive(connection) if isinstance(target, Server) else connection.recv(65536)
    # Whoever is hung up on while he still sends may not get to read why.
    assert answer[9:12] in {b"413", b""}
    assert is_well(target)


def test_five_hundred_pipelined_requests_are_answered_in_order(target):
    requests = [get(target.health), get("/nothing")] * 250
    assert statuses(ask(target, *requests, get(target.health, "Connection: close"))) == [200, 404] * 250 + [
        200
    ]


def test_callers_who_never_finish_a_request_hold_up_nobody(target):
    slow = []
    try:
        for _ in range(200):
            connection = target.connect()
            connection.sendall(b"GET / HTTP/1.1\r\nHost: loc")
            slow.append(connection)
        assert is_well(target)
    finally:
        for connection in slow:
            connection.close()
    assert is_well(target)


def test_callers_who_never_finish_a_request_are_hung_up_on(target):
    with target.connect() as silent, target.connect() as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        for connection in (silent, slow):
            assert statuses(receive(connection)) in ([], [408])
