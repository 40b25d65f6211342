"""What machines of tests see of this one, and which run now."""

import contextlib
from pathlib import Path

from harness import OTHER_VERSIONS, PACKAGES, SERVER, STANDIN, Site
from testbed import guests

ROOT = Path(__file__).resolve().parents[2]
RUNNING = []
"""The machines whose journals get into the report of a failed test."""


def shown_to(package, other_versions=None):
    """Return which folders of this machine are seen in the others, and where."""
    shown = {package.parent: PACKAGES, ROOT / "tests/standin": STANDIN, ROOT / "server": SERVER}
    return shown | {other_versions: OTHER_VERSIONS} if other_versions else shown


def needed_by(package):
    """Return what an installation has besides the package: libbpf by iproute2, age, which is recommended, and what a
    fleet needs.
    """
    return f"libbpf1, age, python3-cryptography, {guests.field(package, 'Depends')}"


def installing(package):
    """Return what installs the package on a machine, whose browsers see the stand-in (`guests.prepared`)."""

    def prepare(machine):
        with site_on(machine, package) as site:
            site.install()
            site.connect_to_standin()

    return prepare


@contextlib.contextmanager
def site_on(machine, package):
    """Give a machine as its administrator and the web app see it; a failed test reports what it said."""
    site = Site(machine, f"{PACKAGES}/{package.name}")
    RUNNING.append(machine)
    try:
        with contextlib.closing(site):
            yield site
    finally:
        RUNNING.remove(machine)
