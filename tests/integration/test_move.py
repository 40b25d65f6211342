"""A user gets another port, on a real systemd: with the login, whatever kills the daemon meanwhile."""

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from harness import (
    LIGHT_SERVER,
    PATIENCE,
    SESSIONS,
    NoBrowser,
    Waportd,
    is_active,
    note_row,
    systemctl,
    unit_property,
    until,
)
from rows import EVERYTHING

SOURCE, TARGET = 5001, 5009
SETTINGS = Path.home() / ".config/systemd/user"


@pytest.fixture
def linked(tmp_path):
    """User 1 is linked, on a server without a browser, and has settings of an administrator."""
    shutil.rmtree(SETTINGS, ignore_errors=True)
    waportd = Waportd(tmp_path, NoBrowser())
    waportd.configure(instances={"script": str(LIGHT_SERVER)})
    waportd.start()
    waportd.show_code("1")
    systemctl("kill", "--kill-who=main", "--signal=USR2", f"whatsapp@{SOURCE}.service")
    waportd.until_session("1", "ready")
    drop_in = SETTINGS / f"whatsapp@{SOURCE}.service.d"
    drop_in.mkdir(parents=True)
    (drop_in / "some.conf").write_text("[Service]\nEnvironment=MOVED=along\n")
    systemctl("daemon-reload")
    yield waportd
    waportd.stop()
    shutil.rmtree(SETTINGS, ignore_errors=True)


def kept(port):
    """Return the names of what is kept for a port, its number as N; but not the copies that a server makes at its end."""
    found = [
        path.relative_to(folder / f"{port}")
        for folder in SESSIONS
        for path in (folder / f"{port}").rglob("*")
        if path.is_file() and not (folder / f"{port}").is_symlink() and "snapshots" not in path.parts
    ]
    return {str(name).replace(f"{port}", "N") for name in found}


def rows(waportd):
    """Return user 1's port, and the one to come."""
    with contextlib.closing(sqlite3.connect(waportd.directory / "state/waportd.db", timeout=30)) as store:
        return store.execute("SELECT port, moving_to FROM assignment WHERE user = '1'").fetchone()


def assert_is_on(waportd, port):
    """One port, one login; the other port is free and clean."""
    shown = waportd.until_session("1", "ready")
    assert (shown["port"], shown["linked"], shown["process"]["state"]) == (port, True, "running")
    assert rows(waportd) == (port, None)
    other = SOURCE if port == TARGET else TARGET
    assert "login" in {name.rpartition("/")[2] for name in kept(port)}
    assert kept(other) == set()
    for kind in ("service", "socket"):
        assert is_active(f"whatsapp@{port}.{kind}")
        assert not is_active(f"whatsapp@{other}.{kind}")
    assert [path.name for path in (waportd.directory / "state/instances").glob("*.env")] == [f"{port}.env"]
    assert [path.name for path in SETTINGS.glob("whatsapp@*.d")] == [f"whatsapp@{port}.service.d"]
    assert "MOVED=along" in unit_property(f"whatsapp@{port}.service", "Environment")
    with socket.create_server(("127.0.0.1", other)):
        pass


def test_a_user_moves_with_login_and_settings_and_back_again(linked):
    before = kept(SOURCE)
    shown = linked.call("POST", "/v1/users/1/move", body={"port": TARGET})
    assert (shown["port"], shown["note"]) == (TARGET, f"moved here from port {SOURCE}")
    assert_is_on(linked, TARGET)
    assert kept(TARGET) == before
    linked.call("POST", "/v1/users/1/stop")
    shown = linked.call("POST", "/v1/users/1/move")
    assert (shown["port"], shown["desired"]) == (SOURCE, "stopped")
    assert not is_active(f"whatsapp@{SOURCE}.socket")
    linked.call("POST", "/v1/users/1/start?wait=ready")
    assert_is_on(linked, SOURCE)


def test_a_port_with_settings_of_its_own_is_refused_and_nothing_stops(linked):
    pid = linked.user("1")["process"]["pid"]
    (SETTINGS / f"whatsapp@{TARGET}.socket.d").mkdir()
    told = linked.call("POST", "/v1/users/1/move", 409, {"port": TARGET})
    assert f"whatsapp@{TARGET}.socket.d" in told["detail"]
    (SETTINGS / f"whatsapp@{TARGET}.socket.d").rmdir()
    with socket.create_server(("127.0.0.1", TARGET)):
        told = linked.call("POST", "/v1/users/1/move", 409, {"port": TARGET})
    assert told["code"] == "conflict"
    assert linked.user("1")["process"]["pid"] == pid
    assert_is_on(linked, SOURCE)


def test_what_cannot_be_renamed_leaves_all_as_it_was(linked):
    """Something of the session's own is in the way."""
    [auth] = [path for folder in SESSIONS for path in folder.glob(f"{SOURCE}/.wwebjs_auth_{SOURCE}")]
    obstacle = auth.with_name(f".wwebjs_auth_{TARGET}")
    obstacle.mkdir()
    told = linked.call("POST", "/v1/users/1/move", 409, {"port": TARGET})
    assert told["cause"] == "move_failed"
    obstacle.rmdir()
    assert_is_on(linked, SOURCE)
    assert "failed" not in systemctl("list-units", "--all", "--plain", "whatsapp-move@*")


def exists(*patterns):
    return any(True for folder, pattern in patterns for _ in folder.glob(pattern))


PHASES = {
    "the row shows the move": lambda waportd: rows(waportd)[1] == TARGET,
    "the server has stopped": lambda waportd: (
        not exists((waportd.directory / "state/instances", f"{SOURCE}.env"))
    ),
    "the login has moved": lambda _: exists(*((folder, f"{TARGET}/.wwebjs_auth_*") for folder in SESSIONS)),
    "the new port has its environment": lambda waportd: exists(
        (waportd.directory / "state/instances", f"{TARGET}.env")
    ),
    "the row has the new port": lambda waportd: rows(waportd)[0] == TARGET,
}


@pytest.mark.parametrize("phase", PHASES if EVERYTHING else ["the server has stopped", "the login has moved"])
def test_after_a_kill_in_a_move_the_user_is_ready_on_one_port(linked, phase):
    before, pid = kept(SOURCE), linked.pid
    asking = threading.Thread(target=ask_to_move, args=(linked,))
    asking.start()
    deadline = time.monotonic() + PATIENCE
    while not PHASES[phase](linked):
        assert time.monotonic() < deadline, phase
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    asking.join(PATIENCE)
    until(lambda: is_active("waportd.service") and linked.pid not in {0, pid}, "the daemon's return")
    until(lambda: rows(linked)[1] is None, "the end of the move")
    linked.until_session("1", "ready")
    took = time.monotonic() - began
    # Once begun, it is done.
    assert_is_on(linked, TARGET)
    assert kept(TARGET) == before
    note_row(
        f"waportd is killed in a move to another port: {phase}",
        "the user is on the new port, with the login",
        took,
    )


def ask_to_move(waportd):
    with contextlib.suppress(Exception):  # it is killed
        waportd.ask("POST", "/v1/users/1/move", {"port": TARGET})
