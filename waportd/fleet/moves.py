"""Users on their way from this host, which lives, to others: those of a drain, and those who were ordered elsewhere.

The engine's transaction is the moment of a move. Before it nothing of the user runs here any more, and after it the
user is another host's, which takes the user in as it does everybody who is new there. Where the engine has not answered,
nothing of the user starts here before it has said whose the user is (`FleetStore.give`). So a crash of either host, or of
the engine, at any moment leaves the user on one host.
"""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from waportd.concurrency import Background
from waportd.errors import NotHere, StoreError, WaportdError
from waportd.fleet.drain import Move, due
from waportd.fleet.engine import (
    Conflict,
    Engine,
    EngineUnavailable,
    HostState,
    LeaseLost,
    Order,
    State,
    Unsettled,
)
from waportd.fleet.store import FleetStore
from waportd.model import User
from waportd.systemd.journal import log_fields

log = logging.getLogger(__name__)

_PAUSE_S: Final = 30.0
"""Seconds from a failure to the next try, where nothing keeps it from being tried: each costs the user a session."""

Save = Callable[[User], Awaitable[None]]
"""Has the login of a user whose session has ended reach the other hosts. Raises WaportdError where it does not."""


class LoginStays(WaportdError):
    """A user has a login, and there is no place where other hosts could find it."""

    code = "login_stays"
    status = 409
    title = "The login cannot go along"


class Leaving(Protocol):
    """What is done with the users of this host."""

    async def give(self, user: User, hand_over: Callable[[], Awaitable[bool]]) -> bool:
        """End all that runs of a user; return what ``hand_over`` returns: whether the user has gone. Who has not runs again."""

    def stay(self, user: User) -> None:
        """Run a user who belongs to this host after all."""


class Moves:
    """The moves of one host."""

    def __init__(
        self, engine: Engine, store: FleetStore, users: Leaving, at_once: Callable[[], int], save: Save | None
    ) -> None:
        """``at_once`` returns how many users may be under way. Without ``save``, who has a login stays."""
        self._engine = engine
        self._store = store
        self._users = users
        self._at_once = at_once
        self._save = save
        self._background = Background()
        self._failed: dict[str, tuple[Order, float]] = {}
        """What has just failed, and until when it is not tried again, whether or not the engine knows of it."""
        self.under_way: dict[str, str] = {}
        """The users whose move has begun, with their targets."""

    async def close(self) -> None:
        """Cut off what is under way: the next process finds out what has happened to it."""
        await self._background.close()

    async def idle(self) -> None:
        """Return when nobody is under way."""
        await self._background.idle()

    async def settle(self) -> None:
        """Find out whose the users are who may have gone, where a move was cut off.

        Raises EngineUnavailable, LeaseLost, Unsettled, StoreError.
        """
        for user in [user for user in self._store.leaving if user not in self.under_way]:
            try:
                await self._store.retain(user)
            except Unsettled:
                raise
            except (NotHere, Conflict) as error:
                # The next state shows whose the user is; until then nothing starts.
                log.info("%s", error, extra=log_fields(user))
            else:
                self._users.stay(user)

    async def begin(self, host: str, state: State) -> None:
        """Begin the moves that are due, and do not wait for them. Raises EngineUnavailable."""
        drains = any(each.name == host and each.state is HostState.DRAINING for each in state.hosts)
        if not drains and not state.orders:
            return
        leaving = due(host, self._as_known(host, state), at_once=self._at_once(), under_way=self.under_way)
        if leaving.moves:
            # While the engine is away, nobody is stopped for nothing.
            await self._engine.epoch()
        for row in state.rows if leaving.stuck else ():
            order = state.order_of(row)
            if order and not order.failed and row.user in leaving.stuck:
                await self._refuse(order, leaving.stuck[row.user])
        for move in leaving.moves:
            self.under_way[move.row.user] = move.host
            order = state.orders.get(move.row.user)
            self._background.run(
                self._move(move, order.revision if order else 0),
                f"move user {move.row.user} to host {move.host}",
            )

    def _as_known(self, host: str, state: State) -> State:
        """Return a state with what this host knows better: who has gone, and what has just failed."""
        now, here = time.monotonic(), self._store.rows
        self._failed = {user: each for user, each in self._failed.items() if each[1] > now}
        rows = tuple(row for row in state.rows if row.host != host or row.user in here)
        failed = {user: order for user, (order, _) in self._failed.items()}
        # Who was ordered again since is tried at once.
        new = {
            user: order
            for user, order in state.orders.items()
            if not order.failed and order.revision != (failed[user].revision if user in failed else 0)
        }
        return dataclasses.replace(state, rows=rows, orders={**state.orders, **failed, **new})

    async def _move(self, move: Move, known: int) -> None:
        """Move a user; ``known`` is the revision of the order that the engine has for the user, or 0."""
        user = User(move.row.user)
        order = Order(user, move.host, move.row.token, revision=known)
        try:
            self._check_login(user, move.host)
            log.info("goes to host %s", move.host, extra=log_fields(user))
            if await self._users.give(user, lambda: self._hand_over(user, move)):
                log.info("belongs to host %s now", move.host, extra=log_fields(user))
        except Exception as error:
            why = error.message if isinstance(error, WaportdError) else "an unexpected error"
            self._failed[user] = dataclasses.replace(order, failed=why), time.monotonic() + _PAUSE_S
            if not isinstance(error, EngineUnavailable | LeaseLost | Unsettled):
                await self._refuse(order, why)
            raise  # it is logged
        finally:
            del self.under_way[user]

    async def _hand_over(self, user: User, move: Move) -> bool:
        """Give a user who does not run any more to another host; return True, or raise where the user may still be here."""
        if self._save is not None and self._has_login(user):
            await self._save(user)
        with contextlib.suppress(NotHere):  # an earlier try had done it
            await self._store.give(user, move.host)
        try:
            await self._store.forget(user)
        except StoreError as error:
            # The user is another host's all the same, which the next state shows once more.
            log.warning("Cannot forget a user who has gone: %s", error, extra=log_fields(user))
        return True

    def _check_login(self, user: User, host: str) -> None:
        if self._save is None and self._has_login(user):
            raise LoginStays(
                f"user {user} would have to scan a code again on host {host}: logins do not move",
                hint="`snapshots: peers` in fleet.yaml, on all hosts, has them keep the logins for one another",
            )

    def _has_login(self, user: User) -> bool:
        # As this host knows it: what the engine knows may be older.
        return bool(self._store.rows[user].document.get("linked"))

    async def _refuse(self, order: Order, why: str) -> None:
        """Put on record why a user has not gone, unless there is another order by now. Raises EngineUnavailable."""
        with contextlib.suppress(Conflict):
            await self._engine.order(dataclasses.replace(order, failed=why))
