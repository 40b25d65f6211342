"""The API as its callers see it, on a real unix socket."""

import asyncio
import base64
import dataclasses
import datetime as dt
import json
import socket as sockets
import stat
import time
from types import MappingProxyType

import pytest
from aiohttp import web
from support import (
    BASE,
    OVERFLOW,
    add_engine,
    all_fail,
    give_way,
    over,
    rendered_svg,
    rendered_text,
    scanned,
    until,
)

from waportd.errors import NotRunning
from waportd.model import (
    MoveStep,
    Port,
    ProcessState,
    SessionState,
    User,
    move_unit,
    service_unit,
    socket_unit,
)
from waportd.systemd.manager import UnitBusy

ONE, PORT = User("1"), Port(BASE)


@pytest.fixture
def codes(systemd):
    """Servers that show a code as soon as they are asked for one."""
    systemd.prepare = lambda server: setattr(server, "on_ask", server.show_code)


async def call(api, method, path, expected=200, **options):
    async with api.request(method, path, **options) as answer:
        body = await answer.read()
        assert answer.status == expected, body
        return json.loads(body) if body else None


async def test_a_put_creates_and_then_finds(api):
    created = await call(api, "PUT", "/v1/users/1", 201)
    found = await call(api, "PUT", "/v1/users/1", 200)
    assert created["port"] == found["port"] == PORT
    assert found["url"] == f"http://localhost:{PORT}"
    assert found["unit"] == service_unit(PORT)
    assert found["process"]["state"] == "running"
    assert "memory" not in found
    memory = {"bytes": 64 << 20, "source": "systemd"}
    assert (await call(api, "GET", "/v1/users/1"))["memory"] == memory
    assert (await call(api, "PUT", "/v1/users/1"))["memory"] == memory


async def test_users_are_listed_by_port(api):
    for user in ("3", "1", "2_1"):
        await call(api, "PUT", f"/v1/users/{user}", 201, params={"wait": "none"})
    listed = await call(api, "GET", "/v1/users")
    assert [user["user"] for user in listed["users"]] == ["1", "3", "2_1"]
    assert "memory" not in listed["users"][0]


async def test_no_resource_but_qr_holds_the_code(api, codes):
    await call(api, "PUT", "/v1/users/1", 201, params={"wait": "qr"})
    shown = await call(api, "GET", "/v1/users/1/qr")
    assert shown["qr"].startswith("ref1,")
    for path in (
        "/v1/users",
        "/v1/users/1",
        "/v1/health",
        f"/v1/ports/{PORT}",
        "/api/whatsapp-status?user_id=1",
    ):
        assert shown["qr"] not in json.dumps(await call(api, "GET", path))


@pytest.mark.also_without("response_cache", "first_answers")
async def test_the_code_and_how_long_it_holds(api, codes):
    await call(api, "PUT", "/v1/users/1", 201, params={"wait": "qr"})
    async with api.get("/v1/users/1/qr") as answer:
        document = await answer.json()
        assert answer.headers["Cache-Control"] == "no-store"
    assert document["status"] == "qr"
    assert (document["attempt"], document["attempts"]) == (1, 5)
    assert document["expires_at"].endswith("Z")


@pytest.mark.also_without("response_cache", "first_answers")
async def test_asking_for_a_code_starts_the_server(api, codes):
    async def poll(seen):
        query, headers = {"timeout": "5"}, {"If-None-Match": seen}
        async with api.get("/v1/users/1/qr", params=query, headers=headers) as answer:
            assert answer.status == 200
            return await answer.json(), answer.headers["ETag"]

    document, seen = await poll("")
    assert document["qr"] is None
    async with asyncio.timeout(20):
        while document["qr"] is None:
            document, seen = await poll(seen)
    assert document["qr"].startswith("ref1,")


@pytest.mark.also_without("response_cache", "first_answers")
async def test_a_long_poll_ends_with_the_change(api, codes, supervisor, systemd):
    await call(api, "PUT", "/v1/users/1", 201, params={"wait": "qr"})
    poll = asyncio.create_task(call(api, "GET", "/v1/users/1/qr", params={"timeout": "30"}))
    await asyncio.sleep(0.05)
    assert not poll.done()
    systemd.servers[PORT].show_code()
    assert (await asyncio.wait_for(poll, 5))["qr"].startswith("ref2,")


async def test_a_long_poll_misses_no_change_between_two_calls(api, codes, supervisor, systemd):
    await call(api, "PUT", "/v1/users/1", 201, params={"wait": "qr"})
    async with api.get("/v1/users/1/qr") as answer:
        etag = answer.headers["ETag"]
    systemd.servers[PORT].show_code()
    await until(supervisor, ONE, lambda instance: instance.session.attempt == 2)
    poll = call(api, "GET", "/v1/users/1/qr", params={"timeout": "30"}, headers={"If-None-Match": etag})
    assert (await asyncio.wait_for(poll, 5))["qr"].startswith("ref2,")


async def test_a_long_poll_without_a_change_is_not_modified(api, codes):
    await call(api, "PUT", "/v1/users/1", 201, params={"wait": "qr"})
    async with api.get("/v1/users/1/qr") as answer:
        etag = answer.headers["ETag"]
    headers = {"If-None-Match": etag}
    assert await call(api, "GET", "/v1/users/1/qr", 304, params={"timeout": "0.1"}, headers=headers) is None


async def test_the_former_name_of_a_timeout_is_accepted_for_one_release(api, codes):
    await call(api, "PUT", "/v1/users/1", 201, params={"wait": "qr"})
    async with api.get("/v1/users/1/qr") as answer:
        headers = {"If-None-Match": answer.headers["ETag"]}
    began = time.monotonic()
    assert await call(api, "GET", "/v1/users/1/qr?wait=0.2", 304, headers=headers) is None
    assert time.monotonic() - began >= 0.2


async def test_an_expired_code_is_not_served_and_ends_a_long_poll(api, systemd):
    systemd.prepare = lambda server: setattr(server, "on_ask", lambda: server.show_code(lifetime=0.5))
    await call(api, "PUT", "/v1/users/1", 201, params={"wait": "qr"})
    assert (await call(api, "GET", "/v1/users/1/qr"))["qr"]
    document = await asyncio.wait_for(call(api, "GET", "/v1/users/1/qr", params={"timeout": "30"}), 5)
    assert document["qr"] is None
    assert document["status"] == "generating"


async def test_a_long_poll_for_a_user_who_is_deleted_meanwhile_gets_no_code(api, codes, supervisor):
    await call(api, "PUT", "/v1/users/1", 201, params={"wait": "qr"})
    poll = asyncio.create_task(call(api, "GET", "/v1/users/1/qr", 404, params={"timeout": "30"}))
    await asyncio.sleep(0.05)
    supervisor.registry.remove(ONE)
    assert (await asyncio.wait_for(poll, 5))["code"] == "unknown_user"


class TestPairingCode:
    PATH = "/v1/users/1/pairing-code"
    PHONE = MappingProxyType({"phone": "+55 11 99999-8888"})

    async def test_a_code_is_had_for_a_user_who_did_not_exist(self, api, systemd, caplog):
        caplog.set_level("DEBUG")
        document = await call(api, "POST", self.PATH, json=dict(self.PHONE))
        assert (document["user"], document["code"]) == ("1", "CODE-8888")
        assert document["expires_at"].endswith("Z")
        assert systemd.servers[PORT].calls.count("pairing code 5511999998888") == 1
        assert "CODE-8888" not in caplog.text
        assert "99999" not in caplog.text

    async def test_the_same_phone_gets_the_same_code_and_another_has_to_wait(self, api):
        first = await call(api, "POST", self.PATH, json=dict(self.PHONE))
        assert (await call(api, "POST", self.PATH, json=dict(self.PHONE)))["code"] == first["code"]
        async with api.post(self.PATH, json={"phone": "+55 11 99999-7777"}) as answer:
            assert answer.status == 429
            assert 0 < int(answer.headers["Retry-After"]) <= 30
            assert (await answer.json(content_type=None))["code"] == "too_many_requests"

    async def test_nobody_who_is_linked_gets_one(self, api, systemd, supervisor):
        await call(api, "PUT", "/v1/users/1", 201)
        systemd.servers[PORT].link()
        await until(supervisor, ONE, lambda instance: instance.assignment.linked)
        refused = await call(api, "POST", self.PATH, 409, json=dict(self.PHONE))
        assert refused["code"] == "already_linked"
        assert "logout" in refused["hint"]

    async def test_what_the_server_refuses_is_reported_with_its_cause(self, api, systemd):
        body = {
            "error": "WhatsApp refuses",
            "code": "pairing_refused",
            "cause": "pairing_refused",
            "hint": "x",
        }
        systemd.prepare = lambda server: setattr(
            server, "on_pairing", lambda phone: web.json_response(body, status=503)
        )
        refused = await call(api, "POST", self.PATH, 502, json=dict(self.PHONE))
        assert (refused["cause"], refused["hint"]) == ("pairing_refused", "x")
        assert (await call(api, "POST", self.PATH, 429, json=dict(self.PHONE)))["code"] == "too_many_requests"

    @pytest.mark.parametrize("body", [None, "x", [], {}, {"phone": 5511999998888}, {"phone": "12"}])
    async def test_what_is_no_phone_is_refused_and_starts_nothing(self, api, supervisor, body):
        refused = await call(api, "POST", self.PATH, 400, data=json.dumps(body))
        assert refused["code"] == "bad_request"
        assert "phone" in f"{refused['detail']} {refused['hint']}"
        assert len(supervisor.registry) == 0

    async def test_the_code_is_in_no_other_answer(self, api, supervisor):
        code = (await call(api, "POST", self.PATH, json=dict(self.PHONE)))["code"]
        await until(supervisor, ONE, lambda instance: instance.session.pairing is not None)
        for path in ("/v1/users", "/v1/users/1", "/v1/users/1/qr", "/api/qr?user_id=1"):
            assert code not in json.dumps(await call(api, "GET", path))

    async def test_of_a_server_that_rests_none_is_to_be_ended(self, api, systemd):
        await call(api, "PUT", "/v1/users/1", 201)
        await call(api, "POST", "/v1/users/1/stop")
        await call(api, "POST", "/v1/users/1/logout")
        await call(api, "DELETE", self.PATH, 204)
        assert not systemd.servers

    async def test_a_deletion_is_no_way_round_the_limit(self, api):
        await call(api, "POST", self.PATH, json=dict(self.PHONE))
        await call(api, "DELETE", "/v1/users/1", 204)
        await call(api, "POST", self.PATH, 429, json={"phone": "+55 11 99999-7777"})


class TestDrawnCode:
    PATH = "/v1/users/1/qr"

    @pytest.fixture
    async def code(self, api, codes):
        await call(api, "PUT", "/v1/users/1", 201, params={"wait": "qr"})
        return (await call(api, "GET", self.PATH))["qr"]

    @pytest.mark.parametrize(
        ("form", "content_type", "read"),
        [
            ("png", "image/png", lambda body: scanned(body, "png")),
            ("svg", "image/svg+xml", lambda body: scanned(rendered_svg(body), "png")),
            ("txt", "text/plain", lambda body: scanned(rendered_text(body.decode()), "pgm")),
            ("dataurl", "text/plain", lambda body: scanned(base64.b64decode(body.partition(b",")[2]), "png")),
            ("json", "application/json", lambda body: json.loads(body)["qr"]),
        ],
    )
    async def test_the_picture_holds_the_code(self, api, code, form, content_type, read):
        async with api.get(self.PATH, params={"format": form}) as answer:
            assert answer.content_type == content_type
            assert answer.headers["Cache-Control"] == "no-store"
            assert read(await answer.read()) == code

    @pytest.mark.parametrize(
        ("accept", "content_type"),
        [
            (None, "application/json"),
            ("*/*", "application/json"),
            ("image/png", "image/png"),
            ("IMAGE/SVG+XML", "image/svg+xml"),
            ("text/plain", "text/plain"),
            ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image/svg+xml"),
            ("image/avif,image/webp,image/png,image/svg+xml;q=0.5,*/*;q=0.1", "image/png"),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
            ("application/json, image/png;q=0.9", "application/json"),
            ("image/png;q=0, */*", "application/json"),
            ("text/html", "application/json"),
            ("image/png;q=nonsense", "application/json"),
        ],
    )
    async def test_accept_chooses_like_format(self, api, code, accept, content_type):
        async with api.get(self.PATH, headers={"Accept": accept} if accept else {}) as answer:
            assert answer.content_type == content_type
            assert answer.headers["Vary"] == "Accept"

    async def test_format_goes_before_accept(self, api, code):
        async with api.get(self.PATH + "?format=json", headers={"Accept": "image/png"}) as answer:
            assert answer.content_type == "application/json"

    async def test_a_code_is_drawn_once_until_the_next_one(self, api, code, systemd, supervisor, monkeypatch):
        drawn = []
        monkeypatch.setattr("waportd.api.qr.draw", lambda *args: drawn.append(args) or b"picture")
        await asyncio.gather(*(call_raw(api, self.PATH + "?format=png") for _ in range(20)))
        assert drawn == [(code, "png")]
        following = systemd.servers[PORT].show_code()
        await until(supervisor, ONE, lambda instance: instance.session.qr == following)
        await call_raw(api, self.PATH + "?format=png")
        assert drawn == [(code, "png"), (following, "png")]

    async def test_an_unchanged_picture_is_not_sent_again(self, api, code):
        async with api.get(self.PATH + "?format=png") as answer:
            etag = answer.headers["ETag"]
        async with api.get(self.PATH + "?format=png", headers={"If-None-Match": etag}) as answer:
            assert answer.status == 304
        async with api.get(self.PATH + "?format=svg", headers={"If-None-Match": etag}) as answer:
            assert answer.status == 200

    async def test_a_wait_ends_with_the_next_picture(self, api, code, systemd):
        poll = asyncio.create_task(call_raw(api, self.PATH + "?format=png&timeout=30"))
        await asyncio.sleep(0.05)
        assert not poll.done()
        following = systemd.servers[PORT].show_code()
        assert scanned(await asyncio.wait_for(poll, 10), "png") == following

    async def test_without_a_code_there_is_no_picture_and_the_reason_is_reported(
        self, api, code, systemd, supervisor
    ):
        systemd.servers[PORT].link()
        await until(supervisor, ONE, lambda instance: instance.session.state is SessionState.READY)
        refused = await call(api, "GET", self.PATH + "?format=png", 409)
        assert (refused["code"], refused["cause"]) == ("no_code", "ready")
        assert refused["hint"]

    async def test_an_expired_code_is_not_drawn(self, api, code, systemd, supervisor):
        expired = systemd.servers[PORT].show_code(lifetime=0.0)
        await until(supervisor, ONE, lambda instance: instance.session.qr == expired)
        assert (await call(api, "GET", self.PATH + "?format=png", 409))["code"] == "no_code"

    async def test_what_cannot_be_drawn_is_no_code(self, api, code, systemd, supervisor, caplog):
        systemd.servers[PORT].say("qr", qr="€" * 1000, expires_at="2099-01-01T00:00:00Z")
        await until(supervisor, ONE, lambda instance: instance.session.qr == "€" * 1000)
        refused = await call(api, "GET", self.PATH + "?format=png", 409)
        assert (refused["code"], refused["cause"]) == ("no_code", "undrawable")
        assert "€" not in caplog.text + str(refused)


async def call_raw(api, path):
    async with api.get(path) as answer:
        assert answer.status == 200
        return await answer.read()


async def test_a_user_gets_another_port(api, supervisor):
    await call(api, "PUT", "/v1/users/1", 201)
    moved = await call(api, "POST", "/v1/users/1/move", json={"port": PORT + 7})
    assert (moved["port"], moved["url"]) == (PORT + 7, f"http://localhost:{PORT + 7}")
    assert moved["note"] == f"moved here from port {PORT}"
    for body in ({"json": {"port": None}}, {}):
        shown = await call(api, "POST", "/v1/users/1/move", **body)
        assert shown["port"] in {PORT, OVERFLOW}
    refused = await call(api, "POST", "/v1/users/1/move", 409, json={"port": 80})
    assert (refused["code"], refused["cause"]) == ("conflict", "port_taken")
    for port in (0, 65536, "x", 1.5, True):
        await call(api, "POST", "/v1/users/1/move", 400, json={"port": port})
    await call(api, "POST", "/v1/users/2/move", 404)


async def test_a_user_between_two_ports_is_shown_as_such(api, supervisor, systemd):
    await call(api, "PUT", "/v1/users/1", 201)
    there, back = (
        move_unit(PORT, Port(PORT + 7), MoveStep.THERE),
        move_unit(Port(PORT + 7), PORT, MoveStep.BACK),
    )
    for unit in (there, back):
        systemd.fail_to_start(unit)
    told = await call(api, "POST", "/v1/users/1/move", 409, json={"port": PORT + 7})
    assert told["cause"] == "move_failed"
    assert (await call(api, "GET", "/v1/users/1"))["note"] == f"is being moved to port {PORT + 7}"
    assert (await call(api, "POST", "/v1/users/1/start", 409))["cause"] == "moving"


async def test_stop_start_restart(api):
    await call(api, "PUT", "/v1/users/1", 201)
    assert (await call(api, "POST", "/v1/users/1/stop"))["process"]["state"] == "stopped"
    assert (await call(api, "GET", "/v1/users/1/qr"))["status"] == "stopped"
    assert (await call(api, "POST", "/v1/users/1/start"))["process"]["state"] == "running"
    assert (await call(api, "POST", "/v1/users/1/restart"))["process"]["state"] == "running"


async def test_delete(api):
    await call(api, "PUT", "/v1/users/1", 201)
    assert await call(api, "DELETE", "/v1/users/1", 204) is None
    assert (await call(api, "GET", "/v1/users/1", 404))["code"] == "unknown_user"


async def test_a_failed_start_is_a_problem_with_cause_and_hint(api, systemd):
    systemd.fail_to_start(service_unit(PORT), result="exit-code", exit_code=1, exit_status=203)
    async with api.put("/v1/users/1") as answer:
        assert answer.status == 502
        assert answer.content_type == "application/problem+json"
        problem = await answer.json()
    assert (problem["code"], problem["cause"]) == ("server_failed", "node_missing")
    assert problem["hint"]
    shown = await call(api, "GET", "/v1/users/1/qr")
    assert (shown["status"], shown["cause"]) == ("failed", "node_missing")


async def test_a_wait_that_takes_too_long(api):
    problem = await call(api, "PUT", "/v1/users/1", 504, params={"wait": "qr", "timeout": "0.1"})
    assert problem["code"] == "timeout"


BAD_REQUESTS = [
    ("PUT", "/v1/users/-x", {}, 400, "bad_request"),
    ("PUT", "/v1/users/a b", {}, 400, "bad_request"),
    ("PUT", "/v1/users/..%2F..%2Fetc", {}, 400, "bad_request"),
    ("PUT", "/v1/users/x%00", {}, 400, "bad_request"),
    ("PUT", "/v1/users/" + "x" * 65, {}, 400, "bad_request"),
    ("PUT", "/v1/users/1?wait=long", {}, 400, "bad_request"),
    ("PUT", "/v1/users/1?wait=qr&wait=none", {}, 400, "bad_request"),
    ("PUT", "/v1/users/1?timeout=nan", {}, 400, "bad_request"),
    ("PUT", "/v1/users/1?timeout=-1", {}, 400, "bad_request"),
    ("PUT", "/v1/users/1?timeout=1e9", {}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"data": b"{"}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"data": b"[" * 5000}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"data": b"\xff\xfe"}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"json": []}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"json": {"webhok_url": "x"}}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"json": {"webhook_url": "http://x/\nPORT=1"}}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"json": {"webhook_url": 7}}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"json": {"webhook_url": "file:///etc/passwd"}}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"json": {"memory_max": -1}}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"json": {"memory_max": True}}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"json": {"autostart": "yes"}}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"data": b"x" * 70000}, 413, "too_large"),
    ("GET", "/v1/users/1", {}, 404, "unknown_user"),
    ("GET", "/v1/users?usage=maybe", {}, 400, "bad_request"),
    ("GET", "/v1/users/1/qr?timeout=-1", {}, 400, "bad_request"),
    ("GET", "/v1/users/1/qr?timeout=1&wait=1", {}, 400, "bad_request"),
    ("GET", "/v1/users/1/qr?timeout=3600", {}, 400, "bad_request"),
    ("GET", "/v1/users/1/qr?format=gif", {}, 400, "bad_request"),
    ("GET", "/v1/users/1/events", {}, 404, "unknown_user"),
    ("GET", "/v1/ports/0", {}, 400, "bad_request"),
    ("GET", "/v1/ports/65536", {}, 400, "bad_request"),
    ("GET", "/v1/ports/x", {}, 400, "bad_request"),
    ("GET", "/v1/ports/%D9%A3", {}, 400, "bad_request"),
    ("POST", "/v1/users/1/stop", {}, 404, "unknown_user"),
    ("DELETE", "/v1/users/1", {}, 404, "unknown_user"),
    ("GET", "/v2/users", {}, 404, "not_found"),
    ("PUT", "/v1/users/1", {"json": {"engine": "1.0.0"}}, 409, "unknown_engine"),
    ("PATCH", "/v1/users/1", {"json": {"autostart": False}}, 404, "unknown_user"),
    ("PATCH", "/v1/users/1", {"json": {"autostart": "yes"}}, 400, "bad_request"),
    ("POST", "/v1/users/1", {}, 405, "method_not_allowed"),
    ("POST", "/v1/health", {}, 405, "method_not_allowed"),
]


@pytest.mark.parametrize(("method", "path", "options", "status", "code"), BAD_REQUESTS)
async def test_a_bad_request_is_named_and_changes_nothing(
    api, supervisor, method, path, options, status, code
):
    async with api.request(method, path, **options) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert answer.status == problem["status"] == status
    assert problem["code"] == code
    assert problem["detail"]
    assert len(supervisor.registry) == 0


async def test_a_wrong_method_names_the_right_ones(api):
    async with api.post("/v1/users/1") as answer:
        assert answer.headers["Allow"] == "DELETE, GET, HEAD, PATCH, PUT"


async def test_options_are_set_without_a_start(api, supervisor, store, systemd, config):
    add_engine(config, "1.34.6")
    await supervisor.assign(ONE)
    before = list(systemd.calls)
    shown = await call(api, "PATCH", "/v1/users/1", json={"engine": "1.34.6", "autostart": False})
    assert (shown["engine"], shown["own_engine"], shown["autostart"]) == ("1.34.6", True, False)
    assert store.rows[ONE].engine == "1.34.6"
    assert systemd.calls == before
    shown = await call(api, "PATCH", "/v1/users/1", json={"engine": None})
    assert (shown["engine"], shown["own_engine"], shown["autostart"]) == ("bundled", False, False)


async def test_another_proxy_restarts_the_server_and_its_password_is_shown_to_nobody(
    api, supervisor, systemd, config, caplog
):
    caplog.set_level("DEBUG")
    port = (await call(api, "PUT", "/v1/users/1", 201))["port"]
    file = config.store.instances / f"{port}.env"
    before = len(systemd.calls)
    shown = await call(api, "PATCH", "/v1/users/1", json={"proxy": "http://ana:hidden@proxy:3128"})
    assert (shown["proxy"], shown["own_proxy"]) == ("http://ana:***@proxy:3128", True)
    assert 'WAPORTD_PROXY="http://ana:hidden@proxy:3128"' in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [call for call in systemd.calls[before:] if "restart" in call[0]]
    told = [json.dumps(await call(api, "GET", path)) for path in ("/v1/users", "/v1/users/1")]
    assert "hidden" not in "".join([*told, caplog.text, repr(supervisor.known(ONE)), repr(systemd.calls)])
    shown = await call(api, "PATCH", "/v1/users/1", json={"proxy": None})
    assert (shown["proxy"], shown["own_proxy"]) == ("auto", False)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("webhook_secret", f"whsec_{'aGlkZGVu' * 4}", f'WAPORTD_WEBHOOK_SECRETS="whsec_{"aGlkZGVu" * 4}"'),
        ("webhook_events", ["message", "call"], 'WAPORTD_WEBHOOK_EVENTS="message,call"'),
        ("ignore", [], 'WAPORTD_IGNORE=""'),
        ("default_country", "55", 'WAPORTD_DEFAULT_COUNTRY="55"'),
        ("send_rate", 20, 'WAPORTD_SEND_RATE="20"'),
    ],
)
async def test_what_concerns_messages_is_sent_at_once_and_a_secret_to_nobody(
    api, supervisor, systemd, config, caplog, option, value, told
):
    caplog.set_level("DEBUG")
    port = (await call(api, "PUT", "/v1/users/1", 201))["port"]
    file = config.store.instances / f"{port}.env"
    before = len(systemd.calls)
    shown = await call(api, "PATCH", "/v1/users/1", json={option: value})
    assert told in file.read_text().splitlines()
    assert [call for call in systemd.calls[before:] if "restart" in call[0]]
    if option == "webhook_secret":
        assert shown["own_webhook_secret"] is True
        everything = [json.dumps(shown), caplog.text, repr(supervisor.known(ONE)), repr(systemd.calls)]
        assert "aGlkZGVu" not in "".join(everything)
    else:
        assert shown[option] == value
    await call(api, "PATCH", "/v1/users/1", json={option: None})
    assert told not in file.read_text().splitlines()


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_an_engine_that_is_not_installed_is_refused_and_the_known_are_named(
    api, supervisor, config, method
):
    add_engine(config, "1.34.6")
    await supervisor.assign(ONE)
    problem = await call(api, method, "/v1/users/1", 409, json={"engine": "1.99.0"})
    assert problem["detail"] == "there is no engine '1.99.0'; there is bundled, 1.34.6"
    assert "waportctl engine install" in problem["hint"]
    assert supervisor.known(ONE).engine == "bundled"


async def test_health_shows_engine_and_pinned_page(api, supervisor, config):
    shown = await call(api, "GET", "/v1/health")
    assert (shown["engine"], shown["web_version"]) == ("bundled", None)
    instances = dataclasses.replace(config.instances, engine="1.34.6", web_version="/srv/page.html")
    await supervisor.reconfigure(dataclasses.replace(config, instances=instances))
    shown = await call(api, "GET", "/v1/health")
    assert (shown["engine"], shown["web_version"]) == ("1.34.6", "/srv/page.html")


async def test_who_holds_a_port(api):
    with sockets.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        document = await call(api, "GET", f"/v1/ports/{port}")
    assert document["held"]
    assert document["user"] is None
    assert document["holders"][0]["command"]


async def test_health(api):
    await call(api, "PUT", "/v1/users/1", 201)
    document = await call(api, "GET", "/v1/health")
    assert document["status"] == "ok"
    assert (document["users"], document["running"], document["failed"]) == (1, 1, 0)


async def test_an_alarm_is_reported_while_many_fail_in_the_same_way(api, supervisor, systemd):
    assert (await call(api, "GET", "/v1/health"))["alarm"] is None
    await all_fail(supervisor, systemd)
    document = await call(api, "GET", "/v1/health")
    alarm = document["alarm"]
    assert (alarm["cause"], alarm["users"], alarm["build"]) == ("never_ready", 3, "2.3000.1")
    assert abs(dt.datetime.fromisoformat(alarm["since"]).timestamp() - time.time()) < 10
    assert "user 1" not in alarm["message"]
    assert document["status"] == "ok"
    async with api.get("/metrics") as answer:
        assert 'waportd_alarm_users{cause="never_ready"} 3.0' in await answer.text()
    for port in list(systemd.servers):
        systemd.servers[port].link()
    await over(supervisor)
    assert (await call(api, "GET", "/v1/health"))["alarm"] is None


class TestFrontEnd:
    """The shapes that the web front end reads."""

    async def test_the_page_sees_generating_then_waiting_then_connected(self, api, systemd, supervisor):
        systemd.prepare = lambda server: setattr(server, "on_ask", server.show_code)
        first = await call(api, "GET", "/api/qr?user_id=1")
        assert (first["status"], first["success"], first["qr"], first["port"]) == (
            "generating",
            True,
            None,
            PORT,
        )
        await until(supervisor, ONE, lambda instance: instance.live_qr(time.time()))
        second = await call(api, "GET", "/api/qr?user_id=1")
        assert (second["status"], second["hasQr"], second["ready"]) == ("waiting", True, False)
        assert second["qr"].startswith("ref1,")
        systemd.servers[PORT].link()
        await until(supervisor, ONE, lambda instance: instance.session.state is SessionState.READY)
        third = await call(api, "GET", "/api/qr?user_id=1")
        assert (third["status"], third["ready"], third["qr"]) == ("connected", True, None)

    async def test_an_error_of_the_server_keeps_status_200(self, api, systemd):
        systemd.fail_to_start(service_unit(PORT), result="exit-code", exit_code=1, exit_status=203)
        await call(api, "PUT", "/v1/users/1", 502)
        document = await call(api, "GET", "/api/qr?user_id=1")
        assert (document["status"], document["success"]) == ("error", False)
        assert document["error"] == document["message"]
        assert "nodejs" in document["hint"]

    async def test_the_port(self, api, systemd):
        document = await call(api, "GET", "/api/port?user_id=1")
        assert (document["success"], document["port"]) == (True, PORT)
        assert not systemd.servers
        assert systemd.units[socket_unit(PORT)].active_state == "active"

    async def test_a_port_that_gave_way_is_open_again_when_it_is_asked_for(
        self, api, supervisor, systemd, config
    ):
        await call(api, "GET", "/api/port?user_id=1")
        await give_way(supervisor, config, ONE)
        assert systemd.units[socket_unit(PORT)].active_state == "inactive"
        await call(api, "GET", "/api/port?user_id=1")
        assert systemd.units[socket_unit(PORT)].active_state == "active"

    async def test_the_port_of_a_stopped_user_stays_closed(self, api, systemd):
        await call(api, "GET", "/api/port?user_id=1")
        await call(api, "POST", "/v1/users/1/stop")
        with sockets.create_server(("127.0.0.1", PORT)):
            # No program that listens there now is named to anybody as the user's server.
            refused = await call(api, "GET", "/api/port?user_id=1")
            assert (refused["success"], refused["port"], refused["cause"]) == (False, None, "stopped")
            assert "url" not in refused
            assert (await call(api, "GET", "/v1/users/1"))["url"] is None
        assert systemd.units[socket_unit(PORT)].active_state == "inactive"
        assert (await call(api, "PUT", "/v1/users/1"))["url"] == f"http://localhost:{PORT}"
        assert (await call(api, "GET", "/api/port?user_id=1"))["port"] == PORT

    @pytest.mark.parametrize("by", ["api", "admin"])
    async def test_a_stop_counts_more_than_the_sessions_last_word(self, api, systemd, supervisor, by):
        await call(api, "PUT", "/v1/users/1", 201)
        systemd.servers[PORT].say("qr_timeout", message="nobody scanned", hint="ask for a new code")
        await until(supervisor, ONE, lambda now: now.session and now.session.state is SessionState.QR_TIMEOUT)
        if by == "api":
            await call(api, "POST", "/v1/users/1/stop")
        else:
            await systemd.stop_by_hand(socket_unit(PORT))
        document = await call(api, "GET", "/api/qr?user_id=1")
        assert document["message"].startswith("stopped")
        assert document["hint"] == "`POST /v1/users/1/start` starts it"

    async def test_what_goes_wrong_here_is_no_fault_of_the_page(self, api, supervisor, monkeypatch):
        async def busy(*_):
            raise UnitBusy("the unit has a job under way", hint="ask again")

        monkeypatch.setattr(supervisor, "poll", busy)
        document = await call(api, "GET", "/api/qr?user_id=1")
        assert (document["success"], document["status"], document["hint"]) == (False, "error", "ask again")

    async def test_of_a_port_that_gave_way_to_others_no_address_is_named(self, api, supervisor, config):
        """Who listens there is somebody else."""
        limits = dataclasses.replace(config.limits, max_sockets=1)
        await supervisor.reconfigure(dataclasses.replace(config, limits=limits))
        first = await call(api, "GET", "/api/port?user_id=1")
        assert first["url"] == (await call(api, "GET", "/v1/users/1"))["url"]
        await call(api, "PUT", "/v1/users/2", 201)
        assert (await call(api, "GET", "/v1/users/1"))["url"] is None
        told = await call(api, "GET", "/api/port?user_id=1")
        assert (told["success"], told["port"], told["code"]) == (False, None, "limit_reached")
        assert "url" not in told
        with pytest.raises(NotRunning):
            supervisor.reachable(User("1"))

    async def test_the_status_of_nobody(self, api, supervisor):
        document = await call(api, "GET", "/api/whatsapp-status?user_id=1")
        assert document["ready"] is False
        assert document["clientInfo"] is None
        assert len(supervisor.registry) == 0

    async def test_the_status_of_a_linked_user(self, api, systemd, supervisor):
        systemd.prepare = lambda server: server.link()
        await call(api, "PUT", "/v1/users/1", 201, params={"wait": "ready"})
        document = await call(api, "GET", "/api/whatsapp-status?user_id=1")
        assert document["actuallyConnected"] is True
        assert document["phone_number"] == "5511999990000"
        assert document["clientInfo"] == {
            "wid": "5511999990000@c.us",
            "pushname": "Ana",
            "platform": "android",
        }
        assert document["reconnectInfo"] == {"attempts": 0, "maxAttempts": 5, "isReconnecting": False}

    @pytest.mark.parametrize("query", ["", "?user_id=", "?user_id=../x", "?user_id=1&user_id=2", "?user=1"])
    @pytest.mark.parametrize("path", ["/api/qr", "/api/port", "/api/whatsapp-status"])
    async def test_a_bad_user_is_a_400_in_the_pages_shape(self, api, path, query):
        document = await call(api, "GET", path + query, 400)
        assert (document["success"], document["status"], document["code"]) == (False, "error", "bad_request")
        assert document["error"]

    async def test_a_stopped_user_is_reported_as_stopped(self, api):
        await call(api, "PUT", "/v1/users/1", 201)
        await call(api, "POST", "/v1/users/1/stop")
        document = await call(api, "GET", "/api/qr?user_id=1")
        assert (document["status"], document["message"]) == ("error", "stopped")
        assert document["hint"] == "`POST /v1/users/1/start` starts it"


async def test_a_hung_server_is_not_reported_as_working(api, codes, supervisor, systemd):
    await call(api, "PUT", "/v1/users/1", 201, params={"wait": "qr"})
    await systemd.servers[PORT].stop()
    await until(supervisor, ONE, lambda now: not now.answering)
    document = await call(api, "GET", "/v1/users/1/qr")
    assert (document["status"], document["cause"], document["qr"]) == ("error", "not_answering", None)


@pytest.mark.parametrize(
    ("active", "sub", "state"),
    [
        ("activating", "start", ProcessState.STARTING),
        ("activating", "auto-restart", ProcessState.STARTING),
        ("deactivating", "stop-sigterm", ProcessState.STOPPING),
    ],
)
async def test_a_process_on_its_way_is_generating_in_the_pages_shape(
    api, supervisor, systemd, active, sub, state
):
    await call(api, "PUT", "/v1/users/1", 201)
    systemd.change(service_unit(PORT), active_state=active, sub_state=sub)
    assert supervisor.registry.get(ONE).process.state is state
    assert (await call(api, "GET", "/api/qr?user_id=1"))["status"] == "generating"


async def test_a_host_of_its_own_belongs_to_no_fleet(api):
    assert await call(api, "GET", "/v1/hosts") == {"host": None, "hosts": []}
    missing = await call(api, "GET", "/v1/hosts/a", 404)
    assert (missing["code"], missing["hint"]) == ("unknown_host", "`GET /v1/host` shows it")
    user = await call(api, "PUT", "/v1/users/1", 201, params={"wait": "none"})
    assert user["host"] is None
    assert len((await call(api, "GET", "/v1/users?host=self"))["users"]) == 1
    assert (await call(api, "GET", "/v1/users?host=a", 404))["code"] == "unknown_host"
    assert (await call(api, "GET", "/v1/users?host=A", 400))["code"] == "bad_request"
