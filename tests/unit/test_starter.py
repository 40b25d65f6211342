"""Starts of servers that fail, and when they are tried again."""

import asyncio
import dataclasses
import socket
import time

import pytest
from fakes import iso
from support import BASE, has_session, is_process, settled, until

from waportd.errors import ServerFailed, TooManyRunning
from waportd.model import Assignment, Port, ProcessState, SessionState, User, service_unit, socket_unit
from waportd.readiness import Wait

ONE, TWO = User("1"), User("2")
PORT = Port(BASE)


@pytest.mark.also_without("first_answers")
async def test_a_missing_node_is_named(supervisor, systemd):
    systemd.fail_to_start(service_unit(PORT), result="exit-code", exit_code=1, exit_status=203)
    with pytest.raises(ServerFailed) as caught:
        await supervisor.ensure(ONE)
    assert caught.value.cause == "node_missing"
    assert "apt install nodejs" in caught.value.hint
    instance = supervisor.registry.get(ONE)
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


@pytest.mark.also_without("first_answers")
async def test_a_failed_start_is_tried_again_when_asked(supervisor, systemd):
    systemd.fail_to_start(service_unit(PORT), result="exit-code", exit_code=1, exit_status=1)
    with pytest.raises(ServerFailed):
        await supervisor.ensure(ONE)
    systemd.mend(service_unit(PORT))
    instance, _ = await supervisor.ensure(ONE)
    assert instance.process.state is ProcessState.RUNNING
    assert instance.process.cause is None
    assert ("reset_failed", service_unit(PORT)) in systemd.calls


@pytest.mark.also_without("first_answers")
async def test_a_start_that_joins_an_attempt_that_fails_is_made_again(supervisor, systemd):
    """systemd has just begun to restart a server that could not run, when it is fixed and somebody starts it.

    The daemon has not heard of that yet: systemd is silent while it reads its unit files again.
    """
    service = service_unit(PORT)
    await supervisor.assign(ONE)
    systemd.last_starts[service] = time.monotonic()
    systemd.fail_to_start(service, result="exit-code", exit_code=1, exit_status=203)
    start = systemd.start

    async def start_and_mend(unit):
        try:
            await start(unit)
        finally:
            if unit == service:
                systemd.start = start
                systemd.mend(service)

    systemd.start = start_and_mend
    await supervisor.ensure(ONE)
    assert systemd.calls.count(("start", service)) == 2


@pytest.mark.also_without("first_answers")
async def test_one_that_joins_none_is_made_once(supervisor, systemd):
    service = service_unit(PORT)
    systemd.last_starts[service] = time.monotonic() + 60
    systemd.fail_to_start(service, result="exit-code", exit_code=1, exit_status=203)
    with pytest.raises(ServerFailed, match="node"):
        await supervisor.ensure(ONE)
    assert systemd.calls.count(("start", service)) == 1


async def test_a_request_that_joins_the_start_of_a_page_is_tried_again(supervisor, systemd):
    """What was in its way may have been fixed just before the request."""
    service = service_unit(PORT)
    await supervisor.assign(ONE)
    systemd.fail_to_start(service, result="exit-code", exit_code=1, exit_status=203)
    at_once = systemd.start

    async def start_slowly(unit):
        await asyncio.sleep(0.5 if unit == service else 0)
        await at_once(unit)

    systemd.start = start_slowly
    start = supervisor._starter.launch(ONE, asked=False)  # noqa: SLF001
    await asyncio.sleep(0.1)
    systemd.last_starts[service] = time.monotonic()
    await asyncio.sleep(0.02)
    assert supervisor._starter.launch(ONE) is start  # noqa: SLF001
    with pytest.raises(ServerFailed, match="node"):
        await start
    assert systemd.calls.count(("start", service)) == 2


async def test_polls_do_not_repeat_a_failed_start(supervisor, systemd):
    systemd.fail_to_start(service_unit(PORT), result="exit-code", exit_code=1, exit_status=1)
    with pytest.raises(ServerFailed):
        await supervisor.ensure(ONE)
    starts = systemd.calls.count(("start", service_unit(PORT)))
    for _ in range(20):
        await supervisor.poll(ONE)
    await settled(supervisor)
    assert systemd.calls.count(("start", service_unit(PORT))) == starts


async def test_who_is_deleted_and_made_again_waits_after_a_failed_start_as_before(
    supervisor, systemd, monkeypatch
):
    """Else a page that polls, and deletes, would have servers started without a pause."""
    unit = service_unit(PORT)
    systemd.fail_to_start(unit, result="exit-code", exit_code=1, exit_status=203)
    with pytest.raises(ServerFailed):
        await supervisor.ensure(ONE)
    starts = systemd.calls.count(("start", unit))
    for _ in range(3):
        await supervisor.delete(ONE)
        instance = await supervisor.poll(ONE)
        await settled(supervisor)
        assert (instance.process.state, instance.process.cause) == (ProcessState.FAILED, "node_missing")
    assert systemd.calls.count(("start", unit)) == starts
    systemd.mend(unit)
    await supervisor.delete(ONE)
    monkeypatch.setattr("waportd.starter.RETRY_INTERVAL_S", 0.0)
    await supervisor.poll(ONE)
    await until(supervisor, ONE, is_process(ProcessState.RUNNING))


async def test_who_is_deleted_and_made_again_is_started_at_once_where_that_is_asked_for(supervisor, systemd):
    systemd.fail_to_start(service_unit(PORT), result="exit-code", exit_code=1, exit_status=203)
    with pytest.raises(ServerFailed):
        await supervisor.ensure(ONE)
    systemd.mend(service_unit(PORT))
    await supervisor.delete(ONE)
    instance, _ = await supervisor.ensure(ONE)
    assert (instance.process.state, instance.process.cause) == (ProcessState.RUNNING, None)


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


async def test_a_start_that_fails_after_a_stop_says_why(config, start_supervisor, systemd):
    limits = dataclasses.replace(config.limits, max_running=1)
    supervisor = await start_supervisor(dataclasses.replace(config, limits=limits))
    await supervisor.ensure(ONE)
    await supervisor.stop(ONE)
    await supervisor.ensure(TWO)
    with pytest.raises(TooManyRunning):
        await supervisor.ensure(ONE)
    process = (await supervisor.poll(ONE)).process
    assert (process.state, process.cause) == (ProcessState.FAILED, "limit_reached")
    assert "limits.max_running" in process.message
    assert process.hint


async def test_a_port_that_somebody_took_after_an_admins_stop_is_named(supervisor, systemd):
    await supervisor.ensure(ONE)
    await systemd.stop_by_hand(socket_unit(PORT))
    systemd.fail_to_start(socket_unit(PORT), active_state="failed", result="resources")
    with socket.create_server(("127.0.0.1", PORT)), pytest.raises(ServerFailed, match="is held by"):
        await supervisor.ensure(ONE)
    process = supervisor.registry.get(ONE).process
    assert (process.state, process.cause) == (ProcessState.FAILED, "port_held")


async def test_a_start_that_waited_for_a_stop_does_not_undo_it(supervisor, systemd):
    await supervisor.ensure(ONE)
    await supervisor.stop(ONE)
    async with supervisor.runtimes[ONE].no_start():
        # As one that began before the stop was stored: each use case stores first.
        start = supervisor._starter.launch(ONE)  # noqa: SLF001
        await asyncio.sleep(0)
    with pytest.raises(ServerFailed, match="stopped meanwhile"):
        await start
    assert not systemd.servers
    assert supervisor.registry.get(ONE).process.state is ProcessState.STOPPED


async def test_a_linked_session_that_failed_to_start_is_tried_again_automatically(
    start_supervisor, store, systemd, monkeypatch
):
    monkeypatch.setattr("waportd.starter.RETRY_INTERVAL_S", 0.05)
    store.rows[ONE] = Assignment(ONE, PORT, linked=True, socket_boot="boot-0")
    systemd.fail_to_start(service_unit(PORT), result="exit-code", exit_code=1, exit_status=203)
    supervisor = await start_supervisor()
    assert supervisor.registry.get(ONE).process.cause == "node_missing"
    systemd.mend(service_unit(PORT))
    await until(supervisor, ONE, is_process(ProcessState.RUNNING))


async def test_an_unlinked_session_that_failed_to_start_waits_for_somebody_to_ask(
    supervisor, systemd, monkeypatch
):
    monkeypatch.setattr("waportd.starter.RETRY_INTERVAL_S", 0.01)
    systemd.fail_to_start(service_unit(PORT), result="exit-code", exit_code=1, exit_status=203)
    with pytest.raises(ServerFailed):
        await supervisor.ensure(ONE)
    starts = systemd.calls.count(("start", service_unit(PORT)))
    await asyncio.sleep(0.1)
    assert systemd.calls.count(("start", service_unit(PORT))) == starts
