"""The D-Bus adapter on a real systemd: jobs, units, what is watched. Small templates stand in for the servers."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from waportd.model import Port
from waportd.systemd.dbus import DBusUnitManager
from waportd.systemd.journal import last_lines
from waportd.systemd.manager import (
    JobFailed,
    LoadFailed,
    NoSuchUnit,
    SystemdError,
    UnitBusy,
    UnitMasked,
    UnitStatus,
)

PATIENCE = 60
CHECKOUT = Path(__file__).resolve().parents[2]
TEMPLATES = {
    "adapter-server@.service": """
        [Service]
        Type=exec
        ExecStart=/bin/sleep infinity
        Restart=on-failure
        RestartSec=50ms
        StateDirectory=adapter-server/%i
        CacheDirectory=adapter-server/%i
        """,
    "adapter-bare@.service": """
        [Service]
        Type=exec
        ExecStart=/bin/sleep infinity
        """,
    "adapter-crash@.service": """
        [Unit]
        StartLimitIntervalSec=60
        StartLimitBurst=3
        [Service]
        ExecStart=/bin/sh -c 'exit 7'
        Restart=on-failure
        RestartSec=10ms
        """,
    "adapter-crash@.socket": """
        [Socket]
        ListenStream=127.0.0.1:%i
        """,
    "adapter-never@.service": """
        [Service]
        Type=notify
        ExecStart=/bin/sh -c 'exit 11'
        """,
    "adapter-assert@.service": """
        [Unit]
        AssertPathExists=/nonexistent/%i
        [Service]
        ExecStart=/bin/true
        """,
    "adapter-invalid@.service": """
        [Service]
        Restart=no
        """,
    "adapter-talk@.service": """
        [Service]
        Type=notify
        NotifyAccess=all
        ExecStart=/bin/sh -c 'echo one; echo two; echo three; systemd-notify --ready --status="user 2: ready"; \
            exec sleep infinity'
        """,
    "adapter-wired@.socket": """
        [Socket]
        ListenStream=127.0.0.1:%i
        """,
    "adapter-wired@.service": """
        [Unit]
        Requires=adapter-wired@%i.socket
        After=adapter-wired@%i.socket
        [Service]
        Type=exec
        ExecStart=/bin/sleep infinity
        """,
    "adapter-log@.service": f"""
        [Service]
        Type=oneshot
        WorkingDirectory={CHECKOUT}
        ExecStart=/usr/bin/python3 -c 'import logging; from waportd.systemd.journal import *; \
            set_up_logging("info"); \
            logging.getLogger("x").warning("said of %i", extra=log_fields("2_1", 5002))'
        """,
}


def systemctl(*arguments):
    return subprocess.run(
        ["systemctl", "--user", *arguments], capture_output=True, text=True, timeout=60, check=False
    ).stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def templates():
    folder = Path(os.environ["XDG_RUNTIME_DIR"], "systemd/user")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in TEMPLATES.items():
        (folder / name).write_text("\n".join(line.strip() for line in text.splitlines()))
    (folder / "adapter-masked@1.service").symlink_to("/dev/null")
    systemctl("daemon-reload")
    yield
    systemctl("stop", "adapter-*")
    systemctl("reset-failed", "adapter-*")
    for path in folder.glob("adapter-*"):
        path.unlink()
    systemctl("daemon-reload")


@pytest.fixture
async def manager():
    manager = await DBusUnitManager.connect("session")
    yield manager
    await manager.close()
    assert not manager.lost.done()


class Watcher:
    """Keeps what it gets, and waits for what a test expects."""

    def __init__(self, manager, pattern):
        self.seen = []
        self._told = asyncio.Event()
        manager.watch(pattern, self._tell)

    def _tell(self, status):
        self.seen.append(status)
        self._told.set()

    async def until(self, condition):
        """Wait for a status that the condition holds for; return it."""
        async with asyncio.timeout(PATIENCE):
            while not (found := [status for status in self.seen if condition(status)]):
                self._told.clear()
                await self._told.wait()
        return found[0]


# Jobs


async def test_start_status_restart_stop(manager):
    unit = "adapter-server@1.service"
    assert await manager.status(unit) == UnitStatus(unit)
    began = time.time()
    await manager.start(unit)
    running = await manager.status(unit)
    assert (running.load_state, running.active_state, running.sub_state) == ("loaded", "active", "running")
    assert running.result == "success"
    assert began - 1 < running.since < time.time() + 1
    assert running.control_group.endswith(unit)
    assert str(running.main_pid) == systemctl("show", "--value", "-p", "MainPID", unit)

    await manager.restart(unit)
    restarted = await manager.status(unit)
    assert restarted.active_state == "active"
    assert restarted.main_pid != running.main_pid
    assert restarted.restarts == 0

    await manager.stop(unit)
    assert (await manager.status(unit)).active_state == "inactive"
    await manager.stop(unit)


async def test_a_unit_that_is_active_is_started_at_once(manager):
    await manager.start("adapter-server@2.service")
    before = await manager.status("adapter-server@2.service")
    await asyncio.wait_for(manager.start("adapter-server@2.service"), 2)
    assert await manager.status("adapter-server@2.service") == before


async def test_fifty_starts_at_once(manager):
    units = [f"adapter-bare@{number}.service" for number in range(50)]
    await asyncio.gather(*map(manager.start, units))
    listed = await manager.list_units("adapter-bare@*")
    assert {status.name for status in listed} == set(units)
    assert {status.active_state for status in listed} == {"active"}
    await asyncio.gather(*map(manager.stop, units))
    assert not [
        status for status in await manager.list_units("adapter-bare@*") if status.active_state != "inactive"
    ]


async def test_twenty_callers_may_start_the_same_unit(manager):
    await asyncio.gather(*(manager.start("adapter-server@3.service") for _ in range(20)))
    assert (await manager.status("adapter-server@3.service")).active_state == "active"


async def test_a_service_that_ends_before_it_is_ready_fails_the_job(manager):
    asked_at = time.monotonic()
    assert await manager.last_start("adapter-never@1.service") == 0
    with pytest.raises(JobFailed) as raised:
        await manager.start("adapter-never@1.service")
    assert asked_at < await manager.last_start("adapter-never@1.service") < time.monotonic()
    assert raised.value.result == "failed"
    unit = raised.value.unit
    assert (unit.active_state, unit.result) == ("failed", "exit-code")
    assert (unit.exit_code, unit.exit_status) == (1, 11)
    await manager.reset_failed("adapter-never@1.service")
    assert (await manager.status("adapter-never@1.service")).active_state == "inactive"


async def test_a_start_limit_is_hit_seen_and_lifted(manager):
    unit = "adapter-crash@1.service"
    watcher = Watcher(manager, unit)
    await manager.start(unit)
    failed = await watcher.until(lambda status: status.active_state == "failed" and status.restarts >= 2)
    assert (failed.exit_code, failed.exit_status) == (1, 7)
    with pytest.raises(JobFailed) as raised:
        await manager.start(unit)
    assert raised.value.result == "failed"
    await manager.reset_failed(unit)
    await manager.start(unit)


async def test_the_socket_of_a_service_that_hit_its_start_limit_fails_and_can_be_brought_back(manager, port):
    service, listener = f"adapter-crash@{port}.service", f"adapter-crash@{port}.socket"
    watcher = Watcher(manager, listener)
    await manager.start(listener)
    with socket.create_connection(("127.0.0.1", port)):
        failed = await watcher.until(lambda status: status.active_state == "failed")
    assert failed.result == "service-start-limit-hit"
    assert (await manager.status(service)).result == "exit-code"
    await manager.reset_failed(service)
    await manager.reset_failed(listener)
    await manager.start(listener)
    assert (await manager.status(listener)).sub_state == "listening"


async def test_a_failed_assert_fails_the_job_and_shows(manager):
    with pytest.raises(JobFailed) as raised:
        await manager.start("adapter-assert@1.service")
    assert raised.value.result == "assert"


async def test_a_busy_port_fails_the_socket_at_once(manager, port):
    unit = f"adapter-wired@{port}.socket"
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        with pytest.raises(JobFailed) as raised:
            await asyncio.wait_for(manager.start(unit), 5)
    assert raised.value.result == "failed"
    assert (raised.value.unit.active_state, raised.value.unit.result) == ("failed", "resources")
    await manager.reset_failed(unit)
    await manager.start(unit)
    assert (await manager.status(unit)).sub_state == "listening"
    await manager.stop(unit)


async def test_what_needs_a_socket_that_fails_is_a_failed_dependency(manager, port):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        with pytest.raises(JobFailed) as raised:
            await manager.start(f"adapter-wired@{port}.service")
    assert raised.value.result == "dependency"
    await manager.reset_failed(f"adapter-wired@{port}.socket")


async def test_starting_the_service_opens_its_socket_and_stopping_the_socket_stops_both(manager, port):
    service, listener = f"adapter-wired@{port}.service", f"adapter-wired@{port}.socket"
    await manager.start(service)
    assert (await manager.status(listener)).active_state == "active"
    await manager.stop(listener)
    assert (await manager.status(listener)).active_state == "inactive"
    assert (await manager.status(service)).active_state == "inactive"


# Units that cannot be started


async def test_a_masked_unit(manager):
    with pytest.raises(UnitMasked, match="masked"):
        await manager.start("adapter-masked@1.service")
    assert (await manager.status("adapter-masked@1.service")).load_state == "masked"


async def test_a_unit_that_does_not_exist(manager):
    with pytest.raises(NoSuchUnit, match=r"adapter-nothing@1\.service") as raised:
        await manager.start("adapter-nothing@1.service")
    assert "generate-units" in raised.value.hint
    assert (await manager.status("adapter-nothing@1.service")).load_state == "not-found"
    await manager.stop("adapter-nothing@1.service")
    await manager.reset_failed("adapter-nothing@1.service")


async def test_a_unit_file_that_is_not_valid(manager):
    with pytest.raises(LoadFailed):
        await manager.start("adapter-invalid@1.service")
    assert (await manager.status("adapter-invalid@1.service")).load_state == "bad-setting"


# What else is asked of units


def folders(instance):
    shown = systemctl("show", "-p", "StateDirectory", f"adapter-server@{instance}.service")
    assert shown == f"StateDirectory=adapter-server/{instance}"
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # systemd before 254 kept a user's state among the configuration.
    made = [path for root in (home, config, cache) if (path := root / "adapter-server" / instance).is_dir()]
    return [path for path in made if not path.is_symlink()]


async def test_clean_deletes_state_and_cache_of_a_stopped_unit_only(manager):
    unit = "adapter-server@4.service"
    await manager.start(unit)
    made = folders("4")
    assert len(made) == 2
    for folder in made:
        (folder / "file").write_text("kept while it runs")
    with pytest.raises(UnitBusy):
        await manager.clean(unit)
    assert all((folder / "file").exists() for folder in made)
    await manager.stop(unit)
    await manager.clean(unit)
    assert not any(folder.exists() for folder in made)
    await manager.clean(unit)


async def test_clean_of_a_unit_without_directories(manager):
    await manager.clean("adapter-bare@1.service")


async def test_a_clean_that_could_not_delete_everything_says_so(manager):
    unit = "adapter-server@5.service"
    await manager.start(unit)
    await manager.stop(unit)
    locked = folders("5")[0] / "locked"
    locked.mkdir()
    (locked / "file").write_text("cannot be deleted")
    locked.chmod(0)
    try:
        with pytest.raises(SystemdError, match="not everything could be deleted"):
            await manager.clean(unit)
    finally:
        locked.chmod(0o700)
    await manager.reset_failed(unit)
    await manager.clean(unit)
    assert not locked.exists()


async def test_memory_is_limited_before_the_first_start_and_while_it_runs(manager):
    unit = "adapter-server@6.service"
    await manager.limit_memory(unit, 300_000_000)
    await manager.start(unit)
    assert systemctl("show", "--value", "-p", "MemoryMax", unit) in {
        "300000000",
        str(300_000_000 // 4096 * 4096),
    }
    await manager.limit_memory(unit, 400_000_000)
    assert systemctl("show", "--value", "-p", "MemoryMax", unit) in {
        "400000000",
        str(400_000_000 // 4096 * 4096),
    }


async def test_accounting_gives_a_figure_or_none(manager):
    await manager.start("adapter-server@7.service")
    accounting = await manager.accounting("adapter-server@7.service")
    assert accounting.memory is None or accounting.memory > 0
    assert accounting.cpu is None or 0 <= accounting.cpu < 60


# Watching


async def test_a_killed_service_is_seen_to_come_back(manager):
    unit = "adapter-server@8.service"
    await manager.start(unit)
    pid = (await manager.status(unit)).main_pid
    watcher = Watcher(manager, "adapter-server@*")
    os.kill(pid, signal.SIGKILL)
    back = await watcher.until(lambda status: status.active_state == "active" and status.restarts == 1)
    assert back.name == unit
    assert back.main_pid != pid
    died = [status for status in watcher.seen if status.active_state == "activating"]
    assert all(
        (status.result, status.exit_code, status.exit_status) == ("signal", 2, 9) for status in died[:1]
    )


async def test_what_others_start_and_stop_is_seen(manager, port):
    watcher = Watcher(manager, "adapter-wired@*")
    await asyncio.to_thread(systemctl, "start", f"adapter-wired@{port}.socket")
    await watcher.until(lambda status: status.name.endswith(".socket") and status.active_state == "active")
    await asyncio.to_thread(systemctl, "stop", f"adapter-wired@{port}.socket")
    await watcher.until(lambda status: status.name.endswith(".socket") and status.active_state == "inactive")
    assert {status.name for status in watcher.seen} <= {
        f"adapter-wired@{port}.socket",
        f"adapter-wired@{port}.service",
    }


async def test_asking_for_a_unit_that_is_not_loaded_reports_nothing_to_watchers(manager):
    watcher = Watcher(manager, "adapter-*")
    for _ in range(5):
        assert (await manager.status("adapter-masked@1.service")).load_state == "masked"
    await manager.start("adapter-server@9.service")
    await watcher.until(
        lambda status: status.name == "adapter-server@9.service" and status.active_state == "active"
    )
    assert not [status for status in watcher.seen if status.name == "adapter-masked@1.service"]


async def test_a_reload_changes_nothing_for_watchers(manager):
    units = [f"adapter-bare@{number}.service" for number in range(100, 110)]
    await asyncio.gather(*map(manager.start, units))
    watcher = Watcher(manager, "adapter-bare@*")
    await manager.list_units("adapter-bare@*")
    await manager.reload()
    await manager.stop(units[0])
    await watcher.until(lambda status: status.active_state == "inactive")
    assert {status.active_state for status in watcher.seen if status.name != units[0]} <= {"active"}
    await asyncio.gather(*map(manager.stop, units))


async def test_it_continues_after_systemd_executed_itself_again(manager):
    unit = "adapter-server@10.service"
    await manager.start(unit)
    boot = await manager.boot()
    watcher = Watcher(manager, unit)
    await asyncio.to_thread(systemctl, "daemon-reexec")
    async with asyncio.timeout(PATIENCE):
        await manager.idle()
    await asyncio.to_thread(systemctl, "stop", unit)
    await watcher.until(lambda status: status.active_state == "inactive")
    await manager.start(unit)
    assert await manager.boot() == boot


# The manager, and the journal


async def test_one_boot_has_one_name(manager):
    boot = await manager.boot()
    await manager.reload()
    other = await DBusUnitManager.connect("session")
    assert await other.boot() == boot
    await other.close()


async def test_the_last_lines_of_a_unit(manager):
    await manager.start("adapter-talk@2.service")
    async with asyncio.timeout(PATIENCE):
        while "three" not in (lines := await last_lines("adapter-talk@2.service", 2)):
            await asyncio.sleep(0.05)
    assert lines == ["two", "three"]
    assert await last_lines("adapter-nothing@1.service", 2) == []


async def test_log_lines_reach_the_journal_with_their_fields(manager):
    await manager.start("adapter-log@1.service")
    entries = []
    async with asyncio.timeout(PATIENCE):
        while not entries:
            shown = await asyncio.to_thread(
                subprocess.run,
                ["journalctl", "--user", "-o", "json", "WAPORTD_USER=2_1", "MESSAGE=said of 1"],
                capture_output=True,
                text=True,
                check=False,
            )
            entries = [json.loads(line) for line in shown.stdout.splitlines()]
    assert entries[-1]["WAPORTD_PORT"] == str(Port(5002))
    assert entries[-1]["UNIT"] == "whatsapp@5002.service"
    assert entries[-1]["PRIORITY"] == "4"
    assert entries[-1]["SYSLOG_IDENTIFIER"] == "waportd"
