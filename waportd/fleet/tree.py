"""A folder with files and folders, read and written piece by piece: by no more than one chunk in memory.

Its owner may change it while it is read: no link is followed, and what is neither a file nor a folder is refused.
"""

import contextlib
import dataclasses
import errno
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from waportd import files
from waportd.errors import WaportdError
from waportd.fleet.chunks import CHUNK_BYTES
from waportd.fleet.manifest import File, Folder

MAX_FILES: Final = 50_000
"""In a snapshot, with folders: as many as in a copy of a login (server/snapshots.js)."""
MAX_BYTES: Final = 8 << 30
"""In a snapshot; a login has 50 MB to 2.5 GB."""
MAX_DEPTH: Final = 32

_OWNER_FILE, _OWNER_FOLDER = 0o600, 0o700
"""What the owner of a restored folder may always do with it."""


class FolderRefused(WaportdError):
    """A folder cannot be a snapshot: it cannot be read, changes meanwhile, or holds what no login has."""

    code = "folder_refused"
    status = 409
    title = "That folder cannot be a snapshot"


class DiskFailed(WaportdError):
    """A snapshot cannot be read from the disk of this host, or not be written to it."""

    code = "disk_failed"
    status = 507
    title = "The disk of this host fails"


# Reading


Item = Folder | File | bytes


def read(folder: Path, *, grows: bool = False) -> Iterator[Item]:
    """Yield what is in a folder: before each file's bytes, chunk by chunk, the file, with no chunks named.

    ``grows``: its files may become longer meanwhile; what they had at first is read. Raises FolderRefused. What is open
    is closed with the generator.
    """
    reading = _Reading(folder, grows=grows)
    try:
        with files.opened(folder) as descriptor:
            yield from _items(descriptor, "", reading)
    except OSError as error:
        raise _refused(folder, f"{error.filename or ''!s:.200} cannot be read: {error.strerror}") from error


class _Reading:
    """What is read, and how much of it may still be."""

    def __init__(self, folder: Path, *, grows: bool) -> None:
        self.folder = folder
        self.grows = grows
        self._files = MAX_FILES
        self._bytes = MAX_BYTES

    def take(self, path: str, size: int = 0) -> None:
        self._files -= 1
        self._bytes -= size
        if self._files < 0:
            raise _refused(self.folder, f"it holds more than {MAX_FILES} files")
        if self._bytes < 0:
            raise _refused(self.folder, f"it holds more than {MAX_BYTES >> 30} GiB")
        if path.count("/") >= MAX_DEPTH:
            raise _refused(self.folder, f"it is deeper than {MAX_DEPTH} folders")


def _items(here: int, above: str, reading: _Reading) -> Iterator[Item]:
    for name in sorted(os.listdir(here)):
        path = f"{above}{name}"
        found = os.stat(name, dir_fd=here, follow_symlinks=False)
        mode = stat.S_IMODE(found.st_mode) & 0o777
        if stat.S_ISDIR(found.st_mode):
            reading.take(path)
            yield Folder(path, mode)
            descriptor = os.open(name, files.LIST, dir_fd=here)
            try:
                yield from _items(descriptor, f"{path}/", reading)
            finally:
                os.close(descriptor)
        elif stat.S_ISREG(found.st_mode):
            reading.take(path, found.st_size)
            yield File(path, mode, found.st_size, ())
            yield from _chunks(here, name, path, found, reading)
        else:
            raise _refused(reading.folder, f"{path!a:.200} is neither a file nor a folder")


def _chunks(here: int, name: str, path: str, found: os.stat_result, reading: _Reading) -> Iterator[bytes]:
    descriptor = os.open(name, files.READ, dir_fd=here)
    try:
        for at in range(0, found.st_size, CHUNK_BYTES):
            chunk = os.pread(descriptor, min(CHUNK_BYTES, found.st_size - at), at)
            if len(chunk) != min(CHUNK_BYTES, found.st_size - at):
                raise _changed(reading.folder, path)
            yield chunk
        if not reading.grows and _look(os.fstat(descriptor)) != _look(found):
            raise _changed(reading.folder, path)
    finally:
        os.close(descriptor)


def _look(status: os.stat_result) -> tuple[int, ...]:
    # Not the time of the inode: the next snapshot links the same file.
    return stat.S_IFMT(status.st_mode), status.st_ino, status.st_size, status.st_mtime_ns


def _refused(folder: Path, why: str) -> FolderRefused:
    return FolderRefused(
        f"{folder} cannot be a snapshot: {why}",
        hint="publish a copy of the login that nobody writes to, as `GET /snapshot` of its server makes",
    )


def _changed(folder: Path, path: str) -> FolderRefused:
    return _refused(folder, f"{path!a:.200} has changed while it was read")


# Writing


@contextlib.contextmanager
def writing(place: Path) -> Iterator["NewFolder"]:
    """Give a new folder that gets its name at the end, and is removed where that is not reached. Raises DiskFailed."""
    new = NewFolder(place)
    try:
        yield new
        new.publish()
    except BaseException:
        with contextlib.suppress(OSError):  # the next one discards it, too
            new.discard()
        raise


class NewFolder:
    """A folder that is written beside its place, and gets its name when all of it is on the disk.

    One at a time for a place: what is left of an earlier one is removed.
    """

    def __init__(self, place: Path) -> None:
        """Begin. Raises DiskFailed, as all methods do, also where the place is not empty."""
        self.place = place
        self._new = place.parent / f".{place.name}.new"
        self._modes: list[Folder] = []
        with self._failing():
            if os.path.lexists(place) and (place.is_symlink() or not place.is_dir() or any(place.iterdir())):
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
            self.discard()
            self._new.mkdir(mode=_OWNER_FOLDER)

    def make_folder(self, folder: Folder) -> None:
        """Make a folder below."""
        with self._failing():
            self._path(folder.path).mkdir(mode=_OWNER_FOLDER)
        self._modes.append(folder)

    def write(self, file: File, index: int, chunk: bytes) -> None:
        """Write a chunk of a file. One with nothing but zeros becomes a hole."""
        with self._failing(), self._open(file, new=index == 0) as descriptor:
            at = index * CHUNK_BYTES
            left = memoryview(chunk if chunk.strip(b"\0") else b"")
            while left:
                written = os.pwrite(descriptor, left, at)
                left, at = left[written:], at + written

    def finish(self, file: File) -> None:
        """Have a whole file on the disk."""
        with self._failing(), self._open(file, new=not file.chunks) as descriptor:
            os.ftruncate(descriptor, file.size)
            os.fchmod(descriptor, file.mode | _OWNER_FILE)
            os.fsync(descriptor)

    def copy(
        self, source: Path, below: str = "", *, without: Collection[str] = (), grows: bool = False
    ) -> None:
        """Copy what is in a folder to a new folder ``below``, but for the files ``without``. Raises FolderRefused, too.

        ``grows`` is that of `read`.
        """
        if below:
            self.make_folder(Folder(below, _OWNER_FOLDER))
        file: File | None = None
        for item in read(source, grows=grows):
            if isinstance(item, bytes):
                if file is not None:
                    self.write(file, len(file.chunks), item)
                    file = dataclasses.replace(file, chunks=(*file.chunks, ""))
                continue
            if file is not None:
                self.finish(file)
                file = None
            path = f"{below}/{item.path}" if below else item.path
            if isinstance(item, Folder):
                self.make_folder(dataclasses.replace(item, path=path))
            elif item.path not in without:
                file = dataclasses.replace(item, path=path)
        if file is not None:
            self.finish(file)

    def add(self, path: str, content: bytes) -> None:
        """Write a file of at most one chunk."""
        file = File(path, _OWNER_FILE, len(content), ("",))
        self.write(file, 0, content)
        self.finish(file)

    def publish(self) -> None:
        """Have all of it on the disk, and then at its place."""
        with self._failing():
            for folder in reversed(self._modes):
                path = self._path(folder.path)
                path.chmod(folder.mode | _OWNER_FOLDER)
                files.sync(path)
            files.sync(self._new)
            self._new.rename(self.place)
            files.sync(self.place.parent)

    def discard(self) -> None:
        """Remove what has not got its name."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._new)

    def _path(self, path: str) -> Path:
        return self._new / path

    @contextlib.contextmanager
    def _open(self, file: File, *, new: bool) -> Iterator[int]:
        flags = files.NEW if new else files.NEW & ~(os.O_CREAT | os.O_EXCL)
        descriptor = os.open(self._path(file.path), flags, _OWNER_FILE)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DiskFailed(
                f"a login cannot be written to {self.place}: {error.strerror}",
                hint=f"the folder must be empty, and its disk have room: df -h {self.place.parent}",
            ) from error
