"""Users who leave a host that lives: their moves, and where they are when something fails at any moment.

What runs is played: a user runs where a host has begun a session under its lease, and not ended it. Disks are real.
"""

import asyncio

import pytest
from memory_engine import COMING, GOING, Client, MemoryEngine, unanswered

from waportd.concurrency import Background, KeyedLocks
from waportd.errors import WaportdError
from waportd.fleet.agent import Agent
from waportd.fleet.boot_clock import BootClock
from waportd.fleet.engine import EngineUnavailable, HostState, LeaseLost, Order
from waportd.fleet.host import FleetHost, Leaving
from waportd.fleet.lease import Held, LeaseFolder, OwnLease
from waportd.fleet.membership import Membership
from waportd.fleet.moves import Moves
from waportd.fleet.store import NotHere
from waportd.model import Assignment, Port, User
from waportd.store import SqliteStore

TTL_S = 45.0


class Sessions:
    """Takes the place of the supervisor, and of what systemd runs, which outlives the daemon."""

    def __init__(self, machine):
        self._machine = machine
        self.known = set()
        self._background = Background()
        self._locks = KeyedLocks()

    async def _start(self, user):
        async with self._locks[user]:
            if user not in self.known:
                return
            try:
                await self._machine.host.begin(user)
                self._machine.host.environments().write(Port(5000 + int(user)), "")
            except WaportdError as error:
                self._machine.refused.append(type(error))
            else:
                self._machine.running.add(user)
                self._machine.fleet.look()

    async def gain(self, assignment):
        self.known.add(assignment.user)
        await self._start(assignment.user)

    async def clean(self, port):
        """Nothing: the sessions here keep no files."""

    async def lose(self, user):
        self.known.discard(user)
        self._machine.running.discard(user)

    def pause(self):
        """Nothing: these sessions end with the machine."""

    async def resume(self, lease):
        for user in sorted(self.known - self._machine.running):
            await self._start(user)

    async def give(self, user, hand_over):
        is_gone = False
        try:
            async with self._locks[user]:
                await self._machine.reaches("stop")
                self._machine.host.environments().remove(Port(5000 + int(user)))
                self._machine.running.discard(user)
                is_gone = await hand_over()
                if is_gone:
                    self.known.discard(user)
        finally:
            if not is_gone:
                self.stay(user)
        return is_gone

    def stay(self, user):
        self._background.run(self._start(user), f"start {user}")

    async def idle(self):
        await self._background.idle()

    async def close(self):
        await self._background.close()


def users_who_come():
    """Return what the agents do in the background for users who are new on their host."""
    return {task for task in asyncio.all_tasks() if task.get_name().startswith("take in user")}


class Machine:
    """One host. `look` is one round of its daemon, which is there until `kill`."""

    def __init__(self, fleet, name, folder):
        self.fleet, self.name, self.folder = fleet, name, folder
        (folder / "run").mkdir(parents=True)
        self.lease = fleet.engine.acquire(name)
        self.running, self.refused, self.saved = set(), [], []
        self.cannot_save = None
        self.at_once = 9
        self.points, self.dies_at, self.dead = [], None, asyncio.Event()
        clock = BootClock()
        with LeaseFolder(folder / "run") as run:
            run.keep(Held(self.lease, clock.now_s() + 1_000, clock.boot_id()))

    async def boot(self):
        self.client = Client(self.fleet.engine)
        self.client.noticed = lambda call, way: self.reaches(f"{call} {way}")
        self.own = OwnLease(self.folder / "run", BootClock())
        local = await SqliteStore.open(self.folder / "waportd.db")
        membership = Membership(self.name, ttl_s=TTL_S, failover_after_s=15.0, established=True)
        self.host = FleetHost(self.name, self.client, local, self.own, membership, lambda: self.fleet.now_s)
        self.sessions = Sessions(self)
        self.sessions.known = {one.user for one in await self.host.store.load()}
        self.moves = Moves(self.client, self.host.store, self.sessions, lambda: self.at_once, self.save)
        self.agent = Agent(self.host, self.sessions, self.moves)
        return self

    async def save(self, user):
        await self.reaches("save")
        assert user not in self.running, "the last snapshot is that of a session that has ended"
        if self.cannot_save:
            raise self.cannot_save
        self.saved.append(user)

    async def reaches(self, point):
        """Come to a moment at which the daemon may be killed; there it stands still."""
        self.points.append(point)
        if self.dies_at == len(self.points):
            self.dead.set()
            await asyncio.Event().wait()

    async def look(self):
        await self.host.follower.refresh()
        await self.agent.look()

    async def round(self):
        """Look, and wait for the end of what that begins. A daemon that is killed does not come so far."""

        async def all_of_it():
            await self.look()
            await self.moves.idle()
            if coming := users_who_come():
                await asyncio.wait(coming)
            await self.sessions.idle()

        tasks = {asyncio.create_task(all_of_it()), asyncio.create_task(self.dead.wait())}
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.wait(tasks)
        for task in done:
            task.result()

    async def kill(self):
        """End the daemon at once; sessions run on."""
        for task in users_who_come():
            task.cancel()
        await self.moves.close()
        await self.sessions.close()
        self.own.close()
        await self.host.store.close()
        self.dies_at, self.dead = None, asyncio.Event()

    def loses_power(self):
        self.running.clear()
        self.fleet.engine.lose(self.name)


class Fleet:
    """Three hosts, of which the first has users; who runs twice at any moment is noticed."""

    def __init__(self, folder):
        self.engine, self.now_s = MemoryEngine(), 1_000.0
        self.machines = {name: Machine(self, name, folder / name) for name in "abc"}
        for name in "abc":
            self.engine.set_up(name)

    def look(self):
        all_running = [user for machine in self.machines.values() for user in machine.running]
        assert len(all_running) == len(set(all_running)), "a session runs on two hosts"

    async def add(self, *users, linked=True):
        a = self.machines["a"]
        for user in users:
            new = Assignment(User(user), Port(5000 + int(user)), linked=linked, created_at=1.0)
            await a.host.store.put([new])
            await a.sessions.gain(new)

    async def rounds(self, count=3):
        for _ in range(count):
            for machine in self.machines.values():
                await machine.round()

    def drain(self, name="a"):
        self.engine.set_up(name, HostState.DRAINING)

    def order(self, user, host):
        seen = self.engine.state.orders.get(user)
        return self.engine.order(
            Order(user, host, self.engine.row(user).token, revision=seen.revision if seen else 0)
        )

    def where(self):
        """Return which host runs each user; it must be the owner."""
        running = {user: name for name, machine in self.machines.items() for user in sorted(machine.running)}
        assert {user: self.engine.owners()[user] for user in running} == running
        return running


@pytest.fixture
async def fleet(tmp_path):
    fleet = Fleet(tmp_path)
    for machine in fleet.machines.values():
        await machine.boot()
        await machine.round()
    yield fleet
    for machine in fleet.machines.values():
        await machine.kill()


@pytest.fixture
def a(fleet):
    return fleet.machines["a"]


async def test_all_users_of_a_host_that_drains_run_on_the_others_with_their_last_snapshot(fleet, a):
    await fleet.add(*"123456")
    fleet.drain()
    await fleet.rounds()
    assert set(fleet.where()) == set("123456")
    assert set(fleet.where().values()) == {"b", "c"}
    assert sorted(a.saved) == list("123456")
    assert (a.running, a.sessions.known, a.host.store.rows) == (set(), set(), {})
    assert all(row.runs == 2 for row in fleet.engine.state.rows), "what the owner counted goes along"


async def test_a_port_is_let_go_of_before_its_user_is_taken_in(fleet, a):
    class Ports:
        """This host forwards the ports of other hosts' users: systemd could not hold it."""

        def release(self, port):
            assert port == 5001
            released.append(set(b.sessions.known))
            assert "1" in b.host.store.rows, "it would be forwarded again"

    released, b = [], fleet.machines["b"]
    b.agent = Agent(b.host, b.sessions, b.moves, ports=Ports())
    await fleet.add("1")
    fleet.order("1", "b")
    await fleet.rounds()
    assert (fleet.where(), released) == ({"1": "b"}, [set()])


async def test_few_are_under_way_at_once_and_the_agent_waits_for_none(fleet, a):
    await fleet.add(*"12345")
    a.at_once = 2
    going = asyncio.Event()

    async def wait(_call):
        await going.wait()

    a.client.faults["move", GOING] = wait
    fleet.drain()
    async with asyncio.timeout(5):
        await a.look()
        while a.points.count("move going") < 2:
            await asyncio.sleep(0.01)
        await a.look()
    assert (len(a.moves.under_way), len(a.running)) == (2, 3)
    going.set()
    a.at_once = 9
    await fleet.rounds()
    assert "a" not in fleet.where().values()


async def test_who_was_ordered_to_a_host_runs_there_and_nobody_else_moves(fleet):
    await fleet.add(*"123")
    fleet.order("2", "c")
    await fleet.rounds()
    assert fleet.where() == {"1": "a", "2": "c", "3": "a"}
    fleet.order("2", "a")
    await fleet.rounds()
    assert fleet.where()["2"] == "a"


async def test_a_host_that_is_active_again_keeps_who_is_left(fleet, a):
    await fleet.add(*"1234")
    a.at_once = 2
    fleet.drain()
    await fleet.rounds(1)
    fleet.engine.set_up("a")
    await fleet.rounds()
    assert list(fleet.where().values()).count("a") == 2


async def test_whose_last_snapshot_is_not_kept_stays_and_the_order_says_why(fleet, a):
    await fleet.add("1")
    await fleet.add("2", linked=False)
    a.cannot_save = WaportdError("the store is full", hint="make room")
    fleet.drain()
    await fleet.rounds()
    where = fleet.where()
    assert where["1"] == "a"
    assert where["2"] != "a", "who was never linked has nothing to lose"
    assert fleet.engine.state.orders["1"].failed == "the store is full"
    begun = a.points.count("stop")
    await fleet.rounds()
    assert a.points.count("stop") == begun, "no session is stopped again for nothing"
    a.cannot_save = None
    fleet.order("1", "a")  # as a new `host drain` does
    await fleet.rounds()
    assert fleet.where()["1"] != "a"


async def test_what_nobody_has_foreseen_does_not_stop_a_session_again_and_again(fleet, a):
    await fleet.add("1")
    a.cannot_save = OSError(28, "No space left on device")
    fleet.order("1", "b")
    await fleet.rounds()
    assert fleet.where() == {"1": "a"}
    assert a.points.count("stop") == 1
    assert fleet.engine.state.orders["1"].failed == "an unexpected error"


async def test_where_logins_do_not_move_who_has_one_stays_and_is_not_stopped(fleet, a):
    await fleet.add("1")
    await fleet.add("2", linked=False)
    a.moves = Moves(a.client, a.host.store, a.sessions, lambda: 9, save=None)
    a.agent = Agent(a.host, a.sessions, a.moves)
    fleet.drain()
    await fleet.rounds()
    assert fleet.where()["1"] == "a"
    assert fleet.where()["2"] != "a"
    assert "would have to scan a code again" in fleet.engine.state.orders["1"].failed
    assert a.points.count("stop") == 1


async def test_an_order_to_a_host_that_takes_nobody_is_not_done_and_says_why(fleet, a):
    await fleet.add("1")
    fleet.drain("c")
    fleet.order("1", "c")
    await fleet.rounds()
    assert fleet.where() == {"1": "a"}
    assert fleet.engine.state.orders["1"].failed == "c is draining"
    assert "stop" not in a.points


async def test_when_the_target_dies_before_the_move_the_user_runs_on_here_and_goes_elsewhere(fleet, a):
    await fleet.add("1")
    target = None

    async def die(_call):
        target = next(iter(a.moves.under_way.values()))
        fleet.machines[target].loses_power()
        del a.client.faults["move", GOING]

    a.client.faults["move", GOING] = die
    fleet.drain()
    await a.round()
    await a.round()
    assert fleet.where() == {"1": "a"}
    assert "lease" in fleet.engine.state.orders["1"].failed
    target = fleet.engine.state.orders["1"].host
    del fleet.machines[target]
    fleet.order("1", "a")
    await fleet.rounds()
    assert set(fleet.where().values()) == set(fleet.machines) - {"a"}


async def test_when_the_target_dies_after_the_move_the_user_is_taken_over(fleet, a):
    await fleet.add("1")
    fleet.order("1", "b")
    await a.round()
    b = fleet.machines.pop("b")
    b.loses_power()
    await fleet.rounds(1)
    assert fleet.where() == {}
    for _ in range(30):
        fleet.now_s += 5.0
        await fleet.rounds(1)
    assert set(fleet.where()) == {"1"}
    await b.kill()


async def test_while_the_engine_is_away_nobody_is_stopped_and_who_has_moved_stays_there(fleet, a):
    await fleet.add(*"1234")
    a.at_once = 2
    fleet.drain()
    await a.round()
    await fleet.machines["b"].round()
    await fleet.machines["c"].round()
    before = fleet.where()
    assert list(before.values()).count("a") == 2
    a.client.away = True
    with pytest.raises(EngineUnavailable):
        await a.agent.look()
    assert fleet.where() == before
    a.client.away = False
    await fleet.rounds()
    assert "a" not in fleet.where().values()


@pytest.mark.parametrize("happens", ["never", "late", "unheard"])
async def test_while_it_is_not_known_whose_a_user_is_nothing_of_the_user_starts(fleet, a, happens):
    await fleet.add("1")
    fault = {
        "never": ("move", GOING, unanswered),
        "late": ("move", GOING, lambda call: asyncio.sleep(0, a.client.hold(call))),
        "unheard": ("move", COMING, unanswered),
    }[happens]
    a.client.faults[fault[:2]] = fault[2]
    a.client.faults["update", GOING] = unanswered
    fleet.order("1", "b")
    await a.round()
    if happens != "unheard":  # the next state says it
        with pytest.raises(EngineUnavailable):
            await a.round()
    assert (a.running, a.refused) == (set(), [Leaving])
    with pytest.raises(Leaving):
        await a.host.begin(User("1"))
    # Nor after a crash.
    await a.kill()
    await a.boot()
    a.client.faults["update", GOING] = unanswered
    if happens != "unheard":
        with pytest.raises(EngineUnavailable):
            await a.round()
        with pytest.raises(Leaving):
            await a.host.begin(User("1"))
    a.client.faults.clear()
    if happens == "late":
        fleet.engine.deliver()
    await fleet.rounds()
    assert set(fleet.where()) == {"1"}
    if happens != "never":
        assert fleet.where() == {"1": "b"}


async def test_a_move_that_happens_late_finds_that_the_user_has_stayed(fleet, a):
    await fleet.add("1")
    a.client.faults["move", GOING] = lambda call: asyncio.sleep(0, a.client.hold(call))
    fleet.order("1", "b")
    await a.round()
    a.client.faults.clear()
    await a.round()
    assert fleet.where() == {"1": "a"}
    fleet.engine.deliver()
    await fleet.rounds()
    assert set(fleet.where()) == {"1"}


async def clean_run(fleet, a):
    a.points.clear()
    fleet.order("1", "b")
    await a.round()
    return list(a.points)


async def test_a_daemon_that_is_killed_at_any_moment_leaves_the_user_on_one_host(tmp_path):
    """And the move happens when the daemon is back."""
    points = ["the first"]
    number = 0
    while number < len(points):
        number += 1
        fleet = Fleet(tmp_path / str(number))
        for machine in fleet.machines.values():
            await machine.boot()
            await machine.round()
        a = fleet.machines["a"]
        await fleet.add("1")
        if number == 1:
            points = await clean_run(fleet, a)
            assert {"stop", "save", "move going", "move coming"} <= set(points)
        else:
            a.points.clear()
            a.dies_at = number - 1
            fleet.order("1", "b")
            await a.round()
            await a.kill()
            for name in ("b", "c"):
                await fleet.machines[name].round()
            fleet.look()
            await a.boot()
        await fleet.rounds()
        assert fleet.where() == {"1": "b"}, points[number - 2]
        for machine in fleet.machines.values():
            await machine.kill()


async def test_a_host_that_loses_its_lease_in_the_middle_moves_nobody(fleet, a):
    await fleet.add("1")

    async def lose(_call):
        fleet.engine.lose("a")

    a.client.faults["move", GOING] = lose
    fleet.order("1", "b")
    await a.round()
    assert fleet.engine.owners() == {"1": "a"}
    a.client.faults.clear()
    with pytest.raises(LeaseLost):
        await a.round()
    assert not a.running


async def test_who_is_another_hosts_already_is_not_given(fleet, a):
    await fleet.add("1")
    await a.host.store.give(User("1"), "b")
    with pytest.raises(NotHere):
        await a.host.store.give(User("1"), "c")
    await fleet.rounds()
    assert fleet.where() == {"1": "b"}
