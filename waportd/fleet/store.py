"""The store of a host that belongs to a fleet: its own disk, and the engine, which says whose each user is.

Only the owner changes a user's row, and nobody takes a user from a host that holds its lease. So a change of a user who
is here waits for no engine: it is kept on disk, and sent at once or when the engine is back. What concerns the other
hosts, too, waits for the engine: a new user, whose name and port must be nobody else's, and a deletion.
"""

import asyncio
import contextlib
import dataclasses
import functools
import json
import logging
import sqlite3
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from waportd import errors
from waportd.errors import LoginComing, NotHere, StoreError
from waportd.fleet.engine import Conflict, Engine, EngineUnavailable, Lease, Row, Unsettled
from waportd.fleet.record import assignment_of, document_of
from waportd.fleet.sealing import Sealing
from waportd.model import Assignment, Port, User
from waportd.store import BUSY_TIMEOUT_S, SqliteStore, delete, insert
from waportd.systemd.journal import log_fields

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_TABLES: Final = (
    """
    CREATE TABLE IF NOT EXISTS fleet_row (
        user     TEXT PRIMARY KEY,
        row      TEXT NOT NULL,
        sent     INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS fleet_deleted (
        user  TEXT PRIMARY KEY,
        token INTEGER NOT NULL,
        at    REAL NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS fleet_left (
        port INTEGER PRIMARY KEY,
        user TEXT NOT NULL,
        at   REAL NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS fleet_published (
        user TEXT PRIMARY KEY,
        look TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE TABLE IF NOT EXISTS fleet_fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
)
"""Beside the assignments, in the same transactions. No step of the schema: a host without a fleet has no such tables."""

_DELETED_FOR_S: Final = 7 * 86_400
"""Seconds for which this host remembers what it has deleted: as long as the engine does, which may forget it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Left:
    """What a user who went to another host has left on this one: the folder of the session."""

    user: User
    at: float
    """When the user went, in seconds since the epoch."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """A row of this host as it has to be, with the revision, the token and the snapshot that the engine said last."""

    row: Row
    sent: bool
    """The engine has all of it."""
    asked_at: int = 0
    """The revision of the row for which the engine was last asked to make another host the owner; 0: never."""

    @property
    def may_go(self) -> bool:
        """Whether that may have happened, or may happen yet: nothing newer was heard of the row."""
        return 0 < self.row.revision <= self.asked_at


class FleetStore:
    """An `AllocationStore` of the users of one host."""

    def __init__(
        self,
        local: SqliteStore,
        engine: Engine,
        lease: Callable[[], Lease],
        sealing: Sealing | None = None,
    ) -> None:
        """``lease`` returns the lease that this host holds now, and raises LeaseLost where it holds none.

        Without ``sealing``, the engine sees the secrets of users.
        """
        self._sealing = sealing
        self._local = local
        self._engine = engine
        self._lease = lease
        self._kept: dict[User, Kept] = {}
        self._asked: set[User] = set()
        """The users for which the engine was asked for another owner: few of all."""
        self._writing = asyncio.Lock()
        """Held from the read of what a change starts from until the change is kept."""
        self._creating: set[User] = set()
        self._removing: set[User] = set()
        self._refused: dict[User, str] = {}
        """What was said of changes that the engine has refused."""
        self._deleted: dict[User, int] = {}
        """The token of each user that was deleted here."""
        self._left: dict[Port, Left] = {}
        self.unsent = asyncio.Event()
        """There is something for `send`."""

    # What a store is

    async def load(self) -> list[Assignment]:
        """Return the assignments of this host, as its disk has them. Raises StoreError."""
        rows, self._deleted, self._left = await self._local.run(_read_all)
        self._kept = {User(kept.row.user): kept for kept in map(_from_table, rows)}
        assignments = await self._local.load()
        for each in assignments:
            # From before the host joined: the engine has not heard of the user.
            new = Row(each.user, each.port, host="", document=document_of(each, sealing=self._sealing))
            self._kept.setdefault(each.user, Kept(new, sent=False))
        users = {each.user for each in assignments}
        self._kept = {user: kept for user, kept in self._kept.items() if user in users}
        self._asked = {user for user, kept in self._kept.items() if kept.may_go}
        self._wake()
        return assignments

    async def put(self, assignments: Iterable[Assignment]) -> None:
        """Keep assignments of this host.

        Raises StoreError; for a new user also EngineUnavailable, LeaseLost, Unsettled, LoginComing, and NotHere where
        another host has the user or the port.
        """
        for assignment in assignments:
            kept = self._kept.get(assignment.user)
            if kept is not None:
                await self._change(
                    assignment.user,
                    functools.partial(_changed, assignment=assignment, sealing=self._sealing),
                    assignment,
                )
                continue
            self._creating.add(assignment.user)
            try:
                await self._keep(await self._created(assignment), assignment)
            finally:
                self._creating.discard(assignment.user)
        self._wake()

    async def remove(self, user: User) -> None:
        """Forget a user, in the whole fleet; an unknown one is no error.

        Raises StoreError, EngineUnavailable, LeaseLost, Unsettled, and NotHere where the user was moved meanwhile.
        """
        kept = self._kept.get(user)
        if kept is None:
            return
        self._removing.add(user)
        try:
            if kept.row.revision:
                self._lease()
                await self._as_owner(kept.row, self._engine.delete)
            await self.forget(user, deleted=kept.row)
        finally:
            self._removing.discard(user)

    async def close(self) -> None:
        """Release the file."""
        await self._local.close()

    async def note_members(self, established: bool, members: frozenset[str]) -> None:  # noqa: FBT001
        """Keep what `Membership` has to know at the next start. Raises StoreError."""
        value = json.dumps({"established": established, "members": sorted(members)})
        statement = "REPLACE INTO fleet_fact VALUES ('membership', ?)"
        await self._local.run(lambda db: db.execute(statement, [value]).close())

    async def read_published(self) -> dict[User, Any]:
        """Return what `note_published` noted of each user. Raises StoreError."""
        rows = await self._local.run(
            lambda db: db.execute("SELECT user, look FROM fleet_published").fetchall()
        )
        return {User(user): json.loads(look) for user, look in rows}

    async def note_published(self, user: User, look: Any) -> None:
        """Keep for the next start how a login looked that is published by now. Raises StoreError."""
        values = (user, json.dumps(look))
        statement = "REPLACE INTO fleet_published VALUES (?, ?)"
        await self._local.run(lambda db: db.execute(statement, values).close())

    # What the host does with it

    @property
    def rows(self) -> Mapping[User, Row]:
        """The rows of this host, but for those that are just being removed."""
        return {user: kept.row for user, kept in self._kept.items() if user not in self._removing}

    @property
    def deleted(self) -> Mapping[User, int]:
        """The users that were deleted here in the last week, each with the row's last token."""
        return self._deleted

    def is_behind(self, row: Row) -> bool:
        """Return whether the disk of this host was put back: the engine has counted more starts under the same token."""
        kept = self._kept.get(User(row.user))
        return kept is not None and row.token == kept.row.token and row.runs > kept.row.runs

    def is_new(self, row: Row) -> bool:
        """Return whether a row of this host is that of a user who is not here, and is not being made here either."""
        return row.user not in self._kept and row.user not in self._creating

    def is_coming(self, row: Row) -> bool:
        """Return whether a row of this host is that of a user who is still on the way here, and not one just deleted."""
        return self.is_new(row) and not self.was_deleted(row)

    async def adopt(self, row: Row) -> Assignment:
        """Keep a user who belongs to this host from now on; return the assignment. Raises StoreError, EngineUnavailable."""
        assignment = assignment_of(row, self._sealing)
        await self._keep(Kept(row, sent=True), assignment)
        await self.forget_left(assignment.port)
        return assignment

    @property
    def left(self) -> Mapping[Port, Left]:
        """What users who went to other hosts have left on this one, by their ports."""
        return self._left

    async def forget_left(self, port: Port) -> None:
        """Take note that nothing of a user who went is left on a port. Raises StoreError."""
        if port in self._left:
            await self._local.run(
                lambda db: db.execute("DELETE FROM fleet_left WHERE port = ?", (port,)).close()
            )
            del self._left[port]

    async def give(self, user: User, host: str) -> None:
        """Have the engine make another host the owner of a user, nothing of which runs here. The caller then forgets the user.

        Where it raises, it may have happened, or may happen yet: `leaving` has the user until `retain` has said whose
        the user is. Raises NotHere, Conflict, EngineUnavailable, LeaseLost, Unsettled, StoreError.
        """
        lease, row = self._lease(), self._kept[user].row
        if not row.revision:
            raise Conflict(f"the engine has not heard of user {user} yet", hint="ask again in a moment")

        async def move(row: Row) -> None:
            # On disk before it is asked for: the next process must know it, too.
            await self._change(user, lambda kept: dataclasses.replace(kept, asked_at=row.revision))
            await self._engine.move(lease, row, host)

        await self._as_owner(row, move)

    @property
    def leaving(self) -> Mapping[User, Port]:
        """The users who may belong to another host by now, with their ports: nothing of them may start."""
        asked = [(user, self._kept[user]) for user in self._asked if user in self._kept]
        return {user: Port(kept.row.port) for user, kept in asked if kept.may_go}

    async def retain(self, user: User) -> None:
        """Have the engine say that a user is still this host's: no earlier `give` can happen any more.

        Raises NotHere, Conflict, EngineUnavailable, LeaseLost, Unsettled, StoreError.
        """
        await self._send(user)

    async def forget(self, user: User, *, deleted: Row | None = None) -> None:
        """Forget a user who belongs to another host, or who was deleted here. Raises StoreError."""
        kept = self._kept.get(user)
        left = None if deleted or kept is None else Left(user, time.time())

        def forget(db: sqlite3.Connection) -> None:
            delete(db, user)
            if left is not None and kept is not None:
                db.execute("REPLACE INTO fleet_left VALUES (?, ?, ?)", (kept.row.port, left.user, left.at))
            for table in ("fleet_row", "fleet_published"):
                db.execute(f"DELETE FROM {table} WHERE user = ?", (user,))  # noqa: S608 - a name of ours
            if deleted is not None:
                values = (user, deleted.token, time.time())
                db.execute("REPLACE INTO fleet_deleted VALUES (?, ?, ?)", values)

        await self._local.run(forget)
        self._kept.pop(user, None)
        self._refused.pop(user, None)
        if left is not None and kept is not None:
            self._left[Port(kept.row.port)] = left
        self._wake()
        if deleted is not None:
            self._deleted[user] = deleted.token

    def was_deleted(self, row: Row) -> bool:
        """Return whether a row is that of a user who was deleted here: an engine that was restored has it again."""
        return User(row.user) not in self._kept and row.token <= self._deleted.get(User(row.user), -1)

    async def note(self, row: Row) -> None:
        """Take note of what the engine has of a user who is here; an older word is left out. Raises StoreError."""
        kept = self._kept.get(User(row.user))
        if kept is None or (row.token, row.revision) <= (kept.row.token, kept.row.revision):
            return
        await self._change(User(row.user), lambda kept: _seen(kept, row))
        self._wake()

    async def count_start(self, user: User) -> None:
        """Count a start of the user's session, which may begin when this returns.

        Raises LeaseLost, Unsettled, NotHere and StoreError. While the engine is away, the lease alone decides.
        """
        lease, kept = self._lease(), self._kept[user]
        counted = dataclasses.replace(kept.row, runs=kept.row.runs + 1)
        # First here: a disk that has counted less than the engine is an old one.
        await self._change(user, lambda now: _counted(now, counted.runs, sent=False))
        try:
            row = await self._as_owner(counted, lambda row: self._engine.update(lease, row))
        except EngineUnavailable:
            pass
        else:
            await self._change(
                user,
                lambda now: _counted(
                    _seen(now, row),
                    counted.runs,
                    sent=kept.sent and now.row.document == kept.row.document,
                ),
            )
        finally:
            self._wake()

    async def send(self) -> None:
        """Send what the engine does not have yet. Raises EngineUnavailable, LeaseLost, Unsettled, StoreError."""
        for user in [user for user, kept in self._kept.items() if not kept.sent]:
            try:
                await self._send(user)
            except Unsettled:
                raise
            except (Conflict, NotHere) as error:
                # Whose the user is shows in the state of the fleet, which decides what happens here.
                if self._refused.get(user) != error.message:
                    log.warning("Cannot send a change: %s", error, extra=log_fields(user))
                self._refused[user] = error.message
            else:
                self._refused.pop(user, None)
        self._wake()

    async def reclaim(self) -> None:
        """Put back what this host holds, where the engine has forgotten it.

        What the engine knows better is left alone. Raises EngineUnavailable, LeaseLost, Unsettled, StoreError.
        """
        for user, kept in list(self._kept.items()):
            if not kept.row.revision:
                continue
            try:
                row = await self._engine.reclaim(self._lease(), kept.row)
            except Unsettled:
                raise
            except Conflict as error:
                log.warning("Cannot put back: %s", error, extra=log_fields(user))
            else:
                await self._keep(Kept(row, sent=True))

    async def _send(self, user: User) -> None:
        lease, kept = self._lease(), self._kept[user]
        if kept.row.revision:
            row = await self._as_owner(kept.row, lambda row: self._engine.update(lease, row))
        else:
            row = await self._engine.create(lease, kept.row)
        sent = kept.row.document, kept.row.runs
        await self._change(
            user,
            lambda now: _seen(dataclasses.replace(now, sent=(now.row.document, now.row.runs) == sent), row),
        )

    async def _created(self, assignment: Assignment) -> Kept:
        """Have the engine create the row of a new user, for this host."""
        lease = self._lease()
        document = document_of(assignment, sealing=self._sealing)
        new = Row(assignment.user, assignment.port, lease.host, document=document)
        try:
            return Kept(await self._engine.create(lease, new), sent=True)
        except Unsettled:
            raise
        except Conflict as error:
            found = await self._find(new)
            if found is not None and found.host == new.host and found.snapshot:
                # From another host: it must not start without the login.
                raise LoginComing(User(new.user), new.host) from error
            if found is not None and (found.host, found.port) == (new.host, new.port):
                # An earlier call did it, whose answer was lost.
                return Kept(dataclasses.replace(found, document=new.document), sent=False)
            where = (
                f"user {new.user} is on host {found.host}, on port {found.port}" if found else error.message
            )
            raise NotHere(where, hint="ask again: the answer then comes from there", retry_after=1) from error

    async def _as_owner(self, row: Row, change: Callable[[Row], Awaitable[_T]]) -> _T:
        """Make a change of a row of this host; raise NotHere where it is no longer this host's.

        Once more where the engine has another revision of it: that of a change of this host whose answer was lost.
        """
        try:
            return await change(row)
        except Unsettled:
            raise
        except Conflict as error:
            found = await self._find(row)
            if found is None or found.token != row.token:
                where = f"belongs to host {found.host}" if found else "was deleted"
                raise NotHere(
                    f"user {row.user} {where}", hint="ask again in a moment", retry_after=1
                ) from error
            seen = _seen(Kept(row, sent=False), found).row
            return await change(dataclasses.replace(seen, runs=max(seen.runs, found.runs)))

    async def _find(self, row: Row) -> Row | None:
        """Return what the engine has of a user, now."""
        state = await self._engine.state()
        return next((one for one in state.rows if one.user == row.user), None)

    async def _change(
        self, user: User, change: Callable[[Kept], Kept], assignment: Assignment | None = None
    ) -> None:
        """Write what a change makes of what is kept of a user now, unless the user was forgotten meanwhile."""
        async with self._writing:
            kept = self._kept.get(user)
            if kept is not None:
                await self._keep(change(kept), assignment)

    async def _keep(self, kept: Kept, assignment: Assignment | None = None) -> None:
        """Write a row, and its assignment where that has changed, in one transaction."""
        values = _to_table(kept)

        def write(db: sqlite3.Connection) -> None:
            if assignment is not None:
                insert(db, [assignment])
            db.execute("REPLACE INTO fleet_row VALUES (?, ?, ?, ?)", values)

        await self._local.run(write)
        self._kept[User(kept.row.user)] = kept
        if kept.may_go:
            self._asked.add(User(kept.row.user))

    def _wake(self) -> None:
        if all(kept.sent for kept in self._kept.values()):
            self.unsent.clear()
        else:
            self.unsent.set()


def forget_fleet(path: Path) -> None:
    """Forget what an earlier fleet of this host has left in the file of its store; the users stay. Raises StoreError.

    For a host that is on its own: its daemon may have the file open.
    """
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as db, db:
            tables = db.execute("SELECT name FROM sqlite_master WHERE name GLOB 'fleet_*'").fetchall()
            for (table,) in tables:
                db.execute(f"DROP TABLE {table}")
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be changed: {error}", hint="see `journalctl -u waportd`") from error


async def read_members(local: SqliteStore) -> tuple[bool, frozenset[str]]:
    """Return what `FleetStore.note_members` noted last; a host that has just joined is not established, and knows nobody."""
    value = await local.run(_read_members)
    known = json.loads(value) if value else {}
    return bool(known.get("established")), frozenset(known.get("members", ()))


def _changed(kept: Kept, assignment: Assignment, sealing: Sealing | None) -> Kept:
    """Return what is to be kept once a user of this host has other values."""
    if assignment.moving_to is not None or assignment.port != kept.row.port:
        raise errors.Conflict(
            f"user {assignment.user} belongs to a fleet, in which a port does not change",
            hint="`waportctl move USER --to HOST` moves a user to another host, with the port",
            cause="fleet",
        )
    document = document_of(assignment, kept.row, sealing)
    if document == kept.row.document:
        return kept
    return dataclasses.replace(kept, row=dataclasses.replace(kept.row, document=document), sent=False)


def _counted(kept: Kept, runs: int, *, sent: bool) -> Kept:
    return dataclasses.replace(kept, row=dataclasses.replace(kept.row, runs=runs), sent=sent)


def _seen(kept: Kept, row: Row) -> Kept:
    """Return a kept row with what the engine has said of it since; what is to be sent stays."""
    said = {name: getattr(row, name) for name in ("host", "token", "revision", "snapshot", "copies")}
    return dataclasses.replace(kept, row=dataclasses.replace(kept.row, **said))


def _make_tables(db: sqlite3.Connection) -> sqlite3.Connection:
    for statement in _TABLES:
        db.execute(statement)
    return db


def _read_members(db: sqlite3.Connection) -> str | None:
    found = _make_tables(db).execute("SELECT value FROM fleet_fact WHERE name = 'membership'").fetchone()
    return str(found[0]) if found else None


def _read_all(
    db: sqlite3.Connection,
) -> tuple[list[tuple[str, str, int, int]], dict[User, int], dict[Port, Left]]:
    _make_tables(db).execute("DELETE FROM fleet_deleted WHERE at < ?", (time.time() - _DELETED_FOR_S,))
    rows = db.execute("SELECT user, row, sent, checksum FROM fleet_row").fetchall()
    deleted = dict(db.execute("SELECT user, token FROM fleet_deleted").fetchall())
    left = db.execute("SELECT port, user, at FROM fleet_left").fetchall()
    return rows, deleted, {Port(port): Left(User(user), at) for port, user, at in left}


def _to_table(kept: Kept) -> tuple[str, str, int, int]:
    text = json.dumps(dataclasses.asdict(kept.row) | {"asked_at": kept.asked_at})
    return kept.row.user, text, int(kept.sent), zlib.crc32(text.encode())


def _from_table(stored: tuple[str, str, int, int]) -> Kept:
    user, text, sent, checksum = stored
    if zlib.crc32(text.encode()) != checksum:
        raise StoreError(
            f"the store is damaged: what it holds of user {user} in the fleet is not what was written",
            hint="running sessions continue; restore the store's file from a backup",
        )
    values = json.loads(text)
    asked_at = values.pop("asked_at", 0)
    return Kept(Row(**{**values, "copies": tuple(values["copies"])}), bool(sent), asked_at)
