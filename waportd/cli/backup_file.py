"""The file of a backup: a tar archive, encrypted with age.

Its first member says where it comes from; a folder for each user follows, with a file that says whose it is.

age (https://age-encryption.org) encrypts for public keys: this host can write a backup but not read it. The
secret key, age and tar are enough to read it: ``age --decrypt --identity KEY FILE | tar --list``.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

from waportd import files
from waportd.cli import copying, terminal
from waportd.cli.exit_status import Exit, Problem
from waportd.login_copies import moment
from waportd.model import User, is_user

INDEX: Final = "waportd-backup.json"
"""The first member."""
USER, LOGIN, MESSAGES = "user.json", "login", "messages"
"""In the folder of each user: who that is, a copy of the login, and the journal of messages."""
_VERSION: Final = 1
_AGE_HEADER: Final = b"age-encryption.org/v1"
_MAX_DOCUMENT: Final = 1 << 20
_MAX_BYTES: Final = 1 << 40
_MAX_MEMBERS: Final = 5_000_000
_NONSENSE: Final = (ArithmeticError, ValueError, KeyError, TypeError, RecursionError)
"""What reading an invalid document raises."""
_MACHINE_ID: Final = Path("/etc/machine-id")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A user in a backup."""

    user: User
    port: int
    at: float
    """When the login was copied, in seconds since the epoch."""
    options: dict[str, Any]
    """As the API takes them; missing ones follow the configuration."""
    folder: str = ""
    """The name of the user's folder in the archive."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a backup comes from."""

    created_at: float
    """Seconds since the epoch."""
    host: str
    machine: str
    """Identifies the host, and reveals nothing else about it."""
    final: bool
    """The servers were stopped for it: that host no longer uses these logins."""


def machine() -> str:
    """Return an id of this host: a hash of its machine id, which is confidential (machine-id(5))."""
    try:
        name = _MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return hashlib.sha256(f"waportd backup {name}".encode()).hexdigest()[:32]


# Writing


@contextlib.contextmanager
def encrypted(target: IO[bytes], recipients: Sequence[str] | None) -> Iterator[IO[bytes]]:
    """Encrypt what is written into ``target``, with these options of age; None: do not encrypt it."""
    if recipients is None:
        yield target
        return
    with _age("--encrypt", *recipients, stdin=subprocess.PIPE, stdout=target) as process:
        assert process.stdin is not None
        try:
            yield process.stdin
            process.stdin.close()
        except BrokenPipeError:
            pass  # age says why
        _await(process, "the backup cannot be encrypted", "see age --help for recipients")


class Writer:
    """Writes a backup, user by user."""

    def __init__(self, archive: tarfile.TarFile, origin: Origin) -> None:
        self._archive = archive
        self._count = 0
        self._add(INDEX, {"version": _VERSION, **dataclasses.asdict(origin)})

    def add(self, entry: Entry, folder: Path) -> None:
        """Add a user with what lies in a folder."""
        name = str(self._count)
        self._count += 1
        self._add(f"{name}/{USER}", dataclasses.asdict(dataclasses.replace(entry, folder=name)))
        self._archive.add(folder, name, filter=_anonymous)

    def _add(self, name: str, document: dict[str, Any]) -> None:
        text = json.dumps(document).encode()
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(text), 0o600
        self._archive.addfile(member, io.BytesIO(text))


@contextlib.contextmanager
def writer(target: IO[bytes], origin: Origin) -> Iterator[Writer]:
    """Give a writer of a backup into ``target``; the backup is complete when the block has ended."""
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        yield Writer(archive, origin)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


# Reading


class _Source:
    """Reads a backup, up to a maximum size."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.left = _MAX_BYTES

    def read(self, size: int, /) -> bytes:
        chunk = self._file.read(size)
        self.left -= len(chunk)
        return chunk


@contextlib.contextmanager
def decrypted(file: Path, identity: Path | None) -> Iterator[IO[bytes]]:
    """Give a backup's content. It is known to be complete only when the block has ended without an error."""
    try:
        opened = file.open("rb", buffering=0)  # age continues where this stops
    except OSError as error:
        raise Problem(f"{file} cannot be read: {error.strerror}") from error
    with opened:
        is_encrypted = opened.read(len(_AGE_HEADER)) == _AGE_HEADER
        opened.seek(0)
        if not is_encrypted:
            yield opened
            return
        if identity is None:
            raise Problem(
                f"{file} is encrypted", "name the secret key: --identity KEY", Exit.USAGE, "no_identity"
            )
        arguments = ("--decrypt", "--identity", str(identity))
        with _age(*arguments, stdin=opened, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            failure: Problem | None = None
            try:
                yield process.stdout
            except Problem as problem:
                failure = problem
            while process.stdout.read(1 << 20):
                pass
            # What age says is the cause of any other error.
            _await(process, f"{file} cannot be decrypted", "is it the key that the backup was made for?")
            if failure is not None:
                raise failure


def unpack(source: IO[bytes], target: Path, shown: Path) -> tuple[Origin, list[Entry]]:
    """Unpack a backup into ``target``; return its origin and its users. Raises Problem."""
    try:
        copying.unpack(_Source(source), target, shown, most=_MAX_MEMBERS)
        origin = _origin(_document(target / INDEX))
        folders = sorted(path for path in target.iterdir() if path.name.isdecimal())
        return origin, [_entry(_document(folder / USER), folder.name) for folder in folders]
    except (tarfile.TarError, *_NONSENSE, FileNotFoundError) as error:
        raise Problem(f"{shown} is not a backup of waportd, or is incomplete", code="bad_backup") from error
    except OSError as error:
        raise Problem(f"{shown} cannot be unpacked into {target}: {error.strerror}") from error


def _document(path: Path) -> Any:
    return json.loads(files.read(path, _MAX_DOCUMENT))


def _origin(document: Any) -> Origin:
    if document["version"] != _VERSION:
        raise Problem("the backup is of a newer version of waportd", "update waportd", code="bad_backup")
    return Origin(
        moment(document["created_at"]),
        terminal.plain(str(document["host"])),
        str(document["machine"]),
        document["final"] is True,
    )


def _entry(document: Any, folder: str) -> Entry:
    if not is_user(document["user"]):
        raise ValueError("that is not a user")
    return Entry(
        User(document["user"]),
        int(document["port"]),
        moment(document["at"]),
        dict(document["options"]),
        folder,
    )


# age


@contextlib.contextmanager
def _age(*arguments: str, **pipes: Any) -> Iterator["subprocess.Popen[bytes]"]:
    program = shutil.which("age", path=os.defpath)
    if program is None:
        raise Problem(
            "backups are encrypted with age, which is not installed", "apt install age", code="no_age"
        )
    with subprocess.Popen([program, *arguments], stderr=subprocess.PIPE, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def _await(process: "subprocess.Popen[bytes]", what: str, hint: str) -> None:
    assert process.stderr is not None
    said = process.stderr.read(4096).decode(errors="replace").strip().partition("\n")[0]
    if process.wait():
        words = said.removeprefix("age: error: ") or "age ended without a message"
        raise Problem(f"{what}: {terminal.plain(words)}", hint, code="age_failed")
