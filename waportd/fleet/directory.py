"""An object store in a folder, on this host's disk or on any mount that all hosts have: NFS, CIFS, CephFS.

Only whole files are shared there, which get their name by a rename. Nothing is locked, linked or written twice.
"""

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar

from waportd import files
from waportd.fleet import key_files
from waportd.fleet.chunks import Damaged
from waportd.fleet.objects import MANIFEST, NAME, ObjectMissing, Place, StoreUnavailable
from waportd.fleet.threads import Threads
from waportd.model import is_user

T = TypeVar("T")

MARK: Final = "waportd-snapshots"
"""A file in the folder of a store. Where it is missing, the file system is not mounted."""
LIMIT_S: Final = 30.0
"""Seconds for one call."""

_NEW: Final = ".new-"
_PIECE: Final = 512 << 10
"""Bytes that are read at once."""
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TOKEN: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_UNREADABLE: Final = {errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.EISDIR, errno.ELOOP}
"""What reading one damaged file fails with."""
_NO_SYNC: Final = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF}
"""What fsync of a folder fails with on file systems that have none, such as CIFS."""


class Directory:
    """A store in a folder."""

    def __init__(self, root: Path, *, limit_s: float = LIMIT_S) -> None:
        self._root = root
        self._limit_s = limit_s
        self._threads = Threads(limit_s)

    @staticmethod
    def create(root: Path) -> None:
        """Make a folder a store, once for all hosts. Raises OSError."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_files.write(root / MARK, b"Snapshots of a fleet of waportd.\n")

    async def put(self, place: Place, name: str, content: bytes) -> None:
        """Store an object, as `Objects.put`."""
        await self._run(place, lambda folder: _put(folder, _checked(name), content))

    async def get(self, place: Place, name: str, most: int) -> bytes:
        """Return an object, as `Objects.get`."""
        return await self._run(place, lambda folder: _get(folder, _checked(name), most))

    async def list(self, place: Place) -> Mapping[str, int]:
        """Return names and sizes, as `Objects.list`."""
        return await self._run(place, _list)

    async def tokens(self, user: str) -> Collection[int]:
        """Return tokens, as `Objects.tokens`."""
        return await self._run(Place(user, 0), lambda folder: _tokens(folder.parent))

    async def users(self) -> Collection[str]:
        """Return the users that have objects here. Raises StoreUnavailable."""
        return await self._at(self._root, lambda: _users(self._root))

    async def delete(self, place: Place, objects: Collection[str]) -> None:
        """Delete objects, as `Objects.delete`."""
        await self._run(place, lambda folder: _delete(folder, [_checked(name) for name in objects]))

    async def _run(self, place: Place, work: Callable[[Path], T]) -> T:
        folder = self._root / _safe(place.user) / str(place.token)
        return await self._at(place, lambda: work(folder))

    async def _at(self, key: Hashable, work: Callable[[], T]) -> T:
        def checked() -> T:
            (self._root / MARK).lstat()
            return work()

        try:
            return await self._threads.run(key, checked)
        except TimeoutError:
            raise StoreUnavailable(
                f"{self._root} did not answer within {self._limit_s:g} s",
                hint=f"look at its file system: findmnt --target {self._root}",
            ) from None
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        if error.filename == str(self._root / MARK) and error.errno == errno.ENOENT:
            return StoreUnavailable(
                f"{self._root} is not a store of snapshots: it has no file {MARK}",
                hint=f"mount its file system: findmnt --target {self._root}",
            )
        if error.errno in _FULL:
            return StoreUnavailable(
                f"{self._root} is full",
                cause="full",
                hint=f"make room there, or raise its quota: df -h {self._root}",
            )
        return StoreUnavailable(
            f"{self._root} cannot be used: {error.strerror}",
            hint=f"look at its file system: findmnt --target {self._root}",
        )


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r:.80} is not the name of an object")
    return name


def _safe(user: str) -> str:
    """Return a folder's name of its own for each user, also where a mount does not distinguish upper and lower case."""
    return re.sub(r"[A-Z.]", lambda found: f"%{ord(found[0]):02x}", user)


def _users(root: Path) -> list[str]:
    with os.scandir(root) as found:
        names = [entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
    users = (re.sub(r"%([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), name) for name in names)
    return [user for user in users if is_user(user)]


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _put(folder: Path, name: str, content: bytes) -> None:
    _make(folder)
    # A name of its own: nobody else has written a part of what gets its name.
    new = folder / f"{_NEW}{secrets.token_hex(8)}"
    try:
        with _opened(new, _CREATE) as descriptor:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
            _verify(descriptor, content)
        new.rename(folder / name)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    if name.startswith(MANIFEST):
        # The names of its chunks, too, and those of the folders.
        for each in (folder, *folder.parents[:2]):
            _sync(each)


def _verify(descriptor: int, content: bytes) -> None:
    """Read what was written: a mount may lose bytes and not say so."""
    if _content(descriptor, len(content)) != content:
        raise OSError(errno.EIO, "what was written is not what can be read")


def _make(folder: Path) -> None:
    for each in (folder.parent, folder):
        with contextlib.suppress(FileExistsError):
            each.mkdir(mode=0o700)


def _sync(folder: Path) -> None:
    try:
        files.sync(folder)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _get(folder: Path, name: str, most: int) -> bytes:
    try:
        with _opened(folder / name, files.READ) as descriptor:
            content = _content(descriptor, most)
    except FileNotFoundError:
        raise ObjectMissing(f"{folder / name} is missing") from None
    except OSError as error:
        if error.errno not in _UNREADABLE:
            raise
        raise Damaged(f"{folder / name} cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise Damaged(f"{folder / name} is longer than it can be")
    return content


def _content(descriptor: int, most: int) -> bytes:
    """Return a file from its beginning, and one byte more than ``most`` of it at most."""
    pieces: list[bytes] = []
    at = 0
    while at <= most and (piece := os.pread(descriptor, min(_PIECE, most + 1 - at), at)):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)


def _list(folder: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if NAME.fullmatch(entry.name):
                    sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return {}
    return sizes


def _tokens(folder: Path) -> list[int]:
    try:
        return [int(each.name) for each in folder.iterdir() if _TOKEN.fullmatch(each.name)]
    except FileNotFoundError:
        return []


def _delete(folder: Path, objects: Collection[str]) -> None:
    try:
        left = [each.name for each in folder.iterdir() if each.name.startswith(_NEW)]
    except FileNotFoundError:
        return
    for name in (*objects, *left):
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()
    for each in (folder, folder.parent):
        with contextlib.suppress(OSError):  # it is not empty
            each.rmdir()
