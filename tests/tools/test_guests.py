"""The roots of test machines: built once, and kept as long as anybody uses them."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tools"))

from testbed import guests  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Build in no time, below a folder of one's own; gives what was built."""
    builds: list[Path] = []

    def build(root: Path, *_: object) -> None:
        builds.append(root)
        time.sleep(0.2)  # long enough for a second one to find it unfinished
        root.mkdir()

    monkeypatch.setattr(guests, "CACHE", tmp_path)
    monkeypatch.setattr(guests, "build_root", build)
    return builds


def use(depends: str, release: str = "bookworm") -> Path:
    """Use a root for a moment."""
    with guests.prepared_root(release, depends) as root:
        return root


def age(root: Path) -> None:
    """Have a root be unused for longer than it is kept."""
    past = time.time() - guests.KEPT - 60
    os.utime(root.with_suffix(".lock"), (past, past))


def test_a_root_is_built_once_for_each_release_and_list_of_packages(built: list[Path]) -> None:
    roots = [use("a"), use("a"), use("a, b"), use("a", "trixie"), use("a")]
    assert len(built) == 3
    assert roots[0] == roots[1] == roots[4]
    assert len(set(roots)) == 3
    assert all(root.is_dir() for root in roots)


def test_two_runs_at_once_build_it_once_and_use_it_together(built: list[Path]) -> None:
    together = threading.Barrier(2, timeout=20)
    roots: list[Path] = []

    def run() -> None:
        with guests.prepared_root("bookworm", "a") as root:
            together.wait()  # both have it now
            roots.append(root)

    runs = [threading.Thread(target=run) for _ in range(2)]
    for each in runs:
        each.start()
    for each in runs:
        each.join(20)
    assert len(roots) == 2
    assert len(built) == 1


def test_a_root_that_is_unused_for_long_goes_and_others_stay(built: list[Path]) -> None:
    old, recent = use("a"), use("b")
    age(old)
    use("c")
    assert not old.exists()
    assert recent.exists()
    assert use("a") == old
    assert old.exists()
    assert len(built) == 4


def test_a_root_in_use_stays_however_long_that_lasts(built: list[Path]) -> None:
    with guests.prepared_root("bookworm", "a") as old:
        age(old)
        use("b")
        assert old.exists()
    assert len(built) == 2
