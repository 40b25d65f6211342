"""An engine and other members as a keeper sees them, which a test has answer, hang or refuse."""

import asyncio
import itertools
import random

from waportd.fleet.engine import EngineUnavailable, Lease, LeaseLost, NameTaken
from waportd.fleet.failsafe import Answer


async def refuse():
    raise EngineUnavailable("connection refused")


async def hang():
    await asyncio.Event().wait()


async def hang_for_good():
    """Hang as a client does that does not let itself be cancelled; the end of the test cancels it once more."""
    try:
        await hang()
    except asyncio.CancelledError:
        await hang()


def late(seconds):
    async def wait():
        await asyncio.sleep(seconds)

    return wait


async def at_once():
    """Answer without a wait."""


class PlayedEngine:
    """One lease, which ends a TTL after its last renewal. ``going`` and ``coming`` are the two ways of a call."""

    def __init__(self, clock, going=at_once, coming=at_once):
        self._clock = clock
        self._incarnations = itertools.count(1000)
        self.going = going
        self.coming = coming
        self.lease = None
        self.expires_s = 0.0
        self.begun = []
        """When the calls to renew began."""

    def alive(self):
        return self.lease is not None and self._clock.now_s() < self.expires_s

    async def acquire(self, host, ttl_s):
        await self.going()
        if self.alive():
            raise NameTaken(f"a live host is named {host}", hint="give this one another name")
        self.lease = Lease(host, id=7, incarnation=next(self._incarnations), ttl_s=ttl_s)
        self.renewed()
        lease = self.lease
        await self.coming()
        return lease

    async def renew(self, lease):
        self.begun.append(self._clock.now_s())
        await self.going()
        if not self.alive() or lease != self.lease:
            raise LeaseLost("the engine has no such lease", hint="a new one is taken")
        self.renewed()
        await self.coming()

    async def release(self, lease):
        await self.going()
        assert lease == self.lease
        self.lease = None

    def renewed(self):
        self.expires_s = self._clock.now_s() + self.lease.ttl_s


class PlayedPeers:
    """The other members; each is a coroutine function that returns what it answers."""

    def __init__(self, **answers):
        self.answers = answers

    def others(self):
        return tuple(self.answers)

    async def renew(self, host, lease):
        return await self.answers[host]()


def answers(word):
    async def answer():
        return word

    return answer


class Faults:
    """Calls that are refused, hang, lose their answer or are slow, as a seed has it."""

    def __init__(self, seed):
        self.chance = random.Random(seed)

    async def way(self):
        """Go one way of a call."""
        ways = [at_once, at_once, late(self.chance.uniform(0, 6)), refuse, hang, hang_for_good]
        await self.chance.choice(ways)()

    def member(self, engine):
        """Return a member that renews what the engine has, over such ways."""

        async def renew():
            await self.way()
            if not engine.alive():
                return Answer.GONE
            engine.renewed()
            await self.way()
            return Answer.RENEWED

        return renew
