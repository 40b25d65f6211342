"""A server counts as started when it answers, before systemd has heard of it."""

import asyncio
import gc

from support import BASE, until

from waportd.errors import ServerFailed
from waportd.first_answers import open_first_stream
from waportd.model import Port, ProcessState, User, service_unit

ONE, TWO = User("1"), User("2")
PORT = Port(BASE)


async def test_a_server_that_answers_runs_though_systemd_has_not_heard_that_it_is_ready(
    supervisor, systemd, monkeypatch
):
    ready = asyncio.Event()
    start = systemd.start

    async def start_slowly(unit):
        await start(unit)
        if unit.endswith(".service"):
            systemd.change(unit, active_state="activating", sub_state="start")
            await ready.wait()
            systemd.change(unit, active_state="active", sub_state="running")

    systemd.start = start_slowly
    monkeypatch.setattr("waportd.first_answers.open_first_stream", open_patiently)
    instance, _ = await asyncio.wait_for(supervisor.ensure(ONE), 5)
    assert instance.process.state is ProcessState.RUNNING
    assert instance.process.pid
    assert instance.process.message == f"running on port {PORT}"
    await until(supervisor, ONE, lambda now: now.answering)
    ready.set()
    async with asyncio.timeout(5):
        while systemd.units[service_unit(PORT)].active_state != "active":
            await asyncio.sleep(0)
    await systemd.exit(PORT)
    await until(supervisor, ONE, lambda now: now.process.state is ProcessState.STOPPED)


async def test_an_answer_that_fails_when_nobody_waits_for_it_any_more_is_no_error(
    supervisor, systemd, monkeypatch
):
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    calls = []

    async def open_stream(streams, port, *, ask_for_code):
        calls.append(ask_for_code)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            raise ServerFailed("hung up", cause="not_answering") from None

    monkeypatch.setattr("waportd.first_answers.open_first_stream", open_stream)
    await supervisor.ensure(ONE)
    while any(task.get_name().startswith("first answer") for task in asyncio.all_tasks()):
        await asyncio.sleep(0)
    gc.collect()
    assert calls == [True]
    assert systemd.servers[PORT].calls == ["new code"]
    assert complaints == []


async def open_patiently(streams, port, *, ask_for_code):
    """Ask as one does whose question waits in a socket that systemd holds."""
    while True:
        try:
            return await open_first_stream(streams, port, ask_for_code=ask_for_code)
        except ServerFailed:
            await asyncio.sleep(0.01)
