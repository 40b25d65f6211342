"""A private message bus with a mock systemd on it, for faults that the real one cannot be made to show."""

import contextlib
import select
import subprocess
import sys
from pathlib import Path

import pytest

from waportd.systemd.connection import Variant
from waportd.systemd.dbus import DBusUnitManager

MOCK = Path(__file__).with_name("mock_systemd.py")
PATIENCE = 60


@contextlib.contextmanager
def running(*command):
    """Run the command until the end; give the process once it has printed its first line, and that line."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            readable, _, _ = select.select([process.stdout], [], [], PATIENCE)
            assert readable, f"{command[0]} says nothing"
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()
            process.wait(PATIENCE)


@pytest.fixture
def bus(monkeypatch):
    """Start a private bus, which is the session bus for this test; its process."""
    with running("dbus-daemon", "--session", "--nofork", "--print-address") as (process, address):
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        yield process


@pytest.fixture
def systemd(bus):
    """Start a mock systemd on the private bus; its process."""
    with running(sys.executable, str(MOCK)) as (process, line):
        assert line.startswith("ready")
        yield process


@pytest.fixture
async def manager(systemd):
    """Connect to the mock, with timeouts that a test can wait for."""
    manager = await DBusUnitManager.connect("session", call_timeout=1.0, job_timeout=1.5)
    yield manager
    await manager.close()


@pytest.fixture
def control(manager):
    """Return a function that calls the mock's own interface."""

    async def call(method, signature="()", *arguments, reply="()"):
        answer = await manager.calls.connection.call(
            "/org/freedesktop/systemd1",
            "test.Control",
            method,
            Variant(signature, arguments),
            reply,
            PATIENCE,
        )
        return answer.unpack()

    return call
