"""A manifest: what a snapshot consists of, when it was made, and under which token.

It is encrypted, and named by its SHA-256 and the token under which it lies. `Row.snapshot` names the manifests that may
be restored, the newest first: so the engine says it, and not what lies in some store.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, Self

from waportd.fleet.chunks import CHUNK_BYTES, Damaged, FleetKeys, UserKey

MAX_BYTES: Final = 16 << 20
"""Of a manifest; a login of 2.5 GiB in 5,000 files has 1.2 MB."""
_VERSION: Final = 1
_NAME: Final = re.compile(r"([0-9]{1,19})/([0-9a-f]{64})")
_CHUNK: Final = re.compile(r"[0-9a-f]{64}")
_PERMISSIONS: Final = 0o777
_NONSENSE: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError, ArithmeticError)
"""What reading an invalid document raises."""


@dataclasses.dataclass(frozen=True, slots=True)
class SnapshotName:
    """Where a manifest lies."""

    token: int
    sha256: str
    """Of the encrypted manifest, in hexadecimal digits."""

    def __str__(self) -> str:
        return f"{self.token}/{self.sha256}"


def names(snapshot: str | None) -> tuple[SnapshotName, ...]:
    """Return the manifests that `Row.snapshot` names, the newest first. What is no name is left out."""
    found = (_NAME.fullmatch(word) for word in (snapshot or "").split())
    return tuple(SnapshotName(int(one[1]), one[2]) for one in found if one)


@dataclasses.dataclass(frozen=True, slots=True)
class Folder:
    """A folder of a snapshot."""

    path: str
    """Its names, with "/" between them; bytes that are no UTF-8 as `os.fsdecode` gives them."""
    mode: int
    """Permissions."""


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """A file of a snapshot."""

    path: str
    mode: int
    size: int
    """Bytes."""
    chunks: tuple[str, ...]
    """Their names, in order."""


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """A snapshot."""

    token: int
    """Of the owner who made it: all its chunks lie under this token, too."""
    runs: int
    """How often a daemon had ordered a start."""
    at: float
    """When the login was like that, in seconds since the epoch, by the clock of that host."""
    since: float
    """``at`` of the first snapshot under this token."""
    folders: tuple[Folder, ...]
    """Each after the one that it lies in."""
    files: tuple[File, ...]

    @property
    def chunks(self) -> frozenset[str]:
        """The names of all chunks."""
        return frozenset(chunk for file in self.files for chunk in file.chunks)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def seal(self, key: UserKey) -> tuple[SnapshotName, bytes]:
        """Return its name, and what is stored. Raises ValueError where it has more than `MAX_BYTES`."""
        text = json.dumps({"version": _VERSION, **dataclasses.asdict(self)}, separators=(",", ":"))
        sealed = key.seal_manifest(self.token, text.encode("ascii"))
        if len(sealed) > MAX_BYTES:
            raise ValueError(f"a manifest of {len(sealed)} bytes")
        return SnapshotName(self.token, hashlib.sha256(sealed).hexdigest()), sealed

    @classmethod
    def open(cls, keys: FleetKeys, user: str, name: SnapshotName, sealed: bytes) -> tuple[UserKey, Self]:
        """Read what was stored under a name; return the key of its chunks, too. Raises Damaged and KeyUnusable."""
        if hashlib.sha256(sealed).hexdigest() != name.sha256:
            raise Damaged(f"manifest {name} of user {user} is damaged")
        key = keys.of_manifest(user, sealed)
        plain = key.open_manifest(name.token, sealed)
        try:
            document = json.loads(plain)
            if document["version"] != _VERSION:
                raise ValueError(document["version"])
            manifest = cls._read(document)
        except _NONSENSE as error:
            raise Damaged(
                f"manifest {name} of user {user} is not understood",
                hint="run the same version of waportd on all hosts",
            ) from error
        return key, manifest

    @classmethod
    def _read(cls, document: Mapping[str, Any]) -> Self:
        folders = tuple(Folder(str(one["path"]), _mode(one)) for one in document["folders"])
        known = {""}
        for folder in folders:
            _check_path(folder.path, known)
            known.add(folder.path)
        files = tuple(map(_file, document["files"]))
        taken = set(known)
        for file in files:
            _check_path(file.path, known)
            if file.path in taken:
                raise ValueError("two things of one name")
            taken.add(file.path)
        moments = float(document["at"]), float(document["since"])
        return cls(int(document["token"]), int(document["runs"]), *moments, folders, files)


def _mode(document: Mapping[str, Any]) -> int:
    return int(document["mode"]) & _PERMISSIONS


def _file(document: Mapping[str, Any]) -> File:
    file = File(
        str(document["path"]), _mode(document), int(document["size"]), tuple(map(str, document["chunks"]))
    )
    if file.size < 0 or len(file.chunks) != -(-file.size // CHUNK_BYTES):
        raise ValueError("a size that its chunks do not have")
    if not all(map(_CHUNK.fullmatch, file.chunks)):
        raise ValueError("not the name of a chunk")
    return file


def _check_path(path: str, folders: set[str]) -> None:
    above, _, name = path.rpartition("/")
    if name in {"", ".", ".."} or "\0" in name or above not in folders or path in folders:
        raise ValueError("a path that leads elsewhere")
