"""Any host answers for every user: calls go to the host that has the user, over real TLS, and their answers come back."""

import asyncio
import contextlib
import dataclasses
import logging
import socket
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from certified import STRANGER
from support import Events, until
from talking import identity
from testbed.ports import own_address

from waportd.api import forward, host_door
from waportd.fleet import addresses
from waportd.fleet.engine import HostState, Row
from waportd.model import User
from waportd.tokens import Kind

DONE = b"HTTP/1.1 204 No Content\r\n\r\n"
KNOWN = b"HTTP/1.1 304 Not Modified\r\n\r\n"


def descriptors():
    """Return how many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
async def a(fleet):
    return await fleet.add("a", capacity=1)


@pytest.fixture
async def b(fleet, a):
    """A host that has user 1."""
    fleet.describe("a", state=HostState.DRAINING)  # new users go to the other
    b = await fleet.add("b")
    await b.has("1")
    return b


async def test_any_host_shows_a_user_of_another_one(a, b):
    assert (await a.call("GET", "/v1/users/1"))["port"] == (await b.call("GET", "/v1/users/1"))["port"]
    assert a.supervisor.registry.get(User("1")) is None


async def test_one_who_comes_to_a_host_is_waited_for(fleet, a, b):
    assignment = fleet.coming("9", b)
    calls = [asyncio.create_task(site.call("GET", "/v1/users/9")) for site in (a, b)]
    done, _ = await asyncio.wait(calls, timeout=0.2)
    assert not done
    b.store.rows["9"] = assignment
    await b.supervisor.gain(assignment)
    assert [(await call)["host"] for call in calls] == ["b", "b"]


async def test_one_whose_login_does_not_come_is_not_called_unknown(fleet, a, b, monkeypatch):
    monkeypatch.setattr(forward, "PATIENCE_S", 0.1)
    fleet.coming("9", b)
    for site in (a, b):
        for method, path in (("GET", ""), ("GET", "/qr"), ("PUT", ""), ("DELETE", "")):
            said = await site.call(method, f"/v1/users/9{path}", 503)
            assert said["code"] == "login_coming"
    assert (await b.call("DELETE", "/v1/users/1", 204)) is None
    for site in (a, b):
        await site.call("GET", "/v1/users/1", 404)


async def test_what_is_sent_and_what_is_asked_arrive(a, b):
    changed = await a.call("PATCH", "/v1/users/1", json={"send_rate": 7})
    assert changed["send_rate"] == 7
    assert b.supervisor.known(User("1")).assignment.send_rate == 7
    await a.call("DELETE", "/v1/users/1", 204)
    assert b.supervisor.registry.get(User("1")) is None


async def test_the_old_front_ends_calls_go_there_too(a, b):
    assert (await a.call("GET", "/api/port?user_id=1"))["port"] == b.config.ports.base
    assert (await a.call("GET", "/api/qr?user_id=1&t=5"))["user_id"] == "1"
    assert (await a.call("GET", "/api/whatsapp-status?user_id=1"))["port"] == b.config.ports.base


async def test_an_error_of_that_host_is_passed_on_as_it_is(a, b):
    refused = await a.call("PUT", "/v1/users/1", 409, json={"engine": "9.9.9"})
    assert refused["code"] == "unknown_engine"
    missing = await a.call("GET", "/v1/users/nobody", 404)
    assert missing["code"] == "unknown_user"


async def test_an_answer_that_the_caller_has_is_not_sent_again(a, b):
    async with a.api.get("/v1/users/1/qr") as answer:
        etag = answer.headers["ETag"]
    async with a.api.get("/v1/users/1/qr", headers={"If-None-Match": etag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with a.api.head("/v1/users/1") as answer:
        assert (answer.status, await answer.read()) == (200, b"")
        assert int(answer.headers["Content-Length"]) > 100
    await a.call("GET", "/v1/users/1")  # over the same connection


async def test_events_come_through_as_they_happen(a, b):
    async with a.api.get("/v1/users/1/events") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        events = Events(answer)
        assert (await events.next()).data["user"] == "1"
        await b.call("PATCH", "/v1/users/1", json={"send_rate": 9})
        while (event := await events.next()).data.get("send_rate") != 9:
            pass
        assert event.name == "user"


async def test_a_stream_ends_when_the_host_that_was_asked_does(a, b):
    async with a.api.get("/v1/users/1/events") as answer:
        events = Events(answer)
        await events.next()
        async with asyncio.timeout(3):
            await a.end()
            while await events.next():
                pass


class TestLargeOnes:
    @pytest.fixture
    async def node(self, b):
        messages = b.linked("1")
        await b.call("POST", "/v1/users/1/restart")
        b.systemd.servers[b.supervisor.known(User("1")).assignment.port].link()
        await until(b.supervisor, "1", lambda now: now.assignment.linked and now.session.state == "ready")
        return messages

    async def test_pictures_go_through_in_both_directions(self, a, node, unpaced):
        sent = bytes(range(256)) * 4096
        got = []

        async def answer(request):
            if request.method == "POST":
                got.append(await request.read())
                return web.json_response({"id": "x", "outcome": "sent"})
            return web.Response(body=sent, content_type="image/png")

        node.answer = answer
        async with a.api.get("/v1/users/1/media/abc") as response:
            assert response.status == 200
            assert await response.read() == sent
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        form = aiohttp.FormData()
        form.add_field("message", "{}")
        form.add_field("file", sent, filename="a.png")
        async with a.api.post("/v1/users/1/messages", data=form) as response:
            assert response.status == 200, await response.read()
        assert sent in got[0]

    async def test_a_caller_who_leaves_is_gone_at_the_users_server_too(self, a, node):
        left = asyncio.Event()

        async def tell(request):
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(b":\n\n")
            while request.transport is not None:
                await asyncio.sleep(0.02)
            left.set()
            return response

        node.answer = tell
        async with a.api.get("/v1/users/1/messages", headers={"Accept": "text/event-stream"}) as answer:
            assert await answer.content.readany() == b":\n\n"
        async with asyncio.timeout(5):
            await left.wait()

    async def test_a_body_that_is_too_large_is_refused_before_it_is_passed_on(self, a, node):
        refused = await a.call("PATCH", "/v1/users/1", 413, data=b"x" * 100_000)
        assert refused["code"] == "too_large"


class TestWhoMay:
    async def test_a_token_is_good_for_users_elsewhere_and_is_judged_where_it_was_sent(self, a, b):
        _, text = await a.access.tokens.create("page", User("1"))
        headers = {"Authorization": f"Bearer {text}"}
        assert (await a.call("GET", "/v1/users/1", over=a.tcp, headers=headers))["user"] == "1"
        refused = await a.call("POST", "/v1/users/1/move", 403, over=a.tcp, headers=headers)
        assert refused["code"] == "forbidden"
        await a.call("GET", "/v1/users/1", 401, over=a.tcp)

    async def test_a_token_that_reads_does_not_change(self, a, b):
        _, text = await a.access.tokens.create("watch", None, Kind.READ)
        headers = {"Authorization": f"Bearer {text}"}
        await a.call("GET", "/v1/users/1", over=a.tcp, headers=headers)
        await a.call("POST", "/v1/users/1/stop", 403, over=a.tcp, headers=headers)

    async def test_a_connect_link_shows_as_little_as_at_home(self, a, b):
        made = await a.call("POST", "/v1/users/1/connect-link", 201)
        query = made["path"].split("?")[1].replace("user=1&", "")
        async with a.tcp.get(f"/v1/users/1/events?{query}") as answer:
            told = (await Events(answer).next()).data
        assert told["process"]["pid"] is None
        refused = await a.call("PUT", f"/v1/users/1?{query}", 403, over=a.tcp, json={"send_rate": 1})
        assert "sets no options" in refused["detail"]

    async def test_both_hosts_record_who_changed_what(self, a, b, caplog):
        caplog.set_level(logging.INFO)
        _, text = await a.access.tokens.create("página", User("1"))
        await a.call("POST", "/v1/users/1/stop", over=a.tcp, headers={"Authorization": f"Bearer {text}"})
        lines = [record.getMessage() for record in caplog.records if "/stop by" in record.getMessage()]
        assert lines == [
            "POST /v1/users/1/stop by página on host a: 200",
            "POST /v1/users/1/stop by página: 200",
        ]
        assert text not in caplog.text

    async def test_nobody_else_hands_over_a_caller(self, b):
        forged = {"Waportd-Caller": '{"scope": "ADMIN", "user": null, "counts_to": "x", "name": "x"}'}
        await b.call("GET", "/v1/users/1", 401, over=b.tcp, headers=forged)

    async def test_a_host_that_has_left_is_refused(self, fleet, a, b):
        await a.call("GET", "/v1/users/1")
        fleet.describe("a", state=HostState.LEFT)
        refused = await a.call("GET", "/v1/users/1", 502)
        assert refused["code"] == "host_refused"
        assert refused["detail"] == "host a has left the fleet"


class TestSilence:
    async def test_a_host_without_a_lease_is_not_asked(self, fleet, a, b):
        fleet.describe("b", alive=False)
        async with a.api.get("/v1/users/1") as answer:
            said = await answer.json(content_type=None)
            assert (answer.status, said["code"]) == (503, "host_silent")
            assert int(answer.headers["Retry-After"]) > 0
            assert "host b holds no lease" in said["detail"]

    async def test_a_host_that_loses_its_lease_is_waited_for_no_longer(self, fleet, a, b, monkeypatch):
        monkeypatch.setattr("waportd.fleet.others.LOOK_S", 0.05)
        asked = asyncio.create_task(a.call("GET", "/v1/users/1/qr?timeout=30&format=json", 503))
        await asyncio.sleep(0.3)
        fleet.describe("b", alive=False)
        async with asyncio.timeout(5):
            assert (await asked)["code"] == "host_silent"

    async def test_a_daemon_that_is_down_is_named(self, a, b, monkeypatch):
        monkeypatch.setattr(forward, "PATIENCE_S", 0.3)
        await a.call("GET", "/v1/users/1")
        await b.end()
        said = await a.call("GET", "/v1/users/1", 503)
        assert said["code"] == "host_silent"
        assert "host b is not reached" in said["detail"]
        assert "waportctl doctor" in said["hint"]

    async def test_a_daemon_that_restarts_is_waited_for(self, fleet, a):
        fleet.describe("a", state=HostState.DRAINING)
        late = await fleet.add("late", serves=False)
        await late.has("1")
        asked = [
            asyncio.create_task(a.call("GET", "/v1/users/1")),
            asyncio.create_task(a.call("POST", "/v1/users/1/stop")),
        ]
        await asyncio.sleep(0.5)
        assert not any(task.done() for task in asked)
        late.open_to_hosts()
        for shown in await asyncio.gather(*asked):
            assert shown["host"] == "late"

    async def test_a_call_is_passed_on_once(self, fleet, a, b):
        port = b.supervisor.known(User("1")).assignment.port
        fleet.put(Row("2", port + 1, "b"))
        b.others.owners = lambda: {User("2"): "c"}
        said = await a.call("GET", "/v1/users/2", 421)
        assert said["code"] == "not_here"
        assert "user 2 is on host c" in said["detail"]

    async def test_before_the_engine_was_read_it_is_not_said_that_a_user_is_unknown(
        self, fleet, a, b, monkeypatch
    ):
        monkeypatch.setattr("waportd.fleet.others.FIRST_S", 0.1)
        known, fleet.state = fleet.state, None
        said = await a.call("GET", "/v1/users/1", 503)
        assert said["code"] == "engine_unavailable"
        assert (await b.call("GET", "/v1/users/1"))["user"] == "1", "who is here is here"
        fleet.state = known
        await a.call("GET", "/v1/users/1")


class TestNewUsers:
    async def test_a_new_user_is_made_where_there_is_room_and_is_known_at_once(self, a, b):
        made = await a.call("PUT", "/v1/users/2?wait=none", 201, json={"send_rate": 3})
        assert made["send_rate"] == 3
        assert b.supervisor.known(User("2")).assignment.send_rate == 3
        assert (await a.call("GET", "/v1/users/2"))["user"] == "2"

    async def test_a_page_that_polls_makes_a_user_there_too(self, a, b):
        await a.call("GET", "/api/qr?user_id=3")
        assert b.supervisor.registry.get(User("3"))
        await a.call("GET", "/v1/users/4/qr")
        assert b.supervisor.registry.get(User("4"))

    async def test_it_is_made_here_where_no_other_host_has_room(self, fleet, a, b):
        fleet.describe("b", capacity=1)
        await a.call("PUT", "/v1/users/2?wait=none", 201)
        assert a.supervisor.registry.get(User("2"))

    async def test_it_is_made_here_where_the_other_daemon_is_down(self, a, b):
        await b.end()
        await a.call("PUT", "/v1/users/2?wait=none", 201)
        assert a.supervisor.registry.get(User("2"))

    async def test_it_is_made_here_while_the_fleet_is_not_settled(self, fleet, a, b):
        fleet.state = dataclasses.replace(fleet.state, settled=False)
        await a.call("PUT", "/v1/users/2?wait=none", 201)
        assert a.supervisor.registry.get(User("2"))

    async def test_nobody_makes_a_user_by_asking_for_one(self, a, b):
        await a.call("POST", "/v1/users/2/start", 404)
        assert b.supervisor.registry.get(User("2")) is None


class TestFaultyConnections:
    @pytest.fixture
    async def faulty(self, fleet, a):
        """A host whose daemon does with each request, by its number on its connection, what a test says."""
        tasks, answers = set(), []

        async def serve(reader, writer):
            tasks.add(asyncio.current_task())
            try:
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    answer = answers.pop(0)
                    writer.write(answer or b"")
                    await writer.drain()
                    if not answer or answer.endswith(b"half"):
                        break
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.transport.abort()

        context = identity(fleet.folder, "f").server
        listener = await asyncio.start_server(serve, own_address(1), 0, ssl=context)
        address, port = listener.sockets[0].getsockname()
        fleet.know("f", f"{address}:{port - addresses.DAEMON}")
        fleet.put(Row("9", 5009, "f"))
        yield answers
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def test_one_that_was_kept_and_has_ended_is_made_again(self, a, faulty):
        faulty += [DONE, None, KNOWN]
        await a.call("DELETE", "/v1/users/9/passkey", 204)
        await a.call("GET", "/v1/users/9/qr", 304)
        assert not faulty

    async def test_what_must_not_happen_twice_is_not_asked_again(self, a, faulty):
        faulty += [DONE, None, DONE]
        await a.call("DELETE", "/v1/users/9/passkey", 204)
        async with a.api.post("/v1/users/9/stop") as answer:
            said = await answer.json(content_type=None)
            assert (answer.status, said["code"], answer.headers["Retry-After"]) == (503, "host_silent", "5")
        assert faulty == [DONE]

    async def test_half_an_answer_does_not_look_like_a_whole_one(self, a, faulty):
        faulty.append(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 100000\r\n\r\nhalf")
        with pytest.raises(aiohttp.ClientPayloadError):
            await a.call("GET", "/v1/users/9/media/x")


class TestTheDoorOfOtherHosts:
    """Where one daemon calls another: it opens to certificates of the fleet only."""

    @pytest.fixture
    async def ask(self, fleet, b):
        async with contextlib.AsyncExitStack() as stack:

            async def ask(who, path="/v1/users/1", headers=None):
                context = who.client
                context.check_hostname = False
                connector = aiohttp.TCPConnector(ssl=context)
                http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
                [host] = [host for host in fleet.state.hosts if host.name == "b"]
                address, port = host.address.split(":")
                url = f"https://{address}:{int(port) + addresses.DAEMON}{path}"
                answer = await http.get(url, headers=headers)
                return answer.status, await answer.json(content_type=None)

            yield ask

    async def test_a_host_has_to_say_whose_call_it_passes_on(self, fleet, ask):
        who = identity(fleet.folder, "a")
        for said in (None, "", "{}", "[]", '{"scope": "GOD", "user": null, "counts_to": "", "name": ""}'):
            status, answer = await ask(who, headers=None if said is None else {"Waportd-Caller": said})
            assert (status, answer["code"]) == (400, "bad_request"), said
        wrong = '{"scope": "USER", "user": "../2", "counts_to": "", "name": ""}'
        assert (await ask(who, headers={"Waportd-Caller": wrong}))[0] == 400
        right = '{"scope": "USER", "user": "1", "counts_to": "x", "name": "page"}'
        assert (await ask(who, headers={"Waportd-Caller": right}))[0] == 200
        assert (await ask(who, "/v1/users", headers={"Waportd-Caller": right}))[0] == 403

    async def test_a_certificate_of_a_host_that_is_no_member_is_refused(self, fleet, ask):
        status, answer = await ask(identity(fleet.folder, "stranger"))
        assert (status, answer["code"], answer["cause"]) == (502, "host_refused", "unknown_host")

    async def test_a_certificate_of_another_fleet_is_refused(self, fleet, ask):
        with pytest.raises(aiohttp.ClientError):
            await ask(identity(fleet.folder, "a", authority=STRANGER))

    async def test_who_knocks_and_says_nothing_takes_no_room_from_anybody(self, a, b, fleet, monkeypatch):
        monkeypatch.setattr(host_door, "HANDSHAKE_S", 0.5)
        [host] = [host for host in fleet.state.hosts if host.name == "b"]
        address, port = host.address.split(":")
        before = descriptors()
        with contextlib.ExitStack() as stack:
            for _ in range(3 * host_door.HANDSHAKES):
                knocking = stack.enter_context(socket.socket())
                knocking.setblocking(False)
                knocking.connect_ex((address, int(port) + addresses.DAEMON))
            await asyncio.sleep(0.2)
            taken = descriptors() - before - 3 * host_door.HANDSHAKES
            assert 0 < taken < 2 * host_door.HANDSHAKES
            assert (await b.call("GET", "/v1/users/1"))["user"] == "1"
            async with asyncio.timeout(10):
                assert (await a.call("GET", "/v1/users/1"))["user"] == "1"
