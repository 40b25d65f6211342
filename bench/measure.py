"""What a measurement is: two things done in turn, round after round, and the ratio of one to the other."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

_REST = 0.2
"""Seconds."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What is wanted of a row: of its ratio, or of our own value where there is nothing to compare with."""

    text: str
    met: Callable[[float], bool]
    of_value: bool = False


def at_most(limit: float) -> Target:
    """Want a ratio of at most that."""
    return Target(f"≤ {limit:g}×", lambda ratio: ratio <= limit)


def at_least(limit: float) -> Target:
    """Want a ratio of at least that."""
    return Target(f"≥ {limit:g}×", lambda ratio: ratio >= limit)


def less_than(limit: float) -> Target:
    """Want a ratio below that."""
    return Target(f"< {limit:g}×", lambda ratio: ratio < limit)


def value_at_most(limit: float, unit: str) -> Target:
    """Want a value of at most that, whatever it is compared with."""
    return Target(f"≤ {limit:g} {unit}", lambda value: value <= limit, of_value=True)


def value_at_least(limit: float, unit: str) -> Target:
    """Want a value of at least that, whatever it is compared with."""
    return Target(f"≥ {limit:g} {unit}", lambda value: value >= limit, of_value=True)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the results. The members are those of ``results.json``."""

    what: str
    against: str
    ours: float
    """Median over the rounds."""
    theirs: float | None
    """Median over the rounds; None where there is nothing to compare with."""
    unit: str
    ratio: float | None
    """Median of the ratios of all rounds.

    Not the ratio of the medians: a core that other machines share runs at two speeds (1 to 1.7, changing within tens of
    milliseconds or seconds), and where it runs at each half of the time a median is now of the one and now of the other.
    What is measured right after each other mostly meets the same one.
    """
    target: str | None
    """None for what is only reported beside a target."""
    met: bool | None
    rounds: int
    spread: tuple[float, float]
    """Quartiles of the ratios of all rounds; of our own value where there is no ratio."""


def rest() -> None:
    """Let the machine come to rest before something is timed: what was stopped before takes some time to go."""
    time.sleep(_REST)


def timed(work: Callable[[], object]) -> float:
    """Return the milliseconds that something takes on a machine at rest."""
    rest()
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def interleave(rounds: int, parts: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Do all parts in each round, every other round in the opposite order, so that drift hits all alike."""
    results: dict[str, list[T]] = {name: [] for name in parts}
    for number in range(rounds):
        for name in list(parts) if number % 2 == 0 else reversed(list(parts)):
            results[name].append(parts[name]())
    return results


def row(
    what: str,
    against: str,
    unit: str,
    ours: Sequence[float],
    theirs: Sequence[float] | None = None,
    target: Target | None = None,
) -> Row:
    """Sum up what was measured in each round."""
    mine = statistics.median(ours)
    other = statistics.median(theirs) if theirs else None
    # In a short round a process that waits may use nothing that can be measured.
    ratios = [a / b for a, b in zip(ours, theirs, strict=True) if b] if theirs else []
    ratio = statistics.median(ratios) if ratios else None
    judged = mine if target is None or target.of_value or ratio is None else ratio
    return Row(
        what=what,
        against=against,
        ours=rounded(mine),
        theirs=None if other is None else rounded(other),
        unit=unit,
        ratio=None if ratio is None else rounded(ratio),
        target=None if target is None else target.text,
        met=None if target is None else target.met(judged),
        rounds=len(ours),
        spread=_quartiles(ratios or ours),
    )


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) == 1:
        return rounded(values[0]), rounded(values[0])
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return rounded(first), rounded(third)


def rounded(value: float) -> float:
    """Keep four significant digits: the rest is noise."""
    return float(f"{value:.4g}")


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
