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
"""Removed users who are told to those that ask what changed; who was away for more sees everything anew."""


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """A user's server as it is known to be now."""

    assignment: Assignment
    process: Process = dataclasses.field(default_factory=Process)
    session: Session | None = None
    """None until the server has said something. Outlives the process: the last word of a server that ended."""
    answering: bool = False
    """The server's event stream is open, so ``session`` is what it says now."""
    engine: str = BUNDLED
    """Which version of whatsapp-web.js the server starts with next."""
    proxy: str = AUTO
    """The proxy that its browser takes next, as anybody may see it."""
    held: bool = False
    """systemd holds the port for the user, so that who calls it calls nobody else."""

    @property
    def storage(self) -> Storage | None:
        """What the session keeps on disk, as it was measured last: by this server or by an earlier one."""
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
        """What WhatsApp wants of a passkey now; None where it wants none, or the server is not heard."""
        return self.session.passkey if self.answering and self.session else None

    @property
    def hint(self) -> str | None:
        """What mends the session, or is the next step. That to a passkey leads by a page that its server knows not."""
        if self.passkey is not None and self.passkey.stage in {PasskeyStage.OPENING, PasskeyStage.ASKED}:
            return f"open the connect link: `POST /v1/users/{self.assignment.user}/connect-link` makes one"
        return self.session.hint if self.session else None

    def code_ends_at(self, now: float) -> float:
        """Return when the code that is live at ``now`` ends to be so; never (infinity) where there is none.

        What follows from an instance alone holds until then.
        """
        if self.live_qr(now) is None or self.session is None or self.session.expires_at is None:
            return float("inf")
        return self.session.expires_at


@dataclasses.dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Change:
    """The last thing that happened to a user. Lives until the next one does, and compares by identity."""

    version: int
    """Counts all changes of a registry: a later change has a higher one."""
    user: User
    instance: Instance | None
    """What the user's server is since; None where the user was removed."""


class Registry:
    """Holds the instances; wakes whoever waits for a change of one, or of any.

    Not a place for decisions: the supervisor and the event streams write, everybody reads.
    """

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(4)
        """Names this registry: versions of another one mean nothing here."""
        self.version = 0
        """That of the last change."""
        self.released = False
        """No wait lasts any more."""
        self._instances: dict[User, Instance] = {}
        self._users: dict[Port, User] = {}
        self._changes: dict[User, Change] = {}
        """The last one of each user, in the order in which they happened."""
        self._removals: collections.deque[Change] = collections.deque()
        self._forgotten = 0
        """Version of the last removal that is not remembered any more."""
        self._waiters: dict[User | None, set[asyncio.Future[None]]] = {}
        self._woken: dict[User | None, collections.deque[asyncio.Future[None]]] = {}
        """Waiters whose change has come, and whose turn is still to come."""
        self._turn: asyncio.TimerHandle | None = None
        """By whom they wait for; None is anybody."""

    @property
    def waiting(self) -> dict[User | None, int]:
        """How many wait for a change of each user; None is anybody."""
        return {whom: len(waiters) for whom, waiters in self._waiters.items()}

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
            # What does not compare may have changed.
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
        """Return the user's last change; None for one who never was here, or whose removal is forgotten."""
        return self._changes.get(user)

    def changes_since(self, version: int, most: int) -> list[Change]:
        """Return the last change of every user who changed after that version, the oldest first, ``most`` of them.

        Whoever goes on from the last one's version misses nobody, and sees of each only the newest state.
        """
        newest_first = []
        for change in reversed(self._changes.values()):
            if change.version <= version:
                break
            newest_first.append(change)
        return newest_first[: -most - 1 : -1]

    def remembers(self, version: int) -> bool:
        """Return whether `changes_since` that version is all that happened since."""
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
        """Return once there is a change of anybody ``after`` that version, after ``timeout`` seconds or `release`."""
        if self.version <= after and not self.released:
            await self._next_change(None, timeout)

    async def _next_change(self, whom: User | None, timeout: float) -> None:  # noqa: ASYNC109
        """Return at the next change, or after ``timeout`` seconds."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.setdefault(whom, set()).add(waiter)
        alarm = loop.call_later(timeout, _finish, waiter)
        try:
            await waiter
        finally:
            alarm.cancel()
            waiters = self._waiters.get(whom)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._waiters[whom]

    def _note(self, user: User, instance: Instance | None) -> Change:
        self.version += 1
        self._changes.pop(user, None)
        self._changes[user] = change = Change(self.version, user, instance)
        self._wake(user)
        self._wake(None)
        return change

    def _forget(self, removal: Change) -> None:
        # Who came back meanwhile has a newer change.
        if self._changes.get(removal.user) is removal:
            del self._changes[removal.user]
            self._forgotten = removal.version

    def _wake(self, whom: User | None) -> None:
        waiters = self._waiters.pop(whom, None)
        if waiters:
            self._woken.setdefault(whom, collections.deque()).extend(waiters)
            if self._turn is None:
                self._wake_some()

    def _wake_some(self) -> None:
        """Wake a few, and the rest later: a thousand streams that write at once would keep all other callers waiting."""
        for whom, waiters in list(self._woken.items()):
            for _ in range(min(WOKEN_PER_TURN, len(waiters))):
                _finish(waiters.popleft())
            if not waiters:
                del self._woken[whom]
        self._turn = asyncio.get_running_loop().call_later(TURN_S, self._wake_some) if self._woken else None


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
