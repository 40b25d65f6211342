"""This host as one of a fleet: it may do for its users what its lease and the fleet allow."""

from collections.abc import Callable, Collection
from typing import Final

from waportd.errors import WaportdError
from waportd.fleet.engine import Engine, State, Unsettled
from waportd.fleet.follower import Follower
from waportd.fleet.lease import Environments, OwnLease
from waportd.fleet.membership import Membership, Standing
from waportd.fleet.sealing import Sealing
from waportd.fleet.store import FleetStore
from waportd.host import Fleet
from waportd.model import Port, User
from waportd.store import SqliteStore

_RETRY_AFTER_S: Final = 5


class Leaving(WaportdError):
    """The engine was asked to give the user to another host, and has not said yet whose the user is."""

    code = "leaving"
    status = 503
    title = "The user may be on another host by now"


class FleetHost:
    """What is known of this host and of the fleet, and what follows from it. It is a `waportd.host.Host`."""

    acts_at_once = False

    def __init__(
        self,
        name: str,
        engine: Engine,
        local: SqliteStore,
        lease: OwnLease,
        membership: Membership,
        now: Callable[[], float],
        fleet: Fleet | None = None,
        sealing: Sealing | None = None,
    ) -> None:
        """Count by the clock ``now`` of the membership, in seconds; ``fleet`` is how the API sees the other hosts.

        ``sealing`` is for the store (`FleetStore`).
        """
        self.name = name
        self.engine = engine
        self.lease = lease
        self.membership = membership
        self.store = FleetStore(local, engine, lambda: lease.current().lease, sealing)
        self.follower = Follower(engine, membership, now)
        self.fleet = fleet
        self._now = now
        self._elsewhere: tuple[State | None, dict[Port, str]] = (None, {})

    @property
    def standing(self) -> Standing:
        """What this host may do now."""
        return self.membership.standing(self._now())

    def environments(self) -> "AllowedEnvironments":
        """Return the folder of the lease that is held now. Raises LeaseLost, StoreError."""
        leaving = self.store.leaving
        return AllowedEnvironments(self.lease.current(), self.standing.unsettled, leaving.values())

    async def begin(self, user: User) -> None:
        """Return when a user's session may begin; it is counted then.

        Raises LeaseLost, Unsettled, Leaving, NotHere and StoreError.
        """
        _refuse(self.standing.unsettled)
        if user in self.store.leaving:
            raise _leaving(f"user {user}")
        await self.store.count_start(user)

    def elsewhere(self) -> dict[Port, str]:
        """Return the ports that users of other hosts have, each with words that follow "port N is"."""
        state, taken = self._elsewhere
        if state is not self.follower.state:
            state = self.follower.state
            taken = {
                Port(row.port): f"that of user {row.user} on host {row.host}"
                for row in (state.rows if state else ())
                if row.host != self.name
            }
            self._elsewhere = state, taken
        return taken


class AllowedEnvironments:
    """The environments of one lease. None is written while it is not known whose the users are."""

    def __init__(self, folder: Environments, unsettled: str | None, leaving: Collection[Port]) -> None:
        self._folder = folder
        self._unsettled = unsettled
        self._leaving = leaving

    def write(self, port: Port, text: str) -> bool:
        """Write a port's environment as a whole; return whether it changed.

        Raises Unsettled, Leaving, LeaseLost, StoreError.
        """
        _refuse(self._unsettled)
        if port in self._leaving:
            raise _leaving(f"the user of port {port}")
        return self._folder.write(port, text)

    def remove(self, port: Port) -> None:
        """Remove a port's environment; a missing one is no error. Raises StoreError."""
        self._folder.remove(port)

    def ports(self) -> list[Port]:
        """Return the ports that have an environment, in order. Raises StoreError."""
        return self._folder.ports()


def _leaving(who: str) -> Leaving:
    return Leaving(
        f"{who} may be on another host by now: the engine has not said yet",
        hint="ask again in a moment",
        retry_after=_RETRY_AFTER_S,
    )


def _refuse(unsettled: str | None) -> None:
    if unsettled is not None:
        raise Unsettled(
            f"no session may be started: {unsettled}",
            hint="`waportctl fleet status` says what is missing",
            retry_after=_RETRY_AFTER_S,
        )
