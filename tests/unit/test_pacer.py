"""Pauses between the restarts of a server that ends again and again."""

import asyncio
import time

import pytest
from fakes import FakeSystemd

from waportd import pacer as pacing
from waportd.model import Port, pause_unit, service_unit
from waportd.pacer import PAUSES_S, RESTARTS_AT_ONCE, Pacer, pause_before
from waportd.units import LONGEST_PAUSE_S

PORT = Port(5001)
PAUSE = pause_unit(PORT)


def test_the_pauses_begin_with_none_and_grow_to_five_minutes():
    assert [pause_before(number) for number in (1, RESTARTS_AT_ONCE, RESTARTS_AT_ONCE + 1)] == [
        0,
        0,
        PAUSES_S[0],
    ]
    assert pause_before(1000) == LONGEST_PAUSE_S == 300
    assert sorted(PAUSES_S) == list(PAUSES_S)


def starts(hours):
    """Return how often a server is started in these first hours that ends as soon as it is started."""
    at, count = 0.0, 1
    while (at := at + pause_before(count)) < hours * 3600:
        count += 1
    return count


def test_a_fault_that_lasts_costs_at_most_twenty_starts_an_hour():
    assert starts(1) <= 20
    assert starts(10) - starts(9) <= 20


@pytest.mark.parametrize("minutes", range(1, 6))
def test_a_fault_of_up_to_five_minutes_is_survived_within_two_minutes(minutes):
    at, number = 0.0, 1
    while at < minutes * 60:
        at += pause_before(number)
        number += 1
    assert at - minutes * 60 <= 120


class Server:
    """A server's service in a systemd in memory, that reports to the pacer as the observer does."""

    def __init__(self, systemd, pacer):
        self._systemd = systemd
        self.pacer = pacer
        self.restarts = 0

    def say(self, active_state, sub_state, **values):
        self._systemd.change(
            service_unit(PORT),
            active_state=active_state,
            sub_state=sub_state,
            restarts=self.restarts,
            **values,
        )
        self.pacer.note(self._systemd.units[service_unit(PORT)])

    def run(self):
        self.say("activating", "start")
        self.say("active", "running")

    def end(self):
        """End, and wait for the next start as systemd has it wait."""
        self.say("failed", "failed")
        self.say("activating", "auto-restart")
        self.restarts += 1
        self.say("activating", "auto-restart-queued")


@pytest.fixture
async def systemd():
    return FakeSystemd()


@pytest.fixture
async def pacer(systemd, monkeypatch):
    monkeypatch.setattr(pacing, "PAUSES_S", (0.05, 60.0))
    pacer = Pacer(systemd, lambda port: None)
    await pacer.start()
    yield pacer
    await pacer.close()


@pytest.fixture
async def server(systemd, pacer):
    server = Server(systemd, pacer)
    server.run()
    return server


async def has_ended(systemd):
    """Wait until the pause that there was is over."""
    async with asyncio.timeout(10):
        while systemd.units[PAUSE].active_state != "inactive":
            await asyncio.sleep(0)


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def exhaust(server):
    """Use up the restarts that need not wait."""
    for _ in range(RESTARTS_AT_ONCE):
        server.end()
        server.run()
    await settle()


async def test_the_first_restarts_are_systemds_alone_and_the_next_ones_wait(systemd, pacer, server):
    server.end()
    server.run()
    await settle()
    assert systemd.calls == []
    await exhaust(server)
    assert ("begin", PAUSE) in systemd.calls
    assert pacer.due(PORT) is None  # it runs
    server.end()
    assert 0 < pacer.due(PORT) - time.time() <= 60
    server.run()
    assert pacer.due(PORT) is None


async def test_a_pause_ends_in_time_and_the_next_one_is_longer(systemd, pacer, server):
    await exhaust(server)
    server.end()
    await has_ended(systemd)
    server.run()
    await settle()
    # For the next end.
    assert systemd.calls == [("begin", PAUSE), ("stop", PAUSE), ("begin", PAUSE)]
    server.end()
    assert pacer.due(PORT) - time.time() > 50


async def test_who_is_asked_for_waits_no_more_and_begins_again(systemd, pacer, server):
    await exhaust(server)
    server.end()
    await pacer.release(PORT)
    assert pacer.due(PORT) is None
    assert systemd.units[PAUSE].active_state == "inactive"
    server.run()
    before = list(systemd.calls)
    server.end()
    server.run()
    await settle()
    assert systemd.calls == before


async def test_a_server_that_outlives_the_longest_pause_is_well(systemd, pacer, server, monkeypatch):
    await exhaust(server)
    later = time.time() + LONGEST_PAUSE_S
    monkeypatch.setattr("waportd.pacer.time.time", lambda: later)
    systemd.change(PAUSE, active_state="inactive")
    before = list(systemd.calls)
    server.end()
    server.run()
    await settle()
    assert systemd.calls == before


async def test_a_pause_that_ends_while_the_server_is_not_yet_well_is_begun_again(systemd, pacer, server):
    """Whichever of the two systemd reports first."""
    await exhaust(server)
    systemd.change(PAUSE, active_state="inactive")
    await settle()
    assert systemd.calls == [("begin", PAUSE), ("begin", PAUSE)]


async def test_a_server_that_ends_in_order_keeps_nobody_waiting(systemd, pacer, server):
    """It is unlinked, or somebody runs systemctl restart."""
    await exhaust(server)
    server.say("inactive", "dead")
    await settle()
    assert systemd.calls[-1] == ("stop", PAUSE)


async def test_who_stops_a_server_that_waits_has_its_next_start_wait_for_nothing(systemd, pacer, server):
    """By systemctl, which nobody reports to the daemon, and also where the stop is half of a restart."""
    await exhaust(server)
    server.end()
    await has_ended(systemd)
    server.run()
    await settle()
    server.end()
    assert pacer.due(PORT) - time.time() > 50
    server.say("inactive", "dead")
    assert pacer.due(PORT) is None
    await settle()
    assert systemd.calls[-1] == ("stop", PAUSE)
    before = list(systemd.calls)
    server.run()
    server.end()
    server.run()
    await settle()
    assert systemd.calls == before


async def older_restart(server):
    """End, and wait for the next start as in Debian 12: inactive, with a job."""
    server.say("failed", "failed")
    server.say("activating", "auto-restart")
    server.restarts += 1
    server.say("activating", "auto-restart")
    await settle()
    server.say("inactive", "dead", has_job=True)
    await settle()


async def test_a_restart_that_an_older_systemd_shows_as_an_end_ends_no_pause(systemd, pacer, server):
    """Debian 12: a unit that systemd restarts is inactive for a moment, or for as long as it waits, and has a job."""
    for _ in range(RESTARTS_AT_ONCE + 1):
        server.run()
        await older_restart(server)
    assert 0 < pacer.due(PORT) - time.time() <= PAUSES_S[0]
    assert ("stop", PAUSE) not in systemd.calls
    server.say("inactive", "dead", has_job=False)
    await settle()
    assert systemd.calls[-1] == ("stop", PAUSE)
    assert pacer.due(PORT) is None


async def test_of_an_older_systemd_a_server_waits_until_its_start_is_heard_of(systemd, pacer, server):
    """Between the end of the pause and the start a page that polls would have it started, and its ends be forgotten."""
    for _ in range(RESTARTS_AT_ONCE + 1):
        server.run()
        await older_restart(server)
    await has_ended(systemd)
    await settle()
    assert pacer.due(PORT) is not None
    server.run()
    assert pacer.due(PORT) is None
    await older_restart(server)
    assert pacer.due(PORT) - time.time() > 50


async def test_of_an_older_systemd_a_server_still_waits_after_a_restart_of_the_daemon(systemd, pacer, server):
    """All that is there to be seen is the pause, and a server that is inactive and has a job."""
    for _ in range(RESTARTS_AT_ONCE + 1):
        server.run()
        await older_restart(server)
    due = pacer.due(PORT)
    await pacer.close()
    successor = Pacer(systemd, lambda _: None)
    await successor.start()
    try:
        successor.note(systemd.units[service_unit(PORT)])
        await settle()
        assert successor.due(PORT) == pytest.approx(due, abs=2)
        assert ("stop", PAUSE) not in systemd.calls
    finally:
        await successor.close()


async def test_of_an_older_systemd_a_server_whose_start_is_called_off_waits_no_more(systemd, pacer, server):
    for _ in range(RESTARTS_AT_ONCE + 1):
        server.run()
        await older_restart(server)
    await has_ended(systemd)
    await settle()
    server.say("inactive", "dead", has_job=False)
    await settle()
    assert pacer.due(PORT) is None


async def test_an_end_in_order_that_systemd_restarts_is_no_stop(systemd, pacer, server):
    """From version 254 on systemd shows for a moment what comes before each restart."""
    await exhaust(server)
    before = list(systemd.calls)
    server.say("inactive", "dead-before-auto-restart")
    await settle()
    assert systemd.calls == before


async def test_who_resets_the_failures_has_it_start_at_once(systemd, pacer, server):
    """As by systemctl reset-failed: systemd counts from nought again, and says so with the next end."""
    await exhaust(server)
    server.restarts = 0
    server.end()
    await settle()
    assert pacer.due(PORT) is None
    assert systemd.calls[-1] == ("stop", PAUSE)


async def test_a_restart_that_was_counted_early_is_waited_for_all_the_same(systemd, pacer, server):
    """What systemd says of a start may be read when the next restart is counted already."""
    await exhaust(server)
    server.restarts += 1
    server.say("activating", "start")
    server.say("failed", "failed")
    server.say("activating", "auto-restart-queued")
    assert pacer.due(PORT) is not None


async def test_a_pause_that_came_an_end_too_early_ends_in_time(systemd):
    """The server's first restart was over before anything was heard of it, and the fourth counted before it was."""
    pacer = Pacer(systemd, lambda port: None)
    await pacer.start()
    server = Server(systemd, pacer)
    server.restarts = 1
    server.run()
    server.restarts = 4
    server.say("activating", "start")
    await settle()
    assert systemd.calls == [("begin", PAUSE)]
    server.say("failed", "failed")
    server.say("activating", "auto-restart-queued")
    assert pacer.due(PORT) is not None
    await pacer.close()


async def test_a_pause_of_which_its_start_is_heard_late_has_an_end(systemd, pacer, server):
    await exhaust(server)
    server.end()
    systemd.change(PAUSE, active_state="inactive")
    systemd.change(PAUSE, active_state="activating")
    assert pacer.due(PORT) is not None


async def test_a_pause_that_has_ended_is_not_begun_again_before_the_server_has_started(
    systemd, pacer, server
):
    await exhaust(server)
    server.end()
    await has_ended(systemd)
    await settle()
    calls = list(systemd.calls)
    server.say("activating", "auto-restart-queued")
    await settle()
    assert systemd.calls == calls
    assert pacer.due(PORT) is None


async def test_a_later_life_of_the_daemon_takes_a_pause_over(systemd, pacer, server, monkeypatch):
    monkeypatch.setattr(pacing, "PAUSES_S", (60.0,))
    await exhaust(server)
    server.end()
    due = pacer.due(PORT)
    await pacer.close()
    systemd.forget_watchers()
    # It has continued meanwhile.
    now = time.time() + 20
    monkeypatch.setattr("waportd.pacer.time.time", lambda: now)
    other = Pacer(systemd, lambda port: None)
    await other.start()
    other.note(systemd.units[service_unit(PORT)])
    assert other.due(PORT) == pytest.approx(due, abs=1)
    await other.close()


async def test_a_pause_that_nobody_has_ended_meanwhile_ends_when_a_daemon_is_back(
    systemd, pacer, server, monkeypatch
):
    await exhaust(server)
    server.end()
    await pacer.close()
    systemd.forget_watchers()
    now = time.time() + 3600
    monkeypatch.setattr("waportd.pacer.time.time", lambda: now)
    other = Pacer(systemd, lambda port: None)
    await other.start()
    other.note(systemd.units[service_unit(PORT)])
    await has_ended(systemd)
    await other.close()


async def test_a_later_life_of_the_daemon_finds_a_server_that_runs_and_a_pause_for_its_next_end(
    systemd, pacer, server
):
    await exhaust(server)
    await pacer.close()
    systemd.forget_watchers()
    other = Pacer(systemd, lambda port: None)
    await other.start()
    other.note(systemd.units[service_unit(PORT)])
    assert other.due(PORT) is None
    server.pacer = other
    server.end()
    assert other.due(PORT) is not None
    await other.close()


async def test_what_systemd_counted_before_the_daemon_was_there_is_another_story(systemd):
    pacer = Pacer(systemd, lambda port: None)
    await pacer.start()
    server = Server(systemd, pacer)
    server.restarts = 50
    server.run()
    server.end()
    await settle()
    assert systemd.calls == []
    await pacer.close()
