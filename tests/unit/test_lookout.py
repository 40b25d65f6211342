"""The alarm as the daemon raises it, and what waits while it holds."""

import asyncio
import time

import pytest
from fakes import iso
from support import BASE, all_fail, over, raised, until

from waportd import lookout as module
from waportd import turns
from waportd.lookout import Lookout
from waportd.model import Assignment, Port, ProcessState, SessionState, User, service_unit
from waportd.registry import Registry

USERS = [User(str(number)) for number in range(1, 31)]
LONG_AGO = iso(1767225600.0)


def fails(server):
    """Make a server whose page never gets ready."""
    server.say("error", linked=True, cause="never_ready", message="never ready")


def is_running(instance):
    return instance.process.state is ProcessState.RUNNING


def started(systemd):
    return [unit for verb, unit in systemd.calls if verb == "start" and unit.endswith(".service")]


@pytest.fixture
def many(store, systemd, monkeypatch):
    """Linked users who are to come back when the daemon starts, and whose page has changed.

    Real ones take seconds for that, these ones a moment.
    """
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    systemd.delay = 0.05
    for number, user in enumerate(USERS):
        store.rows[user] = Assignment(user, Port(BASE + number), linked=True)
    systemd.prepare = fails


async def test_it_is_logged_when_it_is_raised_and_when_it_is_over(supervisor, systemd, caplog):
    await all_fail(supervisor, systemd, users=4)
    for server in systemd.servers.values():
        server.link()
    await over(supervisor)
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("alarm")]
    assert len(said) == 2, said
    assert "users fail in the same way" in said[0]
    assert "(WhatsApp Web 2.3000.1). `waportctl doctor --upstream`" in said[0]
    assert said[1] == "alarm is over: never_ready"


async def test_linked_sessions_are_not_all_started_into_the_same_failure(
    many, start_supervisor, systemd, config
):
    supervisor = await start_supervisor(settle=False)
    await raised(supervisor)
    before = len(started(systemd))
    await asyncio.sleep(0.5)
    # Those who were on their way, and one to see whether it is fixed.
    assert len(started(systemd)) - before <= config.limits.start_concurrency + 1
    asked_for = next(user for user in USERS if supervisor.known(user).process.state is ProcessState.STOPPED)
    instance, _ = await supervisor.ensure(asked_for)
    assert is_running(instance)
    assert supervisor.alarm is not None
    systemd.prepare = lambda server: server.link()
    for server in list(systemd.servers.values()):
        server.link()
    for user in USERS:
        await until(supervisor, user, is_running)
    assert supervisor.alarm is None


async def test_one_at_a_time_shows_whether_it_is_fixed(many, start_supervisor, systemd, monkeypatch):
    monkeypatch.setattr(turns, "PROBE_S", 0.5)
    supervisor = await start_supervisor(settle=False)
    await raised(supervisor)
    # Those who were on their way have come; from now on it is one after the other.
    await asyncio.sleep(0.6)
    first, moments = len(started(systemd)), []
    async with asyncio.timeout(30):
        while len(moments) < 3:
            if len(started(systemd)) > first + len(moments):
                moments.append(time.monotonic())
            await asyncio.sleep(0.01)
    # Two probes apart, but for how late this test looks.
    assert moments[2] - moments[0] > 0.5
    # From now on each gets through. Half a minute is longer than this test lasts: the next one comes at once.
    monkeypatch.setattr(turns, "PROBE_S", 30.0)
    systemd.prepare = lambda server: server.link()
    for user in USERS:
        await until(supervisor, user, lambda now: now.process.state is not ProcessState.STOPPED)
    await over(supervisor)


async def test_a_failed_start_is_tried_again_when_it_is_over(supervisor, systemd, monkeypatch):
    monkeypatch.setattr("waportd.starter.RETRY_INTERVAL_S", 0.05)
    await all_fail(supervisor, systemd)
    # The first to be tried is one who does not get through. The daemon takes such turns for itself only.
    async with supervisor._lookout.turn(User("1")):  # noqa: SLF001
        pass
    user, unit = User("4"), service_unit(Port(BASE + 3))
    await supervisor.ensure(user)
    systemd.servers[Port(BASE + 3)].say("ready", linked=True, since=LONG_AGO)
    await until(supervisor, user, lambda now: now.assignment.linked)
    await systemd.stop_by_hand(unit)
    systemd.change(unit, active_state="failed", result="exit-code", exit_code=1, exit_status=13)
    await until(supervisor, user, lambda now: now.process.state is ProcessState.FAILED)
    supervisor._starter.note_failure(user)  # noqa: SLF001  # as the reconciler does
    await asyncio.sleep(0.3)
    assert supervisor.known(user).process.state is ProcessState.FAILED
    for number in range(3):
        systemd.servers[Port(BASE + number)].link()
    await until(supervisor, user, is_running)


async def test_nobody_waits_for_an_alarm_that_nobody_ends_any_more(monkeypatch, caplog):
    lookout = Lookout(Registry(), 4)

    def break_down(*_):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("waportd.alarms.Rule.look", break_down)
    lookout.start()
    async with asyncio.timeout(5):
        while "Cannot watch for alarms any more" not in caplog.text:
            await asyncio.sleep(0)
    async with asyncio.timeout(1), lookout.turn(USERS[0]):
        pass
    await lookout.close()


async def test_codes_of_others_end_no_alarm(supervisor, systemd):
    await all_fail(supervisor, systemd)
    systemd.prepare = lambda server: server.show_code()
    for user in USERS[3:]:
        await supervisor.ensure(user)
        await until(supervisor, user, lambda now: now.session and now.session.state is SessionState.QR)
    assert supervisor.alarm.alarm.users == 3
