"""What a server uses: systemd's figure where there is one, else that of its real processes."""

import dataclasses
import os
import subprocess
import sys

import psutil
import pytest

from waportd import usage as module
from waportd.model import Usage
from waportd.systemd.manager import Accounting, BusTimeout, UnitStatus
from waportd.usage import UsageMeter

UNIT = "whatsapp@5002.service"
MIB = 1 << 20
HELD = 32 * MIB


class Manager:
    """systemd, as far as a meter asks it."""

    def __init__(self, pid: int = 0, *, memory: int | None = None, cpu: float | None = None) -> None:
        self.unit = UnitStatus(UNIT, main_pid=pid)
        self.figures = Accounting(memory, cpu)
        self.asked = 0

    async def status(self, unit: str) -> UnitStatus:
        assert unit == UNIT
        self.asked += 1
        return self.unit

    async def accounting(self, unit: str) -> Accounting:
        return self.figures


async def measured(manager: Manager) -> Usage:
    return await UsageMeter(manager).measure(UNIT, manager.unit.main_pid)


@pytest.fixture(scope="module")
def family():
    """Run a process that has worked, holds 32 MiB and has a child that holds as much; give it as a psutil.Process."""
    program = f"""
import os, sys, time
held = bytearray(b"x" * {HELD})
while time.process_time() < 0.1:
    pass
if os.fork():
    os.wait()
else:
    held[:] = bytes({HELD})
    print("ready", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield psutil.Process(process.pid)
        # The child ends with its input, and the parent with the child.


async def test_systemds_figures_are_taken_where_it_has_both():
    assert await measured(Manager(os.getpid(), memory=5 * MIB, cpu=1.5)) == Usage(
        5 * MIB, "systemd", 1.5, "systemd"
    )


async def test_a_server_that_does_not_run_uses_nothing():
    assert await measured(Manager(0, memory=5 * MIB, cpu=1.5)) == Usage()


async def test_a_server_that_has_just_ended_uses_nothing():
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert await measured(Manager(gone.pid)) == Usage()


async def test_without_accounting_the_processes_are_added_up(family):
    usage = await measured(Manager(family.pid))
    assert (usage.memory_source, usage.cpu_source) == ("pss", "processes")
    assert 2 * HELD < usage.memory < 2 * HELD + 64 * MIB
    assert 0.1 <= usage.cpu < 60


async def test_each_figure_comes_from_where_it_is_known(family):
    usage = await measured(Manager(family.pid, memory=5 * MIB))
    assert (usage.memory, usage.memory_source, usage.cpu_source) == (5 * MIB, "systemd", "processes")
    usage = await measured(Manager(family.pid, cpu=1.5))
    assert (usage.memory_source, usage.cpu, usage.cpu_source) == ("pss", 1.5, "systemd")


async def test_where_the_shares_may_not_be_read_the_resident_memory_is_reported(family, monkeypatch):
    def denied(process):
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "memory_full_info", denied)
    usage = await measured(Manager(family.pid))
    assert usage.memory_source == "rss"
    assert usage.memory > 2 * HELD


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Give a control group of the unit in a tree of our own; what is written there are its processes."""
    monkeypatch.setattr(module, "CGROUP_ROOTS", (tmp_path / "nowhere", tmp_path))
    folder = tmp_path / "whatsapp.slice" / UNIT
    folder.mkdir(parents=True)
    return folder / "cgroup.procs"


def in_group(pid: int) -> Manager:
    manager = Manager(pid)
    manager.unit = dataclasses.replace(manager.unit, control_group=f"/whatsapp.slice/{UNIT}")
    return manager


async def test_the_control_group_says_which_processes_count(family, group):
    (child,) = family.children()
    group.write_text(f"{child.pid}\n")
    usage = await measured(in_group(family.pid))
    assert HELD < usage.memory < 2 * HELD


async def test_a_process_that_ends_meanwhile_does_not_take_the_others_along(family, group):
    gone = subprocess.Popen(["true"])
    gone.wait()
    (child,) = family.children()
    group.write_text(f"{gone.pid}\n{family.pid}\n0\n{child.pid}\n")
    usage = await measured(in_group(family.pid))
    assert usage.memory > 2 * HELD


@pytest.mark.parametrize("content", ["", None])
async def test_where_the_group_cannot_be_seen_the_main_process_and_its_children_count(family, group, content):
    if content is not None:
        group.write_text(content)
    assert (await measured(in_group(family.pid))).memory > 2 * HELD


async def test_a_unit_without_a_group_is_not_the_whole_host(family, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CGROUP_ROOTS", (tmp_path,))
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    counted = module.pids(Manager(family.pid).unit)
    assert counted == [family.pid, family.children()[0].pid]


async def test_a_figure_is_served_again_for_a_while():
    manager = Manager(os.getpid(), memory=5 * MIB, cpu=1.5)
    meter = UsageMeter(manager)
    first = await meter.measure(UNIT, os.getpid())
    manager.figures = Accounting(6 * MIB, 2.0)
    assert await meter.measure(UNIT, os.getpid()) == first
    assert manager.asked == 1


async def test_an_old_figure_is_measured_again(monkeypatch):
    monkeypatch.setattr(module, "FRESH_S", 0.0)
    manager = Manager(os.getpid(), memory=5 * MIB, cpu=1.5)
    meter = UsageMeter(manager)
    await meter.measure(UNIT, os.getpid())
    manager.figures = Accounting(6 * MIB, 2.0)
    assert (await meter.measure(UNIT, os.getpid())).memory == 6 * MIB


async def test_after_a_restart_no_figure_from_before_is_served():
    manager = Manager(1, memory=5 * MIB, cpu=1.5)
    meter = UsageMeter(manager)
    await meter.measure(UNIT, 1)
    manager.figures = Accounting(6 * MIB, 2.0)
    assert (await meter.measure(UNIT, 2)).memory == 6 * MIB


async def test_what_is_forgotten_is_measured_again():
    manager = Manager(os.getpid(), memory=5 * MIB, cpu=1.5)
    meter = UsageMeter(manager)
    await meter.measure(UNIT, os.getpid())
    manager.figures = Accounting(6 * MIB, 2.0)
    meter.forget(UNIT)
    meter.forget("whatsapp@5003.service")
    assert (await meter.measure(UNIT, os.getpid())).memory == 6 * MIB


async def test_a_systemd_that_does_not_answer_leaves_the_figures_out(monkeypatch, caplog):
    manager = Manager(os.getpid())

    async def late(unit):
        raise BusTimeout("no answer in 5 s")

    monkeypatch.setattr(manager, "accounting", late)
    assert await measured(manager) == Usage()
    assert f"Cannot measure {UNIT}: no answer in 5 s" in caplog.text
