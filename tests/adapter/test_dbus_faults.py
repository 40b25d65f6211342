"""What the adapter makes of faults of systemd and of the bus."""

import asyncio
import socket
import threading
import time

import pytest

from waportd.systemd.dbus import DBusUnitManager
from waportd.systemd.manager import (
    AccessDenied,
    BusLost,
    BusTimeout,
    JobFailed,
    LoadFailed,
    NoSuchUnit,
    SystemdError,
    UnitBusy,
    UnitMasked,
    UnitStatus,
)

PATIENCE = 60


class Watcher:
    """Keeps what it gets, and waits for what a test expects."""

    def __init__(self):
        self.seen = []
        self._told = asyncio.Event()

    def __call__(self, status):
        self.seen.append(status)
        self._told.set()

    async def until(self, name, active_state):
        async with asyncio.timeout(PATIENCE):
            while not any((status.name, status.active_state) == (name, active_state) for status in self.seen):
                self._told.clear()
                await self._told.wait()


@pytest.fixture
def watcher(manager):
    watcher = Watcher()
    manager.watch("w@*", watcher)
    return watcher


async def calls(control, what):
    return (await control("Calls", "(s)", what, reply="(u)"))[0]


async def until_idle(manager):
    """Wait until every change that has been heard of was read."""
    async with asyncio.timeout(PATIENCE):
        await manager.idle()


async def until_let_go(control):
    """Wait until systemd may unload the unit that was kept."""
    async with asyncio.timeout(PATIENCE):
        while await calls(control, "UnrefUnit") != 1:
            await asyncio.sleep(0.01)


# Jobs


async def test_a_job_that_ended_before_the_call_returns_is_not_missed(manager):
    await manager.start("early@1.service")


async def test_other_jobs_are_not_taken_for_ours(manager):
    await manager.start("foreign@1.service")


async def test_two_hundred_starts_at_once_all_come_to_an_end(manager, control):
    await asyncio.gather(*(manager.start(f"w@{number}.service") for number in range(200)))
    assert await calls(control, "job") == 200
    assert not manager.jobs.waiting


async def test_a_failed_job_carries_the_state_of_the_unit(manager):
    with pytest.raises(JobFailed) as raised:
        await manager.start("failing@1.service")
    assert raised.value.result == "failed"
    assert raised.value.unit.active_state == "failed"
    assert raised.value.unit.result == "exit-code"
    assert "failing@1.service" in raised.value.message
    assert "journalctl --user -u failing@1.service" in raised.value.hint


async def test_a_job_that_never_ends_times_out_and_leaves_no_waiter(manager):
    began = time.monotonic()
    with pytest.raises(BusTimeout, match=r"StartUnit endless@1.service: not done within 1.5 s"):
        await manager.start("endless@1.service")
    assert 1.4 < time.monotonic() - began < 5
    assert not manager.jobs.waiting


async def test_a_cancelled_wait_leaves_no_waiter(manager, control):
    start = asyncio.create_task(manager.start("endless@1.service"))
    async with asyncio.timeout(PATIENCE):
        while not await calls(control, "job"):
            await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not manager.jobs.waiting


# Calls


async def test_a_call_without_an_answer_times_out_and_holds_up_no_other(manager):
    silent = [asyncio.create_task(manager.start(f"silent@{number}.service")) for number in range(5)]
    began = time.monotonic()
    await manager.start("w@1.service")
    assert time.monotonic() - began < 0.9
    for result in await asyncio.gather(*silent, return_exceptions=True):
        assert isinstance(result, BusTimeout)
    assert not manager.jobs.waiting


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("denied", AccessDenied),
        ("unauthorized", AccessDenied),
        ("missing", NoSuchUnit),
        ("masked", UnitMasked),
        ("invalid", LoadFailed),
        ("unreadable", LoadFailed),
        ("busy", UnitBusy),
        ("restarting", BusTimeout),
        ("strange", SystemdError),
    ],
)
async def test_each_error_of_systemd_is_an_error_of_ours(manager, fault, error):
    with pytest.raises(SystemdError) as raised:
        await manager.start(f"{fault}@1.service")
    assert type(raised.value) is error
    assert raised.value.message == f"StartUnit {fault}@1.service: so says the mock"
    assert raised.value.hint or fault == "strange"


async def test_a_unit_that_is_masked_may_be_polkit_and_not_ours(manager):
    with pytest.raises(AccessDenied, match=r"polkit.service is masked") as raised:
        await manager.start("unguarded@1.service")
    assert "`systemctl unmask polkit`" in raised.value.hint


@pytest.mark.parametrize("fault", ["unanswered", "unstarted"])
async def test_a_polkit_that_does_not_start_is_no_systemd_that_is_late(manager, fault):
    with pytest.raises(AccessDenied) as raised:
        await manager.start(f"{fault}@1.service")
    assert "`journalctl --unit polkit`" in raised.value.hint


async def test_there_is_nothing_to_stop_or_to_reset_where_there_is_no_unit(manager):
    await manager.stop("missing@1.service")
    await manager.reset_failed("missing@1.service")


async def test_the_manager_that_dies_during_a_call_did_not_answer(manager):
    with pytest.raises(BusTimeout):
        await manager.start("dying@1.service")
    assert not manager.lost.done()


async def test_a_clean_that_is_refused_does_not_keep_the_unit_loaded(manager, control):
    with pytest.raises(UnitBusy):
        await manager.clean("busy@1.service")
    await until_let_go(control)
    assert await calls(control, "RefUnit") == 1
    assert not manager.watcher.watches


async def test_a_unit_is_kept_loaded_for_as_long_as_is_wanted(manager, control):
    await manager.keep_loaded("busy@1.service", 0.3)
    assert await calls(control, "RefUnit") == 1
    await asyncio.sleep(0.1)
    assert await calls(control, "UnrefUnit") == 0
    await until_let_go(control)


async def test_a_clean_that_never_ends_times_out(manager, control):
    with pytest.raises(BusTimeout, match="CleanUnit"):
        await manager.clean("cleaning@1.service")
    await until_let_go(control)
    assert not manager.watcher.watches


# Watching


async def test_a_burst_of_changes_is_read_once_or_twice_and_reported_in_the_end(manager, control, watcher):
    await control("Set", "(sss)", "w@1.service", "activating", "start")
    await watcher.until("w@1.service", "activating")
    await until_idle(manager)
    before = await calls(control, "GetAll w_401_2eservice")
    await control("Announce", "(su)", "w@1.service", 500)
    await control("Set", "(sss)", "w@1.service", "active", "running")
    await watcher.until("w@1.service", "active")
    await until_idle(manager)
    assert await calls(control, "GetAll w_401_2eservice") - before < 100
    assert watcher.seen[-1].active_state == "active"


async def test_a_change_that_says_everything_is_not_asked_for(manager, control, watcher):
    questions = [f"{call} w_401_2eservice" for call in ("GetAll", "GetUnit")]
    before = [await calls(control, question) for question in questions]
    await control("Tell", "(sssu)", "w@1.service", "active", "running", 42)
    await watcher.until("w@1.service", "active")
    await until_idle(manager)
    assert [await calls(control, question) for question in questions] == before
    assert watcher.seen == [
        UnitStatus("w@1.service", active_state="active", sub_state="running", main_pid=42, since=6.0)
    ]


async def test_an_answer_that_is_overtaken_by_a_change_does_not_undo_it(manager, control, watcher):
    await control("Set", "(sss)", "w@1.service", "activating", "start")
    await until_idle(manager)
    call = manager.calls.call

    async def call_slowly(*arguments, **options):
        answer = await call(*arguments, **options)
        await control("Tell", "(sssu)", "w@1.service", "active", "running", 42)
        await watcher.until("w@1.service", "active")
        return answer

    manager.calls.call = call_slowly
    assert (await manager.status("w@1.service")).active_state == "active"


async def test_units_of_others_are_not_asked_for(manager, control, watcher):
    await control("Set", "(sss)", "other@1.service", "active", "running")
    await manager.start("w@1.service")
    await watcher.until("w@1.service", "active")
    await until_idle(manager)
    assert await calls(control, "GetUnit other@1.service") == 0
    assert {status.name for status in watcher.seen} == {"w@1.service"}


async def test_a_unit_that_gets_unloaded_reads_as_inactive_once(manager, control, watcher):
    await manager.start("w@1.service")
    await watcher.until("w@1.service", "active")
    await until_idle(manager)
    del watcher.seen[:]
    await control("Unload", "(s)", "w@1.service")
    await watcher.until("w@1.service", "inactive")
    await until_idle(manager)
    assert watcher.seen == [UnitStatus("w@1.service")]


async def test_what_a_reload_announces_is_not_read_but_what_changed_meanwhile_is(manager, control, watcher):
    for number in range(20):
        await manager.start(f"w@{number}.service")
        await watcher.until(f"w@{number}.service", "active")
    await until_idle(manager)
    del watcher.seen[:]
    await control("Reload", "(sss)", "w@7.service", "failed", "failed")
    await watcher.until("w@7.service", "failed")
    await until_idle(manager)
    assert {status.name for status in watcher.seen} == {"w@7.service"}


async def test_a_change_that_could_not_be_read_is_read_later(manager, control, watcher):
    await control("Silence", "(u)", 1)
    await control("Set", "(sss)", "w@1.service", "active", "running")
    await watcher.until("w@1.service", "active")


async def test_what_was_asked_first_is_not_reported_last(manager, control, watcher):
    await manager.start("w@1.service")
    await watcher.until("w@1.service", "active")
    await until_idle(manager)
    asked = await calls(control, "GetAll w_401_2eservice")
    await control("Delay", "(u)", 1)
    await control("Set", "(sss)", "w@1.service", "inactive", "dead")
    async with asyncio.timeout(PATIENCE):
        while await calls(control, "GetAll w_401_2eservice") == asked:
            await asyncio.sleep(0)
    await control("Set", "(sss)", "w@1.service", "active", "running")
    assert (await manager.status("w@1.service")).active_state == "active"
    del watcher.seen[:]
    await until_idle(manager)
    assert {status.active_state for status in watcher.seen} <= {"active"}


async def test_a_watcher_that_fails_keeps_nothing_from_the_others(manager, watcher, caplog):
    def fail(_status):
        raise ValueError("of the test")

    manager.watcher.watches = (("w@*", fail), *manager.watcher.watches)
    await manager.start("w@1.service")
    await watcher.until("w@1.service", "active")
    assert "Cannot report a change of w@1.service" in caplog.text


# The bus


async def test_a_lost_bus_is_reported_and_ends_every_wait(bus, manager):
    start = asyncio.create_task(manager.start("endless@1.service"))
    call = asyncio.create_task(manager.reset_failed("silent@1.service"))
    await manager.status("w@1.service")
    bus.kill()
    error = await asyncio.wait_for(manager.lost, PATIENCE)
    assert error.message.startswith("lost the session bus")
    for wait in (start, call):
        with pytest.raises(BusLost):
            await asyncio.wait_for(wait, 0.5)
    with pytest.raises(BusLost):
        await manager.status("w@1.service")
    assert not manager.jobs.waiting


async def test_where_there_is_no_bus_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    with pytest.raises(BusLost, match="cannot connect to the session bus") as raised:
        await DBusUnitManager.connect("session")
    assert "enable-linger" in raised.value.hint


async def test_a_bus_that_does_not_answer_times_out(monkeypatch, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "bus"))
        listener.listen()
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/bus")
        with pytest.raises(BusTimeout, match="the session bus did not answer"):
            await DBusUnitManager.connect("session", call_timeout=0.2)


async def test_a_bus_without_systemd_is_reported(bus):
    with pytest.raises(BusTimeout, match="Subscribe"):
        await DBusUnitManager.connect("session", call_timeout=1.0)


async def test_close_ends_the_thread_and_refuses_further_calls(systemd):
    manager = await DBusUnitManager.connect("session")
    await manager.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "dbus-session"]
    with pytest.raises(BusLost, match="closed"):
        await manager.status("w@1.service")
    assert not manager.lost.done()
