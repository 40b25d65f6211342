"""The tokens of a fleet: each is good on every host, and one that is deleted on none.

The engine has all of them, and each host a copy on its disk: while the engine is away, all hosts still know them. An
id is never used again. So a host remembers which tokens were deleted, and deletes them again where they come back: from
an engine that was restored, or from a host that was away.
"""

import asyncio
import contextlib
import dataclasses
import sqlite3
import time
from typing import Final

from waportd.fleet.engine import Conflict, Engine, EngineUnavailable, Fact, State
from waportd.model import User
from waportd.store import SqliteStore
from waportd.tokens import Kind, Token, Tokens

USES_S: Final = 600.0
"""Seconds from one note for the other hosts of when a token was used to the next."""
_FACTS: Final = "tokens/"
"""What the names of the facts begin with."""
_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS fleet_token (id TEXT PRIMARY KEY, deleted_at REAL) STRICT, WITHOUT ROWID
"""
"""The tokens that the engine has, or had."""
_REMEMBERED_S: Final = 366 * 86_400
"""Seconds for which a host remembers what was deleted."""


class FleetTokens(Tokens):
    """The tokens of all hosts, in memory."""

    def __init__(self, local: SqliteStore, engine: Engine) -> None:
        super().__init__(local)
        self._local = local
        self._engine = engine
        self._shared: set[str] = set()
        """Those that the engine has, or had."""
        self._deleted: set[str] = set()
        self._facts: dict[str, Fact] = {}
        """What the engine had of each at the last look."""
        self._written: dict[str, int] = {}
        """The revisions at which this process has written some, in the epoch of the last look."""
        self._last: State | None = None
        self._looking = asyncio.Lock()

    async def load(self) -> None:
        """Read them from the disk of this host. Raises StoreError."""
        self._shared, self._deleted = await self._local.run(_read)
        await super().load()
        for identifier in self._deleted & self._tokens.keys():
            del self._tokens[identifier]
            await self._local.remove_token(identifier)

    async def revoke(self, identifier: str) -> None:
        """Delete a token: it is invalid at once. Raises UnknownToken, StoreError.

        Raises EngineUnavailable where only this host knows it yet: the others know it as soon as the engine answers.
        """
        is_known = identifier in self._tokens
        if is_known:
            # Before anything is waited for: a look meanwhile must not take it for one that is new here.
            self._deleted.add(identifier)
        try:
            await super().revoke(identifier)
        except BaseException:
            # One that was deleted before stays so.
            if is_known:
                self._deleted.discard(identifier)
            raise
        await self._note(identifier, deleted=True)
        try:
            await self._engine.erase(_FACTS + identifier)
        except EngineUnavailable as error:
            raise EngineUnavailable(
                f"token {identifier} is deleted on this host, and the others do not know it yet: {error.message}",
                hint="they know it as soon as the engine answers; `waportctl fleet status` shows whether it does",
            ) from error

    async def look(self, state: State) -> None:
        """Do what is due upon a state of the fleet. Raises EngineUnavailable, StoreError."""
        async with self._looking:
            self._note_state(state)
            for identifier, fact in self._facts.items():
                if identifier in self._deleted:
                    await self._engine.erase(fact.name)
                elif (token := _token_of(identifier, fact)) is not None:
                    await self._learn(token)
            for token in self:
                if token.id in self._facts:
                    continue
                if token.id not in self._shared:
                    await self._share(token)
                elif state.settled and self._written.get(token.id, 0) <= state.revision:
                    await self._forget(token.id)

    async def reclaim(self) -> None:
        """Put back what the engine may have forgotten. Raises EngineUnavailable, StoreError."""
        for token in self:
            await self._share(token)

    async def _keep_new(self, token: Token) -> None:
        # First there: what only this host knows could be one that was deleted elsewhere.
        try:
            await self._share(token)
        except EngineUnavailable:
            # It may have happened, and the caller has not got the token.
            await self._note(token.id, deleted=True)
            raise
        await self._local.put_token(token)

    async def _keep_use(self, token: Token) -> None:
        fact, used = self._facts.get(token.id), token.last_used_at or 0
        if fact is not None and used - (fact.value.get("last_used_at") or 0) >= USES_S:
            with contextlib.suppress(Conflict, EngineUnavailable):
                await self._engine.write(dataclasses.replace(fact, value=_value(token)))
        if token.id in self._tokens:
            await self._local.put_token(token)

    def _note_state(self, state: State) -> None:
        last = self._last
        if last is not None and (state.epoch != last.epoch or state.revision < last.revision):
            self._written.clear()
        self._last = state
        self._facts = {
            name.removeprefix(_FACTS): fact for name, fact in state.facts.items() if name.startswith(_FACTS)
        }

    async def _learn(self, token: Token) -> None:
        """Take note of what the engine has of a token."""
        mine = self._tokens.get(token.id)
        if mine is None:
            await self._note(token.id)
            await self._local.put_token(token)
            self._tokens[token.id] = token
        elif token.id not in self._shared:
            await self._note(token.id)
        elif (token.last_used_at or 0) > (mine.last_used_at or 0):
            self._tokens[token.id] = token

    async def _share(self, token: Token) -> None:
        """Have the engine have a token."""
        with contextlib.suppress(Conflict):  # it has it
            written = await self._engine.write(Fact(_FACTS + token.id, _value(token)))
            self._written[token.id] = written.revision
        await self._note(token.id)

    async def _forget(self, identifier: str) -> None:
        """Forget a token that was deleted on another host."""
        self._tokens.pop(identifier, None)
        await self._note(identifier, deleted=True)
        await self._local.remove_token(identifier)

    async def _note(self, identifier: str, *, deleted: bool = False) -> None:
        """Keep whether a token was deleted; otherwise, that the engine has had it."""
        if not deleted and identifier in self._shared:
            return
        values = (identifier, time.time() if deleted else None)
        await self._local.run(lambda db: db.execute("REPLACE INTO fleet_token VALUES (?, ?)", values).close())
        self._shared.add(identifier)
        if deleted:
            self._deleted.add(identifier)


def _read(db: sqlite3.Connection) -> tuple[set[str], set[str]]:
    db.execute(_TABLE)
    db.execute("DELETE FROM fleet_token WHERE deleted_at < ?", (time.time() - _REMEMBERED_S,))
    rows = db.execute("SELECT id, deleted_at FROM fleet_token").fetchall()
    return {identifier for identifier, _ in rows}, {identifier for identifier, at in rows if at is not None}


def _value(token: Token) -> dict[str, object]:
    values = dataclasses.asdict(token)
    del values["id"]
    return values


def _token_of(identifier: str, fact: Fact) -> Token | None:
    """Return the token that a fact holds; None for one that this waportd does not understand, which allows nothing."""
    value = fact.value
    try:
        return Token(
            identifier,
            str(value["name"]),
            None if value["user"] is None else User(str(value["user"])),
            str(value["digest"]),
            float(value["created_at"]),
            None if value["last_used_at"] is None else float(value["last_used_at"]),
            None if value["scope"] is None else Kind(value["scope"]),
            None if value["expires_at"] is None else float(value["expires_at"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
