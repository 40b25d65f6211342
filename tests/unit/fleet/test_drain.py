"""Users who leave a host that lives."""

import collections
import dataclasses

import pytest
from fleet_states import fleet, host, ordered, row, states
from hypothesis import given
from hypothesis import strategies as st

from waportd.fleet.drain import Cost, Drain, cost, due, next_moves, rebalance
from waportd.fleet.engine import HostState


def draining(*others, users):
    return fleet([host("a", state="draining"), *others], users={"a": users})


def moved(state, moves):
    owners = {move.row.user: move.host for move in moves}
    rows = tuple(dataclasses.replace(each, host=owners.get(each.user, each.host)) for each in state.rows)
    return dataclasses.replace(state, rows=rows)


@pytest.mark.parametrize(
    ("desired", "linked", "what"),
    [
        ("stopped", True, Cost.NOTHING),
        ("deleted", True, Cost.NOTHING),
        ("running", False, Cost.CODE),
        ("running", True, Cost.SESSION),
    ],
)
def test_what_a_move_costs(desired, linked, what):
    assert cost(row("1", "a", desired=desired, linked=linked)) is what
    assert cost(dataclasses.replace(row("1", "a"), document={})) is Cost.SESSION


def test_few_move_at_a_time_and_linked_ones_last():
    users = [
        row("1", "a"),
        row("2", "a", linked=False),
        row("3", "a", desired="stopped"),
        row("4", "a"),
        row("5", "a", desired="stopped"),
    ]
    state, order = draining(host("b"), host("c"), users=users), []
    while (drain := next_moves("a", state, at_once=2, under_way={})).left:
        assert len(drain.moves) == min(2, drain.left)
        order += [move.row.user for move in drain.moves]
        state = moved(state, drain.moves)
    assert order == ["3", "5", "2", "1", "4"]


def test_a_slot_is_free_only_when_a_move_is_over():
    state = draining(host("b"), users=["1", "2", "3"])
    first = next_moves("a", state, at_once=2, under_way={})
    begun = {move.row.user: move.host for move in first.moves}
    assert next_moves("a", state, at_once=2, under_way=begun).moves == ()
    assert next_moves("a", state, at_once=2, under_way=begun).left == 3
    done = moved(state, first.moves[:1])
    begun.pop(first.moves[0].row.user)
    assert [move.row.user for move in next_moves("a", done, at_once=2, under_way=begun).moves] == ["3"]


def test_users_under_way_take_room_on_their_target():
    state = draining(host("b", capacity=1), host("c", capacity=1), users=["1", "2", "3"])
    (first,) = next_moves("a", state, at_once=1, under_way={}).moves
    drain = next_moves("a", state, at_once=3, under_way={first.row.user: first.host})
    (second,) = drain.moves
    assert {first.host, second.host} == {"b", "c"}
    assert "b is full (1 of 1), c is full (1 of 1)" in drain.stuck["3"]


def test_when_the_target_dies_the_next_step_goes_elsewhere():
    users = [str(user) for user in range(10)]
    state = draining(host("b"), host("c"), users=users)
    drain = next_moves("a", state, at_once=10, under_way={})
    assert {move.host for move in drain.moves} == {"b", "c"}
    state = draining(host("b"), host("c", alive=False), users=users)
    assert {move.host for move in next_moves("a", state, at_once=10, under_way={}).moves} == {"b"}


def test_a_host_where_the_port_is_held_is_passed_over():
    def target(b=(), c=()):
        hosts = host("b", held=b), host("c", held=c)
        return next_moves("a", draining(*hosts, users=[row("1", "a", port=5007)]), at_once=1, under_way={})

    (move,) = target().moves
    other = "c" if move.host == "b" else "b"
    assert [again.host for again in target(**{move.host: [5007]}).moves] == [other]
    assert [again.host for again in target(**{move.host: [5008]}).moves] == [move.host]
    drain = target(b=[5007], c=[5001, 5007])
    assert drain.moves == ()
    assert "b cannot have this user's port" in drain.stuck["1"]


def test_a_user_who_is_stuck_holds_nobody_up():
    users = [row("1", "a", port=5001), row("2", "a", port=5002)]
    drain = next_moves("a", draining(host("b", held=[5001]), users=users), at_once=1, under_way={})
    assert [move.row.user for move in drain.moves] == ["2"]
    assert set(drain.stuck) == {"1"}


def test_who_drains_the_last_host_keeps_all_users_and_says_why():
    drain = next_moves("a", draining(users=["1", "2"]), at_once=4, under_way={})
    assert (drain.moves, drain.left) == ((), 2)
    assert drain.stuck["1"] == "no host has room for user 1: a is draining"


def leaving(state, **options):
    return due("a", state, **{"at_once": 9, "under_way": {}, **options})


def test_who_was_ordered_to_a_host_goes_there_and_nobody_else_goes():
    state = ordered(fleet("abc", users={"a": ["u1", "u2", "u3"], "b": ["u4"]}), u2="c", u4="c", u3="a")
    drain = leaving(state)
    assert [(move.row.user, move.host) for move in drain.moves] == [("u2", "c")]
    assert (drain.left, drain.stuck) == (3, {})
    assert leaving(state, under_way={"u2": "c"}).moves == ()


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (host("b", alive=False), "b is silent"),
        (host("b", state="draining"), "b is draining"),
        (host("b", state="left"), "b has left the fleet"),
        (host("b", capacity=1), r"b is full (1 of 1)"),
        (host("b", held=[5000]), "another program has port 5000 on b"),
        (host("c"), "there is no host b"),
    ],
)
def test_who_was_ordered_to_a_host_that_takes_nobody_stays(target, why):
    state = ordered(fleet([host("a"), target], users={"a": ["u1"], "b": ["u2"]}), u1="b")
    assert leaving(state) == Drain((), 1, {"u1": why})


def test_orders_count_among_those_that_move_at_once_and_take_room():
    state = ordered(
        fleet([host("a"), host("b", capacity=2)], users={"a": ["u1", "u2", "u3"]}), u1="b", u2="b", u3="b"
    )
    assert len(leaving(state, at_once=1).moves) == 1
    assert leaving(state).stuck == {"u3": "b is full (2 of 2)"}


def test_in_a_drain_orders_come_first_and_who_has_failed_is_left_until_that_is_forgotten():
    state = ordered(
        draining(host("b"), host("c"), users=["u1", "u2", "u3"]), u3="b", u1="c:it has no login here"
    )
    drain = leaving(state, at_once=2)
    assert [move.row.user for move in drain.moves] == ["u3", "u2"]
    assert (drain.left, drain.stuck) == (3, {"u1": "it has no login here"})
    assert [move.row.user for move in leaving(ordered(state), at_once=1).moves] == ["u1"]


@given(states, st.integers(1, 8))
def test_a_drain_never_moves_to_a_host_that_may_take_nobody(state, at_once):
    source = "host0"
    drain = next_moves(source, state, at_once=at_once, under_way={})
    users = collections.Counter(each.host for each in moved(state, drain.moves).rows)
    by_name = {each.name: each for each in state.hosts}
    for move in drain.moves:
        target = by_name[move.host]
        assert target.alive
        assert target.state is HostState.ACTIVE
        assert users[target.name] <= target.capacity
        assert target.name != source


def test_a_rebalance_moves_the_surplus_only_and_the_cheapest_first():
    users = {
        "a": [row(str(n), "a", desired="stopped" if n == 7 else "running") for n in range(10)],
        "b": ["x"] * 2,
    }
    moves = rebalance(fleet("ab", users=users))
    assert len(moves) == 4
    assert {move.host for move in moves} == {"b"}
    assert (moves[0].row.user, moves[0].cost) == ("7", Cost.NOTHING)


def test_what_is_done_without_being_asked_moves_only_users_that_run_nothing():
    users = {"a": [row(str(n), "a", desired="stopped" if n == 7 else "running") for n in range(10)]}
    assert [move.row.user for move in rebalance(fleet("ab", users=users), most=Cost.NOTHING)] == ["7"]


def test_shares_follow_capacity():
    hosts = [host("a", capacity=100), host("b", capacity=50), host("c", capacity=50, state="draining")]
    state = fleet(hosts, users={"b": [f"b{n}" for n in range(30)], "c": ["c1"]})
    users = collections.Counter(each.host for each in moved(state, rebalance(state)).rows)
    assert users == {"a": 20, "b": 10, "c": 1}


@pytest.mark.parametrize("more", "ab")
def test_who_has_one_more_where_users_cannot_be_shared_evenly_keeps_it(more):
    users = {name: [f"{name}{n}" for n in range(3 if name == more else 2)] for name in "ab"}
    assert rebalance(fleet("ab", users=users)) == []


def test_who_has_its_exact_share_gets_none_of_what_is_left_over():
    hosts = [host("a", capacity=2), host("b", capacity=1), host("c", capacity=1)]
    assert len(rebalance(fleet(hosts, users={"a": ["1", "2"]}))) == 1


def test_nobody_is_sent_where_another_program_has_the_port():
    users = [row(str(number), "a", port=5000 + number) for number in range(1, 5)]
    moves = rebalance(fleet([host("a"), host("b", held=[5001, 5002, 5003])], users={"a": users}))
    assert [(move.row.user, move.host) for move in moves] == [("4", "b")]


def test_users_beyond_all_room_stay():
    hosts = [host("a", capacity=1), host("b", capacity=1)]
    assert len(rebalance(fleet(hosts, users={"a": ["1", "2", "3", "4", "5"]}))) == 1


@given(states, st.sampled_from(Cost))
def test_a_rebalance_ends_balanced_moves_as_few_as_possible_and_has_nothing_left_to_do(state, most):
    is_open = {each.name: each for each in state.hosts if each.alive and each.state is HostState.ACTIVE}
    moves = rebalance(state, most=most)
    assert all(move.cost <= most for move in moves)
    assert len({move.row.user for move in moves}) == len(moves)
    assert all(move.row.host in is_open and move.host in is_open for move in moves)
    before = collections.Counter(each.host for each in state.rows)
    after = collections.Counter(each.host for each in moved(state, moves).rows)
    assert all(after[name] <= each.capacity for name, each in is_open.items() if after[name] > before[name])
    if most is Cost.SESSION:
        room = sum(each.capacity for each in is_open.values())
        users = sum(before[name] for name in is_open)
        if users <= room:
            assert all(
                abs(after[name] - users * each.capacity / room) < 1 for name, each in is_open.items() if room
            )
        assert len(moves) == sum(max(0, after[name] - before[name]) for name in is_open)
        assert rebalance(moved(state, moves)) == []
