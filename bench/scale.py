"""The same things with 10, 100, 1,000 and 10,000 assigned users: they should take the same time."""

import functools
import time

from bench import place, raw, seed, traffic
from bench.measure import Row, at_most, percentile, row, timed

SOCKETS = 1000
"""Socket units that there are at most, as limits.max_sockets has it by default."""
LEAST = 10
"""What every other size is compared with."""
RAW = 15_300
"""First port of the units without waportd: beyond those of 10,000 users."""


def rows(*, quick: bool) -> list[Row]:
    """Measure every size, and right before or after it the least one: what drifts in a minute hits both."""
    sizes = (100,) if quick else (100, 1000, 10_000)
    rounds = 2 if quick else 12
    measured: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    least: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for size in sizes:
        least[size] += _at(LEAST, rounds)
        measured[size] += _at(size, rounds)
    for size in () if quick else reversed(sizes):
        measured[size] += _at(size, rounds)
        least[size] += _at(LEAST, rounds)
    return [
        row(
            f"{what}, with {size:,} assigned users",
            f"with {LEAST}",
            unit,
            [each[key] for each in measured[size]],
            [each[key] for each in least[size]],
            target,
        )
        for size in sizes
        for key, unit, what, target in (
            ("warm", "µs", "GET /v1/users/2/qr, p50", at_most(1.1)),
            ("first", "ms", "first PUT of a new user until /health answers", at_most(1.1)),
            # What of it is systemd's, which holds the sockets.
            ("raw", "ms", "without waportd: raw StartUnit until /health answers", None),
        )
    ]


def _at(size: int, rounds: int) -> list[dict[str, float]]:
    """Measure what new users meet who come one after the other, and stay."""
    running = min(size, SOCKETS)
    with (
        place.daemon(
            limits={"max_sockets": SOCKETS + 100},
            seeded=lambda waportd: seed.users(waportd, size, running),
        ) as waportd,
        raw.raw_units(waportd) as units,
    ):
        seed.until_reconciled(waportd, size, running)
        waportd.show_code("2")
        ports = range(RAW, RAW + rounds + 1)
        units.allow(ports)
        time.sleep(1)
        daemon = waportd.pid
        result = []
        for number, port in enumerate(ports):
            with traffic.placed(daemon, together=True):
                warm = percentile(traffic.latencies(str(waportd.socket), "/v1/users/2/qr", 1000), 0.5) * 1e6
            first = timed(functools.partial(_put, waportd, f"new-{number}"))
            bare = timed(functools.partial(units.run, port))
            units.stop(port)
            result.append({"warm": warm, "first": first, "raw": bare})
        return result[1:]


def _put(waportd: place.Waportd, user: str) -> None:
    raw.answer_of(waportd.call("PUT", f"/v1/users/{user}", 201)["port"])
