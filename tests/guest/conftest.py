"""Machines of both releases on which the package is installed as an administrator does it, and nothing else."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from faults import PHONE, PORT, USER, belongings  # noqa: E402
from harness import until  # noqa: E402
from machines import RUNNING, installing, needed_by, shown_to, site_on  # noqa: E402
from testbed import guests  # noqa: E402


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Put what the machine said into the report of a failed test."""
    outcome = yield
    report = outcome.get_result()
    for machine in RUNNING if report.failed else ():
        try:
            journal = machine.journal("--lines=200", "--output=short-precise")
        except (guests.GuestError, subprocess.TimeoutExpired) as error:
            journal = f"the journal cannot be read: {error}"
        report.sections.append((f"journal of {machine.name}", journal))


def pytest_terminal_summary(terminalreporter):
    """Say of tests that pass where on this machine an attack succeeds all the same, and what could not be real."""
    for kind, title in (
        ("succeeds here", "attacks that succeed on this machine"),
        ("only played here", "faults that are only played on this machine"),
    ):
        told = [
            f"{report.nodeid}: {said}"
            for report in terminalreporter.getreports("passed")
            for name, said in report.user_properties
            if name == kind
        ]
        if told:
            terminalreporter.section(title)
            for line in told:
                terminalreporter.line(line)


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
def other_versions(package, tmp_path_factory):
    """A folder with an earlier and a later version of the package, which differ in all that an upgrade can meet."""
    folder = tmp_path_factory.mktemp("versions")
    tree, packages = folder / "tree", folder / "packages"
    packages.mkdir()
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)

    def build(name, version):
        control = tree / "DEBIAN/control"
        control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text()))
        command = ["dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, packages / name]
        subprocess.run(command, check=True)

    version = guests.field(package, "Version")
    build("earlier.deb", f"{version}~earlier")
    with (tree / "etc/waportd/config.yaml").open("a") as file:
        file.write("# What the later version says.\n")
    for script in filter(Path.is_file, (tree / "usr/lib/waportd").rglob("*.js")):
        script.write_bytes(script.read_bytes() + b"\n// The later version.\n")
    with (tree / "usr/lib/python3/dist-packages/waportd/store.py").open("a") as file:
        file.write('MIGRATIONS += ("CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT",)\n')
    build("later.deb", f"{version}+later")
    return packages


def pytest_generate_tests(metafunc):
    """Run each test on every release, or on those that its module names in RELEASES."""
    if "root" in metafunc.fixturenames:
        releases = getattr(metafunc.module, "RELEASES", guests.RELEASES)
        metafunc.parametrize("root", releases, indirect=True, scope="module")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Have two machines tested beside each other (`--dist loadgroup`): tests that share one go to one process.

    Not each release to a process of its own: the one with more tests would be waited for. First of all, since the marks
    are read at the same occasion.
    """
    for item in items:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if release := next((each for each in values if each in guests.RELEASES), None):
            shared = {"site", "fleet"} & set(item.fixturenames)
            machine = item.module.__name__ if shared else item.name
            item.add_marker(pytest.mark.xdist_group(f"{release} {machine}"))


@pytest.fixture(scope="module")
def root(request, package):
    with guests.prepared_root(request.param, needed_by(package)) as root:
        yield root


def _booted(root, package, other_versions=None, **options):
    shown = shown_to(package, other_versions)
    with guests.booted(root, shown=shown, **options) as machine, site_on(machine, package) as site:
        yield site


@pytest.fixture(scope="session")
def installed(package):
    """Gives what was written to a root when the package was installed on it, and its browsers see the stand-in.

    Once for all modules: it takes longer than to boot what has it.
    """
    made, prepare = {}, installing(package)

    with contextlib.ExitStack() as stack:

        def written(root):
            if root not in made:
                made[root] = stack.enter_context(guests.prepared(root, prepare, shown=shown_to(package)))
            return made[root]

        yield written


@pytest.fixture
def bare_site(release, bus, package):
    """A machine without what the package depends on, which apt can install."""
    depends = guests.field(package, "Depends")
    with guests.prepared_root(release, bus=bus, offered=f"age, {depends}") as root:
        yield from _booted(root, package)


@pytest.fixture
def empty_site(root, package, other_versions):
    """A machine of one's own, on which nothing is installed yet."""
    yield from _booted(root, package, other_versions)


@pytest.fixture(scope="module")
def site(root, package, installed):
    """A machine that the tests of a module share: the package was installed before its boot, WhatsApp is the stand-in."""
    machines = guests.booted(root, shown=shown_to(package), written=installed(root))
    with machines as machine, site_on(machine, package) as site:
        site.find_standin()
        yield site


@pytest.fixture(scope="module")
def unusual_site(request, root, package):
    """A machine that is unlike the others: `prepare` of its module gets its disk, and the package, before it boots."""
    yield from _booted(root, package, on_disk=lambda disk: request.module.prepare(disk, package))


@pytest.fixture(scope="module")
def linked(site):
    """User 1 is linked, user 2 is shown a code, user ana has a port."""
    site.machine.run(
        "mkdir", "-p", "/etc/systemd/system/whatsapp@.service.d", "/etc/systemd/system/waportd.service.d"
    )
    # Watchdogs that a test can wait for.
    for unit, seconds in (("whatsapp@.service", 8), ("waportd.service", 4)):
        site.machine.run(
            "tee", f"/etc/systemd/system/{unit}.d/watchdog.conf", given=f"[Service]\nWatchdogSec={seconds}\n"
        )
    site.machine.systemctl("daemon-reload")
    site.machine.systemctl("restart", "waportd.service")
    site.show_code(USER)
    site.scan(PORT, PHONE)
    site.until_session(USER, "ready")
    site.show_code("2")
    site.call("PUT", "/v1/users/ana?wait=none", 201)
    until(lambda: all(user[2] == (user[0] == USER) for user in belongings(site)), "the link to be kept")
    return site
