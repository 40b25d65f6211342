"""Many users at once: nothing fails, nothing grows, and answers stay quick. `make soak` does it at full size."""

import asyncio
import json
import os
import random
import statistics
import time
from dataclasses import dataclass, field

import aiohttp
import psutil
import pytest
from harness import LIGHT_SERVER, ROOT, NoBrowser, Waportd, note_row, until

FULL = os.environ.get("WAPORTD_LOAD") == "full"
REPORT = ROOT / ".run/test/load.json"


@dataclass(frozen=True)
class Size:
    """How much is asked of the daemon, and for how long."""

    running: int
    assigned: int
    pollers: int
    listeners: int
    deaf: int
    """Who open an event stream and never read it."""
    seconds: float


SIZE = Size(300, 1000, 500, 300, 100, 600) if FULL else Size(12, 60, 60, 40, 10, 20)
PAUSE = 3.0
"""Seconds between two polls of a page."""
HASTE = 0.02
"""The same of a front end that polls as fast as it can."""


@dataclass
class Tally:
    """What callers got."""

    took: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    events: int = 0
    came: int = 0


@pytest.fixture
def idle_waportd(tmp_path):
    waportd = Waportd(tmp_path, NoBrowser())
    waportd.configure(
        # Nobody scans for all that time, and codes continue.
        instances={
            "script": str(LIGHT_SERVER),
            "idle_timeout": 3600,
            "qr_max_retries": 100,
        },
        limits={"start_concurrency": 8},
        log={"level": "warning"},
    )
    yield waportd
    waportd.stop()


async def poll(http, users, tally, until_then, pause=PAUSE):
    await asyncio.sleep(random.uniform(0, pause))
    while time.monotonic() < until_then:
        user = random.choice(users)
        began = time.perf_counter()
        try:
            async with http.get("/api/qr", params={"user_id": user}) as answer:
                body = await answer.json()
                if answer.status != 200 or not body["success"]:
                    tally.failures.append(f"/api/qr {user}: {answer.status} {body['error']}")
        except (aiohttp.ClientError, TimeoutError) as error:
            tally.failures.append(f"/api/qr {user}: {error!r}")
        tally.took.append(time.perf_counter() - began)
        await asyncio.sleep(pause)


async def listen(http, user, tally, until_then):
    try:
        async with http.get(f"/v1/users/{user}/events", timeout=aiohttp.ClientTimeout(total=None)) as answer:
            assert answer.status == 200
            while (left := until_then - time.monotonic()) > 0:
                line = await asyncio.wait_for(answer.content.readline(), left)
                if not line:
                    tally.failures.append(f"events of {user}: the stream ended")
                    return
                tally.events += line.startswith(b"event:")
    except TimeoutError:
        pass
    except aiohttp.ClientError as error:
        tally.failures.append(f"events of {user}: {error!r}")


async def open_and_never_read(path, until_then):
    """Listen to all users, and let it pile up; come back as often as the daemon has long hung up."""
    while (left := until_then - time.monotonic()) > 0:
        _, writer = await asyncio.open_unix_connection(path)
        writer.transport.pause_reading()
        writer.write(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(min(60, left))
        writer.transport.abort()


async def come_and_go(http, users, tally, until_then):
    """Users of their own come, get a server, and leave."""
    while time.monotonic() < until_then:
        tally.came += 1
        user = f"guest_{tally.came}"
        for method, path, statuses in (
            ("PUT", f"/v1/users/{user}?wait=qr&timeout=60", {201}),
            ("POST", f"/v1/users/{random.choice(users)}/restart", {200}),
            ("DELETE", f"/v1/users/{user}", {204}),
        ):
            try:
                async with http.request(method, path, timeout=aiohttp.ClientTimeout(total=90)) as answer:
                    if answer.status not in statuses:
                        tally.failures.append(f"{method} {path}: {answer.status} {await answer.text()}")
            except (aiohttp.ClientError, TimeoutError) as error:
                tally.failures.append(f"{method} {path}: {error!r}")
        await asyncio.sleep(1)


@dataclass
class Sample:
    """What the daemon holds at one moment."""

    memory: int
    files: int
    threads: int


async def watch(process, samples, until_then):
    while time.monotonic() < until_then:
        samples.append(Sample(process.memory_info().rss, process.num_fds(), process.num_threads()))
        await asyncio.sleep(1)


async def load(waportd):
    tally, hasty, samples = Tally(), Tally(), []
    running = [str(number) for number in range(1, SIZE.running + 1)]
    connector = aiohttp.UnixConnector(str(waportd.socket), limit=0)
    async with aiohttp.ClientSession("http://localhost", connector=connector) as http:
        slots = asyncio.Semaphore(20)

        async def put(user, wait):
            async with slots, http.put(f"/v1/users/{user}", params={"wait": wait, "timeout": 300}) as answer:
                assert answer.status == 201, await answer.text()

        await asyncio.gather(*(put(user, "qr") for user in running))
        # Assigned, and then stopped: a port, and no server.
        rest = [f"rest_{number}" for number in range(SIZE.assigned - SIZE.running)]
        for user in rest:
            async with http.get("/api/port", params={"user_id": user}) as answer:
                assert answer.status == 200
        process = psutil.Process(waportd.pid)
        end = time.monotonic() + SIZE.seconds
        await asyncio.gather(
            *(poll(http, running, tally, end) for _ in range(SIZE.pollers)),
            *(listen(http, running[number % len(running)], tally, end) for number in range(SIZE.listeners)),
            poll(http, running, hasty, end, HASTE),
            *(open_and_never_read(str(waportd.socket), end) for _ in range(SIZE.deaf)),
            come_and_go(http, running, tally, end - 5),
            watch(process, samples, end),
        )
    return tally, hasty, samples


def test_many_users_at_once_are_all_answered_quickly_and_nothing_grows(idle_waportd):
    idle_waportd.start()
    tally, hasty, samples = asyncio.run(load(idle_waportd))
    assert tally.failures == hasty.failures == []
    assert len(hasty.took) > SIZE.seconds / HASTE / 2
    assert tally.events > SIZE.listeners
    p99 = statistics.quantiles(tally.took, n=100)[98]
    half = samples[len(samples) // 2 :]
    quarter = max(1, len(half) // 4)
    parts = (half[:quarter], half[-quarter:])
    early, late = (statistics.median(sample.memory for sample in part) for part in parts)
    # The most of each part: those who never read are hung up on together, and come back together a minute later.
    files = [max(sample.files for sample in part) for part in parts]
    note = {
        **SIZE.__dict__,
        "requests": len(tally.took),
        "hasty": len(hasty.took),
        "events": tally.events,
        "came": tally.came,
        "p50": statistics.median(tally.took),
        "p99": p99,
        "memory": late,
        "growth": late / early - 1,
        "files": files[-1],
        "threads": half[-1].threads,
    }
    if FULL:
        REPORT.write_text(json.dumps(note, indent=1))
    assert p99 < (0.05 if FULL else 0.25)
    assert late / early < 1.05
    assert abs(files[1] - files[0]) <= max(5, 0.02 * files[0])
    assert len({sample.threads for sample in half}) <= 2
    assert until(
        lambda: idle_waportd.call("GET", "/v1/health")["users"] == SIZE.assigned, "the guests to be gone"
    )
    note_row(
        f"{SIZE.deaf} readers open event streams and never read, and a front end polls {1 / HASTE:.0f} times a second",
        f"{SIZE.pollers} other pages: all answered, 99 of 100 in {p99 * 1000:.0f} ms; memory of the daemon: flat",
    )
