"""The same two things with 10, 100, 1,000 and 10,000 assigned users: they should take the same time."""

import functools
import itertools
import time

from bench import place, raw, seed, traffic
from bench.measure import Row, at_most, percentile, row, timed

SOCKETS = 1000
"""Socket units that there are at most, as limits.max_sockets has it by default."""


def rows(*, quick: bool) -> list[Row]:
    """Measure every size."""
    sizes = (10, 100) if quick else (10, 100, 1000, 10_000)
    rounds = 2 if quick else 12
    measured: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    # There and back again, so that drift hits all alike.
    for size in (*sizes, *reversed(sizes)):
        measured[size] += _at(size, rounds)
    least = sizes[0]
    result = []
    for size in sizes[1:]:
        for key, unit, what in (
            ("warm", "µs", "GET /v1/users/2/qr, p50"),
            ("first", "ms", "first PUT of a new user until /health answers"),
        ):
            ours = [each[key] for each in measured[size]]
            theirs = [each[key] for each in measured[least]]
            result.append(
                row(
                    f"{what}, with {size:,} assigned users",
                    f"with {least}",
                    unit,
                    ours,
                    theirs,
                    at_most(1.1),
                )
            )
    return result


def _at(size: int, rounds: int) -> list[dict[str, float]]:
    running = min(size, SOCKETS)
    with place.daemon(
        limits={"max_sockets": SOCKETS + 100},
        seeded=lambda waportd: seed.users(waportd, size, running),
    ) as waportd:
        seed.until_reconciled(waportd, size, running)
        waportd.show_code("2")
        time.sleep(1)
        daemon = waportd.pid
        result = []
        for user in itertools.islice((f"new-{number}" for number in itertools.count()), rounds + 1):
            with traffic.placed(daemon, together=True):
                warm = percentile(traffic.latencies(str(waportd.socket), "/v1/users/2/qr", 1000), 0.5) * 1e6
            first = timed(functools.partial(_put, waportd, user))
            waportd.call("DELETE", f"/v1/users/{user}", 204)
            result.append({"warm": warm, "first": first})
        return result[1:]


def _put(waportd: place.Waportd, user: str) -> None:
    raw.answer_of(waportd.call("PUT", f"/v1/users/{user}", 201)["port"])
