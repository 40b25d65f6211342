"""Engines compiled for the node of this host: a server then loads its library in half the time.

A compiled engine is a file of root's, named after the engine and the version of node. Without it, or with another
node, a server loads the library from its files.
"""

import os
import re
import secrets
import subprocess
from pathlib import Path
from typing import IO, Final

from waportd import engines
from waportd.cli import engine_files, terminal
from waportd.cli.engine_files import MAKING, TRY_LIMIT_S, Shelf
from waportd.cli.exit_status import Problem
from waportd.config import Config, shipped

_MAX_BYTES: Final = 64 << 20
"""An engine has 4 MB, compiled."""
_VERSION: Final = re.compile(r"v\d+\.\d+\.\d+")
_NOBODY: Final = {"user": "nobody", "group": "nogroup", "extra_groups": ()}


def compile_engine(shelf: Shelf, name: str, config: Config) -> Path:
    """Compile an engine; return the file. Those that were made for another node are deleted. Raises Problem."""
    target = engines.compiled_folder(config) / f"{name}-{_node_version(config)}.code"
    new = shelf.folder / f"{MAKING}{secrets.token_hex(4)}"
    try:
        with new.open("xb") as file:
            _run(name, config, file)
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        target.parent.mkdir(mode=0o755, exist_ok=True)
        new.rename(target)
    except OSError as error:
        raise Problem(f"{target} cannot be written: {error.strerror}") from error
    finally:
        new.unlink(missing_ok=True)
    forget(name, config, but=target)
    return target


def forget(name: str, config: Config, but: Path | None = None) -> None:
    """Delete what was compiled of an engine, except for one file."""
    for path in engines.compiled_folder(config).glob("*.code"):
        if path != but and path.name.rpartition("-v")[0] == name:
            path.unlink(missing_ok=True)


def _node_version(config: Config) -> str:
    said = _bounded([str(config.instances.node_path), "--version"]).stdout.strip()
    if not _VERSION.fullmatch(said):
        raise Problem(f"node says {terminal.plain(said[:100])!r} when it is asked for its version")
    return said


def _run(name: str, config: Config, output: IO[bytes]) -> None:
    command = [str(config.instances.node_path), str(shipped("server/engine.js")), "--compile"]
    folder = engines.folder_of(name, config)
    if folder is not None:
        command.append(str(folder))
    options = {}
    if os.geteuid() == 0:
        if folder is None:
            options = _NOBODY
        else:
            # It is code that nobody here has read.
            command = [*engine_files.sandbox_of(folder), f"--property=LimitFSIZE={_MAX_BYTES}", *command]
    done = _bounded(command, stdout=output, **options)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["it cannot be loaded"])[-1]
        raise Problem(f"engine {name} cannot be compiled: {terminal.plain(why[:300])}", code="bad_engine")


def _bounded(command: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
    try:
        return engine_files.run_node(command, **options)
    except subprocess.TimeoutExpired:
        raise Problem(f"{command[0]} took more than {TRY_LIMIT_S:.0f} s") from None
