"""Linked sessions, whose page is as heavy as a real one: memory, processor time, restarts."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import place
from bench.browsers import Sessions, first_and_more, group, pss, tree
from bench.measure import Row, at_most, interleave, row, value_at_most

CHATS = (100, 5_000)
"""How many chats the accounts have; tests/standin/README.md says what that weighs."""
SETTLE_S = 45.0
"""From `ready` to the measurement of memory: what is released once a session is at rest is released by then."""
IDLE_S = 60.0
SCRIPT = "ten-line script, chromium with the library's default flags"
SAME = "ten-line script, same browser and flags"


def rows(*, quick: bool) -> list[Row]:
    """Measure sessions of accounts with few chats and with many."""
    return [each for chats in CHATS[: 1 if quick else 2] for each in _of(chats, quick=quick)]


def _of(chats: int, *, quick: bool) -> list[Row]:
    more = 1 if quick else {100: 4, 5_000: 2}[chats]
    settle, idle = (2, 2) if quick else (SETTLE_S, IDLE_S)
    account = f"{chats:,} chats"
    with place.scratch() as folder:
        standin = place.StandIn(folder, "--weight", str(chats))
        try:
            with place.daemon(standin, limits={"max_sockets": 100}) as waportd:
                linked = Linked(Sessions(waportd, standin))
                memory = interleave(
                    1 if quick else 3,
                    {
                        "ours": lambda: linked.ours(more, settle, idle),
                        "theirs": lambda: linked.scripts(more, settle, idle),
                    },
                )
                restarts = linked.restarts(1 if quick else 9)
        finally:
            standin.close()

    def of(name: str, member: int) -> list[float]:
        return [each[member] for each in memory[name]]

    return [
        row(
            f"memory of the first linked session, {account} (PSS)",
            SCRIPT,
            "MiB",
            of("ours", 0),
            of("theirs", 0),
            at_most(0.6),
        ),
        row(
            f"memory that each further one adds, {account} (1 to {more + 1})",
            SCRIPT,
            "MiB",
            of("ours", 1),
            of("theirs", 1),
            at_most(0.5),
        ),
        row(
            f"processor time of a linked session in which nothing happens, {account}",
            SCRIPT,
            "% of a core",
            of("ours", 2),
            of("theirs", 2),
            value_at_most(0.3, "% of a core"),
        ),
        row(
            f"PUT of a stopped linked user until it is ready, {account}",
            SAME,
            "ms",
            restarts["ours"],
            restarts["theirs"],
            at_most(1),
        ),
    ]


class Linked:
    """Links sessions of ours and of the ten-line script, each to a phone of its own."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._waportd = sessions.waportd
        self._phones = itertools.count(5511990000000)
        # The library is not always in the page when the sync ends: it would wait for that end for ever.
        sessions.standin.tell("set", sync_waits=True)

    def ours(self, more: int, settle: float, idle: float) -> tuple[float, float, float]:
        """Return MiB of the first session, MiB that each further one adds, and % of a core that each one takes."""
        users, first, each = first_and_more(
            self._link, lambda user: pss(group(self._waportd, user)), more, settle
        )
        busy = _busy(lambda: [pid for user in users for pid in group(self._waportd, user)], idle) / len(users)
        for user in users:
            self._sessions.end_ours(user)
        return first, each, busy

    def scripts(self, more: int, settle: float, idle: float) -> tuple[float, float, float]:
        """Return the same of the script with the library's flags."""
        with contextlib.ExitStack() as stack:
            scripts, first, each = first_and_more(
                lambda: stack.enter_context(self._script(self._sessions.default)),
                lambda script: pss(tree(script)),
                more,
                settle,
            )
            busy = _busy(lambda: [pid for script in scripts for pid in tree(script)], idle) / len(scripts)
        return first, each, busy

    def restarts(self, rounds: int) -> dict[str, list[float]]:
        """Return the milliseconds from a start of a session that was linked before until it is ready."""
        user = self._link()
        kept = self._waportd.directory / "linked"
        with self._script(self._sessions.ours, kept):
            time.sleep(1)

        def ours() -> float:
            self._waportd.call("POST", f"/v1/users/{user}/stop")
            began = time.perf_counter()
            self._waportd.call("PUT", f"/v1/users/{user}?wait=ready&timeout=120", timeout=150)
            return (time.perf_counter() - began) * 1000

        def theirs() -> float:
            with self._sessions.ten_lines(self._sessions.ours, kept, first="ready") as (_, took):
                return took

        measured = interleave(rounds, {"ours": ours, "theirs": theirs})
        self._sessions.end_ours(user)
        return measured

    def _link(self) -> str:
        user, _ = self._sessions.start_ours()
        code = self._waportd.qr(user)["qr"]
        self._scan(code)
        self._waportd.call("PUT", f"/v1/users/{user}?wait=ready&timeout=120", timeout=150)
        return user

    @contextlib.contextmanager
    def _script(self, options: dict[str, Any], kept: Path | None = None) -> Iterator[int]:
        with self._sessions.ten_lines(options, kept) as (process, _):
            self._scan(self._sessions.code)
            assert process.stdout is not None
            while (line := process.stdout.readline().strip()) != b"ready":
                assert line, "the script ended before it was ready"
            yield process.pid

    def _scan(self, code: str) -> None:
        phone = str(next(self._phones))
        standin = self._sessions.standin
        standin.tell("scan", qr=code, phone=phone, name=f"Phone {phone[-3:]}")


def _busy(processes: Callable[[], list[int]], idle: float) -> float:
    """Return how much of a core these processes take while nothing happens, in percent."""

    def used() -> dict[int, float]:
        taken = {}
        for pid in processes():
            with contextlib.suppress(OSError):
                taken[pid] = place.seconds_of_cpu(pid)
        return taken

    before = used()
    began = time.monotonic()
    time.sleep(idle)
    after = used()
    spent = sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
    return 100 * spent / (time.monotonic() - began)
