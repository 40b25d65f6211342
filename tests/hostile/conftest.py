"""How hard the tests try: a fixed budget in CI, the same examples each time; `make fuzz` takes longer, and others."""

import os

from hypothesis import HealthCheck, Phase, settings

BUDGETS = {"ci": 1, "fuzz": 50}

_unhurried = {
    "deadline": None,  # a loaded host is slow, not wrong
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    "print_blob": True,
}
settings.register_profile("ci", derandomize=True, max_examples=100, database=None, **_unhurried)
settings.register_profile("fuzz", max_examples=100 * BUDGETS["fuzz"], phases=list(Phase), **_unhurried)
settings.load_profile(os.environ.get("WAPORTD_FUZZ", "ci"))
