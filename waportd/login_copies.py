"""Copies of a login, as its server makes them (server/snapshots.js): found and verified."""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from waportd import files
from waportd.errors import WaportdError

DESCRIPTION: Final = "snapshot.json"
"""In each copy: its time, and each file's size and SHA-256."""
FOLDER: Final = "snapshots"
"""Beside the profile."""
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,14}")
_VERSION: Final = 1
_MAX_DESCRIPTION: Final = 16 << 20
"""Bytes; one of a login with fifty files has 10 kB."""
_CHUNK: Final = 1 << 20
_LATEST_S: Final = 253_402_300_800
"""The year 10,000."""


class Torn(WaportdError):
    """A copy of a login is not what was copied."""

    code = "torn_snapshot"
    title = "A copy of a login is damaged"


@dataclasses.dataclass(frozen=True)
class LoginCopy:
    """A complete copy of a login."""

    folder: Path
    """Where it lies, with its files by their paths in the browser's profile."""
    at: float
    """When the login was copied, in seconds since the epoch."""
    bytes: int


def numbers(folder: int) -> list[int]:
    """Return the numbers of the copies in an open folder, which may not be complete, the newest first."""
    found = sorted(os.listdir(folder))  # of the folder that is open
    return sorted(map(int, filter(_NUMBER.fullmatch, found)), reverse=True)


def verify(folder: Path) -> LoginCopy:
    """Read a copy to the last byte, and compare it with its description. Raises Torn where they differ."""
    at, described = _described(folder)
    found = {
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    } - {DESCRIPTION}
    if found != described.keys():
        wrong = min(found ^ described.keys())
        raise _torn(folder, f"{wrong[:200]!a} is missing, or is not part of it")
    total = 0
    for name, (size, digest) in described.items():
        path = folder / name
        if path.is_symlink() or not path.is_file() or path.stat().st_size != size or _sha256(path) != digest:
            raise _torn(folder, f"{name[:200]!a} has changed")
        total += size
    return LoginCopy(folder, at, total)


def moment(value: Any, per_second: float = 1) -> float:
    """Read a time, in seconds since the epoch. Raises ValueError and TypeError for an impossible one."""
    seconds = float(value) / per_second
    if not 0 <= seconds < _LATEST_S:
        raise ValueError(f"{value!r:.20} is not a time")
    return seconds


def _described(folder: Path) -> tuple[float, Mapping[str, tuple[int, str]]]:
    try:
        document: Any = json.loads(files.read(folder / DESCRIPTION, _MAX_DESCRIPTION))
        if document["version"] != _VERSION:
            raise _torn(
                folder, f"its version is {document['version']!r:.20}, which this waportd does not know"
            )
        described = {
            str(name): (int(one["size"]), str(one["sha256"])) for name, one in document["files"].items()
        }
        return moment(document["at"], 1000), described
    except (
        OSError,
        ArithmeticError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise _torn(folder, "its description cannot be read") from error


def _torn(folder: Path, why: str) -> Torn:
    return Torn(f"the copy of the login in {folder} cannot be used: {why}")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
