"""States of a fleet for tests: by hand, and generated."""

import dataclasses

from hypothesis import strategies as st

from waportd.fleet.engine import Host, HostState, Order, Row, State


def host(name, *, alive=True, state=HostState.ACTIVE, capacity=100, held=()):
    lease = 1 if alive else None
    return Host(name, f"{name}:7467", HostState(state), "1.0", capacity, 0.0, alive, lease, held=tuple(held))


def row(user, owner, *, desired="running", linked=True, port=5000):
    return Row(user, port, owner, document={"desired": desired, "linked": linked})


def fleet(hosts="abc", *, silent="", users=None, revision=1, epoch="e1", settled=True, confirmed=""):
    """A state of hosts with names of one letter. ``users`` has the users of each host."""
    described = [each if isinstance(each, Host) else host(each, alive=each not in silent) for each in hosts]
    rows = [
        each if isinstance(each, Row) else row(each, owner)
        for owner, each_has in (users or {}).items()
        for each in each_has
    ]
    return State(
        tuple(described), tuple(rows), revision, epoch, confirmed=frozenset(confirmed), settled=settled
    )


def ordered(state, **targets):
    """Return the state in which users were ordered to hosts: ``u1="b"``; a text after a colon says why it has failed."""
    orders = {}
    for user, target in targets.items():
        host, _, failed = target.partition(":")
        orders[user] = Order(user, host, 0, failed or None)
    return dataclasses.replace(state, orders=orders)


NAMES = [f"host{number}" for number in range(8)]

states = st.builds(
    lambda hosts, owners: fleet(
        hosts, users={name: [f"u{n}" for n, owner in enumerate(owners) if owner == name] for name in NAMES}
    ),
    st.lists(
        st.builds(
            host,
            st.sampled_from(NAMES),
            alive=st.booleans(),
            state=st.sampled_from(HostState),
            capacity=st.integers(0, 12),
        ),
        unique_by=lambda each: each.name,
        max_size=8,
    ),
    st.lists(st.sampled_from(NAMES), max_size=40),
)
"""Hosts of every kind, and users, some of which belong to hosts that the engine does not list."""
