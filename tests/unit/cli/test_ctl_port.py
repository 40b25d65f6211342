"""``port``: who holds it; and of a left-over server, that it and nothing else is ended."""

import contextlib
import json
import os
import shutil
import socket
import subprocess

import psutil
import pytest
from support import BASE, SPARE

from waportd.cli.exit_status import Exit
from waportd.model import User

SERVER = """
require('node:http').createServer().listen(Number(process.argv[2]), '127.0.0.1', () => console.log('ready'));
"""


@pytest.fixture
def free_port():
    # None that the kernel gives to anyone who connects to somewhere meanwhile.
    return SPARE


@pytest.fixture
def as_root(monkeypatch):
    """Root's way, on processes of our own."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@contextlib.contextmanager
def old_server(folder, port, script="whatsapp_server.js"):
    """Run what the earlier setup ran: a server in a folder that holds its session."""
    (folder / script).write_text(SERVER)
    (folder / f".wwebjs_auth_{port}").mkdir()
    with subprocess.Popen(
        [shutil.which("node"), script, str(port)], cwd=folder, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


async def test_a_port_shows_whose_it_is(api, supervisor, ctl):
    await supervisor.assign(User("1"))
    said = await ctl("port", BASE)
    assert said.status == Exit.OK
    assert f"whatsapp@{BASE}.socket" in said.out
    free = (await ctl("port", SPARE)).out
    assert [line.split(maxsplit=1) for line in free.splitlines()][1] == ["User", "not assigned"]
    assert free.splitlines()[-1] == "Held by  no process"
    document = json.loads((await ctl("port", BASE, "--json")).out)
    assert (document["user"], document["preferred_by"], document["held"]) == ("1", "1", False)


async def test_root_sees_the_holder_without_a_daemon(free_port, as_root, ctl):
    with socket.create_server(("127.0.0.1", free_port)):
        said = await ctl("port", free_port)
    assert said.status == Exit.OK
    assert f"(pid {os.getpid()}" in said.out
    assert "waportd does not answer" in said.out


async def test_a_left_over_server_is_ended(tmp_path, free_port, as_root, ctl):
    with old_server(tmp_path, free_port) as process:
        said = await ctl("port", free_port, "--end-stale")
        assert process.wait(10) is not None
    assert said.status == Exit.OK
    assert f"ended node (pid {process.pid}" in said.out
    assert f"port {free_port} is free" in said.out


@pytest.mark.skipif(os.getuid() != 0, reason="only root can end a process of another user")
async def test_a_left_over_server_of_another_user_is_ended_too(tmp_path, free_port, ctl):
    with old_server(tmp_path, free_port):
        pass
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    node = shutil.which("node")
    command = [node, "whatsapp_server.js", str(free_port)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, user=65534) as process:
        assert process.stdout.readline() == "ready\n"
        said = await ctl("port", free_port, "--end-stale", "--json")
        assert process.wait(10) is not None
    assert said.status == Exit.OK
    document = json.loads(said.out)
    assert [holder["user"] for holder in document["ended"]] == ["nobody"]
    assert document["left"] == []


@pytest.mark.parametrize("script", ["app.js", "my_whatsapp_server.js"])
async def test_nothing_else_is_ended(tmp_path, free_port, as_root, ctl, script):
    with old_server(tmp_path, free_port, script) as process:
        said = await ctl("port", free_port, "--end-stale")
        assert said.status == Exit.FAILED
        assert psutil.pid_exists(process.pid)
        assert process.poll() is None
    assert "not a left-over server" in said.err


async def test_what_is_started_again_is_reported_with_who_does_it(tmp_path, free_port, as_root, ctl):
    """A process manager brings it back: the way out is there, not here."""
    (tmp_path / "whatsapp_server.js").write_text(SERVER)
    (tmp_path / f".wwebjs_auth_{free_port}").mkdir()
    manager = f"while true; do {shutil.which('node')} whatsapp_server.js {free_port}; done"
    with subprocess.Popen(["sh", "-c", manager], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            said = await ctl("port", free_port, "--end-stale")
            assert said.status == Exit.FAILED
            assert "is held again" in said.err
            assert f"(pid {process.pid}) started" in said.err
        finally:
            children = psutil.Process(process.pid).children()
            process.kill()
            for child in children:
                child.kill()
