"""Who may call, decided on a real unix socket by the kernel's word for who is at the other end."""

import asyncio
import json
import os
import pwd
import shutil
import socket
import struct
import sys
import tempfile
import types
from pathlib import Path

import pytest
from aiohttp import web
from support import access_for

from waportd.api.access import peer_uid
from waportd.api.connections import Connection, Door, uid_of_peer
from waportd.api.operations import Answer, Operation, Scope

# Root may always call, so that a caller who may not has to be somebody else.
CALLER = 65534 if os.geteuid() == 0 else os.geteuid()

CLIENT = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
print(b"".join(iter(lambda: connection.recv(65536), b"")).decode())
"""


async def show_caller(request):
    return web.json_response(peer_uid(request))


@pytest.fixture
async def door():
    """Serve on a unix socket that everybody can open; give its path and the access that guards it."""
    access = access_for()
    app = web.Application()
    app["access"] = access
    app.add_routes(
        [Operation("GET", "/", show_caller, Scope.ADMIN, {200: Answer("the caller's uid")}).route()]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    path = folder / "api.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o666)

    def connect(*arguments):
        return Connection(*arguments, runner.server, loop=asyncio.get_running_loop(), access_log=None)

    guard = Door(10, access.recognise, connect, access.share_of)
    guard.open(listener)
    yield types.SimpleNamespace(path=path, access=access, runner=runner)
    await runner.cleanup()
    await guard.close()
    shutil.rmtree(folder)


async def call(door) -> tuple[int, object]:
    """Call as a process of its own, which is not root's; return status and document."""
    other = {"user": CALLER} if os.geteuid() == 0 else {}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", CLIENT, door.path, stdout=asyncio.subprocess.PIPE, **other
    )
    answer, _ = await asyncio.wait_for(process.communicate(), 10)
    head, _, body = answer.decode().replace("\r\n", "\n").partition("\n\n")
    return int(head.split()[1]), json.loads(body)


async def test_the_caller_is_known_by_its_uid(door):
    assert await call(door) == (200, CALLER)


async def test_who_is_named_may_call(door):
    door.access.allow(["www-data", pwd.getpwuid(CALLER).pw_name])
    assert (await call(door))[0] == 200


async def test_who_is_named_by_number_may_call(door):
    door.access.allow([CALLER])
    assert (await call(door))[0] == 200


async def test_who_is_not_named_is_refused_and_learns_how_to_be(door):
    door.access.allow(["root", CALLER + 1])
    status, problem = await call(door)
    assert (status, problem["code"]) == (403, "forbidden")
    assert problem["detail"] == f"user {pwd.getpwuid(CALLER).pw_name} may not call this socket"
    assert "api.allow_users" in problem["hint"]


async def test_a_new_list_holds_for_the_next_call(door):
    door.access.allow([CALLER + 1])
    assert (await call(door))[0] == 403
    door.access.allow([])
    assert (await call(door))[0] == 200


async def test_an_account_that_does_not_exist_lets_nobody_in(door):
    door.access.allow(["no-such-account"])
    assert (await call(door))[0] == 403


def test_root_may_always_call():
    assert access_for("www-data").permits(0)


def test_without_a_list_everybody_who_can_open_the_socket_may_call():
    assert access_for().permits(1234)


def test_sessions_may_not_call_other_users_servers_unless_they_are_named():
    session, service = 61184, 65519
    assert access_for().permits_at_servers(1000)
    assert access_for().permits_at_servers(60_000)
    assert not access_for().permits_at_servers(session)
    assert not access_for().permits_at_servers(service)
    assert access_for(service).permits_at_servers(service)
    assert not access_for(service).permits_at_servers(1000)
    assert access_for(service).permits_at_servers(os.geteuid())


def test_names_are_looked_up_at_each_call(monkeypatch):
    uids = {"ana": 1001}
    monkeypatch.setattr(pwd, "getpwnam", lambda name: types.SimpleNamespace(pw_uid=uids[name]))
    access = access_for("ana")
    assert access.permits(1001)
    assert not access.permits(1002)
    uids["ana"] = 1002
    assert access.permits(1002)
    assert not access.permits(1001)


@pytest.mark.parametrize("uid", [1000, 2**31, 2**32 - 2])
def test_uids_are_read_over_their_whole_range(uid):
    class Peer:
        family = socket.AF_UNIX

        def getsockopt(self, level, option, size):
            return struct.pack("=iII", 7, uid, 100)

    assert uid_of_peer(Peer()) == uid
