"""The functions for a front end that thinks in ports, against the real API; and where they were before."""

import ast
import asyncio
import contextlib
import copy
import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import BASE, OVERFLOW

from waportd import client as library
from waportd import compat
from waportd.client import Client, WaportdUnavailable
from waportd.compat import UserPort, ensure_whatsapp_server_running, get_whatsapp_server_url, port_for

SOURCE = Path(compat.__file__)


@pytest.fixture
def client(api, tmp_path):
    with contextlib.closing(Client(tmp_path / "api.sock")) as client:
        yield client


def on_thread(function, *arguments, **options):
    """Call the client beside the event loop on which the API runs."""
    return asyncio.to_thread(function, *arguments, **options)


@pytest.fixture
async def used(supervisor, config, client):
    """A client, where user 2's preferred port is the front end's own."""
    ports = dataclasses.replace(config.ports, reserved=frozenset({BASE + 1}))
    await supervisor.reconfigure(dataclasses.replace(config, ports=ports))
    compat.use(client)
    yield client
    compat.use(None)


@pytest.fixture
def unused():
    """Nobody has named a client."""
    compat.use(None)
    yield
    compat.use(None)


BY_NUMBER = str(OVERFLOW - BASE + 1)
"""The user who would get the first port of the overflow range by number."""


async def test_a_front_end_that_computes_ports_gets_each_users_own_server(used, systemd):
    assert await on_thread(ensure_whatsapp_server_running, BASE + 1) is True
    assert (await on_thread(used.status, "2")).process.state == "running"
    assert await on_thread(get_whatsapp_server_url, BASE + 1) == f"http://localhost:{OVERFLOW}"
    assert await on_thread(get_whatsapp_server_url, BASE) == f"http://localhost:{BASE}"
    assert [user.user for user in await on_thread(used.users)] == ["1", "2"]
    assert set(systemd.servers) == {OVERFLOW}


async def test_a_front_end_that_asks_for_the_port_may_pass_it_on(used):
    port = await on_thread(port_for, 2)
    assert port == OVERFLOW
    assert f"{port}" == str(OVERFLOW)
    assert json.dumps(port) == str(OVERFLOW)
    for same in (port, copy.deepcopy(port), pickle.loads(pickle.dumps(port))):
        assert isinstance(same, UserPort)
        assert await on_thread(ensure_whatsapp_server_running, same) is True
        assert await on_thread(get_whatsapp_server_url, same) == f"http://localhost:{OVERFLOW}"
    name = await on_thread(port_for, "2_1")
    assert await on_thread(get_whatsapp_server_url, name) == f"http://localhost:{name}"


async def test_a_number_that_may_mean_two_users_means_none(used, caplog):
    """User 2's real port is user N's by number: user N must never be shown user 2's WhatsApp."""
    await on_thread(port_for, 2)
    assert await on_thread(ensure_whatsapp_server_running, OVERFLOW) is False
    assert f"port {OVERFLOW} is user 2's, and user {BY_NUMBER}'s by number" in caplog.text
    with pytest.raises(compat.AmbiguousPort):
        await on_thread(get_whatsapp_server_url, OVERFLOW)
    assert await on_thread(get_whatsapp_server_url, OVERFLOW, user_id=2) == f"http://localhost:{OVERFLOW}"
    assert await on_thread(ensure_whatsapp_server_running, OVERFLOW, user_id=BY_NUMBER) is True
    assert (await on_thread(used.status, BY_NUMBER)).port == OVERFLOW + 1


async def test_a_number_that_names_nobody_starts_nothing(used, systemd, caplog):
    assert await on_thread(ensure_whatsapp_server_running, BASE - 2) is False
    assert "belongs to no user" in caplog.text
    assert await on_thread(ensure_whatsapp_server_running, 0) is False
    assert await on_thread(ensure_whatsapp_server_running, "five") is False
    assert not systemd.servers


@pytest.mark.usefixtures("unused")
def test_a_daemon_that_is_away_is_false_and_says_why(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WAPORTD_SOCKET", str(tmp_path / "none"))
    assert ensure_whatsapp_server_running(5002) is False
    assert "there is no socket" in caplog.text
    with pytest.raises(WaportdUnavailable):
        get_whatsapp_server_url(5002)


# Where they are imported from


@pytest.mark.parametrize(
    "name",
    [
        "AmbiguousPort",
        "UserPort",
        "ensure_whatsapp_server_running",
        "get_whatsapp_server_url",
        "port_for",
        "use",
    ],
)
def test_the_client_has_them_for_one_release_and_says_where_they_are(name):
    with pytest.warns(DeprecationWarning, match=f"^import {name} from waportd.compat$") as warnings:
        assert getattr(library, name) is getattr(compat, name)
    assert [warning.filename for warning in warnings] == [__file__]


def test_the_client_has_nothing_else_of_theirs():
    for name in ("_user_of", "nothing"):
        with pytest.raises(AttributeError, match=f"'waportd.client' has no attribute '{name}'"):
            getattr(library, name)


def run_alone(folder, program):
    """Run a program that sees these files and nothing that is installed."""
    program = f"import sys; sys.path.insert(0, sys.argv[1]); {program}"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", program, folder],
        capture_output=True,
        text=True,
        check=False,
    )


def test_copies_of_the_two_files_are_enough(tmp_path):
    (tmp_path / "waportd").mkdir()
    for name in ("client.py", "compat.py"):
        shutil.copy(SOURCE.with_name(name), tmp_path / "waportd")
    done = run_alone(
        tmp_path,
        "before = set(sys.modules); import waportd.compat; "
        "print({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)",
    )
    assert (done.stdout, done.stderr) == ("{'waportd'}\n", "")


def test_a_copy_of_the_client_alone_says_what_to_copy(tmp_path):
    shutil.copy(SOURCE.with_name("client.py"), tmp_path / "waportd_client.py")
    done = run_alone(tmp_path, "from waportd_client import port_for")
    assert done.stderr.endswith(
        "ImportError: port_for is in waportd/compat.py now: copy both files, as docs/integration.md says\n"
    )


def test_it_is_python_3_9():
    ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 9))
