"""Watches over all users at once: raises the alarm when many fail in the same way, and then has starts wait."""

import asyncio
import contextlib
import dataclasses
import logging
import time

from waportd.alarms import Alarm, Rule
from waportd.model import ProcessState
from waportd.picture import Change, Picture

log = logging.getLogger(__name__)

_AT_ONCE = 1000
"""Changes that are looked at before others have a turn."""
_PAUSE = 0.2
"""Seconds from one look to the next, however many change: with 10,000 users each takes 2 ms while some fail."""
_INTERVAL = 30.0
"""Seconds after which it is looked anew though nobody changed."""
_PROBE = 30.0
"""Seconds from one start that the daemon makes by itself to the next, while there is an alarm."""


@dataclasses.dataclass(frozen=True, slots=True)
class Raised:
    """The alarm that holds."""

    alarm: Alarm
    since: float
    """Since when, in seconds since the epoch."""


class Lookout:
    """Follows the picture. What it sees is not decided here: the supervisor and the starter ask before they start."""

    def __init__(self, picture: Picture) -> None:
        self.raised: Raised | None = None
        """The alarm, if there is one."""
        self._picture = picture
        self._rule = Rule(time.monotonic())
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._probe_at = 0.0
        """When the next start is due, by the monotonic clock."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._follow(), name="lookout")
        self._task.add_done_callback(self._stopped)

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _stopped(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("Cannot look out for alarms any more: %s", error, exc_info=error)
        # Nobody is to wait for one that nobody ends.
        self.raised = None
        self._quiet.set()

    def admits(self) -> bool:
        """Tell whether the daemon may start a linked session by itself now, and count that as done.

        While there is an alarm one start every half minute shows whether things are mended; hundreds would only take
        the machine's time, and make WhatsApp wary of its address. Starts that somebody asks for need no leave.
        """
        now = time.monotonic()
        if self.raised is None:
            return True
        if now < self._probe_at:
            return False
        self._probe_at = now + _PROBE
        return True

    async def turn(self) -> None:
        """Return when `admits` does."""
        while not self.admits():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), max(0.0, self._probe_at - time.monotonic()))

    async def _follow(self) -> None:
        picture, known, look_at = self._picture, 0, 0.0
        while not picture.released:
            changes = picture.changes_since(known, _AT_ONCE)
            for change in changes:
                self._note(change)
                known = change.version
            now = time.monotonic()
            if now >= look_at:
                self._look(now)
                look_at = now + (_PAUSE if changes else _INTERVAL)
            elif changes:
                look_at = min(look_at, now + _PAUSE)
            await (asyncio.sleep(0) if changes else picture.wait_for_change(known, look_at - now))

    def _note(self, change: Change) -> None:
        if change.instance is None:
            self._rule.forget(change.user)
        else:
            self._rule.note(change.instance, time.monotonic(), time.time())

    def _running(self) -> int:
        return sum(instance.process.state is ProcessState.RUNNING for instance in self._picture)

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
        """Log what is new, and let starts go on or wait."""
        if before is not None and (raised is None or raised.since != before.since):
            log.warning("alarm is over: %s", before.alarm.cause)
        if raised is None:
            self._quiet.set()
            return
        self._quiet.clear()
        if before is None or raised.since != before.since:
            alarm = raised.alarm
            build = f" (WhatsApp Web {alarm.build})" if alarm.build else ""
            log.error("alarm: %s%s. %s", alarm.message, build, alarm.hint)
