"""Simulate a fleet: that no user ever runs twice, how long a failover takes, and what 1,000 hosts need.

``python3 -m bench.fleet`` takes half a minute; ``--runs`` and ``--seed`` try other accidents.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from bench.fleet.accidents import accidents
from bench.fleet.figures import failover, plan
from bench.fleet.scenarios import BROKEN_RULES, SCENARIOS, play
from bench.fleet.world import Broken


def hold(seed: int, runs: int) -> bool:
    """Print whether the rules hold, whatever happens."""
    tries = [(play, scenario, each) for scenario in SCENARIOS for each in range(seed, seed + 3)]
    tries += [(accidents, 30, each) for each in range(seed, seed + runs)]
    takes = hours = faults = 0.0
    for run, what, each in tries:
        try:
            world = run(what, each)
        except Broken as broken:
            faults += 1
            print(f"{run.__name__}, {getattr(what, '__name__', what)}, seed {each}: {broken}", flush=True)
        else:
            takes, hours = takes + world.takes, hours + world.time / 3600
    print(f"{len(tries)} runs, {hours:.0f} h, {takes:.0f} users taken over, {faults:.0f} faults", flush=True)
    return not faults


def found(seed: int) -> bool:
    """Print whether each broken rule is found."""
    missed = 0
    for what, (rules, scenario) in BROKEN_RULES.items():
        try:
            play(scenario, seed, rules)
        except Broken as broken:
            print(f"if {what}: {broken}", flush=True)
        else:
            missed += 1
            print(f"if {what}: NOT FOUND", flush=True)
    return not missed


def main() -> int:
    """Return 1 where a rule does not hold, or a broken rule is not found."""
    parser = argparse.ArgumentParser(prog="bench.fleet", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=20, help="of accidents, half an hour each")
    arguments = parser.parse_args()
    well = hold(arguments.seed, arguments.runs) & found(arguments.seed)
    print("seconds without a session after a host died:")
    for hosts, users in ((3, 30), (4, 100), (20, 100), (100, 100)):
        down = sorted(failover(hosts, users, 5 if hosts < 100 else 2))
        p99 = down[int(len(down) * 0.99) - 1]
        print(
            f"  {users} users, {hosts} hosts: median {statistics.median(down):.0f}, p99 {p99:.0f}", flush=True
        )
    print("1,000 hosts of 100 users:")
    for name, value in plan(1000, 100).items():
        print(f"  {name}: {value:,.4g}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
