"""The ports of other hosts' users on this one: real sockets and TLS, each host's server on its own loopback address."""

import asyncio
import contextlib
import dataclasses
import json
import logging
import socket
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from support import Events
from testbed.ports import own_address
from yarl import URL

from waportd.fleet import forwarded_ports, port_calls
from waportd.fleet.engine import HostState
from waportd.host import HostCall
from waportd.model import User

HERE, NEXT = own_address(1), own_address(2)
"""Where host a has the ports, since both hosts are this one."""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(forwarded_ports, "ADDRESSES", ((socket.AF_INET, HERE),))
    monkeypatch.setattr(forwarded_ports, "PAUSE_S", 0.01)
    monkeypatch.setattr(forwarded_ports, "RETRY_S", 0.05)


@pytest.fixture
async def a(fleet):
    return await fleet.add("a", capacity=1)


@pytest.fixture
async def b(fleet, a):
    fleet.describe("a", state=HostState.DRAINING)  # new users go to the other
    return await fleet.add("b")


@pytest.fixture
async def server(b):
    """What answers at the server of user 1, who is on host b."""
    messages = b.linked("1")
    await b.has("1")
    return messages


@pytest.fixture
async def ports(a, server):
    """The ports that host a forwards."""
    forwarded = a.forwarded()
    async with following(forwarded):
        yield forwarded


@contextlib.asynccontextmanager
async def following(forwarded):
    task = asyncio.create_task(forwarded.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await forwarded.close()


@pytest.fixture
async def url(b, ports):
    """Where host a has the port of user 1."""
    await until(lambda: listens(port_of(b)))
    return f"http://{HERE}:{port_of(b)}"


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def descriptors():
    """Return how many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def port_of(b):
    return b.supervisor.known(User("1")).assignment.port


def listens(port):
    with socket.socket() as client:
        return client.connect_ex((HERE, port)) == 0


async def test_a_call_arrives_as_it_was_made_and_its_answer_comes_back(http, url, server):
    answer = {"success": True, "messageId": "true_5511@c.us_3EB0"}
    server.answer = lambda _: web.json_response(answer, status=201, headers={"X-Of-The-Server": "1"})
    body = {"phone": "5511999999999", "message": "olá"}
    target = URL(f"{url}/send?user_id=1&x=%2F%20y", encoded=True)
    async with http.post(target, json=body) as said:
        assert (said.status, await said.json(), said.headers["X-Of-The-Server"]) == (201, answer, "1")
    ((method, target, headers, content),) = server.calls
    assert (method, target, json.loads(content)) == ("POST", "/send?user_id=1&x=%2F%20y", body)
    # The server compares it with Origin.
    assert headers["Host"] == url.removeprefix("http://")
    assert headers["Content-Type"] == "application/json"
    assert "Waportd-Caller" not in headers


async def test_a_connection_is_used_again(http, url, server):
    for _ in range(3):
        async with http.get(f"{url}/status") as said:
            assert said.status == 200
            connection = said.connection
            assert connection is None or not connection.transport.is_closing()
    assert server.targets == ["GET /status"] * 3
    assert len([one for pool in http.connector._conns.values() for one in pool]) == 1  # noqa: SLF001


async def test_an_answer_without_a_body_ends_as_one(http, url, server):
    server.answer = lambda _: web.Response(status=204)
    async with http.delete(f"{url}/pairing-code") as said:
        assert (said.status, await said.read()) == (204, b"")
    server.answer = lambda _: web.Response(body=b"x" * 7)
    async with http.head(f"{url}/media/1") as said:
        assert (said.status, said.headers["Content-Length"], await said.read()) == (200, "7", b"")
    async with http.get(f"{url}/media/1") as said:
        assert await said.read() == b"x" * 7


async def test_what_is_large_goes_through_both_ways(http, url, server):
    sent = b"0123456789abcdef" * 65536

    async def back(request):
        return web.Response(body=await request.read(), content_type="image/png")

    server.reads_itself, server.answer = True, back
    async with http.post(f"{url}/messages", data=sent) as said:
        assert (said.content_type, await said.read()) == ("image/png", sent)


async def test_a_caller_who_asks_first_whether_to_send_may(url, server):
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /send HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    async with asyncio.timeout(5):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
    assert server.calls[0][3] == b"{}"


async def test_events_come_as_they_happen_and_end_with_the_caller(b, http, url):
    fake, before = b.systemd.servers[port_of(b)], descriptors()
    async with http.get(f"{url}/events", headers={"Waportd-Turns": "none"}) as said:
        events = Events(said)
        assert (await events.next()).name == "session"
        fake.say("generating", message="seen over there")
        while (await events.next()).data["message"] != "seen over there":
            pass
    await until(lambda: descriptors() <= before)


async def test_who_may_not_call_the_servers_may_not_call_here(a, b, http, server):
    asked = []

    def permits(uid):
        asked.append(uid)
        return False

    async with following(a.forwarded(permits=permits)):
        await until(lambda: listens(port_of(b)))
        async with http.get(f"http://{HERE}:{port_of(b)}/qr") as said:
            assert said.status == 403
            document = await said.json()
    assert document["code"] == "forbidden"
    assert "api.allow_users" in document["hint"]
    assert asked == [0]
    assert not server.calls


async def test_the_users_of_a_host_that_is_silent_are_answered_at_once(fleet, http, url):
    fleet.describe("b", alive=False)
    async with http.get(f"{url}/qr") as said:
        document = await said.json()
        assert (said.status, document["code"]) == (503, "host_silent")
        assert int(said.headers["Retry-After"]) > 0
    assert document["error"].startswith("host b holds no lease")


async def test_a_server_that_does_not_answer_is_named(b, http, url, monkeypatch):
    monkeypatch.setattr(port_calls, "COMING_S", 0.2)
    await b.systemd.servers[port_of(b)].stop()
    async with http.get(f"{url}/health") as said:
        document = await said.json()
        assert said.status == 503
    assert f"the server on port {port_of(b)} does not answer" in document["error"]
    assert document["hint"]


async def test_a_user_who_is_stopped_is_not_waited_for(b, http, url):
    await b.call("POST", "/v1/users/1/stop")
    async with asyncio.timeout(2), http.get(f"{url}/health") as said:
        assert said.status == 503


async def test_one_who_is_on_the_way_is_waited_for(b, http, url, monkeypatch):
    # As one from another host: systemd holds the port for nobody here.
    assignment = dataclasses.replace(b.supervisor.known(User("1")).assignment, socket_boot=None)
    await b.supervisor.lose(User("1"))
    call = asyncio.create_task(http.get(f"{url}/status"))
    await asyncio.sleep(0.2)
    assert not call.done()
    await b.supervisor.gain(assignment)
    # The call is repeated until something listens there, which systemd does at once.
    await asyncio.sleep(0.2)
    assert not call.done()
    await b.call("POST", "/v1/users/1/start")
    async with await call as said:
        assert said.status == 200, await said.text()
    monkeypatch.setattr(port_calls, "COMING_S", 0.05)
    await b.supervisor.lose(User("1"))
    async with http.get(f"{url}/status") as said:
        assert (said.status, (await said.json())["cause"]) == (503, "not_here")
        assert int(said.headers["Retry-After"]) > 0


async def test_a_port_is_free_at_once_when_its_user_comes_here(a, b, http, url, ports):
    async with http.get(f"{url}/status") as said:
        assert said.status == 200, await said.text()
    a.store.rows["1"] = b.supervisor.known(User("1")).assignment
    ports.release(port_of(b))
    with socket.create_server((HERE, port_of(b))) as server:
        await asyncio.sleep(0.2)  # some looks, each of which still sees the user on host b
        server.settimeout(0)
        with pytest.raises(TimeoutError):
            await http.get(f"{url}/status", timeout=aiohttp.ClientTimeout(0.3))
        # The connection that was kept has ended, so the caller connects to what is there now.
        connection, _ = server.accept()
        connection.close()


async def test_a_port_is_opened_once_its_user_has_gone(fleet, a, b, server):
    a.store.rows["1"] = b.supervisor.known(User("1")).assignment
    async with following(a.forwarded()):
        await asyncio.sleep(0.2)
        assert not listens(port_of(b))
        del a.store.rows["1"]  # the engine says nothing then
        await until(lambda: listens(port_of(b)))
        fleet.remove("1")
        await until(lambda: not listens(port_of(b)))


async def test_a_port_that_something_else_has_is_reported_once_and_tried_again(a, b, server, caplog):
    caplog.set_level(logging.WARNING, "waportd.fleet")
    forwarded = a.forwarded()
    with socket.create_server((HERE, port_of(b))) as other:
        async with following(forwarded):
            await until(lambda: forwarded.held)
            await asyncio.sleep(0.3)
            assert forwarded.held == {port_of(b): "Address already in use"}
            assert [record.getMessage() for record in caplog.records] == [
                f"Cannot forward port {port_of(b)}: Address already in use"
            ]
            other.close()
            await until(lambda: not forwarded.held)
            assert listens(port_of(b))


async def test_both_addresses_are_taken_or_none(a, b, server, monkeypatch):
    both = (*forwarded_ports.ADDRESSES, (socket.AF_INET, NEXT))
    monkeypatch.setattr(forwarded_ports, "ADDRESSES", both)
    with socket.create_server((NEXT, port_of(b))):
        forwarded = a.forwarded()
        async with following(forwarded):
            await until(lambda: forwarded.held)
            assert not listens(port_of(b))


async def test_ipv6_is_taken_too(a, b, server, http, monkeypatch):
    both = (*forwarded_ports.ADDRESSES, (socket.AF_INET6, "::1"))
    monkeypatch.setattr(forwarded_ports, "ADDRESSES", both)
    async with following(a.forwarded()):
        await until(lambda: listens(port_of(b)))
        async with http.get(f"http://[::1]:{port_of(b)}/status") as said:
            assert said.status == 200


@pytest.mark.parametrize("limit", ["CONNECTIONS", "ALL_CONNECTIONS"])
async def test_so_many_connections_are_served(http, url, monkeypatch, limit):
    monkeypatch.setattr(forwarded_ports, limit, 2)
    host, port = url.removeprefix("http://").split(":")
    others = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
    async with http.get(f"{url}/status") as said:
        assert (said.status, (await said.json())["code"]) == (429, "too_many_requests")
    for _, writer in others:
        writer.close()
        await writer.wait_closed()

    async def is_answered():
        async with http.get(f"{url}/status") as said:
            return said.status == 200

    async with asyncio.timeout(5):
        while not await is_answered():
            await asyncio.sleep(0.02)


async def test_a_host_that_does_not_know_the_call_says_so(a, b):
    call = HostCall("GET", "/fleet/unknown/1/")
    async with a.others.call("b", call) as said:
        assert (said.status, (await said.json(content_type=None))["code"]) == (404, "not_found")
