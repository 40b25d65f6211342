"""The words of the domain: what may name a user, what names a unit, and what no log may show."""

import dataclasses

import pytest

from waportd.model import (
    Assignment,
    PairingCode,
    Port,
    Session,
    User,
    is_user,
    port_of_unit,
    service_unit,
    socket_unit,
)


@pytest.mark.parametrize("text", ["1", "432", "2_1", "a", "Ana.Maria@example-1", "0", "x" * 64, "007", "1.."])
def test_letters_digits_and_four_signs_name_a_user(text):
    assert is_user(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "1 2",
            "1\n",
            "\n1",
            "1\0",
            "-1",
            "_1",
            ".1",
            "..",
            "@1",
            "a/b",
            "a%b",
            "a+b",
            "a:b",
            "a\\b",
        ),
        *("x" * 65, "é", "\uff11", "1\u200b", "$(id)", "a'b", 'a"b'),
    ],
)
def test_nothing_else_does(text):
    assert not is_user(text)


def test_units_are_named_by_their_port():
    assert service_unit(Port(5002)) == "whatsapp@5002.service"
    assert socket_unit(Port(5002)) == "whatsapp@5002.socket"


@pytest.mark.parametrize("port", [1, 5002, 65535])
@pytest.mark.parametrize("name", [service_unit, socket_unit])
def test_the_port_is_read_back_from_the_name_of_either_unit(port, name):
    assert port_of_unit(name(Port(port))) == port


@pytest.mark.parametrize(
    "unit",
    [
        *("whatsapp@.service", "whatsapp@0.service", "whatsapp@05002.service", "whatsapp@65536.service"),
        *(
            "whatsapp@5002.timer",
            "whatsapp@5002.service.d",
            "xwhatsapp@5002.service",
            "whatsapp@5002.service\n",
        ),
        *("whatsapp@-1.socket", "whatsapp@123456.socket", "whatsapp@5002x.socket", "whatsapp.target", ""),
    ],
)
def test_a_unit_that_is_not_ours_has_no_port(unit):
    assert port_of_unit(unit) is None


@pytest.mark.parametrize(
    "holder",
    [
        Session(qr="SECRET", pairing=PairingCode("SECRET", 0.0)),
        PairingCode("SECRET", 0.0),
        Assignment(User("1"), Port(5001), webhook_url="http://localhost/?token=SECRET"),
        Assignment(User("1"), Port(5001), webhook_secret=("whsec_SECRET",)),
    ],
)
def test_no_secret_is_shown_when_a_value_is_logged(holder):
    assert "SECRET" not in repr(holder)
    assert "SECRET" not in f"{holder}"


def test_values_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Assignment(User("1"), Port(5001)).port = Port(5002)
