"""Snapshots published and restored: whole or not at all, and never the snapshot of another."""

import asyncio
import errno
import os
import random
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from storing import (
    AT,
    CHUNK,
    DAY_S,
    KEYS,
    LEASE,
    Memory,
    Site,
    change_one_chat,
    content,
    failing,
    fill,
    login,
    manifest_of,
    noise,
    row,
)

from waportd.cli import login_copies
from waportd.fleet import snapshot_store, tree
from waportd.fleet.chunks import Damaged, FleetKeys, KeyUnusable
from waportd.fleet.directory import Directory
from waportd.fleet.engine import Conflict, EngineUnavailable
from waportd.fleet.manifest import Manifest, names
from waportd.fleet.objects import MANIFEST, Place, StoreUnavailable
from waportd.fleet.snapshot_store import NoSnapshot, SnapshotStore
from waportd.fleet.stores import SameStores
from waportd.fleet.tree import DiskFailed, FolderRefused

SMALL = {b"snapshot.json": b"{}", b"Default": {b"log": noise(1000), b"empty": {}}}
LARGE = {b"one": noise(CHUNK + 1, 1), b"two": noise(2 * CHUNK, 2), b"three": noise(10, 3)}

NAMES = st.one_of(
    st.binary(min_size=1, max_size=20).filter(lambda name: b"/" not in name and b"\0" not in name),
    st.sampled_from(
        [b" ", b"\xff\xfe", "Ünïcode ☃".encode(), b"a\nb", b"-rf", b"~", b"n" * 255, b"\xed\xa0\xbd"]
    ),
).filter(lambda name: name not in {b".", b".."})
SIZES = st.sampled_from([0, 1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 17])
FILES = st.builds(
    lambda size, seed: bytes(size) if seed == 0 else noise(size, seed), SIZES, st.integers(0, 3)
)
TREES = st.recursive(
    st.dictionaries(NAMES, FILES, max_size=4),
    lambda below: st.dictionaries(NAMES, st.one_of(FILES, below), max_size=3),
    max_leaves=6,
)


async def restored(site, tmp_path, name="restored"):
    await site.store.restore(site.row, tmp_path / name)
    return content(tmp_path / name)


class TestRoundTrip:
    @given(tree=TREES)
    @settings(max_examples=40)
    @example(tree={b"sparse": bytes(20 * CHUNK) + b"end"})
    def test_what_is_published_is_restored(self, tree, tmp_path_factory):
        async def check():
            here = tmp_path_factory.mktemp("round")
            site = Site()
            folder = fill(here / "folder", tree)
            await site.publish(folder)
            assert await restored(site, here) == content(folder)

        asyncio.run(check())

    async def test_modes_are_kept(self, tmp_path):
        site, folder = Site(), fill(tmp_path / "folder", SMALL)
        (folder / "Default/log").chmod(0o640)
        (folder / "Default/empty").chmod(0o751)
        await site.publish(folder)
        assert await restored(site, tmp_path) == content(folder)

    async def test_a_set_uid_bit_is_not_kept(self, tmp_path):
        site, folder = Site(), fill(tmp_path / "folder", SMALL)
        (folder / "Default/log").chmod(0o6755)
        await site.publish(folder)
        assert (await restored(site, tmp_path))[b"Default/log"][0] == 0o755

    async def test_holes_take_no_room_in_the_store_nor_after_a_restore(self, tmp_path):
        site = Site()
        folder = fill(tmp_path / "folder", {})
        with (folder / "sparse").open("wb") as file:
            file.truncate(40 * CHUNK)
        await site.publish(folder)
        assert len(site.first.under(site.row)) == 2
        await restored(site, tmp_path)
        assert (tmp_path / "restored/sparse").stat().st_blocks < 100
        assert content(tmp_path / "restored") == content(folder)

    async def test_a_restore_says_what_it_restored(self, tmp_path):
        site = Site()
        await site.publish(fill(tmp_path / "folder", SMALL), at=AT + 5)
        manifest = await site.store.restore(site.row, tmp_path / "restored")
        assert (manifest.token, manifest.runs, manifest.at, manifest.size) == (5, 3, AT + 5, 1002)

    async def test_a_snapshot_of_a_server_is_still_one_after_its_travel(self, tmp_path):
        import hashlib
        import json

        files = {"Default/log": {"size": 1000, "sha256": hashlib.sha256(noise(1000)).hexdigest()}}
        description = json.dumps({"version": 1, "at": AT * 1000, "files": files}).encode()
        folder = fill(tmp_path / "folder", {b"snapshot.json": description, b"Default": {b"log": noise(1000)}})
        site = Site()
        await site.publish(folder)
        await site.store.restore(site.row, tmp_path / "restored")
        assert login_copies.verify(tmp_path / "restored").at == AT

    async def test_files_that_two_snapshots_of_a_server_share_are_published(self, tmp_path):
        folder = fill(tmp_path / "folder", SMALL)
        os.link(folder / "Default/log", tmp_path / "before")
        site = Site()
        await site.publish(folder)
        assert await restored(site, tmp_path) == content(folder)

    async def test_an_empty_folder_is_filled(self, tmp_path):
        site, folder = Site(), fill(tmp_path / "folder", SMALL)
        await site.publish(folder)
        (tmp_path / "restored").mkdir()
        assert await restored(site, tmp_path) == content(folder)

    async def test_a_folder_with_something_in_it_is_left_as_it_is(self, tmp_path):
        site = Site()
        await site.publish(fill(tmp_path / "folder", SMALL))
        fill(tmp_path / "restored", {b"login": b"mine"})
        with pytest.raises(DiskFailed, match="not empty"):
            await site.store.restore(site.row, tmp_path / "restored")
        assert list(content(tmp_path / "restored")) == [b"login"]

    async def test_what_a_restore_left_that_was_killed_is_in_no_ones_way(self, tmp_path):
        site, folder = Site(), fill(tmp_path / "folder", SMALL)
        await site.publish(folder)
        fill(tmp_path / ".restored.new", {b"half": b"of it", b"folder": {}})
        assert await restored(site, tmp_path) == content(folder)
        assert not (tmp_path / ".restored.new").exists()

    async def test_nothing_of_a_snapshot_is_readable_in_a_store(self, tmp_path):
        site, secret = Site(), b"session key " * 100
        await site.publish(fill(tmp_path / "folder", {b"secret-name": secret}))
        for name, stored in site.first.under(site.row).items():
            assert secret[:24] not in stored
            assert b"secret-name" not in stored
            assert "secret" not in name


class TestRefusedFolders:
    @pytest.mark.parametrize(
        "make",
        [
            lambda folder: (folder / "link").symlink_to("snapshot.json"),
            lambda folder: (folder / "link").symlink_to("Default"),
            lambda folder: os.mkfifo(folder / "Default/pipe"),
        ],
        ids=["link to a file", "link to a folder", "pipe"],
    )
    async def test_links_and_pipes_are_refused_and_the_snapshot_before_stays(self, tmp_path, make):
        site, folder = Site(), fill(tmp_path / "folder", SMALL)
        before = await site.publish(folder)
        make(folder)
        with pytest.raises(FolderRefused, match="neither a file nor a folder") as caught:
            await site.publish(folder)
        assert caught.value.hint
        assert site.row == before

    async def test_a_folder_that_is_missing_is_refused(self, tmp_path):
        with pytest.raises(FolderRefused, match="No such file"):
            await Site().publish(tmp_path / "folder")

    async def test_a_file_that_changes_while_it_is_read_is_refused(self, tmp_path):
        folder = fill(tmp_path / "folder", {b"log": noise(3 * CHUNK)})

        class Changing(Memory):
            async def put(self, *arguments):
                with (folder / "log").open("ab") as file:
                    file.write(b"more")
                await super().put(*arguments)

        with pytest.raises(FolderRefused, match="has changed"):
            await Site(Changing()).publish(folder)

    async def test_a_file_that_shrinks_while_it_is_read_is_refused(self, tmp_path):
        folder = fill(tmp_path / "folder", {b"log": noise(3 * CHUNK)})

        class Changing(Memory):
            async def put(self, *arguments):
                os.truncate(folder / "log", 10)
                await super().put(*arguments)

        with pytest.raises(FolderRefused, match="has changed"):
            await Site(Changing()).publish(folder)

    @pytest.mark.parametrize(
        ("limit", "value", "why"),
        [("MAX_FILES", 3, "more than 3 files"), ("MAX_BYTES", 1001, "GiB"), ("MAX_DEPTH", 1, "deeper")],
    )
    async def test_a_folder_beyond_all_measure_is_refused(self, tmp_path, monkeypatch, limit, value, why):
        monkeypatch.setattr(tree, limit, value)
        with pytest.raises(FolderRefused, match=why):
            await Site().publish(fill(tmp_path / "folder", SMALL))


class TestSending:
    async def test_of_64_mib_in_which_one_chat_has_changed_at_most_one_mib_is_sent(self, tmp_path):
        Directory.create(tmp_path / "store")
        site = Site(Directory(tmp_path / "store"))
        folder = login(tmp_path / "folder", 64)
        first = await site.store.publish(site.engine, LEASE, site.row, folder, AT)
        assert first.sent_bytes > 63 << 20
        change_one_chat(folder)
        second = await site.store.publish(site.engine, LEASE, site.row, folder, AT)
        assert 200_000 < second.sent_bytes <= 1 << 20

    async def test_what_has_not_changed_is_not_sent_again(self, tmp_path):
        site, folder = Site(), fill(tmp_path / "folder", LARGE)
        await site.publish(folder)
        site.first.calls.clear()
        await site.publish(folder)
        (put,) = [call for call in site.first.calls if call[0] == "put"]
        assert put[2] == manifest_of(site.row)

    async def test_a_store_that_lacks_something_gets_it(self, tmp_path):
        site, folder = Site(), fill(tmp_path / "folder", LARGE)
        await site.publish(folder)
        site.stores["new"] = Memory()
        await site.publish(folder)
        assert site.row.copies == ("copy0", "new")
        del site.stores["copy0"]
        assert await restored(site, tmp_path) == content(folder)

    async def test_a_store_that_is_away_or_full_is_left_out(self, tmp_path, caplog):
        site = Site(Memory(), Memory(), Memory())
        site.stores["copy0"].away = True
        site.stores["copy1"].room = CHUNK
        folder = fill(tmp_path / "folder", LARGE)
        await site.publish(folder)
        assert site.row.copies == ("copy2",)
        assert "to copy0: it is away" in caplog.text
        assert "to copy1: it is full" in caplog.text
        assert await restored(site, tmp_path) == content(folder)

    @pytest.mark.parametrize("fault", [{"away": True}, {"room": CHUNK}])
    async def test_where_no_store_takes_it_the_snapshot_before_stays(self, tmp_path, fault):
        site, folder = Site(), fill(tmp_path / "folder", LARGE)
        before = await site.publish(folder)
        whole = content(folder)
        (folder / "two").write_bytes(noise(2 * CHUNK, 9))
        vars(site.first).update(fault)
        with pytest.raises(StoreUnavailable):
            await site.publish(folder)
        vars(site.first).update(away=False, room=None)
        assert site.row == before
        assert await restored(site, tmp_path) == whole
        await site.publish(folder)
        assert await restored(site, tmp_path, "again") == content(folder)

    async def test_without_any_store_that_is_said(self, tmp_path):
        site = Site()
        site.stores.clear()
        with pytest.raises(StoreUnavailable, match="no store"):
            await site.publish(fill(tmp_path / "folder", SMALL))

    async def test_no_more_than_some_chunks_are_in_memory(self, tmp_path):
        import tracemalloc

        Directory.create(tmp_path / "store")
        site = Site(Directory(tmp_path / "store"))
        folder = fill(tmp_path / "folder", {})
        (folder / "log").write_bytes(noise(24 << 20))
        tracemalloc.start()
        try:
            await site.publish(folder)
            await site.store.restore(site.row, tmp_path / "restored")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 << 20


def flipped(stored, dice):
    bit = dice.randrange(8 * len(stored))
    return bytes(each ^ (1 << bit % 8 if at == bit // 8 else 0) for at, each in enumerate(stored))


def cut(stored, dice):
    return stored[: dice.randrange(len(stored))]


def lengthened(stored, dice):
    return stored + dice.randbytes(dice.randrange(1, 100))


DAMAGES = [flipped, cut, lengthened, lambda _stored, dice: dice.randbytes(20), lambda *_: None]


def damage(store, row, name, change, dice):
    """Change a stored object, or drop it."""
    place = Place(row.user, row.token)
    changed = change(store.places[place][name], dice)
    if changed is None:
        del store.places[place][name]
    else:
        store.places[place][name] = changed


TREE = {b"one": noise(100, 1), b"two": noise(200, 2)}


class TestDamage:
    async def two_snapshots(self, tmp_path, *stores):
        site = Site(*stores)
        await site.publish(fill(tmp_path / "before", TREE))
        await site.publish(fill(tmp_path / "now", {b"one": noise(100, 8), b"two": noise(200, 9)}))
        return site

    @pytest.mark.parametrize("change", DAMAGES, ids=["flip", "cut", "longer", "other", "drop"])
    @pytest.mark.parametrize("seed", range(6))
    async def test_the_snapshot_before_is_restored_where_the_newest_is_damaged(self, tmp_path, change, seed):
        site = await self.two_snapshots(tmp_path)
        dice = random.Random(seed)
        _, manifest = Manifest.open(
            KEYS, "7", names(site.row.snapshot)[0], site.first.under(site.row)[manifest_of(site.row)]
        )
        damage(
            site.first, site.row, dice.choice([manifest_of(site.row), *sorted(manifest.chunks)]), change, dice
        )
        assert await restored(site, tmp_path) == content(tmp_path / "before")

    @pytest.mark.parametrize("change", DAMAGES, ids=["flip", "cut", "longer", "other", "drop"])
    async def test_the_other_copy_is_read_where_one_is_damaged(self, tmp_path, change):
        site = await self.two_snapshots(tmp_path, Memory(), Memory())
        dice = random.Random(1)
        # Neither copy is whole; together they are.
        for number, name in enumerate(list(site.first.under(site.row))):
            damage(site.stores[f"copy{number % 2}"], site.row, name, change, dice)
        assert await restored(site, tmp_path) == content(tmp_path / "now")

    async def test_two_chunks_that_are_exchanged_are_found(self, tmp_path):
        site = Site()
        await site.publish(fill(tmp_path / "folder", TREE))
        stored = site.first.under(site.row)
        one, two = (name for name in stored if not name.startswith(MANIFEST))
        stored[one], stored[two] = stored[two], stored[one]
        with pytest.raises(Damaged):
            await restored(site, tmp_path)
        assert not (tmp_path / "restored").exists()

    async def test_the_chunks_and_manifests_of_another_user_are_refused(self, tmp_path):
        sites = [Site(user=user) for user in ("7", "8")]
        for site in sites:
            folder = fill(tmp_path / site.user, {b"login": f"of {site.user}".encode()})
            await site.publish(folder)
        mine, others = (site.first.under(site.row) for site in sites)
        (chunk, theirs) = (
            next(name for name in each if not name.startswith(MANIFEST)) for each in (mine, others)
        )
        whole = mine[chunk]
        mine[chunk] = others[theirs]
        with pytest.raises(Damaged):
            await restored(sites[0], tmp_path)
        mine[chunk] = whole
        mine[manifest_of(sites[0].row)] = others[manifest_of(sites[1].row)]
        mine[theirs] = others[theirs]
        with pytest.raises(Damaged):
            await restored(sites[0], tmp_path)
        # Also where the engine's row names it.
        mine[manifest_of(sites[1].row)] = others[manifest_of(sites[1].row)]
        sites[0].engine.rows["7"] = row("7", snapshot=sites[1].row.snapshot)
        with pytest.raises(Damaged, match="another user"):
            await restored(sites[0], tmp_path)

    async def test_an_older_manifest_under_the_name_of_a_newer_one_is_found(self, tmp_path):
        site = await self.two_snapshots(tmp_path)
        newest, before = (MANIFEST + name.sha256 for name in names(site.row.snapshot))
        stored = site.first.under(site.row)
        stored[newest] = stored[before]
        # It is the one before that is restored, by its own name.
        manifest = await site.store.restore(site.row, tmp_path / "restored")
        assert content(tmp_path / "restored") == content(tmp_path / "before")
        del stored[before]
        with pytest.raises(Damaged):
            await site.store.restore(site.row, tmp_path / "again")
        assert manifest.at == AT

    async def test_a_manifest_that_was_moved_to_another_token_is_found(self, tmp_path):
        site = Site()
        before = await site.publish(fill(tmp_path / "folder", TREE))
        site.first.places[Place("7", 9)] = site.first.places[Place("7", 5)]
        site.engine.rows["7"] = row("7", 9, snapshot=before.snapshot.replace("5/", "9/"))
        with pytest.raises(Damaged, match="token"):
            await restored(site, tmp_path)

    async def test_a_good_manifest_that_was_never_published_is_used_by_nobody(self, tmp_path):
        site = Site()
        before = await site.publish(fill(tmp_path / "before", TREE))
        await site.upload(fill(tmp_path / "now", LARGE))
        assert site.row == before
        assert await restored(site, tmp_path) == content(tmp_path / "before")

    async def test_where_nothing_is_whole_that_is_an_error_and_nothing_is_left(self, tmp_path):
        site = await self.two_snapshots(tmp_path)
        site.first.places.clear()
        with pytest.raises(Damaged, match="whole in no copy") as caught:
            await restored(site, tmp_path)
        assert caught.value.hint
        assert sorted(path.name for path in tmp_path.iterdir()) == ["before", "now"]

    @pytest.mark.parametrize("snapshot", [None, "", "nonsense 5/xyz"])
    async def test_without_a_snapshot_that_is_said(self, tmp_path, snapshot):
        site = Site()
        site.engine.rows["7"] = row(snapshot=snapshot)
        with pytest.raises(NoSnapshot, match="user 7"):
            await restored(site, tmp_path)

    async def test_a_copy_that_is_away_is_no_damage(self, tmp_path):
        site = await self.two_snapshots(tmp_path)
        site.first.away = True
        with pytest.raises(StoreUnavailable):
            await restored(site, tmp_path)

    async def test_the_snapshot_before_is_restored_where_the_copy_that_is_left_lacks_the_newest(
        self, tmp_path
    ):
        site = await self.two_snapshots(tmp_path, Memory(), Memory())
        site.stores["copy0"].away = True
        del site.stores["copy1"].under(site.row)[manifest_of(site.row)]
        assert await restored(site, tmp_path) == content(tmp_path / "before")

    async def test_a_copy_that_is_away_is_not_asked_for_each_chunk(self, tmp_path):
        site = await self.two_snapshots(tmp_path, Memory(), Memory())
        asked = []

        class Away(Memory):
            async def get(self, *arguments):
                asked.append(arguments)
                raise StoreUnavailable("it is away")

        site.stores["copy0"] = Away()
        assert await restored(site, tmp_path) == content(tmp_path / "now")
        assert len(asked) == 1

    async def test_a_key_that_is_missing_is_not_taken_for_damage(self, tmp_path):
        site = Site(keys=KEYS.rotated())
        await site.publish(fill(tmp_path / "folder", TREE))
        site.store = SnapshotStore(KEYS, SameStores(site.stores))
        with pytest.raises(KeyUnusable, match="fleet key 2"):
            await restored(site, tmp_path)

    async def test_snapshots_of_an_old_key_are_restored_and_kept_as_the_one_before(self, tmp_path):
        site = Site()
        await site.publish(fill(tmp_path / "before", TREE))
        site.store = SnapshotStore(KEYS.rotated(), SameStores(site.stores))
        assert await restored(site, tmp_path) == content(tmp_path / "before")
        await site.publish(fill(tmp_path / "now", LARGE))
        del site.first.under(site.row)[manifest_of(site.row)]
        assert await restored(site, tmp_path, "again") == content(tmp_path / "before")

    async def test_a_snapshot_whose_key_was_dropped_is_in_no_ones_way(self, tmp_path):
        site, folder = Site(), fill(tmp_path / "folder", TREE)
        await site.publish(folder)
        newest = FleetKeys.parse(KEYS.rotated().text().splitlines()[-1], "")
        site.store = SnapshotStore(newest, SameStores(site.stores))
        await site.publish(folder)
        assert await restored(site, tmp_path) == content(folder)
        assert len(site.first.under(site.row)) == 3

    async def test_a_full_disk_leaves_nothing_and_the_restore_is_repeated_when_there_is_room(
        self, tmp_path, monkeypatch
    ):
        site = await self.two_snapshots(tmp_path)
        with (
            failing(monkeypatch, "pwrite", errno.ENOSPC, after=1),
            pytest.raises(DiskFailed, match="No space left") as caught,
        ):
            await restored(site, tmp_path)
        assert "df -h" in caught.value.hint
        assert sorted(path.name for path in tmp_path.iterdir()) == ["before", "now"]
        assert await restored(site, tmp_path) == content(tmp_path / "now")


class TestScrub:
    async def test_a_damaged_object_is_replaced_from_another_copy(self, tmp_path):
        site, folder = Site(Memory(), Memory()), fill(tmp_path / "folder", LARGE)
        await site.publish(folder)
        whole = dict(site.first.under(site.row))
        dice = random.Random(1)
        for number, name in enumerate(whole):
            damage(site.stores[f"copy{number % 2}"], site.row, name, DAMAGES[number % 5], dice)
        assert await site.store.scrub(site.row) == len(whole)
        assert [store.under(site.row) for store in site.stores.values()] == [whole, whole]
        assert await site.store.scrub(site.row) == 0

    async def test_a_chunk_that_is_damaged_everywhere_is_sent_again_with_the_next_snapshot(self, tmp_path):
        site, folder = Site(), fill(tmp_path / "folder", LARGE)
        await site.publish(folder)
        chunk = next(name for name in site.first.under(site.row) if not name.startswith(MANIFEST))
        damage(site.first, site.row, chunk, flipped, random.Random(1))
        await site.publish(folder)
        with pytest.raises(Damaged):
            await restored(site, tmp_path)
        assert await site.store.scrub(site.row) == 1
        await site.publish(folder)
        assert await restored(site, tmp_path) == content(folder)

    async def test_a_chunk_that_was_cut_off_is_sent_again_without_a_scrub(self, tmp_path):
        site, folder = Site(), fill(tmp_path / "folder", LARGE)
        await site.publish(folder)
        chunk = next(name for name in site.first.under(site.row) if not name.startswith(MANIFEST))
        damage(site.first, site.row, chunk, cut, random.Random(1))
        await site.publish(folder)
        assert await restored(site, tmp_path) == content(folder)

    async def test_what_an_owner_before_has_made_is_not_touched(self, tmp_path):
        site = Site()
        await site.publish(fill(tmp_path / "folder", LARGE))
        site.first.under(site.row).popitem()
        assert await site.store.scrub(site.engine.move("7", 9)) == 0


class TestSweep:
    async def test_two_snapshots_are_kept_and_what_they_do_not_need_is_deleted(self, tmp_path):
        site = Site()
        for number in range(4):
            await site.publish(
                fill(tmp_path / str(number), {b"same": noise(99), b"new": noise(99, number + 5)})
            )
        assert len(names(site.row.snapshot)) == 2
        assert len(site.first.under(site.row)) == 2 + 3
        assert await restored(site, tmp_path) == content(tmp_path / "3")
        del site.first.under(site.row)[manifest_of(site.row)]
        assert await restored(site, tmp_path, "again") == content(tmp_path / "2")

    async def test_what_an_upload_left_that_was_never_published_is_deleted(self, tmp_path):
        site, folder = Site(), fill(tmp_path / "folder", SMALL)
        await site.publish(folder)
        await site.upload(fill(tmp_path / "other", LARGE))
        assert len(site.first.under(site.row)) > 5
        await site.publish(folder)
        assert len(site.first.under(site.row)) == 4

    async def test_publications_of_one_user_wait_for_one_another(self, tmp_path):
        site = Site()
        folders = [fill(tmp_path / str(number), {b"log": noise(CHUNK + 9, number)}) for number in range(4)]
        await asyncio.gather(*map(site.publish, folders))
        puts = [call[2] for call in site.first.calls if call[0] == "put"]
        assert [name.startswith(MANIFEST) for name in puts] == 4 * [False, False, True]
        assert await restored(site, tmp_path) == content(folders[-1])

    async def test_nothing_is_deleted_where_the_engine_does_not_say_that_it_was_published(self, tmp_path):
        site, folder = Site(), fill(tmp_path / "folder", SMALL)
        await site.publish(folder)
        site.first.calls.clear()
        site.engine.away = True
        with pytest.raises(EngineUnavailable):
            await site.publish(fill(tmp_path / "now", LARGE))
        assert not [call for call in site.first.calls if call[0] == "delete"]

    async def test_a_store_that_is_away_while_others_are_swept_fails_no_publication(self, tmp_path, caplog):
        site = Site(Memory(), Memory())
        await site.publish(fill(tmp_path / "1", SMALL))
        site.stores["copy0"].away = True
        for number in range(2, 5):
            await site.publish(fill(tmp_path / str(number), {b"new": noise(9, number)}))
        assert site.row.copies == ("copy1",)
        assert "Cannot sweep" in caplog.text
        assert len(site.stores["copy1"].under(site.row)) == 4

    async def test_nothing_of_a_newer_token_is_touched(self, tmp_path):
        site = Site()
        stale = await site.publish(fill(tmp_path / "folder", SMALL))
        site.engine.move("7", 9)
        await site.publish(fill(tmp_path / "now", LARGE))
        newer = dict(site.first.under(site.row))
        site.first.calls.clear()
        with pytest.raises(Conflict):
            await site.store.publish(site.engine, LEASE, stale, tmp_path / "folder", AT)
        await site.store.forget(stale)
        assert site.first.under(site.row) == newer
        assert not [call for call in site.first.calls if call[1] == Place("7", 9)]

    async def test_the_owner_before_is_kept_for_a_day_after_the_first_snapshot(self, tmp_path):
        site = Site()
        await site.publish(fill(tmp_path / "before", SMALL), at=AT - DAY_S)
        site.engine.move("7", 9)
        for number, at in enumerate((AT, AT + 300, AT + DAY_S - 1)):
            await site.publish(fill(tmp_path / f"own{number}", {b"new": noise(9, number)}), at=at)
            assert Place("7", 5) in site.first.places
        del site.first.places[Place("7", 9)]
        assert await restored(site, tmp_path) == content(tmp_path / "before")

    async def test_the_owner_before_is_deleted_after_a_day(self, tmp_path):
        site = Site()
        await site.publish(fill(tmp_path / "before", SMALL))
        site.engine.move("7", 9)
        await site.publish(fill(tmp_path / "own", LARGE))
        await site.publish(tmp_path / "own", at=AT + DAY_S)
        assert list(site.first.places) == [Place("7", 9)]
        assert [name.token for name in names(site.row.snapshot)] == [9, 9]

    async def test_before_the_first_own_snapshot_nothing_is_swept(self, tmp_path):
        site, folder = Site(), fill(tmp_path / "folder", SMALL)
        await site.publish(folder)
        site.engine.move("7", 9)
        await site.upload(fill(tmp_path / "own", LARGE))
        assert await restored(site, tmp_path) == content(folder)

    async def test_what_is_forgotten_is_gone_for_all_owners_up_to_this_one(self, tmp_path):
        site = Site(Memory(), Memory())
        await site.publish(fill(tmp_path / "folder", SMALL))
        site.engine.move("7", 9)
        await site.publish(tmp_path / "folder")
        await site.store.forget(site.row)
        assert [store.places for store in site.stores.values()] == [{}, {}]


class TestOwners:
    async def test_a_stale_owner_publishes_nothing_and_harms_nothing(self, tmp_path):
        site = Site()
        stale = site.row
        site.engine.move("7", 9)
        folder = fill(tmp_path / "now", LARGE)
        published = await site.publish(folder)
        with pytest.raises(Conflict):
            await site.store.publish(site.engine, LEASE, stale, fill(tmp_path / "stale", SMALL), AT)
        assert site.row == published
        assert await restored(site, tmp_path) == content(folder)

    async def test_of_two_who_publish_at_once_only_the_owner_does(self, tmp_path):
        store = Memory()
        stale, owner = Site(store), Site(store)
        old = stale.row
        stale.engine = owner.engine
        owner.engine.move("7", 9)
        folder = fill(tmp_path / "now", LARGE)
        outcomes = await asyncio.gather(
            stale.store.publish(stale.engine, LEASE, old, fill(tmp_path / "stale", SMALL), AT),
            owner.publish(folder),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], Conflict)
        assert owner.row == outcomes[1]
        assert await restored(owner, tmp_path) == content(folder)

    async def test_the_next_owner_restores_what_the_one_before_published(self, tmp_path):
        site, folder = Site(), fill(tmp_path / "folder", SMALL)
        await site.publish(folder)
        site.engine.move("7", 9)
        manifest = await site.store.restore(site.row, tmp_path / "restored")
        assert (manifest.token, content(tmp_path / "restored")) == (5, content(folder))


async def test_a_disk_that_does_not_answer_is_an_error_in_time(tmp_path, monkeypatch):
    import threading

    answer = threading.Event()
    monkeypatch.setattr(snapshot_store, "DISK_S", 0.05)
    site = Site()
    really = os.listdir

    def hangs(path):
        answer.wait(30)
        return really(path)

    monkeypatch.setattr(os, "listdir", hangs)
    began = time.monotonic()
    with pytest.raises(DiskFailed, match="did not answer"):
        await site.publish(fill(tmp_path / "folder", SMALL))
    answer.set()
    assert time.monotonic() - began < 20
