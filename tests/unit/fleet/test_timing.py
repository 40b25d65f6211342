"""The times of a lease, and what they must prove."""

import dataclasses

import pytest

from waportd.errors import ConfigError
from waportd.fleet.timing import Timing


def test_the_defaults_are_safe():
    assert Timing.from_environment({}) == Timing()
    assert list(Timing().changed()) == []


def test_variables_replace_times_and_hand_them_on():
    timing = dataclasses.replace(Timing(), renew_s=1.5, ttl_s=60.0)
    assert dict(timing.changed()) == {"WAPORTD_FLEET_RENEW_S": "1.5", "WAPORTD_FLEET_TTL_S": "60"}
    assert Timing.from_environment(dict(timing.changed())) == timing


@pytest.mark.parametrize(
    ("unsafe", "rule"),
    [
        ({"ttl_s": 33.0}, "(deadline_s + stop_s)"),
        ({"watchdog_s": 23.0}, "watchdog_s + abort_s"),
        ({"watchdog_s": 15.0}, "deadline_s < watchdog_s"),
        ({"call_s": 3.0}, "call_s < ask_s"),
        ({"renew_s": 6.0}, "renew_s + 2"),
        ({"taken_s": 45.0}, "ttl_s < taken_s"),
        ({"late_s": 0.0}, "above 0"),
        ({"late_s": float("nan")}, "above 0"),
        ({"ttl_s": float("inf")}, "above 0"),
    ],
)
def test_times_that_prove_nothing_are_refused(unsafe, rule):
    environment = {f"WAPORTD_FLEET_{name.upper()}": str(value) for name, value in unsafe.items()}
    with pytest.raises(ConfigError) as caught:
        Timing.from_environment(environment)
    assert rule in caught.value.message
    assert "remove the variables" in caught.value.hint


def test_all_faults_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        Timing.from_environment({"WAPORTD_FLEET_TTL_S": "soon", "WAPORTD_FLEET_CALL_S": "9"})
    for part in ("WAPORTD_FLEET_TTL_S='soon'", "call_s < ask_s", "renew_s + 2"):
        assert part in caught.value.message
