"""What each host of a fleet does about the users: on a real etcd, with short times."""

import asyncio
import contextlib
import dataclasses
import time

import pytest

from waportd.concurrency import retrieve_error
from waportd.fleet.agent import Agent
from waportd.fleet.boot_clock import BootClock
from waportd.fleet.engine import EngineUnavailable, Host, HostState, LeaseLost, Order, Unsettled
from waportd.fleet.host import FleetHost
from waportd.fleet.lease import Held, LeaseFolder, OwnLease
from waportd.fleet.membership import Membership
from waportd.fleet.moves import Moves
from waportd.fleet.record import assignment_of
from waportd.fleet.store import read_members
from waportd.model import Assignment, Port, User
from waportd.store import SqliteStore

RELEASE = "trixie"
TTL_S, FAILOVER_AFTER_S, RENEW_S = 4.0, 1.0, 0.5
PATIENCE_S = 60.0


async def until(condition, what):
    """Wait until something holds; return what it gives."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            result = condition()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return result
            await asyncio.sleep(0.05)
    raise AssertionError(what)


class PlayedUsers:
    """Takes the place of the supervisor: notes what is asked of it."""

    def __init__(self):
        self.running, self.resumed, self.paused, self.cleaned = {}, 0, 0, []

    async def gain(self, assignment):
        self.running[assignment.user] = assignment

    async def lose(self, user):
        self.running.pop(user, None)

    async def clean(self, port):
        self.cleaned.append(port)

    def pause(self):
        self.paused += 1

    async def resume(self, lease):
        self.resumed += 1
        self.lease = lease

    async def give(self, user, hand_over):
        assignment, is_gone = self.running.pop(user), False
        try:
            is_gone = await hand_over()
        finally:
            if not is_gone:
                self.running[user] = assignment
        return is_gone

    def stay(self, user):
        """Nothing: it runs already."""


def described_as(name):
    return Host(name, "192.0.2.1:7467", HostState.ACTIVE, "2.0.0", 100, 1.5, False, None)


class Machine:
    """One host: its disk, its keeper, and its agent as the daemon runs it."""

    def __init__(self, site, name, folder):
        self.site, self.name, self.folder = site, name, folder
        self.runtime = folder / "run"
        self.runtime.mkdir(parents=True)
        self.tasks, self.saved = {}, []
        self.lease = self.host = self.store = None

    async def keep(self):
        """Be the keeper: take a lease, and renew it."""
        engine = self.site.engine()
        self.lease = await engine.acquire(self.name, TTL_S)
        clock = BootClock()
        with LeaseFolder(self.runtime) as folder:
            folder.keep(Held(self.lease, clock.now_s() + 1_000, clock.boot_id()))

        async def renew():
            while True:
                with contextlib.suppress(EngineUnavailable):
                    await engine.renew(self.lease)
                await asyncio.sleep(RENEW_S)

        self._begin("keeper", renew())

    async def serve(self, *, established=True):
        """Be the daemon."""
        self.engine = self.site.engine()
        self.own = OwnLease(self.runtime, BootClock())
        self.users = self.played_users()
        local = await SqliteStore.open(self.folder / "waportd.db")
        known, members = await read_members(local)
        membership = Membership(
            self.name,
            ttl_s=TTL_S,
            failover_after_s=FAILOVER_AFTER_S,
            established=established or known,
            remembered=members,
        )
        self.host = FleetHost(self.name, self.engine, local, self.own, membership, time.monotonic)
        self.store = self.host.store
        self.users.running = {one.user: one for one in await self.store.load()}
        logins = self.logins()
        self.moves = Moves(self.engine, self.store, self.users, lambda: 2, self.save)
        agent = Agent(self.host, self.users, self.moves, logins, own=described_as(self.name))
        self._begin("daemon", agent.run())

    async def save(self, user):
        assert user not in self.users.running
        self.saved.append(user)

    def played_users(self):
        return PlayedUsers()

    def logins(self):
        """Return what carries logins: nothing does."""

    def _begin(self, name, work):
        self.tasks[name] = asyncio.create_task(work)
        self.tasks[name].add_done_callback(retrieve_error)

    async def end(self, name):
        task = self.tasks.pop(name, None)
        if task:
            task.cancel()
            await asyncio.wait({task})
        if name == "daemon" and self.store:
            await self.moves.close()
            self.own.close()
            await self.store.close()
            self.store = None

    async def power_off(self):
        """Lose everything but the disk."""
        for name in ("keeper", "daemon"):
            await self.end(name)
        for path in self.runtime.iterdir():
            path.unlink()

    async def new(self, user, port):
        assignment = Assignment(User(user), Port(port), linked=True, created_at=1.0)
        await self.store.put([assignment])
        self.users.running[assignment.user] = assignment

    @property
    def has(self):
        return sorted(self.users.running)


@pytest.fixture
async def machines(site, tmp_path):
    """Three hosts that have been members for long."""
    engine = site.engine()
    three = [Machine(site, name, tmp_path / name) for name in ("a", "b", "c")]
    for machine in three:
        await machine.keep()
        await engine.describe(described_as(machine.name))
    await engine.state()
    await engine.settle(three[0].lease)
    for machine in three:
        await machine.serve()
        await until(lambda machine=machine: machine.users.resumed, "the first look")
    yield three
    for machine in three:
        await machine.power_off()


async def test_users_of_a_dead_host_are_taken_once_each_with_all_that_is_known_of_them(machines, site):
    a, b, c = machines
    for number in range(1, 13):
        await a.new(str(number), 5000 + number)
    before = a.users.running
    died = time.monotonic()
    await a.power_off()
    await until(lambda: len(b.users.running) + len(c.users.running) == 12, "the takeover")
    assert time.monotonic() - died > TTL_S - RENEW_S + FAILOVER_AFTER_S
    assert {**b.users.running, **c.users.running} == before
    assert b.has, "each host takes its share"
    assert c.has
    owners = {row.user: row.host for row in (await site.engine().state()).rows}
    assert owners == dict.fromkeys(b.has, "b") | dict.fromkeys(c.has, "c")


async def test_a_host_that_comes_back_gives_up_who_was_taken(machines):
    a, b, c = machines
    await a.new("1", 5001)
    await a.power_off()
    await until(lambda: b.has or c.has, "the takeover")
    await a.keep()
    await a.serve()
    assert a.has == ["1"], "as its disk has it"
    with pytest.raises((Unsettled, LeaseLost)):
        await a.host.begin(User("1"))  # nothing is known yet
    await until(lambda: not a.has and not a.store.rows, "the loss")


async def test_a_host_that_is_back_in_time_keeps_its_users(machines):
    a, b, c = machines
    await a.new("1", 5001)
    lease = a.lease
    await a.power_off()
    await a.site.engine().release(lease)  # as an orderly shutdown does
    await a.keep()
    await a.serve()
    await until(lambda: a.users.resumed, "the next life")
    await a.host.begin(User("1"))
    await asyncio.sleep(TTL_S + FAILOVER_AFTER_S)
    assert (a.has, b.has, c.has) == (["1"], [], [])


async def test_everything_is_started_again_under_each_new_lease(machines):
    a, *_ = machines
    await a.end("keeper")
    await a.site.engine().release(a.lease)
    for path in a.runtime.iterdir():
        path.unlink()
    with pytest.raises(LeaseLost):
        await a.host.begin(User("1"))
    await until(lambda: a.users.paused == 1, "the end of the lease")
    await asyncio.sleep(2)
    assert (a.users.resumed, a.users.paused) == (1, 1)
    await a.keep()
    await until(lambda: a.users.resumed == 2, "the next life")
    assert a.users.lease == a.lease.incarnation


async def test_while_the_engine_is_away_users_of_this_host_may_start_and_others_stay_theirs(machines, site):
    a, b, c = machines
    await a.new("1", 5001)
    await a.host.begin(User("1"))
    with site.away():
        await a.host.begin(User("1"))
        await asyncio.sleep(TTL_S + FAILOVER_AFTER_S + 1)
        assert (b.has, c.has) == ([], [])
        assert b.host.standing.recent is not None
    await until(lambda: not a.store.unsent.is_set(), "what was kept meanwhile")
    row = next(row for row in (await site.engine().state()).rows if row.user == "1")
    assert (row.runs, row.host) == (2, "a")
    assert (b.has, c.has) == ([], [])


async def put_back(site):
    """Return what the engine says once all hosts have put back what they hold."""
    engine = site.engine()

    async def settled():
        with contextlib.suppress(EngineUnavailable):
            state = await engine.state()
            return state.settled and state
        return None

    return await until(settled, "the settlement")


async def test_an_engine_from_a_backup_gets_back_who_was_moved_made_and_deleted_since(machines, site):
    a, b, c = machines
    for number in (1, 2):
        await a.new(str(number), 5000 + number)
    saved = site.save()
    lease = a.lease
    await a.power_off()
    await until(lambda: len(b.users.running) + len(c.users.running) == 2, "the takeover")
    taker = b if "1" in b.users.running else c
    await taker.new("3", 5003)
    other = c if taker is b else b
    await other.new("4", 5004)
    other.users.running.pop(User("4"))
    await other.store.remove(User("4"))
    before = {each.name: each.has for each in (b, c)}
    site.restore(saved)  # which has a's lease, and says that a has both users
    a.lease = lease
    state = await put_back(site)
    owners = {row.user: row.host for row in state.rows}
    assert owners == {user: name for name, users in before.items() for user in users}
    assert {each.name: each.has for each in (b, c)} == before


@pytest.mark.parametrize("its_id", ["the same", "another"])
async def test_an_engine_that_was_set_up_again_gets_back_hosts_and_users(machines, site, its_id):
    a, b, c = machines
    for number, machine in enumerate((a, b, c), 1):
        await machine.new(str(number), 5000 + number)
    site.cluster.set_up_again(site.cluster.token if its_id == "the same" else "a new one")
    for machine in machines:
        await machine.end("keeper")
        await machine.keep()
    state = await put_back(site)
    assert [(host.name, host.alive) for host in state.hosts] == [("a", True), ("b", True), ("c", True)]
    assert {row.user: row.host for row in state.rows} == {"1": "a", "2": "b", "3": "c"}
    await a.new("4", 5004)
    assert [machine.has for machine in machines] == [["1", "4"], ["2"], ["3"]]


async def test_a_host_of_its_own_becomes_one_of_a_fleet_with_its_users(machines, site, tmp_path):
    late = Machine(site, "d", tmp_path / "d")
    local = await SqliteStore.open(late.folder / "waportd.db")
    await local.put([Assignment(User("9"), Port(5009), linked=True, created_at=3.0)])
    await local.close()
    engine = site.engine()
    await engine.describe(Host("d", "192.0.2.4:7467", HostState.ACTIVE, "2.0.0", 100, 1.5, False, None))
    await late.keep()
    await late.serve(established=False)
    try:

        async def is_known():
            return next((row for row in (await engine.state()).rows if row.user == "9"), None)

        row = await until(is_known, "its user")
        assert (row.host, assignment_of(row).linked) == ("d", True)
        assert late.has == ["9"]
        assert "this host is new" in late.host.standing.newcomer
    finally:
        await late.power_off()


async def test_a_row_that_nobody_here_made_is_taken_in(machines):
    """The call that made it was not answered, or another host has moved it here."""
    a, b, _ = machines
    await a.new("1", 5001)
    moved = await a.engine.move(a.lease, a.store.rows["1"], "b")
    await until(lambda: b.has == ["1"] and a.has == [], "both ends of the move")
    assert b.store.rows["1"] == moved
    lost = dataclasses.replace(moved, user="2", port=5002, revision=0)
    await b.engine.create(b.lease, lost)
    await until(lambda: b.has == ["1", "2"], "what was made without an answer")


async def described(engine, name, state):
    """Change what an administrator wants of a host."""
    [host] = [host for host in (await engine.state()).hosts if host.name == name]
    await engine.describe(dataclasses.replace(host, state=state))


async def test_the_users_of_a_host_that_drains_go_to_the_others_and_stay_there(machines, site):
    a, b, c = machines
    for number in range(1, 9):
        await a.new(str(number), 5000 + number)
    before, engine = a.users.running.copy(), site.engine()
    await described(engine, "a", HostState.DRAINING)
    await until(lambda: not a.has and len(b.has) + len(c.has) == 8, "the drain")
    assert {**b.users.running, **c.users.running} == before
    assert sorted(a.saved) == sorted(before)
    await described(engine, "a", HostState.ACTIVE)
    await asyncio.sleep(2)
    assert a.has == []


async def test_a_user_goes_where_an_order_says_and_back(machines, site):
    a, b, c = machines
    await a.new("1", 5001)
    engine = site.engine()
    given = await engine.order(Order("1", "b", a.store.rows["1"].token))
    await until(lambda: (a.has, b.has) == ([], ["1"]), "the move")
    await engine.order(Order("1", "a", b.store.rows["1"].token, revision=given.revision))
    await until(lambda: (a.has, b.has, c.has) == (["1"], [], []), "the move back")


async def test_while_the_engine_is_away_a_drain_stands_still_and_continues_then(machines, site):
    a, b, c = machines
    for number in range(1, 7):
        await a.new(str(number), 5000 + number)
    await described(site.engine(), "a", HostState.DRAINING)
    await until(lambda: b.has or c.has, "the first move")
    with site.away():
        await asyncio.sleep(3)  # what was under way has ended
        moved = b.has + c.has
        await asyncio.sleep(2)
        assert b.has + c.has == moved
        assert not set(a.has) & set(moved)
    await until(lambda: not a.has and len(b.has) + len(c.has) == 6, "the rest of the drain")
