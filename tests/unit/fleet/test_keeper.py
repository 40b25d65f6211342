"""The keeper of a lease, with the times that it has in earnest: an engine and members that fail in every way."""

import asyncio
import itertools

import players
import pytest
import virtual_time
from players import Faults, PlayedEngine, PlayedPeers, answers

from waportd.errors import StoreTooNewError
from waportd.fleet.engine import Lease
from waportd.fleet.failsafe import Answer
from waportd.fleet.keeper import ExitStatus, Keeper
from waportd.fleet.lease import Held, LeaseFolder
from waportd.fleet.timing import Timing
from waportd.model import Port
from waportd.systemd import notify

TIMING = Timing()
UNREACHABLE = answers(Answer.UNREACHABLE)
RENEWED = answers(Answer.RENEWED)
GONE = answers(Answer.GONE)


@pytest.fixture
def said(monkeypatch):
    """Give what systemd is notified of, with ``clock`` set to the time of each."""
    said = Said()
    monkeypatch.setattr(notify, "ready", lambda status: said.add("ready", status))
    monkeypatch.setattr(notify, "status", lambda status: said.add("status", status))
    monkeypatch.setattr(notify, "alive", lambda: said.add("alive", ""))
    return said


class Said:
    def __init__(self):
        self.clock = None
        self.lines = []

    def add(self, kind, text):
        self.lines.append((self.clock.now_s(), kind, text))

    def times(self, kind):
        return [time for time, what, _ in self.lines if what == kind]

    def texts(self, kind):
        return [text for _, what, text in self.lines if what == kind]


class Host:
    """A keeper with all that is around it."""

    def __init__(self, clock, path, said, *, peers=None):
        said.clock = clock
        self.clock = clock
        self.path = path
        self.said = said
        self.engine = PlayedEngine(clock)
        self.peers = peers or PlayedPeers()
        self.folder = LeaseFolder(path)
        self.keeper = None

    async def run(self):
        """Run a keeper to its end; return its exit status, and when that was."""
        self.keeper = Keeper("a", self.engine, self.peers, self.folder, timing=TIMING, clock=self.clock)
        status = await self.keeper.run()
        return status, self.clock.now_s()

    async def run_until(self, time_s, fault):
        """Run a keeper to its end, with a fault at some time."""
        running = asyncio.create_task(self.run())
        await asyncio.sleep(time_s - self.clock.now_s())
        fault()
        return await running

    def deadline_s(self):
        return self.folder.held().deadline_s


@pytest.fixture
def play(tmp_path, said):
    """Give a function that runs a scenario with a host in virtual time."""

    def play(scenario, **options):
        async def with_host(clock):
            host = Host(clock, tmp_path, said, **options)
            try:
                return await scenario(host)
            finally:
                host.folder.close()

        return virtual_time.run(with_host)

    return play


def away(host, how=players.hang):
    """Return a fault: the engine does not answer any more."""
    return lambda: setattr(host.engine, "going", how)


def test_a_lease_is_renewed_every_three_seconds_whatever_the_answers_take(play):
    async def scenario(host):
        host.engine.going = players.late(1.5)
        host.engine.coming = players.late(0.4)
        await host.run_until(600, lambda: host.keeper.end(ExitStatus.AGAIN))
        gaps = [b - a for a, b in itertools.pairwise(host.engine.begun)]
        assert gaps == pytest.approx([3.0] * len(gaps))
        assert len(gaps) > 190

    play(scenario)


def test_the_deadline_is_counted_from_the_begin_of_a_renewal(play):
    async def scenario(host):
        host.engine.coming = players.late(1.9)
        await host.run_until(59, lambda: host.keeper.end(ExitStatus.AGAIN))
        answered = [begun for begun in host.engine.begun if begun + 1.9 < 59]
        assert host.deadline_s() == pytest.approx(answered[-1] + 15)

    play(scenario)


@pytest.mark.parametrize("how", [players.hang, players.hang_for_good, players.refuse])
def test_without_engine_and_members_it_ends_in_time(play, how):
    async def scenario(host):
        status, ended = await host.run_until(100, away(host, how))
        assert status is ExitStatus.IN_TIME
        assert ended == pytest.approx(max(begun for begun in host.engine.begun if begun < 100) + 15)
        assert ended + TIMING.stop_s < host.engine.expires_s

    play(scenario)


def test_the_end_waits_for_no_member_that_hangs(play):
    async def scenario(host):
        _, ended = await host.run_until(100, away(host))
        assert ended < 115

    play(scenario, peers=PlayedPeers(b=players.hang_for_good, c=UNREACHABLE))


def test_a_member_that_reaches_the_engine_renews(play):
    async def scenario(host):
        async def renew():
            host.engine.renewed()
            return Answer.RENEWED

        host.peers.answers |= {"b": renew, "c": players.hang, "d": UNREACHABLE}
        running = asyncio.create_task(host.run_until(10, away(host)))
        await asyncio.sleep(1000)
        assert host.engine.alive()
        assert host.said.texts("ready")[-1].startswith("host b renews the lease")
        host.keeper.end(ExitStatus.AGAIN)
        assert (await running)[0] is ExitStatus.AGAIN

    play(scenario)


def test_failsafe_lasts_while_all_members_answer(play):
    async def scenario(host):
        running = asyncio.create_task(host.run_until(10, away(host, players.refuse)))
        await asyncio.sleep(1000)
        assert not host.engine.alive()  # which a real engine does not count while it is away
        assert host.said.texts("ready")[-1].startswith("failsafe")
        alive = host.said.times("alive")
        assert max(b - a for a, b in itertools.pairwise(alive)) < TIMING.watchdog_s / 2
        host.peers.answers["c"] = players.hang
        asked = host.clock.now_s()
        status, ended = await running
        assert status is ExitStatus.IN_TIME
        assert ended - asked <= 15

    play(scenario, peers=PlayedPeers(b=UNREACHABLE, c=UNREACHABLE))


@pytest.mark.parametrize("silent", [players.hang, players.refuse, answers("something else")])
def test_there_is_no_failsafe_with_a_silent_member(play, silent, caplog):
    async def scenario(host):
        status, ended = await host.run_until(100, away(host))
        assert status is ExitStatus.IN_TIME
        assert ended < 115
        assert "c is silent" in host.said.texts("status")[-1]

    play(scenario, peers=PlayedPeers(b=UNREACHABLE, c=silent, d=UNREACHABLE))


def test_there_is_no_failsafe_where_no_other_host_is_known(play):
    async def scenario(host):
        status, ended = await host.run_until(100, away(host))
        assert (status, ended < 115) == (ExitStatus.IN_TIME, True)

    play(scenario)


def test_one_member_that_knows_the_lease_to_be_gone_ends_it_at_once(play):
    async def scenario(host):
        status, ended = await host.run_until(100, away(host, players.refuse))
        assert status is ExitStatus.LATE
        assert ended < 104

    play(scenario, peers=PlayedPeers(b=UNREACHABLE, c=GONE, d=players.hang))


def test_an_engine_without_the_lease_ends_it_at_once(play):
    async def scenario(host):
        status, ended = await host.run_until(100, lambda: setattr(host.engine, "lease", None))
        assert status is ExitStatus.LATE
        assert ended < 104

    play(scenario)


@pytest.mark.parametrize(("pause_s", "status"), [(12.2, ExitStatus.IN_TIME), (60, ExitStatus.LATE)])
def test_an_end_that_comes_late_kills(play, pause_s, status):
    async def scenario(host):
        assert (await host.run_until(9, lambda: host.clock.pause(pause_s)))[0] is status

    play(scenario)


def test_an_answer_from_before_a_pause_prolongs_nothing(play):
    async def scenario(host):
        host.engine.coming = players.late(1)
        status, _ = await host.run_until(9.5, lambda: host.clock.pause(20))
        assert status is ExitStatus.LATE
        assert host.deadline_s() < host.clock.now_s()

    play(scenario)


def test_a_suspend_counts(play):
    async def scenario(host):
        status, ended = await host.run_until(10, lambda: host.clock.suspend(100))
        assert status is ExitStatus.LATE
        assert ended == pytest.approx(110)

    play(scenario)


def held(deadline_s, boot="this boot"):
    return Held(Lease("a", id=7, incarnation=999, ttl_s=45), deadline_s, boot)


def test_the_next_keeper_resumes_the_lease(play):
    async def scenario(host):
        await host.run_until(20, lambda: host.keeper.end(ExitStatus.AGAIN))
        incarnation = host.folder.held().lease.incarnation
        host.folder.write_environment(Port(5002), "x", incarnation)
        await host.run_until(300, lambda: host.keeper.end(ExitStatus.AGAIN))
        assert host.folder.held().lease.incarnation == incarnation
        assert host.folder.environment_ports() == [5002]

    play(scenario)


@pytest.mark.parametrize(
    ("before", "status"),
    [
        (held(99.8), ExitStatus.IN_TIME),
        (held(90), ExitStatus.LATE),
        (held(110, boot="another boot"), ExitStatus.LATE),
    ],
)
def test_the_next_keeper_ends_a_lease_that_has_lapsed(play, before, status):
    async def scenario(host):
        host.clock.suspend(100)
        host.folder.keep(before)
        host.engine.going = players.hang
        assert await host.run() == (status, 100)
        assert host.said.texts("ready") == []

    play(scenario)


def test_a_name_that_stays_taken_is_another_hosts(play):
    async def scenario(host):
        await host.engine.acquire("a", 1e9)
        status, ended = await host.run()
        assert status is ExitStatus.REFUSED
        assert 90 < ended < 95

    play(scenario)


@pytest.mark.parametrize("way", ["going", "coming"])
def test_it_waits_for_the_end_of_an_earlier_lease(play, way):
    """As after a quick reboot, and after an acquisition whose answer was lost."""

    async def scenario(host):
        running = asyncio.create_task(host.run())
        setattr(host.engine, way, players.hang)
        await asyncio.sleep(1)
        if way == "going":
            host.engine.lease = Lease("a", 7, 999, 45)
            host.engine.renewed()
        setattr(host.engine, way, players.at_once)
        await asyncio.sleep(40)
        assert host.said.texts("ready") == []
        assert "earlier lease" in host.said.texts("status")[-1]
        await asyncio.sleep(10)
        assert host.said.texts("ready") != []
        host.keeper.end(ExitStatus.AGAIN)
        assert (await running)[0] is ExitStatus.AGAIN

    play(scenario)


def test_a_lease_does_not_run_out_while_the_engine_is_away(play):
    async def scenario(host):
        await host.engine.acquire("a", 300)
        running = asyncio.create_task(host.run())
        await asyncio.sleep(80)
        host.engine.going = players.hang
        await asyncio.sleep(10)
        host.engine.going = players.at_once
        await asyncio.sleep(80)
        assert not running.done()
        assert (await running)[0] is ExitStatus.REFUSED

    play(scenario)


def test_data_of_a_newer_version_are_refused(play):
    async def scenario(host):
        async def refuse():
            raise StoreTooNewError("the fleet is one of waportd 3", hint="upgrade this host")

        host.engine.going = refuse
        assert await host.run() == (ExitStatus.REFUSED, 0)

    play(scenario)


def test_nothing_of_an_earlier_lease_is_left_when_it_is_ready(play, monkeypatch):
    async def scenario(host):
        (host.path / "5002.env").write_text("of an earlier lease")
        (host.path / ".5003.env.new").write_text("of a daemon that was about to write it")
        found = []
        monkeypatch.setattr(
            notify, "ready", lambda _: found.append(sorted(p.name for p in host.path.iterdir()))
        )
        await host.run_until(1, lambda: host.keeper.end(ExitStatus.AGAIN))
        assert found == [["lease.json"]]

    play(scenario)


def test_each_change_is_said_once(play):
    async def scenario(host):
        running = asyncio.create_task(host.run_until(60, away(host, players.refuse)))
        await asyncio.sleep(120)
        host.engine.going = players.at_once
        host.engine.renewed()
        await asyncio.sleep(60)
        host.keeper.end(ExitStatus.AGAIN)
        await running
        assert [text.split(",")[0] for text in host.said.texts("ready")] == [
            "holds the lease",
            "failsafe",
            "holds the lease",
        ]

    play(scenario, peers=PlayedPeers(b=UNREACHABLE))


@pytest.mark.parametrize("seed", range(60))
def test_whatever_fails_the_sessions_are_dead_before_the_engine_lets_the_lease_go(play, seed):
    """For one keeper after the other, of which each resumes the lease. In the end the engine is away for good."""
    faults = Faults(seed)

    async def keepers(host):
        while (ended := await host.run())[0] is ExitStatus.AGAIN:
            pass
        return ended

    async def scenario(host):
        host.peers.answers |= {"b": faults.member(host.engine), "c": UNREACHABLE, "d": players.hang}
        running = asyncio.create_task(keepers(host))
        await asyncio.sleep(20)
        host.engine.going = host.engine.coming = faults.way
        while not running.done():
            await asyncio.sleep(faults.chance.uniform(1, 60))
            if faults.chance.random() < 0.2:
                host.keeper.end(ExitStatus.AGAIN)
            if host.clock.now_s() > 20_000:
                host.engine.going = players.refuse
                host.peers.answers.clear()
        status, ended = await running
        assert status is ExitStatus.IN_TIME
        assert ended + TIMING.stop_s < host.engine.expires_s

    play(scenario)
