"""What this host keeps of the logins of other hosts' users: who may change it, and when nobody needs it any more.

This is a fence at the disk itself: a host that is the owner of a user no longer, and does not know it yet, changes nothing
that the next owner needs. A host deletes without being asked what it does not have to keep any more: so it does not matter
who was away when.
"""

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final, NoReturn, Protocol

from waportd.config import Config
from waportd.errors import StoreError, WaportdError
from waportd.fleet.directory import Directory
from waportd.fleet.engine import Row, State
from waportd.fleet.objects import Place
from waportd.model import User
from waportd.systemd.journal import log_fields

log = logging.getLogger(__name__)

LOOK_S: Final = 600.0
"""Seconds between two looks at what nobody needs any more."""
KEPT_S: Final = 86_400.0
"""Seconds for which it is kept all the same: the hosts that have it now are new at it."""


class NotOwner(WaportdError):
    """A host may not change what lies there, because it does not own the user, or not under that token."""

    code = "not_owner"
    status = 403
    title = "Another host owns the user"


class Overtaken(WaportdError):
    """The place was listed again since: what was to be deleted may be needed by now."""

    code = "overtaken"
    status = 409
    title = "A later call has overtaken this one"


class Fleet(Protocol):
    """The part of `Follower` that is needed here."""

    @property
    def state(self) -> State | None:
        """The newest state that is known here."""

    async def refresh(self) -> State:
        """Read the state now. Raises EngineUnavailable."""


def folder_in(config: Config) -> Path:
    """Return where a host keeps the logins of other hosts' users: beside its own store."""
    return config.store.database.parent / "snapshots"


def opened(folder: Path) -> Directory:
    """Return the store in a folder, which is made where it is missing. Raises StoreError."""
    try:
        Directory.create(folder)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be made: {error.strerror}",
            hint=f"look at its file system: findmnt --target {folder}",
        ) from error
    return Directory(folder)


class Holdings:
    """The store of this host, as the other hosts may use it. All calls raise what those of `Objects` do."""

    def __init__(
        self, name: str, directory: Directory, fleet: Fleet, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``clock`` gives seconds since any moment."""
        self._name = name
        self._directory = directory
        self._fleet = fleet
        self._clock = clock
        self._known: tuple[State | None, dict[str, Row]] = (None, {})
        self._tokens: dict[str, int] = {}
        """The highest token under which something was written, by user."""
        self._numbers = itertools.count(secrets.randbits(48))
        self._listed: dict[Place, int] = {}
        """The number of the last list of a place."""
        self._needless: dict[str, float] = {}
        """Since when nobody has needed what is kept of a user, nor begun to publish here."""

    # What other hosts ask for

    async def put(self, caller: str, place: Place, name: str, content: bytes) -> None:
        """Store an object of a user that the caller owns. Raises NotOwner, EngineUnavailable."""
        await self._admit(caller, place, self._may_write)
        if place.token < (seen := await self._seen(place.user)):
            raise _not_owner(caller, place, f"token {seen} was seen here")
        self._tokens[place.user] = place.token
        self._needless.pop(place.user, None)
        await self._directory.put(place, name, content)

    async def get(self, place: Place, name: str, most: int) -> bytes:
        """Return an object."""
        return await self._directory.get(place, name, most)

    async def list(self, place: Place) -> tuple[int, Mapping[str, int]]:
        """Return names and sizes, and the number of this list: with it, and no older one, `delete` may be called."""
        self._listed[place] = number = next(self._numbers)
        # With that a publication begins: what lies here is not sent again.
        self._needless.pop(place.user, None)
        return number, await self._directory.list(place)

    async def tokens(self, user: str) -> Collection[int]:
        """Return tokens."""
        return await self._directory.tokens(user)

    async def delete(self, caller: str, place: Place, objects: Collection[str], listed: int) -> None:
        """Delete objects of a user that the caller owns, or that was deleted. Raises NotOwner, Overtaken, EngineUnavailable.

        A call that was given up may come late, by another connection: ``listed`` is the number of the list it is based on.
        """
        await self._admit(caller, place, self._may_delete)
        if self._listed.get(place) != listed:
            raise Overtaken(
                f"user {place.user}, token {place.token} was listed again since",
                hint="list it, and try again",
            )
        await self._directory.delete(place, objects)

    # What is needed no longer

    async def run(self) -> NoReturn:
        """Delete what nobody needs any more, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except WaportdError as error:
                log.warning("Cannot look through the logins that this host keeps for others: %s", error)

    async def look(self) -> None:
        """Delete once what nobody needs any more. Raises EngineUnavailable, StoreUnavailable."""
        users = await self._directory.users()
        self._listed = {place: number for place, number in self._listed.items() if place.user in users}
        if not users:
            return
        state = await self._fleet.refresh()
        if not state.settled:
            return  # the engine may have forgotten rows
        for user in users:
            row = self._rows(state).get(user)
            if row is not None and self._name in row.copies:
                self._needless.pop(user, None)
                continue
            since = self._needless.setdefault(user, self._clock())
            is_deleted = row is None and user in state.tombstones
            if is_deleted or self._clock() - since >= KEPT_S:
                await self._discard(user, since)

    async def _discard(self, user: str, since: float) -> None:
        for token in await self._directory.tokens(user):
            place = Place(user, token)
            objects = await self._directory.list(place)
            if self._needless.get(user) != since:
                return  # somebody publishes here just now
            await self._directory.delete(place, objects)
        self._tokens.pop(user, None)
        log.info("the login is deleted here, where nobody needs it any more", extra=log_fields(User(user)))

    # Who may

    async def _admit(self, caller: str, place: Place, may: Callable[[State, str, Place], bool]) -> None:
        known = self._fleet.state
        if known is not None and may(known, caller, place):
            return
        # The caller may have the user since a moment ago.
        state = await self._fleet.refresh()
        if not may(state, caller, place):
            row = self._rows(state).get(place.user)
            raise _not_owner(caller, place, f"it is {row.host}, token {row.token}" if row else "it is nobody")

    def _may_write(self, state: State, caller: str, place: Place) -> bool:
        row = self._rows(state).get(place.user)
        return row is not None and (row.host, row.token) == (caller, place.token)

    def _may_delete(self, state: State, caller: str, place: Place) -> bool:
        row = self._rows(state).get(place.user)
        if row is None:
            return place.token <= state.tombstones.get(place.user, -1)
        return row.host == caller and place.token <= row.token

    async def _seen(self, user: str) -> int:
        if user not in self._tokens:
            found = await self._directory.tokens(user)
            self._tokens[user] = max(self._tokens.get(user, 0), *found, 0)
        return self._tokens[user]

    def _rows(self, state: State) -> dict[str, Row]:
        if self._known[0] is not state:
            self._known = state, {row.user: row for row in state.rows}
        return self._known[1]


def _not_owner(caller: str, place: Place, who: str) -> NotOwner:
    return NotOwner(
        f"host {caller} is not the owner of user {place.user} under token {place.token}: {who}",
        hint="nothing is to be done: the host gives the user up once it hears of it",
    )
