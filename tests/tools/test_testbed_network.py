"""The network of machines: which one a machine reaches, and what is between them when it does not."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from testbed import guests, network

pytestmark = pytest.mark.skipif(bool(guests.obstacle()), reason="only root can make networks")

PATIENCE_S = 30.0
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 7), timeout=0.5)"
SERVE = "import socket; s = socket.create_server(('', 7)); print('ready', flush=True)\nwhile True: s.accept()"


def reaches(port, address):
    command = [*port.space.command, "/usr/bin/python3", "-c", CONNECT, address]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0


def will_reach(port, address):
    """Return whether it is reached, as soon as that is so: a busy machine takes its time."""
    deadline = time.monotonic() + PATIENCE_S
    while not (is_reached := reaches(port, address)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return is_reached


def test_machines_reach_one_another_until_something_is_between_them():
    with network.created() as net:
        a, b = net.add(), net.add()
        with subprocess.Popen(
            [*b.space.command, "/usr/bin/python3", "-c", SERVE], stdout=subprocess.PIPE
        ) as server:
            try:
                assert server.stdout.readline() == b"ready\n"
                assert will_reach(a, b.address)
                a.cut(b.address)
                assert not reaches(a, b.address)
                assert will_reach(b, b.address)
                a.heal(b.address)
                assert will_reach(a, b.address)
                b.unplug()
                assert not reaches(a, b.address)
                b.plug()
                assert will_reach(a, b.address)
            finally:
                server.kill()
    assert not b.space.path.exists()
