"""The one registry of all users in memory, from which every read is answered."""

import asyncio
import collections
import dataclasses
import secrets
from collections.abc import Callable, Iterator

from waportd.model import (
    BUNDLED,
    Assignment,
    Passkey,
    PasskeyStage,
    Port,
    Process,
    Session,
    SessionState,
    Storage,
    User,
)
from waportd.proxies import AUTO
from waportd.quotas import TURN_S, WOKEN_PER_TURN

REMEMBERED_CHANGES = 1000
"""Removed users that readers of changes are shown; a reader that missed more gets everything again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """The known state of a user's server."""

    assignment: Assignment
    process: Process = dataclasses.field(default_factory=Process)
    session: Session | None = None
    """None until the server has reported. Outlives the process: the last report of a server that ended."""
    answering: bool = False
    """The server's event stream is open, so ``session`` is current."""
    engine: str = BUNDLED
    """The version of whatsapp-web.js for the server's next start."""
    proxy: str = AUTO
    """The proxy for its browser's next start, without the password."""
    host: str | None = None
    """The host of the fleet that has the user; None on a host of its own."""
    held: bool = False
    """systemd holds the port for the user, so that callers reach no other program."""

    @property
    def storage(self) -> Storage | None:
        """What the session keeps on disk, as last measured: by this server or by an earlier one."""
        said = self.session.storage if self.session else None
        return said or self.assignment.storage

    def live_qr(self, now: float) -> str | None:
        """Return the code that can be scanned at this time, in seconds since the epoch; never an expired one."""
        session = self.session
        if (
            not self.answering
            or session is None
            or session.state is not SessionState.QR
            or session.expires_at is None
            or session.expires_at <= now
        ):
            return None
        return session.qr

    @property
    def passkey(self) -> Passkey | None:
        """WhatsApp's passkey request; None where there is none, or the server does not report."""
        return self.session.passkey if self.answering and self.session else None

    @property
    def hint(self) -> str | None:
        """How to fix the session, or the next step. For a passkey that is a page that its server does not know."""
        if self.passkey is not None and self.passkey.stage in {PasskeyStage.OPENING, PasskeyStage.ASKED}:
            return f"open the connect link: `POST /v1/users/{self.assignment.user}/connect-link` makes one"
        return self.session.hint if self.session else None

    def code_ends_at(self, now: float) -> float:
        """Return when the code that is live at ``now`` expires; never (infinity) where there is none.

        Anything that follows from an instance alone holds until then.
        """
        if self.live_qr(now) is None or self.session is None or self.session.expires_at is None:
            return float("inf")
        return self.session.expires_at


@dataclasses.dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Change:
    """The last change of a user. Lives until the next one, and compares by identity."""

    version: int
    """Counts all changes of a registry: a later change has a higher one."""
    user: User
    instance: Instance | None
    """The instance since then; None where the user was removed."""


class Registry:
    """Holds the instances; wakes those that wait for a change of one, or of any.

    It decides nothing: the supervisor and the event streams write, all others read.
    """

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(4)
        """The id of this registry: versions of another one mean nothing here."""
        self.version = 0
        """The version of the last change."""
        self.released = False
        """All waits have ended."""
        self._instances: dict[User, Instance] = {}
        self._users: dict[Port, User] = {}
        self._changes: dict[User, Change] = {}
        """The last change of each user, in the order in which they happened."""
        self._removals: collections.deque[Change] = collections.deque()
        self._forgotten = 0
        """Version of the newest removal that was forgotten."""
        self._waiters: dict[User | None, set[asyncio.Future[None]]] = {}
        self._woken: dict[User | None, collections.deque[asyncio.Future[None]]] = {}
        """Waiters whose change has come, and whose turn is still to come."""
        self._turn: asyncio.TimerHandle | None = None
        """By the user that they wait for; None is any."""

    @property
    def waiting(self) -> dict[User | None, int]:
        """How many wait for a change of each user; None is any."""
        return {user: len(waiters) for user, waiters in self._waiters.items()}

    @property
    def remembered(self) -> int:
        """How many changes are remembered: the last one of each user, removals among them."""
        return len(self._changes)

    def get(self, user: User) -> Instance | None:
        """Return the user's instance, or None if no port is assigned."""
        return self._instances.get(user)

    def on_port(self, port: Port) -> Instance | None:
        """Return the instance that owns the port."""
        user = self._users.get(port)
        return None if user is None else self._instances[user]

    def owners(self) -> dict[Port, User]:
        """Return who owns which port. The live table: to be read, not kept or changed."""
        return self._users

    def __iter__(self) -> Iterator[Instance]:
        return iter(self._instances.values())

    def __len__(self) -> int:
        return len(self._instances)

    def put(self, instance: Instance) -> None:
        """Replace the user's instance, and wake those who wait if anything changed."""
        user = instance.assignment.user
        before = self._instances.get(user)
        if before == instance:
            # Values that cannot be compared may have changed.
            self._instances[user] = instance
            return
        if before is not None and before.assignment.port != instance.assignment.port:
            del self._users[before.assignment.port]
        self._instances[user] = instance
        self._users[instance.assignment.port] = user
        self._note(user, instance)

    def remove(self, user: User) -> None:
        """Forget a user."""
        instance = self._instances.pop(user, None)
        if instance is not None:
            del self._users[instance.assignment.port]
            self._removals.append(self._note(user, None))
            if len(self._removals) > REMEMBERED_CHANGES:
                self._forget(self._removals.popleft())

    def change_of(self, user: User) -> Change | None:
        """Return the user's last change; None for an unknown user, or one whose removal is forgotten."""
        return self._changes.get(user)

    def changes_since(self, version: int, most: int) -> list[Change]:
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

    async def wait(
        self,
        user: User,
        until: Callable[[Instance | None], bool],
        timeout: float,  # noqa: ASYNC109  # the registry is returned, not an exception raised, when time is up
    ) -> Instance | None:
        """Return the instance once ``until`` holds, or as it is after ``timeout`` seconds or `release`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            instance = self._instances.get(user)
            left = deadline - loop.time()
            if until(instance) or self.released or left <= 0:
                return instance
            await self._next_change(user, left)

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

    def _note(self, user: User, instance: Instance | None) -> Change:
        self.version += 1
        self._changes.pop(user, None)
        self._changes[user] = change = Change(self.version, user, instance)
        self._wake(user)
        self._wake(None)
        return change

    def _forget(self, removal: Change) -> None:
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
