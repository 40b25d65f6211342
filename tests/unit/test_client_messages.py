"""What the client library does with messages: against the real API, before a user's server that a test plays."""

import asyncio
import contextlib
import io
import json
import os
from importlib import resources
from pathlib import Path

import psutil
import pytest
from aiohttp import web
from test_client import Scripted, answer

from waportd.client import (
    BadRequest,
    Client,
    Conflict,
    CursorGone,
    NotAllowed,
    NotFound,
    PerhapsSent,
    ServerFailed,
    WaportdUnavailable,
)
from waportd.model import User

ID = "true_5511988887777@c.us_3EB0+AA"
QUOTED = "true_5511988887777%40c.us_3EB0%2BAA"
CHAT = "5511988887777@c.us"
EVENT = {
    "cursor": "7f3a-2",
    "event": "message",
    "event_id": "false_5511988887777@c.us_3EB0AA",
    "id": "false_5511988887777@c.us_3EB0AA",
    "type": "chat",
    "from": CHAT,
    "phone": "5511988887777",
    "body": "oi",
    "timestamp": 1767225600125,
    "chat": {"id": CHAT, "type": "person", "name": "Ana"},
    "sender": {"id": CHAT, "phone": "5511988887777", "name": "Ana"},
    "fromMe": False,
    "recovered": True,
}


@pytest.fixture
def client(api, node, tmp_path):
    with contextlib.closing(Client(tmp_path / "api.sock")) as client:
        yield client


def on_thread(function, *arguments, **options):
    """Call the client beside the event loop on which the API runs."""
    return asyncio.to_thread(function, *arguments, **options)


async def test_messages_are_read_on_after_a_cursor(client, node):
    node.answer = lambda _: web.json_response({"messages": [EVENT], "next": "7f3a-2", "more": True})
    page = await on_thread(
        client.messages, 1, "7f3a-1", timeout=5, limit=10, events=["message", "call"], chat=CHAT
    )
    assert node.targets == [
        "GET /messages?after=7f3a-1&wait=5&limit=10&events=message%2Ccall&chat=5511988887777%40c.us"
    ]
    assert (page.next, page.more) == ("7f3a-2", True)
    [message] = page.messages
    assert (message.cursor, message.event, message.body, message.chat) == ("7f3a-2", "message", "oi", CHAT)
    assert (message.phone, message.name, message.recovered) == ("5511988887777", "Ana", True)
    assert message.time.isoformat() == "2026-01-01T00:00:00.125000+00:00"
    assert message.raw["type"] == "chat"
    assert "oi" not in repr(message) + repr(page)


async def test_messages_that_the_web_app_did_not_take_are_read(client, node):
    node.answer = lambda _: web.json_response({"messages": [EVENT], "next": "7f3a-2", "more": False})
    page = await on_thread(client.messages, 1, state="undelivered")
    assert node.targets == ["GET /messages?limit=100&state=undelivered"]
    assert len(page.messages) == 1


async def test_messages_are_followed_over_an_interruption(client, node, monkeypatch):
    monkeypatch.setattr("waportd.client.time.sleep", lambda _: None)
    sent = iter(
        [
            f"id: 7f3a-2\nevent: message\ndata: {json.dumps(EVENT)}\n\n",
            'id: 7f3a-3\nevent: message.ack\ndata: {"event_id": "b"}\n\n',
        ]
    )

    async def tell(request):
        if len(node.calls) == 2:
            return web.json_response({"error": "busy", "code": "busy"}, status=503)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(next(sent).encode())
        return response

    node.answer = tell

    def read():
        with contextlib.closing(client.follow_messages("1", "7f3a-1")) as messages:
            return [next(messages), next(messages)]

    first, second = await on_thread(read)
    assert (first.body, first.cursor) == ("oi", "7f3a-2")
    assert (second.event, second.cursor) == ("message.ack", "7f3a-3")
    assert [headers.get("Last-Event-ID") for _, _, headers, _ in node.calls] == ["7f3a-1", "7f3a-2", "7f3a-2"]


async def test_a_stream_that_cannot_begin_is_an_error(client, node):
    node.answer = lambda _: web.json_response({"error": "no phone", "code": "not_linked"}, status=409)
    with pytest.raises(Conflict):
        await on_thread(next, client.follow_messages("1"))


async def test_a_text_is_sent_with_a_key(client, node):
    node.answer = lambda _: web.json_response({"id": ID, "outcome": "sent"})
    outcome = await on_thread(client.send, "1", CHAT, "oi", quote=ID)
    assert (outcome.id, outcome.outcome) == (ID, "sent")
    await on_thread(client.send, "1", CHAT, location={"latitude": 1, "longitude": 2}, key="order-7")
    (_, _, first, body), (_, _, second, more) = node.calls
    assert json.loads(body) == {"to": CHAT, "quote": ID, "text": "oi"}
    assert json.loads(more) == {"to": CHAT, "location": {"latitude": 1, "longitude": 2}}
    assert len(first["Idempotency-Key"]) == 32
    assert second["Idempotency-Key"] == "order-7"


async def test_a_message_is_sent_on_with_a_key(client, node):
    node.answer = lambda _: web.json_response({"id": ID, "outcome": "sent"})
    assert (await on_thread(client.forward, "1", ID, CHAT)).outcome == "sent"
    await on_thread(client.forward, "1", ID, CHAT, key="order-7")
    (_, _, first, body), (_, _, second, _) = node.calls
    assert json.loads(body) == {"to": CHAT}
    assert len(first["Idempotency-Key"]) == 32
    assert second["Idempotency-Key"] == "order-7"


def test_a_call_that_is_cut_off_is_repeated_with_its_key(tmp_path):
    def answers_once(connection, read):
        read()
        connection.sendall(answer({"status": "ok"}))
        read()  # and leaves, without a word

    def answers(connection, read):
        read()
        connection.sendall(answer({"id": ID, "outcome": "pending", "code": "perhaps_sent"}, "202 Accepted"))

    server = Scripted(tmp_path / "scripted.sock", answers_once, answers)
    with server as client:
        client.health()
        assert client.send("1", CHAT, "oi").outcome == "pending"
        client.close()
    _, first, second = server.requests
    assert first == second
    assert any(line.startswith("Idempotency-Key: ") for line in first)


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [("a b.png", None, "image"), ("x.pdf", None, "document"), ("n.ogg", "voice", "voice")],
)
async def test_a_file_is_sent_as_it_is(client, node, tmp_path, name, kind, told):
    node.reads_itself, parts = True, {}

    async def take(request):
        async for part in await request.multipart():
            parts[part.name] = (part.filename, part.headers["Content-Type"], bytes(await part.read()))
        return web.json_response({"id": ID, "outcome": "sent"})

    node.answer = take
    content = os.urandom(200_000)
    (tmp_path / name).write_bytes(content)
    assert (
        await on_thread(client.send, "1", CHAT, "look", file=tmp_path / name, kind=kind)
    ).outcome == "sent"
    assert json.loads(parts["message"][2]) == {"to": CHAT, told: {"caption": "look"}}
    assert parts[told][::2] == (name, content)


async def test_a_file_that_is_refused_at_its_beginning_is_reported_as_such(client, node):
    node.reads_itself = True
    node.answer = lambda _: web.json_response({"error": "too large", "code": "too_large"}, status=413)
    with pytest.raises(BadRequest, match="too large"):
        await on_thread(client.send, "1", CHAT, file=io.BytesIO(bytes(20 << 20)))


async def test_a_pipe_is_no_file_to_send(client):
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe, os.fdopen(writing, "wb"), pytest.raises(ValueError, match="pipe"):
        await on_thread(client.send, "1", CHAT, file=pipe)


class TestMedia:
    async def test_it_is_written_where_it_is_wanted(self, client, node):
        headers = {"Content-Type": "image/png", "Content-Disposition": "inline; filename*=UTF-8''a%20b.png"}
        node.answer = lambda _: web.Response(body=b"picture", headers=headers)
        into = io.BytesIO()
        media = await on_thread(client.media, "1", ID, into)
        assert into.getvalue() == b"picture"
        assert (media.content_type, media.name, media.size) == ("image/png", "a b.png", 7)
        assert node.targets == [f"GET /media/{QUOTED}"]

    async def test_what_is_cut_short_is_an_error(self, client, node):
        async def half(request):
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b"x" * 100)
            request.transport.abort()
            return response

        node.answer = half
        with pytest.raises(WaportdUnavailable):
            await on_thread(client.media, "1", ID, io.BytesIO())

    async def test_a_full_disk_is_reported_as_such(self, client, node):
        node.answer = lambda _: web.Response(body=b"picture")
        with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
            await on_thread(client.media, "1", ID, full)

    async def test_a_large_file_goes_and_comes_with_bounded_memory(self, client, node, unpaced, tmp_path):
        size = 200 << 20
        node.reads_itself, got = True, 0

        async def take(request):
            nonlocal got
            async for piece in request.content.iter_any():
                got += len(piece)
            return web.json_response({"id": ID, "outcome": "sent"})

        file = tmp_path / "large.bin"
        with file.open("wb") as large:
            large.truncate(size)
        process = psutil.Process()
        before, most = process.memory_info().rss, 0
        node.answer = take
        sending = asyncio.ensure_future(on_thread(client.send, "1", CHAT, file=file))
        while not sending.done():
            most = max(most, process.memory_info().rss - before)
            await asyncio.sleep(0.02)
        await sending
        node.answer = lambda _: web.FileResponse(file)
        with Path(os.devnull).open("wb") as nowhere:
            coming = asyncio.ensure_future(on_thread(client.media, "1", ID, nowhere))
            while not coming.done():
                most = max(most, process.memory_info().rss - before)
                await asyncio.sleep(0.02)
        assert got > size
        assert (await coming).size == size
        assert most < 32 << 20


@pytest.mark.parametrize(
    ("ask", "target", "body"),
    [
        (lambda c: c.outcome("1", ID), f"GET /messages/{QUOTED}", None),
        (lambda c: c.edit("1", ID, "ei"), f"PATCH /messages/{QUOTED}", {"text": "ei"}),
        (lambda c: c.delete_message("1", ID), f"DELETE /messages/{QUOTED}?for=all", None),
        (lambda c: c.delete_message("1", ID, for_all=False), f"DELETE /messages/{QUOTED}?for=me", None),
        (lambda c: c.react("1", ID, "👍"), f"POST /messages/{QUOTED}/reaction", {"reaction": "👍"}),
        (lambda c: c.forward("1", ID, CHAT), f"POST /messages/{QUOTED}/forward", {"to": CHAT}),
        (lambda c: c.signal("1", CHAT, "typing"), "POST /chats/5511988887777%40c.us/typing", {"on": True}),
        (lambda c: c.signal("1", CHAT, "seen"), "POST /chats/5511988887777%40c.us/seen", None),
        (lambda c: c.number("1", "+55 11"), "GET /numbers/%2B55%2011", None),
        (lambda c: c.chats("1", 5, 10), "GET /chats?limit=5&offset=10", None),
        (lambda c: c.chat("1", CHAT), "GET /chats/5511988887777%40c.us", None),
        (
            lambda c: c.history("1", CHAT, 5, "7"),
            "GET /chats/5511988887777%40c.us/messages?limit=5&before=7",
            None,
        ),
        (lambda c: c.ask_for_earlier("1", CHAT), "POST /chats/5511988887777%40c.us/earlier", None),
        (lambda c: c.contacts("1"), "GET /contacts", None),
        (lambda c: c.contact("1", CHAT), "GET /contacts/5511988887777%40c.us", None),
        (lambda c: c.groups("1", 5), "GET /groups?limit=5", None),
        (lambda c: c.group("1", "1@g.us"), "GET /groups/1%40g.us", None),
        (lambda c: c.create_group("1", "a", ("b",)), "POST /groups", {"subject": "a", "participants": ["b"]}),
        (lambda c: c.change_group("1", "1@g.us", subject="a"), "PATCH /groups/1%40g.us", {"subject": "a"}),
        (lambda c: c.leave_group("1", "1@g.us"), "DELETE /groups/1%40g.us", None),
        (
            lambda c: c.change_participants("1", "1@g.us", "add", ["b"]),
            "POST /groups/1%40g.us/participants",
            {"action": "add", "participants": ["b"]},
        ),
    ],
)
async def test_each_call_gets_to_the_users_server(client, node, ask, target, body):
    document = {"id": ID, "outcome": "sent", "number": "55", "exists": True}
    node.answer = lambda _: web.json_response(document)
    answered = await on_thread(ask, client)
    assert node.targets == [target]
    assert (json.loads(node.calls[0][3]) if node.calls[0][3] else None) == body
    assert answered is None or getattr(answered, "raw", answered) == document


async def test_undelivered_messages_are_sent_again(client, node):
    node.answer = lambda _: web.json_response({"redelivered": 3})
    assert await on_thread(client.redeliver, "1") == 3
    assert await on_thread(client.redeliver, "1", "7f3a-1") == 3
    assert [json.loads(body) for *_, body in node.calls] == [{"all": True}, {"cursor": "7f3a-1"}]


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (410, "cursor_gone", CursorGone),
        (404, "not_found", NotFound),
        (422, "not_on_whatsapp", BadRequest),
        (409, "not_linked", Conflict),
        (503, "not_connected", ServerFailed),
        (504, "perhaps_sent", PerhapsSent),
    ],
)
async def test_what_goes_wrong_has_a_class(client, node, status, code, error):
    node.answer = lambda _: web.json_response({"error": "so it is", "code": code}, status=status)
    with pytest.raises(error, match="so it is") as caught:
        await on_thread(client.send, "1", CHAT, "oi")
    assert caught.value.code == code


async def test_it_goes_over_tcp_with_a_token_too(server, node, access):
    node.answer = lambda _: web.json_response({"messages": [EVENT], "next": "7f3a-2", "more": False})
    _, text = await access.tokens.create("test", User("1"))
    with contextlib.closing(Client(url=server.url, token=text)) as client:
        assert len((await on_thread(client.messages, "1")).messages) == 1
        with pytest.raises(NotAllowed):
            await on_thread(client.messages, "2")
    with contextlib.closing(Client(url=server.url)) as client, pytest.raises(NotAllowed):
        await on_thread(client.messages, "1")


def test_the_package_declares_that_it_has_types():
    assert resources.files("waportd").joinpath("py.typed").is_file()
