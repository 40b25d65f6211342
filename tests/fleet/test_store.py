"""The store of a host of a fleet, on its own disk and on a real etcd."""

import contextlib
import dataclasses
import json
import sqlite3

import pytest

from waportd import errors
from waportd.errors import NotHere, StoreError
from waportd.fleet.chunks import FleetKeys
from waportd.fleet.engine import EngineUnavailable, LeaseLost, Row, Unsettled
from waportd.fleet.record import assignment_of
from waportd.fleet.sealing import Sealing
from waportd.fleet.store import FleetStore, read_members
from waportd.model import Assignment, Desired, Event, Port, Storage, User
from waportd.store import SqliteStore

RELEASE = "bookworm"
TTL_S = 60.0


def new(user="1", port=5001, **values):
    return Assignment(User(user), Port(port), created_at=12.5, **values)


KEYS = FleetKeys.create()


def user_of(row):
    return assignment_of(row, Sealing(KEYS))


FULL = new(
    linked=True,
    desired=Desired.STOPPED,
    autostart=False,
    webhook_url="http://192.0.2.7/hook",
    webhook_secret=("first", "second"),
    webhook_events=(Event("message"),),
    default_country="55",
    send_rate=20,
    memory_max=512 * 1024 * 1024,
    engine="1.34.6",
    proxy="http://name:word@192.0.2.8:3128",
    note="moved here from port 5002",
    linked_at=99.25,
)


class Host:
    """A host with a lease, its engine and its disk."""

    def __init__(self, site, name, folder):
        self.site, self.name, self.folder = site, name, folder
        self.engine = site.engine()
        self.lease = None
        self.store = None

    async def start(self):
        self.lease = self.lease or await self.engine.acquire(self.name, TTL_S)
        await self.engine.state()
        return await self.restart()

    async def restart(self, wrapped=lambda engine: engine):
        if self.store:
            await self.store.close()
        self.folder.mkdir(exist_ok=True)
        self.local = await SqliteStore.open(self.folder / "waportd.db")
        self.store = FleetStore(self.local, wrapped(self.engine), self.held, Sealing(KEYS))
        return await self.store.load()

    def held(self):
        if self.lease is None:
            raise LeaseLost("this host holds no lease")
        return self.lease

    async def rows(self):
        return {row.user: row for row in (await self.engine.state()).rows}


@pytest.fixture
async def hosts(site, tmp_path):
    """Two hosts of a fleet that is settled."""
    both = [Host(site, name, tmp_path / name) for name in ("a", "b")]
    for host in both:
        await host.start()
    await both[0].engine.settle(both[0].lease)
    yield both
    for host in both:
        await host.store.close()


@pytest.fixture
def host(hosts):
    return hosts[0]


async def taken(here, there):
    """Have another host take user 1, as when this one is dead; return the row."""
    await here.engine.release(here.lease)
    return await there.engine.move(there.lease, here.store.rows["1"], there.name)


class LosesAnswers:
    """An engine whose answers to some calls are lost on their way: what was asked for happens."""

    def __init__(self, engine, *calls):
        self._engine, self._calls = engine, calls

    def __getattr__(self, name):
        call = getattr(self._engine, name)
        if name not in self._calls:
            return call

        async def lost(*arguments):
            await call(*arguments)
            raise EngineUnavailable("the answer was lost")

        return lost


class TestNewUsers:
    @pytest.mark.parametrize("assignment", [new(), FULL])
    async def test_the_next_owner_finds_all_that_it_needs(self, host, assignment):
        await host.store.put([assignment])
        row = (await host.rows())["1"]
        assert (row.host, row.port) == ("a", 5001)
        assert user_of(row) == assignment

    async def test_what_means_nothing_elsewhere_stays_here(self, host):
        storage = Storage(login=1, cache=2, journal=3, measured_at=7.0)
        here = new(socket_boot="boot", storage=storage)
        await host.store.put([here])
        before = (await host.rows())["1"]
        assert user_of(before) == new()
        await host.store.put([dataclasses.replace(here, socket_boot="another")])
        assert not host.store.unsent.is_set()
        assert (await host.rows())["1"] == before
        [read] = await host.restart()
        assert (read.socket_boot, read.storage) == ("another", storage)

    async def test_a_name_and_a_port_of_another_host_are_refused(self, hosts):
        here, there = hosts
        await there.store.put([new()])
        with pytest.raises(NotHere, match="user 1 is on host b, on port 5001"):
            await here.store.put([new(port=5002)])
        with pytest.raises(NotHere, match="port 5001 is that of user 1"):
            await here.store.put([new("2")])
        assert await here.restart() == []
        await here.store.put([new("2", 5002)])

    async def test_one_whose_answer_was_lost_is_there_when_it_is_asked_for_again(self, host):
        await host.restart(lambda engine: LosesAnswers(engine, "create"))
        with pytest.raises(EngineUnavailable):
            await host.store.put([new()])
        await host.restart()
        await host.store.put([new(note="asked again")])
        await host.store.send()
        assert user_of((await host.rows())["1"]).note == "asked again"

    async def test_none_is_made_without_engine_or_lease(self, host, site):
        with site.away(), pytest.raises(EngineUnavailable):
            await host.store.put([new()])
        host.lease = None
        with pytest.raises(LeaseLost):
            await host.store.put([new()])
        assert await host.restart() == []


class TestChanges:
    async def test_one_is_kept_at_once_and_sent_later(self, host, site):
        await host.store.put([new()])
        with site.away():
            await host.store.put([new(linked=True)])
            with pytest.raises(EngineUnavailable):
                await host.store.send()
            assert await host.restart() == [new(linked=True)]
        assert host.store.unsent.is_set()
        await host.store.send()
        assert not host.store.unsent.is_set()
        assert user_of((await host.rows())["1"]) == new(linked=True)

    async def test_one_whose_answer_was_lost_is_made_once(self, host):
        await host.store.put([new()])
        await host.restart(lambda engine: LosesAnswers(engine, "update"))
        await host.store.put([new(linked=True)])
        with pytest.raises(EngineUnavailable):
            await host.store.send()
        await host.restart()
        await host.store.put([new(linked=True, note="later")])
        await host.store.send()
        row = (await host.rows())["1"]
        assert user_of(row) == new(linked=True, note="later")
        assert host.store.rows["1"] == row

    async def test_one_that_is_made_while_another_is_sent_is_sent_too(self, host):
        class Changing:
            def __init__(self, engine):
                self._engine = engine

            def __getattr__(self, name):
                return getattr(self._engine, name)

            async def update(self, lease, row):
                if not row.document.get("note"):
                    await host.store.put([new(linked=True, note="meanwhile")])
                return await self._engine.update(lease, row)

        await host.store.put([new()])
        await host.restart(Changing)
        await host.store.put([new(linked=True)])
        await host.store.send()
        assert host.store.unsent.is_set()
        await host.store.send()
        assert user_of((await host.rows())["1"]).note == "meanwhile"

    async def test_one_of_a_user_who_was_taken_changes_nothing(self, hosts):
        here, there = hosts
        await here.store.put([new()])
        moved = await taken(here, there)
        here.lease = await here.engine.acquire("a", TTL_S)
        await here.store.put([new(linked=True)])
        await here.store.send()
        assert (await there.rows())["1"] == moved

    async def test_what_a_newer_waportd_wrote_stays(self, host):
        await host.store.put([new()])
        row = host.store.rows["1"]
        document = {**row.document, "colour": "green"}
        newer = await host.engine.update(host.lease, dataclasses.replace(row, document=document))
        await host.store.adopt(newer)
        await host.store.put([new(linked=True)])
        await host.store.send()
        assert (await host.rows())["1"].document == {**document, "linked": 1}

    async def test_a_port_does_not_change(self, host):
        await host.store.put([new()])
        for other in (new(port=5002), new(moving_to=Port(5002))):
            with pytest.raises(errors.Conflict, match="in which a port does not change") as caught:
                await host.store.put([other])
            assert "--to HOST" in caught.value.hint
        assert await host.restart() == [new()]


class TestDeletions:
    async def test_one_holds_in_the_whole_fleet(self, host):
        await host.store.put([new()])
        await host.store.remove(User("1"))
        await host.store.remove(User("1"))
        state = await host.engine.state()
        assert (state.rows, list(state.tombstones)) == ((), ["1"])
        assert await host.restart() == []

    async def test_one_waits_for_the_engine(self, host, site):
        await host.store.put([new()])
        with site.away(), pytest.raises(EngineUnavailable):
            await host.store.remove(User("1"))
        assert await host.restart() == [new()]
        await host.store.remove(User("1"))

    async def test_a_user_who_was_taken_is_not_deleted_from_here(self, hosts):
        here, there = hosts
        await here.store.put([new()])
        await taken(here, there)
        with pytest.raises(NotHere, match="user 1 belongs to host b"):
            await here.store.remove(User("1"))
        assert "1" in await there.rows()


class TestStarts:
    async def test_each_is_counted(self, host):
        await host.store.put([new()])
        for _ in range(3):
            await host.store.count_start(User("1"))
        assert (await host.rows())["1"].runs == 3

    async def test_while_the_engine_is_away_the_lease_alone_decides(self, host, site):
        await host.store.put([new()])
        with site.away():
            await host.store.count_start(User("1"))
            await host.restart()
            assert host.store.rows["1"].runs == 1
        await host.store.send()
        assert (await host.rows())["1"].runs == 1
        host.lease = None
        with pytest.raises(LeaseLost):
            await host.store.count_start(User("1"))

    async def test_one_of_a_user_who_was_taken_is_refused(self, hosts):
        here, there = hosts
        await here.store.put([new()])
        await taken(here, there)
        here.lease = await here.engine.acquire("a", TTL_S)
        with pytest.raises(NotHere):
            await here.store.count_start(User("1"))

    async def test_no_count_goes_back(self, host):
        """A folder that lags behind its count is an old copy of the login."""
        await host.store.put([new()])
        await host.restart(lambda engine: LosesAnswers(engine, "update"))
        await host.store.count_start(User("1"))
        await host.restart()
        await host.store.count_start(User("1"))
        assert (await host.rows())["1"].runs == 2


class TestAnEngineThatForgot:
    async def test_what_this_host_holds_is_put_back_and_what_it_deleted_is_known(self, host, site):
        await host.store.put([new(), new("2", 5002)])
        saved = site.save()
        await host.store.put([new("3", 5003)])
        await host.store.remove(User("2"))
        await host.store.count_start(User("1"))
        site.restore(saved)  # with it, the lease
        await host.restart()
        with pytest.raises(Unsettled):
            await host.store.count_start(User("1"))
        await host.engine.state()
        await host.store.reclaim()
        rows = await host.rows()
        assert (rows["1"].runs, rows["3"].host) == (2, "a"), "a start that was refused counts, too"
        assert [user for user, row in rows.items() if host.store.was_deleted(row)] == ["2"]
        # One of that name who is new is another.
        await host.engine.settle(host.lease)
        await host.engine.delete(rows["2"])
        await host.store.put([new("2", 5002)])
        assert not host.store.was_deleted((await host.rows())["2"])


class TestThisDisk:
    async def test_users_from_before_the_fleet_are_made_known(self, host):
        """The host had a store of its own: its users keep name, port and settings."""
        await host.store.close()
        host.store = None
        local = await SqliteStore.open(host.folder / "waportd.db")
        await local.put([FULL, new("2", 5002)])
        await local.close()
        assert await host.restart() == [FULL, new("2", 5002)]
        await host.store.send()
        row = (await host.rows())["1"]
        assert user_of(row) == FULL
        written = json.dumps(row.document)
        assert not any(secret in written for secret in ("192.0.2.7", "first", "second", "word", "192.0.2.8"))

    async def test_damage_is_found(self, host):
        await host.store.put([new()])
        with contextlib.closing(sqlite3.connect(host.folder / "waportd.db")) as db, db:
            db.execute("UPDATE fleet_row SET row = replace(row, '5001', '5009')")
        with pytest.raises(StoreError, match="of user 1 in the fleet is not what was written"):
            await host.restart()

    async def test_a_host_that_has_just_joined_knows_nobody(self, host):
        assert await read_members(host.local) == (False, frozenset())
        await host.store.note_members(True, frozenset({"a", "b"}))
        await host.restart()
        assert await read_members(host.local) == (True, frozenset({"a", "b"}))

    async def test_an_old_word_of_the_engine_changes_nothing(self, host):
        await host.store.put([new()])
        old = host.store.rows["1"]
        await host.store.count_start(User("1"))
        await host.store.note(old)
        assert host.store.rows["1"].runs == 1

    async def test_a_row_that_cannot_be_read_is_named(self):
        for document in ({}, {"desired": "dancing", "linked": 0, "autostart": 1, "created_at": 1.0}):
            with pytest.raises(EngineUnavailable, match="the row of user 7") as caught:
                user_of(Row("7", 5007, "a", document=document))
            assert "upgrade waportd" in caught.value.hint
