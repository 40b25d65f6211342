"""The part of the daemon that a fleet adds: takes users whose host is dead, gives up those who belong to another.

It decides nothing that another module decides better: `membership` says what may be done, `placement` who is due, and
the engine's transaction whether it happens. It is a loop over the newest state, so that nothing has to be remembered:
whatever was cut off is seen, and done, in the next round.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final, NoReturn, Protocol

from waportd.errors import WaportdError
from waportd.fleet.engine import Conflict, Engine, EngineUnavailable, Lease, Row, State, Unsettled
from waportd.fleet.follower import Follower
from waportd.fleet.lease import OwnLease
from waportd.fleet.membership import Membership, Standing
from waportd.fleet.placement import takeovers
from waportd.fleet.store import FleetStore
from waportd.model import Assignment, User
from waportd.systemd.journal import log_fields

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""Seconds between two looks, where nothing has changed."""


class Users(Protocol):
    """What is done with the users of this host. A call that fails is made again in the next round."""

    async def gain(self, assignment: Assignment) -> None:
        """Run a user who belongs to this host from now on."""

    async def lose(self, user: User) -> None:
        """Stop a user who belongs to this host no longer, if anything still runs, and forget everything but the files."""

    async def resume(self) -> None:
        """Write the environments and start who should run: nothing runs under a lease that is new."""


class Agent:
    """Acts for one host upon what the engine says."""

    def __init__(
        self,
        host: str,
        engine: Engine,
        store: FleetStore,
        lease: OwnLease,
        users: Users,
        membership: Membership,
        now: Callable[[], float],
    ) -> None:
        """``now`` is the clock of the membership, in seconds."""
        self._host = host
        self._engine = engine
        self._store = store
        self._lease = lease
        self._users = users
        self._membership = membership
        self._now = now
        self._wanted = asyncio.Event()
        self._said: str | None = None
        self._incarnation: int | None = None
        """That of the lease under which the users were last resumed."""
        self._noted: tuple[bool, frozenset[str]] | None = None
        self.follower: Final = Follower(engine, membership, now, self._wanted.set)

    async def run(self) -> NoReturn:
        """Act until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.follower.run())
            tasks.create_task(self._act())
        raise AssertionError  # neither ends

    @property
    def standing(self) -> Standing:
        """What this host may do now."""
        return self._membership.standing(self._now())

    async def begin(self, user: User) -> None:
        """Return when a user's session may be started; it is counted then.

        Raises LeaseLost, Unsettled, NotHere and StoreError.
        """
        if why := self.standing.unsettled:
            raise Unsettled(f"no session may be started: {why}", retry_after=5)
        await self._store.count_start(user)

    async def look(self) -> None:
        """Do once what is due. Raises EngineUnavailable, LeaseLost, Unsettled, StoreError."""
        state, standing = self.follower.state, self.standing
        await self._note_members()
        if state is None:
            return
        lease = self._lease.current().lease
        if not state.settled:
            await self._settle(lease, state, standing)
        elif standing.unsettled is None:
            await self._compare(state)
            if self._store.unsent.is_set():
                await self._store.send()
            await self._resume(lease)
            await self._take(lease, state, standing)

    async def _act(self) -> NoReturn:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._wanted.wait()
            self._wanted.clear()
            try:
                await self.look()
            except EngineUnavailable as error:
                self.follower.lose(error)
            except WaportdError as error:
                self._say(f"Cannot act for this host: {error}")
            else:
                self._said = None

    def _say(self, sentence: str) -> None:
        """Log a sentence, unless it is the last one."""
        if sentence != self._said:
            log.warning("%s", sentence)
        self._said = sentence

    async def _note_members(self) -> None:
        """Keep for the next start what this process has found out."""
        known = self._membership.established, self._membership.awaited
        if known != self._noted:
            await self._store.note_members(*known)
            self._noted = known

    async def _settle(self, lease: Lease, state: State, standing: Standing) -> None:
        """Put back what this host holds, in an engine that may have forgotten it; have it settled when all have."""
        if self._host not in state.confirmed:
            log.info("The engine is new, or was restored: puts back what this host holds")
            await self._store.reclaim()
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
            if row.revision and row.revision <= state.revision and not self._is_ours(theirs.get(user))
        ]
        if doubtful or any(self._is_ours(row) and self._store.is_new(row) for row in state.rows):
            # What this host has changed itself may not have come back yet.
            state = await self.follower.refresh()
            theirs = {row.user: row for row in state.rows}
        for user in doubtful:
            if not self._is_ours(found := theirs.get(user)):
                where = f"belongs to host {found.host} now" if found else "was deleted on another host"
                log.info("%s", where, extra=log_fields(user))
                await self._users.lose(user)
                await self._store.forget(user)
        for row in state.rows:
            if not self._is_ours(row):
                continue
            if self._store.was_deleted(row):
                log.info("deleted again: the engine had forgotten it", extra=log_fields(User(row.user)))
                await self._engine.delete(row)
            elif self._store.is_new(row):
                await self._gain(row)
            else:
                await self._store.note(row)

    def _is_ours(self, row: Row | None) -> bool:
        return row is not None and row.host == self._host

    async def _resume(self, lease: Lease) -> None:
        if self._incarnation != lease.incarnation:
            await self._users.resume()
            self._incarnation = lease.incarnation

    async def _take(self, lease: Lease, state: State, standing: Standing) -> None:
        """Take users of dead hosts, as many as are due here."""
        if not takeovers(self._host, state, standing.takeable).due:
            return
        # It is decided upon what the engine says now.
        state = await self.follower.refresh()
        for row in takeovers(self._host, state, self.standing.takeable).due:
            try:
                moved = await self._engine.move(lease, row, self._host)
            except Unsettled:
                raise
            except Conflict as error:
                log.info("not taken: %s", error, extra=log_fields(User(row.user)))
            else:
                log.info("taken from host %s, which is silent", row.host, extra=log_fields(User(row.user)))
                await self._gain(moved)

    async def _gain(self, row: Row) -> None:
        assignment = await self._store.adopt(row)
        await self._users.gain(assignment)
