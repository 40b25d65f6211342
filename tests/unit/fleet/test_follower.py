"""The newest state of the fleet, made of what was read and of each change since."""

import asyncio
import contextlib
import dataclasses

import pytest

from waportd.fleet.engine import (
    EngineUnavailable,
    Fact,
    FactChanged,
    LeaseChanged,
    Reset,
    Row,
    RowChanged,
    State,
    TombstoneChanged,
)
from waportd.fleet.follower import Follower
from waportd.fleet.membership import Membership

READ = State((), (Row("1", 5001, "a", 3, revision=3),), 3, "e", settled=True)


class Engine:
    """Says what a test says: the state that is read, and changes after it."""

    def __init__(self):
        self.read, self.reads = READ, 0
        self.changes = asyncio.Queue()

    async def state(self):
        self.reads += 1
        if isinstance(self.read, Exception):
            raise self.read
        return self.read

    async def watch(self, _revision):
        while not isinstance(change := await self.changes.get(), Reset):
            yield change
        yield change

    async def epoch(self):
        return self.read.epoch


class Followed:
    def __init__(self):
        self.engine = Engine()
        membership = Membership("a", ttl_s=1, failover_after_s=1)
        self.follower = Follower(self.engine, membership, lambda: 1.0)
        self.changed = self.follower.subscribe()

    async def says(self, *changes):
        """Have the engine report changes; return the state after them."""
        for change in changes:
            await self.engine.changes.put(change)
        async with asyncio.timeout(5):
            while not self.engine.changes.empty():
                await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        return self.follower.state


@pytest.fixture
async def followed(monkeypatch):
    monkeypatch.setattr("waportd.fleet.follower.RETRY_S", 0.01)
    followed = Followed()
    task = asyncio.create_task(followed.follower.run())
    async with asyncio.timeout(5):
        await followed.changed.wait()
    yield followed
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_all_changes_of_one_transaction_count(followed):
    # A deletion takes a row and leaves a tombstone, at one revision.
    state = await followed.says(RowChanged(4, "1", None), TombstoneChanged(4, "1", 3))
    assert (state.rows, state.tombstones, state.revision) == ((), {"1": 3}, 4)
    other = Row("2", 5002, "b", 5, revision=5)
    state = await followed.says(RowChanged(5, "2", other), FactChanged(5, "links", Fact("links", {}, 5)))
    assert (state.rows, list(state.facts)) == ((other,), ["links"])


async def test_what_was_read_with_the_rest_is_not_counted_again(followed):
    followed.engine.read = dataclasses.replace(READ, rows=(), revision=7)
    await followed.follower.refresh()
    state = await followed.says(RowChanged(6, "1", READ.rows[0]), RowChanged(7, "1", READ.rows[0]))
    assert (state.rows, state.revision) == ((), 7)
    state = await followed.says(RowChanged(8, "1", READ.rows[0]))
    assert (state.rows, state.revision) == (READ.rows, 8)


async def test_an_answer_that_was_overtaken_changes_nothing(followed):
    await followed.says(RowChanged(9, "1", None))
    followed.engine.read = dataclasses.replace(READ, revision=8)
    assert (await followed.follower.refresh()).rows == ()


async def test_a_thousand_changes_make_one_state(followed, monkeypatch):
    made = []
    after = State.after

    def counted(state, *events):
        made.append(len(events))
        return after(state, *events)

    monkeypatch.setattr(State, "after", counted)
    rows = [Row("1", 5001, "a", 3, runs=number, revision=number) for number in range(4, 1004)]
    state = await followed.says(*(RowChanged(row.revision, "1", row) for row in rows))
    assert (state.rows, made) == ((rows[-1],), [1000])
    assert followed.follower.state is state


async def test_each_change_is_noted_and_those_of_leases_reach_the_membership(followed):
    followed.changed.clear()
    state = await followed.says(LeaseChanged(4, "a", 4))
    assert followed.changed.is_set()
    assert state.leases == {"a": 4}


async def test_all_is_read_again_where_changes_were_missed(followed):
    followed.engine.read = dataclasses.replace(READ, rows=(), revision=20)
    state = await followed.says(RowChanged(4, "1", None), Reset("compacted"))
    async with asyncio.timeout(5):
        while followed.engine.reads < 2:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
    assert followed.follower.state.revision == 20
    assert state.rows == ()


async def test_an_engine_that_is_away_is_asked_again(followed):
    followed.engine.read = EngineUnavailable("no answer")
    await followed.says(Reset("compacted"))
    async with asyncio.timeout(5):
        while followed.engine.reads < 3:
            await asyncio.sleep(0.01)
    followed.engine.read = dataclasses.replace(READ, revision=30)
    async with asyncio.timeout(5):
        while followed.follower.state.revision != 30:
            await asyncio.sleep(0.01)
