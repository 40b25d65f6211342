"""Calls to the users' servers, on real ports."""

import asyncio
import socket

import pytest
from aiohttp import web
from user_server import Server

from waportd import server_client
from waportd.errors import AlreadyLinked, BadRequest, Refused, ServerFailed, StartTimeout
from waportd.model import PairingCode, Passkey, PasskeyStage, Port
from waportd.server_client import ServerClient

NEW_YEAR = 1767225600.0


@pytest.fixture
async def server():
    async with Server() as server:
        yield server


@pytest.fixture
async def client():
    client = ServerClient()
    yield client
    await client.close()


class TestCalling:
    @pytest.mark.parametrize(
        ("name", "call"),
        [("ask_for_code", "POST /qr/new"), ("relay_poll", "GET /qr"), ("log_out", "POST /disconnect")],
    )
    async def test_each_call_has_its_address(self, server, client, name, call):
        await getattr(client, name)(server.port)
        assert server.calls == [call]

    async def test_a_refusal_passes_on_what_the_server_says(self, server, client):
        body = {
            "error": "no browser is installed",
            "cause": "browser_missing",
            "hint": "apt install chromium",
        }
        server.answer = lambda: web.json_response(body, status=503)
        with pytest.raises(ServerFailed) as caught:
            await client.ask_for_code(server.port)
        assert caught.value.message == f"the server on port {server.port} refused: no browser is installed"
        assert (caught.value.cause, caught.value.hint) == ("browser_missing", "apt install chromium")

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "<html>",
            "[]",
            "null",
            '{"error": 1}',
            '{"error": "\\ud800"',
            "{}",
            "[" * 10_000,
            "x" * 1_000_000,
        ],
        ids=lambda body: body[:10],
    )
    async def test_a_refusal_that_makes_no_sense_gives_its_status(self, server, client, body):
        server.answer = lambda: web.Response(text=body, status=500)
        with pytest.raises(ServerFailed, match="HTTP status 500") as caught:
            await client.log_out(server.port)
        assert len(caught.value.message) < 200

    async def test_half_a_character_in_a_refusal_is_replaced(self, server, client):
        server.answer = lambda: web.Response(text=r'{"error": "Ana \ud83d"}', status=500)
        with pytest.raises(ServerFailed, match=r"refused: Ana $"):
            await client.log_out(server.port)

    async def test_a_redirect_is_a_refusal(self, server, client):
        server.answer = lambda: web.Response(status=307, headers={"Location": "/elsewhere"})
        with pytest.raises(ServerFailed, match="307"):
            await client.ask_for_code(server.port)
        assert server.calls == ["POST /qr/new"]

    async def test_a_port_that_refuses_is_a_server_that_does_not_answer(self, closed_port, client):
        with pytest.raises(ServerFailed, match=f"port {closed_port} does not answer") as caught:
            await client.ask_for_code(closed_port)
        assert caught.value.cause == "not_answering"
        assert caught.value.hint

    async def test_a_code_is_asked_for_again_where_the_server_ends_under_the_question(self, client):
        asked = []

        async def handle(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            asked.append(1)
            if len(asked) > 1:
                writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")
                await writer.drain()
            writer.close()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as listener:
            await client.ask_for_code(Port(listener.sockets[0].getsockname()[1]))
        assert len(asked) == 2

    async def test_a_server_that_speaks_no_http_does_not_answer(self, raw_server, client):
        raw_server.answer = b"SSH-2.0-OpenSSH_9.2\r\n"
        with pytest.raises(ServerFailed) as caught:
            await client.ask_for_code(raw_server.port)
        assert caught.value.cause == "not_answering"

    async def test_a_pairing_code_is_asked_for_and_read(self, server, client):
        server.answer = lambda: web.json_response({"code": "ABCD-EFGH", "expires_at": "2026-01-01T00:03:00Z"})
        code = await client.pairing_code(server.port, "5511999990000")
        assert code == PairingCode("ABCD-EFGH", NEW_YEAR + 180)
        assert "ABCD" not in repr(code)
        assert server.calls == ["POST /pairing-code"]

    @pytest.mark.parametrize(
        ("status", "body", "error"),
        [
            (400, {"error": "no phone", "code": "bad_phone"}, BadRequest),
            (409, {"error": "linked", "code": "already_linked", "cause": "already_linked"}, AlreadyLinked),
            (503, {"error": "no", "code": "pairing_refused", "cause": "pairing_refused"}, ServerFailed),
            (504, {"error": "late", "code": "pairing_timeout"}, StartTimeout),
            (400, {"error": "what"}, ServerFailed),
        ],
    )
    async def test_a_refused_pairing_code_is_reported_as_what_it_is(
        self, server, client, status, body, error
    ):
        server.answer = lambda: web.json_response(body, status=status)
        with pytest.raises(error, match=body["error"]) as caught:
            await client.pairing_code(server.port, "5511999990000")
        assert caught.value.cause == body.get("code")

    @pytest.mark.parametrize(
        "body", ["", "[]", "null", "{}", '{"code": 1}', '{"code": "A", "expires_at": "soon"}', "[" * 10_000]
    )
    async def test_what_is_no_pairing_code_is_not_passed_on(self, server, client, body):
        server.answer = lambda: web.Response(text=body)
        with pytest.raises(ServerFailed, match="without a pairing code") as caught:
            await client.pairing_code(server.port, "5511999990000")
        assert caught.value.cause == "bad_answer"

    @pytest.mark.parametrize(
        ("call", "request_line"),
        [
            (lambda client, port: client.give_passkey(port, b"{}"), "POST /passkey"),
            (lambda client, port: client.confirm_passkey(port, "ABCD-EFGH"), "POST /passkey/confirm"),
            (lambda client, port: client.cancel_passkey(port), "DELETE /passkey"),
        ],
    )
    async def test_a_servers_word_about_a_passkey_is_the_callers(self, server, client, call, request_line):
        body = {"error": "it is for another site\u202e", "code": "passkey_given", "hint": "look again"}
        server.answer = lambda: web.json_response(body, status=409)
        with pytest.raises(Refused) as caught:
            await call(client, server.port)
        error = caught.value
        assert (error.status, error.code, error.hint) == (409, "passkey_given", "look again")
        assert error.message == "it is for another site"
        # What a passkey's call may not be refused with is no word for callers.
        for status, code in ((400, "passkey_given"), (409, "no_such_thing"), (500, "passkey_malformed")):
            server.answer = lambda said=(status, code): web.json_response({"code": said[1]}, status=said[0])
            with pytest.raises(ServerFailed):
                await call(client, server.port)
        assert set(server.calls) == {request_line}

    @pytest.mark.parametrize("body", ["", "[]", "null", "{}", '{"stage": "asked"}', "[" * 10_000])
    async def test_a_passkey_that_was_taken_is_given_whatever_the_server_says(self, server, client, body):
        server.answer = lambda: web.Response(text=body, status=202)
        assert await client.give_passkey(server.port, b"{}") == Passkey(PasskeyStage.GIVEN)
        server.answer = lambda: web.json_response({"stage": "code", "code": "ABCD-EFGH"}, status=202)
        assert await client.give_passkey(server.port, b"{}") == Passkey(PasskeyStage.CODE, code="ABCD-EFGH")

    async def test_what_a_passkey_has_signed_is_sent_as_it_came(self, client):
        sent = b'{"response" :\t{"signature":"\\u0061"}, "id": 1.0}\n\xff'
        received = []

        async def handle(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            received.append(
                (b"Content-Type: application/json\r\n" in head, await reader.readexactly(len(sent)))
            )
            writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as listener:
            await client.give_passkey(Port(listener.sockets[0].getsockname()[1]), sent)
        assert received == [(True, sent)]

    async def test_a_server_that_hangs_is_given_up(self, client, monkeypatch):
        monkeypatch.setattr(server_client, "CALL_TIMEOUT_S", 0.05)
        with socket.create_server(("127.0.0.1", 0)) as hung:
            with pytest.raises(ServerFailed, match="no answer within") as caught:
                await client.ask_for_code(Port(hung.getsockname()[1]))
            assert caught.value.cause == "not_answering"
