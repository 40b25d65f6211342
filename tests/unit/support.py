"""What tests of the supervisor and its API share."""

import asyncio
import dataclasses
import json
import os

BASE = 20001 + os.getpid() % 50 * 200
"""The port that user 1 prefers in these tests. Fake servers listen on real ports, and other runs are under way."""
OVERFLOW = BASE + 100
"""The first port of those who do not get the one they prefer."""


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


@dataclasses.dataclass
class Event:
    """A server-sent event as it arrived."""

    name: str
    data: dict
    id: str | None


class Events:
    """Reads an event stream that an aiohttp client opened."""

    def __init__(self, answer):
        self.answer = answer
        self.heartbeats = 0

    async def next(self):
        """Return the next event; None where the stream has ended."""
        fields = {}
        async with asyncio.timeout(20):
            while line := await self.answer.content.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == ":":
                    self.heartbeats += 1
                elif name:
                    fields[name] = value
                elif "event" in fields:
                    return Event(fields["event"], json.loads(fields["data"]), fields.get("id"))
        return None

    async def until(self, name):
        """Return the events up to the next one of that name, which is the last."""
        events = []
        while not events or events[-1].name != name:
            event = await self.next()
            assert event is not None, f"the stream ended before {name}"
            events.append(event)
        return events
