"""The use cases, on a systemd and servers in memory."""

import asyncio
import dataclasses
import gc
import re
import socket
import time

import pytest
from fakes import iso
from support import BASE, OVERFLOW, add_engine, settled, until

from waportd.errors import ServerFailed, StartTimeout, TooManyRunning, UnknownEngine, UnknownUser
from waportd.model import (
    TARGET,
    Assignment,
    Desired,
    Port,
    ProcessState,
    SessionState,
    User,
    service_unit,
    socket_unit,
)
from waportd.supervisor import Wait
from waportd.systemd.manager import SystemdError

ONE, TWO = User("1"), User("2")
PORT = Port(BASE)


def has_session(state):
    return lambda instance: instance.answering and instance.session.state is state


def is_process(state):
    return lambda instance: instance.process.state is state


@pytest.fixture
def held_port():
    """A port that somebody else listens on: user 2's."""
    with socket.create_server(("127.0.0.1", BASE + 1)):
        yield Port(BASE + 1)


async def test_a_new_user_gets_a_port_and_a_running_server(supervisor, systemd, store):
    instance, created = await supervisor.ensure(ONE)
    assert created
    assert instance.assignment.port == PORT
    assert instance.process.state is ProcessState.RUNNING
    assert store.rows[ONE].port == PORT
    assert ("start", service_unit(PORT)) in systemd.calls


async def test_ensuring_again_changes_nothing(supervisor, systemd):
    await supervisor.ensure(ONE)
    before = list(systemd.calls)
    _, created = await supervisor.ensure(ONE)
    assert not created
    assert systemd.calls == before


async def test_fifty_concurrent_ensures_start_one_server(supervisor, systemd):
    systemd.delay = 0.05
    results = await asyncio.gather(*(supervisor.ensure(ONE) for _ in range(50)))
    assert systemd.calls.count(("start", service_unit(PORT))) == 1
    assert {instance.assignment.port for instance, _ in results} == {PORT}
    assert sum(created for _, created in results) == 1


async def test_different_users_get_different_ports_at_once(supervisor):
    users = [User(f"u{number}") for number in range(20)]
    results = await asyncio.gather(*(supervisor.assign(user) for user in users))
    assert len({instance.assignment.port for instance, _ in results}) == len(users)


async def test_a_held_port_is_left_alone_and_named(supervisor, systemd, held_port):
    systemd.fail_to_start(socket_unit(held_port), result="resources")
    instance, _ = await supervisor.ensure(TWO)
    assert instance.assignment.port == OVERFLOW
    assert f"port {held_port} is held by" in instance.assignment.note
    assert not list(supervisor._assignments._folder.glob(f"{held_port}.env"))


async def test_nothing_of_an_earlier_owner_is_left_on_a_new_port(supervisor, systemd):
    await supervisor.assign(ONE)
    assert systemd.calls.index(("clean", service_unit(PORT))) < systemd.calls.index(
        ("start", socket_unit(PORT))
    )


async def test_no_failed_unit_of_a_deleted_user_is_left(supervisor, systemd):
    await supervisor.ensure(ONE)
    await systemd.servers.pop(PORT).stop()
    for unit in (service_unit(PORT), socket_unit(PORT)):
        systemd.change(unit, active_state="failed", sub_state="failed", result="service-start-limit-hit")
    await supervisor.delete(ONE)
    assert {status.active_state for status in systemd.units.values()} == {"inactive"}


async def test_a_socket_that_does_not_open_for_a_masked_service_is_told_as_such(supervisor, systemd):
    await supervisor.ensure(ONE)
    await supervisor.stop(ONE)
    systemd.change(service_unit(PORT), load_state="masked")
    systemd.fail_to_start(socket_unit(PORT))
    with pytest.raises(ServerFailed, match="is masked") as caught:
        await supervisor.start_server(ONE)
    assert "unmask" in caught.value.hint


async def test_waiting_for_a_code(supervisor, systemd):
    systemd.prepare = lambda server: setattr(server, "on_ask", server.show_code)
    instance, _ = await supervisor.ensure(ONE, wait=Wait.QR)
    assert instance.session.qr == f"ref1,noise{PORT},identity,secret,1"


async def test_waiting_for_ready(supervisor, systemd):
    systemd.prepare = lambda server: setattr(server, "on_ask", server.link)
    instance, _ = await supervisor.ensure(ONE, wait=Wait.READY)
    assert instance.session.state is SessionState.READY
    assert (await until(supervisor, ONE, lambda now: now.assignment.linked)).assignment.linked


async def test_who_waits_for_a_code_gets_one_although_the_user_was_linked_and_the_login_is_gone(
    start_supervisor, store, systemd
):
    store.rows[ONE] = Assignment(ONE, PORT, linked=True, autostart=False)
    systemd.prepare = lambda server: setattr(server, "on_ask", server.show_code)
    supervisor = await start_supervisor()
    instance, _ = await supervisor.ensure(ONE, wait=Wait.QR, timeout=5)
    assert instance.session.qr == f"ref1,noise{PORT},identity,secret,1"
    assert not instance.assignment.linked


async def test_not_waiting(supervisor, systemd):
    systemd.delay = 0.2
    instance, _ = await supervisor.ensure(ONE, wait=Wait.NONE)
    assert instance.process.state is not ProcessState.RUNNING
    await until(supervisor, ONE, is_process(ProcessState.RUNNING))


async def test_a_code_that_does_not_come_in_time_is_a_timeout_that_tells_the_state(supervisor):
    with pytest.raises(StartTimeout, match=r"is not qr after 0.2 s .*process running"):
        await supervisor.ensure(ONE, wait=Wait.QR, timeout=0.2)


async def test_a_session_that_cannot_show_a_code_fails_with_its_cause(supervisor, systemd):
    def no_browser(server):
        server.say("error", cause="browser_missing", message="no browser", hint="apt install chromium")

    systemd.prepare = lambda server: setattr(server, "on_ask", lambda: no_browser(server))
    with pytest.raises(ServerFailed) as caught:
        await supervisor.ensure(ONE, wait=Wait.QR)
    assert (caught.value.cause, caught.value.hint) == ("browser_missing", "apt install chromium")


async def test_an_error_from_before_the_question_does_not_count(supervisor, systemd):
    systemd.prepare = lambda server: server.say("error", cause="browser_missing", message="no browser")
    await supervisor.ensure(ONE)
    await until(supervisor, ONE, has_session(SessionState.ERROR))
    server = systemd.servers[PORT]
    server.on_ask = lambda: asyncio.get_running_loop().call_later(0.05, server.show_code)
    instance, _ = await supervisor.ensure(ONE, wait=Wait.QR)
    assert instance.session.qr


async def test_an_expired_code_is_never_live(supervisor, systemd):
    systemd.prepare = lambda server: server.show_code(lifetime=-1)
    await supervisor.ensure(ONE)
    instance = await until(supervisor, ONE, has_session(SessionState.QR))
    assert instance.live_qr(instance.session.expires_at + 0.01) is None


async def test_a_missing_node_is_named(supervisor, systemd):
    systemd.fail_to_start(service_unit(PORT), result="exit-code", exit_code=1, exit_status=203)
    with pytest.raises(ServerFailed) as caught:
        await supervisor.ensure(ONE)
    assert caught.value.cause == "node_missing"
    assert "apt install nodejs" in caught.value.hint
    instance = supervisor.picture.get(ONE)
    assert (instance.process.state, instance.process.cause) == (ProcessState.FAILED, "node_missing")


async def test_a_script_that_does_not_parse_is_named(config, start_supervisor, systemd, tmp_path):
    script = tmp_path / "whatsapp_server.js"
    script.write_text("const = 1;\n", encoding="utf-8")
    instances = dataclasses.replace(config.instances, script=str(script))
    supervisor = await start_supervisor(dataclasses.replace(config, instances=instances))
    systemd.fail_to_start(service_unit(PORT), result="exit-code", exit_code=1, exit_status=1)
    with pytest.raises(ServerFailed) as caught:
        await supervisor.ensure(ONE)
    assert caught.value.cause == "script_broken"
    assert f"{script}:1" in caught.value.message


async def test_a_failed_start_is_tried_again_when_asked(supervisor, systemd):
    systemd.fail_to_start(service_unit(PORT), result="exit-code", exit_code=1, exit_status=1)
    with pytest.raises(ServerFailed):
        await supervisor.ensure(ONE)
    systemd.mend(service_unit(PORT))
    instance, _ = await supervisor.ensure(ONE)
    assert instance.process.state is ProcessState.RUNNING
    assert instance.process.cause is None
    assert ("reset_failed", service_unit(PORT)) in systemd.calls


async def test_polls_do_not_repeat_a_failed_start(supervisor, systemd):
    systemd.fail_to_start(service_unit(PORT), result="exit-code", exit_code=1, exit_status=1)
    with pytest.raises(ServerFailed):
        await supervisor.ensure(ONE)
    starts = systemd.calls.count(("start", service_unit(PORT)))
    for _ in range(20):
        await supervisor.ask(ONE)
    await settled(supervisor)
    assert systemd.calls.count(("start", service_unit(PORT))) == starts


async def test_a_poll_of_an_unknown_user_assigns_and_starts(supervisor):
    await supervisor.ask(ONE)
    await until(supervisor, ONE, is_process(ProcessState.RUNNING))


async def test_polls_are_relayed_now_and_then(supervisor, systemd):
    await supervisor.ensure(ONE)
    for _ in range(50):
        await supervisor.ask(ONE)
    await settled(supervisor)
    assert systemd.servers[PORT].calls.count("qr") == 1


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
    await supervisor.ask(ONE)
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
    instance = supervisor.picture.get(ONE)
    assert instance.process.message == "stopped (by admin)"
    await supervisor.ask(ONE)
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
    assert supervisor.picture.get(ONE).process.message == "stopped (by admin)"
    assert not systemd.servers
    systemd.boot_name = "boot-2"
    supervisor = await start_supervisor()
    await until(supervisor, ONE, is_process(ProcessState.RUNNING))


@pytest.mark.parametrize("seen", [{"active_state": "inactive"}, {"active_state": "active", "has_job": True}])
async def test_an_admins_stop_of_which_only_the_servers_end_was_told_is_not_undone_by_polls(
    supervisor, systemd, seen
):
    """systemd ends the server first, and tells that first."""
    await supervisor.ensure(ONE)
    await systemd.exit(PORT)
    systemd.units[socket_unit(PORT)] = dataclasses.replace(systemd.units[socket_unit(PORT)], **seen)
    before = list(systemd.calls)
    await supervisor.ask(ONE)
    await settled(supervisor)
    assert systemd.calls == before
    # Who asks for a start gets one.
    await supervisor.ensure(ONE)
    assert PORT in systemd.servers


async def test_a_poll_whose_start_meets_an_admins_stop_undoes_itself(supervisor, systemd, monkeypatch):
    await supervisor.ensure(ONE)
    await systemd.exit(PORT)
    start = systemd.start

    async def stopped_just_before(unit):
        socket = socket_unit(PORT)
        systemd.units[socket] = dataclasses.replace(systemd.units[socket], active_state="inactive")
        await start(unit)

    monkeypatch.setattr(systemd, "start", stopped_just_before)
    await supervisor.ask(ONE)
    await until(supervisor, ONE, lambda now: now.process.message == "stopped (by admin)")
    assert ("stop", socket_unit(PORT)) in systemd.calls
    assert not systemd.servers


async def test_a_stop_of_all_servers_is_no_decision_about_one_user(supervisor, systemd):
    """The target is started again: whoever should run does, and what was stopped before it, too."""
    systemd.prepare = lambda server: server.link()
    await supervisor.ensure(ONE, wait=Wait.READY)
    await supervisor.ensure(TWO, wait=Wait.READY)
    await supervisor.stop(TWO)
    await until(supervisor, ONE, lambda now: now.assignment.linked)
    systemd.change(TARGET, active_state="active")
    await settled(supervisor)
    await systemd.stop_by_hand(socket_unit(PORT))
    systemd.change(TARGET, active_state="inactive")
    await supervisor.ask(ONE)
    await settled(supervisor)
    assert supervisor.known(ONE).process.message == "stopped (by admin)"
    systemd.change(TARGET, active_state="active")
    await until(supervisor, ONE, is_process(ProcessState.RUNNING))
    await settled(supervisor)
    assert list(systemd.servers) == [PORT]
    # From here on it is a decision again.
    await systemd.stop_by_hand(socket_unit(PORT))
    assert supervisor.known(ONE).process.message == "stopped (by admin)"


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
    assert systemd.calls[-3:] == [
        ("reset_failed", service_unit(PORT)),
        ("clean", service_unit(PORT)),
        ("start", socket_unit(PORT)),
    ]
    assert "remove it there" in instance.session.message


async def test_delete_removes_the_session_and_frees_the_port(supervisor, systemd, store):
    await supervisor.ensure(ONE)
    await supervisor.delete(ONE)
    assert ("clean", service_unit(PORT)) == systemd.calls[-1]
    assert not store.rows
    assert supervisor.picture.get(ONE) is None
    assert not list(supervisor._assignments._folder.iterdir())
    instance, created = await supervisor.ensure(ONE)
    assert created
    assert instance.assignment.port == PORT


async def test_a_port_is_nobody_elses_before_its_session_is_gone(supervisor, systemd, store):
    await supervisor.ensure(ONE)
    blocked = asyncio.Event()

    async def clean(unit, keep=0.0):
        blocked.set()
        await asyncio.sleep(60)

    systemd.clean = clean
    deletion = asyncio.create_task(supervisor.delete(ONE))
    await blocked.wait()
    assert store.rows[ONE].desired is Desired.DELETED
    assert supervisor.picture.on_port(PORT) is not None
    deletion.cancel()


async def test_an_interrupted_deletion_is_finished_at_the_next_start(start_supervisor, store, systemd):
    store.rows[ONE] = Assignment(ONE, PORT, desired=Desired.DELETED)
    await start_supervisor()
    assert not store.rows
    assert ("clean", service_unit(PORT)) in systemd.calls


@pytest.mark.parametrize("verb", ["stop", "restart", "log_out", "delete", "start_server"])
async def test_a_user_without_a_port_is_unknown(supervisor, verb):
    with pytest.raises(UnknownUser):
        await getattr(supervisor, verb)(ONE)


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
            await supervisor.picture.wait_for_change(supervisor.picture.version, 0.1)
        server = loading.pop()
        server.link()
        await until(supervisor, User(str(server.port - BASE + 1)), has_session(SessionState.READY))
        assert len(systemd.servers) <= connected + 1 + config.limits.start_concurrency
    assert most <= config.limits.start_concurrency
    await settled(supervisor)
    assert len(systemd.servers) == 12


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


async def test_a_linked_session_that_failed_tries_again_at_once_when_somebody_starts_it(supervisor, systemd):
    await supervisor.ensure(ONE)
    server = systemd.servers[PORT]
    server.say("error", linked=True, cause="disk_full", message="no space left on the disk")
    await until(supervisor, ONE, lambda now: now.assignment.linked and has_session(SessionState.ERROR)(now))
    server.on_ask = server.link
    assert (await supervisor.start_server(ONE, Wait.READY, 5)).session.state is SessionState.READY


async def test_a_failure_of_before_the_clock_was_set_back_is_not_taken_for_a_new_one(supervisor, systemd):
    await supervisor.ensure(ONE)
    server = systemd.servers[PORT]
    server.say("qr_timeout", since=iso(time.time() + 3600))
    await until(supervisor, ONE, has_session(SessionState.QR_TIMEOUT))
    server.on_ask = lambda: asyncio.get_running_loop().call_later(0.1, server.show_code)
    assert (await supervisor.ensure(ONE, None, Wait.QR, 5))[0].session.qr


async def test_a_stopped_user_stays_stopped_after_a_reboot(start_supervisor, store, systemd):
    store.rows[ONE] = Assignment(ONE, PORT, desired=Desired.STOPPED, linked=True)
    await start_supervisor()
    assert not systemd.units


async def test_a_unit_that_nobody_owns_is_reported_and_left_alone(start_supervisor, systemd):
    await systemd.start_server(PORT)
    supervisor = await start_supervisor()
    assert supervisor.unassigned == {PORT}
    assert systemd.servers


async def test_a_port_taken_for_an_assignment_that_never_reached_the_store_is_given_back(
    config, start_supervisor, systemd
):
    (config.store.instances / f"{PORT}.env").write_text("PORT=1\n", encoding="utf-8")
    systemd.change(socket_unit(PORT), active_state="active")
    await start_supervisor()
    assert systemd.units[socket_unit(PORT)].active_state == "inactive"
    assert not list(config.store.instances.iterdir())


async def test_the_limit_of_running_servers(config, start_supervisor):
    limits = dataclasses.replace(config.limits, max_running=1)
    supervisor = await start_supervisor(dataclasses.replace(config, limits=limits))
    await supervisor.ensure(ONE)
    with pytest.raises(TooManyRunning, match=r"limits\.max_running") as caught:
        await supervisor.ensure(TWO)
    assert caught.value.retry_after


async def test_too_little_memory_on_the_host(config, start_supervisor):
    limits = dataclasses.replace(config.limits, min_available_memory=1 << 50)
    supervisor = await start_supervisor(dataclasses.replace(config, limits=limits))
    with pytest.raises(TooManyRunning, match=r"min_available_memory"):
        await supervisor.ensure(ONE)


async def test_the_longest_unused_idle_socket_gives_way(config, start_supervisor, systemd):
    limits = dataclasses.replace(config.limits, max_sockets=2)
    supervisor = await start_supervisor(dataclasses.replace(config, limits=limits))
    await supervisor.ensure(ONE)
    await supervisor.assign(TWO)
    await supervisor.assign(User("3"))
    assert systemd.units[socket_unit(Port(BASE + 1))].active_state == "inactive"
    assert supervisor.picture.get(TWO).process.message == "stopped"
    await supervisor.ensure(User("3"))
    with pytest.raises(TooManyRunning, match=r"max_sockets"):
        await supervisor.ensure(TWO)


async def test_a_new_webhook_restarts_a_running_server(supervisor, systemd):
    await supervisor.ensure(ONE)
    instance, _ = await supervisor.ensure(ONE, {"webhook_url": "http://localhost:9/hook"})
    assert ("restart", service_unit(PORT)) in systemd.calls
    assert instance.assignment.webhook_url == "http://localhost:9/hook"
    assert "http://localhost:9/hook" in (supervisor._assignments._folder / f"{PORT}.env").read_text(
        encoding="utf-8"
    )


async def test_a_users_own_memory_limit_is_set_before_the_start(supervisor, systemd):
    await supervisor.ensure(ONE, {"memory_max": 512 << 20})
    limit = ("limit_memory", f"{service_unit(PORT)}={512 << 20}")
    assert systemd.calls.index(limit) < systemd.calls.index(("start", service_unit(PORT)))


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
    instance = supervisor.picture.get(ONE)
    assert (instance.process.state, instance.process.cause) == (ProcessState.STARTING, "killed")
    systemd.prepare = lambda server: server.show_code()
    await systemd.start_server(PORT)
    await until(supervisor, ONE, has_session(SessionState.QR))


@pytest.mark.parametrize(
    "blink", [{"active_state": "failed", "result": "exit-code"}, {"active_state": "inactive"}]
)
async def test_whoever_waits_for_a_code_is_given_that_of_the_server_that_systemd_started_again(
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
    process = supervisor.picture.get(ONE).process
    assert (process.state, process.cause) == (ProcessState.CRASH_LOOP, "browser_lost")


async def test_closing_leaves_the_servers_alone(start_supervisor, systemd):
    supervisor = await start_supervisor()
    await supervisor.ensure(ONE)
    await supervisor.close()
    assert systemd.servers
    assert systemd.units[service_unit(PORT)].active_state == "active"


async def test_a_logout_is_not_disturbed_by_a_page_that_polls(supervisor, systemd):
    await supervisor.ensure(ONE)
    clean = systemd.clean
    asked = []

    async def clean_while_somebody_polls(unit, keep=0.0):
        asked.append(await supervisor.ask(ONE))
        await asyncio.sleep(0.05)
        await clean(unit)

    systemd.clean = clean_while_somebody_polls
    instance = await supervisor.log_out(ONE)
    assert asked
    assert instance.session.state is SessionState.LOGGED_OUT
    # The poll's start was not lost, it waited.
    await until(supervisor, ONE, is_process(ProcessState.RUNNING))


async def test_a_stop_is_not_disturbed_by_a_page_that_polls(supervisor, systemd):
    await supervisor.ensure(ONE)
    stop = systemd.stop

    async def stop_while_somebody_polls(unit):
        await stop(unit)
        await supervisor.ask(ONE)
        await asyncio.sleep(0.01)

    systemd.stop = stop_while_somebody_polls
    await supervisor.stop(ONE)
    await asyncio.sleep(0.05)
    assert not systemd.servers
    assert supervisor.picture.get(ONE).process.message == "stopped"


async def test_a_server_that_is_started_anew_at_once_was_logged_out_all_the_same(supervisor, systemd):
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


async def test_what_is_changed_at_the_same_time_is_all_kept(supervisor, store):
    await supervisor.ensure(ONE)
    change = supervisor._assignments.change
    await asyncio.gather(change(ONE, linked=True), change(ONE, autostart=False), change(ONE, note="x"))
    assert (store.rows[ONE].linked, store.rows[ONE].autostart, store.rows[ONE].note) == (True, False, "x")
    assert supervisor.picture.get(ONE).assignment == store.rows[ONE]


async def test_a_stop_that_a_crash_cut_short_is_finished_at_the_next_start(start_supervisor, systemd, store):
    supervisor = await start_supervisor()
    await supervisor.assign(ONE)
    store.rows[ONE] = dataclasses.replace(store.rows[ONE], desired=Desired.STOPPED)
    supervisor = await start_supervisor()
    assert systemd.units[socket_unit(PORT)].active_state == "inactive"
    assert supervisor.picture.get(ONE).process.message == "stopped"


async def test_what_an_admin_starts_by_hand_outlives_the_daemon(start_supervisor, systemd):
    supervisor = await start_supervisor()
    await supervisor.ensure(ONE)
    await supervisor.stop(ONE)
    await systemd.start_server(PORT)
    await until(supervisor, ONE, lambda now: now.answering)
    await start_supervisor()
    assert systemd.servers


async def test_a_start_that_fails_after_a_stop_says_why(config, start_supervisor, systemd):
    limits = dataclasses.replace(config.limits, max_running=1)
    supervisor = await start_supervisor(dataclasses.replace(config, limits=limits))
    await supervisor.ensure(ONE)
    await supervisor.stop(ONE)
    await supervisor.ensure(TWO)
    with pytest.raises(TooManyRunning):
        await supervisor.ensure(ONE)
    process = (await supervisor.ask(ONE)).process
    assert (process.state, process.cause) == (ProcessState.FAILED, "limit_reached")
    assert "limits.max_running" in process.message
    assert process.hint


async def test_a_port_that_somebody_took_after_an_admins_stop_is_named(supervisor, systemd):
    await supervisor.ensure(ONE)
    await systemd.stop_by_hand(socket_unit(PORT))
    systemd.fail_to_start(socket_unit(PORT), active_state="failed", result="resources")
    with socket.create_server(("127.0.0.1", PORT)), pytest.raises(ServerFailed, match="is held by"):
        await supervisor.ensure(ONE)
    process = supervisor.picture.get(ONE).process
    assert (process.state, process.cause) == (ProcessState.FAILED, "port_held")


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


async def test_a_deletion_that_failed_can_be_repeated(supervisor, systemd, store):
    await supervisor.ensure(ONE)
    clean = systemd.clean

    async def fail(_unit):
        raise SystemdError("not everything could be deleted")

    systemd.clean = fail
    with pytest.raises(SystemdError):
        await supervisor.delete(ONE)
    assert store.rows[ONE].desired is Desired.DELETED
    systemd.clean = clean
    await supervisor.delete(ONE)
    assert not store.rows


async def test_the_second_of_two_deletions_finds_nobody(supervisor, systemd):
    await supervisor.ensure(ONE)
    outcomes = await asyncio.gather(
        supervisor.delete(ONE), supervisor.delete(ONE), supervisor.ask(ONE), return_exceptions=True
    )
    assert outcomes[0] is None
    assert isinstance(outcomes[1], UnknownUser)


async def test_a_port_whose_unit_failed_before_anybody_owned_it_can_be_had(start_supervisor, systemd):
    systemd.change(service_unit(PORT), active_state="failed", result="exit-code", exit_code=1, exit_status=1)
    supervisor = await start_supervisor()
    instance, _ = await supervisor.ensure(ONE)
    assert instance.assignment.port == PORT


async def test_the_port_of_a_unit_that_nobody_owns_goes_to_nobody_and_the_unit_runs_on(
    start_supervisor, systemd
):
    await systemd.start_server(PORT)
    supervisor = await start_supervisor()
    instance, _ = await supervisor.ensure(ONE)
    assert instance.assignment.port == OVERFLOW
    assert instance.assignment.note == f"port {PORT} is held by {service_unit(PORT)}, which nobody owns"
    assert PORT in systemd.servers
    assert ("clean", service_unit(PORT)) not in systemd.calls


async def test_a_link_that_was_heard_before_a_logout_is_not_remembered_after_it(supervisor, systemd, store):
    await supervisor.ensure(ONE)
    async with supervisor._assignments.lock(ONE):
        systemd.servers[PORT].link()
        await until(supervisor, ONE, has_session(SessionState.READY))
        systemd.servers[PORT].say("logged_out")
        await until(supervisor, ONE, has_session(SessionState.LOGGED_OUT))
    await settled(supervisor)
    assert not store.rows[ONE].linked


async def test_an_admins_stop_of_a_server_that_is_starting_is_not_undone_by_polls(supervisor, systemd):
    await supervisor.ensure(ONE)
    await supervisor.stop(ONE)
    systemd._failures[service_unit(PORT)] = ("canceled", {"active_state": "inactive"})
    with pytest.raises(ServerFailed, match="interrupted by a stop"):
        await supervisor.ensure(ONE)
    systemd.change(socket_unit(PORT), active_state="inactive", sub_state="dead")
    systemd.mend(service_unit(PORT))
    assert (await supervisor.ask(ONE)).process.message == "stopped (by admin)"
    await settled(supervisor)
    assert not systemd.servers
    await supervisor.ensure(ONE)
    assert systemd.servers


async def test_a_start_that_waited_for_a_stop_does_not_undo_it(supervisor, systemd):
    await supervisor.ensure(ONE)
    await supervisor.stop(ONE)
    async with supervisor._starter.no_start(ONE):
        start = supervisor._starter.launch(ONE)
        await asyncio.sleep(0)
    with pytest.raises(ServerFailed, match="stopped meanwhile"):
        await start
    assert not systemd.servers
    assert supervisor.picture.get(ONE).process.state is ProcessState.STOPPED


async def test_a_linked_session_that_failed_to_start_is_tried_again_by_itself(
    start_supervisor, store, systemd, monkeypatch
):
    monkeypatch.setattr("waportd.starter.RETRY_INTERVAL", 0.05)
    store.rows[ONE] = Assignment(ONE, PORT, linked=True, socket_boot="boot-0")
    systemd.fail_to_start(service_unit(PORT), result="exit-code", exit_code=1, exit_status=203)
    supervisor = await start_supervisor()
    assert supervisor.picture.get(ONE).process.cause == "node_missing"
    systemd.mend(service_unit(PORT))
    await until(supervisor, ONE, is_process(ProcessState.RUNNING))


async def test_an_unlinked_session_that_failed_to_start_waits_for_somebody_to_ask(
    supervisor, systemd, monkeypatch
):
    monkeypatch.setattr("waportd.starter.RETRY_INTERVAL", 0.01)
    systemd.fail_to_start(service_unit(PORT), result="exit-code", exit_code=1, exit_status=203)
    with pytest.raises(ServerFailed):
        await supervisor.ensure(ONE)
    starts = systemd.calls.count(("start", service_unit(PORT)))
    await asyncio.sleep(0.1)
    assert systemd.calls.count(("start", service_unit(PORT))) == starts


async def test_a_server_that_answers_runs_though_systemd_has_not_heard_that_it_is_ready(supervisor, systemd):
    ready = asyncio.Event()
    start = systemd.start

    async def start_slowly(unit):
        await start(unit)
        if unit.endswith(".service"):
            systemd.change(unit, active_state="activating", sub_state="start")
            await ready.wait()
            systemd.change(unit, active_state="active", sub_state="running")

    systemd.start = start_slowly
    supervisor._observer.sessions.greet = greet_until_answered(supervisor._observer.sessions.greet)
    instance, _ = await asyncio.wait_for(supervisor.ensure(ONE), 5)
    assert instance.process.state is ProcessState.RUNNING
    assert instance.process.pid
    assert instance.process.message == f"running on port {PORT}"
    await until(supervisor, ONE, lambda now: now.answering)
    ready.set()
    await until(supervisor, ONE, lambda now: now.process.state is ProcessState.RUNNING)
    assert not supervisor._starter._jobs or await asyncio.wait(supervisor._starter._jobs, timeout=5)
    await systemd.exit(PORT)
    await until(supervisor, ONE, lambda now: now.process.state is ProcessState.STOPPED)


async def test_an_answer_that_fails_when_nobody_waits_for_it_any_more_is_no_error(supervisor, systemd):
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    calls = []

    async def greet(port, *, ask):
        calls.append(ask)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            raise ServerFailed("hung up", cause="not_answering") from None

    supervisor._observer.sessions.greet = greet
    await supervisor.ensure(ONE)
    while any(task.get_name().startswith("first answer") for task in asyncio.all_tasks()):
        await asyncio.sleep(0)
    gc.collect()
    assert calls == [True]
    assert systemd.servers[PORT].calls == ["new code"]
    assert complaints == []


def greet_until_answered(greet):
    """Greet as one does whose question waits in a socket that systemd holds."""

    async def patient(port, *, ask):
        while True:
            try:
                return await greet(port, ask=ask)
            except ServerFailed:
                await asyncio.sleep(0.01)

    return patient


async def test_the_lowest_port_that_was_freed_is_given_again(supervisor):
    for name in ("a", "b", "c"):
        await supervisor.ensure(User(name))
    await supervisor.delete(User("a"))
    await supervisor.delete(User("b"))
    assert (await supervisor.ensure(User("d")))[0].assignment.port == OVERFLOW
    assert (await supervisor.ensure(User("e")))[0].assignment.port == OVERFLOW + 1
    assert (await supervisor.ensure(User("f")))[0].assignment.port == OVERFLOW + 3


async def test_stopped_users_take_no_port_from_those_who_are_not(start_supervisor, store, systemd, config):
    limits = dataclasses.replace(config.limits, max_sockets=1)
    store.rows = {
        ONE: Assignment(ONE, PORT, created_at=1.0),
        User("2"): Assignment(User("2"), Port(PORT + 1), desired=Desired.STOPPED, created_at=2.0),
    }
    await start_supervisor(dataclasses.replace(config, limits=limits))
    assert systemd.units[socket_unit(PORT)].active_state == "active"


async def has_cleaned(systemd, port):
    """Wait until the port has been cleaned."""
    async with asyncio.timeout(5):
        while ("clean", service_unit(port)) not in systemd.calls:
            await asyncio.sleep(0.01)


class TestCleaningAhead:
    @pytest.fixture(autouse=True)
    def at_once(self, monkeypatch):
        monkeypatch.setattr("waportd.supervisor._PAUSE", 0.01)

    async def test_the_next_users_port_is_cleaned_before_that_user_comes(self, supervisor, systemd):
        await supervisor.ensure(ONE)
        await has_cleaned(systemd, PORT + 1)
        systemd.calls.clear()
        await supervisor.ensure(TWO)
        assert ("clean", service_unit(PORT + 1)) not in systemd.calls
        await has_cleaned(systemd, PORT + 2)

    async def test_a_port_that_was_had_since_is_cleaned_again(self, supervisor, systemd):
        await supervisor.ensure(ONE)
        await has_cleaned(systemd, PORT + 1)
        await supervisor.ensure(TWO)
        await supervisor.delete(TWO)
        systemd.calls.clear()
        await supervisor.ensure(TWO)
        assert ("clean", service_unit(PORT + 1)) in systemd.calls

    async def test_who_comes_later_than_a_minute_after_that_gets_it_cleaned_again(
        self, supervisor, systemd, monkeypatch
    ):
        monkeypatch.setattr("waportd.starter._AHEAD", 0.05)
        await supervisor.ensure(ONE)
        await has_cleaned(systemd, PORT + 1)
        await asyncio.sleep(0.1)
        systemd.calls.clear()
        await supervisor.ensure(TWO)
        assert ("clean", service_unit(PORT + 1)) in systemd.calls

    async def test_whoever_comes_meanwhile_waits_for_it_however_long_it_takes(
        self, supervisor, systemd, monkeypatch
    ):
        monkeypatch.setattr("waportd.starter._AHEAD", 0.4)
        done, clean = asyncio.Event(), systemd.clean

        async def clean_slowly(unit, keep=0.0):
            await clean(unit)
            if unit == service_unit(PORT + 1):
                await done.wait()

        systemd.clean = clean_slowly
        await supervisor.ensure(ONE)
        await has_cleaned(systemd, PORT + 1)
        await asyncio.sleep(0.5)
        second = asyncio.create_task(supervisor.ensure(TWO))
        await asyncio.sleep(0.05)
        assert not second.done()
        assert systemd.calls.count(("start", socket_unit(PORT + 1))) == 0
        done.set()
        await second
        assert systemd.calls.count(("clean", service_unit(PORT + 1))) == 1

    async def test_what_fails_is_nobodys_failure_and_tried_again_for_who_gets_the_port(
        self, supervisor, systemd
    ):
        clean, failures = systemd.clean, []

        async def clean_badly(unit, keep=0.0):
            if unit == service_unit(PORT + 1) and len(failures) < 2:
                failures.append(unit)
                systemd.change(unit, active_state="failed", sub_state="failed")
                raise SystemdError("not everything could be deleted")
            await clean(unit)

        systemd.clean = clean_badly
        await supervisor.ensure(ONE)
        async with asyncio.timeout(5):
            while systemd.units.get(service_unit(PORT + 1)) is None or not failures:
                await asyncio.sleep(0.01)
            while systemd.units[service_unit(PORT + 1)].active_state == "failed":
                await asyncio.sleep(0.01)
        with pytest.raises(SystemdError, match="not everything"):
            await supervisor.ensure(TWO)
        await supervisor.ensure(TWO)
        assert ("clean", service_unit(PORT + 1)) in systemd.calls

    async def test_a_port_that_has_an_owner_is_not_touched(self, supervisor, systemd):
        await supervisor.ensure(TWO)
        await supervisor.ensure(ONE)
        await has_cleaned(systemd, PORT + 2)
        await asyncio.sleep(0.05)
        assert systemd.calls.count(("clean", service_unit(PORT + 1))) == 1

    async def test_a_unit_that_runs_and_that_nobody_owns_is_not_touched(self, supervisor, systemd):
        systemd.change(service_unit(PORT + 1), active_state="active", sub_state="running")
        await supervisor.ensure(ONE)
        await asyncio.sleep(0.05)
        assert ("clean", service_unit(PORT + 1)) not in systemd.calls


async def test_a_version_of_whatsapps_page_is_logged_once_for_all_users(supervisor, systemd, caplog):
    caplog.set_level("INFO")
    upstream = {"build": "2.3000.1", "library": "1.34.7", "engine": "bundled", "checked": ["boot"]}
    for user, port in ((ONE, PORT), (TWO, Port(BASE + 1))):
        await supervisor.ensure(user)
        systemd.servers[port].say("ready", linked=True, upstream=upstream)
        await until(supervisor, user, has_session(SessionState.READY))
    assert [record.getMessage() for record in caplog.records if "2.3000.1" in record.getMessage()] == [
        "WhatsApp Web 2.3000.1 (whatsapp-web.js 1.34.7, engine bundled): all that was looked at is there"
    ]


def engine_told(config):
    """Return the engine that the environment of user 1's server names."""
    text = (config.store.instances / f"{PORT}.env").read_text("utf-8")
    return re.search(r'^WAPORTD_ENGINE="(.*)"$', text, re.MULTILINE)[1]


async def test_another_engine_is_for_the_next_start_and_leaves_a_running_server_alone(
    supervisor, systemd, config
):
    folder = add_engine(config, "1.34.6")
    await supervisor.ensure(ONE)
    before = list(systemd.calls)
    instance = await supervisor.set_options(ONE, {"engine": "1.34.6"})
    assert instance.engine == "1.34.6"
    # It may be systemd that starts the server next, by itself.
    assert engine_told(config) == str(folder)
    assert systemd.calls == before
    instance = await supervisor.set_options(ONE, {"engine": None})
    assert (instance.engine, engine_told(config)) == ("bundled", "")


async def test_another_default_is_for_all_who_have_no_engine_of_their_own(supervisor, config, systemd):
    folder = add_engine(config, "1.34.6")
    await supervisor.ensure(ONE)
    await supervisor.ensure(TWO, {"engine": "bundled"})
    before, version = len(systemd.calls), supervisor.picture.version
    instances = dataclasses.replace(config.instances, engine="1.34.6")
    await supervisor.reconfigure(dataclasses.replace(config, instances=instances))
    assert [supervisor.known(user).engine for user in (ONE, TWO)] == ["1.34.6", "bundled"]
    assert engine_told(config) == str(folder)
    assert supervisor.picture.version > version
    await settled(supervisor)
    assert not {verb for verb, _ in systemd.calls[before:]} & {"restart", "stop"}


async def test_a_new_user_may_be_given_an_engine(supervisor, config, store):
    add_engine(config, "1.34.6")
    instance, _ = await supervisor.ensure(ONE, {"engine": "1.34.6"})
    assert (instance.engine, store.rows[ONE].engine) == ("1.34.6", "1.34.6")
    with pytest.raises(
        UnknownEngine, match=re.escape("there is no engine '1.0.0'; there is bundled, 1.34.6")
    ):
        await supervisor.ensure(TWO, {"engine": "1.0.0"})
    assert TWO not in store.rows


async def test_engines_are_shown_after_a_restart_of_the_daemon(supervisor, config, start_supervisor):
    add_engine(config, "1.34.6")
    await supervisor.ensure(ONE, {"engine": "1.34.6"})
    await supervisor.ensure(TWO)
    again = await start_supervisor()
    assert [again.known(user).engine for user in (ONE, TWO)] == ["1.34.6", "bundled"]
