"""The package as `make deb` built it, and what it unpacks to."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def output_of(*command, cwd=ROOT, **options):
    """Return what a command prints; a failure shows all that it said."""
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, **options)
    assert answer.returncode == 0, f"{' '.join(map(str, command))}\n{answer.stdout}{answer.stderr}"
    return answer.stdout


@pytest.fixture(scope="session")
def version():
    return output_of("dpkg-parsechangelog", "--show-field", "Version").strip()


@pytest.fixture(scope="session")
def package(version):
    package = ROOT / "dist" / f"waportd_{version}_all.deb"
    if not package.exists():
        pytest.fail(f"{package} does not exist: run `make deb`")
    return package


@pytest.fixture(scope="session")
def fleet_package(package):
    """What a host needs besides to be one of a fleet."""
    return package.with_name(package.name.replace("waportd_", "waportd-fleet_"))


@pytest.fixture(scope="session")
def unpacked(package, tmp_path_factory):
    """The files of the package."""
    folder = tmp_path_factory.mktemp("unpacked")
    output_of("dpkg-deb", "--extract", package, folder)
    return folder
