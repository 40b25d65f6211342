"""A fleet's engine and hosts, as they really are."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("tools", "tests/unit", "tests/unit/fleet")]

pytest.register_assert_rewrite("engine_contract")

from etcd_site import site_on  # noqa: E402
from testbed import etcd  # noqa: E402


@pytest.fixture(scope="module")
def cluster(request):
    """A cluster of one member, of the release that the module names in RELEASE."""
    with etcd.running(request.module.RELEASE) as cluster:
        yield cluster


@pytest.fixture
async def site(cluster):
    async with site_on(cluster) as site:
        yield site
