"""What the daemon passes on to users' servers and back, and what comes in over TCP: in any shape, from either side."""

import asyncio
import contextlib
import json
import socket
import tempfile
from pathlib import Path

import pytest
from aiohttp import web
from fakes import FakeSystemd, MemoryStore
from hypothesis import example, given
from hypothesis import strategies as st
from support import another_key, until
from test_http import LINES, PATIENCE, SECRET, Daemon, ask, config_in, get, receive, send, statuses

from waportd.api.access import Access
from waportd.api.messages import TABLE, Passed
from waportd.api.server import ApiServer, make_app
from waportd.connect_links import Links
from waportd.model import User
from waportd.plain import one_line
from waportd.supervisor import Supervisor
from waportd.tokens import Tokens


class Relaying(Daemon):
    """The API on a unix socket, user 1 of which has a server that answers whatever a test says; and over TCP."""

    answer = b""

    async def _serve(self):
        self._done = asyncio.Event()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(1024)
        tcp = socket.create_server(("127.0.0.1", 0))
        self.port = tcp.getsockname()[1]
        systemd = FakeSystemd()
        systemd.prepare = lambda server: setattr(server, "on_messages", self._answer)
        supervisor = Supervisor(config_in(Path(self.path).parent), MemoryStore(), systemd)
        await supervisor.start()
        instance, _ = await supervisor.ensure(User("1"))
        systemd.servers[instance.assignment.port].link()
        await until(supervisor, "1", lambda now: now.assignment.linked and now.session.state == "ready")
        tokens = Tokens(MemoryStore())
        self.tokens = {
            name: (await tokens.create(name, user))[1] for name, user in (("admin", None), ("one", User("1")))
        }
        server = ApiServer(make_app(supervisor, Access((), tokens, Links(b"key", another_key))))
        await server.start([listener, tcp])
        self._ready.set()
        await self._done.wait()
        await server.close()
        await supervisor.close()
        await systemd.close()

    async def _answer(self, request):
        with contextlib.suppress(Exception):
            await request.read()
        request.transport.write(self.answer)
        request.transport.close()
        return web.Response()


class Tcp:
    """The same over TCP, where a call without a token opens the description of the API."""

    health = "/openapi.json"

    def __init__(self, daemon):
        self._daemon = daemon

    def connect(self):
        return socket.create_connection(("127.0.0.1", self._daemon.port), PATIENCE)


@pytest.fixture(scope="module")
def daemon():
    with tempfile.TemporaryDirectory() as folder:
        daemon = Relaying(Path(folder))
        yield daemon
        daemon.close()


def is_well(target):
    return statuses(ask(target, get(target.health, "Connection: close"))) == [200]


STATUS = st.sampled_from([b"200", b"200", b"200", b"201", b"202", b"204", b"206", b"301", b"400", b"404", b"409", b"410", b"422", b"429", b"500", b"503", b"999", b"100", b"x"])  # fmt: skip
HEAD = st.sampled_from(
    [
        b"Content-Type: application/json", b"Content-Type: text/html", b"Content-Type: \xff", b"Content-Type: text/event-stream",
        b"Content-Length: 2", b"Content-Length: 99999", b"Content-Length: -1", b"Content-Length: 2\r\nContent-Length: 3",
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Content-Encoding: gzip", b"Retry-After: -1", b"Retry-After: \xb2",
        b"Retry-After: " + b"9" * 5000, b'Content-Disposition: attachment; filename="a\xff\r\n b"', b"Set-Cookie: a=b", b"X: " + b"y" * 9000,
        b"Location: http://10.0.0.1/", b"Connection: upgrade", b'ETag: "x"', b"no header", b"Access-Control-Allow-Origin: *",
    ]
)  # fmt: skip
SAID = st.one_of(
    st.dictionaries(
        st.sampled_from(["error", "code", "cause", "hint", "x"]),
        st.none() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=3), max_size=2),
        max_size=4,
    ).map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"{}",
            b"[" * 60_000,
            b"2\r\n{}\r\n0\r\n\r\n",
            b"2\r\n{}",
            b"\x1f\x8b",
            b'{"error": "\\u202e\\u001b[2J"}',
        ]
    ),
)
ANSWER = st.one_of(
    st.tuples(STATUS, st.lists(HEAD, max_size=4), SAID).map(
        lambda each: b"\r\n".join([b"HTTP/1.1 %s x" % each[0], *each[1], b"", each[2]])
    ),
    st.binary(max_size=60),
)


@given(passage=st.sampled_from(TABLE), answer=ANSWER)
@example(passage=TABLE[0], answer=b"")
def test_whatever_a_users_server_answers_the_caller_gets_http_and_the_next_one_too(daemon, passage, answer):
    daemon.answer = answer
    path = passage.path.format(id="true_5511988887777%40c.us_3EB0AA", number="5511988887777")
    body = b"{}" if isinstance(passage.body, Passed) else b""
    head = f"{passage.method} /v1/users/1{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    kind = "Content-Type: application/json\r\n" if body else ""
    told = ask(daemon, f"{head}{kind}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    head, _, said = told.partition(b"\r\n\r\n")
    [status] = statuses(told)[:1]
    assert 200 <= status < 300 or 400 <= status < 600, told[:300]
    for name in (b"set-cookie", b"location", b"access-control"):
        assert name + b":" not in head.lower(), "what only the daemon may say"
    if status >= 400:
        problem = json.loads(said)
        assert problem["status"] == status
        assert all(
            isinstance(text, str) and one_line(text) == text for text in (problem["code"], problem["detail"])
        )
        assert len(said) < 4096
    assert is_well(daemon)


PART = st.sampled_from(
    [
        b"--b\r\n", b"--b--\r\n", b'Content-Disposition: form-data; name="message"\r\n\r\n', b"{}\r\n", b"\r\n", b"x" * 70_000,
        b'Content-Disposition: form-data; name="image"; filename="../x"\r\n\r\n', SECRET,
    ]
)  # fmt: skip
BODY = st.lists(PART | st.binary(max_size=30), max_size=8).map(b"".join)
KINDS = st.sampled_from(
    [b"multipart/form-data; boundary=b", b"multipart/form-data", b"application/json", b"\xff", b"text/plain"]
)


@given(body=BODY, kind=KINDS, length=st.sampled_from([None, 0, 5]), cut=st.integers(0, 100))
def test_whatever_is_sent_to_be_passed_on_is_answered_and_repeats_nothing(daemon, body, kind, length, cut):
    daemon.answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    size = len(body) if length is None else length
    head = b"POST /v1/users/1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    answer = send(daemon, head % (kind, size), body[:cut], body[cut:])
    assert SECRET not in answer
    assert all(status < 500 or status in {501, 502, 503, 504, 505} for status in statuses(answer)), answer[
        :300
    ]
    assert is_well(daemon)


CURSOR = st.sampled_from(
    ["", "0", "1-1", "zz-1", "ffffffffffffffff-999999999999999999", "1-" + "9" * 500, "-", "٣-٣"]
) | st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=20)


@given(path=st.sampled_from(["/v1/events", "/v1/users/1/events"]), cursor=CURSOR)
def test_any_last_event_id_begins_a_stream(daemon, path, cursor):
    with daemon.connect() as connection:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {cursor}\r\n\r\n"
        connection.sendall(head.encode("utf-8", "replace"))
        assert connection.recv(12)[9:] in {b"200", b"400"}
    assert is_well(daemon)


@given(
    pieces=st.lists(
        LINES
        | st.binary(max_size=40)
        | st.sampled_from(
            [
                b"Authorization: Bearer " + SECRET + b"\r\n", b"Authorization: Bearer\r\n", b"Authorization: Bearer \xff\r\n",
                b"Authorization: Basic eA==\r\n", b"authorization: BEARER  waportd_x\r\n", b"X-Forwarded-For: 10.0.0.1\r\n", b"ADMIN", b"ONE",
                b"GET /v1/users/1?expires=1e9&signature=" + SECRET + b" HTTP/1.1\r\n", b"GET /v1/users/1/qr?expires=99999999999999999999&signature=x HTTP/1.1\r\n",
            ]
        ),
        max_size=12,
    )
)  # fmt: skip
@example(pieces=[b"GET /v1/users HTTP/1.1\r\n", b"Host: localhost\r\n", b"ADMIN", b"ONE", b"\r\n"])
def test_no_bytes_over_tcp_bring_it_down_or_open_anything(daemon, pieces):
    shown = {b"ADMIN": "admin", b"ONE": "one"}
    lines = [
        f"Authorization: Bearer {daemon.tokens[shown[piece]]}\r\n".encode() if piece in shown else piece
        for piece in pieces
    ]
    target = Tcp(daemon)
    with target.connect() as connection:
        with contextlib.suppress(OSError):  # it may hang up on what comes
            for line in lines:
                connection.sendall(line)
            connection.shutdown(socket.SHUT_WR)
        answer = receive(connection)
    for token in daemon.tokens.values():
        assert token.encode() not in answer
    assert SECRET not in answer
    if answer:
        found = statuses(answer)
        assert all(status < 500 or status in {501, 505} for status in found), answer[:300]
    if not set(pieces) & set(shown):
        assert b'"users"' not in answer, "nobody's documents without a token"
    assert is_well(target)
