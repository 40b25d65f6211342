"""The same few inputs each time, however slow the machine."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fleet", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fleet")
