"""Which host a user goes to."""

import collections
import dataclasses
import random

import pytest
from fleet_states import fleet, host, row, states
from hypothesis import given
from hypothesis import strategies as st

from waportd.fleet.engine import HostState
from waportd.fleet.placement import (
    ANYBODY_AFTER_S,
    JITTER_S,
    NoRoom,
    copy_holders,
    place,
    ranked,
    rooms,
    takeovers,
)


def may_take(state):
    """Hosts that may get a user, said once more in other words than the product's."""
    users = collections.Counter(row.host for row in state.rows)
    return {
        each.name
        for each in state.hosts
        if each.alive and each.state is HostState.ACTIVE and users[each.name] < each.capacity
    }


def shuffled(state, seed):
    chance = random.Random(seed)
    hosts, rows = list(state.hosts), list(state.rows)
    chance.shuffle(hosts)
    chance.shuffle(rows)
    return dataclasses.replace(state, hosts=tuple(hosts), rows=tuple(rows))


def took(state, name, takeable):
    return [row.user for row in takeovers(name, state, takeable).due]


@given(states, st.text(max_size=5), st.integers())
def test_a_new_user_goes_to_a_host_that_may_take_one_whatever_the_order_of_the_input(state, user, seed):
    if allowed := may_take(state):
        assert place(user, state) in allowed
        assert place(user, shuffled(state, seed)) == place(user, state)
    else:
        with pytest.raises(NoRoom):
            place(user, state)


def test_the_choice_is_the_same_in_every_process_and_release():
    """A fleet has hosts of two releases while it is upgraded."""
    assert [ranked(str(user), dict.fromkeys("abcd", 1)) for user in range(3)] == [
        ["b", "c", "a", "d"],
        ["d", "b", "a", "c"],
        ["c", "a", "b", "d"],
    ]


def test_who_has_no_room_is_said_of_each_host():
    state = fleet(
        [
            host("a", capacity=1),
            host("b", alive=False),
            host("c", state="draining"),
            host("d"),
            host("e", state="left"),
        ],
        users={"a": ["1"]},
    )
    with pytest.raises(NoRoom) as caught:
        place("2", state, unfit={"d"})
    assert str(caught.value) == (
        "no host has room for user 2: "
        "a is full (1 of 1), b is silent, c is draining, d cannot have this user's port"
    )
    assert "waportctl fleet invite" in caught.value.hint
    with pytest.raises(NoRoom, match="the fleet has no hosts"):
        place("2", fleet(""))


def test_where_a_port_is_held_the_next_host_is_chosen():
    state = fleet("abcd")
    for user in map(str, range(50)):
        first, second = ranked(user, dict.fromkeys("abcd", 100))[:2]
        assert place(user, state) == first
        assert place(user, state, unfit={first}) == second


def test_users_on_their_way_take_room():
    state = fleet([host("a", capacity=2), host("b", capacity=1)])
    assert rooms(state, ["a", "a", "b"]) == {}
    assert place("1", state, promised=["a", "a"]) == "b"


def test_new_users_spread_by_the_room_that_is_left():
    state = fleet(
        [host("a", capacity=3000), host("b", capacity=2000), host("c", capacity=3000)],
        users={"c": [f"x{number}" for number in range(2000)]},
    )
    shares = collections.Counter(place(str(user), state) for user in range(6000))
    assert shares["a"] == pytest.approx(3000, rel=0.06)
    assert shares["b"] == pytest.approx(2000, rel=0.06)
    assert shares["c"] == pytest.approx(1000, rel=0.08)


@given(
    st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.integers(1, 50), min_size=2, max_size=8),
    st.lists(st.text(max_size=4), max_size=30),
    st.data(),
)
def test_a_host_that_goes_moves_no_user_but_its_own(weights, users, data):
    gone = data.draw(st.sampled_from(sorted(weights)))
    rest = {name: weight for name, weight in weights.items() if name != gone}
    for user in users:
        order = ranked(user, weights)
        assert ranked(user, rest) == [name for name in order if name != gone]


@given(states, st.floats(0, 60), st.integers())
def test_only_hosts_that_may_take_somebody_do_and_nobody_takes_beyond_its_room(state, seconds, seed):
    dead = {each.name: seconds for each in state.hosts if not each.alive}
    users = {row.user: row.host for row in state.rows}
    for each in state.hosts:
        taken = took(state, each.name, dead)
        assert not taken or each.name in may_take(state)
        assert {users[user] for user in taken} <= dead.keys()
        assert len(taken) <= each.capacity - sum(owner == each.name for owner in users.values()) or not taken
        assert took(shuffled(state, seed), each.name, dead) == taken


@given(states, st.floats(0, ANYBODY_AFTER_S, exclude_max=True))
def test_no_two_hosts_take_the_same_user_at_the_same_moment_in_the_first_30_s(state, seconds):
    dead = {each.name: seconds for each in state.hosts if not each.alive}
    taken = collections.Counter(user for each in state.hosts for user in took(state, each.name, dead))
    assert set(taken.values()) <= {1}


@given(states)
def test_after_the_jitter_each_user_is_taken_while_there_is_room(state):
    dead = {each.name: JITTER_S for each in state.hosts if not each.alive}
    orphans = [row for row in state.rows if row.host in dead]
    moved = 0
    while taken := [(each.name, user) for each in state.hosts for user in took(state, each.name, dead)]:
        moved += len(taken)
        owners = {user: name for name, user in taken}
        rows = tuple(dataclasses.replace(row, host=owners.get(row.user, row.host)) for row in state.rows)
        state = dataclasses.replace(state, rows=rows)
    left = len(orphans) - moved
    assert left == 0 or not may_take(state)
    assert takeovers("host0", state, dead).unplaced == left


def test_nobody_is_taken_from_a_host_that_is_not_takeable():
    state = fleet("abc", silent="c", users={"b": ["1", "2"], "c": ["3", "4"]})
    assert [took(state, name, {}) for name in "ab"] == [[], []]


def test_the_winner_comes_within_the_jitter_and_anybody_half_a_minute_later():
    state = fleet("abc", silent="c", users={"c": [str(user) for user in range(40)]})

    def at(seconds):
        return {name: set(took(state, name, {"c": seconds})) for name in "ab"}

    everybody = {row.user for row in state.rows}
    assert 0 < len(at(0.5)["a"] | at(0.5)["b"]) < 20
    assert at(JITTER_S)["a"] | at(JITTER_S)["b"] == everybody
    assert at(ANYBODY_AFTER_S - 0.1) == at(JITTER_S)
    assert at(ANYBODY_AFTER_S + JITTER_S) == {"a": everybody, "b": everybody}


def test_a_user_whose_port_is_held_on_the_first_host_is_taken_by_the_next_at_once():
    users = [row(str(number), "c", port=5000 + number) for number in range(40)]
    winners = {one.user: ranked(one.user, dict.fromkeys("ab", 100))[0] for one in users}
    theirs = next(one for one in users if winners[one.user] == "a")
    state = fleet([host("a", held=[theirs.port]), host("b"), host("c", alive=False)], users={"c": users})
    for seconds in (JITTER_S, ANYBODY_AFTER_S + JITTER_S):
        assert theirs.user not in took(state, "a", {"c": seconds})
        assert theirs.user in took(state, "b", {"c": seconds})
    others = {user for user, name in winners.items() if name == "a"} - {theirs.user}
    assert set(took(state, "a", {"c": JITTER_S})) == others


def test_a_user_whose_port_is_held_on_all_hosts_is_not_taken():
    users = [row("1", "c", port=5001)]
    hosts = [host("a", held=[5001]), host("b", held=[5001]), host("c", alive=False)]
    state = fleet(hosts, users={"c": users})
    assert [took(state, name, {"c": 2 * ANYBODY_AFTER_S}) for name in "ab"] == [[], []]


def test_users_that_no_host_has_room_for_are_counted():
    state = fleet(
        [host("a", capacity=1), host("b", capacity=2), host("c", alive=False)],
        users={"a": ["0"], "c": ["1", "2", "3", "4", "5"]},
    )
    assert takeovers("a", state, {"c": 60.0}).unplaced == 3
    assert [len(takeovers(name, state, {"c": 60.0}).due) for name in "ab"] == [0, 2]


def test_a_dead_hosts_users_spread_by_capacity():
    users = [str(user) for user in range(3000)]
    state = fleet(
        [host("a", capacity=20_000), host("b", capacity=10_000), host("c", alive=False)], users={"c": users}
    )
    assert len(took(state, "a", {"c": JITTER_S})) == pytest.approx(2000, rel=0.05)
    assert len(took(state, "b", {"c": JITTER_S})) == pytest.approx(1000, rel=0.08)


def test_copies_lie_on_other_hosts_and_fewer_where_there_are_not_enough():
    state, one = fleet("abcd", silent="d"), row("1", "a")
    assert set(copy_holders(one, state, copies=2)) == {"b", "c"}
    assert copy_holders(one, state, copies=1) == copy_holders(one, state, copies=2)[:1]
    assert copy_holders(one, fleet("ab"), copies=2) == ("b",)
    assert copy_holders(one, fleet("a"), copies=2) == ()


def test_a_host_that_goes_changes_the_copies_of_no_user_but_those_that_it_held():
    for one in (row(str(user), "a") for user in range(60)):
        before = copy_holders(one, fleet("abcde"), copies=2)
        after = copy_holders(one, fleet("abcde", silent="e"), copies=2)
        assert after == before if "e" not in before else set(before) - {"e"} <= set(after)


def test_copies_spread_by_capacity():
    users = [row(str(user), "a") for user in range(600)]
    state = fleet(["a", host("b", capacity=20), host("c", capacity=10)])
    holders = collections.Counter(holder for one in users for holder in copy_holders(one, state, copies=1))
    assert holders["b"] == pytest.approx(400, rel=0.1)


def test_what_a_host_has_taken_makes_it_no_other_users_winner():
    """So hosts that see each other's takeovers a little earlier or later still agree."""
    hosts = [host("a", capacity=60), host("b", capacity=60), host("c", alive=False)]
    users = [str(user) for user in range(60)]
    mine = took(fleet(hosts, users={"c": users}), "a", {"c": JITTER_S})
    half = set(mine[::2])
    later = fleet(hosts, users={"a": half, "c": set(users) - half})
    assert set(took(later, "a", {"c": JITTER_S})) == set(mine) - half
