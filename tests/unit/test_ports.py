"""Which port a user gets."""

import dataclasses
import json
import shutil
import subprocess

import pytest

from waportd.config import PortRange, Ports
from waportd.errors import PortsExhausted
from waportd.model import Port, User
from waportd.ports import (
    REFUSED_BY_BROWSERS,
    Choice,
    choose,
    next_free,
    preferred_port,
    preferring_user,
    taken_below,
)

RULES = Ports(base=5001, range=PortRange(5001, 5010), overflow=PortRange(20000, 20003))


def chosen(user, rules=RULES, assigned=None, held=None) -> Choice:
    return choose(User(user), rules, assigned or {}, (held or {}).get)


@pytest.mark.parametrize(
    ("user", "port"), [("1", 5001), ("2", 5002), ("10", 5010), ("432", 5432), ("0", 5000)]
)
def test_user_n_prefers_the_base_and_n_minus_one(user, port):
    assert preferred_port(User(user), Ports()) == port


@pytest.mark.parametrize("user", ["0", "1", "2", "432", "15000"])
def test_a_port_shows_who_prefers_it(user):
    assert preferring_user(Port(preferred_port(User(user), Ports())), Ports()) == user


def test_a_port_below_all_is_preferred_by_nobody():
    assert preferring_user(Port(4999), Ports()) is None


@pytest.mark.parametrize("user", ["2_1", "a", "007", "01", "1.0", "-1", "²", "\uff11"])
def test_who_is_no_number_prefers_nothing(user):
    assert preferred_port(User(user), Ports()) is None


def test_a_preferred_port_that_is_free_is_given_without_a_note():
    assert chosen("2") == Choice(Port(5002))


def test_who_prefers_nothing_goes_to_the_overflow_without_a_note():
    assert chosen("2_1") == Choice(Port(20000))


@pytest.mark.parametrize(
    ("user", "change", "note"),
    [
        ("2", {"rules": dataclasses.replace(RULES, reserved=frozenset({5002}))}, "reserved (ports.reserved)"),
        ("11", {}, "outside of ports.range 5001-5010"),
        ("0", {}, "outside of ports.range 5001-5010"),
        ("9" * 64, {}, "outside of ports.range 5001-5010"),
        ("3", {"assigned": {Port(5003): User("2_1")}}, "assigned to user 2_1"),
        ("2", {"held": {5002: "python3 (pid 7, user www-data)"}}, "held by python3 (pid 7, user www-data)"),
        (
            "60",
            {"rules": Ports(range=PortRange(5001, 9999), overflow=RULES.overflow)},
            "refused by web browsers",
        ),
    ],
)
def test_another_port_is_given_and_the_note_says_why(user, change, note):
    wanted = 5000 + int(user)
    assert chosen(user, **change) == Choice(Port(20000), f"port {wanted} is {note}")


def test_the_overflow_skips_what_cannot_be_had():
    rules = dataclasses.replace(RULES, reserved=frozenset({20000}))
    choice = chosen("2_1", rules, {Port(20001): User("1")}, {20002: "a process of user root"})
    assert choice == Choice(Port(20003))


def test_the_overflow_skips_ports_that_browsers_refuse():
    rules = dataclasses.replace(RULES, overflow=PortRange(6665, 6670))
    assert chosen("2_1", rules).port == 6670


def test_a_port_of_the_overflow_may_lie_outside_of_the_range():
    assert chosen("2_1", dataclasses.replace(RULES, range=PortRange(5001, 5001))).port == 20000


def test_the_error_says_which_ports_are_all_gone_and_what_to_do():
    assigned = {Port(port): User(f"x{port}") for port in RULES.overflow}
    with pytest.raises(PortsExhausted, match="user 2_1: 20000-20003 are all") as caught:
        chosen("2_1", assigned=assigned)
    assert "ports.overflow" in caught.value.hint


def test_the_preferred_port_is_given_while_the_overflow_is_full():
    assigned = {Port(port): User(f"x{port}") for port in RULES.overflow}
    assert chosen("1", assigned=assigned) == Choice(Port(5001))


def test_nobody_asks_who_holds_a_port_that_cannot_be_had_anyway():
    asked = []

    def held(port):
        asked.append(port)

    choose(User("3"), RULES, {Port(5003): User("x"), Port(20000): User("y")}, held)
    assert asked == [20001]


def test_as_many_users_as_there_are_ports_get_one_each():
    assigned: dict[Port, User] = {}
    for user in [*map(str, range(1, 13)), "2_1", "2_2"]:
        assigned[chosen(user, assigned=assigned).port] = User(user)
    assert sorted(assigned) == [*RULES.range, *RULES.overflow]


def test_nodes_fetch_refuses_the_ports_that_we_say_it_refuses():
    node = shutil.which("node")
    assert node, "node is missing: apt install nodejs"
    # An answer from the dispatcher means that fetch would have called the port.
    script = """
        const dispatcher = { dispatch(options, handler) { handler.onError(new Error('called')); return true; } };
        const reason = (port) => fetch(`http://127.0.0.1:${port}`, { dispatcher }).catch((error) => error.cause.message);
        Promise.all(JSON.parse(process.argv[1]).map(reason)).then((all) => console.log(JSON.stringify(all)));
    """
    ports = sorted(REFUSED_BY_BROWSERS | {port + 1 for port in REFUSED_BY_BROWSERS})
    said = subprocess.run(
        [node, "-e", script, json.dumps(ports)], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    refused = {port for port, reason in zip(ports, json.loads(said), strict=True) if reason == "bad port"}
    # The standard has these two since 2022, but Debian 12's node does not know them.
    assert refused | {4190, 6679} == REFUSED_BY_BROWSERS


@pytest.mark.parametrize(
    ("port", "following"),
    [
        (5001, 5002),
        (5002, None),  # 5003 has an owner
        (5004, None),  # 5005 is held
        (5006, None),  # 5007 is reserved
        (5010, None),  # the last one
        (20000, 20001),
        (20003, None),
    ],
)
def test_the_next_port_is_named_where_somebody_may_get_it(port, following):
    rules = dataclasses.replace(RULES, reserved=frozenset({5007}))
    held = {Port(5005): "nginx"}
    assert next_free(Port(port), rules, {Port(5003): User("3")}, held.get) == following


def test_what_is_known_to_be_taken_changes_no_choice():
    assigned = {Port(20000): User("a"), Port(20001): User("b"), Port(20003): User("c")}
    below = taken_below(RULES, assigned)
    assert below == 20002
    assert choose(User("x"), RULES, assigned, {}.get, below) == chosen("x", assigned=assigned)
    assigned[Port(20002)] = User("x")
    below = taken_below(RULES, assigned, below)
    assert below == 20004
    with pytest.raises(PortsExhausted):
        choose(User("y"), RULES, assigned, {}.get, below)
