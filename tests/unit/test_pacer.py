"""Pauses between the restarts of a server that ends again and again."""

import asyncio
import time

import pytest
from fakes import FakeSystemd

from waportd import pacer as pacing
from waportd.model import Port, pause_unit, service_unit
from waportd.pacer import AT_ONCE, PAUSES, Pacer, pause_before
from waportd.units import LONGEST_PAUSE

PORT = Port(5001)
PAUSE = pause_unit(PORT)


def test_the_pauses_begin_with_none_and_grow_to_five_minutes():
    assert [pause_before(number) for number in (1, AT_ONCE, AT_ONCE + 1)] == [0, 0, PAUSES[0]]
    assert pause_before(1000) == LONGEST_PAUSE == 300
    assert sorted(PAUSES) == list(PAUSES)


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
    """A server's service in a systemd in memory, of which the pacer is told as the observer tells it."""

    def __init__(self, systemd, pacer):
        self._systemd = systemd
        self._pacer = pacer
        self.restarts = 0

    def say(self, active_state, sub_state, **values):
        self._systemd.change(
            service_unit(PORT),
            active_state=active_state,
            sub_state=sub_state,
            restarts=self.restarts,
            **values,
        )
        self._pacer.note(self._systemd.units[service_unit(PORT)])

    def run(self):
        self.say("activating", "start")
        self.say("active", "running")

    def end(self):
        """End, and wait for the next start as systemd has it wait."""
        self.say("activating", "auto-restart")
        self.restarts += 1
        self.say("activating", "auto-restart-queued")


@pytest.fixture
async def systemd():
    return FakeSystemd()


@pytest.fixture
async def pacer(systemd, monkeypatch):
    monkeypatch.setattr(pacing, "PAUSES", (0.05, 60.0))
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
    for _ in range(AT_ONCE):
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


async def test_who_is_asked_for_waits_no_more_and_begins_anew(systemd, pacer, server):
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
    later = time.time() + LONGEST_PAUSE
    monkeypatch.setattr("waportd.pacer.time.time", lambda: later)
    systemd.change(PAUSE, active_state="inactive")
    before = list(systemd.calls)
    server.end()
    server.run()
    await settle()
    assert systemd.calls == before


async def test_a_pause_that_ends_while_the_server_is_not_yet_well_is_begun_anew(systemd, pacer, server):
    """Whichever of the two systemd tells first."""
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


async def test_who_resets_the_failures_has_it_start_at_once(systemd, pacer, server):
    """As by systemctl reset-failed: systemd counts from nought again, and tells so with the next end."""
    await exhaust(server)
    server.restarts = 0
    server.end()
    await settle()
    assert pacer.due(PORT) is None
    assert systemd.calls[-1] == ("stop", PAUSE)


async def test_a_later_life_of_the_daemon_takes_a_pause_over(systemd, pacer, server):
    await exhaust(server)
    server.end()
    await pacer.close()
    systemd.forget_watchers()
    other = Pacer(systemd, lambda port: None)
    await other.start()
    other.note(systemd.units[service_unit(PORT)])
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
