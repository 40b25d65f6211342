"""The same few inputs each time, however slow the machine; and hosts of a fleet as web apps see them."""

import pytest
from bucket_server import running
from hypothesis import HealthCheck, settings
from two_hosts import Fleet

settings.register_profile(
    "fleet", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fleet")


@pytest.fixture(scope="session")
def bucket_server():
    """A server with buckets."""
    with running() as server:
        yield server


@pytest.fixture
def own_bucket_server():
    """One that a test may stop."""
    with running() as server:
        yield server


@pytest.fixture
async def fleet(tmp_path, config, monkeypatch):
    """A fleet without hosts, whose daemons end quickly."""
    monkeypatch.setattr("waportd.api.server.IDLE_DRAIN_S", 0.05)
    fleet = Fleet(tmp_path, config)
    yield fleet
    await fleet.close()
