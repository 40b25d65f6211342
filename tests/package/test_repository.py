"""An apt repository of the package: apt itself reads it, and believes nobody else."""

import os
import subprocess

import pytest
from conftest import ROOT, output_of

LATER = "99.0.0"


@pytest.fixture(scope="module")
def keyring(tmp_path_factory):
    """The environment of a gpg with one key, whose address is the value of KEY there."""
    home = tmp_path_factory.mktemp("gnupg")
    home.chmod(0o700)
    environment = os.environ | {"GNUPGHOME": str(home), "KEY": "test@example.org"}
    key = ["--quick-generate-key", environment["KEY"], "default", "default", "never"]
    output_of("gpg", "--batch", "--quiet", "--passphrase", "", *key, env=environment)
    yield environment
    subprocess.run(["gpgconf", "--kill", "gpg-agent"], env=environment, check=False)


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    """A package of a later version, without anything in it."""
    folder = tmp_path_factory.mktemp("later")
    (folder / "DEBIAN").mkdir()
    control = {
        "Package": "waportd",
        "Version": LATER,
        "Architecture": "all",
        "Maintainer": "test",
        "Description": "test",
    }
    (folder / "DEBIAN/control").write_text("".join(f"{name}: {value}\n" for name, value in control.items()))
    output_of("dpkg-deb", "--build", "--root-owner-group", folder, folder / "later.deb")
    return folder / "later.deb"


def put(keyring, folder, *packages):
    return subprocess.run(
        [ROOT / "tools/repository", keyring["KEY"], folder, *packages],
        env=keyring,
        capture_output=True,
        text=True,
        check=False,
    )


class Apt:
    """An apt with a state of its own, and one source: the repository."""

    def __init__(self, home, repository):
        (home / "lists/partial").mkdir(parents=True)
        (home / "cache/archives/partial").mkdir(parents=True)
        (home / "status").touch()
        source = f"deb [signed-by={repository}/waportd.asc] file://{repository} ./\n"
        (home / "sources.list").write_text(source)
        places = {
            "Dir::Etc::sourcelist": home / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State": home,
            "Dir::State::status": home / "status",
            "Dir::State::lists": home / "lists",
            "Dir::Cache": home / "cache",
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
        }
        self._options = [option for name, value in places.items() for option in ("-o", f"{name}={value}")]

    def run(self, program, *arguments):
        return subprocess.run(
            [program, *self._options, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"LC_ALL": "C"},
        )

    def candidate(self):
        updated = self.run("apt-get", "update")
        assert updated.returncode == 0, updated.stdout + updated.stderr
        policy = self.run("apt-cache", "policy", "waportd").stdout
        return policy.partition("Candidate: ")[2].split()[0]


@pytest.fixture
def repository(keyring, package, tmp_path):
    folder = tmp_path / "repository"
    put(keyring, folder, package).check_returncode()
    return folder


def test_apt_finds_the_package_and_then_its_next_version(keyring, repository, version, later, tmp_path):
    apt = Apt(tmp_path / "apt", repository)
    assert apt.candidate() == version
    put(keyring, repository, later).check_returncode()
    assert apt.candidate() == LATER
    assert f"waportd {version}" in " ".join(
        apt.run("apt-cache", "madison", "waportd").stdout.replace("|", " ").split()
    )


def test_apt_refuses_what_was_changed_after_the_signature(repository, tmp_path):
    packages = repository / "Packages"
    packages.write_text(packages.read_text().replace("waportd", "evil"))
    (repository / "Packages.gz").unlink()
    refused = Apt(tmp_path / "apt", repository).run("apt-get", "update")
    assert refused.returncode != 0
    assert "Hash Sum mismatch" in refused.stderr or "unexpected size" in refused.stderr


def test_apt_refuses_what_another_key_has_signed(keyring, repository, package, tmp_path):
    home = tmp_path / "other"
    home.mkdir(mode=0o700)
    trusted = (repository / "waportd.asc").read_bytes()
    environment = keyring | {"GNUPGHOME": str(home)}
    key = ["--quick-generate-key", keyring["KEY"], "default", "default", "never"]
    output_of("gpg", "--batch", "--quiet", "--passphrase", "", *key, env=environment)
    put(environment, repository, package).check_returncode()
    (repository / "waportd.asc").write_bytes(trusted)
    refused = Apt(tmp_path / "apt", repository).run("apt-get", "update")
    assert refused.returncode != 0
    assert "NO_PUBKEY" in refused.stderr or "Missing key" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 64, "usage:"),
        (["", "folder", "package.deb"], 64, "KEY=FINGERPRINT"),
        (["nobody", "folder", "x"], 69, "gpg"),
    ],
)
def test_what_is_missing_is_named(keyring, tmp_path, arguments, status, says):
    answer = subprocess.run(
        [ROOT / "tools/repository", *arguments],
        cwd=tmp_path,
        env=keyring,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == status
    assert says in answer.stderr
    assert not (tmp_path / "folder").exists()


def test_the_repository_holds_what_people_may_read(repository):
    assert {path.name for path in repository.iterdir()} >= {
        "InRelease",
        "Packages",
        "Packages.gz",
        "waportd.asc",
    }
    assert "PRIVATE" not in (repository / "waportd.asc").read_text()
    assert not [path for path in repository.iterdir() if path.name.startswith(".")]
