"""The versions of whatsapp-web.js: the bundled one, and the engines that were installed beside it.

An engine is a folder of root's (on a session bus: of the user's) that is named after its version. `waportctl engine`
writes them; the daemon only lists them, and passes each server its own. Everything here does blocking file
I/O.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from waportd.config import Config, shipped
from waportd.model import BUNDLED, ENGINE_PATTERN, Assignment

MANIFEST: Final = "engine.json"
"""The file that makes a folder an engine: it is written last, once the library in it has been tried."""

_VERSION = re.compile(ENGINE_PATTERN)
_MAX_MANIFEST_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Engine:
    """One version that a server can run."""

    name: str
    """``bundled``, or the version."""
    library: str | None
    """The version of whatsapp-web.js; None where that cannot be read."""
    integrity: str | None = None
    """The hash that it was checked against (https://www.w3.org/TR/SRI/), ``sha512-…``."""
    source: str | None = None
    """Where it came from: ``npm``, or ``file``."""
    installed_at: float | None = None
    """Seconds since the epoch."""


def is_version(text: str) -> bool:
    """Return whether the text may name an engine: one exact version, safe as a folder's name."""
    return _VERSION.fullmatch(text) is not None


def chosen(assignment: Assignment, config: Config) -> str:
    """Return the name of the engine for the server's next start."""
    return assignment.engine or config.instances.engine


def compiled_folder(config: Config) -> Path:
    """Return where engines lie compiled, each as ``NAME-VERSION_OF_NODE.code``."""
    return config.engines / "compiled"


def folder_of(name: str, config: Config) -> Path | None:
    """Return where an engine lies, whether or not it is there; None for the bundled one."""
    return None if name == BUNDLED else config.engines / name


def installed(config: Config) -> list[Engine]:
    """Return all engines, the bundled one first, then by version, the newest first."""
    try:
        found = [engine for path in config.engines.iterdir() if (engine := read(path))]
    except OSError:  # none was ever installed
        found = []
    return [_bundled(), *sorted(found, key=lambda engine: _order(engine.name), reverse=True)]


def refusal(name: str, config: Config) -> tuple[str, str] | None:
    """Return why a server cannot use that engine, and a hint; None where it can."""
    known = [engine.name for engine in installed(config)]
    if name in known:
        return None
    return (
        f"there is no engine {name!r:.80}; there is {', '.join(known)}",
        "`waportctl engine install VERSION` adds one",
    )


def _bundled() -> Engine:
    try:
        text = (shipped("node_modules") / "whatsapp-web.js/package.json").read_text("utf-8")
        version = json.loads(text)["version"]
    except (OSError, ValueError, KeyError, TypeError):
        version = None
    return Engine(BUNDLED, version if isinstance(version, str) else None)


def read(path: Path) -> Engine | None:
    """Return the engine in a folder; None where there is none, or its manifest cannot be read."""
    if not is_version(path.name) or path.is_symlink():
        return None
    try:
        with (path / MANIFEST).open("rb") as file:
            manifest = json.loads(file.read(_MAX_MANIFEST_BYTES))
        return Engine(
            path.name,
            str(manifest["library"]),
            integrity=str(manifest["integrity"]),
            source=str(manifest["source"]),
            installed_at=float(manifest["installed_at"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def _order(version: str) -> tuple[tuple[int, ...], bool, str]:
    """Return the sort key of a version: a pre-release comes before its release (https://semver.org)."""
    release, _, early = version.partition("-")
    return tuple(map(int, release.split("."))), not early, early
