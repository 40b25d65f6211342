"""Fleets on simulated clocks: no user ever runs twice, and a rule that is broken is found.

`python3 -m bench.fleet` has more of it, and the figures.
"""

import pytest

from bench.fleet.accidents import accidents
from bench.fleet.figures import failover, plan
from bench.fleet.scenarios import BROKEN_RULES, SCENARIOS, play
from bench.fleet.world import Broken


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_no_user_runs_twice_when(scenario):
    assert play(scenario, seed=1).time > 300


@pytest.mark.parametrize("seed", [1, 2, 4, 5])
def test_whatever_happens_no_user_runs_twice_and_all_run_in_the_end(seed):
    world = accidents(20, seed)
    assert world.takes
    assert not world.down


@pytest.mark.parametrize("what", BROKEN_RULES)
def test_the_simulation_finds_it_if(what):
    rules, scenario = BROKEN_RULES[what]
    with pytest.raises(Broken):
        play(scenario, 1, rules)


def test_a_seed_decides_everything():
    first, second = (accidents(10, 5) for _ in range(2))
    assert first.outages
    assert (first.outages, first.takes) == (second.outages, second.takes)


def test_a_dead_hosts_users_are_back_within_minutes():
    down = failover(hosts=3, users=12, seeds=1)
    assert len(down) == 12
    # Not before the lease is gone and the failover time is over, with clocks 10 % too fast.
    assert min(down) > (45 - 3 + 15) / 1.1 + 6
    assert max(down) < (45 + 15) / 0.9 + 3 + 4 * 20 / 0.9


def test_what_is_planned_grows_with_the_fleet():
    small, large = plan(4, 10), plan(8, 10)
    assert all(large[name] > value for name, value in small.items() if name.startswith(("renewals", "watch")))
