import os
import socket
import time

import pytest

from waportd.systemd import notify


@pytest.fixture
def told(monkeypatch, tmp_path):
    """Return what receives the next message to the service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield lambda: manager.recv(4096).decode()


def test_ready_comes_with_a_status(told):
    notify.ready("3 users")
    assert told() == "READY=1\nSTATUS=3 users"


def test_a_status_cannot_smuggle_in_another_assignment(told):
    notify.ready("user 2:\nWATCHDOG=trigger")
    assert told() == "READY=1\nSTATUS=user 2: WATCHDOG=trigger"


def test_reloading_names_the_moment_in_microseconds_of_the_monotonic_clock(told):
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify.reloading()
    assignment, moment = told().split("\n")
    assert assignment == "RELOADING=1"
    name, microseconds = moment.split("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_stopping_and_alive(told):
    notify.stopping()
    assert told() == "STOPPING=1"
    notify.alive()
    assert told() == "WATCHDOG=1"


def test_without_a_manager_nothing_happens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.ready("")


def test_a_manager_that_is_gone_is_logged_and_harmless(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify.alive()
    assert "Cannot notify systemd" in caplog.text


@pytest.mark.parametrize(
    ("microseconds", "pid", "expected"),
    [
        ("30000000", None, 30.0),
        pytest.param("30000000", os.getpid(), 30.0, id="for this process"),
        pytest.param("30000000", os.getpid() + 1, None, id="for another process"),
        ("0", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_watchdog_interval(monkeypatch, microseconds, pid, expected):
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, str(value))
    assert notify.watchdog_interval() == expected
