"""The release of a lease after the unit has stopped."""

import dataclasses

import players
import pytest
from players import PlayedEngine

from waportd.fleet.boot_clock import BootClock
from waportd.fleet.lease import Held, LeaseFolder
from waportd.fleet.program import release
from waportd.fleet.timing import Timing

TIMING = dataclasses.replace(Timing(), call_s=0.2)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "instances"
    path.mkdir()
    with LeaseFolder(path) as folder:
        yield folder


@pytest.fixture
async def engine(folder):
    """An engine with a lease that the folder has."""
    engine = PlayedEngine(BootClock())
    folder.keep(Held(await engine.acquire("a", 45), 1e9, "this boot"))
    return engine


def group(path, populated):
    path.mkdir()
    (path / "cgroup.events").write_text(f"populated {populated}\nfrozen 0\n")
    return path


async def test_a_lease_is_released_when_no_session_is_left(folder, engine, tmp_path):
    assert await release(engine, folder, group(tmp_path / "whatsapp.slice", 0), TIMING)
    assert engine.lease is None


async def test_a_host_that_ran_no_session_releases_too(folder, engine, tmp_path):
    assert await release(engine, folder, tmp_path / "missing.slice", TIMING)


async def test_a_lease_is_kept_while_a_process_of_a_session_runs(folder, engine, tmp_path):
    assert not await release(engine, folder, group(tmp_path / "whatsapp.slice", 1), TIMING)
    assert engine.alive()


@pytest.mark.parametrize("way", [players.refuse, players.hang])
async def test_an_engine_that_is_away_holds_up_no_stop(folder, engine, tmp_path, way):
    engine.going = way
    assert not await release(engine, folder, tmp_path / "missing.slice", TIMING)


async def test_without_a_lease_there_is_nothing_to_release(folder, tmp_path):
    assert not await release(PlayedEngine(BootClock()), folder, tmp_path / "missing.slice", TIMING)
