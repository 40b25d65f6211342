"""The one picture of all users in memory, from which every read is answered."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator

from waportd.model import Assignment, Port, Process, Session, SessionState, User


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """A user's server as it is known to be now."""

    assignment: Assignment
    process: Process = dataclasses.field(default_factory=Process)
    session: Session | None = None
    """None until the server has said something. Outlives the process: the last word of a server that ended."""
    answering: bool = False
    """The server's event stream is open, so ``session`` is what it says now."""

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


class Picture:
    """Holds the instances; wakes whoever waits for a change of one.

    Not a place for decisions: the supervisor and the event streams write, everybody reads.
    """

    def __init__(self) -> None:
        self._instances: dict[User, Instance] = {}
        self._users: dict[Port, User] = {}
        self._waiters: dict[User, set[asyncio.Future[None]]] = {}
        self.released = False
        """No wait lasts any more."""

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
            return
        if before is not None and before.assignment.port != instance.assignment.port:
            del self._users[before.assignment.port]
        self._instances[user] = instance
        self._users[instance.assignment.port] = user
        self._wake(user)

    def remove(self, user: User) -> None:
        """Forget a user."""
        instance = self._instances.pop(user, None)
        if instance is not None:
            del self._users[instance.assignment.port]
            self._wake(user)

    def release(self) -> None:
        """End every wait now and from now on: the daemon is going down and another takes over."""
        self.released = True
        for user in list(self._waiters):
            self._wake(user)

    async def wait(
        self,
        user: User,
        until: Callable[[Instance | None], bool],
        timeout: float,  # noqa: ASYNC109  # the picture is returned, not an exception raised, when time is up
    ) -> Instance | None:
        """Return the instance once ``until`` holds, or as it is after ``timeout`` seconds or `release`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            instance = self._instances.get(user)
            left = deadline - loop.time()
            if until(instance) or self.released or left <= 0:
                return instance
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.setdefault(user, set()).add(waiter)
            alarm = loop.call_later(left, _finish, waiter)
            try:
                await waiter
            finally:
                alarm.cancel()
                waiters = self._waiters.get(user)
                if waiters is not None:
                    waiters.discard(waiter)
                    if not waiters:
                        del self._waiters[user]

    def _wake(self, user: User) -> None:
        for waiter in self._waiters.pop(user, ()):
            _finish(waiter)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
