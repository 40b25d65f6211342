"""Work that nobody waits for, and a lock for each key."""

import asyncio
import gc
import logging

from waportd.concurrency import Background, KeyedLocks
from waportd.errors import StoreError


async def fail(error):
    raise error


async def test_failures_are_logged_and_only_a_bug_with_a_traceback(caplog):
    background = Background()
    background.run(fail(StoreError("the disk is full")), "remember it")
    background.run(fail(KeyError("x")), "do it")
    await background.idle()
    known, bug = caplog.records
    assert (known.levelno, known.getMessage()) == (logging.WARNING, "Cannot remember it: the disk is full")
    assert known.exc_info is None
    assert (bug.levelno, bug.getMessage()) == (logging.ERROR, "Cannot do it: 'x'")
    assert bug.exc_info


async def test_after_its_end_nothing_runs(caplog):
    background = Background()
    done = []

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            done.append("canceled")

    background.run(work(), "wait")
    await asyncio.sleep(0)
    await background.close()
    assert done == ["canceled"]
    assert background.run(work(), "wait") is None
    await background.idle()
    assert not caplog.records


async def test_there_is_a_lock_for_each_key_while_somebody_needs_it():
    locks = KeyedLocks()
    async with locks["a"], locks["b"]:
        assert locks["a"].locked()
        assert not locks["c"].locked()
    gc.collect()
    assert not locks["a"].locked()
    assert len(locks) == 0
