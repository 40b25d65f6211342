"""What connect links are signed with, the same on all hosts: a link is good wherever its page is opened.

The engine has no secret: the key is derived from the fleet's key, which all hosts have as a file, and from what the
engine has, which is another value when all links are revoked.
"""

import dataclasses
import json
import secrets
import sqlite3
from typing import Any, Final, Self

from waportd.connect_links import Links
from waportd.fleet.chunks import KEY_BYTES, FleetKeys
from waportd.fleet.engine import Conflict, Engine, Fact, State
from waportd.store import SqliteStore

_FACT: Final = "links"
_TRIES: Final = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Generation:
    """What the key is derived from, beside the fleet's key."""

    number: int
    """Greater with each time that all links were revoked."""
    salt: str
    """Random, so that no number leads to the same key twice, whatever an engine that was restored has forgotten."""
    fleet_key: int
    """The number of the fleet's key."""

    @classmethod
    def of(cls, value: Any) -> Self | None:
        """Return the one that a fact holds; None where it holds none."""
        try:
            return cls(int(value["number"]), str(value["salt"]), int(value["fleet_key"]))
        except (KeyError, TypeError, ValueError):
            return None


class LinkKey:
    """Keeps the key of the links the same as on the other hosts."""

    def __init__(self, local: SqliteStore, engine: Engine, keys: FleetKeys) -> None:
        self._local = local
        self._engine = engine
        self._keys = keys
        self._known: Generation | None = None
        self._links: Links

    async def load(self) -> Links:
        """Return the links of this host, as its disk knows the key. Raises StoreError, KeyUnusable."""
        known = await self._local.run(_read)
        self._known = Generation.of(json.loads(known)) if known else None
        # Before the first word of the engine, links are good on this host only.
        key = self._derive(self._known) if self._known else secrets.token_bytes(KEY_BYTES)
        self._links = Links(key, self._renew)
        return self._links

    async def look(self, state: State) -> None:
        """Do what is due upon a state of the fleet. Raises EngineUnavailable, StoreError, KeyUnusable."""
        fact, known = state.facts.get(_FACT), self._known
        theirs = Generation.of(fact.value) if fact else None
        if fact is not None and theirs is None:
            return  # a newer waportd wrote it
        if theirs is None or (known is not None and known.number > theirs.number):
            # Nobody has written it yet, or the engine was restored.
            mine = known or self._next(None)
            if await self._write(mine, fact):
                await self._adopt(mine)
        elif theirs != known:
            await self._adopt(theirs)

    async def _renew(self) -> bytes:
        """Have all hosts use another key; return it. Raises EngineUnavailable, Conflict, StoreError, KeyUnusable."""
        for _ in range(_TRIES):
            fact = (await self._engine.state()).facts.get(_FACT)
            new = self._next(Generation.of(fact.value) if fact else None)
            if await self._write(new, fact):
                await self._adopt(new)
                return self._derive(new)
        raise Conflict("the key of the links changes again and again", hint="ask again in a moment")

    def _next(self, theirs: Generation | None) -> Generation:
        number = max(one.number for one in (theirs, self._known, Generation(0, "", 0)) if one) + 1
        return Generation(number, secrets.token_hex(16), self._keys.newest)

    async def _write(self, generation: Generation, fact: Fact | None) -> bool:
        """Return whether the engine has it now; otherwise another host was faster."""
        new = Fact(_FACT, dataclasses.asdict(generation), fact.revision if fact else 0)
        try:
            await self._engine.write(new)
        except Conflict:
            return False
        return True

    async def _adopt(self, generation: Generation) -> None:
        self._links.use(self._derive(generation))
        value = json.dumps(dataclasses.asdict(generation))
        statement = "REPLACE INTO fleet_fact VALUES ('links', ?)"
        await self._local.run(lambda db: db.execute(statement, [value]).close())
        self._known = generation

    def _derive(self, generation: Generation) -> bytes:
        return self._keys.derive(generation.fleet_key, "connect links", generation.salt.encode())


def _read(db: sqlite3.Connection) -> str | None:
    found = db.execute("SELECT value FROM fleet_fact WHERE name = 'links'").fetchone()
    return str(found[0]) if found else None
