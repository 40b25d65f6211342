"""Linked sessions that come back: whose turn it is, and how long that lasts."""

import asyncio
import dataclasses

import pytest
from support import BASE, settled, until

from waportd.model import Assignment, Port, SessionState, Turn, User

USERS = [User(str(number + 1)) for number in range(6)]


def turns(systemd):
    return [server.document["turn"] for server in systemd.servers.values()]


def has(turn):
    return lambda now: now.session is not None and now.session.turn is turn


@pytest.fixture
def few(config):
    """Two at a time."""
    limits = dataclasses.replace(config.limits, start_concurrency=2)
    return dataclasses.replace(config, limits=limits)


@pytest.fixture
async def linked(few, start_supervisor, store, systemd):
    for number, user in enumerate(USERS):
        store.rows[user] = Assignment(user, Port(BASE + number), linked=True)
    systemd.prepare = lambda server: server.link()
    supervisor = await start_supervisor(few)
    for user in USERS:
        await until(supervisor, user, lambda now: now.session is not None and now.session.linked)
    await settled(supervisor)
    for server in systemd.servers.values():
        server.calls.clear()
    return supervisor


def lose_all(systemd):
    for server in systemd.servers.values():
        server.say("disconnected", linked=True, turn="awaited")


async def until_taken(supervisor, systemd, count):
    """Wait until so many have their turn; return their servers."""
    async with asyncio.timeout(5):
        while turns(systemd).count("taken") < count:
            await supervisor.registry.wait_for_change(supervisor.registry.version, 0.1)
    return [server for server in systemd.servers.values() if server.document["turn"] == "taken"]


async def test_what_hits_all_is_fixed_few_at_a_time(linked, systemd):
    lose_all(systemd)
    for back in range(len(USERS)):
        first, *_ = taken = await until_taken(linked, systemd, min(2, len(USERS) - back))
        assert len(taken) <= 2
        first.link()
        await until(linked, User(str(first.port - BASE + 1)), lambda now: now.session.state == "ready")
    await settled(linked)
    assert [server.calls.count("begin") for server in systemd.servers.values()] == [1] * len(USERS)


async def test_one_that_fails_again_gives_its_turn_to_the_next_and_gets_another(linked, systemd):
    lose_all(systemd)
    failing, _ = await until_taken(linked, systemd, 2)
    user = User(str(failing.port - BASE + 1))
    failing.say("error", linked=True)
    await until(linked, user, lambda now: now.session.state is SessionState.ERROR)
    await until_taken(linked, systemd, 2)
    failing.say("error", linked=True, turn="awaited")
    while any(turns(systemd)):
        for server in await until_taken(linked, systemd, 1):
            server.link()
            await until(linked, User(str(server.port - BASE + 1)), has(None))
    await settled(linked)
    assert failing.calls.count("begin") == 2
    assert failing.document["state"] == "ready"


async def test_one_that_is_stopped_meanwhile_keeps_nobody_waiting(linked, systemd):
    lose_all(systemd)
    for server in await until_taken(linked, systemd, 2):
        await linked.stop(User(str(server.port - BASE + 1)))
    assert len(await until_taken(linked, systemd, 2)) == 2


async def test_who_is_asked_for_waits_for_no_turn(linked, systemd):
    await linked.stop(USERS[0])
    lose_all(systemd)
    await until_taken(linked, systemd, 2)
    systemd.prepare = lambda server: server.say("generating", linked=True, turn="awaited")
    await linked.ensure(USERS[0])
    await until(linked, USERS[0], has(Turn.TAKEN))
    assert turns(systemd).count("taken") == 3


async def test_the_first_browser_of_a_server_that_systemd_restarted_waits_for_its_turn(linked, systemd):
    *others, victim = systemd.servers.values()
    for server in others:
        server.say("disconnected", linked=True, turn="awaited")
    taken = await until_taken(linked, systemd, 2)
    victim.say("generating", linked=True, turn="awaited")
    await until(linked, User(str(victim.port - BASE + 1)), has(Turn.AWAITED))
    for server in taken:
        server.link()
        await until(linked, User(str(server.port - BASE + 1)), has(None))
    await until_taken(linked, systemd, 2)
    assert victim.calls == []
    while any(turns(systemd)):
        for server in await until_taken(linked, systemd, 1):
            server.link()
            await until(linked, User(str(server.port - BASE + 1)), has(None))
    assert victim.calls == ["begin"]
