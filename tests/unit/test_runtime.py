"""One object per user: who has none yet, who is known, and who is gone."""

import asyncio
import gc

from waportd.model import User
from waportd.runtime import NEVER, Runtimes

ONE = User("1")


def test_one_without_an_assignment_is_there_as_long_as_somebody_needs_it():
    runtimes = Runtimes()
    runtime = runtimes[ONE]
    runtime.used_at = 5.0
    assert runtimes[ONE] is runtime
    del runtime
    # Not by the garbage collector: who calls for users that do not exist leaves nothing behind.
    gc.disable()
    try:
        assert list(runtimes) == []
        assert runtimes[ONE].used_at == NEVER
    finally:
        gc.enable()


def test_one_with_an_assignment_stays_until_it_is_dropped():
    runtimes = Runtimes()
    runtimes.keep(ONE)
    runtimes[ONE].retried = 3
    assert [runtime.retried for runtime in runtimes] == [3]
    runtimes.drop(ONE)
    assert list(runtimes) == []
    runtimes.drop(ONE)


async def test_who_waits_for_a_lock_and_who_comes_later_meet_the_same_one():
    runtimes = Runtimes()
    order = []

    async def hold(name):
        async with runtimes[ONE].lock:
            order.append(f"{name} has it")
            await asyncio.sleep(0.01)
            order.append(f"{name} lets go")

    async with runtimes[ONE].lock:
        first = asyncio.create_task(hold("first"))
        await asyncio.sleep(0)
        runtimes.keep(ONE)
        runtimes.drop(ONE)
    second = asyncio.create_task(hold("second"))
    await asyncio.gather(first, second)
    assert order == ["first has it", "first lets go", "second has it", "second lets go"]
    del first, second
    assert not list(runtimes)


async def test_dropped_it_is_as_if_it_was_never_used():
    runtimes = Runtimes()
    runtimes.keep(ONE)
    runtime = runtimes[ONE]
    runtime.failed_at = runtime.used_at = runtime.relayed_at = 1.0
    runtime.retry = asyncio.get_running_loop().call_later(60, print)
    timer, runtime.retried = runtime.retry, 2
    runtimes.drop(ONE)
    assert timer.cancelled()
    assert (runtime.failed_at, runtime.used_at, runtime.relayed_at) == (NEVER, NEVER, NEVER)
    assert (runtime.retry, runtime.retried) == (None, 0)
