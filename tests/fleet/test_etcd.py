"""The etcd of both Debians as the engine: the contract, and its own faults."""

import asyncio
import contextlib
import dataclasses
import json
import ssl
import statistics
import subprocess
import time

import aiohttp
import pytest
from engine_contract import SLACK_S, TTL_S, EngineContract, host, row
from etcd_site import AMPLE_S, site_on
from testbed import etcd
from testbed.ports import free_port

from waportd.fleet.engine import EngineUnavailable, HostState, LeaseLost, Reset, Unsettled

LIMIT_S = 2.0
"""Seconds that a call takes at most, where a test waits for the end of that."""


@pytest.fixture(scope="module", params=etcd.RELEASES)
def single(request):
    """A cluster of one member."""
    with etcd.running(request.param) as cluster:
        yield cluster


@pytest.fixture(scope="module", params=["bookworm", pytest.param("trixie", marks=pytest.mark.thorough)])
def three(request):
    """A cluster of three members, of the older release unless all is to be tried (WAPORTD_FAULTS=all)."""
    with etcd.running(request.param, 3) as cluster:
        yield cluster


class TestOneMember(EngineContract):
    """The contract."""

    @pytest.fixture
    async def site(self, single):
        async with site_on(single) as site:
            yield site


@pytest.fixture
async def site(three):
    """Three members, all of which are there again after the test."""
    async with site_on(three) as site:
        yield site


async def test_who_renews_knows_the_hosts_as_they_are(single):
    async with site_on(single) as site:
        fleet = await site.fleet("a")
        engine, lease = site.engine(), fleet.leases["a"]

        async def names():
            return {host.name: str(host.state) for host in await engine.renewed(lease)}

        assert await names() == {}
        first = await fleet.engine.describe(host("a"))
        assert await names() == await names() == {"a": "active"}
        await fleet.engine.describe(dataclasses.replace(first, state=HostState.DRAINING))
        assert await names() == {"a": "draining"}
        saved = site.save()
        await fleet.engine.describe(host("b"))
        assert await names() == await names() == {"a": "draining", "b": "active"}
        site.restore(saved)
        assert await names() == {"a": "draining"}


async def test_what_alarms_etcd_has_raised_is_known(single):
    async with site_on(single) as site:
        engine = site.engine()
        async with aiohttp.ClientSession(single.endpoints[0]) as session:

            async def ask(path, **body):
                async with session.post(path, json=body) as answer:
                    return json.loads(await answer.read())

            member = (await ask("/v3/kv/range", key="YQ=="))["header"]["member_id"]
            alarm = {"memberID": member, "alarm": "NOSPACE"}
            assert await engine.alarms() == frozenset()
            await ask("/v3/maintenance/alarm", action="ACTIVATE", **alarm)
            assert await engine.alarms() == {"NOSPACE"}
            await ask("/v3/maintenance/alarm", action="DEACTIVATE", **alarm)
            assert await engine.alarms() == frozenset()


@contextlib.contextmanager
def without(cluster, *members, kill=False):
    """Have members stand still, or be away; return when all are back."""
    for member in members:
        member.kill() if kill else member.pause()
    try:
        yield
    finally:
        if kill:
            cluster.start(*members)
        for member in members:
            member.resume()
            member.wait()


async def timed(call):
    """Return what a call returned or raised, and the seconds that it took."""
    started = time.monotonic()
    [result] = await asyncio.gather(call, return_exceptions=True)
    return result, time.monotonic() - started


@contextlib.asynccontextmanager
async def silent_server():
    """Accept connections and never answer: as where packets are dropped, or a member hangs. Gives URL and callers.

    Each caller is an event that is set when the connection ends.
    """
    callers = []

    async def hang(reader, writer):
        callers.append(asyncio.Event())
        ended = callers[-1]
        try:
            await reader.read()
        finally:
            ended.set()
            writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", callers
    finally:
        server.close()


class Swallowing:
    """Passes calls on to a member; breaks the connection in place of the next answer to a transaction with conditions."""

    def __init__(self, member):
        self._member = member
        self._tasks = set()
        self.armed = False

    @contextlib.asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._member.port)
        seen = b""

        async def ask():
            nonlocal seen
            while piece := await reader.read(65536):
                seen += piece
                ours.write(piece)

        async def answer():
            nonlocal seen
            while piece := await theirs.read(65536):
                if self.armed and b'"compare": [{' in seen:
                    self.armed = False
                    return
                seen = b""
                writer.write(piece)

        asking = asyncio.create_task(ask())
        try:
            await answer()
        finally:
            asking.cancel()
            ours.close()
            writer.close()


async def test_an_endpoint_that_refuses_is_passed_over(site):
    refusing = f"http://127.0.0.1:{free_port()}"
    fleet = await site.fleet("a", endpoints=[refusing, *site.cluster.endpoints])
    assert await fleet.engine.create(fleet.leases["a"], row())
    with pytest.raises(EngineUnavailable, match=r"127.0.0.1:\d+: Connection refused$") as caught:
        await site.engine(limit_s=0.3, endpoints=[refusing]).epoch()
    assert caught.value.cause == "unreachable"
    assert "systemctl status etcd" in caught.value.hint


async def test_an_endpoint_that_hangs_costs_its_share_once(site):
    async with silent_server() as (silent, callers):
        engine = site.engine(limit_s=2.0, endpoints=[silent, *site.cluster.endpoints])
        epoch, first_s = await timed(engine.epoch())
        assert epoch == await engine.epoch()
        fleet = await site.fleet("a", engine=engine)
        await asyncio.gather(*(fleet.engine.renew(fleet.leases["a"]) for _ in range(20)))
        assert len(callers) == 1
        assert 0.5 <= first_s < 2.0 + SLACK_S


async def test_where_no_packet_is_answered_a_call_ends_at_its_limit(site):
    async with silent_server() as (silent, callers):
        engine = site.engine(limit_s=0.5, endpoints=[silent])
        error, taken_s = await timed(engine.epoch())
        assert isinstance(error, EngineUnavailable)
        assert "no answer within 0.5 s" in str(error)
        assert 0.5 <= taken_s < 0.5 + SLACK_S
        async with asyncio.timeout(AMPLE_S):
            await callers[0].wait()


async def test_a_call_that_is_repeated_happens_once(site):
    """The first try happens, and nobody hears of it."""
    fleet = await site.fleet("b")
    swallowing = Swallowing(site.cluster.members[0])

    async def swallowed(call):
        """Make a call on a new client, which asks the swallowing endpoint first."""
        async with swallowing.running() as url:
            engine = site.engine(endpoints=[url, *site.cluster.endpoints])
            await engine.state()
            swallowing.armed = True
            result = await call(engine)
            assert not swallowing.armed
            return result

    lease = await swallowed(lambda engine: engine.acquire("a", TTL_S))
    await fleet.engine.renew(lease)
    created = await swallowed(lambda engine: engine.create(lease, row()))
    updated = await swallowed(lambda engine: engine.update(lease, dataclasses.replace(created, runs=1)))
    published = await swallowed(
        lambda engine: engine.publish(lease, dataclasses.replace(updated, snapshot="s"))
    )
    moved = await swallowed(lambda engine: engine.move(lease, published, "b"))
    assert await fleet.rows() == {"1": moved}
    assert (moved.runs, moved.snapshot, moved.host) == (1, "s", "b")
    await swallowed(lambda engine: engine.delete(moved))
    assert await fleet.rows() == {}


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
async def test_when_the_leader_is_lost_no_write_that_was_acknowledged_is(site, kill):
    fleet = await site.fleet("a", limit_s=LIMIT_S)
    engine, lease = fleet.engine, fleet.leases["a"]
    writers = 4
    rows = [await engine.create(lease, row(str(n), 5000 + n)) for n in range(writers)]
    acknowledged, slowest, failed = {one.user: 0 for one in rows}, 0.0, 0
    end = asyncio.Event()

    async def write(current):
        nonlocal slowest, failed
        while not end.is_set():
            wanted = dataclasses.replace(current, runs=current.runs + 1)
            result, taken_s = await timed(engine.update(lease, wanted))
            slowest = max(slowest, taken_s)
            if isinstance(result, EngineUnavailable):
                failed += 1
                current = None
                while current is None:
                    with contextlib.suppress(EngineUnavailable):
                        current = (await fleet.rows())[wanted.user]
            else:
                current = result
                acknowledged[current.user] = current.runs

    writing = [asyncio.create_task(write(one)) for one in rows]
    async with asyncio.timeout(60):
        while min(acknowledged.values()) < 5:
            await asyncio.sleep(0.01)
        with without(site.cluster, site.cluster.leader, kill=kill):
            before = dict(acknowledged)
            while any(acknowledged[user] < before[user] + 5 for user in before):
                await asyncio.sleep(0.01)
            end.set()
            await asyncio.gather(*writing)
            found = await fleet.rows()
    assert {user: one.runs for user, one in found.items()} == acknowledged
    assert slowest < LIMIT_S + SLACK_S


async def test_a_member_that_stands_still_does_not_stop_a_watch(site):
    still, *others = sorted(site.cluster.members, key=lambda member: member.leads)
    fleet = await site.fleet("a", endpoints=[member.endpoint for member in others])
    current = await fleet.engine.create(fleet.leases["a"], row())
    following = [still.endpoint, *(member.endpoint for member in others)]
    watching = site.engine(limit_s=0.5, silence_s=0.5, endpoints=following)
    state = await watching.state()
    async with asyncio.timeout(60), contextlib.aclosing(watching.watch(state.revision)) as changes:
        for runs, stopped in ((1, []), (2, [still])):
            with without(site.cluster, *stopped):
                wanted = dataclasses.replace(current, runs=runs)
                current = await fleet.engine.update(fleet.leases["a"], wanted)
                assert (await anext(changes)).row == current


async def test_a_minority_says_that_it_has_no_leader(site):
    with without(site.cluster, *site.cluster.members[1:], kill=True):
        engine = site.engine(limit_s=0.5, endpoints=site.cluster.endpoints[:1])
        async with asyncio.timeout(AMPLE_S):
            while True:  # until it has noticed
                with pytest.raises(EngineUnavailable) as caught:
                    await engine.acquire("a", TTL_S)
                if caught.value.cause == "no_leader":
                    break
    assert "fewer than half" in caught.value.hint


async def test_a_backup_under_the_old_cluster_id_is_noticed_by_its_revision(single):
    async with site_on(single) as site:
        fleet = await site.fleet("a", silence_s=60)
        engine, lease = fleet.engine, fleet.leases["a"]
        current = await engine.create(lease, row())
        saved = site.save()
        for _ in range(5):
            current = await engine.update(lease, current)
        state = await engine.state()
        single.restore(saved, single.token)
        assert await engine.epoch() == state.epoch
        with pytest.raises(Unsettled):
            await engine.create(lease, row("2", 5002))
        async with asyncio.timeout(AMPLE_S):
            assert [type(change) async for change in engine.watch(state.revision)] == [Reset]
        back = await engine.reclaim(lease, current)
        assert (back.token, back.host) == (current.token, "a")


async def test_a_lease_whose_key_somebody_removed_is_lost(single):
    async with site_on(single) as site:
        engine = site.engine()
        lease = await engine.acquire("a", TTL_S)
        single.etcdctl("del", f"{site.prefix}/leases/a")
        with pytest.raises(LeaseLost):
            await engine.renew(lease)
        again = await engine.acquire("a", TTL_S)
        with pytest.raises(LeaseLost):
            await engine.renew(lease)
        await engine.renew(again)


async def test_a_key_that_somebody_else_wrote_is_named(single):
    async with site_on(single) as site:
        fleet = await site.fleet("a")
        state = await fleet.engine.state()
        key = f"{site.prefix}/users/1"
        single.etcdctl("put", key, "rubbish")
        async with asyncio.timeout(AMPLE_S):
            [reset] = [change async for change in fleet.engine.watch(state.revision)]
        assert "key users/1 does not hold" in reset.reason
        with pytest.raises(EngineUnavailable, match="key users/1 does not hold") as caught:
            await fleet.engine.state()
        assert caught.value.cause == "unreadable"
        single.etcdctl("del", key)
        assert await fleet.engine.state()


async def test_a_full_engine_says_how_to_free_it(single):
    async with site_on(single) as site:
        fleet = await site.fleet("a")
        with single.alarm("NOSPACE"):
            error, _ = await timed(fleet.engine.create(fleet.leases["a"], row()))
        assert isinstance(error, EngineUnavailable)
        assert error.cause == "no_space"
        assert "etcdctl alarm disarm" in error.hint
        assert await fleet.engine.create(fleet.leases["a"], row())


class Authority:
    """A CA, and certificates of it for 127.0.0.1."""

    def __init__(self, folder):
        self._folder = folder
        folder.mkdir()
        self.ca = folder / "ca.pem"
        self._openssl("req", "-x509", "-subj", "/CN=CA", "-keyout", folder / "ca.key", "-out", self.ca)

    def issue(self, name):
        key, request, certificate = (self._folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        self._openssl("req", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        extensions = self._folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1")
        signing = (
            "-CA",
            self.ca,
            "-CAkey",
            self._folder / "ca.key",
            "-CAcreateserial",
            "-extfile",
            extensions,
        )
        self._openssl("x509", "-req", "-in", request, "-out", certificate, *signing)
        return certificate, key

    def _openssl(self, command, *arguments):
        new_key = (
            ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes") if command == "req" else ()
        )
        subprocess.run(["openssl", command, *new_key, *arguments], check=True, capture_output=True)

    def context(self, *certificate):
        context = ssl.create_default_context(cafile=self.ca)
        if certificate:
            context.load_cert_chain(*certificate)
        return context


@pytest.mark.parametrize("release", etcd.RELEASES)
async def test_both_sides_show_a_certificate_of_the_fleet(release, tmp_path):
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    certificate, key = ours.issue("etcd")
    tls = ["--client-cert-auth", "--trusted-ca-file", ours.ca, "--cert-file", certificate, "--key-file", key]
    with etcd.running(release, options=tls) as cluster:
        async with site_on(cluster) as site:
            fleet = await site.fleet("a", tls=ours.context(*ours.issue("a")))
            assert await fleet.engine.create(fleet.leases["a"], row())
            for wrong in (
                others.context(*ours.issue("b")),  # its CA is not that of etcd's certificate
                ours.context(*others.issue("b")),
                ours.context(),
            ):
                error, taken_s = await timed(site.engine(tls=wrong, limit_s=0.3).acquire("b", TTL_S))
                assert isinstance(error, EngineUnavailable)
                assert (error.cause, taken_s < 0.3 + SLACK_S) == ("certificate", True), str(error)
                assert "CA" in error.hint


@pytest.mark.parametrize("release", etcd.RELEASES)
async def test_an_engine_that_wants_a_password_says_what_it_wants(release):
    with etcd.running(release) as cluster:
        cluster.want_password()
        async with site_on(cluster) as site:
            error, _ = await timed(site.engine().acquire("a", TTL_S))
    assert isinstance(error, EngineUnavailable)
    assert error.cause == "authentication"
    assert "auth disable" in error.hint


@pytest.fixture
def report(record_testsuite_property, request):
    """Put figures into the report of all tests."""
    return lambda name, value: record_testsuite_property(f"{request.node.name}: {name}", value)


async def measured(site, report):
    """Report how long a create and a move after it take; no judgement."""
    fleet = await site.fleet("a", "b")
    taken_ms = []
    for number in range(100):
        started = time.monotonic()
        new = await fleet.engine.create(fleet.leases["a"], row(str(number), 5000 + number))
        await fleet.engine.move(fleet.leases["a"], new, "b")
        taken_ms.append(1000 * (time.monotonic() - started))
    assert {one.host for one in (await fleet.rows()).values()} == {"b"}
    report("median_ms", round(statistics.median(taken_ms), 2))
    report("p99_ms", round(statistics.quantiles(taken_ms, n=100)[98], 2))


async def test_a_hundred_users_are_created_and_moved_on_one_member(single, report):
    async with site_on(single) as site:
        await measured(site, report)


async def test_a_hundred_users_are_created_and_moved_on_three_members(site, report):
    await measured(site, report)
