"""Who is silent, and when nothing may be started or taken, on a clock that a test turns."""

import random

import pytest
from fleet_states import fleet, host
from hypothesis import given
from hypothesis import strategies as st

from waportd.fleet.membership import ESTABLISHING, GAP_S, Membership

TTL_S = 45.0
FAILOVER_S = 15.0
WHOLE_S = TTL_S + FAILOVER_S


class Watch:
    """The daemon of host a, which reads the engine every second."""

    def __init__(self, *, established=True, remembered=()):
        self.members = Membership(
            "a",
            ttl_s=TTL_S,
            failover_after_s=FAILOVER_S,
            established=established,
            remembered=remembered,
        )
        self.now = 1000.0

    def sees(self, state, for_s=0.0):
        """See the same state for some seconds; return the standing at the end."""
        self.members.observe(state, self.now)
        for _ in range(int(for_s)):
            self.now += 1
            self.members.heard(self.now)
        return self.members.standing(self.now)


def settled_watch():
    watch = Watch()
    watch.sees(fleet(), WHOLE_S)
    return watch


def test_the_users_of_a_host_are_taken_the_failover_time_after_its_lease_was_seen_gone():
    watch = settled_watch()
    assert watch.sees(fleet(silent="c"), FAILOVER_S - 1).takeable == {}
    assert watch.sees(fleet(silent="c"), 1).takeable == {"c": 0.0}
    assert watch.sees(fleet(silent="c"), 5).takeable == {"c": 5.0}


def test_a_host_that_is_back_within_the_failover_time_keeps_its_users():
    watch = settled_watch()
    watch.sees(fleet(silent="c"), FAILOVER_S - 1)
    watch.sees(fleet(), 1)
    assert watch.sees(fleet(silent="c"), FAILOVER_S - 1).takeable == {}


@pytest.mark.parametrize("silent", ["c", ""])
def test_a_new_process_takes_nothing_in_its_first_minute(silent):
    watch = Watch()
    standing = watch.sees(fleet(silent=silent), WHOLE_S - 1)
    assert (standing.takeable, standing.unsettled) == ({}, None)
    assert standing.obstacle == "the engine has only been followed for a short time: 1 s are left"
    assert watch.sees(fleet(silent=silent), 1).takeable == dict.fromkeys(silent, 0.0)


def test_after_an_outage_all_counts_start_again():
    watch = settled_watch()
    watch.sees(fleet(silent="c"), FAILOVER_S)
    watch.members.lose()
    standing = watch.members.standing(watch.now)
    assert standing.takeable == {}
    assert standing.recent.startswith("the engine does not answer")
    assert standing.unsettled is None  # its own users are started and stopped as ever
    assert watch.sees(fleet(silent="c"), WHOLE_S - 1).takeable == {}
    assert watch.sees(fleet(silent="c"), 1).takeable == {"c": 0.0}


def test_an_outage_that_nobody_noted_shows_by_the_time_without_a_word():
    watch = settled_watch()
    watch.sees(fleet(silent="c"), FAILOVER_S)
    watch.now += GAP_S + 1
    assert watch.members.standing(watch.now).takeable == {}
    assert watch.sees(fleet(silent="c"), WHOLE_S - 1).takeable == {}
    assert watch.sees(fleet(silent="c"), 1).takeable == {"c": 0.0}


def test_what_the_engine_said_earlier_is_no_news():
    watch = settled_watch()
    watch.sees(fleet(revision=9), 1)
    assert watch.sees(fleet(revision=8, silent="c"), FAILOVER_S).silent_for == {}
    for _ in range(int(GAP_S) + 1):
        watch.now += 1
        watch.members.observe(fleet(revision=8), watch.now)
    assert "says less than it did before" in watch.members.standing(watch.now).obstacle


def test_while_more_than_half_of_the_members_are_silent_nothing_is_taken():
    watch = settled_watch()
    standing = watch.sees(fleet(silent="bc"), 10 * WHOLE_S)
    assert standing.takeable == {}
    assert standing.unsettled is None
    assert standing.obstacle.startswith("2 of 3 members are silent (b, c): ")
    assert "waportctl host evict" in standing.obstacle


def test_half_of_the_members_are_not_more_than_half():
    watch = Watch()
    watch.sees(fleet("ab"), WHOLE_S)
    assert watch.sees(fleet("ab", silent="b"), FAILOVER_S).takeable == {"b": 0.0}


def test_a_host_that_was_evicted_releases_the_brake_and_its_users_are_taken():
    watch = settled_watch()
    watch.sees(fleet(silent="bc"), WHOLE_S)
    evicted = fleet(["a", host("b", alive=False, state="left"), host("c", alive=False)])
    assert set(watch.sees(evicted).takeable) == {"b", "c"}


def test_users_of_a_host_that_is_not_listed_are_taken_like_those_of_a_silent_one():
    watch = settled_watch()
    assert watch.sees(fleet(users={"x": ["1"]}), FAILOVER_S).takeable == {"x": 0.0}


def test_a_host_never_takes_its_own_users():
    watch = settled_watch()
    assert watch.sees(fleet(silent="a"), WHOLE_S).takeable == {}


def test_a_host_that_joins_takes_nothing_before_it_has_seen_all_members_alive_for_long_enough():
    watch = Watch(established=False)
    standing = watch.sees(fleet(), ESTABLISHING * WHOLE_S - 1)
    assert standing.obstacle == "this host is new, and some member may not know it yet"
    assert not watch.members.established
    watch.sees(fleet(), 1)
    assert watch.members.established
    assert watch.sees(fleet(silent="c"), FAILOVER_S).takeable == {"c": 0.0}


def test_a_host_that_joins_while_another_is_silent_says_what_it_waits_for():
    watch = Watch(established=False)
    standing = watch.sees(fleet(silent="c"), 10 * ESTABLISHING * WHOLE_S)
    assert standing.takeable == {}
    assert "has not seen c: `waportctl host evict`" in standing.obstacle
    evicted = fleet(["a", "b", host("c", alive=False, state="left")])
    assert watch.sees(evicted, ESTABLISHING * WHOLE_S).takeable.keys() == {"c"}


def test_a_member_that_was_away_in_between_makes_a_new_host_start_again():
    watch = Watch(established=False)
    watch.sees(fleet(), ESTABLISHING * WHOLE_S - 1)
    watch.sees(fleet(silent="b"), 1)
    watch.sees(fleet(), 1)
    assert not watch.members.established


def test_an_outage_makes_a_new_host_start_again():
    watch = Watch(established=False)
    watch.sees(fleet(), ESTABLISHING * WHOLE_S - 1)
    watch.members.lose()
    watch.sees(fleet(), ESTABLISHING * WHOLE_S - 1)
    assert not watch.members.established


@pytest.mark.parametrize("listed", ["", "bc"])
def test_a_host_that_is_not_listed_yet_is_not_known_to_the_others(listed):
    watch = Watch(established=False)
    watch.sees(fleet(listed), 2 * ESTABLISHING * WHOLE_S)
    assert not watch.members.established


class TestAnEngineThatWasRestored:
    """A new epoch."""

    def test_nothing_is_started_before_all_have_said_what_they_hold(self):
        watch = settled_watch()
        for confirmed in ("", "a", "ab"):
            standing = watch.sees(fleet(epoch="e2", settled=False, confirmed=confirmed), WHOLE_S)
            missing = ", ".join(sorted(set("abc") - set(confirmed)))
            assert standing.unsettled.endswith(f"waiting for what {missing} hold")
            assert (standing.settle, standing.takeable) == (False, {})

    def test_it_is_put_on_record_once_all_have_said_it(self):
        watch = settled_watch()
        standing = watch.sees(fleet(epoch="e2", settled=False, confirmed="abc"))
        assert standing.settle
        assert standing.unsettled  # until the engine says that it is on record
        watch.members.lose()
        assert not watch.members.standing(watch.now).settle
        assert watch.sees(fleet(epoch="e2", revision=2)).unsettled is None

    def test_an_engine_that_was_set_up_again_under_its_old_id_is_one(self):
        watch = settled_watch()
        watch.sees(fleet(revision=50), 1)
        standing = watch.sees(fleet("", revision=3, settled=False), 1)
        assert "waiting for what a, b, c hold" in standing.unsettled
        assert not standing.takeable
        assert watch.sees(fleet(revision=9, settled=False, confirmed="abc"), WHOLE_S).settle

    def test_a_lower_revision_is_no_old_news_in_a_new_epoch(self):
        watch = Watch()
        watch.sees(fleet(revision=900), WHOLE_S)
        assert watch.sees(fleet(revision=5, epoch="e2", settled=False, confirmed="abc")).settle

    def test_a_host_that_is_silent_for_the_whole_time_is_not_waited_for(self):
        watch = settled_watch()
        away = fleet(epoch="e2", silent="c", settled=False, confirmed="ab")
        assert not watch.sees(away, WHOLE_S - 1).settle
        assert watch.sees(away, 1).settle

    def test_a_host_that_was_silent_before_is_waited_for_again(self):
        watch = settled_watch()
        watch.sees(fleet(silent="c"), 10 * WHOLE_S)
        away = fleet(epoch="e2", silent="c", settled=False, confirmed="ab")
        assert not watch.sees(away, WHOLE_S - 1).settle

    def test_a_lease_that_was_restored_too_is_no_silence(self):
        watch = settled_watch()
        assert not watch.sees(fleet(epoch="e2", settled=False, confirmed="ab"), 10 * WHOLE_S).settle

    @pytest.mark.parametrize("remembered_from", ["this process", "an earlier one"])
    def test_a_member_that_the_engine_has_forgotten_is_waited_for(self, remembered_from):
        watch = settled_watch() if remembered_from == "this process" else Watch(remembered="abc")
        forgot = fleet("ab", epoch="e2", settled=False, confirmed="ab")
        assert watch.sees(forgot, WHOLE_S - 1).unsettled.endswith("waiting for what c hold")
        assert watch.sees(forgot, 1).settle

    def test_it_is_still_waited_for_when_the_engine_is_restored_twice(self):
        watch = settled_watch()
        watch.sees(fleet("ab", epoch="e2", settled=False), 1)
        standing = watch.sees(fleet("ab", epoch="e3", settled=False, confirmed="ab"), 1)
        assert standing.unsettled.endswith("waiting for what c hold")

    def test_a_new_host_does_not_decide_that_it_is_settled(self):
        watch = Watch(established=False)
        assert not watch.sees(fleet("ab", settled=False, silent="b", confirmed="a"), 10 * WHOLE_S).settle

    def test_nobody_is_taken_in_the_minute_after_it_was_settled(self):
        watch = settled_watch()
        watch.sees(fleet(epoch="e2", silent="c", settled=False, confirmed="abc"), 1)
        settled = fleet(epoch="e2", silent="c", revision=2)
        assert watch.sees(settled, WHOLE_S - 2).takeable == {}
        assert watch.sees(settled, 1).takeable == {"c": 0.0}


def test_before_the_engine_was_read_nothing_is_started():
    assert Watch().members.standing(1000.0).unsettled == "the engine has not been read yet"


def test_an_obstacle_names_five_hosts_and_the_number_of_the_others():
    watch = Watch()
    standing = watch.sees(fleet("abcdefgh", silent="bcdefgh"), 1)
    assert "(b, c, d, e, f and 2 more)" in standing.brake


MOMENTS = st.lists(
    st.tuples(
        st.floats(0.1, 30),
        st.sampled_from(["sees", "sees", "sees", "lose", "nothing", "restored"]),
        st.sets(st.sampled_from("bcde")),
    ),
    max_size=60,
)


@given(MOMENTS)
def test_whatever_happens_who_is_taken_was_seen_silent_in_an_unbroken_contact(moments):
    members = Membership("a", ttl_s=TTL_S, failover_after_s=FAILOVER_S, established=True)
    now, revision, epoch = 0.0, 1, 1
    contact_since = heard_at = None
    gone_since = {}
    silent = set()
    for wait, event, silent_now in moments:
        now += wait
        revision += 1
        if event == "restored":
            epoch, contact_since = epoch + 1, None
        if event in {"sees", "restored"}:
            if contact_since is None or now - heard_at > GAP_S:
                contact_since, gone_since = now, {}
            heard_at, silent = now, silent_now
            members.observe(fleet("abcde", silent=silent, epoch=str(epoch), revision=revision), now)
            gone_since = {name: gone_since.get(name, now) for name in silent}
        elif event == "lose":
            contact_since = None
            members.lose()
        takeable = members.standing(now).takeable
        if (
            contact_since is None
            or now - heard_at > GAP_S
            or now - contact_since < WHOLE_S
            or len(silent) > 2
        ):
            assert takeable == {}
        else:
            taken = {name for name, since in gone_since.items() if now - since >= FAILOVER_S}
            assert takeable.keys() == taken


@given(st.floats(-1e6, 1e6), st.integers(0, 2**32))
def test_only_differences_of_time_count(offset, seed):
    """So no clock is compared with another one: whatever one shows, the host decides the same."""

    def decisions(offset):
        chance = random.Random(seed)
        members = Membership("a", ttl_s=TTL_S, failover_after_s=FAILOVER_S, established=True)
        decided = []
        for second in range(0, 200, 5):
            silent = [name for name in "bc" if chance.random() < 0.3] if second > 70 else []
            members.observe(fleet(silent=silent, revision=second), offset + second)
            decided.append(set(members.standing(offset + second).takeable))
        return decided

    assert decisions(round(offset)) == decisions(0)
