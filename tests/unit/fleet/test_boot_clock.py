"""The kernel's clock, and its alarm."""

import asyncio
import time

import pytest

from waportd.fleet.boot_clock import BootClock


@pytest.fixture
async def rung():
    """Give an alarm, the clock, and a list of when it rang."""
    clock, times = BootClock(), []
    alarm = clock.alarm(lambda: times.append(clock.now_s()))
    yield alarm, clock, times
    alarm.close()


async def until(times, number):
    async with asyncio.timeout(30):
        while len(times) < number:
            await asyncio.sleep(0.01)


async def test_an_alarm_rings_when_its_time_has_come_and_once(rung):
    alarm, clock, times = rung
    at = clock.now_s() + 0.05
    alarm.set(at)
    await until(times, 1)
    await asyncio.sleep(0.1)
    assert len(times) == 1
    assert times[0] >= at - 0.001


async def test_a_time_that_is_past_rings_at_once(rung):
    alarm, clock, times = rung
    for at in (clock.now_s() - 5, 0.0):
        alarm.set(at)
        await until(times, 1)
        times.clear()


async def test_an_alarm_that_is_set_to_later_is_quiet_until_then(rung):
    alarm, clock, times = rung
    at = clock.now_s() + 0.2
    alarm.set(clock.now_s())
    # By then the loop has seen it ring, in the same round, and has not called back yet.
    asyncio.get_running_loop().call_soon(alarm.set, at)
    time.sleep(0.01)
    await until(times, 1)
    assert times[0] >= at - 0.001


def test_the_clock_counts_a_suspend():
    """In a namespace of time the two clocks have offsets of their own: so only what it reads is compared."""
    clock = BootClock()
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= clock.now_s() <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert clock.boot_id() == BootClock().boot_id() != ""
