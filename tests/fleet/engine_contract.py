"""What every engine of a fleet promises, as tests. An engine's own file inherits them, and gives a `site`."""

import asyncio
import contextlib
import dataclasses
import itertools
import time

import pytest

from waportd.fleet.engine import (
    Conflict,
    EngineUnavailable,
    EpochChanged,
    Fact,
    FactChanged,
    Host,
    HostChanged,
    HostState,
    LeaseChanged,
    LeaseLost,
    NameTaken,
    Order,
    OrderChanged,
    Reset,
    Row,
    RowChanged,
    TombstoneChanged,
    Unsettled,
)

TTL_S = 60.0
"""Longer than any test: what ends a lease here is a test that says so."""
PATIENCE_S = 60.0
SLACK_S = 3.0
"""Seconds by which a busy machine may exceed a limit."""


def row(user="1", port=5001, **values):
    return Row(user=user, port=port, **{"host": "", **values})


def host(name):
    return Host(name, "192.0.2.1:7467", HostState.ACTIVE, "2.0.0", 100, 1.5, alive=False, incarnation=None)


def content(state):
    """Return a state without its revision, which others of the same engine change, too."""
    return dataclasses.replace(state, revision=0)


class Fleet:
    """Hosts that hold leases, and what they read of the engine."""

    def __init__(self, engine):
        self.engine = engine
        self.leases = {}

    async def join(self, *names):
        for name in names:
            self.leases[name] = await self.engine.acquire(name, TTL_S)
        return [self.leases[name] for name in names]

    async def rows(self):
        return {one.user: one for one in (await self.engine.state()).rows}


async def read(changes, count):
    """Return the next changes of a watch."""
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(changes) for _ in range(count)]


class EngineContract:
    """Inherit it, and define the fixture `site`.

    ``site.engine(limit_s=…)`` returns another client of one engine that nobody else uses. ``site.interrupt()`` ends all
    connections and lets clients come back, ``site.compact(revision)`` forgets the changes before a revision,
    ``site.save()`` and ``site.restore(saved)`` are a backup; ``site.set_up_again()`` is an engine that knows nothing.
    """

    @pytest.fixture
    async def engine(self, site):
        return site.engine()

    @pytest.fixture
    async def fleet(self, engine):
        """Hosts a and b, in an epoch that is settled."""
        fleet = Fleet(engine)
        lease, _ = await fleet.join("a", "b")
        await engine.state()
        await engine.settle(lease)
        return fleet

    # Leases

    async def test_a_name_is_taken_while_its_host_lives(self, engine, site):
        lease = await engine.acquire("a", TTL_S)
        with pytest.raises(NameTaken, match="a host named a holds its lease") as caught:
            await site.engine().acquire("a", TTL_S)
        assert caught.value.retry_after == TTL_S
        assert "another name" in caught.value.hint
        await engine.renew(lease)

    async def test_each_lease_has_an_incarnation_of_its_own(self, engine):
        first = await engine.acquire("a", TTL_S)
        await engine.release(first)
        second = await engine.acquire("a", TTL_S)
        assert second.incarnation > first.incarnation
        with pytest.raises(LeaseLost, match="host a has lost its lease"):
            await engine.renew(first)
        await engine.renew(second)

    async def test_a_lease_that_nobody_renews_ends(self, engine, site):
        lease = await engine.acquire("a", 2)
        kept = await engine.acquire("b", 2)
        other = site.engine()
        async with asyncio.timeout(PATIENCE_S):
            while "a" in (await other.state()).leases:
                await other.renew(kept)  # as a peer does
                await asyncio.sleep(0.2)
        assert "b" in (await other.state()).leases
        with pytest.raises(LeaseLost):
            await engine.renew(lease)
        assert (await engine.acquire("a", 2)).incarnation > lease.incarnation

    async def test_a_host_keeps_no_lease_but_its_own(self, engine, site):
        """One that asks a peer says which lease it means, and the peer knows its name alone."""
        lease = await engine.acquire("a", 2)
        own = await engine.acquire("b", TTL_S)
        other = site.engine()
        async with asyncio.timeout(PATIENCE_S):
            while "a" in (await other.state()).leases:
                with pytest.raises(LeaseLost):
                    await other.renew(dataclasses.replace(own, id=lease.id))
                await asyncio.sleep(0.2)
        await engine.renew(own)

    async def test_a_lease_that_is_lost_can_be_given_up(self, engine):
        lease = await engine.acquire("a", TTL_S)
        await engine.release(lease)
        await engine.release(lease)

    async def test_of_many_who_want_a_name_one_gets_it(self, site):
        engines = [site.engine() for _ in range(4)]
        tries = [engine.acquire("a", TTL_S) for engine in engines for _ in range(5)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        [lease] = [result for result in results if not isinstance(result, NameTaken)]
        await engines[0].renew(lease)

    # Orders

    async def test_an_order_is_given_by_who_has_read_it_and_seen_by_all(self, fleet):
        engine = fleet.engine
        old = await engine.create(fleet.leases["a"], row())
        state = await engine.state()
        given = await engine.order(Order("1", "b", old.token))
        with pytest.raises(Conflict, match="another order was given for user 1"):
            await engine.order(Order("1", "c", old.token))
        failed = await engine.order(dataclasses.replace(given, failed="b is full"))
        assert (await engine.state()).orders == {"1": failed}
        async with contextlib.aclosing(engine.watch(state.revision)) as changes:
            assert await read(changes, 2) == [
                OrderChanged(given.revision, "1", given),
                OrderChanged(failed.revision, "1", failed),
            ]

    # Facts

    async def test_a_fact_is_written_by_who_has_read_it_and_seen_by_all(self, engine):
        state = await engine.state()
        new = await engine.write(Fact("tokens/1", {"name": "ü\n\u2028", "ends": None, "at": 1.5}))
        with pytest.raises(Conflict, match="tokens/1 was changed"):
            await engine.write(Fact("tokens/1", {}))
        changed = await engine.write(dataclasses.replace(new, value={"name": "b"}))
        with pytest.raises(Conflict):
            await engine.write(new)
        other = await engine.write(Fact("links", {}))
        now = await engine.state()
        assert now.facts == {"tokens/1": changed, "links": other}
        await engine.erase("tokens/1")
        await engine.erase("tokens/1")
        async with contextlib.aclosing(engine.watch(state.revision)) as changes:
            seen = await read(changes, 4)
        assert seen[:3] == [
            FactChanged(new.revision, "tokens/1", new),
            FactChanged(changed.revision, "tokens/1", changed),
            FactChanged(other.revision, "links", other),
        ]
        assert seen[3] == FactChanged(seen[3].revision, "tokens/1", None)
        for change in seen:
            state = state.after(change)
        assert state.facts == (await engine.state()).facts == {"links": other}
        with pytest.raises(Conflict, match="tokens/1 was changed"):
            await engine.write(changed)

    # Hosts

    async def test_a_host_is_described_by_who_has_read_it(self, engine):
        new = await engine.describe(host("a"))
        assert new == dataclasses.replace(host("a"), revision=new.revision)
        more = {"state": HostState.DRAINING, "held": (5001, 5007)}
        drained = await engine.describe(dataclasses.replace(new, **more))
        with pytest.raises(Conflict, match="host a was changed"):
            await engine.describe(dataclasses.replace(new, capacity=5))
        with pytest.raises(Conflict):
            await engine.describe(host("a"))
        assert (await engine.state()).hosts == (drained,)

    async def test_a_host_is_alive_while_it_holds_a_lease(self, engine):
        await engine.describe(host("a"))
        lease = await engine.acquire("a", TTL_S)
        [one] = (await engine.state()).hosts
        assert (one.alive, one.incarnation) == (True, lease.incarnation)
        await engine.release(lease)
        [one] = (await engine.state()).hosts
        assert (one.alive, one.incarnation) == (False, None)

    # Rows

    async def test_a_row_is_given_back_as_it_was_created(self, fleet):
        document = {"desired": "running", "note": "ü\n\u2028", "memory_max": 2**40, "webhook_url": None}
        new = row(runs=3, document=document, snapshot="1/5/ab", copies=("b", "c"))
        created = await fleet.engine.create(fleet.leases["a"], new)
        assert created == dataclasses.replace(new, host="a", token=created.token, revision=created.revision)
        assert created.token > 0
        assert await fleet.rows() == {"1": created}

    async def test_of_many_who_create_a_user_one_wins(self, fleet, site):
        engines = [fleet.engine, site.engine()]
        await engines[1].state()
        tries = [
            engines[number % 2].create(fleet.leases["ab"[number % 2]], row(port=5001 + number))
            for number in range(50)
        ]
        results = await asyncio.gather(*tries, return_exceptions=True)
        [won] = [result for result in results if not isinstance(result, Conflict)]
        assert await fleet.rows() == {"1": won}

    async def test_of_many_who_want_a_port_one_gets_it(self, fleet):
        tries = [fleet.engine.create(fleet.leases["ab"[n % 2]], row(str(n))) for n in range(50)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        [won] = [result for result in results if not isinstance(result, Conflict)]
        assert await fleet.rows() == {won.user: won}
        with pytest.raises(Conflict, match=f"port 5001 is that of user {won.user}"):
            await fleet.engine.create(fleet.leases["a"], row("another"))

    async def test_a_host_without_its_lease_changes_nothing(self, fleet):
        engine, stale = fleet.engine, fleet.leases["a"]
        mine = await engine.create(stale, row())
        dead = await engine.create(fleet.leases["b"], row("2", 5002))
        await engine.release(fleet.leases["b"])
        await engine.release(stale)
        await fleet.join("a")
        before = await engine.state()
        for call in (
            engine.create(stale, row("3", 5003)),
            engine.update(stale, dataclasses.replace(mine, runs=9)),
            engine.publish(stale, dataclasses.replace(mine, snapshot="x")),
            engine.move(stale, dead, "a"),
            engine.confirm(stale),
            engine.settle(stale),
        ):
            with pytest.raises(LeaseLost):
                await call
        assert content(await engine.state()) == content(before)

    async def test_an_owner_changes_its_row(self, fleet):
        old = await fleet.engine.create(fleet.leases["a"], row())
        wanted = dataclasses.replace(old, runs=1, document={"desired": "stopped"})
        new = await fleet.engine.update(fleet.leases["a"], wanted)
        assert new == dataclasses.replace(wanted, revision=new.revision)
        assert new.revision > old.revision
        assert await fleet.rows() == {"1": new}
        with pytest.raises(Conflict, match="was changed at revision"):
            await fleet.engine.update(fleet.leases["a"], dataclasses.replace(old, runs=7))
        assert await fleet.rows() == {"1": new}

    async def test_a_stale_owner_changes_nothing(self, fleet):
        """It lives, and has not heard that another host has taken the user."""
        engine, (a, b) = fleet.engine, fleet.leases.values()
        old = await engine.create(a, row())
        await engine.release(a)
        await engine.move(b, old, "b")
        [again] = await fleet.join("a")
        before = await engine.state()
        for call in (
            engine.update(again, dataclasses.replace(old, runs=9)),
            engine.publish(again, dataclasses.replace(old, snapshot="x")),
            engine.move(again, old, "b"),
            engine.delete(old),
        ):
            with pytest.raises(Conflict):
                await call
        assert content(await engine.state()) == content(before)

    async def test_no_port_is_taken_by_a_change(self, fleet):
        mine = await fleet.engine.create(fleet.leases["a"], row())
        await fleet.engine.create(fleet.leases["b"], row("2", 5002))
        for port in (5002, 5003):
            with pytest.raises(Conflict):
                await fleet.engine.update(fleet.leases["a"], dataclasses.replace(mine, port=port))
        assert (await fleet.rows())["1"] == mine

    async def test_a_dead_hosts_row_is_taken_once(self, fleet):
        engine = fleet.engine
        await fleet.join("c")
        old = await engine.create(fleet.leases["a"], row(runs=4, document={"linked": True}, snapshot="s"))
        with pytest.raises(Conflict, match="a host that must be alive"):
            await engine.move(fleet.leases["b"], old, "b")
        await engine.release(fleet.leases["a"])
        tries = [engine.move(fleet.leases[name], old, name) for name in "bc" for _ in range(10)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        [new] = [result for result in results if not isinstance(result, Conflict)]
        assert new == dataclasses.replace(old, host=new.host, token=new.token, revision=new.revision)
        assert new.token > old.token
        assert await fleet.rows() == {"1": new}

    async def test_an_owner_moves_its_row_to_a_live_host(self, fleet):
        engine, (a, b) = fleet.engine, fleet.leases.values()
        old = await engine.create(a, row())
        for name in ("nobody", "a"):
            with pytest.raises(Conflict):
                await engine.move(a, old, name)
        new = await engine.move(a, old, "b")
        assert (new.host, new.token > old.token) == ("b", True)
        assert await engine.update(b, dataclasses.replace(new, runs=1))

    async def test_a_token_changes_with_the_owner_only(self, fleet):
        engine, (a, b) = fleet.engine, fleet.leases.values()
        first = await engine.create(a, row())
        changed = await engine.update(a, dataclasses.replace(first, runs=1))
        changed = await engine.publish(a, dataclasses.replace(changed, snapshot="s", copies=("b",)))
        moved = await engine.move(a, changed, "b")
        again = await engine.update(b, moved)
        assert first.token == changed.token < moved.token == again.token
        assert [one.token for one in (await engine.state()).rows] == [again.token]

    async def test_a_snapshot_is_published_whatever_else_the_owner_changed(self, fleet):
        engine, lease = fleet.engine, fleet.leases["a"]
        seen = await engine.create(lease, row())
        changed = await engine.update(lease, dataclasses.replace(seen, runs=1))
        new = await engine.publish(lease, dataclasses.replace(seen, snapshot="s", copies=("b", "c")))
        assert new == dataclasses.replace(changed, snapshot="s", copies=("b", "c"), revision=new.revision)
        assert await fleet.rows() == {"1": new}

    async def test_a_user_is_deleted_with_its_port(self, fleet):
        engine, lease = fleet.engine, fleet.leases["a"]
        old = await engine.create(lease, row())
        changed = await engine.update(lease, old)
        with pytest.raises(Conflict, match="was changed"):
            await engine.delete(old)
        await engine.delete(changed)
        with pytest.raises(Conflict, match="was deleted"):
            await engine.delete(changed)
        state = await engine.state()
        assert (state.rows, state.tombstones) == ((), {"1": old.token})
        with pytest.raises(Conflict, match="was deleted"):
            await engine.update(lease, changed)
        new = await engine.create(lease, row())
        assert new.token > old.token

    # Reading

    async def test_a_state_is_of_one_moment(self, fleet, site):
        """Two rows count, one after the other, with more rows between them than are read at once."""
        engine, a = fleet.engine, fleet.leases["a"]
        many = [engine.create(a, row(f"many{n:04}", 6000 + n)) for n in range(520)]
        for start in range(0, len(many), 50):
            await asyncio.gather(*many[start : start + 50])
        counter = await engine.create(a, row("0", 5001))
        last = await engine.create(a, row("z", 5002))
        reader = site.engine()

        async def count():
            nonlocal counter, last
            for runs in itertools.count(1):
                last = await engine.update(a, dataclasses.replace(last, runs=runs))
                counter = await engine.update(a, dataclasses.replace(counter, runs=runs))

        counting = asyncio.create_task(count())
        try:
            revisions = []
            for _ in range(5):
                state = await reader.state()
                found = {one.user: one for one in state.rows}
                assert len(found) == 522
                assert 0 <= found["z"].runs - found["0"].runs <= 1
                revisions.append(state.revision)
        finally:
            counting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await counting
        assert revisions == sorted(set(revisions))

    async def test_a_watch_shows_each_change_once_and_in_order(self, fleet):
        engine, (a, b) = fleet.engine, fleet.leases.values()
        before = await engine.state()
        described = await engine.describe(host("a"))
        created = await engine.create(a, row())
        updated = await engine.update(a, dataclasses.replace(created, runs=1))
        moved = await engine.move(a, updated, "b")
        async with contextlib.aclosing(engine.watch(before.revision)) as changes:
            seen = await read(changes, 4)
            await engine.release(a)
            await engine.delete(moved)
            await engine.confirm(b)
            seen += await read(changes, 4)
            lease = await engine.acquire("a", TTL_S)
            seen += await read(changes, 1)
        now = await engine.state()
        revisions = [change.revision for change in seen]
        assert revisions == sorted(revisions)
        assert seen[:4] == [
            HostChanged(described.revision, "a", described),
            RowChanged(created.revision, "1", created),
            RowChanged(updated.revision, "1", updated),
            RowChanged(moved.revision, "1", moved),
        ]
        gone, *deletion, confirmed, acquired = seen[4:]
        assert gone == LeaseChanged(gone.revision, "a", None)
        assert {type(one) for one in deletion} == {RowChanged, TombstoneChanged}
        assert len({one.revision for one in deletion}) == 1
        assert confirmed == EpochChanged(confirmed.revision, "b")
        assert acquired == LeaseChanged(lease.incarnation, "a", lease.incarnation)
        state = before
        for change in seen:
            state = state.after(change)
        assert content(state) == content(now)

    async def test_a_watch_misses_nothing_when_its_connection_breaks(self, fleet, site):
        engine, lease = fleet.engine, fleet.leases["a"]
        current = await engine.create(lease, row())
        state = await engine.state()
        expected = []
        async with contextlib.aclosing(engine.watch(state.revision)) as changes:
            for runs in range(1, 31):
                current = await engine.update(lease, dataclasses.replace(current, runs=runs))
                expected.append(current)
                if runs == 10:
                    seen = await read(changes, 5)
                    site.interrupt()
            seen += await read(changes, 25)
        assert [change.row for change in seen] == expected

    async def test_a_watch_that_missed_changes_says_so_and_ends(self, fleet, site):
        engine, lease = fleet.engine, fleet.leases["a"]
        before = await engine.state()
        current = await engine.create(lease, row())
        for _ in range(3):
            current = await engine.update(lease, current)
        site.compact(current.revision)
        async with asyncio.timeout(PATIENCE_S):
            changes = [change async for change in engine.watch(before.revision)]
        assert [type(change) for change in changes] == [Reset]
        again = await engine.state()
        async with contextlib.aclosing(engine.watch(again.revision)) as watch:
            current = await engine.update(lease, current)
            assert await read(watch, 1) == [RowChanged(current.revision, "1", current)]

    async def test_who_is_cancelled_while_watching_leaves_no_connection(self, fleet, site):
        other = site.engine()
        state = await other.state()

        async def watch():
            async with contextlib.aclosing(other.watch(state.revision)) as changes:
                async for _ in changes:
                    seen.set()

        seen = asyncio.Event()
        watching = asyncio.create_task(watch())
        await fleet.engine.create(fleet.leases["a"], row())
        async with asyncio.timeout(PATIENCE_S):
            await seen.wait()
            during = site.connections()
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        async with asyncio.timeout(5):  # a connection that is only forgotten lasts longer
            while site.connections() >= during:
                await asyncio.sleep(0.02)

    # Epochs

    async def test_nothing_is_created_or_moved_before_the_epoch_is_settled(self, engine):
        fleet = Fleet(engine)
        a, _ = await fleet.join("a", "b")
        with pytest.raises(Unsettled, match="was not read"):
            await engine.create(a, row())
        assert not (await engine.state()).settled
        with pytest.raises(Unsettled, match="put back"):
            await engine.create(a, row())
        held = await engine.reclaim(a, row(host="a", token=7))
        for call in (
            engine.update(a, held),
            engine.move(a, held, "b"),
            engine.publish(a, held),
            engine.delete(held),
        ):
            with pytest.raises(Unsettled):
                await call
        assert await fleet.rows() == {"1": held}
        await engine.confirm(a)
        await engine.settle(a)
        state = await engine.state()
        assert (state.confirmed, state.settled) == ({"a"}, True)
        assert (await engine.move(a, held, "b")).token > held.token

    async def test_a_restored_engine_is_of_another_epoch(self, fleet, site):
        """What hosts know of the time after the backup, they put back; what was deleted since, stays deleted."""
        engine, (a, b) = fleet.engine, fleet.leases.values()
        moved = await engine.create(a, row("moved", 5001))
        kept = await engine.create(a, row("kept", 5002))
        gone = await engine.create(a, row("gone", 5003))
        await engine.delete(gone)
        saved = site.save()
        moved_on = await engine.move(a, moved, "b")
        new = await engine.create(b, row("new", 5004))
        before = await engine.state()
        async with contextlib.aclosing(engine.watch(before.revision)) as changes:
            later = await engine.update(a, kept)
            await read(changes, 1)
            site.restore(saved)
            [reset] = await read(changes, 1)
            assert isinstance(reset, Reset)
        assert await engine.epoch() != before.epoch
        for lease in (a, b):
            await engine.renew(lease)  # sessions run on
        # Another host knows first that the engine was restored.
        assert not (await site.engine().state()).settled
        with pytest.raises(Unsettled):
            await engine.update(a, dataclasses.replace(later, runs=1))
        with pytest.raises(Unsettled):
            await engine.update(a, dataclasses.replace(kept, runs=1))
        state = await engine.state()
        assert (state.settled, state.confirmed, state.epoch) == (False, frozenset(), await engine.epoch())
        with pytest.raises(Conflict, match="was deleted"):
            await engine.reclaim(a, gone)
        back = [await engine.reclaim(b, one) for one in (moved_on, new)]
        with pytest.raises(Conflict, match="is on host b"):
            await engine.reclaim(a, moved)
        with pytest.raises(Conflict, match="port 5004 is that of user new"):
            await engine.reclaim(a, dataclasses.replace(kept, port=5004))
        await engine.settle(a)
        with pytest.raises(Conflict, match="is settled"):
            await engine.reclaim(a, later)
        assert [(one.host, one.token) for one in back] == [("b", moved_on.token), ("b", new.token)]
        again = await engine.move(b, back[0], "a")
        assert again.token > moved_on.token

    async def test_an_engine_that_was_set_up_again_is_of_another_epoch(self, fleet, site):
        engine = fleet.engine
        mine = await engine.create(fleet.leases["a"], row())
        before = await engine.state()
        site.set_up_again()
        assert await engine.epoch() != before.epoch
        with pytest.raises(LeaseLost):
            await engine.renew(fleet.leases["a"])
        lease = await engine.acquire("a", TTL_S)
        state = await engine.state()
        assert (state.rows, state.settled) == ((), False)
        back = await engine.reclaim(lease, mine)
        assert back == dataclasses.replace(mine, revision=back.revision)

    # Limits

    async def test_a_call_ends_within_its_limit_when_the_engine_is_away(self, fleet, site):
        limit_s, lease = 0.3, fleet.leases["a"]
        engine = site.engine(limit_s=limit_s)
        await fleet.engine.state()
        mine = await fleet.engine.create(lease, row())
        await engine.state()
        with site.away():
            for call in (
                engine.renew(lease),
                engine.update(lease, mine),
                engine.acquire("c", TTL_S),
            ):
                started = time.monotonic()
                with pytest.raises(EngineUnavailable) as caught:
                    await call
                assert time.monotonic() - started < limit_s + SLACK_S
                assert caught.value.hint
