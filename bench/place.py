"""Where measurements happen: a daemon on the session bus, raw D-Bus beside it, processes that end with a block."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/integration")]

from harness import (  # noqa: E402  # what the integration tests drive, too
    LIGHT_SERVER,
    SESSIONS,
    NoBrowser,
    StandIn,
    Waportd,
    systemctl,
    unit_property,
    until,
)

PYTHON = "/usr/bin/python3"

__all__ = [
    "LIGHT_SERVER",
    "PYTHON",
    "ROOT",
    "SESSIONS",
    "StandIn",
    "Waportd",
    "systemctl",
    "unit_property",
    "until",
]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="waportd-bench-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def disk() -> Iterator[Path]:
    """Give a folder on a real disk: where nothing is ever written, a journal or a copy costs nothing."""
    place = os.environ.get("TMPDIR", "/var/tmp")
    with tempfile.TemporaryDirectory(prefix="waportd-bench-", dir=place) as folder:
        yield Path(folder)


@contextlib.contextmanager
def daemon(
    standin: Any = None, *, seeded: Callable[[Waportd], None] | None = None, **sections: dict[str, Any]
) -> Iterator[Waportd]:
    """Run waportd as a unit of the session, by default with servers that have no browser.

    ``seeded`` is called before it starts.
    """
    with scratch() as folder:
        waportd = Waportd(folder, standin or NoBrowser())
        waportd.configure(log={"level": "info"})
        if standin is None:
            waportd.configure(instances={"script": str(LIGHT_SERVER)})
        waportd.configure(**sections)
        if standin is not None:
            # As an installation does.
            compiled = (PYTHON, "-m", "waportd.cli", "engine", "compile", "--config", waportd.config_file)
            subprocess.run(compiled, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        if seeded is not None:
            seeded(waportd)
        try:
            waportd.start()
            yield waportd
        finally:
            waportd.stop()


@contextlib.contextmanager
def program(*command: str | Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for as long as the block lasts."""
    process = subprocess.Popen([str(word) for word in command], **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until_path(path: Path) -> None:
    """Return when the file is there."""
    until(path.exists, f"{path}")
    time.sleep(0.05)


def memory(pid: int) -> int:
    """Return the proportional set size of a process, in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no PSS of {pid}")


def seconds_of_cpu(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
