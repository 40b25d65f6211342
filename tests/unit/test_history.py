"""The last day in memory: its size, its gaps, its clocks, and what a sample says."""

import asyncio
import dataclasses
import math
import tracemalloc

import pytest
from support import BASE, settled, until

from waportd import history as module
from waportd.contract import CONTRACT
from waportd.history import FIGURES, History, Samples
from waportd.model import Port, ProcessState, SessionState, User
from waportd.summary import Group, group_of, of_server
from waportd.systemd.manager import Accounting, SystemdError

MINUTE, HOUR, DAY = 60, 3600, 86_400
WALL = 1_796_031_000.0
"""What the clock on the wall showed at boot."""


def figures(number):
    return dict.fromkeys(FIGURES, number)


def filled(minutes, began=0.0):
    """Return samples of so many minutes, each with its own number."""
    samples = Samples(began)
    for minute in range(minutes):
        samples.add(began + minute * MINUTE, figures(minute))
    return samples


def linked(samples, hours, now, wall=None):
    """Return the times, in seconds since boot, and one of the columns."""
    excerpt = samples.of_last(hours, now, WALL + now if wall is None else wall)
    column = [None if math.isnan(value) else value for value in excerpt.columns["linked"]]
    assert {len(values) for values in excerpt.columns.values()} == {len(excerpt.times)}
    return [round(time - WALL, 3) for time in excerpt.times], column


def test_nothing_is_there_before_the_first_sample():
    assert linked(Samples(5.0), 24, 1.0) == ([], [])


def test_the_last_hour_is_sixty_samples_and_fewer_where_the_daemon_is_younger():
    assert linked(filled(3), 1, 2.5 * MINUTE) == ([0, MINUTE, 2 * MINUTE], [0, 1, 2])
    times, column = linked(filled(200), 1, 199 * MINUTE)
    assert column == list(range(140, 200))
    assert times == [minute * MINUTE for minute in range(140, 200)]
    assert len(linked(filled(200), 2, 199 * MINUTE)[0]) == 120


def held():
    """Return the bytes that the module has in use; other threads of the process do not count."""
    traces = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, module.__file__)])
    return sum(one.size for one in traces.statistics("filename"))


def test_after_a_day_the_oldest_give_way_and_the_size_stays():
    tracemalloc.start()
    try:
        samples = filled(10)
        young = held()
        for minute in range(10, 3 * DAY // MINUTE):
            samples.add(minute * MINUTE, figures(float(minute)))
        old = held()
    finally:
        tracemalloc.stop()
    assert old <= 200 * 1024
    assert old - young < 1024
    times, column = linked(samples, 24, 3 * DAY - MINUTE)
    assert column == list(range(2 * DAY // MINUTE, 3 * DAY // MINUTE))
    assert (times[0], times[-1]) == (2 * DAY, 3 * DAY - MINUTE)


def test_minutes_that_the_machine_slept_are_a_gap():
    samples = filled(3)
    # It wakes up in the middle of a minute.
    samples.add(7 * MINUTE + 20, figures(7))
    assert linked(samples, 1, 7 * MINUTE + 30)[1] == [0, 1, 2, None, None, None, None, 7]
    assert samples.due_in(7 * MINUTE + 30) == 30


def test_a_sample_after_a_sleep_belongs_to_the_nearest_minute():
    samples = filled(DAY // MINUTE)
    # Twenty seconds before that minute, which is the newest one although it is still to come.
    at = DAY + 3 * MINUTE - 20
    samples.add(at, figures(1))
    times, column = linked(samples, 24, at)
    assert column[-5:] == [DAY // MINUTE - 1, None, None, None, 1]
    assert (len(column), times[-1]) == (Samples.LENGTH, DAY + 3 * MINUTE)
    assert samples.due_in(at) == 80


def test_a_sleep_of_days_leaves_nothing_of_before():
    samples = filled(DAY // MINUTE)
    now = 5 * DAY
    samples.add(now, figures(1))
    times, column = linked(samples, 24, now)
    assert len(column) == Samples.LENGTH
    assert [value for value in column if value is not None] == [1]
    assert times[-1] == now
    # Nor does what is asked for before the first sample after it.
    assert linked(filled(10), 1, now) == ([], [])


def test_what_is_asked_for_late_in_a_sleep_is_the_hour_of_the_clock_not_of_the_samples():
    assert linked(filled(60), 1, 90 * MINUTE)[1] == list(range(31, 60))


@pytest.mark.parametrize("ahead", [HOUR, -HOUR, 400 * DAY])
def test_a_clock_that_is_set_moves_all_times_alike(ahead):
    samples, now = filled(3), 2 * MINUTE
    times, column = linked(samples, 24, now, wall=WALL + now + ahead)
    assert times == [ahead, ahead + MINUTE, ahead + 2 * MINUTE]
    assert column == [0, 1, 2]
    assert samples.of_last(24, now, WALL + now + ahead).since == WALL + ahead


def test_a_sample_that_comes_late_or_early_has_its_own_minute():
    samples = Samples(100.0)
    for at in (100.2, 160.4, 219.9, 281.0):
        samples.add(at, figures(at))
    assert linked(samples, 1, 281.0) == ([100, 160, 220, 280], [100.2, 160.4, 219.9, 281.0])


# What a sample says


@pytest.fixture
async def clock():
    """A clock of our own, in seconds since boot; sampling begins five seconds later."""
    return [1000.0]


@pytest.fixture
async def history(supervisor, systemd, clock):
    history = History(supervisor.registry, supervisor.metrics, systemd, lambda: clock[0])
    yield history
    await history.close()


async def sampled(history, clock):
    """Take the next sample; return it, without what was not measured."""
    clock[0] += MINUTE
    await history.sample()
    columns = history.of_last(24).columns
    return {name: column[-1] for name, column in columns.items() if not math.isnan(column[-1])}


async def test_users_are_counted_by_what_they_need(history, clock, supervisor, systemd):
    for user in ("1", "2", "3", "4"):
        await supervisor.ensure(User(user))
    servers = [systemd.servers[Port(BASE + number)] for number in range(4)]
    servers[0].link()
    servers[1].show_code()
    servers[2].say("error", cause="browser_lost")
    await until(supervisor, "1", lambda now: now.assignment.linked)
    await until(supervisor, "2", lambda now: now.session and now.session.state == "qr")
    await until(supervisor, "3", lambda now: now.session and now.session.state == "error")
    await supervisor.stop(User("4"))
    await settled(supervisor)
    found = await sampled(history, clock)
    assert {group: found[group] for group in Group} == {
        "linked": 1, "waiting": 1, "working": 0, "trouble": 1, "asleep": 0, "idle": 1,
    }  # fmt: skip
    await supervisor.stop(User("1"))
    found = await sampled(history, clock)
    assert (found["linked"], found["asleep"], found["idle"]) == (0, 1, 1)


async def test_each_state_has_a_group(supervisor):
    instance, _ = await supervisor.ensure(User("1"))
    of_contract = {state: group for group, states in CONTRACT["groups"].items() for state in states}
    assert sorted(of_contract) == sorted([*ProcessState, *SessionState])
    assert list(CONTRACT["groups"]) == list(Group)
    for state in ProcessState:
        if state is ProcessState.RUNNING:
            continue  # its session is what counts
        process = dataclasses.replace(instance.process, state=state)
        there = dataclasses.replace(instance, process=process, session=None, answering=False)
        assert group_of(of_server(there, 0.0), linked=False) == of_contract[state]


async def test_messages_and_restarts_are_those_since_the_sample_before(history, clock, supervisor, systemd):
    await supervisor.ensure(User("1"))
    server = systemd.servers[Port(BASE)]

    async def report(**figures):
        server.say("ready", linked=True, message=str(figures), webhook=figures)
        await until(supervisor, "1", lambda now: now.session and now.session.message == str(figures))

    await report(delivered=3, queued=2)
    first = await sampled(history, clock)
    assert (first["delivered"], first["undelivered"], first["queued"], first["restarts"]) == (3, 0, 2, 0)
    await report(delivered=10, queued=0, undelivered=1)
    systemd.change(f"whatsapp@{BASE}.service", restarts=2)
    second = await sampled(history, clock)
    assert (second["delivered"], second["undelivered"], second["restarts"]) == (7, 1, 2)
    third = await sampled(history, clock)
    assert (third["delivered"], third["undelivered"], third["restarts"]) == (0, 0, 0)


async def test_the_servers_are_measured_in_one_question(history, clock, supervisor, systemd, monkeypatch):
    asked, cpu = [], iter([100.0, 130.0, 5.0])

    async def accounting(unit):
        asked.append(unit)
        return Accounting(memory=3 << 30, cpu=next(cpu))

    monkeypatch.setattr(systemd, "accounting", accounting)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    first, second, third = [await sampled(history, clock) for _ in range(3)]
    assert asked == ["whatsapp.slice"] * 3
    assert first["servers_memory"] == 3 << 30
    assert "servers_cpu" not in first
    assert second["servers_cpu"] == 0.5
    # systemd counts from zero again: how much that was is not known.
    assert "servers_cpu" not in third


async def test_a_systemd_that_does_not_answer_leaves_only_its_own_figures_out(
    history, clock, systemd, monkeypatch
):
    async def accounting(unit):
        raise SystemdError("no answer")

    monkeypatch.setattr(systemd, "accounting", accounting)
    found = await sampled(history, clock)
    assert set(FIGURES) - set(found) == {"servers_memory", "servers_cpu"}
    assert found["host_memory"] > 0


async def test_a_sample_is_taken_at_each_step_until_the_end(supervisor, systemd, monkeypatch):
    monkeypatch.setattr(module, "STEP_S", 0.02)
    monkeypatch.setattr(module, "FIRST_S", 0.0)
    history = History(supervisor.registry, supervisor.metrics, systemd)
    history.start()
    async with asyncio.timeout(10):
        while len(history.of_last(24).times) < 3:
            await asyncio.sleep(0.01)
    await history.close()
    times = len(history.of_last(24).times)
    await asyncio.sleep(0.1)
    assert len(history.of_last(24).times) <= times
