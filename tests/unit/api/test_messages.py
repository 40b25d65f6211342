"""Calls that go through to the user's own server, on a server that answers as a test wants."""

import asyncio
import contextlib
import dataclasses
import json
import os
import time

import aiohttp
import psutil
import pytest
from aiohttp import web
from support import BASE, until

from waportd.api import messages as module
from waportd.api import passing
from waportd.errors import PerhapsSent, ServerFailed
from waportd.model import Port, ProcessState, User
from waportd.quotas import PIECES_PER_TURN
from waportd.tokens import Kind

ONE, PORT = User("1"), Port(BASE)
PATH = "/v1/users/1"
ID = "true_5511988887777@c.us_3EB0AA"
QUOTED = "true_5511988887777%40c.us_3EB0AA"


async def until_left(request):
    """Return when nobody waits for the answer any more."""
    while request.transport is not None:
        await asyncio.sleep(0.02)


async def call(client, method, path, expected=200, **options):
    async with client.request(method, f"{PATH}{path}", **options) as answer:
        assert answer.status == expected, await answer.text()
        return await answer.json(content_type=None)


@pytest.mark.parametrize("passage", module.TABLE, ids=lambda one: f"{one.method} {one.path}")
async def test_each_call_gets_to_the_users_server_as_it_was_made(api, node, passage):
    path = passage.path.format(id=QUOTED, number="%2B55%20(11)%2098888-7777")
    options = {"data": '{"a": "ü"}', "headers": {"Content-Type": "application/json"}}
    has_body = isinstance(passage.body, module.Passed)
    async with api.request(
        passage.method, aiohttp.client.URL(f"{PATH}{path}", encoded=True), **(options if has_body else {})
    ) as answer:
        assert answer.status == 200, await answer.text()
        assert await answer.json() == {"ok": True}
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "no-store" in answer.headers["Cache-Control"]
    [(method, target, headers, body)] = node.calls
    assert method == passage.method
    assert target == passage.path.format(id=QUOTED, number="%2B55%20%2811%29%2098888-7777")
    assert body == ('{"a": "ü"}'.encode() if has_body else b"")
    assert "Authorization" not in headers
    if has_body:
        assert headers["Content-Type"] == "application/json"


async def test_parameters_and_the_headers_that_matter_go_along_and_no_others(api, node):
    query = {"after": "7f3a-12", "timeout": "0", "limit": "5", "events": "message,call"}
    await call(api, "GET", "/messages", params=query, headers={"Cookie": "a=b", "X-Mine": "1"})
    await call(api, "POST", "/messages", json={}, headers={"Idempotency-Key": "order-7"})
    assert node.targets[0] == "GET /messages?after=7f3a-12&wait=0&limit=5&events=message%2Ccall"
    assert not {"Cookie", "X-Mine"} & node.calls[0][2].keys()
    assert node.calls[1][2]["Idempotency-Key"] == "order-7"


async def test_the_former_name_of_a_timeout_is_accepted_for_one_release(api, node):
    await call(api, "GET", "/messages?wait=1&limit=5")
    assert node.targets == ["GET /messages?wait=1&limit=5"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/messages?colour=red"),
        ("GET", "/messages?timeout=1&wait=1"),
        ("GET", "/messages?wait=61"),
        ("GET", "/messages?limit=0"),
        ("GET", "/messages?timeout=61"),
        ("GET", "/messages?timeout=0.5"),
        ("GET", "/messages?events=message,nothing"),
        ("GET", "/messages?events="),
        ("GET", "/messages/%2E%2E"),
        ("GET", "/chats/%2e"),
        ("GET", "/media/a%0Ab"),
        ("GET", "/chats/a%20b"),
        ("GET", "/chats/a%2Fmessages"),
        ("DELETE", f"/messages/{QUOTED}?for=nobody"),
    ],
)
async def test_what_is_not_described_gets_nowhere(api, node, method, path):
    async with api.request(method, aiohttp.client.URL(f"{PATH}{path}", encoded=True)) as answer:
        assert answer.status in {400, 404}
    assert node.calls == []


@pytest.mark.parametrize(
    ("status", "said", "headers", "expected"),
    [
        (
            410,
            {"error": "older", "code": "cursor_gone", "hint": "begin anew"},
            {},
            (410, "cursor_gone", None),
        ),
        (422, {"error": "no such number", "code": "not_on_whatsapp"}, {}, (422, "not_on_whatsapp", None)),
        (429, {"error": "slowly", "code": "rate_limited"}, {"Retry-After": "7"}, (429, "rate_limited", "7")),
        (503, {"error": "busy", "code": "busy"}, {"Retry-After": "soon"}, (503, "busy", None)),
        (400, {"error": "not connected", "code": "not_connected"}, {}, (503, "not_connected", "5")),
        (409, {"error": "no phone", "code": "not_linked"}, {}, (409, "not_linked", None)),
        (404, {"error": "no such chat"}, {}, (404, "not_found", None)),
        (403, {"error": "WhatsApp says no", "code": "refused"}, {}, (422, "refused", None)),
        (500, "<html>", {}, (500, "server_failed", None)),
        (302, "elsewhere", {"Location": "http://127.0.0.1:1/"}, (502, "server_failed", None)),
    ],
)
async def test_a_refusal_of_the_server_is_a_problem_with_its_code(api, node, status, said, headers, expected):
    text = said if isinstance(said, str) else json.dumps(said)
    node.answer = lambda _: web.Response(status=status, text=text, headers=headers)
    async with api.get(f"{PATH}/chats") as answer:
        problem = await answer.json()
        assert answer.content_type == "application/problem+json"
        assert (answer.status, problem["code"], answer.headers.get("Retry-After")) == expected
        assert problem["status"] == answer.status
    if isinstance(said, dict):
        assert problem["detail"] == said["error"]
        assert problem["hint"] == said.get("hint")


async def test_what_a_refusal_says_is_made_harmless(api, node):
    said = {"error": "a\x1b[31m\nb" + "x" * 5000, "code": "busy"}
    node.answer = lambda _: web.json_response(said, status=503)
    problem = await call(api, "GET", "/chats", 503)
    assert problem["detail"].startswith("a[31m b")
    assert len(problem["detail"]) <= 1000


async def test_a_user_who_was_stopped_is_not_called(api, node, supervisor):
    await supervisor.stop(ONE)
    problem = await call(api, "GET", "/chats", 409)
    assert (problem["code"], problem["cause"]) == ("conflict", "stopped")
    assert "start" in problem["hint"]
    assert node.calls == []


@pytest.mark.parametrize("changes", [{"held": False}, {"state": ProcessState.CRASH_LOOP}])
async def test_a_server_that_is_not_up_is_not_called_and_the_answer_says_when_to_ask_again(
    api, node, supervisor, changes
):
    instance = supervisor.known(ONE)
    if "state" in changes:
        process = dataclasses.replace(
            instance.process, state=ProcessState.CRASH_LOOP, next_start=time.time() + 60
        )
        changes = {"process": process}
    supervisor.registry.put(dataclasses.replace(instance, **changes))
    async with api.get(f"{PATH}/chats") as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "not_running")
        assert int(answer.headers["Retry-After"]) == (5 if "held" in changes else 60)
    assert node.calls == []


async def test_a_server_without_a_phone_is_not_woken(api, node, supervisor, systemd):
    systemd.servers[PORT].say("qr", linked=False)
    await until(supervisor, "1", lambda now: not now.assignment.linked)
    await systemd.exit(PORT)
    await until(supervisor, "1", lambda now: now.process.state == "stopped")
    problem = await call(api, "GET", "/messages", 409)
    assert (problem["code"], node.calls) == ("not_linked", [])


async def test_what_is_no_message_is_not_taken_for_one(api, node):
    async with api.get(f"{PATH}/messages/redeliver") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    await call(api, "POST", "/messages/redeliver", json={"all": True})
    await call(api, "GET", "/messages/redeliverx")
    assert node.targets == ["POST /messages/redeliver", "GET /messages/redeliverx"]


async def test_an_unknown_user_is_reported_as_such(api, node):
    async with api.get("/v1/users/9/messages") as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "unknown_user")


@pytest.mark.parametrize(
    ("sends", "status", "code"), [(True, 504, "perhaps_sent"), (False, 502, "server_failed")]
)
async def test_a_server_that_ends_in_the_middle_of_it_leaves_a_message_perhaps_sent(
    api, node, sends, status, code
):
    def end(request):
        request.transport.abort()
        return web.Response()

    node.answer = end
    path = "/messages" if sends else "/messages/redeliver"
    problem = await call(api, "POST", path, status, json={"to": "1", "text": "secret words"})
    assert problem["code"] == code
    assert "secret" not in json.dumps(problem)


@pytest.mark.parametrize(("sends", "error"), [(True, PerhapsSent), (False, ServerFailed)])
async def test_a_server_that_does_not_answer_in_time_is_reported(node, supervisor, sends, error):
    async def never(request):
        await until_left(request)

    node.answer = never
    with pytest.raises(error, match=r"no answer within 0\.2 s"):
        async with supervisor.relay.call(PORT, "POST", "/messages", {}, None, 0.2, sends=sends):
            pass


class TestStream:
    async def frames(self, request, *frames):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for one in frames:
            await response.write(one)
        return response

    @contextlib.asynccontextmanager
    async def following(self, client, **headers):
        async with client.get(
            f"{PATH}/messages", headers={"Accept": "text/event-stream", **headers}
        ) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.content_type == "text/event-stream"
            yield answer.content

    async def test_events_come_as_the_server_sends_them_after_the_last_one_seen(self, api, node):
        more = asyncio.Event()

        async def tell(request):
            response = await self.frames(request, b"id: e-1\nevent: message\nda")
            await more.wait()
            await response.write(b'ta: {"body":"oi"}\n\n')
            await until_left(request)

        node.answer = tell
        async with self.following(api, **{"Last-Event-ID": "e-0"}) as content:
            async with asyncio.timeout(5):
                assert await content.readany() == b"id: e-1\nevent: message\nda"
                more.set()
                assert await content.readany() == b'ta: {"body":"oi"}\n\n'
        assert node.calls[0][2]["Last-Event-ID"] == "e-0"
        assert node.calls[0][2]["Accept"] == "text/event-stream"

    async def test_a_caller_who_leaves_is_gone_at_the_server_too(self, api, node):
        left = asyncio.Event()

        async def tell(request):
            response = await self.frames(request, b":\n\n")
            await until_left(request)
            left.set()
            return response

        node.answer = tell
        async with self.following(api) as content:
            await content.readany()
        async with asyncio.timeout(5):
            await left.wait()

    async def test_it_ends_with_the_token(self, tcp, node, access, monkeypatch):
        monkeypatch.setattr(passing, "LOOK_AFTER_S", 0.05)
        token, text = await access.tokens.create("test", ONE)

        async def tell(request):
            await self.frames(request, b":\n\n")
            await until_left(request)

        node.answer = tell
        async with self.following(tcp, Authorization=f"Bearer {text}") as content:
            await content.readany()
            await access.tokens.revoke(token.id)
            async with asyncio.timeout(5):
                assert await content.read() == b""

    async def test_what_comes_after_the_end_of_a_token_is_not_reported(self, tcp, node, access):
        token, text = await access.tokens.create("test", ONE)
        more = asyncio.Event()

        async def tell(request):
            response = await self.frames(request, b":\n\n")
            await more.wait()
            await response.write(b"data: secret\n\n")
            await until_left(request)

        node.answer = tell
        async with self.following(tcp, Authorization=f"Bearer {text}") as content:
            await content.readany()
            await access.tokens.revoke(token.id)
            more.set()
            async with asyncio.timeout(5):
                assert await content.read() == b""

    async def test_it_ends_when_the_user_is_stopped(self, api, node, supervisor):
        async def tell(request):
            await self.frames(request, b":\n\n")
            await until_left(request)

        node.answer = tell
        async with self.following(api) as content:
            await content.readany()
            async with asyncio.timeout(5):
                await supervisor.stop(ONE)
                assert await content.read() == b""

    async def test_it_ends_when_waportd_does(self, api, node, supervisor):
        async def tell(request):
            await self.frames(request, b":\n\n")
            await until_left(request)

        node.answer = tell
        async with self.following(api) as content:
            await content.readany()
            supervisor.registry.release()
            async with asyncio.timeout(5):
                assert await content.read() == b""


async def test_a_long_poll_ends_with_waportd_and_asks_to_come_back(api, node, supervisor):
    called = asyncio.Event()

    async def wait(request):
        called.set()
        await until_left(request)

    node.answer = wait
    asking = asyncio.ensure_future(call(api, "GET", "/messages?timeout=30", 503))
    async with asyncio.timeout(5):
        await called.wait()
        supervisor.registry.release()
        assert (await asking)["code"] == "restarting"


async def test_a_caller_who_leaves_a_long_poll_is_gone_at_the_server_too(api, node):
    called, left = asyncio.Event(), asyncio.Event()

    async def wait(request):
        called.set()
        await until_left(request)
        left.set()

    node.answer = wait
    asking = asyncio.ensure_future(api.get(f"{PATH}/messages?timeout=30"))
    async with asyncio.timeout(5):
        await called.wait()
        asking.cancel()
        await left.wait()


async def test_who_has_a_token_that_reads_documents_reads_no_messages(tcp, node, access):
    for kind, status in ((Kind.READ, 403), (Kind.METRICS, 403), (None, 200)):
        _, text = await access.tokens.create("test", None, kind)
        await call(tcp, "GET", "/chats", status, headers={"Authorization": f"Bearer {text}"})
    assert node.targets == ["GET /chats"]


async def test_what_is_on_its_way_when_the_token_ends_is_not_sent(tcp, node, access):
    token, text = await access.tokens.create("test", ONE)
    begun, whole = asyncio.Event(), []

    async def take(request):
        begun.set()
        with contextlib.suppress(OSError, aiohttp.ClientError):
            whole.append(await request.read())
        return web.json_response({"ok": True})

    async def pieces():
        yield b'{"to":"5511988887777",'
        await begun.wait()
        await access.tokens.revoke(token.id)
        yield b'"text":"oi"}'

    node.reads_itself, node.answer = True, take
    headers = {"Authorization": f"Bearer {text}"}
    await call(tcp, "POST", "/messages", 401, data=pieces(), headers=headers)
    assert whole == []


@pytest.mark.parametrize("name", ["Range", "If-Range", "Content-Type"])
async def test_no_header_of_a_caller_is_a_failure_of_ours(server, node, name):
    reader, writer = await asyncio.open_unix_connection(str(server.path))
    writer.write(f"POST {PATH}/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode())
    writer.write(f"{name}: ".encode() + b"a\xff\xc3\x28\r\nContent-Length: 2\r\n\r\n{}")
    async with asyncio.timeout(5):
        status = int((await reader.read()).split()[1])
    assert status in {200, 400}
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Type: image/png\r\nContent-Disposition: attachment; filename=\xff\xc3\x28.png",
        b"Content-Type: image/\xff\xc3\x28",
        b"Content-Type: image/png\r\nContent-Disposition: inline;\r\n a=b\r\nX-Mine: yes",
        b"Content-Type: image/png\r\nContent-Range: bytes \xff",
        b"Content-Type: image/png\r\nTransfer-Encoding: chunked",
        b"Content-Type: image/png\r\nContent-Length: 7",
        b"Content-Type: image/png\r\nUpgrade: x\r\nConnection: Upgrade",
        b"Content-Type: image/png\r\nX: " + b"y" * 100_000,
    ],
)
async def test_no_header_of_a_server_is_a_failure_of_ours(api, node, head, caplog):
    async def answer(request):
        request.transport.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\nContent-Length: 2\r\n\r\nab")
        await asyncio.sleep(0.05)
        request.transport.abort()
        return web.Response()

    node.answer = answer
    async with asyncio.timeout(5):
        try:
            async with api.get(f"{PATH}/media/{ID}") as answered:
                assert answered.status in {200, 502}, await answered.text()
                assert "X-Mine" not in answered.headers
                assert len(await answered.read()) == 2 or answered.status == 502
        except aiohttp.ClientPayloadError:
            pass
    assert "Traceback" not in caplog.text
    assert not [one for one in caplog.records if one.exc_info]


async def test_there_are_only_so_many_at_a_time(api, node, monkeypatch):
    monkeypatch.setattr(module, "PASSAGES_PER_CALLER", 2)
    release = asyncio.Event()

    async def wait(_):
        await release.wait()
        return web.json_response({})

    node.answer = wait
    asking = [asyncio.ensure_future(call(api, "GET", "/chats")) for _ in range(2)]
    while len(node.calls) < 2:
        await asyncio.sleep(0.01)
    problem = await call(api, "GET", "/chats", 429)
    assert problem["detail"].startswith("2 calls of yours to users' servers are under way")
    release.set()
    await asyncio.gather(*asking)
    await call(api, "GET", "/chats")


async def test_large_pieces_wait_for_a_turn_of_their_caller_and_messages_do_not(api, node, monkeypatch):
    """Who sends many messages would else send 200 a second at most."""
    waited = []

    async def wait(_, caller, most):
        waited.append((caller, most))

    monkeypatch.setattr("waportd.api.connections.Turns.wait", wait)
    await call(api, "POST", "/messages", json={"to": "5511988887777", "text": "x" * 4000})
    assert waited == []
    node.answer = lambda _: web.Response(body=bytes(1 << 20), content_type="image/png")
    async with api.get(f"{PATH}/media/{ID}") as answer:
        assert len(await answer.read()) == 1 << 20
    assert set(waited) == {(os.getuid(), PIECES_PER_TURN)}


async def test_sender_and_receiver_of_a_message_are_in_no_line_of_the_journal(api, node, caplog):
    caplog.set_level("DEBUG")
    await call(api, "POST", "/messages", json={"to": "5511988887777", "text": "secret words"})
    await call(api, "DELETE", f"/messages/{ID}")
    told = "".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert "DELETE /v1/users/1/messages/{id}" in told
    assert "secret" not in told
    assert "5511988887777" not in told


async def test_what_is_written_is_no_line_of_the_audit_and_what_is_changed_for_good_is(api, node, caplog):
    caplog.set_level("INFO", "waportd.audit")
    for passage in module.TABLE:
        path = passage.path.format(id=QUOTED, number="5511988887777")
        options = {"json": {"a": 1}} if isinstance(passage.body, module.Passed) else {}
        async with api.request(
            passage.method, aiohttp.client.URL(f"{PATH}{path}", encoded=True), **options
        ) as answer:
            assert answer.status == 200, await answer.text()
    written = [record.WAPORTD_ACTION for record in caplog.records if record.name == "waportd.audit"]
    assert written == [
        call.replace(" ", f" {PATH}")
        for call in (
            "POST /messages/redeliver",
            "DELETE /messages/{id}",
            "POST /groups",
            "PATCH /groups/{id}",
            "DELETE /groups/{id}",
            "POST /groups/{id}/participants",
        )
    ]


class TestMedia:
    @pytest.mark.parametrize(
        ("kind", "said", "shown"),
        [
            ("image/png", "inline", "inline"),
            ("image/png", "attachment; filename*=UTF-8''a.png", "attachment; filename*=UTF-8''a.png"),
            ("text/html", "inline; filename=a.html", "attachment; filename=a.html"),
            ("image/svg+xml", "inline", "attachment"),
            ("application/pdf", None, "attachment"),
        ],
    )
    async def test_nothing_of_it_runs_on_a_page(self, api, node, kind, said, shown):
        headers = {"Content-Type": kind} | ({"Content-Disposition": said} if said else {})
        node.answer = lambda _: web.Response(body=b"bytes", headers=headers)
        async with api.get(f"{PATH}/media/{ID}") as answer:
            assert await answer.read() == b"bytes"
            assert answer.headers["Content-Type"] == kind
            assert answer.headers["Content-Disposition"] == shown
            assert "sandbox" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Content-Length"] == "5"

    async def test_what_is_cut_short_is_no_whole_answer(self, api, node):
        async def half(request):
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"x" * 1000)
            request.transport.abort()

        node.answer = half
        with pytest.raises(aiohttp.ClientError):
            async with api.get(f"{PATH}/media/{ID}") as answer:
                await answer.read()

    async def test_a_body_that_stops_coming_is_given_up(self, server, node, monkeypatch):
        monkeypatch.setattr(passing, "PIECE_S", 0.2)
        reader, writer = await asyncio.open_unix_connection(str(server.path))
        head = f"POST {PATH}/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        writer.write(head.encode() + b"{")
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()
        await writer.wait_closed()

    async def test_what_follows_a_body_in_the_same_piece_is_the_next_request(self, server, node):
        reader, writer = await asyncio.open_unix_connection(str(server.path))
        body = b'{"text":"a\n\nb"}'
        head = f"POST {PATH}/messages HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        last = f"GET {PATH}/chats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        writer.write(head + body + last)
        async with asyncio.timeout(5):
            answers = await reader.read()
        assert answers.count(b"HTTP/1.1 200 OK") == 2
        assert node.targets == ["POST /messages", "GET /chats"]
        assert node.calls[0][3] == body
        writer.close()
        await writer.wait_closed()


class TestSize:
    """Memory of this process, which is caller, waportd and server in one."""

    SIZE = 350 << 20
    PIECE = b"media\n\n." * (64 << 10 >> 3)

    @contextlib.asynccontextmanager
    async def measured(self):
        """Give the most that memory grew meanwhile, in bytes, in a list."""
        process, most = psutil.Process(), [0]
        before = process.memory_info().rss

        async def look():
            while True:
                most[0] = max(most[0], process.memory_info().rss - before)
                await asyncio.sleep(0.02)

        looking = asyncio.create_task(look())
        try:
            yield most
        finally:
            looking.cancel()

    async def fetched(self, api):
        """Return how many bytes a caller gets."""
        got = 0
        async with api.get(f"{PATH}/media/{ID}") as answer:
            async for piece in answer.content.iter_any():
                got += len(piece)
        return got

    async def warm(self, api):
        """Have all code loaded."""
        async with api.get(f"{PATH}/media/{ID}") as answer:
            await answer.read()

    async def test_media_of_350_mb_comes_with_bounded_memory(self, api, node, unpaced):
        await self.warm(api)

        async def send(request):
            response = web.StreamResponse(headers={"Content-Length": str(self.SIZE)})
            await response.prepare(request)
            for _ in range(self.SIZE // len(self.PIECE)):
                await response.write(self.PIECE)
            return response

        node.answer = send
        async with self.measured() as most:
            got = await self.fetched(api)
        assert got == self.SIZE
        assert most[0] < 32 << 20

    async def test_media_of_350_mb_goes_with_bounded_memory(self, api, node, unpaced):
        await self.warm(api)
        node.reads_itself, got = True, 0

        async def take(request):
            nonlocal got
            async for piece in request.content.iter_any():
                got += len(piece)
            return web.json_response({"id": None, "outcome": "pending"}, status=202)

        async def pieces():
            for _ in range(self.SIZE // len(self.PIECE)):
                yield self.PIECE

        node.answer = take
        async with self.measured() as most:
            headers = {"Content-Length": str(self.SIZE), "Content-Type": "multipart/form-data; boundary=x"}
            assert await call(api, "POST", "/messages", 202, data=pieces(), headers=headers)
        assert got == self.SIZE
        assert most[0] < 32 << 20

    async def test_a_caller_who_reads_nothing_holds_up_the_server(self, server, node):
        written = 0

        async def send(request):
            nonlocal written
            response = web.StreamResponse()
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                while True:
                    await response.write(self.PIECE)
                    written += len(self.PIECE)

        node.answer = send
        _, writer = await asyncio.open_unix_connection(str(server.path), limit=1024)
        writer.write(f"GET {PATH}/media/{ID} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        seen = -1
        async with asyncio.timeout(20):
            while seen != written or not written:
                seen = written
                await asyncio.sleep(0.5)
        assert written < 16 << 20
        writer.close()
        await writer.wait_closed()

    async def test_a_server_that_reads_nothing_holds_up_the_caller(self, api, node):
        node.reads_itself, sent, over = True, 0, asyncio.Event()

        async def wait(request):
            await over.wait()
            request.transport.abort()

        async def pieces():
            nonlocal sent
            while True:
                yield self.PIECE
                sent += len(self.PIECE)

        node.answer = wait
        sending = asyncio.ensure_future(call(api, "POST", "/messages", data=pieces()))
        seen = -1
        async with asyncio.timeout(20):
            while seen != sent or not sent:
                seen = sent
                await asyncio.sleep(0.5)
        assert sent < 16 << 20
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        over.set()
