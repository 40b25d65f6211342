"""A store in a folder: whole objects or none, on a mount that may be missing, full, slow or lie."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest
from storing import failing, noise

from waportd.fleet.chunks import Damaged
from waportd.fleet.directory import MARK, Directory
from waportd.fleet.objects import Place, StoreUnavailable
from waportd.fleet.threads import Threads

PLACE = Place("7", 5)
ONE, TWO, MANIFEST = "1" * 64, "2" * 64, "manifest-" + "3" * 64


@pytest.fixture
def root(tmp_path):
    Directory.create(tmp_path / "store")
    return tmp_path / "store"


def names(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def test_users_have_folders_of_their_own_where_case_does_not_count(root):
    store = Directory(root)
    for user in ("Bob", "bob", "bOb", "b.b"):
        await store.put(Place(user, 5), ONE, b"")
    folders = [path.name for path in root.iterdir() if path.is_dir()]
    assert len({name.casefold() for name in folders}) == 4
    assert not any(name.endswith(".") for name in folders)


@pytest.mark.parametrize("user", ["..", "", "a/b", ".", "x" * 65])
def test_what_is_no_user_has_no_place(user):
    with pytest.raises(ValueError, match="no place"):
        Place(user, 5)


@pytest.mark.parametrize("name", ["..", "x", "../" + ONE, ONE[1:], ONE.upper().replace("1", "A"), ONE + "\n"])
async def test_what_is_no_name_is_refused(root, name):
    store = Directory(root)
    for call in (store.put(PLACE, name, b""), store.get(PLACE, name, 1), store.delete(PLACE, [name])):
        with pytest.raises(ValueError, match="not the name"):
            await call


async def test_an_object_that_is_too_long_is_damaged_and_not_read_to_its_end(root):
    store = Directory(root)
    await store.put(PLACE, ONE, b"")
    with (root / "7/5" / ONE).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Damaged, match="longer"):
        await store.get(PLACE, ONE, 1 << 20)


@pytest.mark.parametrize("put", [lambda path: path.mkdir(), lambda path: path.symlink_to("/etc/passwd")])
async def test_what_is_no_file_is_damaged(root, put):
    store = Directory(root)
    await store.put(PLACE, TWO, b"")
    put(root / "7/5" / ONE)
    with pytest.raises(Damaged):
        await store.get(PLACE, ONE, 10)


async def test_a_bad_sector_is_damage_of_one_object(root, monkeypatch):
    store = Directory(root)
    await store.put(PLACE, ONE, b"one")
    with failing(monkeypatch, "pread", errno.EIO), pytest.raises(Damaged, match="cannot be read"):
        await store.get(PLACE, ONE, 10)


async def test_a_folder_that_is_not_mounted_is_no_empty_store(root):
    (root / MARK).unlink()
    store = Directory(root)
    for call in (store.put(PLACE, ONE, b""), store.get(PLACE, ONE, 1), store.list(PLACE), store.tokens("7")):
        with pytest.raises(StoreUnavailable, match="has no file") as caught:
            await call
        assert "findmnt" in caught.value.hint
    assert names(root) == []


@pytest.mark.parametrize("function", ["write", "fsync"])
async def test_a_full_disk_leaves_the_object_as_it_was(root, monkeypatch, function):
    store = Directory(root)
    await store.put(PLACE, ONE, b"one")
    with failing(monkeypatch, function, errno.ENOSPC), pytest.raises(StoreUnavailable) as caught:
        await store.put(PLACE, ONE, b"more")
    assert (caught.value.cause, "df -h" in caught.value.hint) == ("full", True)
    assert await store.get(PLACE, ONE, 10) == b"one"
    assert names(root) == [f"7/5/{ONE}", MARK]


async def test_a_write_in_pieces_is_whole(root, monkeypatch):
    really = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: really(descriptor, bytes(content[:1000])))
    store = Directory(root)
    await store.put(PLACE, ONE, noise(10_500))
    assert await store.get(PLACE, ONE, 1 << 20) == noise(10_500)


async def test_a_mount_that_loses_bytes_is_found_before_the_object_has_its_name(root, monkeypatch):
    really = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: really(descriptor, bytes(len(content))))
    with pytest.raises(StoreUnavailable, match="not what can be read"):
        await Directory(root).put(PLACE, ONE, b"one")
    assert names(root) == [MARK]


async def test_what_a_killed_put_has_left_is_not_listed_and_goes_with_the_next_deletion(root):
    store = Directory(root)
    await store.put(PLACE, ONE, b"one")
    (root / "7/5/.new-1234").write_bytes(b"half")
    assert await store.list(PLACE) == {ONE: 3}
    await store.delete(PLACE, [])
    assert names(root) == [f"7/5/{ONE}", MARK]


async def test_an_object_is_on_the_disk_before_it_has_its_name_and_its_name_before_the_call_ends(
    root, monkeypatch
):
    done = []
    really_sync, really_rename = os.fsync, Path.rename

    def sync(descriptor):
        done.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        really_sync(descriptor)

    def rename(source, target):
        done.append(("rename", str(source)))
        return really_rename(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "rename", rename)
    store = Directory(root)
    for name in (ONE, MANIFEST):
        await store.put(PLACE, name, b"content")
    (sync_one, new_one), rename_one, (sync_two, new_two), rename_two, *folders = done
    assert (sync_one, rename_one, sync_two, rename_two) == (
        "sync",
        ("rename", new_one),
        "sync",
        ("rename", new_two),
    )
    assert folders == [("sync", str(root / "7/5")), ("sync", str(root / "7")), ("sync", str(root))]


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF])
async def test_a_mount_that_cannot_sync_folders_will_do(root, monkeypatch, error):
    really = os.fsync

    def sync(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir():
            raise OSError(error, os.strerror(error))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    store = Directory(root)
    await store.put(PLACE, MANIFEST, b"one")
    assert await store.get(PLACE, MANIFEST, 3) == b"one"


async def test_a_mount_that_hangs_is_an_error_in_time_and_what_was_asked_happens_in_order(root, monkeypatch):
    answer, begun = threading.Event(), threading.Event()
    really = Path.unlink

    def unlink(path, **options):
        if path.name == ONE:
            begun.set()
            answer.wait(60)
        really(path, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    store = Directory(root, limit_s=2)
    await store.put(PLACE, ONE, b"one")
    with pytest.raises(StoreUnavailable, match="within 2 s"):
        await store.delete(PLACE, [ONE])
    assert begun.wait(30)
    # Had it not waited, the deletion would take away the new one.
    putting = asyncio.create_task(store.put(PLACE, ONE, b"new"))
    await asyncio.sleep(0)
    answer.set()
    await putting
    assert await store.get(PLACE, ONE, 3) == b"new"


class TestThreads:
    async def test_work_that_hangs_takes_a_few_threads_however_often_it_is_asked_for(self):
        answer = threading.Event()
        before = threading.active_count()
        threads = Threads(0.05, most=2)
        for key in range(6):
            with pytest.raises(TimeoutError):
                await threads.run(key, answer.wait)
        assert threading.active_count() <= before + 2
        answer.set()
        assert await Threads(60).run(1, lambda: "well") == "well"

    async def test_threads_that_hung_are_used_again(self):
        answer = threading.Event()
        threads = Threads(30, most=1)
        hanging = asyncio.create_task(threads.run(1, answer.wait))
        await asyncio.sleep(0)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        answer.set()
        assert await threads.run(1, lambda: 1) == 1

    async def test_an_error_is_raised_where_the_work_is_awaited(self):
        with pytest.raises(ZeroDivisionError):
            await Threads(30).run(1, lambda: 1 // 0)

    async def test_work_of_one_key_is_done_in_order_and_of_others_at_once(self):
        done, both = [], threading.Barrier(2)
        threads = Threads(60)
        await asyncio.gather(*(threads.run("same", lambda each=each: done.append(each)) for each in range(9)))
        assert done == list(range(9))
        await asyncio.gather(threads.run("one", both.wait), threads.run("other", both.wait))
