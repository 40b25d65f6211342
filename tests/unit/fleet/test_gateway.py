"""What etcd's gateway answers, in the forms of 3.4 and 3.5, and what is no answer of it."""

import asyncio
import itertools
import json
import time

import pytest

from waportd.fleet.engine import EngineUnavailable
from waportd.fleet.etcd.gateway import Failure, Gateway, Refused

HEADER = {"cluster_id": "14841639068965178418", "revision": "5"}


@pytest.fixture
async def gateway(raw_server):
    gateway = Gateway([f"http://127.0.0.1:{raw_server.port}"])
    yield gateway
    await gateway.close()


def answer(status, body):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d Played\r\nConnection: close\r\n\r\n%s" % (status, content)


async def call(gateway, limit_s=30.0):
    return await gateway.call("v3/kv/range", {}, time.monotonic() + limit_s)


def forms(code, text):
    """Return an error as 3.4 gives it, as 3.5 does in Debian 13, and as both do on a stream."""
    return [
        (503, {"error": text, "code": code, "message": text}),
        (503, {"code": code, "message": text, "details": []}),
        (200, {"error": {"grpc_code": code, "http_code": 503, "message": text, "http_status": "Played"}}),
        (200, {"error": {"code": code, "message": text, "details": []}}),
    ]


@pytest.mark.parametrize("body", [{"header": HEADER}, {"result": {"header": HEADER}}])
async def test_an_answer_may_be_wrapped(gateway, raw_server, body):
    raw_server.answer = answer(200, body)
    assert await call(gateway) == {"header": HEADER}


@pytest.mark.parametrize(
    ("code", "text", "cause", "hint"),
    [
        (14, "etcdserver: no leader", "no_leader", "fewer than half"),
        (14, "etcdserver: leader changed", "no_leader", "fewer than half"),
        (8, "etcdserver: mvcc: database space exceeded", "no_space", "alarm disarm"),
        (3, "etcdserver: user name is empty", "authentication", "auth disable"),
        (7, "etcdserver: permission denied", "authentication", "auth disable"),
        (16, "etcdserver: invalid auth token", "authentication", "auth disable"),
        (14, "etcdserver: request timed out", "unreachable", "systemctl status etcd"),
        (8, "etcdserver: too many requests", "unreachable", "systemctl status etcd"),
        (3, "etcdserver: key is not provided", "refused", "journalctl -u etcd"),
    ],
)
async def test_an_error_is_understood_in_each_form(gateway, raw_server, code, text, cause, hint):
    for status, body in forms(code, text):
        raw_server.answer = answer(status, body)
        said = await told(gateway)
        assert text in str(said)
        assert (said.cause, hint in said.hint) == (cause, True)


async def told(gateway):
    """Return the error of a call that had the time for an answer: a busy machine may take longer than others."""
    for limit_s in (0.05, 0.5, 5):
        with pytest.raises(EngineUnavailable) as caught:
            await call(gateway, limit_s)
        if "no answer within" not in str(caught.value):
            break
    return caught.value


async def test_the_cause_is_said_though_the_last_try_knew_none():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        if next(tries) == 0:
            status, body = forms(14, "etcdserver: no leader")[0]
            writer.write(answer(status, body))
        writer.close()

    tries = itertools.count()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    gateway = Gateway([f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
    with pytest.raises(EngineUnavailable, match="no leader"):
        await call(gateway, 1.0)
    assert next(tries) > 1
    await gateway.close()
    server.close()
    await server.wait_closed()


async def test_a_refusal_is_not_asked_for_twice(gateway, raw_server):
    for status, body in forms(11, "etcdserver: mvcc: required revision has been compacted"):
        raw_server.answer = answer(status, body)
        with pytest.raises(Refused) as caught:
            await gateway.ask(0, "v3/kv/range", {}, 5)
        assert caught.value.number == 11


NO_ANSWERS = {
    "empty": b"",
    "HTML": b"<html>",
    "not UTF-8": b"\xff",
    "a list": b"[1]",
    "a number": b"7",
    "null": b"null",
    "no header": b"{}",
    "a header that is none": b'{"header": 1}',
    "a result that is none": b'{"result": [1]}',
    "a cluster that is none": b'{"header": {"cluster_id": "x"}}',
    "a code that is none": b'{"error": {"code": "x"}}',
    "an error that is none": b'{"error": []}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS)
@pytest.mark.parametrize("status", [200, 302, 404, 500])
async def test_what_is_no_answer_of_etcd_is_said_to_be_none(gateway, raw_server, status, body):
    raw_server.answer = answer(status, body)
    with pytest.raises(Failure):
        await gateway.ask(0, "v3/kv/range", {}, 5)


async def test_an_answer_that_breaks_off_is_none(gateway, raw_server):
    raw_server.answer = b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"header"'
    with pytest.raises(Failure, match="it closed the connection"):
        await gateway.ask(0, "v3/kv/range", {}, 5)


async def test_a_message_of_a_stream_may_be_long_and_come_in_pieces(gateway, raw_server):
    messages = [{"header": HEADER, "events": ["x" * size]} for size in (1, 500_000, 2)]
    raw_server.answer = answer(
        200, b"".join(json.dumps({"result": one}).encode() + b"\n" for one in messages)
    )
    stream = gateway.follow(0, "v3/watch", {}, limit_s=5, silence_s=5)
    assert [await anext(stream) for _ in messages] == messages
    with pytest.raises(Failure, match="it ended the stream"):
        await anext(stream)


async def test_a_stream_says_when_nothing_comes():
    async def begin(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await ended.wait()
        writer.close()

    ended = asyncio.Event()
    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    gateway = Gateway([f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
    messages = gateway.follow(0, "v3/watch", {}, limit_s=5, silence_s=0.02)
    assert [await anext(messages) for _ in range(3)] == [None, None, None]
    await messages.aclose()
    ended.set()
    await gateway.close()
    server.close()
    await server.wait_closed()
