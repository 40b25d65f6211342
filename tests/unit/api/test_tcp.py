"""Over TCP: who shows what may call what, for every call there is."""

import asyncio
import contextlib
import dataclasses
import os
import sys
import time
import urllib.parse
from pathlib import Path

import pytest
from aiohttp import web
from support import access_for, until

from waportd.accounts import name_of
from waportd.api.operations import Scope
from waportd.api.parameters import OF_USER
from waportd.api.server import operations
from waportd.api.throttle import MOST, WINDOW_S
from waportd.model import Port, User
from waportd.port_holders import Holder
from waportd.sockets import PortHeld
from waportd.tokens import Kind, Tokens

sys.path.insert(0, str(Path(__file__).parents[3] / "tools"))

import authorization

TWO, THREE = User("2"), User("3")


class Door:
    """All calls of the API over TCP, each of which answers 418 and nothing else where a caller gets in."""

    def __init__(self, client, access):
        self._client, self.access = client, access

    async def knock(self, operation, user=TWO, headers=None, query=None):
        """Return the status of a call that concerns the user."""
        path = operation.path.format_map(
            {"user": user, "port": 5001, "id": "0" * 12, "number": "5511", "name": "x", "host": "a"}
        )
        owner = next((one for one in operation.parameters if one.kind is OF_USER), None)
        query = dict(query or {})
        if owner and owner.required and owner.place == "query":
            query[owner.name] = user
        async with self._client.request(operation.method, path, headers=headers, params=query) as answer:
            self.answer = answer
            self.body = await answer.text()
            return answer.status

    async def token(self, user=None, **options):
        """Make a token for a user, or for all; return the headers that show it."""
        _, text = await self.access.tokens.create("test", user, **options)
        return {"Authorization": f"Bearer {text}"}

    def link(self, user, lifetime=600):
        """Make a connect link; return its query."""
        expires, signature = self.access.links.sign(user, lifetime)
        return {"expires": str(expires), "signature": signature}


@pytest.fixture
async def door(aiohttp_client):
    async def got_in(request):
        return web.Response(status=418)

    app = web.Application()
    app["access"] = access = access_for()
    app.add_routes(
        dataclasses.replace(one, handler=got_in, body=None, parameters=required(one)).route()
        for one in operations()
    )
    return Door(await aiohttp_client(app), access)


def required(operation):
    return tuple(
        one for one in operation.parameters if one.required and (one.kind is OF_USER or one.place == "path")
    )


def of(*scopes):
    """Try each call of these scopes."""
    chosen = [one for one in operations() if one.scope in scopes]
    assert chosen
    return pytest.mark.parametrize("operation", chosen, ids=lambda one: f"{one.method} {one.path}")


class TestCalls:
    @of(*(set(Scope) - {Scope.PUBLIC}))
    async def test_who_shows_nothing_is_asked_for_a_token(self, door, operation):
        assert await door.knock(operation) == 401
        assert door.answer.headers["WWW-Authenticate"] == 'Bearer realm="waportd"'
        assert "waportctl token create" in door.body

    @of(Scope.PUBLIC)
    async def test_what_says_nothing_about_anybody_is_open(self, door, operation):
        assert await door.knock(operation) == 418

    @of(*Scope)
    async def test_a_token_of_scope_admin_opens_everything(self, door, operation):
        assert await door.knock(operation, headers=await door.token()) == 418

    @of(Scope.USER, Scope.LINK)
    async def test_a_users_token_opens_what_concerns_that_user_and_nobody_else(self, door, operation):
        headers = await door.token(TWO)
        assert await door.knock(operation, TWO, headers) == 418
        assert await door.knock(operation, THREE, headers) == 403
        assert await door.knock(operation, User("2_1"), headers) == 403

    @of(Scope.TOKEN)
    async def test_a_token_of_any_scope_opens_what_concerns_its_caller(self, door, operation):
        for headers in (await door.token(TWO), await door.token(kind=Kind.METRICS)):
            assert await door.knock(operation, headers=headers) == 418

    @of(Scope.ADMIN)
    async def test_a_users_token_opens_nothing_that_concerns_all(self, door, operation):
        assert await door.knock(operation, headers=await door.token(TWO)) == 403
        assert "scope admin" in door.body

    @of(*Scope)
    @pytest.mark.parametrize("kind", [Kind.READ, Kind.METRICS])
    async def test_a_narrow_token_opens_what_the_table_says(self, door, operation, kind):
        headers = await door.token(kind=kind)
        column = authorization.API.columns.index(str(kind))
        expected = authorization.API.rows[f"{operation.method} {operation.path}"][column]
        assert await door.knock(operation, headers=headers) == (418 if expected == "yes" else 403)

    def test_who_reads_changes_nothing_and_sees_no_code(self):
        opened = [one for one in operations() if one.also]
        assert {one.method for one in opened} == {"GET"}
        assert not [one.path for one in opened if "qr" in one.path or one.path.endswith("{user}/events")]
        metrics = {one.path for one in opened if Scope.METRICS in one.also}
        assert metrics == {"/metrics", "/v1/health"}

    @of(Scope.LINK)
    async def test_a_link_opens_what_the_connect_page_calls_for_its_user_and_nobody_else(
        self, door, operation
    ):
        assert await door.knock(operation, TWO, query=door.link(TWO)) == 418
        assert await door.knock(operation, THREE, query=door.link(TWO)) == 403
        assert "link_invalid" in door.body

    @of(Scope.USER, Scope.ADMIN)
    async def test_a_link_opens_nothing_else(self, door, operation):
        # A parameter that the call does not know is refused before anything is asked.
        lenient = operation.lenient
        assert await door.knock(operation, TWO, query=door.link(TWO)) == (401 if lenient else 400)
        assert "link" not in door.body

    @of(Scope.LINK)
    async def test_a_link_that_was_changed_or_has_ended_says_so(self, door, operation):
        link = door.link(TWO)
        assert await door.knock(operation, query={**link, "expires": str(int(link["expires"]) + 60)}) == 403
        assert "link_invalid" in door.body
        assert await door.knock(operation, query={"signature": link["signature"]}) == 403
        assert await door.knock(operation, query={"expires": link["expires"]}) == 401
        assert await door.knock(operation, query=door.link(TWO, -1)) == 403
        assert "link_expired" in door.body

    def test_nothing_but_the_document_and_the_empty_pages_is_open(self):
        assert {one.path for one in operations() if one.scope is Scope.PUBLIC} == {
            "/openapi.json",
            "/docs",
            "/",
            "/connect",
            "/assets/{name}",
        }

    def test_a_link_opens_these_calls_only(self):
        known = {f"{one.method} {one.path}" for one in operations() if one.scope is Scope.LINK}
        assert known == {
            "PUT /v1/users/{user}",
            "GET /v1/users/{user}/qr",
            "GET /v1/users/{user}/events",
            "POST /v1/users/{user}/pairing-code",
            "DELETE /v1/users/{user}/pairing-code",
            "GET /v1/users/{user}/passkey",
            "POST /v1/users/{user}/passkey",
            "POST /v1/users/{user}/passkey/confirm",
            "DELETE /v1/users/{user}/passkey",
        }


HEALTH = next(one for one in operations() if one.path == "/v1/health")
QR = next(one for one in operations() if one.path == "/v1/users/{user}/qr")


class TestTokens:
    @pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
    async def test_the_schemes_case_does_not_matter(self, door, scheme):
        text = (await door.token())["Authorization"].split()[1]
        assert await door.knock(HEALTH, headers={"Authorization": f"{scheme} {text}"}) == 418

    @pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", "Basic YTpi", "Bearer " + "x" * 5000, "ÿ"])
    async def test_what_is_no_token_is_refused_as_invalid_and_repeated_nowhere(self, door, header, caplog):
        caplog.set_level("DEBUG")
        token = (await door.token())["Authorization"].removeprefix("Bearer ")
        for wrong in (header, f"Basic {token}", token, f"Bearer {token[:-1]}"):
            assert await door.knock(HEALTH, headers={"Authorization": wrong}) == 401
            assert 'error="invalid_token"' in door.answer.headers["WWW-Authenticate"]
            assert token[:-1] not in door.body + str(door.answer.headers) + caplog.text

    async def test_a_token_goes_before_a_link(self, door):
        assert await door.knock(QR, THREE, await door.token(THREE), door.link(TWO)) == 418

    async def test_a_token_that_has_ended_opens_nothing(self, door, monkeypatch):
        headers = await door.token(lifetime=60)
        [token] = door.access.tokens
        assert await door.knock(HEALTH, headers=headers) == 418
        now = time.time()
        monkeypatch.setattr("waportd.tokens.time.time", lambda: now + 61)
        assert await door.knock(HEALTH, headers=headers) == 401
        assert not door.access.tokens.is_valid(token.id)

    async def test_a_deleted_token_opens_nothing(self, door):
        headers = await door.token()
        [token] = door.access.tokens
        await door.access.tokens.revoke(token.id)
        assert await door.knock(HEALTH, headers=headers) == 401


class TestFailures:
    async def test_who_tries_again_and_again_has_to_wait(self, door):
        wrong = {"Authorization": "Bearer wrong"}
        for _ in range(MOST - 1):
            assert await door.knock(HEALTH, headers=wrong) == 401
        assert await door.knock(QR, query={"expires": "1", "signature": "x"}) == 403
        assert await door.knock(HEALTH, headers=wrong) == 429
        assert 0 < int(door.answer.headers["Retry-After"]) <= WINDOW_S
        assert await door.knock(QR, query={"expires": "1", "signature": "x"}) == 429

    async def test_who_shares_an_address_with_such_a_caller_is_not_locked_out(self, door):
        for _ in range(MOST * 2):
            await door.knock(HEALTH, headers={"Authorization": "Bearer wrong"})
        assert await door.knock(HEALTH, headers=await door.token()) == 418
        assert await door.knock(QR, query=door.link(TWO)) == 418

    async def test_who_shows_nothing_or_an_ended_link_has_not_tried_anything(self, door):
        for _ in range(MOST * 2):
            assert await door.knock(HEALTH) == 401
            assert await door.knock(QR, query=door.link(TWO, -1)) == 403


async def answered(client, method, path, expected, **options):
    async with client.request(method, path, **options) as answer:
        assert answer.status == expected, await answer.text()
        return await answer.json() if expected != 204 else None


@pytest.fixture
async def admin(api):
    """Headers that show a token for everything, made over the unix socket."""
    made = await answered(api, "POST", "/v1/tokens", 201, json={"name": "admin", "scope": "admin"})
    return {"Authorization": f"Bearer {made['token']}"}


class TestTokenCalls:
    async def test_a_token_is_made_over_the_unix_socket_and_opens_the_api_over_tcp(self, tcp, admin):
        await answered(tcp, "GET", "/v1/users", 401)
        assert await answered(tcp, "GET", "/v1/users", 200, headers=admin) == {"users": []}

    async def test_it_is_shown_once(self, api, tcp, admin):
        before = time.time()
        made = await answered(api, "POST", "/v1/tokens", 201, json={"name": "Page", "scope": "user:2_1"})
        secret = made.pop("token")
        assert (made["name"], made["scope"], made["last_used_at"]) == ("Page", "user:2_1", None)
        await answered(tcp, "GET", "/v1/users/2_1", 404, headers={"Authorization": f"Bearer {secret}"})
        listed = await answered(api, "GET", "/v1/tokens", 200)
        assert [one["name"] for one in listed["tokens"]] == ["admin", "Page"]
        assert listed["tokens"][1]["last_used_at"] >= time.strftime("%FT%T", time.gmtime(before))
        assert secret.split("_", 2)[2] not in str(listed)

    async def test_a_deleted_token_is_gone(self, api, tcp, admin):
        [token] = (await answered(api, "GET", "/v1/tokens", 200))["tokens"]
        await answered(tcp, "DELETE", f"/v1/tokens/{token['id']}", 204, headers=admin)
        await answered(tcp, "GET", "/v1/users", 401, headers=admin)
        assert (await answered(api, "DELETE", f"/v1/tokens/{token['id']}", 404))["code"] == "unknown_token"

    @pytest.mark.parametrize(
        "body",
        [
            None,
            {},
            {"name": "x"},
            {"scope": "admin"},
            {"name": "", "scope": "admin"},
            {"name": "x" * 65, "scope": "admin"},
            {"name": "a\nb", "scope": "admin"},
            {"name": 1, "scope": "admin"},
            {"name": "x", "scope": "user"},
            {"name": "x", "scope": "user:"},
            {"name": "x", "scope": "user:../x"},
            {"name": "x", "scope": "user:2\n"},
            {"name": "x", "scope": "Admin"},
            {"name": "x", "scope": None},
        ],
    )
    async def test_a_wrong_wish_makes_no_token(self, api, access, body):
        assert (await answered(api, "POST", "/v1/tokens", 400, json=body))["code"] == "bad_request"
        assert list(access.tokens) == []


class TestCaller:
    """A page asks who it is, before it offers anything."""

    async def test_on_the_unix_socket_it_is_an_account_that_may_call_everything(self, api):
        shown = await answered(api, "GET", "/v1/caller", 200)
        assert shown == {"scope": "admin", "user": None, "token": None, "name": name_of(os.geteuid())}

    @pytest.mark.parametrize("scope", ["admin", "read", "metrics", "user:2_1"])
    async def test_over_tcp_it_is_what_the_token_says(self, api, tcp, scope):
        made = await answered(api, "POST", "/v1/tokens", 201, json={"name": "Page", "scope": scope})
        headers = {"Authorization": f"Bearer {made['token']}"}
        kind, _, user = scope.partition(":")
        shown = await answered(tcp, "GET", "/v1/caller", 200, headers=headers)
        assert shown == {"scope": kind, "user": user or None, "token": made["id"], "name": "Page"}

    async def test_nobody_without_a_token_is_somebody(self, tcp, access):
        await answered(tcp, "GET", "/v1/caller", 401)
        expires, signature = access.links.sign(TWO, 600)
        link = {"expires": str(expires), "signature": signature}
        assert (await answered(tcp, "GET", "/v1/caller", 400, params=link))["code"] == "bad_request"


class TestLinks:
    async def test_all_of_them_are_taken_back_at_once(self, api, tcp, store, access):
        await answered(api, "PUT", "/v1/users/2", 201, params={"wait": "none"})
        expires, signature = access.links.sign(TWO, 600)
        query = {"expires": str(expires), "signature": signature}
        async with tcp.get("/v1/users/2/events", params=query) as stream:
            await stream.content.readuntil(b"event: user")
            await answered(api, "DELETE", "/v1/connect-links", 204)
            await answered(api, "POST", "/v1/users/2/stop", 200)
            async with asyncio.timeout(20):
                assert b"stopped" not in await stream.content.read()
        refused = await answered(tcp, "GET", "/v1/users/2/qr", 403, params=query)
        assert refused["code"] == "link_invalid"
        expires, signature = access.links.sign(TWO, 600)
        query = {"expires": str(expires), "signature": signature}
        await answered(tcp, "GET", "/v1/users/2/qr", 200, params=query)

    async def test_over_the_unix_socket_a_link_has_no_host(self, api):
        link = await answered(api, "POST", "/v1/users/2/connect-link", 201)
        assert link["url"] == link["path"]
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(link["url"]).query))
        assert query["user"] == "2"
        assert abs(int(query["expires"]) - time.time() - 600) < 10

    async def test_over_tcp_it_leads_to_where_the_caller_called(self, tcp, server, admin):
        link = await answered(tcp, "POST", "/v1/users/a@b/connect-link", 201, json={"ttl": 5}, headers=admin)
        assert link["url"] == f"{server.url}{link['path']}"
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(link["url"]).query))
        assert query["user"] == "a@b"
        assert int(query["expires"]) <= time.time() + 5

    async def test_where_people_reach_waportd_is_said_it_leads_there(self, api, tcp, admin, access):
        access.links.public_url = "https://app.example.com/whatsapp"
        for client, headers in ((api, {}), (tcp, admin)):
            link = await answered(client, "POST", "/v1/users/2/connect-link", 201, headers=headers)
            assert link["url"] == f"https://app.example.com/whatsapp{link['path']}"

    async def test_it_links_a_phone_from_start_to_code(self, api, tcp, systemd):
        systemd.prepare = lambda server: setattr(server, "on_ask", server.show_code)
        link = await answered(api, "POST", "/v1/users/2/connect-link", 201)
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(link["path"]).query))
        del query["user"]
        await answered(tcp, "PUT", "/v1/users/2", 201, params={**query, "wait": "qr"})
        shown = await answered(tcp, "GET", "/v1/users/2/qr", 200, params=query)
        assert shown["qr"].startswith("ref1,")
        await answered(tcp, "GET", "/v1/users/3/qr", 403, params=query)
        refused = await answered(tcp, "PUT", "/v1/users/2", 403, params=query, json={"autostart": False})
        assert "no options" in refused["detail"]

    @pytest.fixture
    async def link(self, access):
        expires, signature = access.links.sign(TWO, 600)
        return {"expires": str(expires), "signature": signature}

    SECRETS = ("5511999990000", "Ana", '"pid": 1', '"pid":1', "123456789", "note of ours", "secret hint")

    async def test_it_shows_nothing_that_the_phones_owner_need_not_know(
        self, api, tcp, systemd, supervisor, link
    ):
        await answered(api, "PUT", "/v1/users/2", 201, json={"memory_max": 1234567890})
        instance = supervisor.known(TWO)
        systemd.servers[instance.assignment.port].link("5511999990000")
        await until(supervisor, TWO, lambda now: now.session and now.session.linked)
        instance = supervisor.known(TWO)
        supervisor.registry.put(
            dataclasses.replace(
                instance,
                assignment=dataclasses.replace(instance.assignment, note="note of ours"),
                process=dataclasses.replace(instance.process, cause="port_held", hint="secret hint"),
            )
        )
        told = [
            str(await answered(tcp, "PUT", "/v1/users/2", 200, params={**link, "wait": "none"})),
            str(await answered(tcp, "GET", "/v1/users/2/qr", 200, params=link)),
        ]
        async with tcp.get("/v1/users/2/events", params=link) as stream:
            told.append((await stream.content.readuntil(b"event: qr")).decode())
        for text in told:
            assert not [secret for secret in self.SECRETS if secret in text]
        assert "5511999990000" in str(await answered(api, "GET", "/v1/users/2", 200))

    @pytest.mark.parametrize("by", ["api", "hand"])
    async def test_it_does_not_undo_a_stop(self, api, tcp, systemd, supervisor, link, by):
        await answered(api, "PUT", "/v1/users/2", 201)
        port = supervisor.known(TWO).assignment.port
        if by == "api":
            await answered(api, "POST", "/v1/users/2/stop", 200)
        else:
            await systemd.stop_by_hand(f"whatsapp@{port}.socket")
        refused = await answered(tcp, "PUT", "/v1/users/2", 409, params=link)
        assert refused["cause"] == "stopped"
        await answered(
            tcp, "POST", "/v1/users/2/pairing-code", 409, params=link, json={"phone": "5511999990000"}
        )
        assert port not in systemd.servers
        await answered(api, "PUT", "/v1/users/2", 200)
        assert port in systemd.servers

    async def test_it_does_not_show_who_holds_a_port(self, api, tcp, systemd, supervisor, link, monkeypatch):
        async def held(*_, **__):
            raise PortHeld(Port(5002), Holder("root", 4711, "secret --command"))

        monkeypatch.setattr(supervisor, "ensure", held)
        refused = await answered(tcp, "PUT", "/v1/users/2", 409, params=link)
        assert "4711" not in str(refused)
        assert "secret" not in str(refused)
        assert "4711" in str(await answered(api, "PUT", "/v1/users/2", 409))

    @pytest.mark.parametrize("ttl", [0, -1, 86401, 1.5, "60", None, True])
    async def test_a_wrong_lifetime_makes_none(self, api, ttl):
        await answered(api, "POST", "/v1/users/2/connect-link", 400, json={"ttl": ttl})

    async def test_a_signature_on_the_unix_socket_is_not_looked_at(self, api):
        await answered(api, "GET", "/v1/users/2/qr", 200, params={"signature": "x", "expires": "y"})


class TestWaiting:
    """Who was let in, and is shut out while the answer is waited for, does not get it."""

    @pytest.fixture
    async def waiting(self, api, tcp, systemd, supervisor):
        await answered(api, "PUT", "/v1/users/2", 201)

        @contextlib.asynccontextmanager
        async def wait(method, path, **shown):
            call = asyncio.create_task(tcp.request(method, path, **shown))
            await asyncio.sleep(0.2)
            assert not call.done()
            answer = {}
            yield answer
            systemd.servers[supervisor.known(TWO).assignment.port].show_code()
            async with asyncio.timeout(10), await call as response:
                answer["status"], answer["text"] = response.status, await response.text()

        return wait

    CALLS = (
        ("GET", "/v1/users/2/qr?timeout=20"),
        ("PUT", "/v1/users/2?wait=qr"),
        ("POST", "/v1/users/2/start?wait=qr"),
    )

    @pytest.mark.parametrize(("method", "path"), CALLS)
    async def test_with_a_token_that_was_deleted(self, access, waiting, method, path):
        token, text = await access.tokens.create("x", TWO)
        async with waiting(method, path, headers={"Authorization": f"Bearer {text}"}) as answer:
            await access.tokens.revoke(token.id)
        assert answer["status"] == 401
        assert "ref1" not in answer["text"]

    @pytest.mark.parametrize(("method", "path"), CALLS[:2])
    async def test_with_a_link_that_has_ended(self, access, waiting, method, path, monkeypatch):
        expires, signature = access.links.sign(TWO, 600)
        async with waiting(f"{method}", f"{path}&expires={expires}&signature={signature}") as answer:
            monkeypatch.setattr("waportd.api.access.time.time", lambda: expires + 1.0)
        assert answer["status"] == 403
        assert "link_expired" in answer["text"]

    async def test_on_the_unix_socket_who_is_on_the_list_no_more(self, api, access, waiting, monkeypatch):
        monkeypatch.setattr("waportd.api.access.peer_uid", lambda _: 1234)
        access.allow([1234])
        async with waiting("GET", "/v1/users/2/qr?timeout=20") as answer:
            access.allow([5678])
        assert answer["status"] == 403


class TestStreams:
    @pytest.fixture
    def impatient(self, monkeypatch):
        monkeypatch.setattr("waportd.api.events.HEARTBEAT_S", 0.05)

    async def test_a_stream_ends_with_the_token_that_opened_it(self, api, tcp, access, admin, impatient):
        async with tcp.get("/v1/events", headers=admin) as stream:
            await stream.content.readuntil(b"event: complete")
            await access.tokens.revoke(next(iter(access.tokens)).id)
            async with asyncio.timeout(10):
                await stream.content.read()

    async def test_a_stream_ends_with_the_link_that_opened_it(self, api, tcp, access, monkeypatch, impatient):
        await answered(api, "PUT", "/v1/users/2", 201, params={"wait": "none"})
        expires, signature = access.links.sign(TWO, 600)
        query = {"expires": str(expires), "signature": signature}
        async with tcp.get("/v1/users/2/events", params=query) as stream:
            await stream.content.readuntil(b"event: user")
            monkeypatch.setattr("waportd.api.access.time.time", lambda: expires + 1.0)
            async with asyncio.timeout(10):
                await stream.content.read()

    async def test_a_stream_on_the_unix_socket_ends_when_its_reader_is_on_the_list_no_more(
        self, api, access, monkeypatch, impatient
    ):
        monkeypatch.setattr("waportd.api.access.peer_uid", lambda _: 1234)
        access.allow([1234])
        async with api.get("/v1/events") as stream:
            await stream.content.readuntil(b"event: complete")
            access.allow([5678])
            async with asyncio.timeout(10):
                await stream.content.read()


async def test_pages_in_the_front_ends_shape_are_refused_in_it(tcp):
    refused = await answered(tcp, "GET", "/api/qr", 401, params={"user_id": "2"})
    assert (refused["success"], refused["code"]) == (False, "unauthorized")
    assert refused["hint"]


async def test_tokens_survive_a_restart(store, access):
    _, text = await access.tokens.create("x", None)
    successor = Tokens(store)
    await successor.load()
    assert successor.recognise(text)
