"""Hosts ask one another, over real TLS on the loopback network; each answers, refuses and says why, or is silent."""

import asyncio
import contextlib
import gc
import json
import logging
import os
import ssl
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from certified import FLEET, LONG_AGO, STRANGER
from talking import EPOCH, Fleet, Leases, identity

from waportd.errors import HostRefused, HostSilent, NotHere
from waportd.fleet.engine import HostState, Lease
from waportd.fleet.identity import Identity
from waportd.fleet.peer_calls import (
    MAX_REQUEST_BYTES,
    REACH,
    RENEW,
    Renewal,
)

ROOT = Path(__file__).resolve().parents[3]
GENEROUS_S = 20.0
"""A limit that no test waits for, on a slow machine either."""


@pytest.fixture
async def fleet(tmp_path):
    before = asyncio.all_tasks()
    fleet = Fleet(tmp_path)
    yield fleet
    await fleet.close()
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left


@pytest.fixture
async def listen():
    """Have bytes handled, with or without TLS, at an address; return that."""
    tasks, listeners = set(), []

    async def start(handle, context=None):
        async def owned(reader, writer):
            tasks.add(asyncio.current_task())
            try:
                await handle(reader, writer)
            except (asyncio.CancelledError, ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.transport.abort()

        listeners.append(listener := await asyncio.start_server(owned, "127.0.8.1", 0, ssl=context))
        return "{}:{}".format(*listener.sockets[0].getsockname())

    yield start
    for listener in listeners:
        listener.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks)


async def never(_reader, _writer):
    """Accept, and never answer."""
    await asyncio.sleep(600)


def send(content):
    """Return what answers a call with these bytes."""

    async def handle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(content)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return handle


@pytest.fixture
async def raw():
    """Call a host with whatever client a test makes up."""
    async with contextlib.AsyncExitStack() as stack:

        def client(context):
            connector = aiohttp.TCPConnector(ssl=context)
            return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(GENEROUS_S))

        async def call(fleet, name, who, method="GET", path=REACH, **options):
            context = identity(fleet.folder, who).client if isinstance(who, str) else who
            context.check_hostname = False
            http = await stack.enter_async_context(client(context))
            answer = await http.request(method, f"https://{fleet.hosts[name].address}{path}", **options)
            return answer.status, await answer.json()

        yield call


async def refused(call):
    with pytest.raises(HostRefused) as caught:
        await call
    assert caught.value.hint
    return caught.value


async def silent(call):
    with pytest.raises(HostSilent) as caught:
        await call
    assert caught.value.hint
    return caught.value.message


class TestAnswers:
    async def test_a_host_renews_the_lease_of_one_that_cannot(self, fleet):
        await fleet.serve("b")
        lease = fleet.lease("a")
        assert await fleet.peers("a").renew("b", lease) is Renewal.RENEWED
        assert fleet.answers["b"].renewed == [lease]

    async def test_a_host_says_that_it_does_not_reach_the_engine_either(self, fleet):
        await fleet.serve("b")
        fleet.answers["b"].reached = False
        assert await fleet.peers("a").renew("b", fleet.lease("a")) is Renewal.UNREACHABLE
        assert fleet.answers["b"].outages == 1

    async def test_who_is_asked_says_which_hosts_it_knows(self, fleet):
        await fleet.serve("b")
        fleet.know("c", "192.0.2.3:7467")
        fleet.know("d", state=HostState.LEFT)
        learned = {}
        await fleet.peers("a", learn=learned.update).renew("b", fleet.lease("a"))
        assert learned == {"a": "127.0.0.1:1", "b": fleet.hosts["b"].address, "c": "192.0.2.3:7467"}

    async def test_a_host_says_that_the_incarnation_is_gone(self, fleet):
        await fleet.serve("b")
        assert await fleet.peers("a").renew("b", Lease("a", 1, 6, 45.0)) is Renewal.GONE

    async def test_an_engine_that_hangs_is_away_before_the_caller_gives_up(self, fleet):
        class Hangs(Leases):
            async def renew(self, lease):
                # As clients do that ignore that they are cancelled.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)
                await released.wait()

        released = asyncio.Event()
        await fleet.serve("b", answers=Hangs("b"), engine_s=0.1)
        assert (
            await fleet.peers("a", call_s=GENEROUS_S).renew("b", Lease("a", 1, 7, 45.0))
            is Renewal.UNREACHABLE
        )
        released.set()

    async def test_a_host_says_what_it_reaches(self, fleet):
        await fleet.serve("b")
        peers = fleet.peers("a")
        reach = await peers.reach("b")
        assert (reach.host, reach.engine, reach.incarnation, reach.epoch) == ("b", True, 7, EPOCH)

    async def test_calls_of_many_are_answered_over_connections_that_are_kept(self, fleet, monkeypatch):
        await fleet.serve("b")
        handshakes = []
        wrap = ssl.SSLContext.wrap_bio
        monkeypatch.setattr(
            ssl.SSLContext,
            "wrap_bio",
            lambda self, *args, **named: handshakes.append(self) or wrap(self, *args, **named),
        )
        peers = fleet.peers("a")
        for _ in range(5):
            await peers.reach("b")
        assert len(handshakes) == 2  # of the two sides

    async def test_a_daemon_that_restarts_is_asked_again(self, fleet):
        server = await fleet.serve("b")
        peers = fleet.peers("a")
        await peers.reach("b")
        await server.close()
        await fleet.serve("b")
        assert (await peers.reach("b")).host == "b"

    async def test_a_kept_connection_that_breaks_at_the_next_call_is_no_silence(self, fleet, listen):
        answered = []

        async def once(reader, writer):
            answered.append(await reader.readuntil(b"\r\n\r\n"))
            body = json.dumps({"host": "b", "engine": True, "incarnation": 7, "epoch": None}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            await reader.readuntil(b"\r\n\r\n")
            # And the connection ends.

        fleet.know("b", await listen(once, identity(fleet.folder, "b").server))
        peers = fleet.peers("a")
        await peers.reach("b")
        assert (await peers.reach("b")).engine
        assert len(answered) == 2

    async def test_a_host_that_moves_is_asked_at_its_new_address(self, fleet):
        before = await fleet.serve("b")
        peers = fleet.peers("a")
        await peers.reach("b")
        await before.close()
        _, _, port = fleet.hosts["b"].address.partition(":")
        await fleet.serve("b", port=int(port))
        fleet.answers["b"].reached = False
        assert not (await peers.reach("b")).engine


class TestAskingAll:
    async def test_all_others_that_have_not_left_are_asked_at_once(self, fleet):
        everybody = asyncio.Barrier(3)

        class Waits(Leases):
            async def renew(self, lease):
                await everybody.wait()

        for name in "bcd":
            await fleet.serve(name, answers=Waits(name), engine_s=GENEROUS_S)
        fleet.know("e", state=HostState.LEFT)
        peers = fleet.peers("a", call_s=GENEROUS_S)
        lease = fleet.lease("a")
        answers = await peers.ask_all(lambda host: peers.renew(host, lease))
        assert answers == dict.fromkeys("bcd", Renewal.RENEWED)

    async def test_each_is_answered_refused_or_silent(self, fleet, listen):
        await fleet.serve("b")
        await fleet.serve("c", identity=identity(fleet.folder, "z"))
        fleet.know("d", await listen(never))
        fleet.know("e", "127.0.8.2:1")
        peers = fleet.peers("a", call_s=2.0)
        answers = await peers.ask_all(peers.reach)
        assert answers["b"].engine
        assert answers["c"].cause == "wrong_name"
        assert isinstance(answers["d"], HostSilent)
        assert "did not answer within 2 s" in answers["d"].message
        assert isinstance(answers["e"], HostSilent)

    async def test_nobody_is_waited_for_after_an_answer_that_is_enough(self, fleet, listen):
        left = asyncio.Event()

        async def until_left(reader, _writer):
            await reader.read()
            left.set()

        await fleet.serve("b")
        fleet.know("c", await listen(until_left))
        peers = fleet.peers("a", call_s=600.0)
        lease = fleet.lease("a")
        async with asyncio.timeout(GENEROUS_S):
            answers = await peers.ask_all(
                lambda host: peers.renew(host, lease), {Renewal.RENEWED}.__contains__
            )
            assert answers == {"b": Renewal.RENEWED}
            await left.wait()

    async def test_a_keeper_that_stops_to_ask_leaves_nothing_behind(self, fleet, listen):
        asked, left = asyncio.Event(), asyncio.Event()

        async def until_left(reader, _writer):
            asked.set()
            await reader.read()
            left.set()

        fleet.know("b", await listen(until_left))
        peers = fleet.peers("a", call_s=600.0)
        asking = asyncio.create_task(peers.ask_all(peers.reach))
        async with asyncio.timeout(GENEROUS_S):
            await asked.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await left.wait()

    async def test_a_fleet_of_one_has_nobody_to_ask(self, fleet):
        peers = fleet.peers("a")
        assert await peers.ask_all(peers.reach) == {}


class TestWhoCalls:
    async def test_a_host_that_left_is_refused_by_name_also_on_an_open_connection(self, fleet):
        await fleet.serve("b")
        peers = fleet.peers("a")
        await peers.reach("b")
        fleet.know("a", state=HostState.LEFT)
        error = await refused(peers.reach("b"))
        assert (error.message, error.cause) == ("host b refused: host a has left the fleet", "left")
        assert "fleet invite a" in error.hint

    async def test_a_host_that_drains_is_a_member(self, fleet):
        await fleet.serve("b")
        fleet.know("a", state=HostState.DRAINING)
        assert (await fleet.peers("a").reach("b")).engine

    async def test_a_host_that_is_no_member_is_refused_by_name(self, fleet):
        await fleet.serve("b")
        peers = fleet.peers("a")
        del fleet.hosts["a"]
        error = await refused(peers.reach("b"))
        assert (error.message, error.cause) == (
            "host b refused: no host of the fleet is named 'a'",
            "unknown_host",
        )

    async def test_nobody_has_the_lease_of_another_host_renewed(self, fleet):
        await fleet.serve("b")
        victim = fleet.lease("c")
        error = await refused(fleet.peers("a").renew("b", victim))
        assert error.cause == "wrong_name"
        assert (
            error.message
            == "host b refused: the certificate is that of host a, and the lease that of host 'c'"
        )
        assert fleet.answers["b"].renewed == []

    async def test_nobody_gets_another_hosts_lease_by_its_number(self, fleet):
        await fleet.serve("b")
        fleet.lease("c", number=33)
        assert await fleet.peers("a").renew("b", Lease("a", 33, 7, 45.0)) is Renewal.GONE
        assert fleet.answers["b"].renewed == []

    async def test_a_refusal_is_logged_once_until_the_host_is_welcome(self, fleet, caplog):
        await fleet.serve("b")
        peers = fleet.peers("a")

        async def refusals():
            caplog.clear()
            for _ in range(3):
                await refused(peers.reach("b"))
            return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]

        fleet.know("a", state=HostState.LEFT)
        assert await refusals() == ["Cannot answer host a: host a has left the fleet"]
        assert await refusals() == []
        fleet.know("a")
        await peers.reach("b")
        fleet.know("a", state=HostState.LEFT)
        assert len(await refusals()) == 1

    async def test_a_certificate_that_expires_ends_a_connection_that_is_open(self, fleet):
        now = [time.time()]
        await fleet.serve("b", clock=lambda: now[0])
        peers = fleet.peers("a")
        await peers.reach("b")
        now[0] += 731 * 86400
        error = await refused(peers.reach("b"))
        assert (error.message, error.cause) == (
            "host b refused: the certificate of host a has expired",
            "expired",
        )

    @pytest.mark.parametrize("kind", ["expired", "of another CA"])
    async def test_an_invalid_certificate_gets_nothing_but_a_closed_connection(self, fleet, kind):
        await fleet.serve("b")
        who = {
            "expired": identity(fleet.folder, "a", now=LONG_AGO),
            "of another CA": identity(fleet.folder, "a", authority=STRANGER),
        }[kind]
        error = await refused(fleet.peers("a", identity=who).reach("b"))
        assert error.cause == "closed"
        assert "certificate of this host may have expired" in error.hint

    async def test_without_a_certificate_nothing_is_answered(self, fleet, raw):
        await fleet.serve("b")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=FLEET.pem.decode())
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            await raw(fleet, "b", context)

    async def test_tls_1_2_is_refused_on_either_side(self, fleet, raw):
        await fleet.serve("b")
        fleet.know("a")
        context = identity(fleet.folder, "a").client
        assert (await raw(fleet, "b", context))[0] == 200
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(aiohttp.ClientError):
            await raw(fleet, "b", context)

        old = identity(fleet.folder, "c")
        old.server.minimum_version = old.server.maximum_version = ssl.TLSVersion.TLSv1_2
        await fleet.serve("c", identity=old)
        with pytest.raises((HostRefused, HostSilent)):
            await fleet.peers("a").reach("c")

    async def test_plain_http_is_refused(self, fleet):
        await fleet.serve("b")
        address, _, port = fleet.hosts["b"].address.partition(":")
        reader, writer = await asyncio.open_connection(address, int(port))
        writer.write(b"GET /fleet/reach HTTP/1.1\r\nHost: b\r\n\r\n")
        async with asyncio.timeout(GENEROUS_S):
            with contextlib.suppress(ConnectionError):
                assert b"HTTP" not in await reader.read()
        writer.close()


class TestWhoAnswers:
    @pytest.mark.parametrize(
        ("cause", "words", "made"),
        [
            ("wrong_name", "the certificate of another host", {"name": "c"}),
            ("expired", "a certificate that has expired", {"name": "b", "now": LONG_AGO}),
            ("certificate", "that this fleet's CA has not made", {"name": "b", "authority": STRANGER}),
        ],
    )
    async def test_a_certificate_that_is_not_the_hosts_own_is_named_with_the_fix(
        self, fleet, cause, words, made
    ):
        await fleet.serve("b", identity=identity(fleet.folder, **made))
        error = await refused(fleet.peers("a").renew("b", fleet.lease("a")))
        assert (error.cause, words in error.message) == (cause, True)
        assert "host b" in error.message
        assert "fleet invite b" in error.hint
        assert fleet.answers["b"].renewed == []

    async def test_a_host_that_takes_itself_for_another_is_refused(self, fleet):
        await fleet.serve("b", answers=Leases("c"))
        error = await refused(fleet.peers("a").reach("b"))
        assert error.cause == "wrong_name"
        assert error.message == "host b, by its certificate, says that it is host c"

    async def test_what_speaks_plain_http_is_refused(self, fleet, listen):
        async def handle(reader, writer):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()

        fleet.know("b", await listen(handle))
        assert (await refused(fleet.peers("a").reach("b"))).cause == "no_tls"

    async def test_an_address_where_nobody_listens_is_silence(self, fleet):
        fleet.know("b", "127.0.8.2:1")
        assert "host b is not reached" in await silent(fleet.peers("a").reach("b"))

    @pytest.mark.parametrize(
        "address", ["", "b.example.org:7467", "127.0.0.1:port", "127.0.0.1:99999", "[::1"]
    )
    async def test_an_address_that_is_none_is_named_and_never_looked_up(self, fleet, monkeypatch, address):
        def no_lookup(*_, **__):
            raise AssertionError("looked up")

        monkeypatch.setattr("socket.getaddrinfo", no_lookup)
        fleet.know("b", address)
        assert f"{address!r}, not IP:PORT" in await silent(fleet.peers("a").reach("b"))

    async def test_a_host_that_is_not_on_the_list_is_not_asked(self, fleet):
        assert "there is no host z" in await silent(fleet.peers("a").reach("z"))

    async def test_an_address_of_version_6_is_used(self, fleet):
        await fleet.serve("b")
        fleet.know("b", "[::1]:1")
        assert "is not reached" in await silent(fleet.peers("a").reach("b"))

    async def test_an_engine_with_a_hosts_certificate_is_known_by_its_address_alone(self, fleet, listen):
        folder = fleet.folder / "engine"
        folder.mkdir()
        (folder / "ca.pem").write_bytes(FLEET.pem)
        (folder / "host.pem").write_bytes(FLEET.issue("b", ["127.0.8.1"]))
        address = await listen(never, Identity.load(folder, "b").server)
        port, client = int(address.partition(":")[2]), identity(fleet.folder, "a").client
        _, writer = await asyncio.open_connection("127.0.8.1", port, ssl=client)
        writer.transport.abort()
        with pytest.raises(ssl.SSLCertVerificationError, match=r"127\.0\.8\.2"):
            await asyncio.open_connection("127.0.8.1", port, ssl=client, server_hostname="127.0.8.2")


class TestLimits:
    async def test_a_host_that_accepts_and_never_answers_is_silent(self, fleet, listen):
        fleet.know("b", await listen(never))
        assert "did not answer within 0.3 s" in await silent(fleet.peers("a", call_s=0.3).reach("b"))

    async def test_a_host_that_shakes_hands_and_never_answers_is_silent(self, fleet, listen):
        fleet.know("b", await listen(never, identity(fleet.folder, "b").server))
        assert "did not answer" in await silent(fleet.peers("a", call_s=1.0).reach("b"))

    async def test_a_host_that_answers_slowly_without_end_is_silent(self, fleet, listen):
        async def trickle(reader, writer):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)

        fleet.know("b", await listen(trickle, identity(fleet.folder, "b").server))
        assert "did not answer" in await silent(fleet.peers("a", call_s=1.0).reach("b"))

    async def test_an_answer_that_comes_late_is_taken_within_the_limit(self, fleet):
        class Slow(Leases):
            async def renew(self, lease):
                await asyncio.sleep(0.3)

        await fleet.serve("b", answers=Slow("b"), engine_s=GENEROUS_S)
        peers = fleet.peers("a", call_s=GENEROUS_S)
        assert await peers.renew("b", Lease("a", 1, 7, 45.0)) is Renewal.RENEWED

    async def test_an_answer_without_end_is_refused(self, fleet, listen, monkeypatch):
        monkeypatch.setattr("waportd.fleet.peers.MAX_ANSWER_BYTES", 100_000)

        async def flood(reader, writer):
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"1000\r\n" + bytes(4096) + b"\r\n")
                await writer.drain()

        fleet.know("b", await listen(flood, identity(fleet.folder, "b").server))
        assert (await refused(fleet.peers("a", call_s=GENEROUS_S).reach("b"))).cause == "bad_answer"

    @pytest.mark.parametrize("compressed", [False, True])
    async def test_a_body_that_is_too_large_is_refused(self, fleet, raw, compressed):
        await fleet.serve("b")
        fleet.know("a")
        headers = {"Content-Encoding": "deflate"} if compressed else {}
        body = os.urandom(MAX_REQUEST_BYTES + 1)
        status, said = await raw(fleet, "b", "a", "POST", RENEW, data=body, headers=headers)
        assert (status, said["cause"]) == (413, "too_large")

    async def test_a_body_that_never_comes_is_not_waited_for(self, fleet, raw):
        async def never():
            yield b"{"
            await asyncio.sleep(60)

        await fleet.serve("b", body_s=0.2)
        fleet.know("a")
        status, said = await raw(fleet, "b", "a", "POST", RENEW, data=never())
        assert (status, said["cause"]) == (408, "too_slow")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"null",
            b"{}",
            b"[" * 4000,
            b'{"host": "a", "id": "1", "incarnation": 7, "ttl_s": 45.0}',
            b'{"host": "a", "id": true, "incarnation": 7, "ttl_s": 45.0}',
            b"\xff",
        ],
        ids=lambda body: body[:40].decode(errors="replace"),
    )
    async def test_a_body_that_is_no_lease_is_refused(self, fleet, raw, body):
        await fleet.serve("b")
        fleet.know("a")
        status, said = await raw(fleet, "b", "a", "POST", RENEW, data=body)
        assert (status, said["cause"]) == (400, "bad_request")
        assert said["hint"]

    @pytest.mark.parametrize(
        "content",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{",
            b"HTTP/1.1 302 Found\r\nLocation: https://a:1/\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}",
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        ],
    )
    async def test_an_answer_that_is_none_of_the_fleets_is_refused(self, fleet, listen, content):
        fleet.know("b", await listen(send(content), identity(fleet.folder, "b").server))
        assert (await refused(fleet.peers("a").reach("b"))).cause == "bad_answer"

    async def test_words_of_another_host_are_harmless_and_short(self, fleet, listen):
        said = json.dumps(
            {"code": "x", "cause": None, "detail": "\x1b[31m\n" + "x" * 9000, "hint": "\x07"}
        ).encode()

        content = b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n" % len(said) + said
        fleet.know("b", await listen(send(content), identity(fleet.folder, "b").server))
        with pytest.raises(HostRefused) as caught:
            await fleet.peers("a").reach("b")
        error = caught.value
        assert error.message.isprintable()
        assert len(error.message) < 600
        assert (error.cause, error.hint) == ("x", "")


class TestOneHop:
    async def test_a_call_of_a_host_is_never_passed_on(self, fleet):
        class PassesOn(Leases):
            async def renew(self, lease):
                await asyncio.create_task(b.renew("c", lease))

        await fleet.serve("b", answers=PassesOn("b"))
        await fleet.serve("c")
        b = fleet.peers("b")
        lease = fleet.lease("a")
        error = await refused(fleet.peers("a").renew("b", lease))
        assert error.cause == "not_here"
        assert "this is a call of host a: it is not passed on to host c" in error.message
        assert fleet.answers["c"].renewed == []

    async def test_nor_is_it_passed_on_to_all_and_each_of_these_faults_is_seen(self, fleet, caplog):
        class PassesOn(Leases):
            async def renew(self, lease):
                await b.ask_all(b.reach)

        await fleet.serve("b", answers=PassesOn("b"))
        fleet.know("c")
        fleet.know("d")
        b = fleet.peers("b")
        error = await refused(fleet.peers("a").renew("b", fleet.lease("a")))
        assert error.cause == "not_here"
        gc.collect()
        assert caplog.text == ""  # asyncio reports errors that nobody has looked at

    async def test_a_host_may_ask_others_for_itself(self, fleet):
        await fleet.serve("b")
        await fleet.serve("c")
        lease = fleet.lease("b")
        assert await fleet.peers("a").reach("b")
        assert await fleet.peers("b").renew("c", lease) is Renewal.RENEWED

    async def test_the_answer_to_what_would_be_passed_on_is_421(self, fleet, raw):
        class PassesOn(Leases):
            async def renew(self, lease):
                raise NotHere("this would be passed on", hint="ask that one")

        await fleet.serve("b", answers=PassesOn("b"))
        fleet.know("a")
        body = {"host": "a", "id": 1, "incarnation": 7, "ttl_s": 45.0}
        status, said = await raw(fleet, "b", "a", "POST", RENEW, json=body)
        assert (status, said["code"]) == (421, "not_here")


def test_the_keeper_which_must_stay_small_loads_no_cryptography():
    program = (
        "import sys, waportd.fleet.peers, waportd.fleet.peer_server; print('cryptography' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "False\n"


class TestFaultsOfOurOwn:
    async def test_a_bug_is_a_refusal_without_its_text_and_is_in_the_journal(self, fleet, raw, caplog):
        class Broken(Leases):
            def reach(self):
                raise RuntimeError("with a secret")

        await fleet.serve("b", answers=Broken("b"))
        fleet.know("a")
        status, said = await raw(fleet, "b", "a")
        assert status == 500
        assert "secret" not in json.dumps(said)
        assert "Cannot answer GET /fleet/reach" in caplog.text

    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/"), ("GET", RENEW), ("POST", REACH), ("GET", "/v1/users")]
    )
    async def test_there_is_nothing_else(self, fleet, raw, method, path):
        await fleet.serve("b")
        fleet.know("a")
        status, said = await raw(fleet, "b", "a", method, path)
        assert status in {404, 405}
        assert said["cause"] == "no_such_call"
