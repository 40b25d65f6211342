"""Stores and an engine in memory, folders to publish, and what may be done to stored objects."""

import contextlib
import dataclasses
import errno
import os
import random
import stat
from pathlib import Path

from waportd.fleet.chunks import CHUNK_BYTES, Damaged, FleetKeys
from waportd.fleet.engine import Conflict, EngineUnavailable, Lease, Row
from waportd.fleet.manifest import names
from waportd.fleet.objects import MANIFEST, ObjectMissing, Place, StoreUnavailable
from waportd.fleet.snapshot_store import SnapshotStore
from waportd.fleet.stores import SameStores

KEYS = FleetKeys.create()
LEASE = Lease("a", 1, 1, 45.0)
AT = 1_700_000_000.0
DAY_S = 86_400.0


class Memory:
    """A store."""

    def __init__(self):
        self.places = {}
        self.away = False
        self.room = None
        """Bytes that still fit; None: any number."""
        self.calls = []

    def _call(self, *call):
        if self.away:
            raise StoreUnavailable("it is away")
        self.calls.append(call)

    async def put(self, place, name, content):
        self._call("put", place, name)
        if self.room is not None:
            if self.room < len(content):
                raise StoreUnavailable("it is full")
            self.room -= len(content)
        self.places.setdefault(place, {})[name] = content

    async def get(self, place, name, most):
        self._call("get", place, name)
        content = self.places.get(place, {}).get(name)
        if content is None:
            raise ObjectMissing(f"{name} is missing")
        if len(content) > most:
            raise Damaged(f"{name} is too long")
        return content

    async def list(self, place):
        self._call("list", place)
        return {name: len(content) for name, content in self.places.get(place, {}).items()}

    async def tokens(self, user):
        self._call("tokens", user)
        return [place.token for place in self.places if place.user == user]

    async def delete(self, place, objects):
        self._call("delete", place, tuple(objects))
        kept = {name: each for name, each in self.places.get(place, {}).items() if name not in objects}
        self.places.pop(place, None)
        if kept:
            self.places[place] = kept

    def under(self, row):
        return self.places[Place(row.user, row.token)]


class Rows:
    """The engine's rows, and its condition for `publish`."""

    def __init__(self, *rows):
        self.rows = {row.user: row for row in rows}
        self.away = False

    async def publish(self, lease, row):
        if self.away:
            raise EngineUnavailable("nobody answers")
        now = self.rows[row.user]
        if now.token != row.token:
            raise Conflict("the user has another owner")
        self.rows[row.user] = dataclasses.replace(
            now, snapshot=row.snapshot, copies=row.copies, revision=now.revision + 1
        )
        return self.rows[row.user]

    def move(self, user, token):
        self.rows[user] = dataclasses.replace(self.rows[user], token=token)
        return self.rows[user]


class Site:
    """A host's snapshot store with some copies, and the engine."""

    def __init__(self, *stores, user="7", token=5, keys=KEYS):
        self.stores = {f"copy{number}": store for number, store in enumerate(stores or (Memory(),))}
        self.store = SnapshotStore(keys, SameStores(self.stores))
        self.engine = Rows(row(user, token))
        self.user = user

    @property
    def row(self):
        return self.engine.rows[self.user]

    @property
    def first(self):
        return next(iter(self.stores.values()))

    async def publish(self, folder, at=AT):
        return (await self.store.publish(self.engine, LEASE, self.row, folder, at)).row

    async def upload(self, folder):
        """Do all of a publication but its transaction."""
        self.engine.away = True
        with contextlib.suppress(EngineUnavailable):
            await self.publish(folder)
        self.engine.away = False


def row(user="7", token=5, **others):
    return Row(user, 5001, "a", token, runs=3, **others)


def fill(folder: Path, tree) -> Path:
    """Make a folder of bytes (files) and dictionaries (folders)."""
    folder.mkdir(parents=True)
    for name, each in tree.items():
        path = folder / os.fsdecode(name)
        if isinstance(each, dict):
            fill(path, each)
        else:
            path.write_bytes(each)
    return folder


def content(folder: Path):
    """Return all that a folder holds, with modes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        held = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
        found[os.fsencode(path.relative_to(folder))] = stat.S_IMODE(status.st_mode), held
    return found


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def login(folder: Path, mib: int) -> Path:
    """Make a folder like that of a login: tables of 2 MiB, and a log."""
    database = folder / "Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb"
    database.mkdir(parents=True)
    for number in range(mib // 2 - 1):
        (database / f"{number:06}.ldb").write_bytes(noise(2 << 20, number))
    (database / "000900.log").write_bytes(noise(2 << 20, 1000))
    (database / "CURRENT").write_bytes(b"MANIFEST-000001\n")
    return folder


def change_one_chat(folder: Path, seed=0) -> None:
    """Do what a chat changes: the log grows, and a small table is written."""
    (log,) = folder.rglob("000900.log")
    with log.open("ab") as file:
        file.write(noise(60_000, seed))
    (log.parent / f"9{seed:05}.ldb").write_bytes(noise(150_000, seed + 1))


def manifest_of(row):
    return MANIFEST + names(row.snapshot)[0].sha256


@contextlib.contextmanager
def failing(monkeypatch, function, error, *, after=0):
    """Have a function of `os` fail from its call number ``after`` on."""
    really = getattr(os, function)
    count = 0

    def fails(*arguments, **options):
        nonlocal count
        count += 1
        if count > after:
            raise OSError(error, os.strerror(error))
        return really(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fails)
        yield


CHUNK = CHUNK_BYTES
FULL = errno.ENOSPC
