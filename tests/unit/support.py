"""What tests of the supervisor and its API share."""

import asyncio

BASE = 21001
"""The port that user 1 prefers in these tests."""


async def settled(supervisor):
    """Wait until what the supervisor does by itself is done."""
    async with asyncio.timeout(10):
        while supervisor._tasks:
            await asyncio.gather(*supervisor._tasks, return_exceptions=True)


async def until(supervisor, user, condition):
    """Wait until the condition holds for the user's instance; return it."""
    instance = await supervisor.picture.wait(user, lambda now: now is not None and condition(now), 5)
    assert instance is not None
    assert condition(instance), instance
    return instance
