"""Brings users to their desired state: after a start of the daemon, after a boot, and when a start has failed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from waportd.allocation import Allocator
from waportd.assignments import Assignments
from waportd.config import Config
from waportd.diagnosis import Finding
from waportd.errors import WaportdError
from waportd.lookout import Lookout
from waportd.model import Assignment, Desired, ProcessState, User
from waportd.observer import Observer
from waportd.readiness import awaits_turn, is_awake
from waportd.registry import Registry
from waportd.sockets import PortHeld, Sockets
from waportd.starter import Starter
from waportd.systemd.journal import log_fields

log = logging.getLogger(__name__)

_RESTORE_TURN_S = 30.0
"""Seconds that a linked session has to connect before the next one starts, as after a boot."""
NO_ROOM_RETRY_S = 30.0
"""Seconds until the next check for room for one more browser."""


class Reconciler:
    """Handles few users at a time, linked sessions first, and starts these in turns."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        assignments: Assignments,
        observer: Observer,
        sockets: Sockets,
        starter: Starter,
        allocator: Allocator,
        lookout: Lookout,
        erase: Callable[[Assignment], Awaitable[None]],
    ) -> None:
        """``erase`` finishes a deletion that was cut short; the user's lock is held."""
        self._config = config
        self._registry = registry
        self._assignments = assignments
        self._runtimes = assignments.runtimes
        self._observer = observer
        self._sockets = sockets
        self._starter = starter
        self._allocator = allocator
        self._lookout = lookout
        self._erase = erase

    def reconfigure(self, config: Config) -> None:
        """Take over a new configuration."""
        self._config = config

    async def reconcile(self) -> None:
        """Move every user to the desired state, few starts at a time."""
        await self._assignments.write_environments()
        assignments = [instance.assignment for instance in self._registry]
        running = [assignment for assignment in assignments if assignment.desired is Desired.RUNNING]
        # Linked sessions first: they have messages to receive.
        running.sort(key=lambda assignment: (not assignment.linked, -assignment.created_at))
        cut_short = [
            assignment
            for assignment in assignments
            if assignment.desired is Desired.DELETED
            or assignment.moving_to is not None
            or (assignment.desired is Desired.STOPPED and assignment.socket_boot == self._observer.boot)
        ]
        due = cut_short + running[: self._config.limits.max_sockets]
        users = dict.fromkeys(assignment.user for assignment in due)
        await asyncio.gather(*map(self.reconcile_user, users))
        servers = sum(1 for instance in self._registry if instance.process.pid)
        log.info("reconciled: users %d, running servers %d", len(self._registry), servers)

    async def reconcile_user(self, user: User) -> None:
        """Move a user to the desired state. Never raises: a failure is logged, shown and retried."""
        assignment = self._assignments.known(user).assignment
        try:
            async with self._starter.slots, self._runtimes[user].lock:
                instance = self._registry.get(user)
                if instance is None:
                    return
                assignment = instance.assignment
                if assignment.desired is Desired.DELETED:
                    await self._erase(assignment)
                    return
                if assignment.moving_to is not None:
                    await self._finish_move(assignment)
                    assignment = self._assignments.known(user).assignment
                if assignment.desired is Desired.STOPPED and assignment.socket_boot == self._observer.boot:
                    # A stop that was cut short. An administrator may have undone a finished one by hand.
                    await self._sockets.close_port(assignment.port)
                    await self._assignments.change(user, socket_boot=None)
                elif assignment.desired is Desired.RUNNING and self._observer.holds(assignment.port):
                    # Whichever life it was opened in: from now on, closing it is a decision.
                    await self._assignments.change(user, socket_boot=self._observer.boot)
                await self._reopen(user)
            await self.start_in_turn(user)
        except PortHeld as error:
            self._observer.set_finding(assignment.port, Finding.of(error))
            self._starter.note_failure(user)
            log.warning("Cannot open the port: %s", error, extra=log_fields(user, assignment.port))
        except WaportdError as error:
            self._starter.note_failure(user)
            log.warning("Cannot reconcile: %s", error, extra=log_fields(user, assignment.port))

    async def _finish_move(self, assignment: Assignment) -> None:
        """Finish a move that a crash cut short. Raises WaportdError where it could not even be undone."""
        user = assignment.user
        try:
            await self._allocator.finish_move(assignment)
        except WaportdError as error:
            if self._assignments.known(user).assignment.moving_to is not None:
                raise
            log.warning("Cannot finish a move: %s", error, extra=log_fields(user, assignment.port))

    async def start_in_turn(self, user: User) -> None:
        """Start a linked session when it is its turn, which lasts until it is connected, or fails to.

        A server answers long before its browser runs, and the browser takes most of a machine's time. So a server that
        was started otherwise, as by a request on its port, and one that has to retry, wait for their turn, too.
        A user who is requested meanwhile does not wait.
        """
        runtime = self._runtimes[user]
        if runtime.is_queued or not (
            self._starter.needs_start(user) or awaits_turn(self._registry.get(user))
        ):
            return
        runtime.is_queued = True
        try:
            while True:
                async with self._lookout.turn(user):
                    begins = await self._begin(user)
                    if begins:
                        await self._registry.wait(user, is_awake, _RESTORE_TURN_S)
                if not begins:
                    await self._registry.wait(user, lambda now: not awaits_turn(now), NO_ROOM_RETRY_S)
                if not awaits_turn(self._registry.get(user)):
                    return
        finally:
            runtime.is_queued = False

    async def _begin(self, user: User) -> bool:
        """Start a session whose turn it is; return whether it still had to be started, and there is room for it."""
        instance = self._registry.get(user)
        if instance is not None and awaits_turn(instance):
            # Without the user's lock: it must be possible to stop a server that hangs.
            return await self._starter.let_session_begin(user)
        async with self._runtimes[user].lock:
            if not self._starter.needs_start(user):
                return False
            await self._reopen(user)
            launch = self._starter.launch(user, asked=False)
        await asyncio.wait({launch})
        return True

    async def _reopen(self, user: User) -> None:
        """Have systemd hold the port of a user whose server is neither up nor stopped."""
        if self.is_to_reopen(user):
            await self._sockets.reopen(self._assignments.known(user).assignment)

    def is_to_reopen(self, user: User) -> bool:
        """Return whether systemd should hold the port of a user, and does not."""
        instance = self._assignments.known(user)
        assignment = instance.assignment
        return (
            assignment.desired is Desired.RUNNING
            and instance.process.state is ProcessState.STOPPED
            and not self._observer.stopped_by_admin(assignment)
            and not self._observer.holds(assignment.port)
        )
