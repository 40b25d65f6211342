"""Connect links: good for one user and for so long, and for nothing else."""

import time

import pytest
from support import another_key

from waportd.connect_links import Links
from waportd.errors import LinkExpired, LinkInvalid
from waportd.model import User

TWO = User("2")


@pytest.fixture
def links():
    return Links(b"k" * 32, another_key)


def test_a_link_is_good_until_it_ends(links, monkeypatch):
    now = time.time()
    expires, signature = links.sign(TWO, 600)
    assert abs(expires - now - 600) < 5
    assert links.check(TWO, str(expires), signature) == expires
    monkeypatch.setattr(time, "time", lambda: expires - 1.0)
    links.check(TWO, str(expires), signature)
    monkeypatch.setattr(time, "time", lambda: float(expires))
    with pytest.raises(LinkExpired):
        links.check(TWO, str(expires), signature)


def test_a_link_outlives_a_restart_and_not_a_change_of_the_key(links):
    expires, signature = links.sign(TWO, 600)
    Links(b"k" * 32, another_key).check(TWO, str(expires), signature)
    with pytest.raises(LinkInvalid):
        Links(b"x" * 32, another_key).check(TWO, str(expires), signature)


def test_a_link_that_was_changed_is_none_even_where_it_would_have_expired(links):
    expires, signature = links.sign(TWO, 600)
    changed = [
        (User("3"), str(expires), signature),
        (User("2_1"), str(expires), signature),
        (TWO, str(expires + 1), signature),
        (TWO, f"0{expires}", signature),
        (TWO, f"{expires} ", signature),
        (TWO, "1", signature),
        (TWO, "", signature),
        (TWO, "é", signature),
        (TWO, "\udcff", signature),
        (TWO, str(expires), signature[:-1]),
        (TWO, str(expires), signature + "="),
        (TWO, str(expires), signature.swapcase()),
        (TWO, str(expires), ""),
        (TWO, str(expires), "é"),
        (TWO, str(expires), "\udcff"),
    ]
    for user, end, sign in changed:
        with pytest.raises(LinkInvalid):
            links.check(user, end, sign)


def test_what_a_link_is_made_of_cannot_be_taken_apart_in_two_ways(links):
    expires, signature = links.sign(User("21"), 600)
    assert len(signature) == 43
    with pytest.raises(LinkInvalid):
        links.check(TWO, f"1{expires}", signature)
    links.check(User("21"), str(expires), signature)


APP = "https://app.example.com/after?step=2"


def test_an_address_to_return_to_goes_with_one_link_and_outlives_it(links, monkeypatch):
    expires, _ = links.sign(TWO, 600)
    signature = links.sign_return(TWO, expires, APP)
    assert links.vouches_for("2", str(expires), APP, signature)
    monkeypatch.setattr(time, "time", lambda: expires + 3600.0)
    assert links.vouches_for("2", str(expires), APP, signature)
    changed = [
        ("3", str(expires), APP, signature),
        ("2", str(expires + 1), APP, signature),
        ("2", str(expires), f"{APP}3", signature),
        ("2", str(expires), "https://evil.example/", signature),
        ("2", str(expires), APP, signature[:-1]),
        ("2", str(expires), APP, ""),
        ("2", str(expires), APP, "\udcff"),
        ("2", f"0{expires}", APP, signature),
        ("2", "", APP, signature),
        # The same text, taken apart elsewhere.
        (f"2/{expires}", "https:", APP.removeprefix("https:/"), signature),
        (f"2/{expires}/https:", "", APP.removeprefix("https://"), signature),
    ]
    for user, end, address, sign in changed:
        assert not links.vouches_for(user, end, address, sign), (user, end, address)


def test_the_signature_of_a_link_signs_no_address_and_that_of_an_address_no_link(links):
    expires, signature = links.sign(TWO, 600)
    assert not links.vouches_for("2", str(expires), "", signature)
    for of_address in (links.sign_return(TWO, expires, APP), links.sign_return(TWO, expires, "")):
        with pytest.raises(LinkInvalid):
            links.check(TWO, str(expires), of_address)
