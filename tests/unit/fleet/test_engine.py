"""The state of a fleet, and what each change makes of it."""

import dataclasses

import pytest

from waportd.fleet.engine import (
    EngineUnavailable,
    EpochChanged,
    Host,
    HostChanged,
    HostState,
    LeaseChanged,
    Order,
    OrderChanged,
    Row,
    RowChanged,
    State,
    TombstoneChanged,
)
from waportd.fleet.etcd.keys import Stored, host_of, order_of, row_of, row_value, token_of

EMPTY = State((), (), 1, "e")
A = Host("a", "192.0.2.1:7467", HostState.ACTIVE, "2", 9, 0.0, alive=False, incarnation=None, revision=2)
USER = Row("1", 5001, "a", token=3, revision=3)


def test_a_lease_counts_whenever_its_host_is_described():
    alive = dataclasses.replace(A, alive=True, incarnation=5)
    before = EMPTY.after(LeaseChanged(5, "a", 5))
    assert (before.hosts, before.leases, before.revision) == ((), {"a": 5}, 5)
    assert before.after(HostChanged(6, "a", A)).hosts == (alive,)
    assert EMPTY.after(HostChanged(2, "a", A)).after(LeaseChanged(5, "a", 5)).hosts == (alive,)
    drained = dataclasses.replace(A, state=HostState.DRAINING, revision=7)
    assert before.after(HostChanged(7, "a", drained)).hosts == (
        dataclasses.replace(drained, alive=True, incarnation=5),
    )


def test_what_is_gone_is_gone():
    full = EMPTY.after(HostChanged(2, "a", A)).after(RowChanged(3, "1", USER)).after(LeaseChanged(5, "a", 5))
    assert full.after(LeaseChanged(6, "a", None)).hosts == (A,)
    assert full.after(HostChanged(6, "a", None)).hosts == ()
    assert full.after(RowChanged(6, "1", None)).rows == ()
    dead = full.after(TombstoneChanged(6, "1", 3))
    assert dead.tombstones == {"1": 3}
    assert dead.after(TombstoneChanged(7, "1", None)).tombstones == {}
    assert full.after(LeaseChanged(6, "unknown", None)).leases == {"a": 5}


def test_an_epoch_is_settled_by_its_hosts():
    state = EMPTY.after(EpochChanged(2, "a")).after(EpochChanged(3, "b"))
    assert (state.confirmed, state.settled) == ({"a", "b"}, False)
    assert state.after(EpochChanged(4, None)).settled


def test_a_state_is_not_changed_by_what_follows():
    later = EMPTY.after(RowChanged(3, "1", USER)).after(LeaseChanged(5, "a", 5))
    assert later.revision == 5
    assert (EMPTY.rows, EMPTY.leases, EMPTY.revision) == ((), {}, 1)


@pytest.mark.parametrize(("above", "token"), [(0, 40), (39, 40), (40, 41), (99, 100)])
def test_a_new_token_is_the_revision_or_higher_than_the_one_before(above, token):
    stored = Stored("users/1", row_value(USER, "change", above=above), 40)
    assert row_of(stored) == dataclasses.replace(USER, token=token, revision=40)


def test_an_order_counts_for_the_owner_it_was_given_to_until_the_user_is_there():
    state = EMPTY.after(OrderChanged(4, "1", Order("1", "b", 3, revision=4)))
    assert state.order_of(USER) == state.orders["1"]
    assert state.order_of(dataclasses.replace(USER, host="b")) is None
    assert state.order_of(dataclasses.replace(USER, token=5)) is None
    assert state.after(OrderChanged(5, "1", None)).order_of(USER) is None


@pytest.mark.parametrize("read", [row_of, host_of, order_of, token_of])
def test_a_key_that_somebody_else_wrote_is_named(read):
    with pytest.raises(EngineUnavailable, match="key users/1 does not hold what waportd writes") as caught:
        read(Stored("users/1", {"port": "x", "token": "y", "address": 1}, 7))
    assert "etcdctl get" in caught.value.hint
