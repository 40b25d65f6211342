"""Servers that end, and that systemd starts again."""

import asyncio
import time

import pytest
from support import BASE, has_session, is_process, settled, until

from waportd.model import Port, ProcessState, SessionState, User, pause_unit, service_unit
from waportd.readiness import Wait

ONE, TWO = User("1"), User("2")
PORT = Port(BASE)


async def test_who_is_deleted_in_a_pause_between_restarts_and_made_again_waits_for_its_end(
    supervisor, systemd
):
    await supervisor.ensure(ONE)
    await systemd.servers.pop(PORT).stop()
    for restarts in range(5):
        ended = {
            "active_state": "activating",
            "sub_state": "auto-restart",
            "main_pid": 0,
            "restarts": restarts,
        }
        systemd.change(service_unit(PORT), **ended, result="exit-code", exit_code=1, exit_status=11)
        await asyncio.sleep(0)
    await until(supervisor, ONE, is_process(ProcessState.CRASH_LOOP))
    starts = systemd.calls.count(("start", service_unit(PORT)))
    await supervisor.delete(ONE)
    instance = await supervisor.poll(ONE)
    await settled(supervisor)
    assert (instance.process.state, instance.process.cause) == (ProcessState.FAILED, "browser_lost")
    assert "started again" not in instance.process.message
    assert systemd.calls.count(("start", service_unit(PORT))) == starts


async def test_a_server_that_was_killed_is_followed_again(supervisor, systemd):
    await supervisor.ensure(ONE)
    await systemd.servers.pop(PORT).stop()
    systemd.change(
        service_unit(PORT),
        active_state="activating",
        sub_state="auto-restart",
        result="signal",
        exit_code=2,
        exit_status=9,
        main_pid=0,
    )
    instance = supervisor.registry.get(ONE)
    assert (instance.process.state, instance.process.cause) == (ProcessState.STARTING, "killed")
    systemd.prepare = lambda server: server.show_code()
    await systemd.start_server(PORT)
    await until(supervisor, ONE, has_session(SessionState.QR))


@pytest.mark.parametrize(
    "blink", [{"active_state": "failed", "result": "exit-code"}, {"active_state": "inactive"}]
)
@pytest.mark.also_without("first_answers")
async def test_who_waits_for_a_code_is_given_that_of_the_server_that_systemd_started_again(
    supervisor, systemd, blink
):
    waiting = asyncio.create_task(supervisor.ensure(ONE, wait=Wait.QR))
    await until(supervisor, ONE, lambda now: now.answering and now.process.state is ProcessState.RUNNING)
    await systemd.servers.pop(PORT).stop()
    systemd.change(service_unit(PORT), main_pid=0, exit_code=1, exit_status=11, **blink)
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await systemd.start_server(PORT)
    async with asyncio.timeout(10):
        while "new code" not in systemd.servers[PORT].calls:
            await asyncio.sleep(0.01)
    systemd.servers[PORT].show_code()
    instance, _ = await asyncio.wait_for(waiting, 10)
    assert instance.session.state is SessionState.QR


async def test_a_poll_starts_no_server_that_systemd_is_about_to_restart(supervisor, systemd):
    """Else it would be one that somebody asks for, and its ends so far be forgotten."""
    await supervisor.ensure(ONE)
    await systemd.servers.pop(PORT).stop()
    ended = {"active_state": "failed", "sub_state": "failed-before-auto-restart", "result": "exit-code"}
    systemd.change(service_unit(PORT), main_pid=0, exit_code=1, exit_status=11, **ended)
    before = systemd.calls.count(("start", service_unit(PORT)))
    instance = await supervisor.poll(ONE)
    await settled(supervisor)
    assert instance.process.state is ProcessState.STARTING
    assert systemd.calls.count(("start", service_unit(PORT))) == before


async def test_a_crash_loop_is_named(supervisor, systemd):
    await supervisor.ensure(ONE)
    await systemd.servers.pop(PORT).stop()
    systemd.change(
        service_unit(PORT),
        active_state="failed",
        sub_state="failed",
        result="start-limit-hit",
        exit_code=1,
        exit_status=11,
        main_pid=0,
    )
    process = supervisor.registry.get(ONE).process
    assert (process.state, process.cause) == (ProcessState.CRASH_LOOP, "browser_lost")


async def test_the_next_start_is_known_after_a_restart_of_the_daemon(start_supervisor, systemd, monkeypatch):
    """And be it that systemd reports the server before the daemon has looked at the pauses."""
    await (await start_supervisor()).ensure(ONE)
    await systemd.servers.pop(PORT).stop()
    loop = {"active_state": "activating", "result": "exit-code", "exit_code": 1, "exit_status": 11}
    loop |= {"sub_state": "auto-restart", "main_pid": 0, "restarts": 4}
    list_units = systemd.list_units

    async def list_while_it_changes(pattern):
        systemd.change(service_unit(PORT), **loop)
        return await list_units(pattern)

    await systemd.begin(pause_unit(PORT))
    monkeypatch.setattr(systemd, "list_units", list_while_it_changes)
    supervisor = await start_supervisor()
    process = supervisor.known(ONE).process
    assert (process.state, process.cause) == (ProcessState.CRASH_LOOP, "browser_lost")
    assert 0 < process.next_start - time.time() <= 15
