"""Hosts that keep the logins of one another's users, over real TLS: who may change what, and what is needed no longer."""

import asyncio
import dataclasses
import random

import pytest
from storing import AT, KEYS, LEASE, Rows, content, fill, noise
from two_hosts import Fleet

from waportd.fleet.chunks import CHUNK_BYTES, TAG_BYTES
from waportd.fleet.directory import Directory
from waportd.fleet.engine import HostState, Row
from waportd.fleet.holdings import KEPT_S
from waportd.fleet.objects import ObjectMissing, Place, StoreUnavailable
from waportd.fleet.remote_objects import RemoteObjects
from waportd.fleet.snapshot_store import SnapshotStore
from waportd.fleet.stores import HostStores
from waportd.host import HostCall

ONE, TWO = "1" * 64, "2" * 64
MOST = CHUNK_BYTES + TAG_BYTES
TREE = {b"log": noise(3 * CHUNK_BYTES), b"Default": {b"one": noise(100)}}


@pytest.fixture
async def fleet(tmp_path, config, monkeypatch):
    monkeypatch.setattr("waportd.api.server.IDLE_DRAIN_S", 0.05)
    fleet = Fleet(tmp_path, config)
    for name in "abc":
        await fleet.add(name)
    fleet.put(Row("7", 5001, "a", 5))
    yield fleet
    await fleet.close()


@pytest.fixture
def a(fleet):
    """The owner of user 7, by token 5."""
    return fleet.sites["a"]


@pytest.fixture
def b(fleet):
    return fleet.sites["b"]


@pytest.fixture
def c(fleet):
    return fleet.sites["c"]


def move(fleet, user, host, token, **values):
    fleet.put(dataclasses.replace(Row(user, 5001, host, token), **values))


def objects(site):
    """Return the places in which a host keeps something."""
    return sorted({str(path.parent.relative_to(site.kept)) for path in site.kept.glob("*/*/*")})


async def status(site, host, method, path, body=None, headers=()):
    async with site.others.call(host, HostCall(method, path, dict(headers), body)) as answer:
        await answer.read()
        return answer.status


class TestWhoMay:
    async def test_a_host_that_is_the_owner_no_longer_changes_nothing(self, fleet, a, b, c):
        await a.store_on("b").put(Place("7", 5), ONE, b"old")
        b.seen.older = fleet.state
        move(fleet, "7", "c", 9)
        # That it has moved is not known there yet: the host looks before it refuses.
        await c.store_on("b").put(Place("7", 9), ONE, b"new")
        assert b.seen.asked == 1
        with pytest.raises(StoreUnavailable, match="not the owner of user 7 under token 5: it is c, token 9"):
            await a.store_on("b").put(Place("7", 5), TWO, b"late")
        for place in (Place("7", 9), Place("7", 5)):
            with pytest.raises(StoreUnavailable, match="not the owner"):
                await a.store_on("b").delete(place, [ONE])
        assert await c.store_on("b").get(Place("7", 5), ONE, 10) == b"old", "the next owner reads it"
        await c.store_on("b").delete(Place("7", 5), [ONE])
        assert objects(b) == ["7/9"]

    async def test_nobody_writes_under_another_token_than_that_of_the_row(self, a):
        for token in (4, 6):
            with pytest.raises(StoreUnavailable, match=f"under token {token}"):
                await a.store_on("b").put(Place("7", token), ONE, b"one")

    async def test_nor_under_a_lower_one_than_was_seen_whatever_the_engine_says(self, fleet, a, b, c):
        before = fleet.state
        move(fleet, "7", "c", 9)
        await c.store_on("b").put(Place("7", 9), ONE, b"new")
        fleet.state = before  # as after a restore
        with pytest.raises(StoreUnavailable, match="token 9 was seen here"):
            await a.store_on("b").put(Place("7", 5), ONE, b"old")
        b.keep()
        with pytest.raises(StoreUnavailable, match="token 9 was seen here"):
            await a.store_on("b").put(Place("7", 5), ONE, b"old")

    async def test_what_a_deleted_user_had_is_deleted_by_any_host(self, fleet, a, b, c):
        await a.store_on("b").put(Place("7", 5), ONE, b"one")
        with pytest.raises(StoreUnavailable, match="not the owner"):
            await c.store_on("b").delete(Place("7", 5), [ONE])
        fleet.state = dataclasses.replace(fleet.state, rows=(), tombstones={"7": 5})
        await c.store_on("b").delete(Place("7", 5), [ONE])
        assert objects(b) == []

    async def test_a_host_that_has_left_is_refused_and_so_is_one_that_was_never_there(self, fleet, a, b):
        await a.store_on("b").put(Place("7", 5), ONE, b"one")
        fleet.describe("a", state=HostState.LEFT)
        for call in (a.store_on("b").get(Place("7", 5), ONE, 10), a.store_on("b").list(Place("7", 5))):
            with pytest.raises(StoreUnavailable, match="host a has left the fleet"):
                await call
        hosts = tuple(host for host in fleet.state.hosts if host.name != "a")
        fleet.state = dataclasses.replace(fleet.state, hosts=hosts)
        with pytest.raises(StoreUnavailable, match="no host of the fleet is named 'a'"):
            await a.store_on("b").tokens("7")

    @pytest.mark.parametrize("path", ["/fleet/objects/7", "/fleet/objects/7/5", f"/fleet/objects/7/5/{ONE}"])
    async def test_on_the_sockets_of_the_api_there_is_nothing(self, a, b, path):
        await a.store_on("b").put(Place("7", 5), ONE, b"one")
        for over in (b.api, b.tcp):
            for method in ("GET", "PUT", "DELETE"):
                refused = await b.call(method, path, 404, over=over)
                assert refused["code"] == "not_found"
        assert "/fleet/" not in str(await b.call("GET", "/openapi.json"))
        assert objects(b) == ["7/5"]


class TestCalls:
    async def test_a_body_beyond_all_measure_is_refused(self, a, b):
        path = f"/fleet/objects/7/5/{ONE}"
        assert await status(a, "b", "PUT", path, bytes(MOST)) == 200
        assert await status(a, "b", "PUT", path, bytes(MOST + 1)) == 413
        assert objects(b) == ["7/5"]

    @pytest.mark.parametrize(
        ("method", "path", "body", "expected"),
        [
            ("GET", "/fleet/objects/..", None, 404),
            ("GET", "/fleet/objects/7/x", None, 404),
            ("PUT", "/fleet/objects/7/5/.new-1", b"", 404),
            ("PUT", "/fleet/objects/7/5", b"", 404),
            ("POST", f"/fleet/objects/7/5/{ONE}", b"", 404),
            ("GET", f"/fleet/objects/7/5/{ONE}", None, 400),
            ("GET", f"/fleet/objects/7/5/{ONE}?most=-1", None, 400),
            ("DELETE", "/fleet/objects/7/5", b"[]", 400),
            ("DELETE", "/fleet/objects/7/5", b"{", 400),
            ("GET", "/fleet/other", None, 404),
        ],
    )
    async def test_what_is_no_call_is_refused(self, a, method, path, body, expected):
        headers = {"Waportd-Listed": "1"} if body == b"{" else {}
        assert await status(a, "b", method, path, body, headers) == expected

    async def test_a_deletion_that_comes_late_deletes_nothing(self, a, b):
        place = Place("7", 5)
        await a.store_on("b").put(place, ONE, b"one")
        async with a.others.call("b", HostCall("GET", "/fleet/objects/7/5")) as answer:
            listed = {"Waportd-Listed": answer.headers["Waportd-Listed"]}
        await a.store_on("b").list(place)  # so begins the next publication, which needs it
        late = await status(a, "b", "DELETE", "/fleet/objects/7/5", f'["{ONE}"]'.encode(), listed)
        assert late == 409
        assert await a.store_on("b").get(place, ONE, 10) == b"one"

    async def test_a_host_that_does_not_answer_is_away_in_time(self, a, b, monkeypatch):
        async def stand_still(*_):
            await asyncio.sleep(60)

        monkeypatch.setattr(b.holdings, "tokens", stand_still)
        with pytest.raises(StoreUnavailable, match=r"host b did not answer within 0\.3 s"):
            await RemoteObjects(a.others, "b", limit_s=0.3).tokens("7")

    async def test_what_a_host_that_is_silent_had_is_away_and_what_one_had_that_has_left_is_missing(
        self, fleet, a
    ):
        fleet.describe("b", alive=False)
        with pytest.raises(StoreUnavailable, match="host b holds no lease"):
            await a.store_on("b").get(Place("7", 5), ONE, 10)
        fleet.describe("b", state=HostState.LEFT)
        with pytest.raises(ObjectMissing, match="has left the fleet"):
            await a.store_on("b").get(Place("7", 5), ONE, 10)
        with pytest.raises(StoreUnavailable):
            await a.store_on("folder").get(Place("7", 5), ONE, 10)

    async def test_a_host_without_a_store_says_what_is_missing(self, a, b):
        (b.kept / "waportd-snapshots").unlink()
        with pytest.raises(StoreUnavailable, match=r"host b refused: .* is not a store of snapshots"):
            await a.store_on("b").put(Place("7", 5), ONE, b"one")


class TestSnapshots:
    def store(self, site):
        newest = lambda: site.fleet.state  # noqa: E731
        own = Directory(site.kept)
        return SnapshotStore(KEYS, HostStores(site.name, own, site.store_on, newest, 2))

    async def published(self, fleet, a, folder):
        """Publish as the owner; have the fleet know it."""
        row = next(row for row in fleet.state.rows if row.user == "7")
        published = await self.store(a).publish(Rows(row), LEASE, row, folder, AT)
        fleet.put(published.row)
        return published.row

    async def test_a_login_goes_to_two_other_hosts_and_each_of_them_restores_it(
        self, fleet, a, b, c, tmp_path
    ):
        folder = fill(tmp_path / "folder", TREE)
        row = await self.published(fleet, a, folder)
        assert set(row.copies) == {"b", "c"}
        assert (objects(a), objects(b), objects(c)) == ([], ["7/5"], ["7/5"])
        for site in (a, b, c):
            await self.store(site).restore(row, tmp_path / site.name / "restored")
            assert content(tmp_path / site.name / "restored") == content(folder)

    @pytest.mark.parametrize("away", ["b", "c"])
    async def test_while_a_host_is_away_another_one_has_it(self, fleet, a, tmp_path, away):
        folder = fill(tmp_path / "folder", TREE)
        row = await self.published(fleet, a, folder)
        await fleet.sites[away].end()
        await self.store(a).restore(row, tmp_path / "restored")
        assert content(tmp_path / "restored") == content(folder)

    @pytest.mark.parametrize("flipped", ["b", "c"])
    async def test_what_is_damaged_on_one_host_is_read_from_another(self, fleet, b, a, tmp_path, flipped):
        folder = fill(tmp_path / "folder", TREE)
        row = await self.published(fleet, a, folder)
        dice = random.Random(1)
        for path in fleet.sites[flipped].kept.glob("7/5/*"):
            damaged = bytearray(path.read_bytes())
            damaged[dice.randrange(len(damaged))] ^= 1
            path.write_bytes(damaged)
        await self.store(b).restore(row, tmp_path / "restored")
        assert content(tmp_path / "restored") == content(folder)

    async def test_a_new_host_takes_the_place_of_one_that_has_died(self, fleet, a, b, c, tmp_path):
        folder = fill(tmp_path / "folder", TREE)
        d = await fleet.add("d")
        row = await self.published(fleet, a, folder)
        store = self.store(a)
        assert store.is_complete(row)
        dead, *_ = row.copies
        fleet.describe(dead, alive=False)
        assert not store.is_complete(row)
        row = await self.published(fleet, a, folder)
        assert store.is_complete(row)
        assert set(row.copies) == {"b", "c", "d"} - {dead}
        await self.store(d).restore(row, tmp_path / "restored")
        assert content(tmp_path / "restored") == content(folder)

    async def test_a_host_that_is_alone_has_no_place_for_a_login(self, fleet, a):
        row = fleet.state.rows[0]
        assert self.store(a).has_place(row)
        for other in "bc":
            fleet.describe(other, alive=False)
        assert not self.store(a).has_place(row)

    async def test_a_user_who_is_deleted_or_unlinked_is_forgotten_everywhere(self, fleet, a, b, c, tmp_path):
        row = await self.published(fleet, a, fill(tmp_path / "folder", TREE))
        fleet.state = dataclasses.replace(fleet.state, rows=(), tombstones={"7": 5})
        # The row is gone, and with it who has the copies.
        await self.store(a).forget(Row("7", 0, "a", token=5))
        assert (objects(b), objects(c)) == ([], [])
        assert row.copies


class TestWhatIsNeededNoLonger:
    @pytest.fixture
    async def kept(self, a, b):
        await a.store_on("b").put(Place("7", 5), ONE, b"one")
        return b

    async def test_what_a_row_names_stays(self, fleet, kept):
        move(fleet, "7", "a", 5, copies=("b", "c"))
        for _ in range(3):
            await kept.holdings.look()
            kept.now += KEPT_S
        assert objects(kept) == ["7/5"]

    async def test_what_no_row_names_goes_after_a_day(self, fleet, kept):
        move(fleet, "7", "a", 5, copies=("c",))
        await kept.holdings.look()
        kept.now += KEPT_S - 1
        await kept.holdings.look()
        assert objects(kept) == ["7/5"]
        kept.now += 1
        await kept.holdings.look()
        assert objects(kept) == []
        assert list(kept.kept.iterdir()) == [kept.kept / "waportd-snapshots"]

    async def test_but_not_what_is_being_published_here(self, fleet, a, kept):
        move(fleet, "7", "a", 5, copies=("c",))
        await kept.holdings.look()
        kept.now += KEPT_S
        await a.store_on("b").list(Place("7", 5))
        await kept.holdings.look()
        assert objects(kept) == ["7/5"]
        kept.now += KEPT_S
        await a.store_on("b").put(Place("7", 5), TWO, b"two")
        await kept.holdings.look()
        assert objects(kept) == ["7/5"]

    async def test_nor_what_begins_to_be_published_while_the_disk_is_read(self, fleet, a, kept, monkeypatch):
        move(fleet, "7", "a", 5, copies=("c",))
        await kept.holdings.look()
        kept.now += KEPT_S
        really = Directory.tokens

        async def tokens(directory, user):
            await a.store_on("b").list(Place("7", 5))
            return await really(directory, user)

        monkeypatch.setattr(Directory, "tokens", tokens)
        await kept.holdings.look()
        assert objects(kept) == ["7/5"]

    async def test_what_a_deleted_user_had_goes_at_once_even_where_a_host_was_away(self, fleet, kept):
        fleet.state = dataclasses.replace(fleet.state, rows=(), tombstones={"7": 5})
        kept.seen.older = dataclasses.replace(fleet.state)
        await kept.holdings.look()
        assert objects(kept) == []

    async def test_what_the_engine_has_no_word_of_goes_after_a_day_but_not_while_it_is_unsettled(
        self, fleet, kept
    ):
        fleet.state = dataclasses.replace(fleet.state, rows=(), settled=False)
        await kept.holdings.look()
        kept.now += KEPT_S
        await kept.holdings.look()
        assert objects(kept) == ["7/5"]
        fleet.state = dataclasses.replace(fleet.state, settled=True)
        await kept.holdings.look()
        kept.now += KEPT_S
        await kept.holdings.look()
        assert objects(kept) == []

    async def test_it_is_decided_upon_what_the_engine_says_then(self, fleet, kept):
        """A host that was cut off would delete what it was given meanwhile."""
        move(fleet, "7", "a", 5, copies=("c",))
        await kept.holdings.look()
        kept.seen.older = fleet.state
        kept.now += KEPT_S
        move(fleet, "7", "a", 5, copies=("b",))
        await kept.holdings.look()
        assert objects(kept) == ["7/5"]
