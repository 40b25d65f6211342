"""One key of config.yaml is set, and nothing else in the file changes."""

import os
import stat
from pathlib import Path

import pytest

from waportd.cli import config_file
from waportd.cli.exit_status import Problem
from waportd.config import load

EXAMPLE = Path(__file__).parents[3] / "config.example.yaml"
SHIPPED = Path(__file__).parents[3] / "units/config.yaml"
LINE = "  engine: 1.34.6\n"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "config.yaml"


def edited(path, text, value="1.34.6"):
    path.write_text(text, "utf-8")
    after = config_file.set_key(path, "instances", "engine", value)
    assert load(path) == after
    assert after.instances.engine == value
    return path.read_bytes().decode()


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", "instances:\n  engine: 1.34.6\n"),
        ("# only words", "# only words\n\ninstances:\n  engine: 1.34.6\n"),
        ("ports:\n  base: 5010", "ports:\n  base: 5010\n\ninstances:\n  engine: 1.34.6\n"),
        (
            "instances: # of all\n\n  # the app's\n  browser: chromium\nlog:\n  level: debug\n",
            "instances: # of all\n  engine: 1.34.6\n\n  # the app's\n  browser: chromium\nlog:\n  level: debug\n",
        ),
        ("instances:\n", "instances:\n  engine: 1.34.6\n"),
        ("instances:", "instances:\n  engine: 1.34.6\n"),
        ("instances: ~\nlog:\n", None),
        (
            "instances:\n    engine: bundled  # for now\n    browser: auto\n",
            "instances:\n    engine: 1.34.6  # for now\n    browser: auto\n",
        ),
        ("instances:\n  engine: 'bundled'\n", "instances:\n  engine: 1.34.6\n"),
        ("instances:\n  engine: 1.34.6\n", "instances:\n  engine: 1.34.6\n"),
        ("instances: {browser: auto}\n", "instances: {engine: 1.34.6, browser: auto}\n"),
        ("instances: {}\n", "instances: {engine: 1.34.6}\n"),
        ("instances: {engine: bundled}\n", "instances: {engine: 1.34.6}\n"),
        ("---\nlog: {level: info}\n...\n", "---\nlog: {level: info}\n\ninstances:\n  engine: 1.34.6\n...\n"),
        ("log:\r\n  level: info\r\n", "log:\r\n  level: info\r\n\ninstances:\n  engine: 1.34.6\n"),
        ("{log: {level: info}}\n", None),
    ],
)
def test_only_the_key_changes(path, text, result):
    if result is not None:
        assert edited(path, text) == result
        return
    with pytest.raises(Problem) as caught:
        edited(path, text)
    assert "`engine: 1.34.6` below `instances:`" in caught.value.hint
    assert path.read_text("utf-8") == text


@pytest.mark.parametrize("source", [EXAMPLE, SHIPPED])
def test_what_is_shipped_keeps_every_line_and_gets_one(path, source):
    text = source.read_text("utf-8")
    lines = edited(path, text).splitlines()
    added = [line for line in lines if line not in text.splitlines()]
    assert [line.strip() for line in added if line != "instances:"] == ["engine: 1.34.6"]
    again = edited(path, path.read_text("utf-8"), "bundled")
    assert again == "\n".join(lines).replace("engine: 1.34.6", "engine: bundled") + "\n"


def test_a_file_that_is_not_valid_is_not_touched(path):
    path.write_text("instances:\n  engin: x\n", "utf-8")
    with pytest.raises(Problem, match="unknown key"):
        config_file.set_key(path, "instances", "engine", "1.34.6")
    assert path.read_text("utf-8") == "instances:\n  engin: x\n"


def test_owner_mode_and_link_stay(path, tmp_path):
    real = tmp_path / "real.yaml"
    real.write_text("log: {}\n", "utf-8")
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 0, 12345)
    path.symlink_to(real)
    config_file.set_key(path, "instances", "engine", "1.34.6")
    assert path.is_symlink()
    found = real.stat()
    assert stat.S_IMODE(found.st_mode) == 0o640
    assert os.geteuid() or found.st_gid == 12345
    assert sorted(each.name for each in tmp_path.iterdir()) == ["config.yaml", "real.yaml"]


def test_a_file_that_is_missing_is_made(path):
    config_file.set_key(path, "instances", "engine", "1.34.6")
    assert load(path).instances.engine == "1.34.6"


def test_what_cannot_be_written_is_reported_with_the_line_to_write(path, monkeypatch):
    path.write_text("log: {}\n", "utf-8")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Problem, match="No space left") as caught:
        config_file.set_key(path, "instances", "engine", "1.34.6")
    assert "by hand" in caught.value.hint
    assert [each.name for each in path.parent.iterdir()] == ["config.yaml"]
