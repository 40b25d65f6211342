"""What exists only for speed is off where somebody turns it off. That all works then, other tests show: ``also_without``."""

import asyncio
import dataclasses
import os
import subprocess
import sys

import pytest
from support import BASE

from waportd.errors import ConfigError
from waportd.model import User, service_unit
from waportd.shortcuts import ALL, Shortcuts

ONE = User("1")
NAMES = [field.name for field in dataclasses.fields(Shortcuts)]


def test_all_are_on(monkeypatch):
    monkeypatch.delenv("WAPORTD_WITHOUT", raising=False)
    assert Shortcuts.chosen() == ALL
    assert all(getattr(ALL, name) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_turned_off(monkeypatch, name):
    monkeypatch.setenv("WAPORTD_WITHOUT", name)
    assert Shortcuts.chosen() == dataclasses.replace(ALL, **{name: False})


def test_several_can_be_turned_off(monkeypatch):
    monkeypatch.setenv("WAPORTD_WITHOUT", " ".join(NAMES))
    assert not any(getattr(Shortcuts.chosen(), name) for name in NAMES)


def test_a_name_that_is_none_of_them_is_refused(monkeypatch):
    monkeypatch.setenv("WAPORTD_WITHOUT", "response_cache speed")
    with pytest.raises(ConfigError, match="there is no 'speed'") as raised:
        Shortcuts.chosen()
    assert "cleaning_ahead" in raised.value.hint


@pytest.mark.parametrize("shortcuts", [dataclasses.replace(ALL, cleaning_ahead=False)], ids=["off"])
async def test_without_cleaning_ahead_no_port_without_an_owner_is_cleaned(supervisor, systemd, monkeypatch):
    monkeypatch.setattr("waportd.cleaning_ahead.CLEAN_NEXT_DELAY_S", 0.0)
    await supervisor.ensure(ONE)
    await asyncio.sleep(0.05)
    assert [unit for call, unit in systemd.calls if call == "clean"] == [service_unit(BASE)]


@pytest.mark.parametrize("shortcuts", [dataclasses.replace(ALL, first_answers=False)], ids=["off"])
async def test_without_first_answers_a_server_is_up_when_systemd_says_so(supervisor, systemd):
    ready, start = asyncio.Event(), systemd.start

    async def start_slowly(unit):
        await start(unit)
        if unit.endswith(".service"):
            await ready.wait()

    systemd.start = start_slowly
    ensured = asyncio.create_task(supervisor.ensure(ONE))
    async with asyncio.timeout(5):
        while BASE not in systemd.servers:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert "new code" not in systemd.servers[BASE].calls
    assert not ensured.done()
    ready.set()
    await ensured
    assert systemd.servers[BASE].calls == ["new code"]


@pytest.mark.parametrize(("without", "frozen"), [("", True), ("collector", False)])
def test_what_is_imported_is_searched_for_garbage_only_where_that_is_asked_for(without, frozen):
    program = "import gc, waportd.__main__; print(gc.isenabled(), gc.get_freeze_count() > 0)"
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "WAPORTD_WITHOUT": without}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", str(frozen)]
