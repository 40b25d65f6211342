"""Copies of a login that is in use: how long its browser stands still, and how much is copied."""

import json
import subprocess

from bench import place
from bench.measure import Row, rest, row, value_at_most

SIZE_MIB = 64
"""A login has 50 to 2,500 MB."""
PAUSE_MS = 150
SCRIPT = place.ROOT / "bench/snapshot.js"


def rows(*, quick: bool) -> list[Row]:
    """Measure snapshots of a login of 64 MiB."""
    rounds = [_round() for _ in range(2 if quick else 15)]
    plain = [each["plain"] for each in rounds]
    whole = "a copy of all of it while it stands still"
    limit = value_at_most(PAUSE_MS, "ms")
    return [
        row(
            "the browser stands still for the first snapshot of 64 MiB",
            whole,
            "ms",
            [each["first"] for each in rounds],
            plain,
            limit,
        ),
        row(
            "the browser stands still for one more, when one chat has changed",
            whole,
            "ms",
            [each["next"] for each in rounds],
            plain,
            limit,
        ),
        row(
            "copied for that",
            "all of it",
            "KiB",
            [each["copied"] / 1024 for each in rounds],
            [SIZE_MIB * 1024.0] * len(rounds),
        ),
    ]


def _round() -> dict[str, float]:
    with place.disk() as folder:
        rest()
        done = subprocess.run(
            ["node", SCRIPT, folder, str(SIZE_MIB)], capture_output=True, text=True, check=True
        )
    result: dict[str, float] = json.loads(done.stdout)
    return result
