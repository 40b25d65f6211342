"""Pairing codes: whose number it is, and how often WhatsApp may be asked."""

import pytest

from waportd import pairing
from waportd.errors import TooManyRequests
from waportd.model import User
from waportd.pairing import INTERVAL_S, PER_HOST, PER_HOUR, PairingLimit, phone_digits

ANA, BEA = User("ana"), User("bea")
PHONE = "5511999990000"


@pytest.mark.parametrize(
    "text", ["+55 11 99999-8888", "5511999998888", "(55) 11.99999.8888", " 55\u00a011999998888 "]
)
def test_a_number_is_read_as_people_write_it(text):
    assert phone_digits(text) == "5511999998888"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "123",
        "0551199999888",
        "5" * 16,
        "5511x99998888",
        "٥٥١١٩٩٩٩٩٨٨٨٨",
        "55/1199999888",
        "55\n11999998888",
        "5511999998888\n",
    ],
)
def test_what_is_no_number_with_a_country_code_is_none(text):
    assert phone_digits(text) is None


class TestLimit:
    @pytest.fixture
    def limit(self):
        return PairingLimit()

    def refused(self, limit, now, code="other", user=ANA):
        with pytest.raises(TooManyRequests) as caught:
            limit.admit(user, PHONE, code, now)
        return caught.value.retry_after

    def test_the_next_code_takes_its_time(self, limit):
        limit.admit(ANA, PHONE, "one", 100.0)
        assert self.refused(limit, 110.5) == INTERVAL_S - 10
        limit.admit(ANA, PHONE, "other", 100.0 + INTERVAL_S)

    def test_a_code_that_is_on_its_way_or_shown_is_free(self, limit):
        limit.admit(ANA, PHONE, "one", 0.0)
        limit.admit(ANA, PHONE, "one", 1.0)
        limit.settle(ANA, "one", 180.0)
        limit.admit(ANA, PHONE, "one", 179.0)
        # A new one, which comes at once after one that was free, and counts.
        limit.admit(ANA, PHONE, "one", 180.0)
        assert self.refused(limit, 181.0) == INTERVAL_S - 1

    def test_a_code_that_never_came_counts(self, limit):
        limit.admit(ANA, PHONE, "one", 0.0)
        limit.settle(ANA, "one", 2.0)
        assert self.refused(limit, 2.0, "one") == INTERVAL_S - 2

    def test_another_code_settles_nothing(self, limit):
        limit.admit(ANA, PHONE, "one", 0.0)
        limit.admit(ANA, PHONE, "other", 40.0)
        limit.settle(ANA, "one", 41.0)
        limit.settle(BEA, "one", 41.0)
        limit.admit(ANA, PHONE, "other", 50.0)

    def test_the_hour_has_its_limit(self, limit):
        for number in range(PER_HOUR):
            limit.admit(ANA, PHONE, number, number * 60.0)
        assert self.refused(limit, PER_HOUR * 60.0) == 3600 - PER_HOUR * 60
        limit.admit(ANA, PHONE, "later", 3600.0)
        assert self.refused(limit, 3640.0) == 20

    def test_users_do_not_limit_each_other(self, limit):
        limit.admit(ANA, PHONE, "one", 0.0)
        limit.admit(BEA, PHONE, "one", 0.0)

    def test_who_is_deleted_and_comes_back_waits_as_before(self, limit):
        limit.forget(ANA)
        limit.admit(ANA, PHONE, "one", 0.0)
        limit.settle(ANA, "one", 180.0)
        limit.forget(ANA)
        assert self.refused(limit, 10.0, "one") == INTERVAL_S - 10

    def test_who_asks_for_nothing_more_is_forgotten_after_an_hour(self, limit, monkeypatch):
        monkeypatch.setattr(pairing, "SWEPT_FROM", 10)
        for number in range(100):
            limit.admit(User(f"u{number}"), f"55119999{number:05}", "one", number * 600.0)
        assert limit.remembered <= 12

    def test_a_phone_is_asked_so_often_an_hour_by_all_users_together(self, limit):
        for number in range(PER_HOUR):
            limit.admit(User(f"u{number}"), PHONE, "one", 0.0)
        with pytest.raises(TooManyRequests, match="for that phone 5 pairing codes") as caught:
            limit.admit(BEA, PHONE, "one", 600.0)
        assert caught.value.retry_after == 3000
        limit.admit(BEA, "5511999991111", "one", 600.0)
        limit.admit(ANA, PHONE, "one", 3600.0)

    def test_a_host_asks_so_often_an_hour_for_all_users_together(self, limit):
        for number in range(PER_HOST):
            limit.admit(User(f"u{number}"), f"55119999{number:05}", "one", 0.0)
        with pytest.raises(TooManyRequests, match="on this host"):
            limit.admit(ANA, PHONE, "one", 1.0)

    def test_the_refusal_says_how_long_and_names_no_phone(self, limit):
        limit.admit(ANA, PHONE, (7, "5511999998888"), 0.0)
        with pytest.raises(TooManyRequests, match="ana has asked for 1 pairing code") as caught:
            limit.admit(ANA, PHONE, (7, "5511999997777"), 5.0)
        assert "25 s" in caught.value.hint
        assert "5511" not in repr(caught.value) + str(caught.value.hint) + repr(vars(limit))
