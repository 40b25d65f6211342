"""When many who fail in the same way are an alarm, and when it is over."""

import dataclasses

import pytest

from waportd.alarms import SHARED, WINDOW_S, Rule
from waportd.model import (
    Assignment,
    Desired,
    Passkey,
    PasskeyStage,
    Port,
    Process,
    ProcessState,
    Session,
    SessionState,
    Upstream,
    User,
)
from waportd.registry import Instance

NOON = 1767225600.0
"""What the clock shows when the daemon starts; its own time begins with 0."""
BUILD = "2.3000.1"


def instance(
    user, state=SessionState.GENERATING, cause=None, *, linked=True, build=BUILD, since=NOON, **members
):
    session = Session(state, since, cause=cause, linked=linked, upstream=Upstream(build))
    values = {
        "assignment": Assignment(User(str(user)), Port(5000 + user), linked=linked),
        "process": Process(ProcessState.RUNNING),
        "session": session,
        "answering": True,
        **members,
    }
    return Instance(**values)


class House:
    """Users of one daemon, on a clock that a test turns."""

    def __init__(self, users):
        self.now = 0.0
        self.rule = Rule(self.now)
        self.instances = {}
        for user in range(users):
            self.see(instance(user))

    def see(self, seen):
        self.instances[seen.assignment.user] = seen
        self.rule.note(seen, self.now, NOON + self.now)

    def fail(self, *users, cause="never_ready", state=SessionState.ERROR, **members):
        for user in users:
            self.see(instance(user, state, cause, since=NOON + self.now, **members))

    def retry(self, *users, **members):
        for user in users:
            self.see(instance(user, since=NOON + self.now, **members))

    def get_through(self, *users, state=SessionState.READY, **members):
        self.retry(*users, **members)
        for user in users:
            self.see(instance(user, state, since=NOON + self.now, **members))

    def later(self, seconds):
        self.now += seconds
        return self.alarm

    @property
    def alarm(self):
        return self.rule.look(self.now, lambda: len(self.instances))


@pytest.fixture
def house():
    """Twenty users who have long been ready, of a daemon that has run for a day."""
    house = House(20)
    house.get_through(*range(20))
    house.later(86_400)
    return house


def test_three_of_twenty_who_fail_in_the_same_way_are_an_alarm(house):
    house.fail(1, 2)
    assert house.alarm is None
    house.later(120)
    house.fail(3)
    alarm = house.alarm
    assert (alarm.cause, alarm.users, alarm.build, alarm.began) == ("never_ready", 3, BUILD, 86_400)
    assert "3 users fail in the same way" in alarm.message
    assert "waportctl doctor --upstream" in alarm.hint


@pytest.mark.parametrize("cause", SHARED)
def test_whatever_whatsapp_or_the_way_there_can_bring_about_counts(house, cause):
    house.fail(1, 2, 3, cause=cause)
    assert house.alarm.cause == cause


@pytest.mark.parametrize("cause", ["out_of_memory", "port_held", "killed", "passkey_failed", None])
def test_what_is_a_users_or_the_hosts_own_does_not(house, cause):
    house.fail(*range(20), cause=cause)
    assert house.alarm is None


def test_people_who_are_asked_for_a_passkey_are_none_and_have_got_as_far_as_a_code(house):
    for user in range(20):
        seen = instance(user, SessionState.PASSKEY_REQUIRED, linked=False, since=NOON + house.now)
        wanted = dataclasses.replace(seen.session, passkey=Passkey(PasskeyStage.ASKED))
        house.see(dataclasses.replace(seen, session=wanted))
    assert house.alarm is None
    new_users = {"linked": False}
    house.fail(1, 2, 3, cause="upstream_silent", **new_users)
    assert house.alarm is None, "as many get through"


@pytest.mark.parametrize("cause", ["connection_lost", "unpaired"])
def test_a_network_that_blinks_is_none(house, cause):
    house.fail(*range(20), cause=cause, state=SessionState.DISCONNECTED)
    assert house.alarm is None
    house.fail(*range(20), cause=cause)
    assert house.alarm.users == 20


def test_a_session_that_waits_for_its_next_try_counts(house):
    house.fail(1, 2, 3, state=SessionState.DISCONNECTED)
    assert house.alarm.cause == "never_ready"


def test_who_fails_in_different_ways_is_none(house):
    house.fail(1, 2, cause="never_ready")
    house.fail(3, 4, cause="upstream_silent")
    assert house.alarm is None


def test_of_two_ways_the_more_frequent_is_reported(house):
    house.fail(1, 2, 3, cause="upstream_silent")
    house.fail(4, 5, 6, 7, cause="upstream_changed")
    assert (house.alarm.cause, house.alarm.users) == ("upstream_changed", 4)


def test_failures_far_apart_are_none(house):
    for user in range(6):
        house.fail(user)
        assert house.later(WINDOW_S / 2.5) is None
        house.retry(user)


def test_a_few_of_very_many_are_none():
    house = House(200)
    house.later(86_400)
    house.fail(*range(9))
    assert house.alarm is None
    house.fail(9)
    assert house.alarm.users == 10


def test_where_as_many_get_through_it_is_none(house):
    house.get_through(4, 5, 6, 7)
    house.fail(1, 2, 3)
    assert house.alarm is None
    house.fail(8)
    assert house.alarm.users == 4


def test_who_got_through_and_fails_then_fails(house):
    house.get_through(*range(6))
    house.later(60)
    house.fail(0, 1)
    assert house.alarm is None
    house.fail(2)
    assert house.alarm.users == 3


def test_codes_show_nothing_about_logins(house):
    house.get_through(*range(10, 20), state=SessionState.QR, linked=False)
    house.fail(1, 2, 3)
    assert house.alarm


def test_codes_do_show_that_codes_are_to_be_had(house):
    house.get_through(*range(10, 20), state=SessionState.QR, linked=False)
    house.fail(1, 2, 3, linked=False, cause="upstream_silent")
    assert house.alarm is None


def test_a_session_that_tries_again_still_fails(house):
    house.fail(1, 2, 3)
    assert house.alarm
    house.later(60)
    house.retry(1, 2, 3)
    assert house.alarm.users == 3
    assert house.later(WINDOW_S - 1)
    assert house.later(2) is None


def test_who_fails_again_and_again_keeps_it_up_while_nobody_gets_through(house):
    house.fail(1, 2, 3)
    began = house.alarm.began
    for _ in range(30):
        house.later(300)
        house.retry(1, 2, 3)
        house.later(120)
        house.fail(1, 2, 3)
        assert (house.alarm.users, house.alarm.began) == (3, began)


def test_who_fails_again_and_again_does_not_keep_it_up_once_more_get_through(house):
    house.fail(1, 2, 3)
    for others in ((4,), (5,), (6,)):
        house.get_through(*others)
        house.later(30)
        house.retry(1, 2, 3)
        house.fail(1, 2, 3)
        assert house.alarm.users == 3
    house.get_through(7)
    assert house.alarm is None


def test_who_got_through_long_ago_shows_nothing(house):
    house.fail(1, 2, 3)
    for user in range(4, 20):
        house.get_through(user)
        house.retry(1, 2, 3)
        house.fail(1, 2, 3)
        assert house.alarm
        house.later(WINDOW_S / 3)


def test_it_grows_and_its_beginning_stays(house):
    house.fail(1, 2, 3)
    house.later(300)
    house.fail(*range(4, 14))
    assert (house.alarm.users, house.alarm.began) == (13, 86_400)


def test_it_is_over_when_more_get_through_than_fail(house):
    house.fail(*range(10))
    assert house.alarm
    house.later(60)
    house.get_through(0, 1)
    assert house.alarm.users == 8
    house.fail(15)
    house.get_through(2)
    assert house.alarm
    house.later(1)
    house.get_through(3, 4)
    assert house.alarm
    house.later(1)
    house.get_through(5)
    assert house.alarm is None


def test_who_fails_on_after_it_raises_no_other(house):
    house.fail(*range(10))
    assert house.alarm
    house.later(60)
    house.get_through(0, *range(10, 19))
    assert house.alarm is None
    for _ in range(5):
        house.later(60)
        house.retry(1, 2, 3)
        house.fail(1, 2, 3)
        assert house.alarm is None
    # All of them: while as many got through it would be none.
    house.fail(*range(11, 16))
    assert house.alarm.users == 14


def test_it_is_over_when_those_who_failed_are_stopped_or_gone(house):
    house.fail(1, 2, 3, 4)
    assert house.alarm
    house.rule.forget(User("4"))
    assert house.alarm
    stopped = Assignment(User("3"), Port(5003), desired=Desired.STOPPED)
    house.see(instance(3, assignment=stopped, process=Process(ProcessState.STOPPED), answering=False))
    assert house.alarm is None


def test_a_unit_that_failed_counts_with_the_page_that_its_server_had(house):
    for user in (1, 2, 3):
        house.see(instance(user, SessionState.AUTHENTICATED))
        house.fail(user)
        failed = Process(ProcessState.STARTING, cause="never_ready")
        house.see(instance(user, process=failed, session=None, answering=False))
    assert (house.alarm.users, house.alarm.build) == (3, BUILD)


def test_the_last_word_of_a_server_that_is_not_heard_does_not_count(house):
    house.fail(1, 2, 3, answering=False)
    assert house.alarm is None


def test_a_page_that_never_loaded_has_no_build(house):
    house.fail(1, 2, 3, cause="upstream_unreachable", build=None)
    assert house.alarm.build is None


class TestAfterAStart:
    """The daemon has started while its users were in whatever state."""

    def test_the_few_who_may_have_failed_for_weeks_are_none(self):
        house = House(20)
        house.fail(1, 2, 3, 4)
        assert house.alarm is None
        for _ in range(40):
            house.later(60)
            house.retry(1, 2, 3, 4)
            house.fail(1, 2, 3, 4)
            assert house.alarm is None

    def test_half_of_all_are_an_alarm(self):
        house = House(20)
        for user in range(10, 20):
            house.see(instance(user, SessionState.READY, since=NOON - 86_400))
        house.fail(*range(9))
        assert house.alarm is None
        house.fail(9)
        assert house.alarm.users == 10

    def test_those_who_fail_after_its_first_minutes_count_as_ever(self):
        house = House(20)
        house.later(WINDOW_S)
        house.fail(1, 2, 3)
        assert house.alarm

    def test_a_clock_that_is_set_back_makes_nobody_get_through_in_future(self):
        house = House(6)
        house.see(instance(1, SessionState.READY, since=NOON + 3600))
        assert house.alarm is None
        house.fail(2, 3, 4)
        assert dataclasses.asdict(house.alarm)["users"] == 3
