"""The release of a lease after the unit has stopped."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import players
import pytest
from players import PlayedEngine

from waportd.fleet.boot_clock import BootClock
from waportd.fleet.keeper import ExitStatus
from waportd.fleet.lease import Held, LeaseFolder
from waportd.fleet.program import release
from waportd.fleet.timing import Timing

ROOT = Path(__file__).resolve().parents[3]
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


def test_the_program_ends_at_once_and_complains_of_nothing_that_is_open(tmp_path):
    program = """
import sys
from types import SimpleNamespace
import aiohttp
from waportd.fleet.program import RELEASE, main

async def connect():
    return SimpleNamespace(http=aiohttp.ClientSession()), SimpleNamespace(http=aiohttp.ClientSession())

main("a", connect, [RELEASE, sys.argv[1]])
"""
    (tmp_path / "instances").mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "missing.slice"],
        env={**os.environ, "RUNTIME_DIRECTORY": str(tmp_path / "instances"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "", ExitStatus.AGAIN)


async def test_without_a_lease_there_is_nothing_to_release(folder, tmp_path):
    assert not await release(PlayedEngine(BootClock()), folder, tmp_path / "missing.slice", TIMING)
