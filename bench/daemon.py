"""The daemon itself: memory, start, and what it costs when nothing happens."""

import subprocess
import time
from pathlib import Path

import yaml

from bench import place, seed, traffic
from bench.measure import Row, at_most, interleave, row, value_at_most
from bench.start import put_all

MANY = 200
ASSIGNED = 10_000
KIB = 1024
MIB = 1 << 20


def rows(*, quick: bool) -> list[Row]:
    """Measure the daemon idle, with assigned users, with running ones, and while it starts."""
    start = _start(3 if quick else 25)
    return [
        *start,
        *_assigned(500 if quick else ASSIGNED),
        *_running(quick=quick, idle_start=start[0].ours / 1000),
    ]


def _start(rounds: int) -> list[Row]:
    with place.daemon() as waportd:
        place.systemctl("stop", "waportd.service", "waportd.socket")
        path = waportd.directory / "direct.sock"
        config = waportd.directory / "direct.yaml"
        settings = yaml.safe_load(waportd.config_file.read_text("utf-8"))
        config.write_text(yaml.safe_dump({**settings, "api": {"socket": str(path)}}), "utf-8")

        def ours() -> float:
            began = time.perf_counter()
            with place.program(
                place.PYTHON, "-m", "waportd", "--config", config, cwd=place.ROOT, stderr=subprocess.DEVNULL
            ):
                _first_answer(path)
                return (time.perf_counter() - began) * 1000

        def theirs() -> float:
            began = time.perf_counter()
            subprocess.run([place.PYTHON, "-c", "import aiohttp"], check=True)
            return (time.perf_counter() - began) * 1000

        ours()
        theirs()
        measured = interleave(rounds, {"ours": ours, "theirs": theirs})
    return [
        row(
            "daemon start until its first answer",
            "python3 -c 'import aiohttp'",
            "ms",
            measured["ours"],
            measured["theirs"],
            at_most(2),
        )
    ]


def _first_answer(path: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            traffic.body_of(str(path), "/v1/health")
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)
        else:
            return


def _settled_memory(waportd: place.Waportd) -> float:
    waportd.call("GET", "/v1/health")
    time.sleep(1)
    return place.memory(waportd.pid)


def _assigned(count: int) -> list[Row]:
    with place.daemon() as waportd:
        for _ in range(20):
            waportd.call("GET", "/v1/users")
        idle = _settled_memory(waportd)
    with place.daemon(seeded=lambda waportd: seed.users(waportd, count, running=0)) as waportd:
        seed.until_reconciled(waportd, count, 0)
        full = _settled_memory(waportd)
    return [
        row(
            "daemon, idle (PSS)", "–", "MiB", [idle / MIB], None, value_at_most(45 * 1e6 / MIB, "MiB (45 MB)")
        ),
        row(
            f"daemon, per assigned user ({count})",
            "–",
            "kB",
            [(full - idle) / count / 1000],
            None,
            value_at_most(2, "kB"),
        ),
    ]


def _running(*, quick: bool, idle_start: float) -> list[Row]:
    count, seconds, rounds = (10, 3, 1) if quick else (MANY, 30, 5)
    users = range(1, count + 1)
    with place.daemon(limits={"max_sockets": 1000}) as waportd:
        put_all(waportd, users, "?wait=none")
        seed.until_reconciled(waportd, count, count)
        before = _stopped_memory(waportd, users)
        put_all(waportd, users, "?wait=qr&timeout=300")
        # A phone scans each code: a linked session has nothing to say.
        place.systemctl("kill", "--kill-whom=main", "--signal=SIGUSR2", "whatsapp@*.service")
        _until_complete(waportd, count, "ready")
        time.sleep(2)
        after = place.memory(waportd.pid)
        used = place.seconds_of_cpu(waportd.pid)
        time.sleep(seconds)
        share = (place.seconds_of_cpu(waportd.pid) - used) / seconds * 100
        complete = []
        for _ in range(rounds):
            place.systemctl("stop", "waportd.service")
            began = time.perf_counter()
            # Not waited for: the first request waits in the socket that systemd holds.
            place.systemctl("start", "--no-block", "waportd.service")
            waportd.call("GET", "/v1/health")
            _until_complete(waportd, count, "ready")
            complete.append(time.perf_counter() - began)
    return [
        row(
            f"daemon, per running user ({count}, PSS)",
            "–",
            "kB",
            [(after - before) / count / 1000],
            None,
            value_at_most(60, "kB"),
        ),
        row(
            f"daemon, processor time with {count} idle users",
            "–",
            "% of a core",
            [share],
            None,
            value_at_most(0.5, "%"),
        ),
        row(
            f"daemon start until the picture of {count} running users is complete, beyond a start without users",
            "–",
            "s",
            [each - idle_start for each in complete],
            None,
            value_at_most(1, "s more"),
        ),
    ]


def _stopped_memory(waportd: place.Waportd, users: range) -> int:
    """Return the daemon's memory with the same users, once they have run and are stopped."""
    for user in users:
        waportd.call("POST", f"/v1/users/{user}/stop")
    time.sleep(2)
    return place.memory(waportd.pid)


def _until_complete(waportd: place.Waportd, count: int, state: str) -> None:
    def complete() -> bool:
        shown = waportd.call("GET", "/v1/users")["users"]
        return sum(1 for user in shown if user["session"] and user["session"]["answering"]
                   and user["session"]["state"] == state) == count  # fmt: skip

    place.until(complete, f"{count} sessions {state}", patience=180)
