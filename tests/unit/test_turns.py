"""Whose turn it is to start, and how long hundreds take for it, on a clock that a test turns."""

import heapq
import itertools

import pytest

from waportd.alarms import Rule
from waportd.model import Assignment, Port, Process, ProcessState, Session, SessionState, User
from waportd.registry import Instance
from waportd.turns import PROBE_S, Turns

AT_ONCE = 4
"""As many as limits.start_concurrency says by default."""
LOADING = 10.0
"""Seconds from a start until the session is ready, or has failed."""
AGAIN = 300.0
"""Seconds after which a session that failed tries again automatically."""
USERS = 500
HOUR = 3600.0


def queue(*tickets, at_once=AT_ONCE):
    turns = Turns(at_once)
    for ticket in tickets:
        turns.join(ticket)
    return turns


def test_who_has_waited_longest_is_next_and_few_have_a_turn_at_a_time():
    turns = queue(*range(10))
    assert turns.give(0, alarm=False) == [0, 1, 2, 3]
    assert turns.give(0, alarm=False) == []
    turns.end(2, 1, through=True)
    turns.end(0, 1, through=False)
    assert turns.give(1, alarm=False) == [4, 5]
    assert turns.next_at(alarm=False) is None


def test_who_waits_no_more_is_passed_over():
    turns = queue(1, 2, 3, at_once=1)
    turns.end(1, 0, through=False)
    assert turns.give(0, alarm=False) == [2]


def test_in_an_alarm_one_follows_another_half_a_minute_later():
    turns = queue(1, 2, 3)
    assert turns.give(0, alarm=True) == [1]
    assert turns.next_at(alarm=True) is None
    turns.end(1, 10, through=False)
    assert turns.give(10, alarm=True) == []
    assert turns.next_at(alarm=True) == PROBE_S
    assert turns.give(PROBE_S, alarm=True) == [2]


def test_in_an_alarm_the_next_one_follows_at_once_who_got_through():
    turns = queue(1, 2, 3)
    turns.give(0, alarm=True)
    turns.end(1, 10, through=True)
    assert turns.give(10, alarm=True) == [2]


def test_when_an_alarm_is_over_nobody_waits_for_the_half_minute():
    turns = queue(1, 2, 3)
    turns.give(0, alarm=True)
    assert turns.give(1, alarm=False) == [2, 3]


class House:
    """Linked users who all come back after a boot, as the daemon has them come."""

    def __init__(self, is_well):
        """``is_well`` says whether a user whose page has loaded at that time is ready then."""
        self.is_well = is_well
        self.now = 0.0
        self.rule = Rule(self.now)
        self.turns = queue(*range(USERS))
        self.started = {}
        self.ready = {}
        self.alarms = []
        """When one was raised, and when it was over, in turn."""
        self._events = []
        self._order = itertools.count()

    def run(self, until):
        """Let time pass."""
        self._at(self.now, self._give)
        while self._events and self._events[0][0] <= until:
            self.now, _, happens = heapq.heappop(self._events)
            happens()
            self._give()
        self.now = until

    @property
    def alarm(self):
        return len(self.alarms) % 2 == 1

    def _at(self, moment, happens):
        heapq.heappush(self._events, (moment, next(self._order), happens))

    def _give(self):
        raised = self.rule.look(self.now, lambda: len(self.started)) is not None
        if raised is not self.alarm:
            self.alarms.append(self.now)
        for user in self.turns.give(self.now, alarm=raised):
            self.started[user] = self.now
            self._at(self.now + LOADING, lambda user=user: self._loaded(user, has_turn=True))
        if (due := self.turns.next_at(alarm=raised)) is not None:
            self._at(due, lambda: None)

    def _loaded(self, user, *, has_turn=False):
        through = self.is_well(user, self.now)
        if through:
            self.ready[user] = self.now
            session = Session(SessionState.READY, self.now, linked=True)
        else:
            session = Session(SessionState.ERROR, self.now, cause="upstream_changed", linked=True)
            self._at(self.now + AGAIN, lambda: self._loaded(user))
        assignment = Assignment(User(str(user)), Port(5000 + user), linked=True)
        seen = Instance(assignment, Process(ProcessState.RUNNING), session, answering=True)
        self.rule.note(seen, self.now, self.now)
        if has_turn:
            self.turns.end(user, self.now, through=through)


@pytest.fixture
def quick():
    """Seconds in which all start where nothing is wrong."""
    return USERS / AT_ONCE * LOADING


def test_where_all_is_well_all_come_back_in_order(quick):
    house = House(lambda *_: True)
    house.run(quick)
    assert len(house.ready) == USERS
    assert list(house.started) == list(range(USERS))
    assert not house.alarms


def test_five_hundred_are_not_started_into_an_outage_and_are_soon_back_after_it(quick):
    house = House(lambda _, now: now >= HOUR)
    house.run(HOUR)
    assert len(house.alarms) == 1
    assert not house.ready
    assert len(house.started) <= 2 * AT_ONCE + HOUR / PROBE_S
    house.run(HOUR + AGAIN)
    assert not house.alarm
    house.run(HOUR + AGAIN + quick)
    assert len(house.ready) == USERS
    assert list(house.started) == list(range(USERS))


@pytest.mark.parametrize("failing", [3, 20])
def test_some_who_fail_for_ever_hold_up_nobody(quick, failing):
    house = House(lambda user, _: user >= failing)
    house.run(failing * (PROBE_S + LOADING) + quick)
    assert len(house.ready) == USERS - failing
    assert len(house.alarms) == 2
    began, ended = house.alarms
    assert ended - began <= failing * (PROBE_S + LOADING)
    house.run(24 * HOUR)
    assert len(house.alarms) == 2


def test_where_every_third_fails_for_ever_the_others_are_back_within_the_hour():
    house = House(lambda user, _: user % 3 != 0)
    house.run(HOUR)
    assert set(house.ready) == {user for user in range(USERS) if user % 3}
