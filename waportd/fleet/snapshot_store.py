"""Snapshots of logins: where they lie, how they travel, and which may be restored.

A snapshot is published by one transaction of the engine, after all of it lies in a store: `Row.snapshot` then names its
manifest, and those before that are kept. What no row names was never published; it is used by nobody, and swept later.
"""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from waportd.concurrency import KeyedLocks
from waportd.errors import WaportdError
from waportd.fleet import tree
from waportd.fleet.chunks import CHUNK_BYTES, TAG_BYTES, Damaged, FleetKeys, KeyUnusable, UserKey
from waportd.fleet.copies import Copies, Sending, repair, sweep
from waportd.fleet.engine import Engine, Lease, Row
from waportd.fleet.manifest import MAX_BYTES, File, Folder, Manifest, SnapshotName, names
from waportd.fleet.objects import MANIFEST, Place, StoreUnavailable
from waportd.fleet.stores import Stores
from waportd.fleet.threads import Threads

T = TypeVar("T")

log = logging.getLogger(__name__)

KEPT_S: Final = 86_400.0
"""Seconds for which the last snapshot of the owner before is kept, after the first one of this owner."""
DISK_S: Final = 120.0
"""Seconds for one step on this host's disk."""
_CHUNK_MOST: Final = CHUNK_BYTES + TAG_BYTES


class NoSnapshot(Damaged):
    """A user has no snapshot that could be restored."""

    code = "no_snapshot"
    status = 404
    title = "There is no snapshot"


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """A new snapshot."""

    row: Row
    """That names it, as the engine has it."""
    manifest: Manifest
    sent_bytes: int
    """To one store: the most."""


class SnapshotStore:
    """Publishes and restores snapshots. What happens to one user happens one after the other."""

    def __init__(self, keys: FleetKeys, stores: Stores) -> None:
        self._keys = keys
        self._stores = stores
        self._locks: KeyedLocks[str] = KeyedLocks()
        self._threads = Threads(DISK_S)

    def has_place(self, row: Row) -> bool:
        """Return whether there is a store for a user's snapshots."""
        return bool(self._stores.wanted(row))

    def is_complete(self, row: Row) -> bool:
        """Return whether the newest snapshot is in all stores in which it should be now."""
        return self._stores.wanted(row).keys() <= set(row.copies)

    async def publish(self, engine: Engine, lease: Lease, row: Row, folder: Path, at: float) -> Published:
        """Publish the snapshot that lies in a folder, and sweep what no published one needs any more.

        ``at`` is when the login was like that, in seconds since the epoch. Whatever fails, the snapshot that was
        published before stays. Raises FolderRefused, DiskFailed and StoreUnavailable, and what `Engine.publish` raises.
        """
        async with self._locks[row.user]:
            upload = await self._upload(row, folder, at)
            # Until here nobody uses what was sent. From here on it is this user's snapshot, or this host is stale.
            published = dataclasses.replace(upload, row=await engine.publish(lease, upload.row))
            try:
                await self._sweep(published.row)
            except StoreUnavailable as error:
                log.warning("Cannot sweep the snapshots of user %s: %s", row.user, error)  # the next one does
            return published

    async def forget(self, row: Row) -> None:
        """Delete all snapshots up to this row's token: the user is deleted, or unlinked. Raises StoreUnavailable."""
        async with self._locks[row.user]:
            # The row of a deleted user does not say any more where they are.
            stores = {**self._stores.wanted(row), **self._stores.holding(row)}
            await sweep(stores, row.user, row.token, lambda _token, _name: False)

    async def scrub(self, row: Row) -> int:
        """Read this owner's newest snapshot to the last byte in all stores; return how many objects were damaged.

        They are replaced from another copy, or deleted: a chunk that has not changed would otherwise not be sent again,
        and each later snapshot lack it, too. Raises StoreUnavailable, and Damaged where no manifest is left.
        """
        async with self._locks[row.user]:
            stores = self._stores.holding(row)
            named = names(row.snapshot)[:1]
            if not named or named[0].token != row.token:
                return 0
            place = Place(row.user, row.token)
            key, manifest = await self._manifest(row.user, named[0], Copies(stores))
            read = functools.partial(self._opened, row.user, named[0])
            count = await repair(stores, place, MANIFEST + named[0].sha256, MAX_BYTES, read)
            for chunk in sorted(manifest.chunks):
                check = functools.partial(self._checked, key, chunk)
                count += await repair(stores, place, chunk, _CHUNK_MOST, check)
            return count

    async def restore(self, row: Row, folder: Path) -> Manifest:
        """Restore the newest snapshot that is whole, into a folder that is empty or missing; return what it is.

        Every byte is verified before the folder gets its name. Raises NoSnapshot where the row names none, Damaged
        where none of them is whole, StoreUnavailable where no copy can be reached, KeyUnusable, and RestoreFailed.
        """
        async with self._locks[row.user]:
            damage: Damaged = NoSnapshot(
                f"no snapshot of user {row.user} was ever published", hint="the user has to scan a code"
            )
            for name in names(row.snapshot):
                copies = Copies(self._stores.holding(row))
                try:
                    return await self._restore(row.user, name, copies, folder)
                except Damaged as error:
                    log.warning("Cannot restore snapshot %s of user %s: %s", name, row.user, error)
                    damage = error
            raise damage

    # Publishing

    async def _upload(self, row: Row, folder: Path, at: float) -> Published:
        kept, since = await self._kept(row, at)
        sending = await Sending.to(self._stores.wanted(row), Place(row.user, row.token))
        key = self._keys.of(row.user)
        folders: list[Folder] = []
        found: list[tuple[File, list[str]]] = []
        items = tree.read(folder)
        while (item := await self._on_disk(folder, lambda: next(items, None))) is not None:
            if isinstance(item, Folder):
                folders.append(item)
            elif isinstance(item, File):
                found.append((item, []))
            else:
                found[-1][1].append(await self._send(sending, key, item))
        files = tuple(dataclasses.replace(file, chunks=tuple(chunks)) for file, chunks in found)
        manifest = Manifest(row.token, row.runs, at, since, tuple(folders), files)
        name, sealed = manifest.seal(key)
        await sending.put(MANIFEST + name.sha256, sealed)
        snapshot = " ".join(map(str, (name, *kept)))
        new = dataclasses.replace(row, snapshot=snapshot, copies=sending.copies)
        return Published(new, manifest, sending.sent_bytes)

    async def _send(self, sending: Sending, key: UserKey, plain: bytes) -> str:
        """Send a chunk where it is lacking; return its name."""
        name = await self._threads.run(key, functools.partial(key.name, plain))
        if sending.lacks(name, len(plain) + TAG_BYTES):
            await sending.put(name, await self._threads.run(key, functools.partial(key.seal, name, plain)))
        return name

    async def _kept(self, row: Row, at: float) -> tuple[list[SnapshotName], float]:
        """Return which manifests are named after a new one, and since when this owner has made any.

        The last whole one of this owner, and for a day that of the owner before: it shares no chunk with these.
        """
        copies = Copies(self._stores.holding(row))
        kept: list[SnapshotName] = []
        since = at
        for name in names(row.snapshot):
            if name.token == row.token and not kept:
                with contextlib.suppress(Damaged, KeyUnusable):
                    with contextlib.suppress(StoreUnavailable):  # it may well be whole
                        _, manifest = await self._manifest(row.user, name, copies)
                        since = manifest.since
                    kept.append(name)
            elif name.token < row.token and at - since < KEPT_S:
                return [*kept, name], since
        return kept, since

    async def _sweep(self, row: Row) -> None:
        """Delete what a row does not need that was published just now, and no other may have been since.

        Under its own token that is what no named manifest needs; under older ones everything, if none is named.
        """
        named = names(row.snapshot)
        stores = self._stores.holding(row)
        needed: set[str] = set()
        for name in named:
            if name.token == row.token:
                needed.add(MANIFEST + name.sha256)
                # What cannot be read cannot be restored either, and needs nothing.
                with contextlib.suppress(Damaged, KeyUnusable):
                    _, manifest = await self._manifest(row.user, name, Copies(stores))
                    needed |= manifest.chunks
        older = {name.token for name in named} - {row.token}
        await sweep(
            stores,
            row.user,
            row.token,
            lambda token, name: token in older or (token == row.token and name in needed),
        )

    # Restoring

    async def _restore(self, user: str, name: SnapshotName, copies: Copies, folder: Path) -> Manifest:
        key, manifest = await self._manifest(user, name, copies)
        new = await self._on_disk(folder, lambda: tree.NewFolder(folder))
        try:
            for each in manifest.folders:
                await self._on_disk(folder, functools.partial(new.make_folder, each))
            for file in manifest.files:
                for index, chunk in enumerate(file.chunks):
                    use = functools.partial(self._write, key, new, file, index)
                    await copies.read(Place(user, name.token), chunk, _CHUNK_MOST, use)
                await self._on_disk(folder, functools.partial(new.finish, file))
            await self._on_disk(folder, new.publish)
        except BaseException:
            with contextlib.suppress(WaportdError):  # the next one discards it, too
                await self._on_disk(folder, new.discard)
            raise
        return manifest

    async def _write(self, key: UserKey, new: tree.NewFolder, file: File, index: int, sealed: bytes) -> None:
        plain = await self._checked(key, file.chunks[index], sealed)
        if len(plain) != min(CHUNK_BYTES, file.size - index * CHUNK_BYTES):
            raise Damaged(f"chunk {file.chunks[index]} has another length")
        await self._on_disk(new.place, lambda: new.write(file, index, plain))

    async def _checked(self, key: UserKey, chunk: str, sealed: bytes) -> bytes:
        return await self._threads.run(key, lambda: key.open(chunk, sealed))

    async def _manifest(self, user: str, name: SnapshotName, copies: Copies) -> tuple[UserKey, Manifest]:
        read = functools.partial(self._opened, user, name)
        return await copies.read(Place(user, name.token), MANIFEST + name.sha256, MAX_BYTES, read)

    async def _opened(self, user: str, name: SnapshotName, sealed: bytes) -> tuple[UserKey, Manifest]:
        return await self._threads.run(name, lambda: Manifest.open(self._keys, user, name, sealed))

    async def _on_disk(self, folder: Path, work: Callable[[], T]) -> T:
        try:
            return await self._threads.run(folder, work)
        except TimeoutError:
            raise tree.DiskFailed(
                f"the disk with {folder} did not answer within {DISK_S:g} s",
                hint="look at its state: journalctl --dmesg --since -10min",
            ) from None
