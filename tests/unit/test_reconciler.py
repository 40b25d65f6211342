"""What is done when the daemon starts, and whose turn it is."""

import asyncio
import dataclasses

import pytest
from support import BASE, has_session, settled, until

from waportd.model import (
    Assignment,
    Desired,
    Port,
    ProcessState,
    SessionState,
    Turn,
    User,
    service_unit,
    socket_unit,
)

ONE, TWO = User("1"), User("2")
PORT = Port(BASE)


async def test_an_interrupted_deletion_is_finished_at_the_next_start(start_supervisor, store, systemd):
    store.rows[ONE] = Assignment(ONE, PORT, desired=Desired.DELETED)
    await start_supervisor()
    assert not store.rows
    assert ("clean", service_unit(PORT)) in systemd.calls


async def test_a_restart_of_the_daemon_adopts_what_runs(start_supervisor, systemd):
    supervisor = await start_supervisor()
    systemd.prepare = lambda server: server.show_code()
    await supervisor.ensure(ONE)
    server = systemd.servers[PORT]
    starts = systemd.calls.count(("start", service_unit(PORT)))
    supervisor = await start_supervisor()
    instance = await until(supervisor, ONE, has_session(SessionState.QR))
    assert instance.session.qr
    assert systemd.servers[PORT] is server
    assert systemd.calls.count(("start", service_unit(PORT))) == starts


async def test_a_reboot_brings_back_linked_sessions_few_at_a_time_and_ports_for_the_rest(
    config, start_supervisor, store, systemd
):
    for number in range(20):
        user = User(str(number + 1))
        store.rows[user] = Assignment(user, Port(BASE + number), linked=number < 12, socket_boot="boot-0")
    systemd.delay = 0.01
    await start_supervisor()
    assert len(systemd.servers) == 12
    assert systemd.most_starting <= config.limits.start_concurrency
    assert all(
        systemd.units[socket_unit(Port(BASE + number))].active_state == "active" for number in range(20)
    )


@pytest.mark.also_without("first_answers")
async def test_after_a_reboot_the_next_session_starts_when_one_before_it_is_connected(
    config, start_supervisor, store, systemd
):
    for number in range(12):
        user = User(str(number + 1))
        store.rows[user] = Assignment(user, Port(BASE + number), linked=True, socket_boot="boot-0")
    loading, most = set(), 0

    def load(server):
        nonlocal most
        server.say("authenticated", linked=True)
        loading.add(server)
        most = max(most, len(loading))

    systemd.prepare = load
    supervisor = await start_supervisor(settle=False)
    for connected in range(12):
        while not loading:
            await supervisor.registry.wait_for_change(supervisor.registry.version, 0.1)
        server = loading.pop()
        server.link()
        await until(supervisor, User(str(server.port - BASE + 1)), has_session(SessionState.READY))
        assert len(systemd.servers) <= connected + 1 + config.limits.start_concurrency
    assert most <= config.limits.start_concurrency
    await settled(supervisor)
    assert len(systemd.servers) == 12


@pytest.fixture
async def sleepers(config, store, start_supervisor, systemd):
    """A supervisor of ten linked users whose servers rest behind their ports, and what loads then."""
    for number in range(10):
        user = User(str(number + 1))
        store.rows[user] = Assignment(user, Port(BASE + number), linked=True, autostart=False)
    supervisor = await start_supervisor()
    assert not systemd.servers
    loading = set()

    def load(server):
        server.say("authenticated", linked=True)
        loading.add(server)

    systemd.prepare = lambda server: server.wait_for_turn(lambda: load(server))
    return supervisor, loading


async def test_who_wakes_all_servers_at_once_has_few_browsers_start_at_a_time(config, sleepers, systemd):
    """As a scan of all ports does: systemd starts each server, and nobody asks the daemon."""
    supervisor, loading = sleepers
    await asyncio.gather(*(systemd.start_server(Port(BASE + number)) for number in range(10)))
    for number in range(10):
        async with asyncio.timeout(10):
            while len(loading) < min(10 - number, config.limits.start_concurrency):
                await asyncio.sleep(0.01)
        assert len(loading) <= config.limits.start_concurrency
        waiting = [now for now in supervisor.registry if now.session and now.session.turn is Turn.AWAITED]
        assert len(waiting) >= 10 - number - config.limits.start_concurrency
        server = loading.pop()
        server.link()
        await until(supervisor, User(str(server.port - BASE + 1)), has_session(SessionState.READY))
    await settled(supervisor)


async def test_who_is_asked_for_waits_for_no_turn(config, sleepers, systemd):
    supervisor, loading = sleepers
    await asyncio.gather(*(systemd.start_server(Port(BASE + number)) for number in range(9)))
    async with asyncio.timeout(10):
        while sum(bool(now.session and now.session.turn is Turn.AWAITED) for now in supervisor.registry) != 5:
            await asyncio.sleep(0.01)
    # One that rests, and one that waits.
    await supervisor.ensure(User("10"))
    waiting = next(
        now.assignment for now in supervisor.registry if now.session and now.session.turn is Turn.AWAITED
    )
    systemd.servers[waiting.port].on_ask = systemd.servers[waiting.port].take_turn
    await supervisor.ensure(waiting.user)
    await until(supervisor, User("10"), has_session(SessionState.AUTHENTICATED))
    await until(supervisor, waiting.user, has_session(SessionState.AUTHENTICATED))
    assert len(loading) == config.limits.start_concurrency + 2


def held_up_by(systemd, limit):
    return sum(server.calls[-1:] == [f"wait: {limit}"] for server in systemd.servers.values())


@pytest.mark.parametrize(
    ("limit", "few", "enough", "begin"),
    [("max_running", 3, 10, 3), ("min_available_memory", 1 << 60, 0, 0)],
)
async def test_who_wakes_all_servers_at_once_has_no_more_browsers_start_than_fit(
    config, sleepers, systemd, monkeypatch, limit, few, enough, begin
):
    monkeypatch.setattr("waportd.reconciler.NO_ROOM_RETRY_S", 0.05)
    supervisor, loading = sleepers

    async def allow(value):
        limits = dataclasses.replace(config.limits, **{limit: value})
        await supervisor.reconfigure(dataclasses.replace(config, limits=limits))

    await allow(few)
    await asyncio.gather(*(systemd.start_server(Port(BASE + number)) for number in range(10)))
    async with asyncio.timeout(10):
        while held_up_by(systemd, limit) < 10 - begin:
            for server in loading:
                if server.document["state"] != "ready":
                    server.link()
            await asyncio.sleep(0.01)
    assert len(loading) == begin
    assert all(now.answering for now in supervisor.registry)
    await allow(enough)
    async with asyncio.timeout(10):
        while len(loading) < 10:
            for server in loading:
                if server.document["state"] != "ready":
                    server.link()
            await asyncio.sleep(0.01)
    for number in range(10):
        systemd.servers[Port(BASE + number)].link()
        await until(supervisor, User(str(number + 1)), has_session(SessionState.READY))
    await settled(supervisor)


async def test_a_restart_that_was_asked_for_waits_for_no_turn(sleepers, systemd):
    supervisor, loading = sleepers
    await supervisor.ensure(User("10"))
    await until(supervisor, User("10"), has_session(SessionState.AUTHENTICATED))
    loading.clear()
    await asyncio.gather(*(systemd.start_server(Port(BASE + number)) for number in range(9)))
    async with asyncio.timeout(10):
        while sum(bool(now.session and now.session.turn is Turn.AWAITED) for now in supervisor.registry) != 5:
            await asyncio.sleep(0.01)
    await supervisor.restart(User("10"))
    await until(supervisor, User("10"), has_session(SessionState.AUTHENTICATED))
    assert systemd.servers[Port(BASE + 9)] in loading


async def test_a_later_life_of_the_daemon_gives_turns_to_who_waits(sleepers, systemd, start_supervisor):
    _, loading = sleepers
    await asyncio.gather(*(systemd.start_server(Port(BASE + number)) for number in range(10)))
    supervisor = await start_supervisor(settle=False)
    for _ in range(10):
        async with asyncio.timeout(10):
            while not loading:
                await asyncio.sleep(0.01)
        loading.pop().link()
    for number in range(10):
        await until(supervisor, User(str(number + 1)), has_session(SessionState.READY))


async def test_a_user_who_is_stopped_before_it_is_his_turn_stays_stopped(
    config, start_supervisor, store, systemd
):
    limits = dataclasses.replace(config.limits, start_concurrency=1)
    for number, user in enumerate((ONE, TWO)):
        store.rows[user] = Assignment(user, Port(BASE + number), linked=True, socket_boot="boot-0")
    systemd.prepare = lambda server: server.say("authenticated", linked=True)
    supervisor = await start_supervisor(dataclasses.replace(config, limits=limits), settle=False)
    first = await until(supervisor, ONE, has_session(SessionState.AUTHENTICATED))
    assert first.process.state is ProcessState.RUNNING
    await supervisor.stop(TWO)
    systemd.servers[PORT].link()
    await settled(supervisor)
    assert set(systemd.servers) == {PORT}


async def test_a_stopped_user_stays_stopped_after_a_reboot(start_supervisor, store, systemd):
    store.rows[ONE] = Assignment(ONE, PORT, desired=Desired.STOPPED, linked=True)
    await start_supervisor()
    assert not systemd.units


@pytest.mark.parametrize("most", [1, 3, 5])
async def test_of_many_that_are_due_as_many_start_as_the_limit_allows(
    config, start_supervisor, store, systemd, most
):
    for number in range(6):
        user = User(str(number + 1))
        store.rows[user] = Assignment(user, Port(BASE + number), linked=True, socket_boot="boot-0")
    systemd.delay = 0.01
    limits = dataclasses.replace(config.limits, max_running=most)
    await start_supervisor(dataclasses.replace(config, limits=limits))
    assert len(systemd.servers) == most
