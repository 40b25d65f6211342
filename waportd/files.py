"""Opens files and folders where others may write, without following their links or waiting; has them on the disk."""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

_MAX_LINKS: Final = 40
"""The most links on the way to a folder, as in the kernel (path_resolution(7))."""
_THROUGH: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a file is opened that nobody else has made."""
LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a folder is opened that is no link."""
READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How a file is opened that is no link. A pipe is not waited for: `read` refuses one."""


@contextlib.contextmanager
def opened(path: Path, above: int | None = None) -> Iterator[int]:
    """Open a folder step by step, and give its descriptor; a relative path begins in the folder ``above``.

    A link is followed where it belongs to root or to the caller: nobody else decides which folder is opened. Raises
    OSError; its ``filename`` is the part of the path that cannot be opened.
    """
    descriptor = _walk(path, above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _walk(path: Path, above: int | None) -> int:
    here = os.dup(above) if above is not None else os.open(".", os.O_PATH | os.O_CLOEXEC)
    left, way, links = list(path.parts), Path(), 0
    try:
        while left:
            part = left.pop(0)
            way = Path(part) if part.startswith("/") else way / part
            step = _step(part, here, way)
            if stat.S_ISLNK((found := os.fstat(step)).st_mode):
                links += 1
                left[:0] = _target(step, found.st_uid, way, links)
                way = way.parent
                os.close(step)
            else:
                os.close(here)
                here = step
        return _step(".", here, way, LIST)
    finally:
        os.close(here)


def _step(part: str, here: int, way: Path, flags: int = _THROUGH) -> int:
    try:
        return os.open(part, flags, dir_fd=here)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(way)) from None


def _target(link: int, owner: int, way: Path, links: int) -> Sequence[str]:
    """Return the target of an open link."""
    if owner not in {0, os.geteuid()}:
        os.close(link)
        raise OSError(errno.ELOOP, f"a link that belongs to user id {owner} is not followed", str(way))
    if links > _MAX_LINKS:
        os.close(link)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(way))
    return Path(os.readlink("", dir_fd=link)).parts


def path_of(descriptor: int) -> Path:
    """Return the path of an open folder, without links."""
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def open_to_others(folder: Path, owner: int) -> Path | None:
    """Return which of a folder and its parents others than root and the owner may write; None for none.

    The folders above that of an ordinary user are not checked.
    """
    for path in (folder, *folder.parents) if owner == 0 else (folder,):
        found = path.lstat()
        # In a folder like /tmp nobody can rename another user's files.
        shared = found.st_mode & 0o022 and not (path != folder and found.st_mode & stat.S_ISVTX)
        if found.st_uid not in {0, owner} or shared:
            return path
    return None


def read(path: Path | str, most: int, above: int | None = None) -> bytes:
    """Return the beginning of a file, at most ``most`` bytes of it.

    Raises OSError, also for anything but a regular file: a link, or a pipe, which would block.
    """
    descriptor = os.open(path, READ, dir_fd=above)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return os.read(descriptor, most)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, outlive a power cut from now on. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(
    folder: int, name: str, content: bytes, *, mode: int = 0o600, owner: tuple[int, int] | None = None
) -> None:
    """Replace a file as a whole; a reader, and a power cut, finds the old content or the new one.

    ``owner`` is a user and a group id; None: the caller's. Raises OSError; the file is then as it was.
    """
    new = f".{name}.new"  # one name: what a crash leaves behind is overwritten
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new, dir_fd=folder)
    try:
        # Narrow from the first moment, whatever the umask; wider only when the content is there.
        with os.fdopen(os.open(new, NEW, 0o600, dir_fd=folder), "wb") as file:
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(new, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=folder)
        raise
    os.fsync(folder)


def make_folder(root: int, parts: Sequence[str], mode: int = 0o700) -> int:
    """Open a folder below another one, made where it is missing; no part of the way is a link."""
    here = os.dup(root)
    for part in parts:
        above = here
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, mode, dir_fd=above)
            here = os.open(part, LIST, dir_fd=above)
        finally:
            os.close(above)
    return here


def write_new(root: int, parts: Sequence[str], content: IO[bytes], mode: int = 0o600) -> None:
    """Write a file that is not there yet, in a folder that `make_folder` makes."""
    folder = make_folder(root, parts[:-1])
    try:
        descriptor = os.open(parts[-1], NEW, mode, dir_fd=folder)
    finally:
        os.close(folder)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(content, file)
