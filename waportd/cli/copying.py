"""Copies another user's folder as root: reads it as its owner, and writes only files, folders and links.

The reader runs with the owner's rights, so that no link leads it to what the owner may not read. But the owner can
also stop it, or forge its output: it is an untrusted archive, and may be endless.
"""

import contextlib
import errno
import os
import selectors
import signal
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final, Protocol, cast

from waportd import files
from waportd.cli import terminal
from waportd.cli.exit_status import Problem

MAX_BYTES: Final = 8 << 30
"""A profile has some 200 MB."""
MAX_MEMBERS: Final = 50_000
_MAX_DEPTH: Final = 32
_MAX_NAME: Final = 255
_MAX_HEADER: Final = 64 << 10
"""Bytes of a header for what does not fit into the usual one, such as a long name: all of it is held in memory."""
LIMIT: Final = 600.0
"""Seconds for all of it."""
_MAX_SAID: Final = 4096


def copy(source: int, target: Path, excluded: Iterable[str]) -> None:
    """Copy a folder that is open into one of the caller's own, but for the names of ``excluded`` in it.

    Raises Problem where it cannot be read, or holds what is not a session's; OSError where it cannot be written.
    """
    shown = files.path_of(source)
    try:
        with _reading(source, shown, excluded) as reader:
            try:
                unpack(reader, target, shown)
            except tarfile.TarError as error:
                raise _unreadable(shown, reader.end() or str(error)) from error
            if said := reader.end():
                raise _unreadable(shown, said)
    except TimeoutError as error:
        raise _unreadable(shown, f"it was not read in {LIMIT:.0f} s") from error


def _unreadable(shown: Path, why: str) -> Problem:
    return Problem(
        f"the session cannot be copied: {terminal.plain(why[:500])}",
        f"its owner must be able to read all of {shown}",
    )


def _refused(shown: Path, why: str) -> Problem:
    return Problem(
        f"the session cannot be copied: {why}",
        f"remove what does not belong to a session from {shown}",
        code="bad_session",
    )


def _too_large(shown: Path) -> Problem:
    return _refused(shown, f"it holds more than {terminal.size(MAX_BYTES)}")


# Reading


class _Reader:
    """A program's standard output, limited in time and size, and the beginning of its errors."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", selector: selectors.BaseSelector, shown: Path
    ) -> None:
        self._process = process
        self._shown = shown
        self._deadline = time.monotonic() + LIMIT
        self._said = bytearray()
        self._selector = selector
        self.left = MAX_BYTES
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            selector.register(pipe, selectors.EVENT_READ)

    def read(self, size: int) -> bytes:
        """Return what there is, at most ``size`` bytes; nothing at the end. Raises TimeoutError and Problem."""
        while True:
            for key in self._ready():
                if key.fileobj is self._process.stdout:
                    chunk = os.read(key.fd, size)
                    self.left -= len(chunk)
                    if self.left < 0:
                        raise _too_large(self._shown)
                    return chunk
                self._hear(key)

    def end(self) -> str:
        """Read what is left, and return the first of its errors; nothing where all went well. Raises TimeoutError."""
        while self.read(1 << 20):
            pass
        assert self._process.stdout is not None
        self._selector.unregister(self._process.stdout)
        while self._selector.get_map():
            for key in self._ready():
                self._hear(key)
        try:
            status = self._process.wait(self._time())
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        first = self._said.decode(errors="replace").strip().partition("\n")[0]
        return (first or f"tar ended with status {status}") if status else ""

    def _ready(self) -> list[selectors.SelectorKey]:
        return [key for key, _ in self._selector.select(self._time())]

    def _hear(self, key: selectors.SelectorKey) -> None:
        # The first error says what is wrong; the last one only that there was one.
        chunk = os.read(key.fd, _MAX_SAID)
        self._said += chunk[: _MAX_SAID - len(self._said)]
        if not chunk:
            self._selector.unregister(key.fileobj)

    def _time(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


@contextlib.contextmanager
def _reading(source: int, shown: Path, excluded: Iterable[str]) -> Iterator[_Reader]:
    """Have tar read a folder as its owner would."""
    command = ["tar", "--create", "--file=-", *(f"--exclude=./{name}" for name in excluded), "."]
    with (
        selectors.DefaultSelector() as selector,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Entered before the rights are given up: the owner may not get through the folders above.
            cwd=f"/proc/self/fd/{source}",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            # Otherwise its owner could type into root's terminal.
            start_new_session=True,
            **_identity(source, shown),
        ) as process,
    ):
        try:
            yield _Reader(process, selector, shown)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _identity(source: int, shown: Path) -> dict[str, Any]:
    """Return the options that give a program the rights of a folder's owner. Raises Problem."""
    if os.geteuid() != 0:
        return {}
    owner = os.fstat(source)
    if owner.st_uid == 0 and (shared := files.open_to_others(shown, 0)):
        raise Problem(
            f"{shown} belongs to root, and others may write in {shared}: they may have chosen what is copied",
            f"chown --recursive USER {shown}, or move it where only root may write",
            code="folder_open",
        )
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}


# Writing


class _Member(tarfile.TarInfo):
    """A member whose further headers are small."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        # The place that tarfile.TarInfo leaves to subclasses; it reads these headers as a whole.
        if self.type not in _ALLOWED and not 0 <= self.size <= _MAX_HEADER:
            raise tarfile.SubsequentHeaderError("a header is too large")  # type: ignore[attr-defined]
        return cast("tarfile.TarInfo", super()._proc_member(archive))  # type: ignore[misc]


_ALLOWED: Final = (
    *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE),
    *(tarfile.SYMTYPE, tarfile.LNKTYPE),
)


class _Source(Protocol):
    left: int

    def read(self, size: int, /) -> bytes: ...


def unpack(source: _Source, target: Path, shown: Path, most: int | None = None) -> None:
    """Unpack an archive; refuse what is neither file, folder nor link, or lies outside of the folder.

    ``most``: the maximum number of members; None: `MAX_MEMBERS`.
    """
    most = MAX_MEMBERS if most is None else most
    count = 0
    with files.opened(target) as root:
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", source), mode="r|", tarinfo=_Member) as archive:
                for member in archive:
                    count += 1
                    if count > most:
                        raise _refused(shown, f"it holds more than {most} files")
                    if not 0 <= member.size <= source.left:
                        raise _too_large(shown)
                    _make(root, member, archive, shown)
        except (ValueError, ArithmeticError, RuntimeError) as error:
            # tarfile raises these for an invalid header.
            raise tarfile.ReadError(str(error)) from error


def _make(root: int, member: tarfile.TarInfo, archive: tarfile.TarFile, shown: Path) -> None:
    # The archive does not say how large a sparse file is.
    if member.type not in _ALLOWED or member.issparse():
        raise _refused(shown, f"{member.name[:200]!a} is neither a file, a folder nor a link")
    parts = _parts(member.name, shown)
    if member.isdir():
        os.close(files.make_folder(root, parts))
    elif not parts:
        raise _refused(shown, "it is not a folder")
    elif member.isreg():
        content = archive.extractfile(member)
        assert content is not None
        files.write_new(root, parts, content, 0o600 | member.mode & 0o100)
    else:
        _link(root, parts, member, shown)


def _link(root: int, parts: list[str], member: tarfile.TarInfo, shown: Path) -> None:
    folder = files.make_folder(root, parts[:-1])
    try:
        if member.issym():
            # Nobody follows it with more rights than those of the server that gets it.
            os.symlink(member.linkname, parts[-1], dir_fd=folder)
            return
        *above, name = _parts(member.linkname, shown) or [""]
        there = files.make_folder(root, above)
        try:
            if not stat.S_ISREG(os.stat(name, dir_fd=there, follow_symlinks=False).st_mode):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            os.link(name, parts[-1], src_dir_fd=there, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(there)
    finally:
        os.close(folder)


def _parts(name: str, shown: Path) -> list[str]:
    """Return the names of a member's path."""
    top, *rest = name.split("/")
    parts = rest if top == "." else [top, *rest]
    bad = any(part in {"", ".", ".."} or "\0" in part or len(os.fsencode(part)) > _MAX_NAME for part in parts)
    if bad or len(parts) > _MAX_DEPTH:
        raise _refused(shown, f"{name[:200]!a} lies outside of it, or too deep")
    return parts
