"""A host of a fleet on a real systemd: the units of its lease and of its sessions, with times of seconds."""

import pytest
import user_journal
from lease_host import LeaseHost


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Put what keeper and systemd said into the report of a failed test."""
    outcome = yield
    user_journal.add_to(outcome.get_result(), call.when)


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A host whose units systemd has read."""
    host = LeaseHost(tmp_path_factory.mktemp("fleet"))
    host.install()
    return host


@pytest.fixture
def host(installed):
    """A host that holds a lease, and runs nothing yet."""
    installed.begin()
    yield installed
    installed.end()
