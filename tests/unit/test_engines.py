"""Which versions of whatsapp-web.js there are."""

import dataclasses
import json
from pathlib import Path

import pytest
from support import add_engine

from waportd import engines
from waportd.config import Bus, Config
from waportd.engines import Engine
from waportd.model import Assignment, Port, User

LIBRARY = Path(__file__).parents[2] / "node_modules/whatsapp-web.js/package.json"


def names(config):
    return [engine.name for engine in engines.installed(config)]


def test_the_bundled_one_is_always_there(config):
    version = json.loads(LIBRARY.read_text("utf-8"))["version"]
    assert engines.installed(config) == [Engine("bundled", version)]
    assert engines.refusal("bundled", config) is None
    assert engines.folder_of("bundled", config) is None


def test_engines_are_reported_with_where_they_come_from(config):
    folder = add_engine(config, "1.34.6", integrity="sha512-xyz=", source="file", installed_at=5)
    [_, engine] = engines.installed(config)
    assert engine == Engine("1.34.6", "1.34.6", "sha512-xyz=", "file", 5.0)
    assert engines.folder_of("1.34.6", config) == folder


def test_the_newest_comes_first_after_the_bundled_one(config):
    versions = ["1.9.0", "1.34.7", "2.0.0-alpha.0", "1.34.10", "2.0.0", "2.0.0-beta.1"]
    for version in versions:
        add_engine(config, version)
    assert names(config) == [
        "bundled",
        "2.0.0",
        "2.0.0-beta.1",
        "2.0.0-alpha.0",
        "1.34.10",
        "1.34.7",
        "1.9.0",
    ]


def test_what_is_no_engine_is_passed_over(config):
    real = add_engine(config, "1.34.6")
    (config.engines / "1.34.5").symlink_to(real)
    (config.engines / "1.34.4").mkdir()
    (config.engines / "1.34.3").write_text("", "utf-8")
    real.rename(config.engines / ".new-1.34.6")
    for version, text in (("1.0.0", ""), ("1.0.1", "[]"), ("1.0.2", "{}"), ("1.0.3", "{")):
        (add_engine(config, version) / "engine.json").write_text(text, "utf-8")
    add_engine(config, "bundled")
    assert names(config) == ["bundled"]
    assert engines.refusal("1.34.5", config) == (
        "there is no engine '1.34.5'; there is bundled",
        "`waportctl engine install VERSION` adds one",
    )


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("1.34.7", True),
        ("0.0.1", True),
        ("2.0.0-alpha.0", True),
        ("1.0.0-rc-1", True),
        ("bundled", False),
        ("latest", False),
        ("1.34", False),
        ("1.34.7\n", False),
        ("1.34.07", False),
        ("1.34.7-", False),
        ("1.34.7-..", False),
        ("1.34.7+build", False),
        ("../1.34.7", False),
        ("1.34.7/", False),
        ("-1.34.7", False),
        ("１.34.7", False),
    ],
)
def test_an_engine_is_named_by_one_exact_version(text, is_one):
    assert engines.is_version(text) is is_one


def test_engines_are_roots_on_the_system_bus_only():
    assert Config().engines == Path("/var/lib/waportd-engines")
    config = Config()
    session = dataclasses.replace(config, systemd=dataclasses.replace(config.systemd, bus=Bus.SESSION))
    assert session.engines == session.store.directory / "engines"


def test_a_users_own_choice_goes_before_the_configuration(config):
    config = dataclasses.replace(config, instances=dataclasses.replace(config.instances, engine="1.34.6"))
    assignment = Assignment(User("1"), Port(5001))
    assert engines.chosen(assignment, config) == "1.34.6"
    assert engines.chosen(dataclasses.replace(assignment, engine="bundled"), config) == "bundled"
