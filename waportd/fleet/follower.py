"""Follows the engine: the state of the fleet, and each word of the engine that counts for the membership."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final, NoReturn

from waportd.fleet.engine import (
    Engine,
    EngineUnavailable,
    EpochChanged,
    Event,
    HostChanged,
    LeaseChanged,
    Reset,
    State,
)
from waportd.fleet.membership import GAP_S, Membership

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
"""Seconds from a failure to the next try."""
PROBE_S: Final = GAP_S / 2
"""Seconds between two questions whether the engine is there: in a quiet fleet nothing else is heard of it.

An answer takes three seconds at most, and one that fails is noted at once: so the contact does not count as lost.
"""


class Follower:
    """Keeps the newest state of the fleet in memory."""

    def __init__(self, engine: Engine, membership: Membership, now: Callable[[], float]) -> None:
        """Count by the clock ``now`` of the membership, in seconds."""
        self._engine = engine
        self._membership = membership
        self._now = now
        self._said: str | None = None
        self._subscribed: list[asyncio.Event] = []
        self._state: State | None = None
        self._news: list[Event] = []
        """What has changed since that state."""
        self._read = 0
        """The revision at which all was read last: of it and of earlier ones nothing is missing."""

    @property
    def state(self) -> State | None:
        """The newest state; None until the engine was read for the first time.

        Made when somebody asks for it: of 10,000 users it takes milliseconds, and many may change within a second.
        """
        if self._state is not None and self._news:
            self._state, self._news = self._state.after(*self._news), []
        return self._state

    @property
    def _revision(self) -> int:
        """That of the newest change."""
        if self._news:
            return self._news[-1].revision
        return self._state.revision if self._state else 0

    async def run(self) -> NoReturn:
        """Follow until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._probe())
        raise AssertionError  # neither ends

    def subscribe(self) -> asyncio.Event:
        """Return an event that is set after each change; who waits for the next one clears it."""
        changed = asyncio.Event()
        self._subscribed.append(changed)
        return changed

    async def refresh(self) -> State:
        """Read the state now, and return it: what is to be acted upon must not be old. Raises EngineUnavailable."""
        try:
            state = await self._engine.state()
        except EngineUnavailable as error:
            self.lose(error)
            raise
        self._take(state)
        assert self.state is not None
        return self.state

    def lose(self, error: EngineUnavailable) -> None:
        """Take note that a call of this host was not answered."""
        self._membership.lose()
        if self._said is None:
            log.warning("Cannot reach the engine: %s", error)
        self._said = error.message

    async def _follow(self) -> NoReturn:
        while True:
            try:
                state = await self.refresh()
                async with contextlib.aclosing(self._engine.watch(state.revision)) as changes:
                    async for change in changes:
                        if isinstance(change, Reset):
                            log.info("The state of the fleet is read again: %s", change.reason)
                        # What was read meanwhile may be newer.
                        elif change.revision > self._read:
                            self._note(change)
            except EngineUnavailable as error:
                self.lose(error)
            await asyncio.sleep(RETRY_S)

    async def _probe(self) -> NoReturn:
        while True:
            await asyncio.sleep(PROBE_S)
            try:
                epoch = await self._engine.epoch()
            except EngineUnavailable as error:
                self.lose(error)
            else:
                if self._state is not None and epoch == self._state.epoch:
                    self._membership.heard(self._now())
                    self._heard()

    def _note(self, change: Event) -> None:
        """Take note of a change that the engine reports."""
        self._news.append(change)
        if isinstance(change, HostChanged | LeaseChanged | EpochChanged):
            assert self.state is not None
            self._membership.observe(self.state, self._now())
        else:
            self._membership.heard(self._now())
        self._tell()

    def _take(self, state: State) -> None:
        last = self._state
        if (
            last is not None
            and last.epoch == state.epoch
            and state.settled
            and state.revision < self._revision
        ):
            return  # an answer that was overtaken
        self._state, self._news, self._read = state, [], state.revision
        self._membership.observe(state, self._now())
        self._tell()

    def _tell(self) -> None:
        self._heard()
        for changed in self._subscribed:
            changed.set()

    def _heard(self) -> None:
        if self._said is not None:
            log.info("The engine answers again")
            self._said = None
