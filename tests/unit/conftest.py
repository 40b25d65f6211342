"""A supervisor on fakes, and its API on a real unix socket."""

import dataclasses
import socket

import aiohttp
import pytest
from contract import keeps_its_word
from fakes import FakeSystemd, MemoryStore
from support import BASE, OVERFLOW, access_for, settled

from waportd.api.server import ApiServer, make_app
from waportd.config import Config, PortRange
from waportd.supervisor import Supervisor


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A configuration whose ports, and engines, are out of everybody's way."""
    monkeypatch.setattr("waportd.config._ENGINES", tmp_path / "engines")
    config = Config()
    (tmp_path / "instances").mkdir()
    return dataclasses.replace(
        config,
        store=dataclasses.replace(config.store, directory=tmp_path),
        ports=dataclasses.replace(
            config.ports,
            base=BASE,
            range=PortRange(BASE, BASE + 99),
            overflow=PortRange(OVERFLOW, OVERFLOW + 97),
        ),
        limits=dataclasses.replace(config.limits, min_available_memory=0),
    )


@pytest.fixture
async def systemd():
    fake = FakeSystemd()
    yield fake
    await fake.close()


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
async def start_supervisor(config, store, systemd):
    """Start a supervisor as the daemon does; a second call is a restart of the daemon."""
    running = []

    async def start(new_config=None, *, settle=True):
        if running:
            await running.pop().close()
            systemd.forget_watchers()
        supervisor = Supervisor(new_config or config, store, systemd)
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
    monkeypatch.setattr("waportd.api.server._IDLE_DRAIN", 0.05)
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
    supervisor.picture.release()
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
