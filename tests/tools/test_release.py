"""A release: one command, in a checkout of its own."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEXT = "98.7.6"
WHO = {
    f"GIT_{role}_{field}": "a@example.org" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")
}
"""Who commits, for git."""


@pytest.fixture
def checkout(tmp_path):
    """A clone with the tool as it is here."""
    folder = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    shutil.copy(ROOT / "tools/release", folder / "tools/release")
    changes = folder / "CHANGELOG.md"
    changes.write_text(changes.read_text().replace("## Unreleased\n", "## Unreleased\n- One more.\n", 1))
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "as it is here")
    return folder


def git(folder, *arguments):
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=os.environ | WHO, capture_output=True, text=True, check=True
    ).stdout.strip()


def release(folder, version):
    return subprocess.run(
        [folder / "tools/release", version],
        env=os.environ | WHO,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_release_is_one_commit_and_a_tag_and_every_file_names_it(checkout):
    said = release(checkout, NEXT)
    assert said.returncode == 0, said.stderr
    assert git(checkout, "status", "--porcelain") == ""
    assert git(checkout, "log", "-1", "--format=%s") == f"release: {NEXT}"
    assert git(checkout, "cat-file", "-t", f"v{NEXT}") == "tag"
    assert f'__version__ = "{NEXT}"' in (checkout / "waportd/__init__.py").read_text()
    assert json.loads((checkout / "package.json").read_text())["version"] == NEXT
    lock = json.loads((checkout / "package-lock.json").read_text())
    assert lock["version"] == lock["packages"][""]["version"] == NEXT
    changes = (checkout / "CHANGELOG.md").read_text()
    assert re.search(rf"## Unreleased\n\n## {re.escape(NEXT)} \(\d{{4}}-\d\d-\d\d\)\n- One more\.", changes)
    shown = subprocess.run(
        ["dpkg-parsechangelog", "--file", checkout / "debian/changelog", "--all"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stderr == ""
    assert f"Version: {NEXT}" in shown.stdout
    assert "First package." in shown.stdout


@pytest.mark.parametrize("version", ["0.0.1", "1.2", "1.2.3-rc1", "v1.2.3", ""])
def test_a_version_that_cannot_follow_is_refused(checkout, version):
    before = git(checkout, "rev-parse", "HEAD")
    said = release(checkout, version)
    assert said.returncode == 1
    assert said.stderr.startswith("release: ")
    assert git(checkout, "rev-parse", "HEAD") == before
    assert git(checkout, "status", "--porcelain") == ""


def test_what_is_not_committed_is_released_by_nobody(checkout):
    (checkout / "new").touch()
    said = release(checkout, NEXT)
    assert said.returncode == 1
    assert "git status" in said.stderr


def test_the_same_release_is_not_made_twice_nor_one_without_changes(checkout):
    assert release(checkout, NEXT).returncode == 0
    assert "does not follow" in release(checkout, NEXT).stderr
    assert "describe what has changed" in release(checkout, "99.0.0").stderr
    git(checkout, "tag", "v99.0.1")
    assert "exists already" in release(checkout, "99.0.1").stderr
