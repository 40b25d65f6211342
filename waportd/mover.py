"""Gives a user another port, with the login and all other data of the old one.

The user's row in the store names the new port before anything is touched, and is changed to it in one step when all
is there. So after a crash at any point, the row says how to finish or undo the move. Until then neither
port has an environment, without which its units do not start.
"""

import dataclasses
import logging

from waportd.assignments import Assignments
from waportd.config import Limits
from waportd.errors import Conflict, WaportdError
from waportd.model import Assignment, Desired, MoveStep, Port, move_unit, service_unit
from waportd.observer import Observer
from waportd.plain import plain
from waportd.sockets import Sockets
from waportd.systemd.journal import last_lines, log_fields
from waportd.systemd.manager import JobFailed, SystemdError, UnitManager

log = logging.getLogger(__name__)

_QUOTED_CHARS = 300
"""Characters of what the unit said that go into an error."""


class Mover:
    """Moves users. The caller holds the user's lock, and lets no start begin."""

    def __init__(
        self, assignments: Assignments, observer: Observer, sockets: Sockets, manager: UnitManager
    ) -> None:
        self._assignments = assignments
        self._observer = observer
        self._sockets = sockets
        self._manager = manager

    async def move(self, assignment: Assignment, target: Port) -> None:
        """Move a user to an unassigned port. Done when it returns; where it raises, the user is as before.

        If even the undo failed, the assignment's ``moving_to`` stays, and `finish` may be retried. Raises Conflict
        where the port has something that would be in the way, StoreError, SystemdError and what a start raises.
        """
        await self._sockets.have_cleaned(target)
        # Also shows that the unit is there and may be started, before the server stops.
        await self._run(assignment.port, target, MoveStep.CHECK)
        by_admin = self._observer.stopped_by_admin(assignment)
        await self.finish(
            await self._assignments.change(
                assignment.user,
                moving_to=target,
                socket_boot=assignment.socket_boot if by_admin else None,
            )
        )

    async def finish(self, assignment: Assignment) -> None:
        """Finish a move, wherever it was cut short; undo it where that is impossible. Raises as `move`."""
        assert assignment.moving_to is not None
        try:
            await self._carry(assignment, assignment.moving_to)
        except WaportdError:
            await self._undo(assignment, assignment.moving_to)
            raise

    async def let_go(self, port: Port, limits: Limits, assignment: Assignment) -> None:
        """Forget what is known of a user's former port, which is no longer assigned."""
        self._observer.forget(port)
        self._observer.refresh(port)
        if assignment.memory_max is not None:
            try:
                # It would apply to the port's next owner.
                await self._manager.limit_memory(service_unit(port), limits.memory_max)
            except SystemdError as error:
                log.warning("Cannot reset the limit: %s", error, extra=log_fields(port=port))

    async def _carry(self, assignment: Assignment, target: Port) -> None:
        user, source = assignment.user, assignment.port
        for port in (source, target):
            await self._close(port)
        await self._run(source, target, MoveStep.THERE)
        there = dataclasses.replace(
            assignment, port=target, moving_to=None, note=f"moved here from port {source}"
        )
        if _opens(assignment):
            await self._sockets.open_port(there)
            there = dataclasses.replace(there, socket_boot=self._observer.boot)
        else:
            await self._assignments.write_environment(there)
        await self._assignments.change(
            user, port=target, moving_to=None, note=there.note, socket_boot=there.socket_boot
        )
        self._observer.refresh(target)
        log.info("moved from port %s to %s", source, target, extra=log_fields(user, target))

    async def _undo(self, assignment: Assignment, target: Port) -> None:
        user, source = assignment.user, assignment.port
        try:
            await self._close(target)
            await self._run(target, source, MoveStep.BACK)
            back = await self._assignments.change(user, moving_to=None)
            if _opens(back):
                await self._sockets.reopen(back)
            else:
                await self._assignments.write_environment(back)
        except WaportdError as error:
            log.warning("Cannot undo a move to port %s: %s", target, error, extra=log_fields(user, source))

    async def _close(self, port: Port) -> None:
        """Stop the server, and let none start."""
        await self._assignments.remove_environment(port)
        await self._sockets.close_port(port)

    async def _run(self, source: Port, target: Port, step: MoveStep) -> None:
        unit = move_unit(source, target, step)
        try:
            await self._manager.start(unit)
        except JobFailed as error:
            lines = await last_lines(unit, 1)
            why = plain(lines[-1])[:_QUOTED_CHARS] if lines else error.message
            raise Conflict(why, hint=error.hint, cause="move_failed") from error


def _opens(assignment: Assignment) -> bool:
    """Return whether systemd must hold the port of a user who is moved: no administrator has closed it."""
    return assignment.desired is Desired.RUNNING and assignment.socket_boot is None
