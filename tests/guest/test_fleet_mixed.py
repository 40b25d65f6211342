"""A fleet whose hosts have different releases, as while one after the other is upgraded."""

import contextlib

import pytest
import test_fleet
from fleet_machines import fleet_on
from machines import needed_by
from test_fleet import settled
from testbed import guests

__all__ = ["settled"]

pytestmark = [pytest.mark.thorough, pytest.mark.xdist_group("both")]

test_users_of_a_host_without_power_are_on_others = (
    test_fleet.test_users_of_a_host_without_power_are_on_others_and_it_gives_them_up_when_it_is_back
)
test_a_host_that_is_cut_off_ends_its_sessions = (
    test_fleet.test_a_host_that_is_cut_off_ends_its_sessions_before_others_run_them
)
test_any_host_answers_for_a_user_who_is_elsewhere = (
    test_fleet.test_any_host_answers_for_a_user_who_is_elsewhere_by_the_one_that_has_the_user
)
test_while_the_engine_is_away_all_sessions_run_on = (
    test_fleet.test_while_the_engine_is_away_all_sessions_run_on_and_nobody_is_made
)
test_for_a_host_that_does_not_reach_the_engine_another_one_renews = (
    test_fleet.test_for_a_host_that_does_not_reach_the_engine_another_one_renews
)
test_a_host_is_emptied_while_everything_runs = (
    test_fleet.test_a_host_is_emptied_while_everything_runs_and_taken_into_use_again
)


@pytest.fixture(scope="module")
def fleet(package, installed, tmp_path_factory):
    """An older host between two newer ones."""
    needed = needed_by(package)
    with contextlib.ExitStack() as stack:
        old, new = (stack.enter_context(guests.prepared_root(release, needed)) for release in guests.RELEASES)
        disks = [(root, installed(root)) for root in (new, old, new)]
        yield stack.enter_context(fleet_on(disks, package, tmp_path_factory.mktemp("fleet"), "both"))
