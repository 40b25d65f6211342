"""The changes of users, numbered, and those who wait for them: what a stream of events is made of."""

import asyncio
import collections
import dataclasses
import secrets
from typing import Generic, TypeVar

from waportd.model import User
from waportd.quotas import TURN_S, WOKEN_PER_TURN

T = TypeVar("T")

REMEMBERED_CHANGES = 1000
"""Removed users that readers of changes are shown; a reader that missed more gets everything again."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Change(Generic[T]):
    """The last change of a user. Lives until the next one, and compares by identity."""

    version: int
    """Counts all changes of a log: a later change has a higher one."""
    user: User
    value: T | None
    """What is known of the user since then; None where the user was removed."""
    left: bool = False
    """The user was removed here, and not deleted: another host of the fleet has the user."""


class ChangeLog(Generic[T]):
    """Remembers the last change of each user; wakes those that wait for a change of one, or of any."""

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(4)
        """The id of this log: versions of another one mean nothing here."""
        self.version = 0
        """The version of the last change."""
        self.released = False
        """All waits have ended."""
        self._changes: dict[User, Change[T]] = {}
        """The last change of each user, in the order in which they happened."""
        self._removals: collections.deque[Change[T]] = collections.deque()
        self._forgotten = 0
        """Version of the newest removal that was forgotten."""
        self._waiters: dict[User | None, set[asyncio.Future[None]]] = {}
        self._woken: dict[User | None, collections.deque[asyncio.Future[None]]] = {}
        """Waiters whose change has come, and whose turn is still to come; by the user that they wait for, None is any."""
        self._turn: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> dict[User | None, int]:
        """How many wait for a change of each user; None is any."""
        return {user: len(waiters) for user, waiters in self._waiters.items()}

    @property
    def remembered(self) -> int:
        """How many changes are remembered: the last one of each user, removals among them."""
        return len(self._changes)

    def note(self, user: User, value: T) -> None:
        """Take note of what is known of a user from now on, and wake those who wait."""
        self._note(user, value)

    def note_removal(self, user: User, *, left: bool = False) -> None:
        """Take note that a user was removed here: deleted, or gone to another host (``left``)."""
        self._removals.append(self._note(user, None, left=left))
        if len(self._removals) > REMEMBERED_CHANGES:
            self._forget(self._removals.popleft())

    def change_of(self, user: User) -> Change[T] | None:
        """Return the user's last change; None for an unknown user, or one whose removal is forgotten."""
        return self._changes.get(user)

    def changes_since(self, version: int, most: int) -> list[Change[T]]:
        """Return the last change of every user who changed after that version, the oldest first, ``most`` of them.

        A reader that continues from the last one's version misses no user, and sees only the newest state of each.
        """
        newest_first = []
        for change in reversed(self._changes.values()):
            if change.version <= version:
                break
            newest_first.append(change)
        return newest_first[: -most - 1 : -1]

    def remembers(self, version: int) -> bool:
        """Return whether `changes_since` that version returns all changes since."""
        return self._forgotten <= version <= self.version

    def release(self) -> None:
        """End every wait now and from now on: the daemon is going down and another takes over."""
        self.released = True
        for waiters in (*self._woken.values(), *self._waiters.values()):
            for waiter in waiters:
                _finish(waiter)

    async def wait_for_change(
        self,
        after: int,
        timeout: float,  # noqa: ASYNC109  # as above
    ) -> None:
        """Return once there is a change of any user ``after`` that version, after ``timeout`` seconds or `release`."""
        if self.version <= after and not self.released:
            await self._next_change(None, timeout)

    async def _next_change(self, user: User | None, timeout: float) -> None:  # noqa: ASYNC109
        """Return at the next change, or after ``timeout`` seconds."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.setdefault(user, set()).add(waiter)
        alarm = loop.call_later(timeout, _finish, waiter)
        try:
            await waiter
        finally:
            alarm.cancel()
            waiters = self._waiters.get(user)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._waiters[user]

    def _note(self, user: User, value: T | None, *, left: bool = False) -> Change[T]:
        self.version += 1
        self._changes.pop(user, None)
        self._changes[user] = change = Change(self.version, user, value, left)
        self._wake(user)
        self._wake(None)
        return change

    def _forget(self, removal: Change[T]) -> None:
        # A user who came back meanwhile has a newer change.
        if self._changes.get(removal.user) is removal:
            del self._changes[removal.user]
            self._forgotten = removal.version

    def _wake(self, user: User | None) -> None:
        waiters = self._waiters.pop(user, None)
        if waiters:
            self._woken.setdefault(user, collections.deque()).extend(waiters)
            if self._turn is None:
                self._wake_some()

    def _wake_some(self) -> None:
        """Wake a few, and the rest later: a thousand streams that write at once would keep all other callers waiting."""
        for user, waiters in list(self._woken.items()):
            for _ in range(min(WOKEN_PER_TURN, len(waiters))):
                _finish(waiters.popleft())
            if not waiters:
                del self._woken[user]
        self._turn = asyncio.get_running_loop().call_later(TURN_S, self._wake_some) if self._woken else None


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
