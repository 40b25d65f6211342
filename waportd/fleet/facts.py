"""What all hosts have in common beside the users is kept the same on this one: tokens, and the key of connect links."""

import asyncio
import logging
from typing import Final, NoReturn

from waportd.connect_links import Links
from waportd.errors import WaportdError
from waportd.fleet.chunks import FleetKeys
from waportd.fleet.engine import Engine, EngineUnavailable
from waportd.fleet.follower import Follower
from waportd.fleet.link_key import LinkKey
from waportd.fleet.tokens import FleetTokens
from waportd.store import SqliteStore
from waportd.tokens import Tokens

log = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
"""Seconds from a failure to the next try."""


class Facts:
    """Follows what the engine has of them."""

    def __init__(self, local: SqliteStore, engine: Engine, keys: FleetKeys, follower: Follower) -> None:
        self._follower = follower
        self._changed = follower.subscribe()
        self._tokens = FleetTokens(local, engine)
        self._link_key = LinkKey(local, engine, keys)
        self._said: str | None = None

    async def load(self) -> tuple[Tokens, Links]:
        """Return the tokens and the links, as the disk of this host has them. Raises StoreError, KeyUnusable."""
        await self._tokens.load()
        return self._tokens, await self._link_key.load()

    async def reclaim(self) -> None:
        """Put back what an engine that was restored may have forgotten. Raises EngineUnavailable, StoreError."""
        await self._tokens.reclaim()

    async def run(self) -> NoReturn:
        """Follow until it is cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._look()
            except WaportdError as error:
                if error.message != self._said and not isinstance(error, EngineUnavailable):
                    log.warning("Cannot keep tokens and links the same as on the other hosts: %s", error)
                self._said = error.message
                self._changed.set()
                await asyncio.sleep(_RETRY_S)
            else:
                self._said = None

    async def _look(self) -> None:
        state = self._follower.state
        if state is not None:
            await self._link_key.look(state)
            await self._tokens.look(state)
