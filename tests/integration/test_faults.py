"""What goes wrong: each fault has its cause, message and hint, and what can fix itself does."""

import concurrent.futures
import contextlib
import datetime as dt
import os
import signal
import socket
import sqlite3
import subprocess
import time

import pytest
from harness import (
    ROOT,
    SESSIONS,
    Poller,
    ask_server,
    browser_of,
    is_active,
    note_row,
    processes,
    systemctl,
    unit_property,
    until,
)

PHONE = "5511999990001"


@pytest.fixture
def linked(waportd, standin):
    """A daemon whose user 1 is linked."""
    standin.tell("scan", qr=waportd.show_code("1"), phone=PHONE, name="Ana")
    waportd.until_session("1", "ready")
    return waportd


def restarts(port):
    return int(unit_property(f"whatsapp@{port}.service", "NRestarts"))


@pytest.mark.parametrize("victim", ["node", "group"])
def test_after_sigkill_it_is_back_automatically_and_no_request_is_refused(linked, victim):
    before = processes(5001)
    with Poller(lambda: ask_server(5001, "/health", timeout=20)) as poller:
        poller.since(0)
        if victim == "group":
            systemctl("kill", "--signal=KILL", "whatsapp@5001.service")
        else:
            os.kill(before[0].pid, signal.SIGKILL)
        until(lambda: restarts(5001) == 1, "the restart")
        linked.until_session("1", "ready")
        poller.since(len(poller.statuses))
    # The request that a killed server is just answering dies with it; all others wait and are answered.
    lost = [status for status in poller.statuses if status != 200]
    assert len(lost) <= 1
    assert not any("Refused" in error for error in lost)
    assert not [process for process in before if process.is_running()]
    assert linked.user("1")["process"]["restarts"] == 1


def test_a_browser_that_is_killed_is_replaced_and_its_server_continues(linked):
    server, *_ = before = processes(5001)
    with Poller(lambda: ask_server(5001, "/health", timeout=20)) as poller:
        for _ in range(2):
            seen = linked.user("1")["session"]["since"]
            os.kill(browser_of(5001).pid, signal.SIGKILL)
            until(
                lambda since=seen: (
                    (now := linked.user("1")["session"])["state"] == "ready" and now["since"] != since
                ),
                "the session to be back",
            )
        poller.since(len(poller.statuses))
    assert set(poller.statuses) == {200}
    assert poller.longest < 5
    assert processes(5001)[0] == server
    assert [process for process in before if process.is_running()] == [server]
    assert linked.user("1")["process"]["restarts"] == 0


def test_who_waits_while_a_server_dies_is_answered_by_the_next_one(waportd, standin):
    waportd.show_code("1")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(waportd.call, "PUT", "/v1/users/1?wait=ready&timeout=60", timeout=90)
        os.kill(processes(5001)[0].pid, signal.SIGKILL)
        until(lambda: restarts(5001) == 1, "the restart")
        # Looked up where looking asks for nothing: the caller who waits is the only one who wants a code.
        code = until(lambda: ask_server(5001, "/session", timeout=20).json["qr"], "the next server's code")
        standin.tell("scan", qr=code, phone=PHONE, name="Ana")
        assert waiting.result(90)["session"]["phone_number"] == PHONE


def test_a_killed_daemon_comes_back_and_no_session_notices(linked):
    linked.show_code("2")
    pids = [linked.user(user)["process"]["pid"] for user in ("1", "2")]
    code = linked.qr("2")["qr"]
    linked.kill()
    shown = linked.until_session("1", "ready")
    assert shown["session"]["phone_number"] == PHONE
    assert until(lambda: linked.qr("2")["qr"], "the picture of user 2") == code
    assert [linked.user(user)["process"]["pid"] for user in ("1", "2")] == pids


def test_a_restart_of_the_daemon_fails_no_request(linked):
    with (
        Poller(lambda: linked.ask("GET", "/api/qr?user_id=1")) as pages,
        Poller(lambda: linked.ask("GET", "/v1/users/1/qr?timeout=3")) as long_polls,
        Poller(lambda: linked.ask("PUT", "/v1/users/1?wait=ready")) as ensures,
    ):
        for _ in range(3):
            seen = len(pages.statuses)
            systemctl("restart", "waportd.service")
            pages.since(seen)
    assert set(pages.statuses) == set(ensures.statuses) == {200}
    assert set(long_polls.statuses) == {200}
    assert max(pages.longest, ensures.longest) < 10


def test_a_hung_server_is_found_and_restarted(idle_waportd, standin):
    idle_waportd.start()
    drop_in(idle_waportd, "[Service]\nWatchdogSec=6\n")
    idle_waportd.show_code("1")
    os.kill(idle_waportd.user("1")["process"]["pid"], signal.SIGSTOP)
    until(lambda: idle_waportd.user("1")["process"]["cause"] == "hung" or restarts(5001), "the watchdog")
    until(lambda: restarts(5001) == 1 and is_active("whatsapp@5001.service"), "the restart")
    assert len(idle_waportd.show_code("1").split(",")) == 5
    assert "watchdog" in idle_waportd.journal("whatsapp@5001.service").lower()


def test_a_server_that_crashes_again_and_again_is_a_crash_loop(idle_waportd, tmp_path):
    script = tmp_path / "whatsapp_server.js"
    script.write_text("process.exit(11);\n", encoding="utf-8")
    idle_waportd.configure(instances={"script": str(script)})
    idle_waportd.start()
    problem = idle_waportd.call("PUT", "/v1/users/1", 502)
    assert problem["cause"] == "browser_lost"
    shown = idle_waportd.until_process("1", "crash_loop")["process"]
    assert shown["cause"] == "browser_lost"
    assert "; it is started again at " in shown["message"]
    assert dt.datetime.fromisoformat(shown["next_start"]) > dt.datetime.now(dt.UTC)
    page = idle_waportd.call("GET", "/api/qr?user_id=1")
    assert (page["status"], page["cause"], page["error"]) == ("error", "browser_lost", shown["message"])
    # The port stays open. A start fixes it at once, when the reason is gone; a page that polls has to wait for its time.
    with socket.create_connection(("127.0.0.1", 5001)):
        pass
    script.unlink()
    script.symlink_to(ROOT / "whatsapp_server.js")
    for _ in range(20):
        assert idle_waportd.qr("1")["status"] == "crash_loop"
    assert len(idle_waportd.show_code("1").split(",")) == 5


def drop_in(waportd, text):
    folder = waportd.units / "whatsapp@.service.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.conf").write_text(text, encoding="utf-8")
    systemctl("daemon-reload")


def test_a_script_that_does_not_parse(idle_waportd, tmp_path):
    script = tmp_path / "whatsapp_server.js"
    script.write_text("const = 1;\n", encoding="utf-8")
    idle_waportd.configure(instances={"script": str(script)})
    idle_waportd.start()
    began = time.monotonic()
    problem = idle_waportd.call("PUT", "/v1/users/1", 502)
    assert time.monotonic() - began < 10
    assert problem["cause"] == "script_broken"
    assert f"{script}:1" in problem["detail"]
    assert "SyntaxError" in problem["detail"]
    assert problem["hint"] == "reinstall waportd, or correct instances.script"
    shown = idle_waportd.until_process("1", "crash_loop")["process"]
    page = idle_waportd.call("GET", "/api/qr?user_id=1")
    assert (page["status"], page["cause"]) == ("error", "script_broken")
    assert page["error"] == shown["message"]
    assert shown["message"].startswith(f"{problem['detail']}; it is started again at ")


def test_no_node(idle_waportd):
    idle_waportd.configure(instances={"node": "/nowhere/node"})
    idle_waportd.start()
    problem = idle_waportd.call("PUT", "/v1/users/1", 502)
    assert (problem["cause"], problem["detail"]) == ("node_missing", "node cannot be executed")
    assert "apt install nodejs" in problem["hint"]


def test_no_browser(idle_waportd):
    idle_waportd.configure(instances={"browser": "/nowhere/chromium"})
    idle_waportd.start()
    problem = idle_waportd.call("PUT", "/v1/users/1?wait=qr", 502)
    assert problem["cause"] == "browser_missing"
    assert "/nowhere/chromium is not an executable file" in problem["detail"]
    assert "apt install chromium" in problem["hint"]
    # What it says comes before it has reported to systemd that it is ready.
    until(lambda: is_active("whatsapp@5001.service"), "its start")
    page = idle_waportd.call("GET", "/api/qr?user_id=1")
    assert (page["status"], page["cause"]) == ("error", "browser_missing")
    assert restarts(5001) == 0


def test_whatsapp_cannot_be_reached(waportd, standin):
    standin.tell("unreachable")
    problem = waportd.call("PUT", "/v1/users/1?wait=qr", 502)
    assert problem["cause"] == "upstream_unreachable"
    assert "web.whatsapp.com cannot be reached (ERR_CONNECTION_REFUSED)" in problem["detail"]
    assert "Internet connection" in problem["hint"]
    assert is_active("whatsapp@5001.service")
    standin.tell("unreachable", on=False)
    assert len(waportd.show_code("1").split(",")) == 5
    assert restarts(5001) == 0


def test_a_page_that_never_gives_a_code(idle_waportd, standin):
    idle_waportd.configure(instances={"start_timeout": 5, "browser": "chromium-headless-shell"})
    idle_waportd.start()
    standin.tell("silent")
    problem = idle_waportd.call("PUT", "/v1/users/1?wait=qr", 502)
    assert problem["cause"] == "upstream_silent"
    assert "gave neither code nor login in 5 s" in problem["detail"]
    assert "another browser" in problem["hint"]


def test_a_login_that_never_gets_ready_is_loaded_again(idle_waportd, standin):
    idle_waportd.configure(instances={"ready_timeout": 5})
    idle_waportd.start()
    code = idle_waportd.show_code("1")
    standin.tell("stay-authenticated")
    standin.tell("scan", qr=code, phone=PHONE, name="Ana")
    idle_waportd.until_session("1", "authenticated")
    began = time.monotonic()
    shown = idle_waportd.until_session("1", "ready")
    # The page alone: no other browser, no other process.
    assert time.monotonic() - began >= 4
    assert shown["process"]["restarts"] == 0
    assert "never_ready" in idle_waportd.journal("whatsapp@5001.service")


def test_codes_that_nobody_scans_end_in_a_timeout_that_polls_do_not_undo(idle_waportd, standin):
    idle_waportd.configure(instances={"qr_max_retries": 2})
    idle_waportd.start()
    code = idle_waportd.show_code("1")
    for _ in range(2):
        standin.tell("rotate", qr=code)
        code = until(
            lambda seen=code: (now := idle_waportd.qr("1")) and now["qr"] != seen and now, "the next"
        )["qr"]
        if code is None:
            break
    shown = idle_waportd.until_session("1", "qr_timeout")
    assert shown["session"]["message"] == "codes shown: 2; none was scanned"
    assert shown["session"]["hint"].startswith("ask again: ")
    until(lambda: len(processes(5001)) == 1, "the end of the browser")
    for _ in range(20):
        assert idle_waportd.qr("1")["qr"] is None
    assert len(processes(5001)) == 1
    assert len(idle_waportd.show_code("1").split(",")) == 5


def test_the_administrators_stop_is_respected(linked):
    systemctl("stop", "whatsapp@5001.socket")
    until(lambda: linked.user("1")["process"]["message"] == "stopped (by admin)", "the stop")
    assert linked.user("1")["process"]["state"] == "stopped"
    linked.kill()
    assert linked.user("1")["process"]["message"] == "stopped (by admin)"
    assert linked.call("GET", "/api/qr?user_id=1")["status"] == "error"
    assert not is_active("whatsapp@5001.service")
    assert linked.call("PUT", "/v1/users/1?wait=ready")["session"]["state"] == "ready"


def test_a_masked_unit_is_named(waportd):
    waportd.call("GET", "/api/port?user_id=1")
    systemctl("mask", "--runtime", "whatsapp@5001.service")
    try:
        problem = waportd.call("PUT", "/v1/users/1", 409)
        assert "masked" in problem["detail"]
    finally:
        systemctl("unmask", "--runtime", "whatsapp@5001.service")


def test_a_foreign_program_on_an_assigned_port_is_named_and_left_alone(waportd):
    waportd.call("PUT", "/v1/users/1", 201)
    waportd.call("POST", "/v1/users/1/stop")
    with socket.create_server(("127.0.0.1", 5001)):
        problem = waportd.call("PUT", "/v1/users/1", 409)
        assert (problem["code"], problem["cause"]) == ("port_held", "port_held")
        assert str(os.getpid()) in problem["detail"]
    assert waportd.call("PUT", "/v1/users/1")["port"] == 5001


@pytest.fixture
def left_over(tmp_path):
    """A server of the old setup on port 5001, started by hand."""
    folder = tmp_path / "old"
    (folder / ".wwebjs_auth_5001").mkdir(parents=True)
    process = subprocess.Popen(
        ["node", ROOT / "whatsapp_server.js", "5001"], cwd=folder, env={"PATH": os.environ["PATH"]}
    )
    try:
        until(lambda: answers(5001), "the left-over server")
        yield process
    finally:
        process.kill()
        process.wait(20)


def answers(port):
    try:
        return ask_server(port, "/health", timeout=2).status == 200
    except OSError:
        return False


def test_a_left_over_server_is_ended_where_the_configuration_allows_it(idle_waportd, left_over):
    idle_waportd.configure(ports={"takeover": "own"})
    idle_waportd.start()
    assert idle_waportd.call("PUT", "/v1/users/1", 201)["port"] == 5001
    assert left_over.wait(20) is not None


def test_a_left_over_server_is_left_alone_by_default(waportd, left_over):
    assert waportd.call("PUT", "/v1/users/1", 201)["port"] == 20000
    assert left_over.poll() is None


def test_reload_takes_over_what_it_can_and_says_what_needs_a_restart(waportd):
    waportd.configure(
        ports={"reserved": [5002]}, systemd={"bus": "session"}, instances={"node": "/usr/bin/node"}
    )
    waportd.reload()
    assert "ports.reserved: taken over" in waportd.journal("waportd.service")
    assert (
        waportd.call("PUT", "/v1/users/2?wait=none", 201)["note"] == "port 5002 is reserved (ports.reserved)"
    )
    pid = waportd.pid
    waportd.config_file.write_text("ports:\n  base: many\n", encoding="utf-8")
    waportd.reload()
    said = waportd.journal("waportd.service")
    assert "config.yaml:2: ports.base" in said
    assert "instances.node: holds after `systemctl restart waportd`" in said
    assert waportd.pid == pid
    assert waportd.user("2")["port"] == 20000


def test_the_server_of_nobody_is_reported_and_left_alone(waportd):
    """A store from a backup does not know the users of later; their servers run on."""
    waportd.call("PUT", "/v1/users/1", 201)
    systemctl("stop", "waportd.service", "waportd.socket")
    with contextlib.closing(sqlite3.connect(waportd.directory / "state/waportd.db")) as store, store:
        store.execute("DELETE FROM assignment")
    systemctl("start", "waportd.service")
    assert waportd.call("GET", "/v1/health")["unassigned_ports"] == [5001]
    assert "whatsapp@5001.service runs, but port 5001 is not assigned to any user" in waportd.journal(
        "waportd.service"
    )
    created = waportd.call("PUT", "/v1/users/1?wait=none", 201)
    assert (created["port"], created["note"]) == (
        20000,
        "port 5001 is held by whatsapp@5001.service, which nobody owns",
    )
    assert ask_server(5001, "/health", timeout=10).status == 200
    assert restarts(5001) == 0


BAD_REQUESTS = [
    ("PUT", "/v1/users/-1", None, 400, "bad_request"),
    ("PUT", "/v1/users/a%2Fb", None, 400, "bad_request"),
    ("PUT", "/v1/users/" + "x" * 65, None, 400, "bad_request"),
    ("PUT", "/v1/users/1?wait=soon", None, 400, "bad_request"),
    ("PUT", "/v1/users/1?timeout=-1", None, 400, "bad_request"),
    ("PUT", "/v1/users/1?timeout=nan", None, 400, "bad_request"),
    ("PUT", "/v1/users/1?timeout=601", None, 400, "bad_request"),
    ("PUT", "/v1/users/1?wait=qr&wait=ready", None, 400, "bad_request"),
    ("PUT", "/v1/users/1", [], 400, "bad_request"),
    ("PUT", "/v1/users/1", {"webhook": "http://localhost/"}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"webhook_url": "file:///etc/passwd"}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"webhook_url": 5}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"memory_max": "much"}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"autostart": "yes"}, 400, "bad_request"),
    ("PUT", "/v1/users/1", {"webhook_url": "http://localhost/" + "x" * 70_000}, 413, "too_large"),
    ("GET", "/v1/users/1", None, 404, "unknown_user"),
    ("POST", "/v1/users/1/start", None, 404, "unknown_user"),
    ("POST", "/v1/users/1/stop", None, 404, "unknown_user"),
    ("POST", "/v1/users/1/restart", None, 404, "unknown_user"),
    ("POST", "/v1/users/1/logout", None, 404, "unknown_user"),
    ("DELETE", "/v1/users/1", None, 404, "unknown_user"),
    ("GET", "/v1/users/1/qr?timeout=61", None, 400, "bad_request"),
    ("GET", "/v1/ports/0", None, 400, "bad_request"),
    ("GET", "/v1/ports/65536", None, 400, "bad_request"),
    ("GET", "/v1/ports/http", None, 400, "bad_request"),
    ("PATCH", "/v1/users", None, 405, "method_not_allowed"),
    ("GET", "/v1/nothing", None, 404, "not_found"),
    ("GET", "/v1/users/1?" + "x" * 9000, None, 400, "bad_request"),
]


def test_no_bad_request_is_answered_with_500_or_gets_anybody_a_port(waportd):
    for method, path, body, status, code in BAD_REQUESTS:
        answer = waportd.ask(method, path, body)
        told = (answer.status, answer.json["code"], answer.headers["Content-Type"].partition(";")[0])
        assert told == (status, code, "application/problem+json"), f"{method} {path:.80}: {answer.body}"
        assert answer.json["detail"]
    for path in ("/api/qr", "/api/port", "/api/whatsapp-status"):
        for query in ("", "?user_id=", "?user_id=../1", "?user_id=1&user_id=2"):
            answer = waportd.ask("GET", path + query)
            assert (answer.status, answer.json["code"], answer.json["success"]) == (400, "bad_request", False)
    assert waportd.call("GET", "/v1/users") == {"users": []}
    assert "Traceback" not in waportd.journal("waportd.service")


def test_a_lost_bus_ends_the_daemon_which_comes_back_and_no_session_notices(linked):
    server, before = linked.user("1")["process"]["pid"], linked.pid
    # Where a unit changes its state between the end of the bus and systemd's notice of it, systemd 252 stands still
    # for 90 s (bus_done_api flushes a connection that it has just begun). The next port is cleaned about now.
    time.sleep(1)
    systemctl("kill", "--signal=KILL", "dbus.service")
    until(lambda: is_active("waportd.service") and linked.pid not in {0, before}, "the daemon's return")
    assert "the connection to D-Bus is gone" in linked.journal("waportd.service")
    assert linked.until_session("1", "ready")["process"]["pid"] == server


@pytest.mark.thorough
@pytest.mark.parametrize("host", ["this host", "another host"])
def test_a_lock_that_was_left_in_the_profile_keeps_nobody_out(idle_waportd, standin, host):
    """The headless shell knows no lock; chromium does, and refuses one of another host."""
    waportd = idle_waportd
    waportd.configure(instances={"browser": "chromium"})
    waportd.start()
    standin.tell("scan", qr=waportd.show_code("1"), phone=PHONE, name="Ana")
    waportd.until_session("1", "ready")
    waportd.call("POST", "/v1/users/1/stop")
    [profile] = [found for folder in SESSIONS for found in folder.glob("5001/.wwebjs_auth_5001/session-*")]
    lock = profile / "SingletonLock"
    lock.unlink(missing_ok=True)
    # A process that lives, and is no browser: the number was given again after a power cut.
    lock.symlink_to(f"{socket.gethostname() if host == 'this host' else 'elsewhere'}-1")
    began = time.monotonic()
    waportd.call("POST", "/v1/users/1/start")
    shown = waportd.until_session("1", "ready")
    seconds = time.monotonic() - began
    assert shown["process"]["restarts"] == 0
    assert "elsewhere-1" not in str(lock.readlink())
    note_row(
        f"chromium's lock of {host} is left in a stopped session's profile", "the session starts", seconds
    )
