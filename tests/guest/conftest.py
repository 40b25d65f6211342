"""Machines of both releases on which the package is installed as an administrator does it, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import guests  # noqa: E402
from harness import PACKAGES, STANDIN, Site  # noqa: E402

_machine = None
"""The machine that runs; there is one at a time."""


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Put what the machine said into the report of a failed test."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and _machine:
        try:
            journal = _machine.journal("--lines=200", "--output=short-precise")
        except (guests.GuestError, subprocess.TimeoutExpired) as error:
            journal = f"the journal cannot be read: {error}"
        report.sections.append(("journal of the machine", journal))


@pytest.fixture(scope="session")
def package():
    """The .deb that `make deb` built last."""
    if missing := guests.missing_programs():
        pytest.fail(f"please install {' '.join(missing)}")
    version = subprocess.run(
        ["dpkg-parsechangelog", "--show-field", "Version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    package = ROOT / "dist" / f"waportd_{version}_all.deb"
    if not package.exists():
        pytest.fail(f"{package} does not exist: run `make deb`")
    return package


@pytest.fixture(scope="session")
def next_package(package, tmp_path_factory):
    """The same with a higher version."""
    folder = tmp_path_factory.mktemp("next")
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder / "tree"], check=True)
    control = folder / "tree/DEBIAN/control"
    version = guests.field(package, "Version")
    control.write_text(control.read_text().replace(f"Version: {version}\n", f"Version: {version}+next\n"))
    built = folder / "packages/next.deb"
    built.parent.mkdir()
    subprocess.run(
        ["dpkg-deb", "-Znone", "--root-owner-group", "--build", folder / "tree", built], check=True
    )
    return built


@pytest.fixture(scope="module", params=guests.RELEASES)
def root(request, package):
    with guests.prepared_root(request.param, guests.field(package, "Depends")) as root:
        yield root


def _booted(root, package, next_package=None):
    global _machine  # noqa: PLW0603
    shown = {package.parent: PACKAGES, ROOT / "tests/standin": STANDIN}
    if next_package:
        shown[next_package.parent] = f"{PACKAGES}-next"
    with guests.booted(root, shown=shown) as _machine:
        try:
            yield Site(_machine, f"{PACKAGES}/{package.name}")
        finally:
            _machine = None


@pytest.fixture
def empty_site(root, package, next_package):
    """A machine of one's own, on which nothing is installed yet."""
    yield from _booted(root, package, next_package)


@pytest.fixture(scope="module")
def site(root, package):
    """A machine that the tests of a module share: the package is installed, WhatsApp is the stand-in."""
    for site in _booted(root, package):
        site.install()
        site.connect_to_standin()
        yield site
