"""What another host sends is understood exactly, or refused; never more than that."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waportd.fleet.engine import Lease
from waportd.fleet.peer_calls import (
    Reach,
    Renewal,
    read_hosts,
    read_lease,
    read_reach,
    read_renewal,
)

EACH_TIME_THE_SAME = settings(derandomize=True, database=None, deadline=None, max_examples=80)
SENT = {
    read_lease: Lease("a", 2**62, 7, 45.0),
    read_reach: Reach("b", engine=False, incarnation=None, epoch=None),
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
REFUSED = (ValueError, TypeError, KeyError)


def over_the_wire(sent):
    return json.loads(json.dumps(dataclasses.asdict(sent)))


@pytest.mark.parametrize("read", SENT, ids=lambda read: read.__name__)
def test_what_is_sent_arrives(read):
    assert read(over_the_wire(SENT[read])) == SENT[read]


@pytest.mark.parametrize("renewal", Renewal)
def test_an_outcome_arrives(renewal):
    assert read_renewal({"outcome": str(renewal)}) is renewal


def test_a_list_of_hosts_arrives():
    assert read_hosts({"hosts": {"a": "192.0.2.1:7467"}}) == {"a": "192.0.2.1:7467"}
    for hosts in (None, [], {"a": None}, {"a": ["192.0.2.1:7467"]}):
        with pytest.raises(REFUSED):
            read_hosts({"hosts": hosts})


@EACH_TIME_THE_SAME
@given(st.sampled_from([*SENT, read_renewal, read_hosts]), ANYTHING)
def test_anything_else_is_refused(read, document):
    with pytest.raises(REFUSED):
        read(document)


@EACH_TIME_THE_SAME
@given(st.sampled_from([*SENT]), st.data(), ANYTHING)
def test_a_member_of_another_type_is_refused(read, data, value):
    document = over_the_wire(SENT[read])
    name = data.draw(st.sampled_from(sorted(document)))
    try:
        understood = read(document | {name: value})
    except REFUSED:
        return
    # It was of the right type: that is what is understood, and nothing else.
    assert over_the_wire(understood)[name] == value or value != value  # noqa: PLR0124  # not a number
