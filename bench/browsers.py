"""Real browsers in front of the stand-in: time to the code, memory of one session and of each further one."""

import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil

from bench import place
from bench.measure import Row, at_most, interleave, less_than, row, value_at_most

T = TypeVar("T")

MIB = 1 << 20
SETTLE = 4.0
"""Seconds from the shown code to the measurement of memory: by then, what only the start needed is freed."""

COPIED_FLAGS = [
    "--no-sandbox",
    "--disable-setuid-sandbox",
    "--disable-dev-shm-usage",
    "--disable-accelerated-2d-canvas",
    "--no-first-run",
    "--no-zygote",
    "--disable-gpu",
]
"""What set-ups of this kind pass to Chromium, copied from each other."""


def rows(*, quick: bool) -> list[Row]:
    """Measure sessions that wait for a scan."""
    with place.scratch() as folder:
        standin = place.StandIn(folder)
        try:
            with place.daemon(standin, limits={"max_sockets": 100}) as waportd:
                sessions = Sessions(waportd, standin)
                return [
                    *_time_to_code(sessions, 1 if quick else 9),
                    *_surface_check(sessions, 3 if quick else 25),
                    *_memory(
                        sessions, 1 if quick else 3, more=1 if quick else 7, settle=1 if quick else SETTLE
                    ),
                    *([] if quick else _per_gigabyte(sessions, (1, 5, 10, 20))),
                ]
        finally:
            standin.close()


class Sessions:
    """Starts sessions of ours and of the ten-line script."""

    def __init__(self, waportd: place.Waportd, standin: place.StandIn) -> None:
        self.waportd = waportd
        self.standin = standin
        self.code = ""
        """What the script has printed last to be scanned."""
        self.standin_args = list(standin.browser_args)
        shell = shutil.which("chromium-headless-shell")
        assert shell is not None
        printed = subprocess.run(
            ["node", place.ROOT / "bench/our_flags.js", shell], check=True, capture_output=True, timeout=60
        ).stdout
        self.ours: dict[str, Any] = {**json.loads(printed), "name": "ours"}
        self.default: dict[str, Any] = {
            "executablePath": shutil.which("chromium"),
            "args": [],
            "name": "default",
        }
        self.copied: dict[str, Any] = {**self.default, "args": COPIED_FLAGS, "name": "copied"}
        self._users = itertools.count(50)

    def start_ours(self) -> tuple[str, float]:
        """Give a new user a session that shows a code; return the user and the milliseconds."""
        user = str(next(self._users))
        began = time.perf_counter()
        answer = self.waportd.ask("PUT", f"/v1/users/{user}?wait=qr&timeout=90")
        took = (time.perf_counter() - began) * 1000
        assert answer.status == 201, answer.body
        assert self.waportd.qr(user)["qr"]
        return user, took

    def end_ours(self, user: str) -> None:
        """Delete the session."""
        self.waportd.call("DELETE", f"/v1/users/{user}", 204)

    @contextlib.contextmanager
    def ten_lines(
        self, options: dict[str, Any], kept: Path | None = None, first: str = "code"
    ) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
        """Run the script until the block ends; give the process and the milliseconds until its first line.

        ``kept`` is a folder that a later run finds again, as a session of ours does. ``first`` is what that line has to
        be: ``code``, or ``ready``.
        """
        with place.scratch() if kept is None else contextlib.nullcontext(kept) as folder:
            folder.mkdir(exist_ok=True)
            args = [each.replace("/CACHE", str(folder / "cache")) for each in options["args"]]
            asked = json.dumps({**options, "name": None, "args": [*args, *self.standin_args]})
            began = time.perf_counter()
            with place.program(
                "node",
                place.ROOT / "bench/ten_lines.js",
                folder / "auth",
                asked,
                stdout=subprocess.PIPE,
                cwd=folder,
            ) as process:
                assert process.stdout is not None
                line = process.stdout.readline().decode().strip()
                took = (time.perf_counter() - began) * 1000
                assert (line.count(",") == 4) if first == "code" else (line == first), (
                    f"no {first}, but {line!r}"
                )
                self.code = line
                yield process, took
                _end(process)
                process.stdout.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the script and its browser: the library leaves that to its user."""
    with contextlib.suppress(psutil.NoSuchProcess):
        main = psutil.Process(process.pid)
        family = [main, *main.children(recursive=True)]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, 10)


def pss(pids: list[int]) -> float:
    """Return the memory of these processes, in MiB."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += place.memory(pid)
    return total / MIB


def tree(pid: int) -> list[int]:
    """Return a process and all that it has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        main = psutil.Process(pid)
        return [main.pid, *(child.pid for child in main.children(recursive=True))]
    return []


def group(waportd: place.Waportd, user: str) -> list[int]:
    """Return all processes of a user's unit."""
    unit = waportd.user(user)["unit"]
    group = place.unit_property(unit, "ControlGroup")
    for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified")):
        processes = root / group.lstrip("/") / "cgroup.procs"
        if processes.exists() and (listed := processes.read_text("ascii").split()):
            return [int(pid) for pid in listed]
    return tree(int(place.unit_property(unit, "MainPID")))


def _time_to_code(sessions: Sessions, rounds: int) -> list[Row]:
    waportd = sessions.waportd
    user, first = sessions.start_ours()
    del first

    def ours() -> float:
        waportd.call("POST", f"/v1/users/{user}/stop")
        began = time.perf_counter()
        waportd.call("PUT", f"/v1/users/{user}?wait=qr&timeout=90")
        return (time.perf_counter() - began) * 1000

    def script(options: dict[str, Any]) -> float:
        with sessions.ten_lines(options, waportd.directory / options["name"]) as (_, took):
            return took

    measured = interleave(
        rounds,
        {
            "ours": ours,
            "same": lambda: script(sessions.ours),
            "copied": lambda: script(sessions.copied),
        },
    )
    sessions.end_ours(user)
    return [
        row(
            "PUT of a stopped user until its code",
            "ten-line script, same browser and flags",
            "ms",
            measured["ours"],
            measured["same"],
            at_most(1.05),
        ),
        row(
            "PUT of a stopped user until its code",
            "ten-line script, chromium with the flags of old set-ups",
            "ms",
            measured["ours"],
            measured["copied"],
            less_than(1),
        ),
    ]


def _surface_check(sessions: Sessions, rounds: int) -> list[Row]:
    """Measure what it costs to see that WhatsApp's page has what is used of it."""
    with place.scratch() as folder:
        args = [each.replace("/CACHE", str(folder)) for each in sessions.ours["args"]]
        asked = json.dumps({**sessions.ours, "name": None, "args": [*args, *sessions.standin_args]})
        program = place.ROOT / "bench/surface_check.js"
        command = ["node", "--expose-gc", program, str(rounds), asked]
        printed = subprocess.run(command, check=True, capture_output=True, timeout=300).stdout
    measured = json.loads(printed)
    none = "–"
    return [
        row(f"check of the page {when}", none, "ms", measured[part], target=value_at_most(10, "ms"))
        for part, when in (("boot", "before the first code"), ("main", "after ready"))
    ] + [
        row(
            "memory that both checks leave in page and server",
            none,
            "MiB",
            [each / MIB for each in measured["memory"]],
            target=value_at_most(1, "MiB"),
        )
    ]


def first_and_more(
    start: Callable[[], T], memory: Callable[[T], float], more: int, settle: float
) -> tuple[list[T], float, float]:
    """Start one and then more of something; return all, MiB of the first alone, and MiB that each further one adds.

    ``settle`` seconds pass before memory is measured.
    """
    started = [start()]
    time.sleep(settle)
    first = memory(started[0])
    started += [start() for _ in range(more)]
    time.sleep(settle)
    return started, first, (sum(map(memory, started)) - first) / more


def _memory(sessions: Sessions, rounds: int, more: int, settle: float) -> list[Row]:
    def ours() -> tuple[float, float]:
        users, first, each = first_and_more(
            lambda: sessions.start_ours()[0], lambda user: pss(group(sessions.waportd, user)), more, settle
        )
        for user in users:
            sessions.end_ours(user)
        return first, each

    def theirs() -> tuple[float, float]:
        with contextlib.ExitStack() as stack:
            _, first, each = first_and_more(
                lambda: stack.enter_context(sessions.ten_lines(sessions.default))[0],
                lambda script: pss(tree(script.pid)),
                more,
                settle,
            )
        return first, each

    measured = interleave(rounds, {"ours": ours, "theirs": theirs})
    return [
        row(
            what,
            "ten-line script, chromium with the library's default flags",
            "MiB",
            [each[index] for each in measured["ours"]],
            [each[index] for each in measured["theirs"]],
            target,
        )
        for index, what, target in (
            (0, "memory of the first session that waits for a scan (PSS)", at_most(0.5)),
            (1, f"memory that each further session adds (1 to {more + 1})", at_most(0.42)),
        )
    ]


def _per_gigabyte(sessions: Sessions, counts: tuple[int, ...]) -> list[Row]:
    users: list[str] = []
    result = []
    daemon = sessions.waportd.pid
    for count in counts:
        while len(users) < count:
            users.append(sessions.start_ours()[0])
        time.sleep(SETTLE)
        total = sum(pss(group(sessions.waportd, user)) for user in users) + pss([daemon])
        result.append(row(f"sessions that wait for a scan and the daemon: {count}", "–", "MiB", [total]))
    for user in users:
        sessions.end_ours(user)
    first, last = result[0], result[-1]
    each = (last.ours - first.ours) / (counts[-1] - counts[0])
    result.append(
        row("sessions per GiB, beyond the first (measured with 20)", "–", "sessions", [1024 / each])
    )
    return result
