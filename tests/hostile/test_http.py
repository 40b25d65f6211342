"""What is sent to the daemon's socket and to a user's server: whatever it is, the next honest caller is answered."""

import asyncio
import contextlib
import dataclasses
import json
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
from support import BASE, SPARE, access_for

from waportd.api.parameters import OF_USER
from waportd.api.server import ApiServer, make_app, operations
from waportd.config import Config, PortRange
from waportd.model import User
from waportd.supervisor import Supervisor

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
"""Seconds until an answer counts as missing."""
SECRET = b"Zx9-never-to-be-seen"
"""Sent here and there; comes back in no answer to what is no HTTP."""


def config_in(folder):
    """Return a configuration whose files and ports are out of everybody's way."""
    (folder / "instances").mkdir()
    default = Config()
    return dataclasses.replace(
        default,
        store=dataclasses.replace(default.store, directory=folder),
        ports=dataclasses.replace(
            default.ports,
            base=BASE,
            range=PortRange(BASE, BASE + 9),
            overflow=PortRange(BASE + 10, BASE + 19),
        ),
    )


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
        supervisor = Supervisor(config_in(Path(self.path).parent), MemoryStore(), systemd)
        await supervisor.start()
        await supervisor.assign(User("1"))
        server = ApiServer(make_app(supervisor, access_for()))
        await server.start([listener])
        self._ready.set()
        await self._done.wait()
        await server.close()
        await supervisor.close()
        await systemd.close()

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
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "WAPORTD_WEBHOOK_URL": ""},
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


@pytest.fixture(scope="module")
def daemon():
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder))
        yield daemon
        daemon.close()


def send(target, *pieces):
    """Send pieces of bytes, and no more after them; return all that comes back."""
    with target.connect() as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        return receive(connection)


def ask(target, *requests):
    """Send whole requests, the last one of which ends the connection if none before it does; return all that comes back."""
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


SAID = SECRET.decode()
GOOD = {
    "webhook_url": f"https://x/{SAID}",
    "webhook_secret": f"whsec_{SAID.replace('-', '').ljust(32, 'A')[:32]}",
    "webhook_events": ["message", "call"],
    "ignore": ["groups"],
    "default_country": "55",
    "send_rate": 20,
    "memory_max": "64M",
    "autostart": True,
    "engine": "bundled",
    "proxy": f"http://a:{SAID}@proxy:3128",
    "name": "x",
    "return_to": "https://app.example.com/",
    "scope": "user:1",
    "ttl": 600,
    "phone": "5511999990000",
    "code": "ABCD-EFGH",
    "port": BASE + 5,
    "host": "a",
}
"""A value of each member that a body may have; a new member needs one here."""
ODD = st.sampled_from(
    [
        None, True, 0, -1, 1.5, 60, 1 << 70, "", "1", "auto", "none", "1.34.6", "../1.34.6", "1.34.6/..", "admin", "read\0",
        "user:../1", "user:1\nuser:2", "infinity", "\ud800", f"socks5://a:{SAID}@h:1", f"http://{SAID}@h:1/x", [SAID],
        f"http://x/?{SAID}\n", "http://[::1]:99999", "file:///etc/passwd", "http://x/\r\nX: y", {"a": SAID},
    ]
) | st.text(max_size=30) | st.integers() | st.floats()  # fmt: skip


def bodies(operation):
    """Return what may be sent to a call: members of its own that are good or odd, now and then another."""
    required = {one.name: value(one.name) for one in operation.body.members if one.required}
    optional = {one.name: value(one.name) for one in operation.body.members if not one.required}
    others = st.just({}) | st.just({}) | st.dictionaries(st.text(max_size=6), ODD, max_size=1)
    own = st.fixed_dictionaries(required, optional=optional)
    return st.tuples(own, others).map(lambda both: {**both[1], **both[0]})


def value(name):
    return st.integers(0, 2).flatmap(lambda odd: ODD if odd == 0 else st.just(GOOD[name]))


WITH_BODY = [one for one in operations() if one.body is not None]
READ_ONLY = [one for one in operations() if one.method == "GET" and not one.endless]


@given(data=st.data())
def test_no_body_is_answered_with_a_failure_of_ours_or_repeated(daemon, data):
    operation = data.draw(st.sampled_from(WITH_BODY))
    body = json.dumps(data.draw(bodies(operation))).encode()
    wait = b"?wait=none" if any(one.name == "wait" for one in operation.parameters) else b""
    path = operation.path.format(user="1", id="0" * 12, number="1", host="a").encode() + wait
    head = b"%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    answer = ask(daemon, head % (operation.method.encode(), path, len(body)) + body)
    [status] = statuses(answer)
    # 503 and 504 say what is missing: the servers here are fakes, which link nobody.
    assert status < 500 or status in {503, 504}, answer[:500]
    assert SECRET not in answer


@given(data=st.data())
def test_no_query_is_answered_with_a_failure_of_ours(daemon, data):
    operation = data.draw(st.sampled_from(READ_ONLY))
    known = [one.name for one in operation.parameters if one.place == "query"]
    meant = st.sampled_from(
        [
            "",
            "0",
            "-1",
            "1",
            "1e9",
            "0.01",
            "99999999999999999999",
            "nan",
            "inf",
            "true",
            "svg",
            "2_1",
            "..",
            "\0",
            "é",
        ]
    )
    pairs = st.tuples(st.sampled_from(known or ["x"]), meant | st.text(max_size=20))
    query = data.draw(st.lists(pairs, max_size=3))
    owner = [(one.name, "1") for one in operation.parameters if one.kind is OF_USER and one.place == "query"]
    target = operation.path.format(user="1", port=BASE, name="base.css", id="0" * 12, number="1", host="a")
    told = urllib.parse.urlencode([*owner, *query], errors="surrogatepass")
    with daemon.connect() as connection:
        connection.sendall(get(f"{target}?{told}", "Connection: close"))
        head = connection.recv(12)
    # 503: nobody here may read a journal.
    assert head[9:12] < b"500" or head[9:12] == b"503", (target, told, head)


BEHIND = get("/openapi.json", "Connection: close")
TWO_LENGTHS = {
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 40\r\n\r\n",
    "length with a sign": b"Content-Length: +0\r\n\r\n",
    "negative length": b"Content-Length: -1\r\n\r\n",
    "length with a line": b"Content-Length: 0_0\r\n\r\n",
    "length in hex": b"Content-Length: 0x0\r\n\r\n",
    "length as a list": b"Content-Length: 0, 0\r\n\r\n",
    "length of other digits": b"Content-Length: \xef\xbc\x90\r\n\r\n",
    "another coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "no coding": b"Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n",
    "chunked not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "NUL in the name": b"Transfer-Encoding\0: chunked\r\n\r\n0\r\n\r\n",
    "NUL in the coding": b"Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n",
    "size with a sign": b"Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n",
    "negative size": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "size in hex": b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
    "size with a line": b"Transfer-Encoding: chunked\r\n\r\n0_0\r\n\r\n",
    "LF within an extension": b"Transfer-Encoding: chunked\r\n\r\n0;x\ny\r\n\r\n",
    "chunk without an end": b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx0\r\n\r\n",
}


@pytest.mark.parametrize("lines", TWO_LENGTHS.values(), ids=TWO_LENGTHS)
def test_a_request_whose_end_is_in_doubt_is_refused_with_all_behind_it(target, lines):
    """A proxy that sees another end of it than we do would let a request pass that it has never seen."""
    method = b"DELETE /v1/users/no" if isinstance(target, Daemon) else b"POST /send"
    answer = ask(target, method + b" HTTP/1.1\r\nHost: localhost\r\n" + lines + BEHIND)
    assert len(told := statuses(answer)) == 1, told
    assert 400 <= told[0] < 500 or told[0] == 501
    assert is_well(target)


def test_a_request_whose_end_is_certain_is_answered_and_so_is_the_one_behind_it(target):
    """That the attempts above are good ones."""
    method = b"DELETE /v1/users/no" if isinstance(target, Daemon) else b"POST /send"
    lines = b"Content-Length: 0\r\n\r\n"
    answer = ask(target, method + b" HTTP/1.1\r\nHost: localhost\r\n" + lines + BEHIND)
    assert len(statuses(answer)) == 2


def test_a_body_of_ten_megabytes_is_refused_and_not_kept(target):
    path = "/v1/users/1" if isinstance(target, Daemon) else "/send"
    method = "PUT" if isinstance(target, Daemon) else "POST"
    body = b'{"a": "' + b"x" * 10_000_000 + b'"}'
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with target.connect() as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(head + body)
        answer = receive(connection) if isinstance(target, Server) else connection.recv(65536)
    # Who is hung up on while he still sends may not get to read why.
    assert answer[9:12] in {b"413", b""}
    assert is_well(target)


def test_five_hundred_pipelined_requests_are_answered_in_order(target):
    requests = [get(target.health), get("/nothing")] * 250
    assert statuses(ask(target, *requests, get(target.health, "Connection: close"))) == [200, 404] * 250 + [
        200
    ]


CHUNKED = b"Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
WITHOUT_END = {
    "requests": (b"", b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "a target": (b"GET /", b"y"),
    "a line": (b"GET / HTTP/1.1\r\nX: ", b"y"),
    "lines": (b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
    "a tunnel": (b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"x"),
    "trailers": (b"BODY" + CHUNKED + b"0\r\n", b"X: y\r\n"),
}


@pytest.mark.parametrize(("begin", "content"), WITHOUT_END.values(), ids=WITHOUT_END)
def test_what_has_no_end_is_hung_up_on_or_read_no_further(target, begin, content):
    method = b"PUT /v1/users/1?wait=none" if isinstance(target, Daemon) else b"POST /send"
    with target.connect() as connection:
        connection.sendall(begin.replace(b"BODY", method + b" HTTP/1.1\r\n"))
        assert taken(connection, content * (65536 // len(content))) < MOST
    assert is_well(target)


@pytest.mark.parametrize("target", [Server], indirect=True, ids=["server"])
@pytest.mark.parametrize(
    ("begin", "content"),
    [(b"", b"400\r\n" + b"x" * 1024 + b"\r\n"), (b"1;", b"x" * 1024)],
    ids=["chunks", "an extension"],
)
def test_a_body_without_end_is_hung_up_on(target, begin, content):
    """The daemon reads on until the time for a body is over, and keeps nothing of it."""
    with target.connect() as connection:
        connection.sendall(b"POST /send HTTP/1.1\r\n" + CHUNKED + begin)
        assert taken(connection, content * 64) < MOST
    assert is_well(target)


MOST = 64 << 20


def taken(connection, content):
    """Send it again and again, and read nothing; return how many bytes the other side took, up to `MOST`."""
    connection.settimeout(2.0)
    sent = 0
    with contextlib.suppress(ConnectionError, TimeoutError):
        while sent < MOST:
            sent += connection.send(content)
    return sent


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
