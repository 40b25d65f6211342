"""Assignments and tokens, kept on disk: anything that was answered survives any crash."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import errno
import json
import os
import re
import secrets
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from waportd import files
from waportd.errors import StoreError, StoreTooNewError
from waportd.model import SIZES, Assignment, Desired, Event, Ignored, Port, Storage, User
from waportd.tokens import Token

_T = TypeVar("_T")
_Word = TypeVar("_Word", bound=str)

_APPLICATION_ID = 0x57415054
"""'WAPT' in the file's header (PRAGMA application_id): identifies the file as ours."""

BUSY_TIMEOUT_S = 5.0
"""Seconds to wait for another process that holds the file, such as a backup."""

MIGRATIONS = (
    """
    CREATE TABLE assignment (
        user        TEXT PRIMARY KEY,
        port        INTEGER NOT NULL UNIQUE CHECK (port BETWEEN 1 AND 65535),
        desired     TEXT NOT NULL CHECK (desired IN ('running', 'stopped', 'deleted')),
        linked      INTEGER NOT NULL,
        autostart   INTEGER NOT NULL,
        webhook_url TEXT,
        memory_max  INTEGER,
        created_at  REAL NOT NULL,
        note        TEXT,
        socket_boot TEXT,
        checksum    INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE token (
        id           TEXT PRIMARY KEY,
        name         TEXT NOT NULL,
        user         TEXT,
        digest       TEXT NOT NULL,
        created_at   REAL NOT NULL,
        last_used_at REAL,
        checksum     INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE secret (
        name  TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "ALTER TABLE assignment ADD COLUMN engine TEXT",
    "ALTER TABLE token ADD COLUMN scope TEXT",
    "ALTER TABLE token ADD COLUMN expires_at REAL",
    "ALTER TABLE assignment ADD COLUMN proxy TEXT",
    "ALTER TABLE assignment ADD COLUMN storage TEXT",
    "ALTER TABLE assignment ADD COLUMN moving_to INTEGER",
    "ALTER TABLE assignment ADD COLUMN webhook_secret TEXT",
    "ALTER TABLE assignment ADD COLUMN webhook_events TEXT",
    "ALTER TABLE assignment ADD COLUMN ignore TEXT",
    "ALTER TABLE assignment ADD COLUMN default_country TEXT",
    "ALTER TABLE assignment ADD COLUMN send_rate INTEGER",
    "ALTER TABLE assignment ADD COLUMN linked_at REAL",
)
"""Step N takes the schema from version N to N + 1 (PRAGMA user_version). Steps are never edited, only added."""

COLUMNS = (
    "user",
    "port",
    "desired",
    "linked",
    "autostart",
    "webhook_url",
    "webhook_secret",
    "webhook_events",
    "ignore",
    "default_country",
    "send_rate",
    "memory_max",
    "engine",
    "proxy",
    "created_at",
    "note",
    "socket_boot",
    "storage",
    "moving_to",
    "linked_at",
)

_ASSIGNMENTS = f"SELECT {', '.join(COLUMNS)}, checksum FROM assignment ORDER BY port"  # noqa: S608

TOKEN_COLUMNS = ("id", "name", "user", "digest", "created_at", "last_used_at", "scope", "expires_at")


class AllocationStore(Protocol):
    """Keeps assignments. A method that returned has reached the disk."""

    async def load(self) -> list[Assignment]:
        """Return all assignments."""

    async def put(self, assignments: Iterable[Assignment]) -> None:
        """Insert or replace, all or none; raise StoreError if a port would belong to two users."""

    async def remove(self, user: User) -> None:
        """Forget a user; an unknown one is no error."""

    async def close(self) -> None:
        """Release the store."""


def read_assignments(path: Path) -> list[Assignment]:
    """Return what the store holds, while the daemon keeps using it. Raises StoreError."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        ) as connection:
            rows = connection.execute(_ASSIGNMENTS).fetchall()
    except sqlite3.Error as error:
        raise _store_error(path, error) from error
    return _assignments(rows, path)


class SqliteStore:
    """An AllocationStore and TokenStore in one SQLite file.

    All access happens on one thread of its own, since SQLite's calls block.
    """

    def __init__(
        self, connection: sqlite3.Connection, thread: concurrent.futures.Executor, path: Path
    ) -> None:
        self._connection = connection
        self._thread = thread
        self._path = path

    @classmethod
    async def open(cls, path: Path) -> "SqliteStore":
        """Open the store, or create it where there never was one.

        Raises StoreError, naming the file and the way out, for a file that is damaged, foreign, newer than
        this program, or not accessible. Never replaces an existing file.
        """
        thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="store")
        try:
            connection = await asyncio.get_running_loop().run_in_executor(thread, _open, path)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(connection, thread, path)

    async def load(self) -> list[Assignment]:
        """Return all assignments."""
        rows = await self.run(lambda db: db.execute(_ASSIGNMENTS).fetchall())
        return _assignments(rows, self._path)

    async def put(self, assignments: Iterable[Assignment]) -> None:
        """Insert or replace, all or none; raise StoreError if a port would belong to two users."""
        changed = list(assignments)
        await self.run(lambda db: insert(db, changed))

    async def remove(self, user: User) -> None:
        """Forget a user; an unknown one is no error."""
        await self.run(lambda db: delete(db, user))

    async def load_tokens(self) -> list[Token]:
        """Return all tokens, the oldest first."""
        query = f"SELECT {', '.join(TOKEN_COLUMNS)}, checksum FROM token ORDER BY created_at"  # noqa: S608
        rows = await self.run(lambda db: db.execute(query).fetchall())
        for *values, checksum in rows:
            if _checksum(TOKEN_COLUMNS, values) != checksum:
                raise _damaged(
                    self._path, f"what it holds of token {values[0]!r:.80} is not what was written"
                )
        return [Token(**dict(zip(TOKEN_COLUMNS, row[:-1], strict=True))) for row in rows]

    async def put_token(self, token: Token) -> None:
        """Insert or replace."""
        row = tuple(getattr(token, column) for column in TOKEN_COLUMNS)
        columns = (*TOKEN_COLUMNS, "checksum")
        marks = ", ".join("?" * len(columns))
        statement = f"REPLACE INTO token ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608  # names of our own
        await self._write(statement, [(*row, _checksum(TOKEN_COLUMNS, row))])

    async def remove_token(self, identifier: str) -> None:
        """Forget a token; an unknown one is no error."""
        await self._write("DELETE FROM token WHERE id = ?", [(identifier,)])

    async def secret(self, name: str) -> bytes:
        """Return 32 secret bytes, the same ones for a name each time."""

        def read(db: sqlite3.Connection) -> str:
            db.execute("INSERT OR IGNORE INTO secret VALUES (?, ?)", (name, secrets.token_hex(32)))
            (value,) = db.execute("SELECT value FROM secret WHERE name = ?", (name,)).fetchone()
            return str(value)

        value = await self.run(read)
        if not re.fullmatch("[0-9a-f]{64}", value):
            raise _damaged(self._path, f"its secret {name!r} is not what was written")
        return bytes.fromhex(value)

    async def change_secret(self, name: str) -> bytes:
        """Replace what `secret` returns by new bytes; return them."""
        value = secrets.token_hex(32)
        await self._write("REPLACE INTO secret VALUES (?, ?)", [(name, value)])
        return bytes.fromhex(value)

    async def close(self) -> None:
        """Release the file; committed assignments are on disk already."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()

    async def _write(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        def write(db: sqlite3.Connection) -> None:
            # The cursor stays on this thread: one that another thread drops resets the statement that the next
            # write is executing.
            db.executemany(statement, rows)

        await self.run(write)

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do something in a transaction, on the thread of the store; return what it returns. Raises StoreError."""

        def transaction() -> _T:
            try:
                with self._connection:
                    return work(self._connection)
            except sqlite3.Error as error:
                raise _store_error(self._path, error) from error

        # Shielded: a caller that is cancelled must not leave it uncertain whether the write happened.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, transaction))


def insert(db: sqlite3.Connection, assignments: Iterable[Assignment]) -> None:
    """Insert or replace assignments, within `SqliteStore.run`."""
    columns = (*COLUMNS, "checksum")
    updates = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
    statement = (
        f"INSERT INTO assignment ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "  # noqa: S608
        f"ON CONFLICT (user) DO UPDATE SET {updates}"
    )
    rows = [to_row(assignment) for assignment in assignments]
    # The cursor stays on this thread: one that another thread drops resets the statement that the next write is
    # executing.
    db.executemany(statement, [(*row, _checksum(COLUMNS, row)) for row in rows])


def delete(db: sqlite3.Connection, user: User) -> None:
    """Delete the assignment of a user, within `SqliteStore.run`."""
    db.execute("DELETE FROM assignment WHERE user = ?", (user,))


def _open(path: Path) -> sqlite3.Connection:
    try:
        # A link without a target is a lost store, not a new one.
        if not os.path.lexists(path):
            _refuse_if_lost(path)
            _create(path)
        elif path.stat().st_size == 0:
            raise _damaged(path, "it is empty")
        for place in (path, path.parent):
            if not os.access(place, os.R_OK | os.W_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, f"{place} cannot be written")
        with contextlib.ExitStack() as undo:
            connection = sqlite3.connect(path, check_same_thread=False, timeout=BUSY_TIMEOUT_S)
            undo.callback(connection.close)
            # Text that is no UTF-8 fails its checksum; sqlite3's own error would repeat it.
            connection.text_factory = lambda text: text.decode("utf-8", "replace")
            _check(connection, path)
            # A rollback journal, not a WAL: a damaged WAL is cut off silently, answered assignments with it
            # (https://sqlite.org/wal.html#recovery). FULL and TRUNCATE sync before a commit returns, and cost
            # about the same as the WAL: 1.0 against 0.8 ms on an SSD.
            connection.execute("PRAGMA journal_mode = TRUNCATE")
            connection.execute("PRAGMA synchronous = FULL")
            _migrate(connection)
            undo.pop_all()
    except sqlite3.Error as error:
        raise _store_error(path, error) from error
    except UnicodeDecodeError as error:
        # sqlite3 could not decode SQLite's own message, which repeats a broken schema.
        raise _damaged(path, "its schema cannot be read") from error
    except OSError as error:
        raise StoreError(
            f"the store {path} cannot be opened: {error.strerror or error}",
            hint="check owner and mode of file and folder, and that the disk is neither full nor read-only",
        ) from error
    return connection


def _create(path: Path) -> None:
    # Made under another name and renamed, so that a file of the store's name is always whole: an empty one is
    # damage, never a fresh start.
    fresh = path.with_name(path.name + ".new")
    for leftover in (fresh, Path(f"{fresh}-wal"), Path(f"{fresh}-shm"), Path(f"{fresh}-journal")):
        leftover.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with contextlib.closing(sqlite3.connect(fresh)) as connection:
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        _migrate(connection)
    files.sync(fresh)
    fresh.rename(path)
    files.sync(path.parent)


def _refuse_if_lost(path: Path) -> None:
    """Raise if there was a store once: a fresh start would give its ports, and sessions, to others."""
    environments = path.parent / "instances"
    journals = [Path(f"{path}{suffix}") for suffix in ("-journal", "-wal")]
    traces = [journal for journal in journals if journal.exists()] + sorted(environments.glob("*.env"))
    if traces:
        raise StoreError(
            f"the store {path} is missing, but {traces[0]} shows that there was one",
            hint=f"restore {path} from a backup; to start afresh, remove {path}-*, {environments}/*.env and the "
            "session folders of these ports",
        )


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError unless the file is whole and ours. Writes nothing: it may belong to another program."""
    (found,) = connection.execute("PRAGMA application_id").fetchone()
    if found != _APPLICATION_ID:
        raise _damaged(path, "it is not a store of waportd")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < 1:
        raise _damaged(path, f"it has schema version {version}")
    if version > len(MIGRATIONS):
        raise StoreTooNewError(
            f"the store {path} has schema version {version}; this waportd knows up to {len(MIGRATIONS)}",
            hint="install the newer waportd again, or restore the store's backup from before the upgrade",
        )
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise _damaged(path, " ".join(str(verdict).split()))


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, step in enumerate(MIGRATIONS[version:], start=version + 1):
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(step)
            connection.execute(f"PRAGMA user_version = {number}")


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(
        f"the store {path} is damaged: {why}",
        hint=f"running sessions continue untouched; restore {path} from a backup, without any {path.name}-journal; "
        f"`sqlite3 {path} .dump` shows what can still be read; waportd never replaces it automatically",
    )


def _store_error(path: Path, error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    hints = {
        sqlite3.SQLITE_FULL: "free some disk space; nothing that was answered is lost",
        sqlite3.SQLITE_READONLY: "make the file and its folder writable for the daemon's user",
        sqlite3.SQLITE_CANTOPEN: "check owner and mode of file and folder",
        sqlite3.SQLITE_BUSY: "another process holds the store; is a second waportd running?",
        sqlite3.SQLITE_LOCKED: "another process holds the store; is a second waportd running?",
        sqlite3.SQLITE_CONSTRAINT: "another process changed the store; is a second waportd running?",
        sqlite3.SQLITE_IOERR: "check the disk: see `journalctl -k`, and `df` for the space left",
    }
    if code not in hints:
        # Our statements are correct, so SQLite complains about the file.
        return _damaged(path, str(error))
    return StoreError(f"the store {path} failed: {error}", hint=hints[code])


def to_row(assignment: Assignment) -> tuple[str | int | float | None, ...]:
    """Return the values as SQLite gives them back, so that the checksum before is the checksum after."""
    values = dataclasses.asdict(assignment)
    values.update(
        desired=str(assignment.desired),
        linked=int(assignment.linked),
        autostart=int(assignment.autostart),
        created_at=float(assignment.created_at),
        storage=None if assignment.storage is None else json.dumps(values["storage"]),
        **{name: _joined(values[name]) for name in ("webhook_secret", "webhook_events", "ignore")},
    )
    return tuple(values[column] for column in COLUMNS)


def _checksum(columns: Sequence[str], row: Sequence[object]) -> int:
    """Return the CRC-32 of a row: SQLite detects damage to its structure, not to the values it stores.

    A NULL does not count, so that a step can add a column without touching rows.
    """
    known = {column: value for column, value in zip(columns, row, strict=True) if value is not None}
    return zlib.crc32(json.dumps(known).encode())


def _assignments(rows: Iterable[tuple[object, ...]], path: Path) -> list[Assignment]:
    """Read rows that end with their checksums. Raises StoreError where one is not what was written."""
    found = []
    for *values, checksum in rows:
        if _checksum(COLUMNS, values) != checksum:
            raise _damaged(path, f"what it holds of user {values[0]!r:.80} is not what was written")
        found.append(from_row(tuple(values)))
    return found


def from_row(row: Sequence[object]) -> Assignment:
    """Return the assignment that `to_row` made values of. Raises ValueError, KeyError."""
    values = dict(zip(COLUMNS, row, strict=True))
    return Assignment(
        user=User(str(values["user"])),
        port=Port(int(str(values["port"]))),
        desired=Desired(str(values["desired"])),
        linked=bool(values["linked"]),
        autostart=bool(values["autostart"]),
        webhook_url=None if values["webhook_url"] is None else str(values["webhook_url"]),
        memory_max=None if values["memory_max"] is None else int(str(values["memory_max"])),
        engine=None if values["engine"] is None else str(values["engine"]),
        proxy=None if values["proxy"] is None else str(values["proxy"]),
        created_at=float(str(values["created_at"])),
        note=None if values["note"] is None else str(values["note"]),
        socket_boot=None if values["socket_boot"] is None else str(values["socket_boot"]),
        storage=None if values["storage"] is None else _storage(str(values["storage"])),
        moving_to=None if values["moving_to"] is None else Port(int(str(values["moving_to"]))),
        webhook_secret=_words(values["webhook_secret"], str),
        webhook_events=_words(values["webhook_events"], Event),
        ignore=_words(values["ignore"], Ignored),
        default_country=None if values["default_country"] is None else str(values["default_country"]),
        send_rate=None if values["send_rate"] is None else int(str(values["send_rate"])),
        linked_at=None if values["linked_at"] is None else float(str(values["linked_at"])),
    )


def _joined(words: Sequence[str] | None) -> str | None:
    """Return words without commas as one text; `_words` gives them back."""
    return None if words is None else ",".join(words)


def _words(stored: object, word: type[_Word]) -> tuple[_Word, ...] | None:
    return None if stored is None else tuple(word(text) for text in str(stored).split(",") if text)


def _storage(text: str) -> Storage:
    known = json.loads(text)
    # Rows of earlier versions count the journal to the login, and have no snapshots.
    return Storage(
        **{kind: int(known.get(kind, 0)) for kind in SIZES},
        measured_at=float(known["measured_at"]),
        snapshot_at=known.get("snapshot_at"),
        restored_at=known.get("restored_at"),
    )
