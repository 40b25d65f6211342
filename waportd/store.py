"""Which port belongs to whom, kept on disk: an answered assignment survives any crash."""

import asyncio
import concurrent.futures
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeVar

from waportd.errors import StoreError
from waportd.model import Assignment, Desired, Port, User

_T = TypeVar("_T")

_APPLICATION_ID = 0x57415054
"""'WAPT' in the file's header (PRAGMA application_id): tells our file from another program's."""

_MIGRATIONS = (
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
        socket_boot TEXT
    ) STRICT, WITHOUT ROWID
    """,
)
"""Step N takes the schema from version N to N + 1 (PRAGMA user_version). Steps are never edited, only added."""

_COLUMNS = (
    "user",
    "port",
    "desired",
    "linked",
    "autostart",
    "webhook_url",
    "memory_max",
    "created_at",
    "note",
    "socket_boot",
)


class AllocationStore(Protocol):
    """Keeps assignments. A method that returned has reached the disk."""

    async def load(self) -> list[Assignment]:
        """Return all assignments."""

    async def put(self, assignments: Iterable[Assignment]) -> None:
        """Insert or replace, all or none; raise StoreError if a port would belong to two users."""

    async def remove(self, user: User) -> None:
        """Forget a user; one that is unknown is fine."""

    async def close(self) -> None:
        """Release the store."""


class SqliteStore:
    """An AllocationStore in one SQLite file.

    All access happens on one thread of its own, since SQLite's calls block.
    """

    def __init__(self, connection: sqlite3.Connection, thread: concurrent.futures.Executor, path: Path) -> None:
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
        query = f"SELECT {', '.join(_COLUMNS)} FROM assignment ORDER BY port"  # noqa: S608
        return await self._run(lambda db: [_from_row(row) for row in db.execute(query)])

    async def put(self, assignments: Iterable[Assignment]) -> None:
        """Insert or replace, all or none; raise StoreError if a port would belong to two users."""
        rows = [_to_row(assignment) for assignment in assignments]
        updates = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS[1:])
        statement = (
            f"INSERT INTO assignment ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "  # noqa: S608
            f"ON CONFLICT (user) DO UPDATE SET {updates}"
        )
        await self._run(lambda db: db.executemany(statement, rows))

    async def remove(self, user: User) -> None:
        """Forget a user; one that is unknown is fine."""
        await self._run(lambda db: db.execute("DELETE FROM assignment WHERE user = ?", (user,)))

    async def close(self) -> None:
        """Release the file; committed assignments are on disk already."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        def transaction() -> _T:
            try:
                with self._connection:
                    return work(self._connection)
            except sqlite3.Error as error:
                raise _store_error(self._path, error) from error

        # Shielded: a caller who gives up must not leave it open whether the write happened.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, transaction))


def _open(path: Path) -> sqlite3.Connection:
    try:
        if not path.exists():
            _refuse_if_lost(path)
            _create(path)
        elif path.stat().st_size == 0:
            raise _damaged(path, "it is empty")
        connection = _connect(path)
    except sqlite3.Error as error:
        raise _store_error(path, error) from error
    except OSError as error:
        raise StoreError(
            f"the store {path} cannot be opened: {error.strerror or error}",
            hint="check owner and mode of the folder, and that the disk is neither full nor read-only",
        ) from error
    try:
        _check(connection, path)
        _migrate(connection)
    except sqlite3.Error as error:
        connection.close()
        raise _store_error(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=5)
    # WAL with FULL syncs the log at each commit: durable, and one fsync instead of the rollback journal's two
    # (https://sqlite.org/pragma.html#pragma_synchronous).
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
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
    descriptor = os.open(fresh, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _refuse_if_lost(path: Path) -> None:
    """Raise if there were assignments once: starting afresh would give their ports, and sessions, to others."""
    traces = sorted((path.parent / "instances").glob("*.env"))
    if traces:
        raise StoreError(
            f"the store {path} is missing, but {len(traces)} users had ports ({traces[0]}, …)",
            hint=f"restore {path.name} from a backup; to start afresh, remove {path.parent / 'instances'}/*.env "
            "and the session folders of these ports",
        )


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (found,) = connection.execute("PRAGMA application_id").fetchone()
    if found != _APPLICATION_ID:
        raise _damaged(path, "it is not a store of waportd")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not 1 <= version <= len(_MIGRATIONS):
        raise StoreError(
            f"the store {path} has schema version {version}; this waportd knows up to {len(_MIGRATIONS)}",
            hint="install the newer waportd again, or restore the store's backup from before the upgrade",
        )
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise _damaged(path, str(verdict))


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, step in enumerate(_MIGRATIONS[version:], start=version + 1):
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(step)
            connection.execute(f"PRAGMA user_version = {number}")


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(
        f"the store {path} is damaged: {why}",
        hint=f"running sessions go on untouched; restore {path} from a backup, or try `sqlite3 {path} .recover`; "
        "it is never replaced by itself",
    )


def _store_error(path: Path, error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return _damaged(path, str(error))
    hints = {
        sqlite3.SQLITE_FULL: "free some disk space; nothing that was answered is lost",
        sqlite3.SQLITE_READONLY: "make the file and its folder writable for the daemon's user",
        sqlite3.SQLITE_CANTOPEN: "check owner and mode of the folder",
        sqlite3.SQLITE_BUSY: "another process holds the store; is a second waportd running?",
        sqlite3.SQLITE_LOCKED: "another process holds the store; is a second waportd running?",
        sqlite3.SQLITE_IOERR: "check the disk: see `journalctl -k`",
    }
    return StoreError(f"the store {path} failed: {error}", hint=hints.get(code))


def _to_row(assignment: Assignment) -> tuple[object, ...]:
    return tuple(getattr(assignment, column) for column in _COLUMNS)


def _from_row(row: tuple[object, ...]) -> Assignment:
    values = dict(zip(_COLUMNS, row, strict=True))
    return Assignment(
        user=User(str(values["user"])),
        port=Port(int(str(values["port"]))),
        desired=Desired(str(values["desired"])),
        linked=bool(values["linked"]),
        autostart=bool(values["autostart"]),
        webhook_url=None if values["webhook_url"] is None else str(values["webhook_url"]),
        memory_max=None if values["memory_max"] is None else int(str(values["memory_max"])),
        created_at=float(str(values["created_at"])),
        note=None if values["note"] is None else str(values["note"]),
        socket_boot=None if values["socket_boot"] is None else str(values["socket_boot"]),
    )
