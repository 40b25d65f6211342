"""Logouts, by a call of the API or on the phone."""

import asyncio

import pytest
from support import BASE, calls_for, has_session, is_process, settled, until

from waportd.model import Port, ProcessState, SessionState, User, service_unit, socket_unit
from waportd.readiness import Wait

ONE, TWO = User("1"), User("2")
PORT = Port(BASE)


async def test_logout_of_a_ready_session_asks_the_server(supervisor, systemd):
    systemd.prepare = lambda server: server.link()
    await supervisor.ensure(ONE, wait=Wait.READY)
    server = systemd.servers[PORT]
    instance = await supervisor.log_out(ONE)
    assert "disconnect" in server.calls
    assert instance.session.state is SessionState.LOGGED_OUT
    assert not instance.assignment.linked


async def test_logout_without_a_connection_deletes_the_session_and_says_so(supervisor, systemd):
    await supervisor.ensure(ONE)
    instance = await supervisor.log_out(ONE)
    assert calls_for(systemd, PORT)[-3:] == [
        ("reset_failed", service_unit(PORT)),
        ("clean", service_unit(PORT)),
        ("start", socket_unit(PORT)),
    ]
    assert "remove it there" in instance.session.message


async def test_a_logout_is_not_disturbed_by_a_page_that_polls(supervisor, systemd):
    await supervisor.ensure(ONE)
    clean = systemd.clean
    asked = []

    async def clean_while_somebody_polls(unit):
        asked.append(await supervisor.poll(ONE))
        await asyncio.sleep(0.05)
        await clean(unit)

    systemd.clean = clean_while_somebody_polls
    instance = await supervisor.log_out(ONE)
    assert asked
    assert instance.session.state is SessionState.LOGGED_OUT
    # The poll's start was not lost, it waited.
    await until(supervisor, ONE, is_process(ProcessState.RUNNING))


async def test_a_server_that_is_started_again_at_once_was_logged_out_all_the_same(supervisor, systemd):
    systemd.prepare = lambda server: server.link()
    await supervisor.ensure(ONE, wait=Wait.READY)
    systemd.prepare = lambda server: None

    def exit_and_start(status):
        # So quickly that nobody saw it down.
        systemd.change(service_unit(PORT), active_state="active", sub_state="running", main_pid=4711)
        systemd.servers[PORT].say("generating", message="waiting until somebody asks for a code")

    systemd.servers[PORT].on_exit = exit_and_start
    instance = await asyncio.wait_for(supervisor.log_out(ONE), 5)
    assert instance.session.message == "logged out"
    assert not instance.assignment.linked


async def test_who_asks_while_a_server_leaves_after_a_logout_on_the_phone_gets_the_next_one(
    supervisor, systemd
):
    systemd.prepare = lambda server: server.link()
    await supervisor.ensure(ONE, wait=Wait.READY)
    leaving = systemd.servers[PORT]
    leaving.say("logged_out")
    await until(supervisor, ONE, has_session(SessionState.LOGGED_OUT))
    leaving.calls.clear()
    again = asyncio.create_task(supervisor.ensure(ONE))
    await asyncio.sleep(0.05)
    assert not again.done()
    assert not leaving.calls
    await systemd.exit(PORT, 10)
    await asyncio.wait_for(again, 5)
    assert systemd.servers[PORT] is not leaving


async def test_a_logout_whose_last_picture_is_lost_is_known_by_the_exit_status(supervisor, systemd):
    systemd.prepare = lambda server: server.link()
    await supervisor.ensure(ONE, wait=Wait.READY)
    await until(supervisor, ONE, lambda now: now.assignment.linked)
    await systemd.exit(PORT, 10)
    await until(supervisor, ONE, lambda now: not now.assignment.linked)


@pytest.mark.parametrize("status", [0, 11])
async def test_who_ends_otherwise_stays_linked(supervisor, systemd, status):
    systemd.prepare = lambda server: server.link()
    await supervisor.ensure(ONE, wait=Wait.READY)
    await until(supervisor, ONE, lambda now: now.assignment.linked)
    await systemd.exit(PORT, status)
    instance = await until(supervisor, ONE, lambda now: now.process.state is ProcessState.STOPPED)
    assert instance.assignment.linked


async def test_a_question_for_the_next_server_is_not_put_to_the_one_that_ends(supervisor, systemd):
    await supervisor.ensure(ONE)
    leaving = systemd.servers[PORT]
    leaving.calls.clear()
    systemd.change(service_unit(PORT), active_state="deactivating", sub_state="stop-sigterm")
    again = asyncio.create_task(supervisor.ensure(ONE))
    await asyncio.sleep(0.1)
    assert not again.done()
    await systemd.exit(PORT, 11)
    await asyncio.wait_for(again, 5)
    assert not leaving.calls
    assert "new code" in systemd.servers[PORT].calls


async def test_a_session_that_is_still_loading_is_waited_for_before_its_logout(supervisor, systemd):
    systemd.prepare = lambda server: server.say("authenticated", linked=True)
    await supervisor.ensure(ONE)
    await until(supervisor, ONE, lambda now: now.assignment.linked)
    server = systemd.servers[PORT]
    asyncio.get_running_loop().call_later(0.1, server.link)
    instance = await supervisor.log_out(ONE)
    assert "disconnect" in server.calls
    assert instance.session.message == "logged out"


async def test_a_link_that_was_heard_before_a_logout_is_not_remembered_after_it(supervisor, systemd, store):
    await supervisor.ensure(ONE)
    async with supervisor.runtimes[ONE].lock:
        systemd.servers[PORT].link()
        await until(supervisor, ONE, has_session(SessionState.READY))
        systemd.servers[PORT].say("logged_out")
        await until(supervisor, ONE, has_session(SessionState.LOGGED_OUT))
    await settled(supervisor)
    assert not store.rows[ONE].linked
