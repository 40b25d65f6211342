"""Snapshots of a login in a fleet: how long it takes to publish and to restore one, and how much is sent."""

import asyncio
import os
import random
import shutil
import time
from pathlib import Path

from bench import place
from bench.measure import Row, rest, row, value_at_most
from waportd.fleet import engine
from waportd.fleet.chunks import FleetKeys
from waportd.fleet.directory import Directory
from waportd.fleet.snapshot_store import SnapshotStore
from waportd.fleet.stores import SameStores

SIZE_MIB = 64
"""A login has 50 to 2,500 MB."""
TABLE_BYTES = 2 << 20
CHAT_BYTES = 60_000
"""A chat that has changed: so much is added to the log of the database."""
NEW_TABLE_BYTES = 150_000
"""And so much is written as a new table."""
SENT_KIB = 1024
LEASE = engine.Lease("here", 1, 1, 45.0)


class _Row:
    """The engine's part."""

    def __init__(self) -> None:
        self.row = engine.Row("7", 5001, "here", 1)

    async def publish(self, _lease: engine.Lease, new: engine.Row) -> engine.Row:
        self.row = new
        return new


def rows(*, quick: bool) -> list[Row]:
    """Measure the snapshots of a login of 64 MiB, on a store on this disk."""
    rounds = [asyncio.run(_round(number)) for number in range(2 if quick else 15)]

    def of(name: str) -> list[float]:
        return [each[name] for each in rounds]

    copied = "cp and sync"
    return [
        row("a first snapshot of 64 MiB is published", copied, "ms", of("first"), of("copy")),
        row("the next, when one chat has changed", copied, "ms", of("next"), of("copy")),
        row("it is restored", copied, "ms", of("restore"), of("copy")),
        row(
            "sent when one chat has changed",
            "all of it",
            "KiB",
            of("sent"),
            of("all"),
            value_at_most(SENT_KIB, "KiB"),
        ),
    ]


async def _round(number: int) -> dict[str, float]:
    with place.disk() as folder:
        here = Path(folder)
        login, log = _make_login(here / "login", number)
        Directory.create(here / "store")
        directory = Directory(here / "store")
        store = SnapshotStore(FleetKeys.create(), SameStores({"directory": directory}))
        rows_of = _Row()
        times: dict[str, float] = {}

        async def publish(name: str) -> int:
            os.sync()
            rest()
            began = time.perf_counter()
            # Only this call of an engine is needed.
            published = await store.publish(rows_of, LEASE, rows_of.row, login, time.time())  # type: ignore[arg-type]
            times[name] = (time.perf_counter() - began) * 1000
            return published.sent_bytes

        times["all"] = await publish("first") / 1024
        with log.open("ab") as file:
            file.write(random.Random(number + 1).randbytes(CHAT_BYTES))
        (login / "Default/900000.ldb").write_bytes(random.Random(number + 2).randbytes(NEW_TABLE_BYTES))
        times["sent"] = await publish("next") / 1024
        rest()
        began = time.perf_counter()
        await store.restore(rows_of.row, here / "restored")
        times["restore"] = (time.perf_counter() - began) * 1000
        rest()
        began = time.perf_counter()
        shutil.copytree(login, here / "copy")
        os.sync()
        times["copy"] = (time.perf_counter() - began) * 1000
        return times


def _make_login(folder: Path, seed: int) -> tuple[Path, Path]:
    """Make a login of tables and a log; return it and the log."""
    (folder / "Default").mkdir(parents=True)
    dice = random.Random(seed)
    for number in range((SIZE_MIB << 20) // TABLE_BYTES - 1):
        (folder / f"Default/{number:06}.ldb").write_bytes(dice.randbytes(TABLE_BYTES))
    log = folder / "Default/000900.log"
    log.write_bytes(dice.randbytes(TABLE_BYTES))
    return folder, log
