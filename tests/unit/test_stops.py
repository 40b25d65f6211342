"""Stops, by a call of the API or by an administrator, and what does not undo them."""

import asyncio
import dataclasses

import pytest
from support import BASE, calls_for, is_process, settled, until

from waportd.errors import ServerFailed
from waportd.model import LIFE, Desired, Port, ProcessState, User, service_unit, socket_unit
from waportd.readiness import Wait

ONE, TWO = User("1"), User("2")
PORT = Port(BASE)


@pytest.mark.also_without("first_answers")
async def test_stop_keeps_the_login_and_polls_do_not_undo_it(supervisor, systemd):
    systemd.prepare = lambda server: server.link()
    await supervisor.ensure(ONE, wait=Wait.READY)
    await until(supervisor, ONE, lambda now: now.assignment.linked)
    instance = await supervisor.stop(ONE)
    assert instance.process.state is ProcessState.STOPPED
    assert instance.assignment.linked
    assert ("clean", service_unit(PORT)) not in systemd.calls[
        systemd.calls.index(("start", service_unit(PORT))) :
    ]
    await supervisor.poll(ONE)
    await settled(supervisor)
    assert not systemd.servers
    instance = await supervisor.start_server(ONE)
    assert instance.process.state is ProcessState.RUNNING


async def test_a_server_that_died_a_moment_before_its_stop_is_stopped(supervisor, systemd):
    await supervisor.ensure(ONE)
    await systemd.servers.pop(PORT).stop()
    systemd.change(service_unit(PORT), active_state="failed", result="signal", exit_code=2, exit_status=9)
    assert supervisor.known(ONE).process.state is ProcessState.FAILED
    process = (await supervisor.stop(ONE)).process
    assert (process.state, process.cause) == (ProcessState.STOPPED, None)


async def test_an_admins_stop_is_shown_and_not_undone_by_polls(supervisor, systemd):
    await supervisor.ensure(ONE)
    await systemd.stop_by_hand(socket_unit(PORT))
    instance = supervisor.registry.get(ONE)
    assert instance.process.message == "stopped (by admin)"
    await supervisor.poll(ONE)
    await settled(supervisor)
    assert not systemd.servers
    await supervisor.ensure(ONE)
    assert systemd.servers


async def test_an_admins_stop_outlives_the_daemon_but_not_the_boot(start_supervisor, systemd):
    supervisor = await start_supervisor()
    systemd.prepare = lambda server: server.link()
    await supervisor.ensure(ONE, wait=Wait.READY)
    await until(supervisor, ONE, lambda now: now.assignment.linked)
    await systemd.stop_by_hand(socket_unit(PORT))
    supervisor = await start_supervisor()
    assert supervisor.registry.get(ONE).process.message == "stopped (by admin)"
    assert not systemd.servers
    systemd.boot_name = "boot-2"
    supervisor = await start_supervisor()
    await until(supervisor, ONE, is_process(ProcessState.RUNNING))


@pytest.mark.parametrize("seen", [{"active_state": "inactive"}, {"active_state": "active", "has_job": True}])
async def test_an_admins_stop_of_which_only_the_servers_end_was_reported_is_not_undone_by_polls(
    supervisor, systemd, seen
):
    """systemd ends the server first, and says that first."""
    await supervisor.ensure(ONE)
    await systemd.exit(PORT)
    systemd.units[socket_unit(PORT)] = dataclasses.replace(systemd.units[socket_unit(PORT)], **seen)
    before = calls_for(systemd, PORT)
    await supervisor.poll(ONE)
    await settled(supervisor)
    assert calls_for(systemd, PORT) == before
    # Who asks for a start gets one.
    await supervisor.ensure(ONE)
    assert PORT in systemd.servers


@pytest.mark.also_without("first_answers")
async def test_a_poll_whose_start_meets_an_admins_stop_undoes_itself(supervisor, systemd, monkeypatch):
    await supervisor.ensure(ONE)
    await systemd.exit(PORT)
    start = systemd.start

    async def stopped_just_before(unit):
        socket = socket_unit(PORT)
        systemd.units[socket] = dataclasses.replace(systemd.units[socket], active_state="inactive")
        await start(unit)

    monkeypatch.setattr(systemd, "start", stopped_just_before)
    await supervisor.poll(ONE)
    await until(supervisor, ONE, lambda now: now.process.message == "stopped (by admin)")
    assert ("stop", socket_unit(PORT)) in systemd.calls
    assert not systemd.servers


async def test_a_stop_of_all_servers_is_no_decision_about_one_user(supervisor, systemd):
    """Another life begins: who should run does, and what was stopped before it, too."""
    systemd.prepare = lambda server: server.link()
    await supervisor.ensure(ONE, wait=Wait.READY)
    await supervisor.ensure(TWO, wait=Wait.READY)
    await supervisor.stop(TWO)
    await until(supervisor, ONE, lambda now: now.assignment.linked)
    systemd.change(LIFE, active_state="active")
    await settled(supervisor)
    await systemd.stop_by_hand(socket_unit(PORT))
    systemd.change(LIFE, active_state="inactive")
    await supervisor.poll(ONE)
    await settled(supervisor)
    assert supervisor.known(ONE).process.message == "stopped (by admin)"
    systemd.change(LIFE, active_state="active")
    await until(supervisor, ONE, is_process(ProcessState.RUNNING))
    await settled(supervisor)
    assert list(systemd.servers) == [PORT]
    # From here on it is a decision again.
    await systemd.stop_by_hand(socket_unit(PORT))
    assert supervisor.known(ONE).process.message == "stopped (by admin)"


async def test_a_stop_is_not_disturbed_by_a_page_that_polls(supervisor, systemd):
    await supervisor.ensure(ONE)
    stop = systemd.stop

    async def stop_while_somebody_polls(unit):
        await stop(unit)
        await supervisor.poll(ONE)
        await asyncio.sleep(0.01)

    systemd.stop = stop_while_somebody_polls
    await supervisor.stop(ONE)
    await asyncio.sleep(0.05)
    assert not systemd.servers
    assert supervisor.registry.get(ONE).process.message == "stopped"


async def test_a_stop_that_a_crash_cut_short_is_finished_at_the_next_start(start_supervisor, systemd, store):
    supervisor = await start_supervisor()
    await supervisor.assign(ONE)
    store.rows[ONE] = dataclasses.replace(store.rows[ONE], desired=Desired.STOPPED)
    supervisor = await start_supervisor()
    assert systemd.units[socket_unit(PORT)].active_state == "inactive"
    assert supervisor.registry.get(ONE).process.message == "stopped"


async def test_what_an_admin_starts_by_hand_outlives_the_daemon(start_supervisor, systemd):
    supervisor = await start_supervisor()
    await supervisor.ensure(ONE)
    await supervisor.stop(ONE)
    await systemd.start_server(PORT)
    await until(supervisor, ONE, lambda now: now.answering)
    await start_supervisor()
    assert systemd.servers


async def test_an_admins_stop_of_a_server_that_is_starting_is_not_undone_by_polls(supervisor, systemd):
    await supervisor.ensure(ONE)
    await supervisor.stop(ONE)
    systemd.fail_to_start(service_unit(PORT), "canceled", active_state="inactive", sub_state="dead")
    with pytest.raises(ServerFailed, match="interrupted by a stop"):
        await supervisor.ensure(ONE)
    systemd.change(socket_unit(PORT), active_state="inactive", sub_state="dead")
    systemd.mend(service_unit(PORT))
    assert (await supervisor.poll(ONE)).process.message == "stopped (by admin)"
    await settled(supervisor)
    assert not systemd.servers
    await supervisor.ensure(ONE)
    assert systemd.servers
