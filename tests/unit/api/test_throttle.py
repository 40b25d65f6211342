"""Who fails again and again has to wait; everybody else does not."""

import pytest

from waportd import quotas
from waportd.api.throttle import MOST, WINDOW_S, Failures


@pytest.fixture
def failures():
    return Failures()


def fail(failures, address, times, now=0.0):
    return [failures.count(address, now) for _ in range(times)]


def test_after_so_many_failures_the_next_has_to_wait_until_the_window_ends(failures):
    assert fail(failures, "192.0.2.1", MOST) == [None] * MOST
    assert failures.count("192.0.2.1", 0.0) == WINDOW_S
    assert failures.count("192.0.2.1", WINDOW_S - 0.5) == 1
    assert failures.count("192.0.2.1", WINDOW_S) is None


def test_addresses_count_for_themselves(failures):
    fail(failures, "192.0.2.1", MOST + 1)
    assert failures.count("192.0.2.2", 0.0) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff"),
        ("2001:db8:0:0:1::", "2001:db8::"),
        ("fe80::1%eth0", "fe80::2%eth0"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_the_addresses_of_one_host_count_together(failures, one, other):
    fail(failures, one, MOST)
    assert failures.count(other, 0.0) == WINDOW_S


def test_two_networks_or_mapped_addresses_do_not(failures):
    fail(failures, "2001:db8::1", MOST)
    fail(failures, "::ffff:192.0.2.1", MOST)
    assert failures.count("2001:db8:0:1::1", 0.0) is None
    assert failures.count("::ffff:192.0.2.2", 0.0) is None


def test_memory_is_bounded(failures, monkeypatch):
    monkeypatch.setattr(quotas, "REMEMBERED_CALLERS", 10)
    for number in range(100):
        failures.count(f"192.0.2.{number}", 0.0)
    assert failures.remembered == 10


def test_it_is_logged_once_a_window(failures, caplog):
    fail(failures, "192.0.2.1", MOST * 3)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    fail(failures, "192.0.2.1", MOST * 3, WINDOW_S)
    assert len(caplog.records) == 2
    assert "192.0.2.1" in caplog.text
