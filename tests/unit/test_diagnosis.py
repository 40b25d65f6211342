"""What a unit's state means, and why a server does not run."""

import asyncio
import dataclasses
import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from waportd import diagnosis
from waportd.diagnosis import RULES, Facts, Finding, describe, explain_exit, explain_script
from waportd.model import Port, ProcessState
from waportd.systemd.manager import UnitStatus

PORT = Port(5002)
SERVICE = UnitStatus("whatsapp@5002.service", since=1000.0)
SOCKET = UnitStatus("whatsapp@5002.socket", active_state="active", sub_state="listening")


def service(**members) -> UnitStatus:
    return dataclasses.replace(SERVICE, **members)


def socket(**members) -> UnitStatus:
    return dataclasses.replace(SOCKET, **members)


def exited(status: int, **members) -> UnitStatus:
    """Return a service that ended with that exit status."""
    return service(
        **{"active_state": "failed", "result": "exit-code", "exit_code": 1, "exit_status": status} | members
    )


def killed(number: int, **members) -> UnitStatus:
    return service(
        **{"active_state": "failed", "result": "signal", "exit_code": 2, "exit_status": number} | members
    )


def described(status: UnitStatus, of_socket: UnitStatus | None = SOCKET, **more):
    return describe(Facts(status, of_socket, PORT, **more))


class TestWhyItEnded:
    @pytest.mark.parametrize(
        ("status", "cause"),
        [
            (exited(1), "crashed"),
            (exited(2), "server_config"),
            (exited(11), "browser_lost"),
            (exited(12), "page_hung"),
            (exited(13), "never_ready"),
            (exited(14), "disconnected"),
            (exited(77), "crashed"),
            (exited(200), "working_directory"),
            (exited(203), "node_missing"),
            (exited(217), "unit_user"),
            (exited(226), "unit_namespace"),
            (exited(238), "state_directory"),
            (exited(239), "cache_directory"),
            (killed(signal.SIGKILL), "killed"),
            (killed(signal.SIGSEGV, result="core-dump", exit_code=3), "killed"),
            (killed(signal.SIGABRT, result="watchdog"), "hung"),
            (killed(signal.SIGKILL, result="oom-kill"), "out_of_memory"),
            (killed(signal.SIGTERM, result="timeout"), "start_timeout"),
            (service(active_state="failed", result="resources"), "resources"),
            (service(active_state="failed", result="protocol"), "protocol"),
            (exited(11, result="start-limit-hit"), "browser_lost"),
            (killed(signal.SIGKILL, result="start-limit-hit"), "killed"),
            (service(load_state="masked"), "masked"),
            (service(load_state="not-found"), "unit_missing"),
            (service(load_state="bad-setting"), "unit_broken"),
            (service(load_state="error"), "unit_broken"),
            (service(active_state="failed", result="start-limit-hit"), "failed"),
            (service(active_state="failed", result="exec-condition"), "failed"),
            (service(), "failed"),
        ],
    )
    def test_each_end_has_a_cause_a_message_and_a_way_out(self, status, cause):
        finding = explain_exit(status)
        assert finding.cause == cause
        assert finding.message
        assert finding.hint

    def test_an_exit_status_that_nobody_knows_is_reported(self):
        assert explain_exit(exited(77)).message == "the server ended with exit status 77"

    def test_a_signal_is_called_by_its_name(self):
        assert explain_exit(killed(signal.SIGKILL)).message == "the server was ended by SIGKILL"

    def test_a_signal_without_a_name_is_called_by_its_number(self):
        assert explain_exit(killed(99)).message == "the server was ended by signal 99"

    def test_a_result_that_nobody_knows_is_reported_in_systemds_word(self):
        assert "exec-condition" in explain_exit(service(result="exec-condition")).message

    def test_a_start_that_failed_without_a_trace_is_not_called_a_success(self):
        assert explain_exit(service()).message == "whatsapp@5002.service did not start"

    def test_the_way_out_leads_to_the_journal_of_this_unit_where_nothing_better_is_known(self):
        assert explain_exit(exited(1)).hint == "see `journalctl -u whatsapp@5002.service`"

    def test_a_masked_unit_says_how_it_is_unmasked(self):
        assert explain_exit(service(load_state="masked")).hint == "`systemctl unmask whatsapp@5002.service`"


class TestState:
    @pytest.mark.parametrize(
        ("status", "state", "message"),
        [
            (service(active_state="active"), ProcessState.RUNNING, "running on port 5002"),
            (service(active_state="reloading"), ProcessState.RUNNING, "running on port 5002"),
            (service(active_state="activating", sub_state="start"), ProcessState.STARTING, "starting"),
            (service(active_state="deactivating"), ProcessState.STOPPING, "stopping"),
            (service(), ProcessState.STOPPED, "not running; the next request on its port starts it"),
        ],
    )
    def test_a_server_without_trouble_has_no_cause(self, status, state, message):
        process = described(status)
        assert (process.state, process.message, process.cause) == (state, message, None)

    def test_since_pid_and_restarts_are_systemds(self):
        process = described(service(active_state="active", main_pid=77, restarts=3))
        assert (process.since, process.pid, process.restarts) == (1000.0, 77, 3)

    def test_a_server_that_does_not_run_has_no_pid(self):
        assert described(service()).pid is None

    @pytest.mark.parametrize(
        ("active_state", "sub_state"),
        [
            ("activating", "auto-restart"),
            ("activating", "auto-restart-queued"),
            ("failed", "failed-before-auto-restart"),
        ],
    )
    def test_a_restart_says_why_there_is_one(self, active_state, sub_state):
        process = described(exited(11, active_state=active_state, sub_state=sub_state))
        assert process.state is ProcessState.STARTING
        assert process.cause == "browser_lost"
        assert process.message == "the browser ended without being asked to; systemd starts it again"

    def test_a_server_that_must_not_be_restarted_has_failed(self):
        process = described(exited(2))
        assert (process.state, process.cause) == (ProcessState.FAILED, "server_config")

    @pytest.mark.parametrize("load_state", ["masked", "not-found", "bad-setting"])
    def test_a_unit_that_cannot_be_started_has_failed(self, load_state):
        assert described(service(load_state=load_state)).state is ProcessState.FAILED

    @pytest.mark.parametrize("of_socket", [None, socket(active_state="inactive")])
    def test_a_server_whose_port_is_closed_has_stopped(self, of_socket):
        process = described(service(), of_socket)
        assert (process.state, process.message) == (ProcessState.STOPPED, "stopped")

    def test_an_admins_stop_is_named(self):
        process = described(service(), socket(active_state="inactive"), by_admin=True)
        assert (process.state, process.message) == (ProcessState.STOPPED, "stopped (by admin)")

    def test_a_logout_is_named(self):
        process = described(exited(10, active_state="inactive", result="success"))
        assert (process.state, process.message) == (
            ProcessState.STOPPED,
            "logged out; the session was deleted",
        )
        assert process.cause is None

    def test_signal_10_is_no_logout(self):
        process = described(killed(10, active_state="inactive", result="success"))
        assert "logged out" not in process.message


class TestWhatIsKnownBeyondTheUnits:
    BROKEN = Finding("script_broken", "it does not parse", "mend it")

    def test_it_explains_a_server_that_systemd_calls_merely_stopped(self):
        process = described(service(), known=self.BROKEN)
        assert (process.state, process.message) == (ProcessState.FAILED, "it does not parse")
        assert (process.cause, process.hint) == ("script_broken", "mend it")

    def test_it_explains_a_restart(self):
        process = described(exited(1, active_state="activating", sub_state="auto-restart"), known=self.BROKEN)
        assert process.state is ProcessState.STARTING
        assert (process.cause, process.message) == (
            "script_broken",
            "it does not parse; systemd starts it again",
        )

    @pytest.mark.parametrize(
        ("hint", "told"),
        [("mend it", "mend it; then start the user again, which"), (None, "start the user again, which")],
    )
    def test_it_explains_a_crash_loop_which_is_still_called_one(self, hint, told):
        process = described(exited(1, result="start-limit-hit"), known=self.BROKEN._replace(hint=hint))
        assert (process.state, process.cause) == (ProcessState.CRASH_LOOP, "script_broken")
        assert process.message.startswith("it does not parse; it was started too often")
        assert process.hint.startswith(told)

    def test_a_server_that_runs_or_that_an_admin_stopped_needs_no_explanation(self):
        assert described(service(active_state="active"), known=self.BROKEN).cause is None
        assert (
            described(service(), socket(active_state="inactive"), by_admin=True, known=self.BROKEN).cause
            is None
        )


class TestCrashLoop:
    # As systemd 252 shows a service that exits with 11 and reaches StartLimitBurst= by its own restarts.
    LOOPED = exited(11, restarts=3)
    STOPPED_LISTENING = socket(active_state="failed", sub_state="failed", result="service-start-limit-hit")

    def test_the_socket_shows_that_systemd_starts_it_no_more(self):
        process = described(self.LOOPED, self.STOPPED_LISTENING)
        assert process.state is ProcessState.CRASH_LOOP
        assert process.cause == "browser_lost"
        assert process.message.endswith("started too often in a short time, and systemd no longer starts it")
        assert "; then start the user again, which lifts that limit" in process.hint

    def test_the_service_shows_it_where_the_limit_was_hit_by_starts_from_outside(self):
        process = described(exited(1, result="start-limit-hit"))
        assert (process.state, process.cause) == (ProcessState.CRASH_LOOP, "crashed")

    def test_a_server_that_ends_cleanly_again_and_again_is_one_too(self):
        process = described(service(), socket(active_state="failed", result="trigger-limit-hit"))
        assert (process.state, process.cause) == (ProcessState.CRASH_LOOP, "crash_loop")
        assert "journalctl -u whatsapp@5002.service" in process.hint

    def test_a_single_failure_is_none(self):
        assert described(self.LOOPED).state is ProcessState.FAILED

    def test_a_port_that_cannot_be_opened_is_none(self):
        process = described(service(), socket(active_state="failed", result="resources"))
        assert process.state is ProcessState.STOPPED


@pytest.fixture
def node() -> Path:
    found = shutil.which("node")
    assert found, "node is missing: apt install nodejs"
    return Path(found)


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "whatsapp_server.js"
    path.write_text("const http = require('node:http');\n")
    return path


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def hanging_node(tmp_path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return program(tmp_path / "node", f"read line < {tmp_path}/fifo")


def runs(path: Path) -> bool:
    children = [child.as_dict(["cmdline"]) for child in psutil.Process().children()]
    return any(str(path) in (child["cmdline"] or []) for child in children)


class TestScript:
    async def test_nothing_is_said_of_a_script_that_parses(self, node, script):
        assert await explain_script(node, script) is None

    async def test_a_script_that_does_not_parse_is_shown_with_line_and_error(self, node, script):
        script.write_text("const a = 1;\nfunction {\n")
        finding = await explain_script(node, script)
        assert finding.cause == "script_broken"
        assert finding.message == f"{script}:2: SyntaxError: Unexpected token '{{'"
        assert finding.hint

    async def test_a_missing_script_is_named(self, node, tmp_path):
        finding = await explain_script(node, tmp_path / "gone.js")
        assert (finding.cause, finding.message) == ("script_missing", f"{tmp_path}/gone.js is missing")

    async def test_a_script_that_cannot_be_looked_at_says_why(self, node, tmp_path):
        finding = await explain_script(node, Path(f"{tmp_path}/{'x' * 300}/whatsapp_server.js"))
        assert finding.cause == "script_missing"
        assert "cannot be read" in finding.message

    async def test_a_missing_node_says_how_to_install_it(self, script, tmp_path):
        finding = await explain_script(tmp_path / "node", script)
        assert finding.cause == "node_missing"
        assert "apt install nodejs" in finding.hint

    async def test_a_node_that_cannot_be_executed_is_one_that_is_missing(self, script):
        assert (await explain_script(script, script)).cause == "node_missing"

    async def test_a_node_that_crashes_says_nothing_of_the_script(self, script, tmp_path):
        assert await explain_script(program(tmp_path / "node", "kill -9 $$"), script) is None

    async def test_a_node_that_hangs_is_ended(self, script, hanging_node, monkeypatch):
        monkeypatch.setattr(diagnosis, "PARSE_TIMEOUT_S", 0.05)
        assert await explain_script(hanging_node, script) is None
        assert not runs(hanging_node)

    async def test_who_gives_up_leaves_no_process(self, script, hanging_node):
        asking = asyncio.create_task(explain_script(hanging_node, script))
        async with asyncio.timeout(10):
            while not runs(hanging_node):
                await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not runs(hanging_node)


class TestRules:
    RUNNING = service(active_state="active", main_pid=5)
    STARTING = service(active_state="activating")
    FAILED = exited(1)

    @pytest.mark.parametrize(
        ("status", "facts", "state"),
        [
            (RUNNING, {"is_switching": True, "is_launching": True, "next_start": 5.0}, ProcessState.RUNNING),
            (service(active_state="deactivating"), {"is_launching": True}, ProcessState.STOPPING),
            (STARTING, {"is_switching": True}, ProcessState.STARTING),
            (STARTING, {"has_answered": True}, ProcessState.RUNNING),
            (STARTING, {"next_start": 5.0}, ProcessState.CRASH_LOOP),
            (STARTING, {"next_start": 5.0, "is_launching": True}, ProcessState.STARTING),
            (FAILED, {"is_switching": True, "is_launching": True}, ProcessState.STOPPING),
            (FAILED, {"is_launching": True, "has_answered": True}, ProcessState.RUNNING),
            (FAILED, {"is_launching": True}, ProcessState.STARTING),
            (FAILED, {"has_answered": True}, ProcessState.FAILED),
            (SERVICE, {"known": Finding("x", "it failed", None)}, ProcessState.FAILED),
            (SERVICE, {"known": Finding("x", "it failed", None), "by_admin": True}, ProcessState.STOPPED),
        ],
    )
    def test_the_first_that_holds_counts(self, status, facts, state):
        assert described(status, **facts).state is state

    def test_the_design_shows_them(self):
        page = (Path(__file__).resolve().parents[2] / "docs/architecture.md").read_text("utf-8")
        table = [f"| {rule.fact} | `{rule.state}` |" for rule in RULES]
        assert "\n".join(table) in page
