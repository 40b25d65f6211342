"""Ports of other hosts' users that another program has here: real sockets, and an engine in memory."""

import os
import socket
from types import SimpleNamespace

import pytest
from memory_engine import Client, MemoryEngine
from testbed.ports import free_port

from waportd.fleet import held_ports
from waportd.fleet.engine import HostState, Row
from waportd.fleet.held_ports import HeldPorts


@pytest.fixture
def engine():
    engine = MemoryEngine()
    for name in "ab":
        engine.set_up(name)
    return engine


@pytest.fixture
def host(engine):
    follower = SimpleNamespace(state=engine.state)
    return SimpleNamespace(name="a", engine=Client(engine), follower=follower, store=SimpleNamespace(rows={}))


@pytest.fixture
def foreign(monkeypatch):
    """Have what listens be another account's."""
    monkeypatch.setattr(os, "geteuid", lambda: 4711)


def held(engine):
    return next(one.held for one in engine.state.hosts if one.name == "a")


def have(engine, host, user, port, owner):
    rows = (*engine.state.rows, Row(user, port, owner))
    engine.next(rows=rows)
    host.follower.state = engine.state


async def look(engine, host):
    await HeldPorts(host).look()
    host.follower.state = engine.state
    return held(engine)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::"])
async def test_a_port_that_another_program_has_is_known_until_it_is_free(engine, host, foreign, address):
    port = free_port()
    have(engine, host, "7", port, "b")
    assert await look(engine, host) == ()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family):
        assert await look(engine, host) == (port,)
        revision = engine.state.revision
        assert await look(engine, host) == (port,)
        assert engine.state.revision == revision, "nothing has changed"
    assert await look(engine, host) == ()


async def test_what_keeps_nobody_out_is_not_held(engine, host, foreign):
    port = free_port("127.9.9.9")
    have(engine, host, "7", port, "b")
    with socket.create_server(("127.9.9.9", port)):
        assert await look(engine, host) == ()


async def test_ports_of_users_who_are_here_and_of_nobody_do_not_matter(engine, host, foreign):
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        port = listener.getsockname()[1]
        assert await look(engine, host) == ()
        have(engine, host, "7", port, "a")
        assert await look(engine, host) == ()
        host.store.rows["8"] = object()  # still here, and another host's by now
        engine.next(rows=(Row("8", port, "b"),))
        host.follower.state = engine.state
        assert await look(engine, host) == ()


async def test_what_waportd_forwards_is_not_held(engine, host):
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        have(engine, host, "7", listener.getsockname()[1], "b")
        assert await look(engine, host) == ()


async def test_what_an_administrator_has_ordered_meanwhile_stays(engine, host, foreign):
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        have(engine, host, "7", port := listener.getsockname()[1], "b")
        engine.set_up("a", HostState.DRAINING)
        with pytest.raises(held_ports.Conflict):
            await HeldPorts(host).look()
        host.follower.state = engine.state
        assert await look(engine, host) == (port,)
        assert next(one.state for one in engine.state.hosts if one.name == "a") is HostState.DRAINING
