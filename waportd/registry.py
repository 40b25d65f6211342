"""The one registry of all users in memory, from which every read is answered."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator

from waportd.change_log import ChangeLog
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


class Registry(ChangeLog[Instance]):
    """Holds the instances; wakes those that wait for a change of one, or of any.

    It decides nothing: the supervisor and the event streams write, all others read.
    """

    def __init__(self) -> None:
        super().__init__()
        self._instances: dict[User, Instance] = {}
        self._users: dict[Port, User] = {}

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
        self.note(user, instance)

    def remove(self, user: User, *, left: bool = False) -> None:
        """Forget a user, who was deleted, or is another host's from now on (``left``)."""
        instance = self._instances.pop(user, None)
        if instance is not None:
            del self._users[instance.assignment.port]
            self.note_removal(user, left=left)

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
