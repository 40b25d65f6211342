"""Kills a publication at each step that it takes on the disk, and checks what is left: ``killing.py FOLDER``.

Each attempt is a process of its own, which sends itself SIGKILL right before one step; another one then looks. So the
parent has no thread, and forks.
"""

import asyncio
import hashlib
import os
import shutil
import signal
import sys
from pathlib import Path

from storing import AT, KEYS, LEASE, Rows, change_one_chat, content, noise, row

from waportd.fleet.directory import Directory
from waportd.fleet.objects import MANIFEST, Place
from waportd.fleet.snapshot_store import SnapshotStore
from waportd.fleet.stores import SameStores

STEPS = (
    "open",
    "write",
    "pwrite",
    "fsync",
    "rename",
    "unlink",
    "mkdir",
    "rmdir",
    "ftruncate",
    "fchmod",
    "chmod",
)
"""Calls of `os` that change something. `Path` calls them, too."""


class Persistent(Rows):
    """The engine's row, in a file: what was published is known after a kill. One step is right before it changes."""

    def __init__(self, path):
        self._path = path
        super().__init__(row(snapshot=path.read_text() if path.exists() else None))

    async def publish(self, lease, row):
        published = await super().publish(lease, row)
        new = self._path.with_suffix(".new")
        new.write_text(published.snapshot)
        new.rename(self._path)
        return published


def site(here):
    store = Directory(here / "store")
    return SnapshotStore(KEYS, SameStores({"directory": store})), Persistent(here / "row")


async def publish(here, folder, at):
    store, engine = site(here)
    return await store.publish(engine, LEASE, engine.rows["7"], folder, at)


async def restore(here, target):
    store, engine = site(here)
    return await store.restore(engine.rows["7"], target)


def kill_before(step):
    """Have this process killed before that step."""
    count = 0
    opens = os.open

    def watch(function):
        def watched(*arguments, **options):
            nonlocal count
            if function is not opens or arguments[1] & os.O_CREAT:
                count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return watched

    for name in STEPS:
        setattr(os, name, watch(getattr(os, name)))


def in_child(work):
    """Do work in a process; return whether it was killed. Ends this one where it failed."""
    if (child := os.fork()) == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            sys.excepthook(type(error), error, error.__traceback__)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    if os.waitstatus_to_exitcode(status):
        sys.exit("a step failed")
    return False


def attempt(base, here, step, work, check):
    """Do work on a copy of what there is, killed before a step; return whether it was killed."""
    shutil.copytree(base, here)

    def killed():
        kill_before(step)
        asyncio.run(work(here))

    was_killed = in_child(killed)
    in_child(lambda: asyncio.run(check(here, was_killed)))
    shutil.rmtree(here)
    return was_killed


def every_step(base, here, work, check):
    """Return how many steps there were."""
    step = 1
    while attempt(base, here, step, work, check):
        step += 1
    return step - 1


async def publish_third(here):
    await publish(here, here / "third", AT + 600)


async def look_at_all(here):
    """Each snapshot that the row names is whole, and so is each object that has a name."""
    store, engine = site(here)
    named = engine.rows["7"].snapshot.split()
    assert len(named) == 2
    for number, name in enumerate(named):
        await store.restore(row(snapshot=name), here / f"named{number}")
    directory, place = Directory(here / "store"), Place("7", 5)
    for name in await directory.list(place):
        stored = await directory.get(place, name, 1 << 20)
        if name.startswith(MANIFEST):
            assert hashlib.sha256(stored).hexdigest() == name.removeprefix(MANIFEST)
        else:
            KEYS.of("7").open(name, stored)


async def look_after_publication(here, was_killed):
    """Either the second or the third snapshot is restored, whole; a publication then goes well, and nothing is left over."""
    manifest = await restore(here, here / "restored")
    folder = {AT + 300: "second", AT + 600: "third"}[manifest.at]
    assert was_killed or folder == "third"
    assert content(here / "restored") == content(here / folder)
    await look_at_all(here)
    published = await publish(here, here / "third", AT + 900)
    await restore(here, here / "again")
    assert content(here / "again") == content(here / "third")
    await publish(here, here / "third", AT + 1200)
    after = await Directory(here / "store").list(Place("7", 5))
    assert {name for name in after if not name.startswith(MANIFEST)} == published.manifest.chunks
    assert len(after) == len(published.manifest.chunks) + 2
    assert not list((here / "store").rglob(".new-*"))


async def restore_second(here):
    await restore(here, here / "restored")


async def look_after_restore(here, was_killed):
    """There is all of it or nothing, and the next restore goes well."""
    place = here / "restored"
    assert was_killed or place.exists()
    if place.exists():
        assert content(place) == content(here / "second")
        shutil.rmtree(place)
    await restore(here, place)
    assert content(place) == content(here / "second")
    assert not (here / ".restored.new").exists()


def main(folder):
    os.fsync = lambda _descriptor: None  # what is written outlives a kill, and this takes most of the time
    base = folder / "base"
    (base / "store").mkdir(parents=True)
    Directory.create(base / "store")
    first = base / "first"
    first.mkdir()
    (first / "000900.log").write_bytes(noise(1000))
    (first / "old.ldb").write_bytes(noise(300, 2))
    for number, name in enumerate(("second", "third")):
        shutil.copytree(base / ("first", "second")[number], base / name)
        change_one_chat(base / name, number)
        (base / name / f"{number}").mkdir()
    (base / "second/old.ldb").unlink()
    (base / "third/old.ldb").unlink()
    in_child(lambda: asyncio.run(publish(base, base / "first", AT)))
    in_child(lambda: asyncio.run(publish(base, base / "second", AT + 300)))
    print(  # noqa: T201
        every_step(base, folder / "try", publish_third, look_after_publication),
        every_step(base, folder / "try", restore_second, look_after_restore),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
