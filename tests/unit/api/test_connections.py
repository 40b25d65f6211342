"""What one caller may hold of the API, and what happens when that is all."""

import asyncio
import contextlib
import functools
import json
import os
import socket

import pytest

from waportd.api import connections as module
from waportd.api import parameters
from waportd.config import Address
from waportd.model import User
from waportd.quotas import Share

ONE = User("1")


async def request(server, *lines, path="/openapi.json", method="GET", tcp=True):
    """Send a request on a connection of its own; return reader and writer."""
    if tcp:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    else:
        reader, writer = await asyncio.open_unix_connection(server.path)
    writer.write("\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode())
    return reader, writer


async def status(reader):
    """Return the status of the next answer; None where the connection has ended."""
    try:
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return int(head.split()[1])


@pytest.fixture
async def shown(access, supervisor):
    """Return the header of a token of user 1."""
    await supervisor.ensure(ONE)
    _, token = await access.tokens.create("of user 1", ONE)
    return f"Authorization: Bearer {token}"


@contextlib.asynccontextmanager
async def crowd(server, count, *lines, **where):
    """Have so many requests under way; give their readers."""
    opened = [await request(server, *lines, **where) for _ in range(count)]
    try:
        yield [reader for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.close()


STREAM = "/v1/users/1/events"


async def test_a_token_has_so_many_streams_and_others_have_theirs(server, shown, access, monkeypatch):
    monkeypatch.setattr("waportd.api.access.USER_TOKEN", Share(3, 4))
    _, other = await access.tokens.create("another one", ONE)
    async with crowd(server, 3, shown, path=STREAM) as streams:
        assert [await status(reader) for reader in streams] == [200] * 3
        reader, writer = await request(server, shown, path=STREAM)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 429")
        assert b"Retry-After: 1" in head
        async with crowd(server, 3, f"Authorization: Bearer {other}", path=STREAM) as others:
            assert [await status(reader) for reader in others] == [200] * 3
    async with crowd(server, 1, shown, path=STREAM) as [reader]:
        assert await status(reader) == 200


async def test_all_links_of_a_user_count_together(server, shown, access, monkeypatch):
    monkeypatch.setattr("waportd.api.access.LINK", Share(2, 4))
    paths = []
    for lifetime in (60, 120, 180):
        expires, signature = access.links.sign(ONE, lifetime)
        paths.append(f"{STREAM}?expires={expires}&signature={signature}")
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for path in paths:
            [reader] = await stack.enter_async_context(crowd(server, 1, path=path))
            found.append(await status(reader))
    assert found == [200, 200, 429]


async def test_of_a_caller_who_has_too_many_the_longest_idle_one_gives_way(server, shown, monkeypatch):
    monkeypatch.setattr("waportd.api.access.USER_TOKEN", Share(2, 4))
    async with crowd(server, 3, shown, path="/v1/users/1") as readers:
        assert [await status(reader) for reader in readers] == [200] * 3
        async with asyncio.timeout(10):
            await readers[0].read()  # it has ended
        assert not readers[1].at_eof()


async def test_an_idle_one_gives_way_though_many_streams_are_older(server, shown, monkeypatch):
    monkeypatch.setattr("waportd.api.access.USER_TOKEN", Share(6, 4))
    monkeypatch.setattr(module, "LOOKED_AT", 2)
    async with crowd(server, 3, shown, path=STREAM) as streams:
        assert [await status(reader) for reader in streams] == [200] * 3
        async with crowd(server, 3, shown, path="/v1/users/1") as idle:
            assert [await status(reader) for reader in idle] == [200] * 3
            async with crowd(server, 1, shown, path="/v1/users/1") as [reader]:
                assert await status(reader) == 200
        assert not any(reader.at_eof() for reader in streams)


async def test_where_all_are_taken_the_one_who_has_the_most_gives_way(server, shown, monkeypatch):
    tcp, _ = server.doors
    monkeypatch.setattr(tcp, "most", 5)
    async with (
        crowd(server, 2, shown, path=STREAM) as streams,
        crowd(server, 6, path="/assets/icon.svg") as nobody,
    ):
        assert [await status(reader) for reader in streams] == [200] * 2
        async with asyncio.timeout(10):
            for reader in nobody[:3]:
                await reader.read()
        async with crowd(server, 1, shown, path="/v1/users/1") as [reader]:
            assert await status(reader) == 200
        assert not any(reader.at_eof() for reader in streams)
    async with asyncio.timeout(10):
        while tcp.count:
            await asyncio.sleep(0.01)


async def test_tcp_and_the_unix_socket_do_not_take_from_each_other(server, monkeypatch):
    for door in server.doors:
        monkeypatch.setattr(door, "most", 2)
    async with (
        crowd(server, 2, path="/v1/events", tcp=False) as streams,
        crowd(server, 5, path="/assets/icon.svg") as nobody,
    ):
        assert [await status(reader) for reader in streams] == [200] * 2
        assert await status(nobody[-1]) == 200
        assert not any(reader.at_eof() for reader in streams)


async def test_a_body_that_comes_too_slowly_is_given_up(server, shown, monkeypatch):
    monkeypatch.setattr(parameters, "BODY_S", 0.2)
    reader, writer = await request(server, shown, "Content-Length: 100", path="/v1/users/1", method="PUT")
    writer.write(b'{"')
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 408")
    writer.close()


@pytest.mark.parametrize("again", [0, 1])
async def test_who_reads_no_answer_is_hung_up_on(server, monkeypatch, caplog, again):
    caplog.set_level("INFO")
    monkeypatch.setattr(module, "UNREAD_S", 0.2)
    monkeypatch.setattr(module, "PROGRESS_BYTES", 1 << 30 if again else 64 << 10)
    _, writer = await request(server, path="/openapi.json")
    writer.transport.pause_reading()
    for _ in range(200):
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(10):
        while "that read nothing" not in caplog.text:
            await asyncio.sleep(0.02)
    writer.transport.abort()


async def test_a_first_request_has_its_time(server, monkeypatch):
    monkeypatch.setattr(module, "FIRST_REQUEST_S", 0.3)
    silent, first = await asyncio.open_unix_connection(server.path)
    slow, writer = await asyncio.open_unix_connection(server.path)
    writer.write(b"GET / HTTP/1.1\r\nHost: loc")
    tcp, second = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    second.write(b"GET / HTTP/1.1\r\nHost: loc")
    async with asyncio.timeout(10):
        for reader in (silent, slow, tcp):
            assert await reader.read() == b""
    for one in (first, writer, second):
        one.close()


async def test_what_is_no_http_is_logged_once_a_minute_for_each_source(server, caplog):
    caplog.set_level("INFO")
    for tcp in (True, False) * 20:
        reader, writer = await request(server, path="/\0", tcp=tcp)
        assert await status(reader) == 400
        writer.close()
    lines = [record.message for record in caplog.records if "no valid HTTP" in record.message]
    assert [line.split(" that is")[0] for line in lines] == [
        "refused a request of 127.0.0.1",
        f"refused a request of uid {os.geteuid()}",
    ]


@pytest.mark.parametrize("body", [b"x-secret\r\n\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n\r\n"])
@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_a_body_that_makes_no_sense_is_refused_however_it_is_cut(server, shown, body, pause, caplog):
    reader, writer = await request(
        server, shown, "Transfer-Encoding: chunked", path="/v1/users/1", method="PUT"
    )
    await writer.drain()
    await asyncio.sleep(pause)
    writer.write(body)
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        problem = json.loads(await reader.readexactly(length))
        rest = await reader.read()
    assert (problem["code"], rest) == ("bad_request", b"")
    assert "Traceback" not in caplog.text
    writer.close()


class TestTurns:
    async def test_who_waits_for_a_turn_gets_it_in_order_and_leaves_it_when_gone(self, monkeypatch):
        monkeypatch.setattr(module, "TURN_S", 0.5)
        turns, order = module.Turns(), []

        async def work(number):
            await turns.wait("a", 2)
            order.append(number)

        tasks = [asyncio.create_task(work(number)) for number in range(6)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert order == [0, 1]
        tasks[2].cancel()
        other = asyncio.create_task(turns.wait("b", 2))
        await asyncio.wait_for(other, 9)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == [0, 1, 3, 4, 5]
        assert not turns.are_waited_for

    async def work_off(self, turns, jobs, most):
        """Have each caller's jobs wait for their turns, of which each takes two; return in what order they were done."""
        done = []

        def job(caller, number, left=2):
            while left:
                if not turns.take(
                    (caller, number), caller, most, functools.partial(job, caller, number, left)
                ):
                    return
                left -= 1
            done.append((caller, number))

        for caller, count in jobs.items():
            for number in range(count):
                job(caller, number)
        async with asyncio.timeout(10):
            while len(done) < sum(jobs.values()):
                await asyncio.sleep(0.001)
        return done

    @pytest.mark.parametrize("most", [1, 2, 3, 4])
    async def test_all_get_theirs_even_if_somebody_takes_more_than_one(self, most):
        turns = module.Turns()
        done = await self.work_off(turns, {"a": 30, "b": 30, "c": 1}, most)
        assert len(done) == 61
        assert done.index(("c", 0)) < 12, "who asks little waits for nobody who asks much"
        assert turns.lines == 0

    async def test_who_leaves_is_not_called(self):
        turns = module.Turns()
        called = []
        assert turns.take("first", "a", 1, lambda: called.append("first"))
        assert not turns.take("second", "a", 1, lambda: called.append("second"))
        assert not turns.take("third", "a", 1, lambda: called.append("third"))
        turns.leave("second", "a")
        await asyncio.sleep(0.05)
        assert called == ["third"]
        turns.close()


async def test_an_address_that_is_withdrawn_is_served_no_more(server, shown):
    port = int(server.url.rpartition(":")[2])
    word, silent = await asyncio.open_connection("127.0.0.1", port)
    async with crowd(server, 2, shown, path=STREAM) as streams:
        assert [await status(reader) for reader in streams] == [200, 200]
        server.withdraw(Address("127.0.0.1", port))
        for reader in streams:
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(10):
                    await reader.read()
    # Nobody knew yet whose it is.
    silent.write(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert await status(word) is None
    silent.close()
    with pytest.raises(ConnectionRefusedError):
        await request(server, shown)
    reader, writer = await request(server, tcp=False)
    assert await status(reader) == 200
    writer.close()


async def test_all_of_a_hosts_addresses_are_withdrawn_at_once(server, monkeypatch):
    tcp = socket.create_server(("0.0.0.0", 0))
    port = tcp.getsockname()[1]
    server.doors[False].open(tcp)
    monkeypatch.setattr(server, "url", f"http://127.0.0.1:{port}")
    reader, writer = await request(server)
    assert await status(reader) == 200
    server.withdraw(Address("0.0.0.0", port))
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):
            await reader.read()
    writer.close()
