"""What the daemon remembers of each user while it runs, beside the store and the registry.

One object per user. It begins with the assignment, or with the request for one, and is dropped with the user. Limits
that outlive a user (of pairing codes, of passkeys, of starts after a deletion) are kept elsewhere.

Order of locks: a user's `Runtime.lock` first, then `Runtime.starting`, then what the store needs. A holder of
`starting` never waits for a `lock`.
"""

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Iterator

from waportd.concurrency import KeyedLocks
from waportd.model import User

NEVER = float("-inf")
"""By the monotonic clock: before anything."""


class Runtime:
    """One user. Times are of the monotonic clock."""

    # There are as many as users: ten thousand without a dict of their own save 1 MB.
    __slots__ = (
        "__weakref__",
        "_locks",
        "asked_at",
        "failed_at",
        "is_admitted",
        "is_asked",
        "is_prepared",
        "is_queued",
        "relayed_at",
        "retried",
        "retry",
        "start",
        "used_at",
        "user",
    )

    def __init__(self, user: User, locks: KeyedLocks[tuple[User, str]]) -> None:
        """``locks`` are those of all users: the next caller gets the same ones, even after this object has gone."""
        self.user = user
        self._locks = locks
        self.start: asyncio.Task[None] | None = None
        """The start that is under way, though the unit may not show it yet."""
        self.is_asked = False
        """Whether the start that is under way was requested, and not only caused by a page that polls, or a plan."""
        self.asked_at = NEVER
        """When it was last requested, which may be long after it began."""
        self.is_prepared = False
        """Whether the environment of the start that is under way was written just now, as the port was assigned."""
        self.is_admitted = False
        """Whether it has got past the limits."""
        self.retry: asyncio.TimerHandle | None = None
        """Begins the next start of a linked session whose last one failed."""
        self.retried = 0
        """How often in a row its start was retried without a request."""
        self.failed_at = NEVER
        """When the last start failed."""
        self.used_at = NEVER
        """When this user was last requested."""
        self.relayed_at = NEVER
        """When the server last got notice that a code is still asked for."""
        self.is_queued = False
        """Whether the linked session waits for its turn to start, or has it."""

    @property
    def lock(self) -> asyncio.Lock:
        """Held by a change of the assignment, for the whole use case."""
        return self._locks[self.user, "assignment"]

    @property
    def starting(self) -> asyncio.Lock:
        """Held by a start, and by work that a start must not disturb."""
        return self._locks[self.user, "start"]

    @contextlib.asynccontextmanager
    async def no_start(self) -> AsyncIterator[None]:
        """Cancel the user's start, and let none begin inside the block: a page that polls asks all the time.

        A start that is requested meanwhile continues afterwards, if the user is still to run.
        """
        lock = self.starting
        if self.start is not None:
            self.start.cancel()
        async with lock:
            yield


class Runtimes:
    """The users' objects. One without an assignment lives as long as it is referenced."""

    def __init__(self) -> None:
        self._kept: dict[User, Runtime] = {}
        self._others: weakref.WeakValueDictionary[User, Runtime] = weakref.WeakValueDictionary()
        self._locks: KeyedLocks[tuple[User, str]] = KeyedLocks()

    def __getitem__(self, user: User) -> Runtime:
        runtime = self._kept.get(user) or self._others.get(user)
        if runtime is None:
            runtime = self._others[user] = Runtime(user, self._locks)
        return runtime

    def __iter__(self) -> Iterator[Runtime]:
        return iter([*self._kept.values(), *self._others.values()])

    def keep(self, user: User) -> None:
        """Keep the object of a user who has an assignment."""
        self._kept[user] = self[user]
        self._others.pop(user, None)

    def drop(self, user: User) -> None:
        """Forget a user. A holder of one of the locks keeps it; the rest is gone."""
        runtime = self._kept.pop(user, None)
        if runtime is None:
            return
        self._others[user] = runtime
        if runtime.retry is not None:
            runtime.retry.cancel()
        runtime.retry, runtime.retried = None, 0
        runtime.failed_at = runtime.used_at = runtime.relayed_at = NEVER
