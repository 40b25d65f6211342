"""The part of the daemon that a fleet adds: takes users whose host is dead, gives up those who belong to another or go there.

It decides nothing that another module decides better: `membership` says what may be done, `placement` who is due, and
the engine's transaction whether it happens. It is a loop over the newest state, so that nothing has to be remembered:
whatever was cut off is seen, and done, in the next round.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, Protocol

from waportd.concurrency import Background
from waportd.errors import WaportdError
from waportd.fleet.engine import Conflict, EngineUnavailable, Host, Lease, LeaseLost, Row, State, Unsettled
from waportd.fleet.host import FleetHost
from waportd.fleet.manifest import names
from waportd.fleet.membership import Standing
from waportd.fleet.moves import Leaving, Moves
from waportd.fleet.placement import takeovers
from waportd.fleet.store import Left
from waportd.model import Assignment, Port, User
from waportd.systemd.journal import log_fields

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""Seconds between two looks, where nothing has changed."""
_LEFT_FOR_S: Final = 7 * 86_400
"""Seconds after which what a user has left on this host is too old to be useful."""
PAUSE_S: Final = 0.1
"""Seconds from a change to the look at it: many may come at once, and one look is for all of them."""
RETRY_S: Final = 10.0
"""Seconds from a login that could not be restored to the next try."""


class Users(Leaving, Protocol):
    """What is done with the users of this host. A call that fails is made again in the next round."""

    async def gain(self, assignment: Assignment) -> None:
        """Run a user who belongs to this host from now on."""

    async def lose(self, user: User) -> None:
        """Stop a user who belongs to this host no longer, if anything still runs, and forget everything but the files."""

    async def clean(self, port: Port) -> None:
        """Delete what a user who is not here has left on a port."""

    def pause(self) -> None:
        """Take note that this host holds no lease: whatever ran is stopped, and by no administrator."""

    async def resume(self, lease: int) -> None:
        """Write the environments and start who should run: nothing runs under a lease that is new."""


class Logins(Protocol):
    """Where the logins of users come from."""

    async def restore(self, row: Row) -> bool:
        """Put the newest login of a user in place; return False where there is none. Raises WaportdError: try again."""


class Common(Protocol):
    """What all hosts have in common beside the users."""

    async def reclaim(self) -> None:
        """Put back what an engine that was restored may have forgotten. Raises EngineUnavailable, StoreError."""


class Ports(Protocol):
    """The ports that this host has for users of other hosts."""

    def release(self, port: Port) -> None:
        """Let go of a port: its user comes here."""


class Agent:
    """Acts for one host upon what the engine says."""

    def __init__(
        self,
        host: FleetHost,
        users: Users,
        moves: Moves,
        logins: Logins | None = None,
        common: Common | None = None,
        ports: Ports | None = None,
        own: Host | None = None,
    ) -> None:
        """Without ``logins``, users come without theirs. ``own`` describes this host to an engine that has forgotten it."""
        self._host = host
        self._logins = logins
        self._common = common
        self._ports = ports
        self._own = own
        self._coming: set[str] = set()
        self._background = Background()
        self._engine = host.engine
        self._store = host.store
        self._follower = host.follower
        self._changed = host.follower.subscribe()
        self._users = users
        self._moves = moves
        self._said: str | None = None
        self._incarnation: int | None = None
        """That of the lease under which the users were last resumed."""
        self._is_paused = False
        self._outage: str | None = None
        """What the keeper has noted of an outage."""
        self._noted: tuple[bool, frozenset[str]] | None = None

    async def run(self) -> NoReturn:
        """Act until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follower.run())
                tasks.create_task(self._act())
        finally:
            await self._background.close()
        raise AssertionError  # neither ends

    async def look(self) -> None:
        """Do once what is due. Raises EngineUnavailable, LeaseLost, Unsettled, StoreError."""
        self._note_outages()
        state, standing = self._follower.state, self._host.standing
        await self._note_members()
        if state is None:
            return
        lease = self._host.lease.current().lease
        if not state.settled:
            await self._settle(lease, state, standing)
        elif standing.unsettled is None:
            await self._compare(state)
            await self._moves.settle()
            if self._store.unsent.is_set():
                await self._store.send()
            await self._resume(lease)
            await self._take(lease, state, standing)
            await self._moves.begin(self._host.name, self._follower.state or state)
            await self._clean_up(state)

    async def _act(self) -> NoReturn:
        while True:
            await self._until_due()
            await asyncio.sleep(PAUSE_S)
            try:
                await self.look()
            except EngineUnavailable as error:
                self._follower.lose(error)
            except LeaseLost as error:
                # `systemctl status waportd-lease` says why; every host begins like this.
                self._pause()
                self._say(logging.INFO, f"waits for the lease: {error}")
            except WaportdError as error:
                self._say(logging.WARNING, f"Cannot act for this host: {error}")

    async def _until_due(self) -> None:
        """Return when something has changed here or elsewhere, or after a second."""
        waits = [asyncio.create_task(self._changed.wait())]
        # What was not sent in the last round waits for the next second.
        if not self._store.unsent.is_set():
            waits.append(asyncio.create_task(self._store.unsent.wait()))
        try:
            await asyncio.wait(waits, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._changed.clear()

    def _say(self, level: int, sentence: str) -> None:
        """Log a sentence, unless it is the last one."""
        if sentence != self._said:
            log.log(level, "%s", sentence)
        self._said = sentence

    def _note_outages(self) -> None:
        """Count silence again where the keeper has said to another host that the engine is not reached.

        That host may run its sessions for half a minute more, whatever happens to its lease. It has asked at least every
        fifteen seconds for as long as its lease has not been renewed: so this is noticed long before its users are due.
        """
        said = self._host.lease.outage()
        if said != self._outage:
            self._outage = said
            self._host.membership.lose()

    async def _note_members(self) -> None:
        """Keep for the next start what this process has found out."""
        known = self._host.membership.established, self._host.membership.awaited
        if known != self._noted:
            if known[0]:
                log.info("the members of the fleet are %s", ", ".join(sorted(known[1])))
            await self._store.note_members(*known)
            self._noted = known

    async def _settle(self, lease: Lease, state: State, standing: Standing) -> None:
        """Put back what this host holds, in an engine that may have forgotten it; have it settled when all have."""
        if self._host.name not in state.confirmed:
            log.info("The engine is new, or was restored: puts back what this host holds")
            if self._own is not None and all(one.name != self._own.name for one in state.hosts):
                with contextlib.suppress(Conflict):  # it has just been described
                    await self._engine.describe(self._own)
            await self._store.reclaim()
            if self._common is not None:
                await self._common.reclaim()
            await self._engine.confirm(lease)
        elif standing.settle:
            log.info("All hosts were heard: the fleet is settled")
            await self._engine.settle(lease)
        # All of it shows in a state that is read after it; nothing is done upon an older one.

    async def _compare(self, state: State) -> None:
        """Give up the users who belong to others, and take in those who belong to this host."""
        theirs = {row.user: row for row in state.rows}
        doubtful = [
            user
            for user, row in self._store.rows.items()
            if user not in self._moves.under_way
            and row.revision
            and row.revision <= state.revision
            and not self._is_ours(theirs.get(user))
        ]
        if doubtful or any(self._is_ours(row) and self._is_new(row) for row in state.rows):
            # What this host has changed itself may not have come back yet.
            state = await self._follower.refresh()
            theirs = {row.user: row for row in state.rows}
        for user in doubtful:
            if not self._is_ours(found := theirs.get(user)):
                where = f"belongs to host {found.host} now" if found else "was deleted on another host"
                log.info("%s", where, extra=log_fields(user))
                await self._users.lose(user)
                await self._store.forget(user)
        for row in state.rows:
            if not self._is_ours(row) or row.user in self._moves.under_way:
                continue
            if self._store.was_deleted(row):
                log.info("deleted again: the engine had forgotten it", extra=log_fields(User(row.user)))
                await self._engine.delete(row)
            elif self._store.is_new(row):
                self._gain(row)
            elif self._store.is_behind(row) and row.snapshot:
                log.warning("this disk is older than what the engine knows", extra=log_fields(User(row.user)))
                await self._users.lose(User(row.user))
                await self._store.forget(User(row.user))
                self._gain(row)
            else:
                await self._store.note(row)

    def _is_ours(self, row: Row | None) -> bool:
        return row is not None and row.host == self._host.name

    def _pause(self) -> None:
        """Have the users know it, once, where this host holds no lease."""
        try:
            self._host.lease.current()
        except LeaseLost:
            if not self._is_paused:
                self._users.pause()
                self._is_paused, self._incarnation = True, None

    async def _resume(self, lease: Lease) -> None:
        if self._incarnation != lease.incarnation:
            await self._users.resume(lease.incarnation)
            self._is_paused, self._incarnation = False, lease.incarnation

    async def _take(self, lease: Lease, state: State, standing: Standing) -> None:
        """Take users of dead hosts, as many as are due here."""
        waiting = {row.host for row in state.rows} & standing.silent_for.keys()
        if waiting and standing.obstacle:
            names = ", ".join(sorted(waiting))
            self._say(logging.WARNING, f"The users of {names} are not taken: {standing.obstacle}")
            return
        self._said = None
        if not takeovers(self._host.name, state, standing.takeable).due:
            return
        # It is decided upon what the engine says now.
        state = await self._follower.refresh()
        for row in takeovers(self._host.name, state, self._host.standing.takeable).due:
            try:
                moved = await self._engine.move(lease, row, self._host.name)
            except Unsettled:
                raise
            except Conflict as error:
                log.info("not taken: %s", error, extra=log_fields(User(row.user)))
            else:
                log.info("taken from host %s, which is silent", row.host, extra=log_fields(User(row.user)))
                self._gain(moved)

    def _is_new(self, row: Row) -> bool:
        return row.user not in self._coming and self._store.is_new(row)

    def _gain(self, row: Row) -> None:
        """Begin to take in a user, unless that is under way."""
        if row.user not in self._coming:
            self._coming.add(row.user)
            self._background.run(self._take_in(row), f"take in user {row.user}")

    async def _take_in(self, row: Row) -> None:
        """Take in a user of this host, once the login is in place: not before, however long that is impossible."""
        port = Port(row.port)
        try:
            left = self._store.left.get(port)
            # A port has had other users before.
            is_ready = (left is not None and left.user == row.user) or await self._done(
                row, lambda: self._users.clean(port)
            )
            if is_ready and self._logins is not None:
                logins = self._logins
                is_ready = await self._done(row, lambda: logins.restore(row))
            newest = self._is_same(row) if is_ready else None
            if newest is not None:
                assignment = await self._store.adopt(newest)
                if self._ports is not None:
                    self._ports.release(port)
                await self._users.gain(assignment)
        finally:
            self._coming.discard(row.user)

    async def _done(self, row: Row, work: Callable[[], Awaitable[object]]) -> bool:
        """Do something for a user who comes here, again and again until it is done; False: it is another host's user now."""
        said = ""
        while True:
            try:
                await work()
            except WaportdError as error:
                if error.message != said:
                    log.warning("Cannot take in the user yet: %s", error, extra=log_fields(User(row.user)))
                said = error.message
            else:
                return True
            await asyncio.sleep(RETRY_S)
            if not self._is_same(row):
                return False

    async def _clean_up(self, state: State) -> None:
        """Delete what users have left here who do not need it any more."""
        if not self._store.left:
            return
        rows = {row.user: row for row in state.rows}
        used = {row.port for row in self._store.rows.values()} | {
            row.port for row in state.rows if row.user in self._coming
        }
        for port, left in list(self._store.left.items()):
            row = rows.get(left.user)
            if row is not None and (row.host == self._host.name or not _is_spare(left, row)):
                continue
            if port not in used:
                await self._users.clean(port)
                log.info("what user %s left here is deleted", left.user, extra=log_fields(port=port))
            await self._store.forget_left(port)

    def _is_same(self, row: Row) -> Row | None:
        """Return the newest row of a user who still belongs to this host, by the same token; None for any other."""
        state = self._follower.state
        if state is None or state.revision < row.revision:
            return row  # this host has just taken it
        found = next((one for one in state.rows if one.user == row.user), None)
        return found if found is not None and found.token == row.token and self._is_ours(found) else None


def _is_spare(left: Left, row: Row) -> bool:
    """Return whether what a user has left is useless: the present owner has published a login, or it is old."""
    published = names(row.snapshot)
    return bool(published and published[0].token == row.token) or time.time() - left.at > _LEFT_FOR_S
