"""Whatever answers in the place of waportd, a program that calls gets a result or one of the client's own errors."""

import contextlib
import io
import json
import socket
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from waportd import client as module
from waportd.client import Client, Event, Message, User, WaportdClientError, WaportdUnavailable


class Impostor:
    """Listens where waportd would, answers every connection with the same bytes and hangs up."""

    def __init__(self, path):
        self.answer = b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(self.answer)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(0.2)
                while connection.recv(65536):
                    pass

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(scope="module")
def impostor():
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "api.sock"))
        impostor = Impostor(path)
        impostor.path = path
        yield impostor
        impostor.close()


def first(stream):
    """Take what a stream says first."""
    with contextlib.closing(stream):
        return next(stream, None)


CALLS = {
    "users": lambda c: c.users(),
    "status": lambda c: c.status("1"),
    "ensure": lambda c: c.ensure("1", autostart=True),
    "stop": lambda c: c.stop("1"),
    "move": lambda c: c.move("1", 5005),
    "delete": lambda c: c.delete("1"),
    "qr": lambda c: c.qr("1"),
    "picture": lambda c: c.picture("1"),
    "pairing_code": lambda c: c.pairing_code("1", "5511"),
    "passkey": lambda c: c.passkey("1"),
    "connect_link": lambda c: c.connect_link("1"),
    "logs": lambda c: c.logs("1"),
    "messages": lambda c: c.messages("1"),
    "send": lambda c: c.send("1", "5511", "x", key="k"),
    "outcome": lambda c: c.outcome("1", "m"),
    "redeliver": lambda c: c.redeliver("1"),
    "number": lambda c: c.number("1", "5511"),
    "chats": lambda c: c.chats("1"),
    "media": lambda c: c.media("1", "m", io.BytesIO()),
    "port": lambda c: c.port("1"),
    "port_info": lambda c: c.port_info(5001),
    "health": lambda c: c.health(),
    "host": lambda c: c.host(),
    "changes": lambda c: c.changes(),
    "tokens": lambda c: c.tokens(),
    "create_token": lambda c: c.create_token("x"),
    "events": lambda c: first(c.events()),
    "follow_logs": lambda c: first(c.follow_logs("1")),
    "follow_messages": lambda c: first(c.follow_messages("1")),
}

MEMBERS = sorted(
    {name for one in vars(module).values() for name in getattr(one, "__dataclass_fields__", {})}
    | {
        "users",
        "lines",
        "tokens",
        "changes",
        "success",
        "redelivered",
        "fromMe",
        "timestamp",
        "code",
        "detail",
    }
)
TIMES = [
    "2026-01-01T00:00:00Z",
    "2026-01-01",
    "9999-99-99",
    "0001-01-01T00:00:00-23:59",
    1e300,
    1_700_000_000_000,
]
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(TIMES)
VALUE = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=12,
)
DOCUMENT = st.dictionaries(st.sampled_from(MEMBERS), VALUE, max_size=8)
EVENT = st.tuples(
    st.sampled_from([b"user", b"qr", b"message", b"reset", b"log", b"deleted", b"\xff"]),
    st.sampled_from(
        [
            b"",
            b"id: 1-1\n",
            b"id: a\rX: y\n",
            b"id: \xe9\n",
            b"retry: \xc2\xb2\n",
            b"retry: 1" + b"0" * 5000 + b"\n",
        ]
    ),
    VALUE,
).map(lambda each: b"event: %s\n%sdata: %s\n\n" % (each[0], each[1], json.dumps(each[2]).encode()))
BODY = st.one_of(
    DOCUMENT.map(lambda value: json.dumps(value).encode()),
    VALUE.map(lambda value: json.dumps(value).encode()),
    st.lists(EVENT, min_size=1, max_size=3).map(b"".join),
    st.binary(max_size=40),
    st.sampled_from([b"[" * 100_000, b"5\r\n{}\r\n", b"data: {\n\n", b'{"port": "\xff"}']),
)
STATUS = st.sampled_from(
    [200, 200, 200, 200, 201, 202, 204, 301, 304, 400, 404, 409, 429, 500, 503, 100, 999]
)
HEADER = st.sampled_from(
    [
        b"Content-Type: application/problem+json", b"Content-Type: \xff", b"Retry-After: \xb2", b"Retry-After: " + b"9" * 6000,
        b"Retry-After: -1", b"Transfer-Encoding: chunked", b"Content-Length: 3", b"Content-Length: -5", b"Content-Length: x",
        b"ETag: \xe9", b"Content-Disposition: attachment; filename*=x''%ff", b"Content-Disposition: a; filename*0*=\xff",
        b"Connection: close", b"X: " + b"a" * 70_000, b"no header",
    ]
)  # fmt: skip
ANSWER = st.one_of(
    st.tuples(STATUS, st.lists(HEADER, max_size=3), BODY).map(
        lambda each: b"\r\n".join([b"HTTP/1.1 %d x" % each[0], *each[1], b"", each[2]])
    ),
    st.binary(max_size=60),
)


class Waits(Exception):
    """A stream ended, and the client would open it again: for ever, where one answers."""


def wait(seconds):
    assert 0 <= seconds <= 30
    raise Waits


@given(call=st.sampled_from(sorted(CALLS)), answer=ANSWER)
@example(call="status", answer=b"HTTP/1.1 200 OK\r\n\r\nnot json")
@example(call="status", answer=b"HTTP/1.1 200 OK\r\n\r\n[]")
@example(call="users", answer=b"HTTP/1.1 200 OK\r\n\r\n{}")
@example(call="status", answer=b'HTTP/1.1 200 OK\r\n\r\n{"created_at": 5, "session": [1], "process": 7}')
@example(call="port", answer=b'HTTP/1.1 200 OK\r\n\r\n{"success": true, "port": "x"}')
@example(call="status", answer=b"HTTP/1.1 429 x\r\nRetry-After: \xb2\r\n\r\n{}")
@example(call="events", answer=b"HTTP/1.1 200 OK\r\n\r\nevent: user\ndata: [1]\n\n")
@example(call="follow_messages", answer=b"HTTP/1.1 200 OK\r\n\r\nretry: \xc2\xb2\ndata: 7\n\n")
@example(call="messages", answer=b'HTTP/1.1 200 OK\r\n\r\n{"messages": [{"timestamp": 1e300}, 5]}')
def test_no_answer_is_anything_but_a_result_or_an_error_of_the_client(impostor, call, answer):
    impostor.answer = answer
    client = Client(impostor.path, timeout=20, pace=0)
    with contextlib.closing(client), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.time, "sleep", wait)
        with contextlib.suppress(WaportdClientError, Waits):
            repr(CALLS[call](client))
    impostor.answer = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"user": "1"}'
    with contextlib.closing(Client(impostor.path, timeout=20)) as client:
        assert client.status("1").user == "1", "a valid answer next to it"


@given(DOCUMENT)
def test_a_member_that_is_not_as_the_api_says_is_read_as_missing_and_kept_as_it_came(document):
    for read in (User.of, Message.of, lambda raw: Event.of("user", None, raw).user):
        result = read(document)
        assert result.raw is document
    user = User.of(document)
    assert user.ready in {True, False}
    if user.session is not None:
        assert user.session.webhook.stuck in {True, False}


def test_an_event_without_end_is_given_up(impostor, monkeypatch):
    monkeypatch.setattr(module, "MOST_EVENT_BYTES", 1 << 16)
    impostor.answer = b"HTTP/1.1 200 OK\r\n\r\n" + b"data: x\n" * 10_000
    with contextlib.closing(Client(impostor.path)) as client:
        with pytest.raises(WaportdUnavailable, match="no end") as caught:
            first(client.events())
        assert caught.value.reason == "bad_answer"
