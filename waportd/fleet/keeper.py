"""Holds the lease of this host: renews it, and ends in time where it cannot.

Everything that runs a session is bound to the unit of this program. So all that it has to do to stop every session is
to end. It depends on nothing else of waportd, so that the daemon can be stopped, killed and upgraded meanwhile.
"""

import asyncio
import dataclasses
import enum
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn, Protocol, TypeVar

from waportd.concurrency import retrieve_error
from waportd.errors import StoreTooNewError
from waportd.fleet import failsafe
from waportd.fleet.boot_clock import Clock
from waportd.fleet.engine import EngineUnavailable, Lease, LeaseLost, NameTaken
from waportd.fleet.lease import Held, LeaseFolder
from waportd.fleet.limits import within
from waportd.fleet.timing import Timing
from waportd.systemd import notify

log = logging.getLogger(__name__)

T = TypeVar("T")


class ExitStatus(enum.IntEnum):
    """How the keeper ends. Its unit ends with all but the first; with ``LATE`` the sessions are killed at once."""

    AGAIN = 0
    """It is to start again, with the same lease: there is new code."""
    IN_TIME = 3
    """The deadline has come: the sessions have their time to stop."""
    LATE = 4
    """The lease may belong to another host by now."""
    REFUSED = 78
    """A retry does not help: another live host has this name, or the engine's data are of a newer version."""


class Leases(Protocol):
    """What the keeper needs of an engine."""

    async def acquire(self, host: str, ttl_s: float) -> Lease:
        """Return a new lease. Raises NameTaken while there is one of this name, and EngineUnavailable."""

    async def renew(self, lease: Lease) -> None:
        """Give the lease its whole time again. Raises LeaseLost, and EngineUnavailable."""

    async def release(self, lease: Lease) -> None:
        """End the lease now. Raises EngineUnavailable."""


class Keeper:
    """The lease of one host, from the first renewal to the end of the program."""

    def __init__(
        self,
        host: str,
        engine: Leases,
        peers: failsafe.Peers,
        folder: LeaseFolder,
        *,
        timing: Timing,
        clock: Clock,
    ) -> None:
        self._host = host
        self._engine = engine
        self._peers = peers
        self._folder = folder
        self._timing = timing
        self._clock = clock
        self._said = ""
        self._held: Held
        self._ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        self._alarm: Final = clock.alarm(self._expire)

    async def run(self) -> ExitStatus:
        """Hold the lease until it is lost, or until `end` is called; return how the program must end.

        Calls that hang are left behind: the program must end without waiting for them. Raises OSError and ValueError
        where the runtime directory cannot be used.
        """
        keeping = asyncio.create_task(self._keep())
        waited: set[asyncio.Future[Any]] = {keeping, self._ended}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            return self._ended.result() if self._ended.done() else keeping.result()
        except LeaseLost as error:
            log.error("Cannot keep the lease: %s; %s", error, error.hint)  # noqa: TRY400 - it says all
            return ExitStatus.LATE
        except (NameTaken, StoreTooNewError) as error:
            log.error("Cannot hold a lease: %s; %s", error, error.hint)  # noqa: TRY400
            return ExitStatus.REFUSED
        finally:
            self._alarm.close()
            keeping.add_done_callback(retrieve_error)
            keeping.cancel()

    def end(self, status: ExitStatus) -> None:
        """Have `run` return, unless it is about to already."""
        if not self._ended.done():
            self._ended.set_result(status)

    async def _keep(self) -> NoReturn:
        held = self._folder.held()
        if held is None:
            held = await self._acquired()
        elif held.boot_id != self._clock.boot_id():
            raise LeaseLost("the lease is of another boot", hint="none: systemd starts with an empty folder")
        self._held = held
        # It depends on none of the calls below, and rings at once where the deadline is past.
        self._alarm.set(held.deadline_s)
        while True:
            begun = self._clock.now_s()
            await self._round()
            await asyncio.sleep(max(0.0, begun + self._timing.renew_s - self._clock.now_s()))

    async def _acquired(self) -> Held:
        """Return a new lease. Raises NameTaken where another live host has this name."""
        taken_since: float | None = None
        while True:
            begun = self._clock.now_s()
            try:
                lease = await self._call(self._engine.acquire(self._host, self._timing.ttl_s))
            except EngineUnavailable as error:
                taken_since = None  # a lease does not run out while the engine is away
                self._say(f"waits for the engine: {error}", notify.status)
            except NameTaken as error:
                # It may be an earlier one of this host: of before a reboot, or of a call whose answer was lost.
                taken_since = begun if taken_since is None else taken_since
                if begun - taken_since > self._timing.taken_s:
                    raise
                self._say(f"waits for the end of an earlier lease: {error}", notify.status)
            else:
                held = Held(lease, begun + self._timing.deadline_s, self._clock.boot_id())
                self._folder.clear()
                self._folder.keep(held)
                return held
            await asyncio.sleep(self._timing.renew_s)

    async def _round(self) -> None:
        """Try once to prolong the lease, by the engine or by the other members. Raises LeaseLost."""
        lease, begun = self._held.lease, self._clock.now_s()
        try:
            await self._call(self._engine.renew(lease))
        except EngineUnavailable as error:
            begun = self._clock.now_s()
            answers = await failsafe.ask(self._peers, lease, self._timing.ask_s)
            if why := failsafe.prolonged(answers):
                self._prolong(begun, f"{why}: {error}")
            else:
                self._say(f"not renewed: {error}; {failsafe.words(answers)}", notify.status)
        else:
            self._prolong(begun, f"holds the lease, incarnation {lease.incarnation}")

    async def _call(self, call: Coroutine[Any, Any, T]) -> T:
        """Return what a call to the engine returns. Raises EngineUnavailable at its limit, whatever it does then."""
        try:
            return await within(self._timing.call_s, call)
        except TimeoutError:
            raise EngineUnavailable(
                f"the engine did not answer within {self._timing.call_s:g} s",
                hint="`waportctl doctor` looks for the cause",
            ) from None

    def _prolong(self, begun_s: float, why: str) -> None:
        """Move the deadline, counted from the begin of the call that succeeded: it may have been answered much later."""
        self._held = dataclasses.replace(self._held, deadline_s=begun_s + self._timing.deadline_s)
        self._alarm.set(self._held.deadline_s)
        self._folder.keep(self._held)
        self._say(why, notify.ready)
        notify.alive()

    def _expire(self) -> None:
        late_s = self._clock.now_s() - self._held.deadline_s
        log.error("Cannot renew the lease in time: ends %.1f s after the deadline", max(0.0, late_s))
        self.end(ExitStatus.LATE if late_s > self._timing.late_s else ExitStatus.IN_TIME)

    def _say(self, sentence: str, notification: Callable[[str], None]) -> None:
        """Have the log and `systemctl status` show a sentence that differs from the last one."""
        if sentence != self._said:
            self._said = sentence
            log.info("%s", sentence)
            notification(sentence)
