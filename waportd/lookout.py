"""Watches all users: raises the alarm when many fail in the same way, and gives turns to start."""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator

from waportd.alarms import Alarm, Rule
from waportd.change_log import Change
from waportd.model import ProcessState, SessionState, User
from waportd.registry import Instance, Registry
from waportd.turns import Turns

log = logging.getLogger(__name__)

_CHANGES_PER_LOOK = 1000
"""Changes that are processed before other tasks have a turn."""
PAUSE_S = 0.2
"""Seconds from one check to the next, however many change: with 10,000 users each takes 2 ms while some fail."""
_INTERVAL_S = 30.0
"""Seconds after which it checks again although no user changed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Raised:
    """The current alarm."""

    alarm: Alarm
    since: float
    """Since when, in seconds since the epoch."""


class Lookout:
    """Follows the registry. It does not decide which user to start: the supervisor asks for a turn before a start."""

    def __init__(self, registry: Registry, at_once: int) -> None:
        """``at_once`` is how many linked sessions the daemon starts automatically at a time."""
        self.raised: Raised | None = None
        """The alarm, if there is one."""
        self._registry = registry
        self._rule = Rule(time.monotonic())
        self._turns: Turns[asyncio.Future[None]] = Turns(at_once)
        self._timer: asyncio.TimerHandle | None = None
        """Until the next turn while there is an alarm."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._follow(), name="lookout")
        self._task.add_done_callback(self._stopped)

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._timer is not None:
            self._timer.cancel()

    def _stopped(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("Cannot watch for alarms any more: %s", error, exc_info=error)
        # No start must wait for an alarm that never ends.
        self.raised = None
        self._give_turns()

    def reconfigure(self, at_once: int) -> None:
        """Take over how many the daemon starts automatically at a time."""
        self._turns.at_once = at_once
        self._give_turns()

    @contextlib.asynccontextmanager
    async def turn(self, user: User) -> AsyncIterator[None]:
        """Wait until the daemon may start this user's linked session automatically; the turn lasts for the block.

        Starts on request need no turn.
        """
        ticket = asyncio.get_running_loop().create_future()
        self._turns.join(ticket)
        try:
            self._give_turns()
            await ticket
            yield
        finally:
            self._turns.end(ticket, time.monotonic(), through=self._is_through(user))
            self._give_turns()

    def _is_through(self, user: User) -> bool:
        instance = self._registry.get(user)
        session = instance.session if instance is not None and instance.answering else None
        return session is not None and session.state is SessionState.READY

    def _give_turns(self) -> None:
        now, alarm = time.monotonic(), self.raised is not None
        for ticket in self._turns.give(now, alarm=alarm):
            if not ticket.done():
                ticket.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (due := self._turns.next_at(alarm=alarm)) is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - now), self._give_turns)

    async def _follow(self) -> None:
        registry, known, look_at = self._registry, 0, 0.0
        while not registry.released:
            changes = registry.changes_since(known, _CHANGES_PER_LOOK)
            for change in changes:
                self._note(change)
                known = change.version
            now = time.monotonic()
            if now >= look_at:
                self._look(now)
                look_at = now + (PAUSE_S if changes else _INTERVAL_S)
            elif changes:
                look_at = min(look_at, now + PAUSE_S)
            await (asyncio.sleep(0) if changes else registry.wait_for_change(known, look_at - now))

    def _note(self, change: Change[Instance]) -> None:
        if change.value is None:
            self._rule.forget(change.user)
        else:
            self._rule.note(change.value, time.monotonic(), time.time())

    def _running(self) -> int:
        return sum(instance.process.state is ProcessState.RUNNING for instance in self._registry)

    def _look(self, now: float) -> None:
        alarm, before = self._rule.look(now, self._running), self.raised
        if alarm is None:
            self.raised = None
        elif before is None or before.alarm.cause != alarm.cause:
            self.raised = Raised(alarm, time.time() - (now - alarm.began))
        elif before.alarm != alarm:
            self.raised = dataclasses.replace(before, alarm=alarm)
        self._tell(before, self.raised)

    def _tell(self, before: Raised | None, raised: Raised | None) -> None:
        """Log what is new, and let starts continue or wait."""
        if before is not None and (raised is None or raised.since != before.since):
            log.warning("alarm is over: %s", before.alarm.cause)
        if raised is None:
            if before is not None:
                self._give_turns()
        elif before is None or raised.since != before.since:
            alarm = raised.alarm
            build = f" (WhatsApp Web {alarm.build})" if alarm.build else ""
            log.error("alarm: %s%s. %s", alarm.message, build, alarm.hint)
