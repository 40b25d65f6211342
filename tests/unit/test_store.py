"""The store: what was answered is on disk, and what cannot be read is never replaced."""

import asyncio
import contextlib
import dataclasses
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support import unprivileged

from waportd import store as module
from waportd.errors import StoreError
from waportd.model import Assignment, Desired, Event, Port, Storage, User
from waportd.store import SqliteStore
from waportd.tokens import Token

CHECKOUT = Path(__file__).parents[2]
SEED = 20260101

FULL = Assignment(
    User("2_1"),
    Port(20000),
    desired=Desired.STOPPED,
    linked=True,
    autostart=False,
    webhook_url="http://localhost:5002/webhook?token=ü",
    memory_max=512 << 20,
    engine="1.34.6",
    proxy="http://ana:p%40ss@proxy:3128",
    created_at=1767225600.125,
    note="port 5002 is held by python3 (pid 7, user www-data)",
    socket_boot="3b1f",
    storage=Storage(3_221_225_472, 0, 5, 1767225600.25),
    moving_to=Port(20001),
    webhook_secret=("whsec_a+/=", "whsec_b"),
    webhook_events=(Event.MESSAGE, Event.ACK),
    ignore=(),
    default_country="55",
    send_rate=0,
    linked_at=1767225601.5,
)


def assignments(count: int) -> list[Assignment]:
    return [
        dataclasses.replace(
            FULL, user=User(f"user{number}"), port=Port(20000 + number), created_at=number / 3
        )
        for number in range(count)
    ]


@contextlib.asynccontextmanager
async def opened(path: Path):
    store = await SqliteStore.open(path)
    try:
        yield store
    finally:
        await store.close()


async def read(path: Path) -> list[Assignment]:
    async with opened(path) as store:
        return await store.load()


async def filled(path: Path, count: int = 3) -> list[Assignment]:
    rows = assignments(count)
    async with opened(path) as store:
        await store.put(rows)
    return rows


async def refusal(path: Path) -> StoreError:
    """Open a store that cannot be had, and check what everybody gets who meets one."""
    with pytest.raises(StoreError) as caught:
        await read(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "waportd.db"


class TestKeeping:
    async def test_a_new_store_is_empty(self, path):
        assert await read(path) == []

    async def test_what_was_put_is_there_after_reopening_in_every_detail(self, path):
        async with opened(path) as store:
            await store.put([FULL, Assignment(User("1"), Port(5001))])
        assert await read(path) == [Assignment(User("1"), Port(5001)), FULL]

    async def test_every_member_of_an_assignment_has_a_column(self):
        assert tuple(field.name for field in dataclasses.fields(Assignment)) == module.COLUMNS

    async def test_a_second_put_replaces_the_first(self, path):
        async with opened(path) as store:
            await store.put([Assignment(User("1"), Port(5001))])
            changed = Assignment(User("1"), Port(5007), desired=Desired.DELETED)
            await store.put([changed])
            assert await store.load() == [changed]

    async def test_a_port_never_gets_a_second_owner_and_nothing_of_that_put_is_kept(self, path):
        async with opened(path) as store:
            await store.put([Assignment(User("1"), Port(5001))])
            with pytest.raises(StoreError, match=str(path)) as caught:
                await store.put([Assignment(User("2"), Port(5002)), Assignment(User("3"), Port(5001))])
            assert "second waportd" in caught.value.hint
            assert await store.load() == [Assignment(User("1"), Port(5001))]

    @pytest.mark.parametrize("port", [0, 65536, -1])
    async def test_what_is_no_port_is_not_kept(self, path, port):
        async with opened(path) as store:
            with pytest.raises(StoreError):
                await store.put([Assignment(User("1"), Port(port))])
            assert await store.load() == []

    async def test_a_removed_user_is_gone_and_the_port_free(self, path):
        async with opened(path) as store:
            await store.put([Assignment(User("1"), Port(5001))])
            await store.remove(User("1"))
            await store.remove(User("1"))
            await store.put([Assignment(User("2"), Port(5001))])
        assert await read(path) == [Assignment(User("2"), Port(5001))]

    async def test_puts_at_once_are_all_kept(self, path):
        rows = assignments(300)
        async with opened(path) as store:
            await asyncio.gather(*(store.put([row]) for row in rows))
        assert await read(path) == rows

    async def test_only_the_owner_can_read_the_files(self, path, tmp_path):
        before = os.umask(0)
        try:
            async with opened(path) as store:
                await store.put([FULL])
                modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        finally:
            os.umask(before)
        assert modes == {"waportd.db": 0o600, "waportd.db-journal": 0o600}

    async def test_a_caller_who_gives_up_does_not_undo_the_write(self, path):
        async with opened(path) as store:
            writing = asyncio.create_task(store.put([FULL]))
            await asyncio.sleep(0)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            assert await store.load() == [FULL]

    async def test_waiting_for_a_locked_file_does_not_hold_up_the_event_loop(self, path):
        async with opened(path) as store:
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as backup:
                backup.execute("BEGIN EXCLUSIVE")
                writing = asyncio.create_task(store.put([FULL]))
                for _ in range(100):
                    await asyncio.sleep(0)
                assert not writing.done()
                backup.execute("ROLLBACK")
            await asyncio.wait_for(writing, 10)
            assert await store.load() == [FULL]

    async def test_a_file_that_stays_locked_is_reported(self, path, monkeypatch):
        monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.01)
        async with opened(path) as store:
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                with pytest.raises(StoreError, match=str(path)) as caught:
                    await store.put([FULL])
                assert "another process" in caught.value.hint


WRITER = """
    import asyncio, sys
    from pathlib import Path
    from waportd.model import Assignment, Port, User
    from waportd.store import SqliteStore

    async def main(path, first):
        store = await SqliteStore.open(Path(path))
        number = int(first)
        while True:
            await store.put([Assignment(User(str(number)), Port(number))])
            print(number, flush=True)
            number += 1

    asyncio.run(main(*sys.argv[1:]))
"""

CREATOR = """
    import asyncio, sys
    from pathlib import Path
    from waportd.store import SqliteStore

    async def main(folder):
        number = 0
        while True:
            path = Path(folder, str(number), "waportd.db")
            path.parent.mkdir()
            print(number, flush=True)
            await (await SqliteStore.open(path)).close()
            number += 1

    asyncio.run(main(*sys.argv[1:]))
"""

MIGRATOR = """
    import asyncio, sys
    from pathlib import Path
    from waportd import store

    async def main(path):
        print("begin", flush=True)
        while True:
            await (await store.SqliteStore.open(Path(path))).close()
            store.MIGRATIONS += (f"ALTER TABLE assignment ADD COLUMN extra{len(store.MIGRATIONS)} TEXT",)
            print(len(store.MIGRATIONS), flush=True)

    asyncio.run(main(*sys.argv[1:]))
"""


def killed_after(lines: int, program: str, *arguments: object) -> list[str]:
    """Run a program, SIGKILL it right after it said so many lines, and return all that it said."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(CHECKOUT)},
    ) as process:
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout
    assert process.returncode == -signal.SIGKILL
    # A line that the kill cut off was never answered.
    return [line.strip() for line in said if line.endswith("\n")]


class TestCrashes:
    async def test_every_answered_assignment_survives_a_kill_at_any_point(self, path):
        dice = random.Random(SEED)
        answered: list[int] = []
        first = 5001
        for _ in range(8):
            answered += map(int, killed_after(dice.randrange(1, 60), WRITER, path, first))
            found = [row.port for row in await read(path)]
            assert len(found) == len(set(found))
            assert set(answered) <= set(found)
            # At most the one per kill that was under way is there too.
            assert len(found) <= len(answered) + 8
            first = max(found) + 1

    async def test_a_kill_while_a_store_is_made_leaves_none_or_a_whole_one(self, tmp_path):
        dice = random.Random(SEED)
        for attempt in range(4):
            folder = tmp_path / str(attempt)
            folder.mkdir()
            last = killed_after(dice.randrange(1, 30), CREATOR, folder)[-1]
            assert await read(folder / last / "waportd.db") == []

    async def test_a_kill_while_a_store_migrates_leaves_it_at_one_version_or_the_next(
        self, path, monkeypatch
    ):
        rows = await filled(path)
        said = killed_after(20, MIGRATOR, path)
        reached = int(said[-1])
        step = "ALTER TABLE assignment ADD COLUMN extra{} TEXT".format
        monkeypatch.setattr(
            module,
            "MIGRATIONS",
            module.MIGRATIONS + tuple(step(number) for number in range(len(module.MIGRATIONS), reached + 2)),
        )
        assert await read(path) == rows

    async def test_what_a_crash_left_of_a_store_in_the_making_is_in_the_way_of_nobody(self, path, tmp_path):
        for suffix in ("", "-journal", "-wal", "-shm"):
            (tmp_path / f"waportd.db.new{suffix}").write_bytes(b"half of it")
        assert await read(path) == []
        assert set(contents(tmp_path)) <= {"waportd.db", "waportd.db-journal"}

    async def test_a_transaction_that_a_crash_cut_off_is_undone(self, tmp_path):
        rows = await filled(tmp_path / "waportd.db", 400)
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        with contextlib.closing(sqlite3.connect(tmp_path / "waportd.db", isolation_level=None)) as connection:
            connection.execute("PRAGMA cache_size = 1")
            connection.execute("BEGIN")
            connection.execute("UPDATE assignment SET note = user || ' was never answered'")
            for name in ("waportd.db", "waportd.db-journal"):
                shutil.copy(tmp_path / name, crashed / name)
        assert (crashed / "waportd.db").read_bytes() != (tmp_path / "waportd.db").read_bytes()
        assert b"never answered" in (crashed / "waportd.db").read_bytes()
        assert await read(crashed / "waportd.db") == rows

    async def test_a_log_that_another_program_left_is_taken_in(self, tmp_path):
        rows = await filled(tmp_path / "waportd.db")
        copy = tmp_path / "copy"
        copy.mkdir()
        with contextlib.closing(sqlite3.connect(tmp_path / "waportd.db", isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("DELETE FROM assignment WHERE user = 'user0'")
            for file in tmp_path.glob("waportd.db*"):
                shutil.copy(file, copy / file.name)
        assert (copy / "waportd.db-wal").stat().st_size > 0
        assert await read(copy / "waportd.db") == rows[1:]
        assert not (copy / "waportd.db-wal").exists()

    @pytest.mark.parametrize("garbage", [b"", b"\0" * 4096, random.Random(SEED).randbytes(8192)])
    async def test_logs_that_are_none_do_no_harm(self, path, garbage):
        rows = await filled(path)
        for suffix in ("-journal", "-wal", "-shm"):
            Path(f"{path}{suffix}").write_bytes(garbage)
        assert await read(path) == rows

    async def test_no_answered_assignment_waits_in_a_log_that_can_be_lost(self, path, tmp_path):
        async with opened(path) as store:
            await store.put([FULL])
            alone = tmp_path / "alone.db"
            shutil.copy(path, alone)
        assert await read(alone) == [FULL]


def flipped(content: bytes, dice: random.Random) -> bytes:
    damaged = bytearray(content)
    used = [offset for offset, byte in enumerate(content) if byte]
    damaged[dice.choice(used)] ^= 1 << dice.randrange(8)
    return bytes(damaged)


def changed(content: bytes, dice: random.Random) -> bytes:
    damaged = bytearray(content)
    damaged[dice.randrange(len(content))] = dice.randrange(256)
    return bytes(damaged)


def cut(content: bytes, dice: random.Random) -> bytes:
    return content[: dice.randrange(len(content))]


def zeroed(content: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(0, len(content), 512)
    return content[:start] + bytes(512) + content[start + 512 :]


def scrambled(content: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(0, len(content), 512)
    return content[:start] + dice.randbytes(512) + content[start + 512 :]


def swapped(content: bytes, dice: random.Random) -> bytes:
    """Return it with one page where another should be, as a misdirected write leaves it."""
    size = 4096
    source, target = (dice.randrange(0, len(content), size) for _ in range(2))
    return content[:target] + content[source : source + size] + content[target + size :]


class TestDamage:
    @pytest.mark.parametrize(
        ("damage", "times"),
        [(flipped, 150), (changed, 60), (cut, 40), (zeroed, 30), (scrambled, 30), (swapped, 20)],
    )
    async def test_a_damaged_file_gives_an_error_or_the_right_answer(self, path, damage, times):
        rows = await filled(path, 40)
        whole = path.read_bytes()
        dice = random.Random(SEED)
        refusals = []
        for _ in range(times):
            damaged = damage(whole, dice)
            path.write_bytes(damaged)
            try:
                assert await read(path) == rows
            except StoreError as error:
                refusals.append(error)
                # What is left can still be looked at.
                assert path.read_bytes() == damaged
        assert refusals
        for error in refusals:
            assert str(path) in error.message
            assert str(path) in error.hint
            assert "token=" not in error.message

    async def test_a_damaged_value_is_noticed_although_the_file_is_in_order(self, path):
        await filled(path)
        path.write_bytes(path.read_bytes().replace(b"localhost:5002", b"localhost:6002", 1))
        assert "is damaged" in (await refusal(path)).message

    async def test_text_that_is_none_is_damage_and_is_not_repeated(self, path):
        await filled(path, 1)
        path.write_bytes(path.read_bytes().replace(b"?token=\xc3", b"?token=\xff"))
        error = await refusal(path)
        assert "is damaged" in error.message
        assert "token" not in error.message

    async def test_a_broken_schema_is_damage(self, path):
        await filled(path)
        path.write_bytes(path.read_bytes().replace(b"socket_boot TEXT", b"socket_beet TEXT"))
        assert "no such column" in (await refusal(path)).message

    async def test_a_schema_that_is_no_text_is_damage(self, path):
        await filled(path)
        path.write_bytes(path.read_bytes().replace(b"linked      INTEGER", b"linked      \xa0NTEGER"))
        assert "is damaged" in (await refusal(path)).message

    async def test_an_empty_file_is_damage_and_stays_as_it_is(self, path, tmp_path):
        path.touch()
        assert "it is empty" in (await refusal(path)).message
        assert contents(tmp_path) == {"waportd.db": b""}

    async def test_a_text_file_is_not_touched(self, path, tmp_path):
        path.write_text("user: 1\n" * 100)
        before = contents(tmp_path)
        assert "not a database" in (await refusal(path)).message
        assert contents(tmp_path) == before

    async def test_another_programs_database_is_not_touched(self, path, tmp_path):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE assignment (user, port)")
        before = contents(tmp_path)
        assert "not a store of waportd" in (await refusal(path)).message
        assert contents(tmp_path) == before

    async def test_a_folder_in_the_files_place_is_an_error(self, path):
        path.mkdir()
        await refusal(path)


class TestLoss:
    async def test_a_lost_store_is_not_replaced_while_users_have_ports(self, path, tmp_path):
        (tmp_path / "instances").mkdir()
        (tmp_path / "instances" / "5002.env").write_text("PORT=5002\n")
        error = await refusal(path)
        assert "5002.env" in error.message
        assert "backup" in error.hint
        assert not path.exists()

    @pytest.mark.parametrize("suffix", ["-journal", "-wal"])
    async def test_a_lost_store_is_not_replaced_while_its_log_is_there(self, path, suffix):
        Path(f"{path}{suffix}").touch()
        assert suffix in (await refusal(path)).message
        assert not path.exists()

    async def test_a_link_whose_target_is_gone_is_not_replaced(self, path, tmp_path):
        path.symlink_to(tmp_path / "not-mounted" / "waportd.db")
        await refusal(path)
        assert path.is_symlink()

    async def test_a_link_to_a_store_is_followed(self, path, tmp_path):
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        rows = await filled(elsewhere / "waportd.db")
        path.symlink_to(elsewhere / "waportd.db")
        assert await read(path) == rows

    async def test_a_missing_folder_is_an_error(self, tmp_path):
        await refusal(tmp_path / "missing" / "waportd.db")


def with_version(path: Path, version: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")


class TestVersions:
    async def test_a_store_of_an_older_program_is_taken_one_step_on(self, path, monkeypatch):
        rows = await filled(path)
        step = "ALTER TABLE assignment ADD COLUMN colour TEXT"
        monkeypatch.setattr(module, "MIGRATIONS", (*module.MIGRATIONS, step))
        assert await read(path) == rows
        assert await read(path) == rows
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (len(module.MIGRATIONS),)
            assert connection.execute("SELECT colour FROM assignment").fetchall() == [(None,)] * len(rows)

    async def test_a_store_from_before_there_were_engines_is_read(self, path, monkeypatch):
        later = {"engine", "proxy", "storage", "moving_to", "default_country", "send_rate"}
        later |= {"webhook_secret", "webhook_events", "ignore", "linked_at"}
        before = dataclasses.replace(FULL, **dict.fromkeys(later))
        with monkeypatch.context() as older:
            older.setattr(module, "MIGRATIONS", module.MIGRATIONS[:3])
            older.setattr(module, "COLUMNS", tuple(name for name in module.COLUMNS if name not in later))
            async with opened(path) as store:
                await store.put([before])
        assert await read(path) == [before]
        async with opened(path) as store:
            await store.put([FULL])
        assert await read(path) == [FULL]

    async def test_a_size_from_before_the_journal_had_one_of_its_own_is_read(self, path, monkeypatch):
        written = module.to_row

        def earlier(assignment):
            row = list(written(assignment))
            row[module.COLUMNS.index("storage")] = '{"login": 7, "cache": 5, "measured_at": 1.5}'
            return tuple(row)

        with monkeypatch.context() as older:
            older.setattr(module, "to_row", earlier)
            async with opened(path) as store:
                await store.put([FULL])
        assert await read(path) == [dataclasses.replace(FULL, storage=Storage(7, 5, 0, 1.5))]

    async def test_a_new_store_goes_through_all_steps(self, path, monkeypatch):
        steps = (
            "ALTER TABLE assignment ADD COLUMN colour TEXT",
            "CREATE INDEX colours ON assignment (colour)",
        )
        monkeypatch.setattr(module, "MIGRATIONS", (*module.MIGRATIONS, *steps))
        rows = await filled(path)
        assert await read(path) == rows

    async def test_a_step_that_fails_changes_nothing_and_is_reported(self, path, monkeypatch):
        rows = await filled(path)
        with monkeypatch.context() as newer:
            steps = (
                "ALTER TABLE assignment ADD COLUMN colour TEXT",
                "CREATE INDEX broken ON missing (nothing)",
            )
            newer.setattr(module, "MIGRATIONS", (*module.MIGRATIONS, *steps))
            await refusal(path)
            newer.setattr(module, "MIGRATIONS", (*module.MIGRATIONS[:-1], ""))
            assert await read(path) == rows

    async def test_a_store_of_a_newer_program_is_refused_and_not_touched(self, path, tmp_path):
        await filled(path)
        with_version(path, len(module.MIGRATIONS) + 1)
        before = contents(tmp_path)
        error = await refusal(path)
        assert f"schema version {len(module.MIGRATIONS) + 1}" in error.message
        assert "newer waportd" in error.hint
        assert contents(tmp_path) == before

    @pytest.mark.parametrize("version", [0, -1])
    async def test_a_version_that_never_was_is_damage(self, path, version):
        await filled(path)
        with_version(path, version)
        assert "is damaged" in (await refusal(path)).message


class TestDisk:
    async def test_a_read_only_folder_is_found_when_the_store_is_opened(self):
        with unprivileged() as folder:
            path = folder / "waportd.db"
            await filled(path)
            folder.chmod(0o500)
            error = await refusal(path)
            assert "Permission denied" in error.message or "cannot be written" in error.message
            assert "owner and mode" in error.hint

    async def test_no_store_can_be_made_in_a_read_only_folder(self):
        with unprivileged() as folder:
            folder.chmod(0o500)
            assert "owner and mode" in (await refusal(folder / "waportd.db")).hint

    async def test_a_read_only_file_is_found_when_the_store_is_opened(self):
        with unprivileged() as folder:
            path = folder / "waportd.db"
            await filled(path)
            path.chmod(0o400)
            assert "owner and mode" in (await refusal(path)).hint

    async def test_a_file_that_may_not_be_read_is_an_error(self):
        with unprivileged() as folder:
            path = folder / "waportd.db"
            await filled(path)
            path.chmod(0)
            assert "owner and mode" in (await refusal(path)).hint

    async def test_a_full_disk_loses_nothing_and_the_store_continues_when_there_is_room(self, path):
        rows = assignments(200)
        async with opened(path) as store:
            await store.put(rows[:10])
            await store.run(lambda db: db.execute("PRAGMA max_page_count = 4").fetchone())
            with pytest.raises(StoreError, match=str(path)) as caught:
                await store.put(rows[10:])
            assert "disk space" in caught.value.hint
            assert await store.load() == rows[:10]
            await store.run(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())
            await store.put(rows[10:])
        assert await read(path) == rows

    async def test_a_write_that_the_system_refuses_loses_nothing(self, path):
        limited = """
            import asyncio, resource, sys
            from pathlib import Path
            from waportd.errors import StoreError
            from waportd.model import Assignment, Port, User
            from waportd.store import SqliteStore

            async def main(path):
                store = await SqliteStore.open(Path(path))
                await store.put([Assignment(User("1"), Port(5001))])
                size = Path(path).stat().st_size
                hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
                rows = [Assignment(User(f"user{port}"), Port(port)) for port in range(5002, 6000)]
                try:
                    await store.put(rows)
                except StoreError as error:
                    print(error.hint)
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
                await store.put(rows[:1])

            asyncio.run(main(sys.argv[1]))
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(limited), path],
            env={"PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "check the disk" in done.stdout
        assert [row.port for row in await read(path)] == [5001, 5002]

    async def test_no_store_is_made_where_there_is_no_room_and_later_it_is(self, path, tmp_path):
        crowded = """
            import asyncio, resource, sys
            from pathlib import Path
            from waportd.errors import StoreError
            from waportd.store import SqliteStore

            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            try:
                asyncio.run(SqliteStore.open(Path(sys.argv[1])))
            except StoreError as error:
                print(error.hint)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(crowded), path],
            env={"PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "check the disk" in done.stdout, done.stderr
        assert not path.exists()
        assert await read(path) == []


class TestTokens:
    TOKEN = Token("0123456789ab", "web app", User("2"), "d" * 64, 1767225600.0)

    async def test_tokens_are_kept_until_they_are_removed(self, path):
        used = dataclasses.replace(self.TOKEN, last_used_at=1767225660.5)
        older = Token("ba9876543210", "Página", None, "e" * 64, 1.0, scope="read", expires_at=1767225660.5)
        store = await SqliteStore.open(path)
        for token in (self.TOKEN, older, used):
            await store.put_token(token)
        await store.close()
        store = await SqliteStore.open(path)
        assert await store.load_tokens() == [older, used]
        await store.remove_token(used.id)
        await store.remove_token(used.id)
        assert await store.load_tokens() == [older]
        await store.close()

    @pytest.mark.parametrize(
        "change", ["user = NULL", "user = '3'", f"digest = '{'f' * 64}'", "name = 'x'", "created_at = 2.0"]
    )
    async def test_a_token_that_was_changed_on_disk_opens_nothing(self, path, change):
        store = await SqliteStore.open(path)
        await store.put_token(self.TOKEN)
        await store.close()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"UPDATE token SET {change}")
        store = await SqliteStore.open(path)
        with pytest.raises(StoreError, match=r"0123456789ab.* is not what was written"):
            await store.load_tokens()
        await store.close()

    async def test_a_token_from_before_there_were_scopes_is_what_it_was(self, path, monkeypatch):
        with monkeypatch.context() as older:
            older.setattr(module, "MIGRATIONS", module.MIGRATIONS[:3])
            older.setattr(module, "TOKEN_COLUMNS", module.TOKEN_COLUMNS[:6])
            store = await SqliteStore.open(path)
            await store.put_token(self.TOKEN)
            await store.close()
        store = await SqliteStore.open(path)
        assert await store.load_tokens() == [self.TOKEN]
        await store.close()

    async def test_a_secret_can_be_changed(self, path):
        store = await SqliteStore.open(path)
        before = await store.secret("links")
        changed = await store.change_secret("links")
        assert len(changed) == 32
        assert changed != before
        await store.close()
        store = await SqliteStore.open(path)
        assert await store.secret("links") == changed
        await store.close()

    async def test_a_secret_is_made_once_and_stays(self, path):
        store = await SqliteStore.open(path)
        links, other = await store.secret("links"), await store.secret("other")
        assert len(links) == len(other) == 32
        assert links != other
        assert await store.secret("links") == links
        await store.close()
        store = await SqliteStore.open(path)
        assert await store.secret("links") == links
        await store.close()

    async def test_a_damaged_secret_is_not_replaced(self, path):
        store = await SqliteStore.open(path)
        await store.secret("links")
        await store.close()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("UPDATE secret SET value = 'short'")
        store = await SqliteStore.open(path)
        with pytest.raises(StoreError, match="links"):
            await store.secret("links")
        await store.close()
