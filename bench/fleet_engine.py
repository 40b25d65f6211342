"""A fleet: what a change costs beside a bare transaction of etcd, what many hosts take of it, and a call to another host."""

import asyncio
import base64
import dataclasses
import functools
import gc
import json
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import psutil

from bench import place
from bench.measure import Row, at_most, rest, row, value_at_most
from waportd.fleet import engine
from waportd.fleet.etcd import Etcd
from waportd.fleet.follower import PROBE_S
from waportd.fleet.record import document_of
from waportd.fleet.timing import Timing
from waportd.model import Assignment, Port, User

sys.path.insert(0, str(place.ROOT / "tools"))

from testbed import etcd

RELEASE = "trixie"
HOSTS, USERS = 100, 10_000
"""Of the fleet whose engine is looked at."""
REMEMBERED = 2_000
"""Users whose size in memory is measured."""
LIMIT_S = 30.0


def rows(*, quick: bool) -> list[Row]:
    """Measure one member of etcd, whose disk is memory, and what a daemon holds of it."""
    return asyncio.run(
        _rows(rounds=20 if quick else 300, users=500 if quick else USERS, seconds=6 if quick else 60)
    )


async def _rows(rounds: int, users: int, seconds: float) -> list[Row]:
    with etcd.running(RELEASE) as cluster:
        url = cluster.endpoints[0]
        times = await _changes(url, rounds)
        bare = "a bare transaction of etcd"
        load = await _load(url, cluster.members[0].pid, users, seconds)
        size = await _size(url)
        further = await _further(rounds * 2)
        return [
            row("a user is made known", bare, "ms", times["create"], times["bare"], at_most(1.5)),
            row("a user goes to another host", bare, "ms", times["move"], times["bare"], at_most(1.5)),
            row(
                f"etcd with {HOSTS} hosts and {users:,} users",
                "a core",
                "%",
                [load],
                target=value_at_most(10, "%"),
            ),
            row(
                "a call for a user of another host takes longer by",
                "the same on the user's host",
                "ms",
                [further],
                target=value_at_most(1.5, "ms"),
            ),
            row(
                "a daemon's memory of a user elsewhere",
                "-",
                "bytes",
                [size],
                target=value_at_most(2_000, "bytes"),
            ),
        ]


def _row(number: int, host: str, prefix: str = "u") -> engine.Row:
    assignment = Assignment(
        User(f"{prefix}{number}"), Port(5_000 + number), linked=True, linked_at=1.0, created_at=1.0
    )
    return engine.Row(assignment.user, assignment.port, host, document=document_of(assignment))


async def _described(member: Etcd, names: list[str]) -> list[engine.Lease]:
    """Make hosts, and take their leases."""
    leases = []
    for name in names:
        leases.append(await member.acquire(name, 45.0))
        host = engine.Host(
            name, "192.0.2.1:7467", engine.HostState.ACTIVE, "1", 1_000, 1.0, alive=False, incarnation=None
        )
        await member.describe(host)
    await member.state()
    await member.settle(leases[0])
    return leases


async def _changes(url: str, rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of the same number of changes of each kind, by turns."""
    times: dict[str, list[float]] = {"bare": [], "create": [], "move": []}
    member = Etcd([url], prefix="/changes", limit_s=LIMIT_S)
    async with aiohttp.ClientSession() as session:
        one, two = await _described(member, ["a", "b"])
        value = base64.b64encode(json.dumps(dataclasses.asdict(_row(1, "a"))).encode()).decode()

        async def bare(number: int) -> None:
            key = base64.b64encode(f"/bare/{number}".encode()).decode()
            compare = {"key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
            put = {"request_put": {"key": key, "value": value}}
            body = json.dumps({"compare": [compare], "success": [put]})
            async with session.post(f"{url}/v3/kv/txn", data=body) as answer:
                assert json.loads(await answer.read())["succeeded"]

        rest()
        for number in range(rounds):
            made: list[engine.Row] = []

            async def create(number: int = number, made: list[engine.Row] = made) -> None:
                made.append(await member.create(one, _row(number, "a")))

            async def move(made: list[engine.Row] = made) -> None:
                await member.move(one, made[0], "b")

            for name, work in (
                ("bare", lambda number=number: bare(number)),
                ("create", create),
                ("move", move),
            ):
                began = time.perf_counter()
                await work()
                times[name].append((time.perf_counter() - began) * 1000)
        await member.release(two)
    await member.close()
    return times


async def _load(url: str, pid: int, users: int, seconds: float) -> float:
    """Return the share of a core, in percent, that etcd takes of many hosts that hold their leases."""
    timing = Timing()
    keepers = [Etcd([url], prefix="/load", limit_s=LIMIT_S) for _ in range(HOSTS)]
    leases = await _described(keepers[0], [f"host-{number}" for number in range(HOSTS)])
    for batch in _batches(users, 50):
        await asyncio.gather(
            *(
                keepers[0].create(leases[number % HOSTS], _row(number, leases[number % HOSTS].host))
                for number in batch
            )
        )

    async def again(period_s: float, number: int, call: Callable[[], Awaitable[object]]) -> None:
        """Make a call again and again, as many hosts do that did not begin together."""
        await asyncio.sleep(period_s * number / HOSTS)
        while True:
            began = time.perf_counter()
            await call()
            await asyncio.sleep(max(0.0, began + period_s - time.perf_counter()))

    tasks = []
    for number, keeper in enumerate(keepers):
        renew = functools.partial(keeper.renewed, leases[number])
        tasks.append(asyncio.create_task(again(timing.renew_s, number, renew)))
        # What the daemon asks beside.
        tasks.append(asyncio.create_task(again(PROBE_S, number, keeper.epoch)))
    await asyncio.sleep(max(timing.renew_s, PROBE_S))
    process = psutil.Process(pid)
    before, began = process.cpu_times(), time.perf_counter()
    await asyncio.sleep(seconds)
    after, ended = process.cpu_times(), time.perf_counter()
    failed = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not failed, failed[0].exception()
    for keeper in keepers:
        await keeper.close()
    used = after.user + after.system - before.user - before.system
    return used / (ended - began) * 100


async def _further(rounds: int) -> float:
    """Return by how many milliseconds the median of a read is longer where another host has the user.

    The two hosts are daemons in one process, with their real TLS; systemd is played, and has no part in a read.
    """
    sys.path[:0] = [str(place.ROOT / folder) for folder in ("tests", "tests/unit", "tests/unit/fleet")]
    from support import config_in
    from two_hosts import Fleet as Hosts

    with tempfile.TemporaryDirectory() as folder:
        hosts = Hosts(Path(folder), config_in(Path(folder)))
        a, b = await hosts.add("a"), await hosts.add("b")
        for host, user in ((a, "1"), (b, "2")):
            for other in (a, b):
                hosts.describe(other.name, state=engine.HostState.DRAINING)
            hosts.describe(host.name, state=engine.HostState.ACTIVE)
            await host.has(user)
        times: dict[str, list[float]] = {"1": [], "2": []}
        rest()
        for _ in range(rounds):
            for user, each in times.items():
                began = time.perf_counter()
                await a.call("GET", f"/v1/users/{user}")
                each.append((time.perf_counter() - began) * 1000)
        await hosts.close()
    return statistics.median(times["2"]) - statistics.median(times["1"])


def _batches(count: int, size: int) -> list[range]:
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


async def _size(url: str) -> float:
    """Return the bytes that a daemon holds of each user of another host."""
    member = Etcd([url], prefix="/size", limit_s=LIMIT_S)
    [lease] = await _described(member, ["a"])
    for batch in _batches(REMEMBERED, 50):
        await asyncio.gather(*(member.create(lease, _row(number, "a")) for number in batch))
    await member.state()
    gc.collect()
    tracemalloc.start()
    try:
        state = await member.state()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    await member.close()
    return held / len(state.rows)
