"""A supervisor on fakes, and its API on a real unix socket."""

import asyncio
import contextlib
import dataclasses
import socket

import aiohttp
import pytest
from contract import keeps_its_word
from fakes import FakeSystemd, MemoryStore, Messages
from support import access_for, config_in, settled, until

from waportd.api.server import ApiServer, make_app
from waportd.model import Port, User
from waportd.shortcuts import ALL
from waportd.supervisor import Supervisor


@pytest.hookimpl(hookwrapper=True)
def pytest_fixture_post_finalizer(fixturedef):
    """Close the event loop that pytest-asyncio leaves for who asks for one: `asyncio.run` only forgets it.

    Its sockets were reported as unclosed in whichever test the garbage was collected in.
    """
    yield
    if fixturedef.argname == "event_loop":
        with contextlib.suppress(RuntimeError):  # there is none
            asyncio.get_event_loop_policy().get_event_loop().close()


def pytest_generate_tests(metafunc):
    """Run a test of the mark ``also_without`` once more without each shortcut that it names."""
    if mark := metafunc.definition.get_closest_marker("also_without"):
        without = [dataclasses.replace(ALL, **{name: False}) for name in mark.args]
        names = ["all shortcuts", *(f"without {name}" for name in mark.args)]
        metafunc.parametrize("shortcuts", [ALL, *without], ids=names)


@pytest.fixture
def shortcuts():
    """What exists only for speed: all of it, where a test does not say otherwise."""
    return ALL


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A configuration whose ports, and engines, are out of everybody's way."""
    monkeypatch.setattr("waportd.config.model.ENGINES", tmp_path / "engines")
    (tmp_path / "instances").mkdir()
    return config_in(tmp_path)


@pytest.fixture
async def systemd():
    fake = FakeSystemd()
    yield fake
    await fake.close()


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
async def start_supervisor(config, store, systemd, shortcuts):
    """Start a supervisor as the daemon does; a second call is a restart of the daemon."""
    running = []

    async def start(new_config=None, *, settle=True, host=None):
        if running:
            await running.pop().close()
            systemd.forget_watchers()
        supervisor = Supervisor(new_config or config, store, systemd, shortcuts, host)
        running.append(supervisor)
        await supervisor.start()
        if settle:
            await settled(supervisor)
        return supervisor

    yield start
    for supervisor in running:
        await supervisor.close()


@pytest.fixture
async def supervisor(start_supervisor):
    return await start_supervisor()


@pytest.fixture
def access(store):
    return access_for(store=store)


@pytest.fixture
async def server(supervisor, access, tmp_path, monkeypatch):
    """The API on a unix socket and on a TCP port, its every answer held to the OpenAPI document."""
    # Connections of other threads outlive the test; nobody comes back on them.
    monkeypatch.setattr("waportd.api.server.IDLE_DRAIN_S", 0.05)
    app = make_app(supervisor, access)
    app.middlewares.insert(1, keeps_its_word)
    server = ApiServer(app)
    server.path = tmp_path / "api.sock"
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(server.path))
    unix.listen(100)
    tcp = socket.create_server(("127.0.0.1", 0))
    server.url = f"http://127.0.0.1:{tcp.getsockname()[1]}"
    await server.start([unix, tcp])
    yield server
    # As the daemon ends.
    supervisor.registry.release()
    await server.drain()
    await server.close()


@pytest.fixture
async def api(server):
    """A client of the API on its unix socket."""
    connector = aiohttp.UnixConnector(str(server.path), limit=0)
    async with aiohttp.ClientSession("http://localhost", connector=connector) as client:
        yield client


@pytest.fixture
async def tcp(server):
    """A client of the API over TCP, which has shown nothing."""
    async with aiohttp.ClientSession(server.url) as client:
        yield client


@pytest.fixture
async def node(systemd, supervisor):
    """User 1's server, whose phone is linked, as far as it is about messages."""
    messages = Messages()
    systemd.prepare = lambda server: setattr(server, "on_messages", messages.handle)
    instance, _ = await supervisor.ensure(User("1"))
    systemd.servers[instance.assignment.port].link()
    await until(supervisor, "1", lambda now: now.assignment.linked and now.session.state == "ready")
    return messages


@pytest.fixture
def unpaced(monkeypatch):
    """No caller waits for a turn to have a large piece passed on: a file of hundreds of megabytes would take a minute."""
    monkeypatch.setattr("waportd.api.passing.PIECES_PER_TURN", 1 << 20)


@pytest.fixture
async def raw_server():
    """Serve the bytes that a test sets, whatever is asked, and close."""
    server = type("Raw", (), {"answer": b""})

    async def handle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(server.answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    server.port = Port(listener.sockets[0].getsockname()[1])
    yield server
    listener.close()
    await listener.wait_closed()


@pytest.fixture
def closed_port():
    """Give a port on which nobody listens, and nobody else will."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield Port(holder.getsockname()[1])
