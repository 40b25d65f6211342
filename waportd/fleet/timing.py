"""The times that a lease and its fence are made of, and how they must relate.

A session may run on another host only after it is dead here. What proves it is the order of these times alone, so
they are checked where they are read: by the keeper, and where its unit is written.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Final, Self

from waportd.errors import ConfigError

PREFIX: Final = "WAPORTD_FLEET_"
"""Each time can be set as a variable of this beginning, such as ``WAPORTD_FLEET_TTL_S``: for tests."""

CLOCKS_APART: Final = 1.1
"""How much faster the clock of one host may run than that of another."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Times in seconds. Those of a member and of the host it renews for are the same in a whole fleet."""

    renew_s: float = 3.0
    """Between the begins of two renewals."""
    call_s: float = 2.0
    """The limit of one call to the engine."""
    ask_s: float = 3.0
    """The limit for the other members' answers. They try the engine first, which takes them ``call_s``."""
    deadline_s: float = 15.0
    """From the begin of a renewal that succeeded to the end of the lease unit, if none follows."""
    late_s: float = 0.5
    """An end later than this after the deadline kills the sessions at once: another host may be near."""
    watchdog_s: float = 18.0
    """systemd kills a keeper that is silent for longer."""
    abort_s: float = 1.0
    """systemd then waits this long for the end of its processes."""
    stop_s: float = 15.0
    """systemd kills a session that has not ended this long after it was asked to."""
    ttl_s: float = 45.0
    """The engine lets a lease go this long after its last renewal, never earlier."""
    taken_s: float = 90.0
    """A name that is held for this long is another host's: an earlier lease of ours is gone by then, also where the
    engine changed its leader meanwhile, which gives each lease its whole time once more."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Return the times, of which variables may replace some. Raises ConfigError, which lists every fault."""
        values, faults = {}, []
        for field in dataclasses.fields(cls):
            name = PREFIX + field.name.upper()
            if (text := environment.get(name)) is not None:
                try:
                    values[field.name] = float(text)
                except ValueError:
                    faults.append(f"{name}={text!r} is no number of seconds")
        timing = cls(**values)
        faults += timing.faults()
        if faults:
            raise ConfigError(
                f"the times of the lease are not safe: {'; '.join(faults)}",
                hint=f"remove the variables {PREFIX}… from waportd-lease.service: the defaults are safe",
            )
        return timing

    def faults(self) -> list[str]:
        """Return what of these times would not hold the sessions apart, or would end them for nothing."""
        dead = self.deadline_s + self.stop_s
        watched = self.ask_s + self.watchdog_s + self.abort_s + self.stop_s
        rules = {
            "each time is a number of seconds above 0": all(
                0 < value < float("inf") for value in dataclasses.astuple(self)
            ),
            f"(deadline_s + stop_s) x {CLOCKS_APART} < ttl_s": dead * CLOCKS_APART < self.ttl_s,
            f"(ask_s + watchdog_s + abort_s + stop_s) x {CLOCKS_APART} < ttl_s": watched * CLOCKS_APART
            < self.ttl_s,
            "deadline_s < watchdog_s": self.deadline_s < self.watchdog_s,
            "call_s < ask_s": self.call_s < self.ask_s,
            "renew_s + 2 x (call_s + ask_s) <= deadline_s": self.renew_s + 2 * (self.call_s + self.ask_s)
            <= self.deadline_s,
            "ttl_s < taken_s": self.ttl_s < self.taken_s,
        }
        return [f"it must be that {rule}" for rule, holds in rules.items() if not holds]

    def changed(self) -> Iterator[tuple[str, str]]:
        """Yield the variables, with their values, that give another process these times."""
        for field in dataclasses.fields(self):
            if (value := getattr(self, field.name)) != field.default:
                yield PREFIX + field.name.upper(), f"{value:g}"
