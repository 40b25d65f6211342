"""A host of a fleet on a real systemd: the units of its lease and of its sessions, with times of seconds."""

import subprocess

import pytest
from lease_host import LeaseHost


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Put what keeper and systemd said into the report of a failed test."""
    report = (yield).get_result()
    if report.failed and call.when in {"setup", "call"}:
        log = subprocess.run(
            ["journalctl", "--user", "--no-pager", "-o", "short-precise", "-n", "150"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        report.sections.append(("journal", log.stdout or log.stderr))


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
