"""Tokens and connect links of a fleet: good on every host, deleted on all, whatever the engine forgets."""

import dataclasses
import time

import pytest
from memory_engine import COMING, GOING, Client, MemoryEngine, unanswered

from waportd.errors import LinkInvalid, UnknownToken
from waportd.fleet import tokens as module
from waportd.fleet.chunks import FleetKeys, KeyUnusable
from waportd.fleet.engine import EngineUnavailable, Fact
from waportd.fleet.link_key import LinkKey
from waportd.fleet.store import read_members
from waportd.fleet.tokens import FleetTokens
from waportd.model import User
from waportd.store import SqliteStore
from waportd.tokens import Kind, Tokens

KEYS = FleetKeys.create()


class Site:
    """What one host has of the facts. It sees the engine when it looks."""

    def __init__(self, engine, path, keys=KEYS):
        self.engine, self.way, self.path, self.keys = engine, Client(engine), path, keys
        self.store = None

    async def start(self):
        await self.stop()
        self.store = await SqliteStore.open(self.path)
        await read_members(self.store)  # makes the tables
        self.tokens = FleetTokens(self.store, self.way)
        await self.tokens.load()
        self.key = LinkKey(self.store, self.way, self.keys)
        self.links = await self.key.load()

    async def look(self):
        await self.key.look(self.engine.state)
        await self.tokens.look(self.engine.state)

    async def stop(self):
        if self.store:
            await self.store.close()
            self.store = None


class Fleet:
    """Hosts that see one engine."""

    def __init__(self, folder):
        self.folder, self.engine, self.sites = folder, MemoryEngine(), []

    async def add(self, name, **options):
        site = Site(self.engine, self.folder / f"{name}.db", **options)
        self.sites.append(site)
        await site.start()
        return site

    async def look(self):
        for _ in range(2):  # what the last one does, the first one sees in its next look
            for site in self.sites:
                await site.look()

    def forget(self, then):
        """Restore the engine as it was then."""
        self.engine.state = dataclasses.replace(then, epoch="e2", settled=False)

    def settle(self):
        self.engine.next(settled=True)


@pytest.fixture
async def fleet(tmp_path):
    fleet = Fleet(tmp_path)
    yield fleet
    for site in fleet.sites:
        await site.stop()


@pytest.fixture
async def a(fleet):
    return await fleet.add("a")


@pytest.fixture
async def b(fleet, a):
    site = await fleet.add("b")
    await fleet.look()
    return site


def names(site):
    return sorted(token.name for token in site.tokens)


class TestTokens:
    async def test_one_is_good_on_every_host_and_after_a_restart_without_the_engine(self, fleet, a, b):
        made, text = await a.tokens.create("web app", User("2"), lifetime=600)
        await fleet.look()
        known = b.tokens.recognise(text)
        assert (known.id, known.name, known.user, known.kind) == (made.id, "web app", "2", Kind.USER)
        assert known.expires_at == made.expires_at
        b.way.away = True
        await b.start()
        assert b.tokens.recognise(text).id == made.id

    async def test_what_the_engine_has_does_not_reveal_it(self, fleet, a):
        _, text = await a.tokens.create("web app", None)
        assert text.split("_", 2)[2] not in repr(fleet.engine.state)

    @pytest.mark.parametrize("kind", [Kind.READ, Kind.METRICS])
    async def test_its_scope_is_the_same_everywhere(self, fleet, a, b, kind):
        _, text = await a.tokens.create("monitor", None, kind)
        await fleet.look()
        assert b.tokens.recognise(text).kind is kind

    async def test_one_that_is_deleted_is_invalid_everywhere(self, fleet, a, b):
        made, text = await a.tokens.create("web app", None)
        await fleet.look()
        await b.tokens.revoke(made.id)
        assert b.tokens.recognise(text) is None
        await fleet.look()
        assert a.tokens.recognise(text) is None
        await a.start()
        await fleet.look()
        assert names(a) == names(b) == []
        with pytest.raises(UnknownToken):
            await a.tokens.revoke(made.id)

    async def test_a_host_that_was_away_learns_of_a_deletion(self, fleet, a, b):
        made, text = await a.tokens.create("web app", None)
        await fleet.look()
        await b.stop()
        await a.tokens.revoke(made.id)
        await a.look()
        await b.start()
        assert b.tokens.recognise(text)
        await fleet.look()
        assert names(a) == names(b) == []

    async def test_one_is_deleted_here_while_the_engine_is_away(self, fleet, a, b):
        made, text = await a.tokens.create("web app", None)
        await fleet.look()
        a.way.away = True
        with pytest.raises(EngineUnavailable, match="is deleted on this host, and the others do not know"):
            await a.tokens.revoke(made.id)
        assert a.tokens.recognise(text) is None
        assert b.tokens.recognise(text)
        await a.start()
        assert a.tokens.recognise(text) is None
        a.way.away = False
        await fleet.look()
        assert names(a) == names(b) == []

    async def test_one_that_is_deleted_twice_does_not_come_back(self, fleet, a, b):
        made, text = await a.tokens.create("web app", None)
        await fleet.look()
        a.way.away = True
        with pytest.raises(EngineUnavailable):
            await a.tokens.revoke(made.id)
        # As who was answered with a failure does.
        with pytest.raises(UnknownToken):
            await a.tokens.revoke(made.id)
        a.way.away = False
        await fleet.look()
        assert a.tokens.recognise(text) is None
        assert names(a) == names(b) == []

    @pytest.mark.parametrize("way", [GOING, COMING])
    async def test_none_is_left_where_its_maker_got_none(self, fleet, a, b, way):
        a.way.faults["write", way] = unanswered
        with pytest.raises(EngineUnavailable):
            await a.tokens.create("web app", None)
        assert names(a) == []
        a.way.faults.clear()
        await fleet.look()
        assert names(a) == names(b) == []
        assert not [name for name in fleet.engine.state.facts if name.startswith("tokens/")]

    async def test_those_of_a_host_that_joins_are_good_on_all(self, fleet, a, b, tmp_path):
        alone = await SqliteStore.open(tmp_path / "c.db")
        _, text = await Tokens(alone).create("from before", None)
        await alone.close()
        await fleet.add("c")
        await fleet.look()
        assert a.tokens.recognise(text)
        assert b.tokens.recognise(text)

    async def test_they_are_listed_the_oldest_first(self, fleet, a, b):
        for site, name in ((a, "first"), (b, "second"), (a, "third")):
            await site.tokens.create(name, None)
        await fleet.look()
        assert [token.name for token in a.tokens] == [token.name for token in b.tokens]
        assert [token.name for token in b.tokens] == ["first", "second", "third"]

    async def test_a_new_one_is_not_taken_for_a_deleted_one(self, fleet, a, b):
        before = fleet.engine.state
        _, text = await a.tokens.create("web app", None)
        await a.tokens.look(before)
        assert a.tokens.recognise(text)

    async def test_their_last_use_is_noted_now_and_then(self, fleet, a, b, monkeypatch):
        _, text = await a.tokens.create("web app", None)
        await fleet.look()
        used = b.tokens.recognise(text).last_used_at
        await b.tokens.keep_uses()
        await fleet.look()
        assert next(iter(a.tokens)).last_used_at == used
        written = fleet.engine.state.revision
        b.tokens.recognise(text)
        await b.tokens.keep_uses()
        assert fleet.engine.state.revision == written
        later = time.time() + module.USES_S + 1
        monkeypatch.setattr(time, "time", lambda: later)
        b.tokens.recognise(text)
        await b.tokens.keep_uses()
        await fleet.look()
        assert next(iter(a.tokens)).last_used_at == later

    async def test_a_use_does_not_bring_a_deleted_one_back(self, fleet, a, b):
        made, text = await a.tokens.create("web app", None)
        await fleet.look()
        b.tokens.recognise(text)
        await a.tokens.revoke(made.id)
        await b.tokens.keep_uses()
        await fleet.look()
        assert names(a) == names(b) == []

    @pytest.mark.parametrize(
        "value",
        [{}, {"name": "x"}, {"scope": "all", "user": None, "name": "x", "digest": "", "created_at": 1}],
    )
    async def test_what_this_waportd_does_not_understand_allows_nothing_and_stays(self, fleet, a, b, value):
        await a.way.write(Fact("tokens/0123456789ab", value))
        _, text = await a.tokens.create("web app", None)
        await fleet.look()
        assert names(b) == ["web app"]
        assert b.tokens.recognise(text)
        assert "tokens/0123456789ab" in fleet.engine.state.facts

    async def test_an_engine_that_was_restored_gets_them_back_but_not_the_deleted_ones(self, fleet, a, b):
        gone, _ = await a.tokens.create("deleted since", None)
        await fleet.look()
        backup = fleet.engine.state
        _, text = await b.tokens.create("made since", None)
        await fleet.look()
        await a.tokens.revoke(gone.id)
        await fleet.look()
        fleet.forget(backup)
        await fleet.look()
        for site in (a, b):
            await site.tokens.reclaim()
        fleet.settle()
        await fleet.look()
        assert names(a) == names(b) == ["made since"]
        assert a.tokens.recognise(text)
        assert b.tokens.recognise(text)
        assert len([name for name in fleet.engine.state.facts if name.startswith("tokens/")]) == 1


def links_of(site):
    until, signature = site.links.sign(User("2"), 600)
    return str(until), signature


def is_good(link, site):
    try:
        site.links.check(User("2"), *link)
    except LinkInvalid:
        return False
    return True


class TestLinks:
    async def test_one_is_good_on_every_host_and_after_a_restart_without_the_engine(self, a, b):
        link = links_of(a)
        assert is_good(link, b)
        b.way.away = True
        await b.start()
        assert is_good(link, b)

    async def test_the_engine_has_nothing_that_signs_one(self, fleet, a, b, tmp_path):
        stranger = Site(fleet.engine, tmp_path / "stranger.db", keys=FleetKeys.create())
        await stranger.start()
        await stranger.look()
        try:
            assert not is_good(links_of(stranger), a)
        finally:
            await stranger.stop()

    async def test_all_are_revoked_on_all_hosts(self, fleet, a, b):
        link = links_of(a)
        changes = a.links.changes
        await b.links.revoke_all()
        assert not is_good(link, b)
        await fleet.look()
        assert not is_good(link, a)
        assert a.links.changes == changes + 1
        assert is_good(links_of(a), b)

    async def test_two_hosts_that_revoke_at_once_agree(self, fleet, a, b):
        link = links_of(a)
        await a.links.revoke_all()
        await b.links.revoke_all()
        await fleet.look()
        assert not is_good(link, a)
        assert is_good(links_of(a), b)
        assert is_good(links_of(b), a)

    async def test_nothing_changes_where_the_engine_is_away(self, a, b):
        link = links_of(a)
        a.way.away = True
        with pytest.raises(EngineUnavailable):
            await a.links.revoke_all()
        assert is_good(link, a)

    async def test_an_engine_that_was_restored_does_not_bring_revoked_ones_back(self, fleet, a, b):
        old, backup = links_of(a), fleet.engine.state
        await a.links.revoke_all()
        await fleet.look()
        new = links_of(b)
        fleet.forget(backup)
        await fleet.look()
        await a.start()
        await fleet.look()
        for site in (a, b):
            assert not is_good(old, site)
            assert is_good(new, site)

    async def test_a_number_never_leads_to_the_same_key_twice(self, fleet, a, b):
        backup = fleet.engine.state
        await a.links.revoke_all()
        link = links_of(a)
        # Both forget: a fleet that was set up from a backup of everything.
        fleet.forget(backup)
        for site in (a, b):
            await site.store.run(lambda db: db.execute("DELETE FROM fleet_fact").close())
            await site.start()
        await fleet.look()
        await b.links.revoke_all()
        await fleet.look()
        assert not is_good(link, a)

    async def test_a_host_without_the_newest_key_keeps_the_last(self, fleet, a, b):
        link = links_of(a)
        b.keys = KEYS.rotated()
        await b.start()
        assert is_good(link, b)
        await b.look()
        await b.links.revoke_all()
        with pytest.raises(KeyUnusable, match="connect links need fleet key 2"):
            await a.look()
        assert is_good(link, a)

    async def test_what_a_newer_waportd_wrote_is_left_alone(self, fleet, a, b):
        link = links_of(a)
        [fact] = [fact for name, fact in fleet.engine.state.facts.items() if name == "links"]
        await a.way.write(dataclasses.replace(fact, value={"kind": "new"}))
        await fleet.look()
        assert fleet.engine.state.facts["links"].value == {"kind": "new"}
        assert is_good(link, a)
        assert is_good(link, b)
