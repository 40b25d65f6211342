"""What a valid configuration does that nobody may have meant."""

import pytest
import yaml

from waportd import advice
from waportd.advice import advise
from waportd.config import parse
from waportd.model import Port, User


@pytest.fixture(autouse=True)
def cgroups(tmp_path, monkeypatch):
    """A machine whose systemd can limit memory."""
    monkeypatch.setattr(advice, "_CGROUPS", tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    return tmp_path


def told(sections, **owners):
    config = parse(yaml.safe_dump(sections), "config.yaml")
    found = advise(config, {Port(int(port[1:])): User(user) for port, user in owners.items()})
    return [(each.key, str(each)) for each in found]


def test_a_configuration_that_says_what_is_meant_gets_none():
    sections = {
        "api": {"allow_users": ["root", 33]},
        "ports": {"reserved": [5002]},
        "instances": {"webhook_url": "http://localhost:5002/webhook"},
        "limits": {"memory_max": "1G"},
    }
    assert told(sections, p5001="1", p5003="3") == []


def test_a_name_without_an_account():
    [(key, said)] = told({"api": {"allow_users": ["root", "nosuch"]}})
    assert key == "api.allow_users"
    assert "no account nosuch" in said


def test_a_reserved_port_that_a_user_has():
    [(key, said)] = told({"ports": {"reserved": [5002, 5003]}, "instances": {"webhook_url": ""}}, p5002="2")
    assert key == "ports.reserved"
    assert "user 2 has port 5002 already" in said
    assert "waportctl delete 2" in said


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_webhook_that_is_a_users_own_server(host):
    sections = {"instances": {"webhook_url": f"http://{host}:5002/webhook"}}
    [(key, said)] = told(sections, p5002="2")
    assert key == "instances.webhook_url"
    assert "the server of user 2" in said
    assert told({"instances": {"webhook_url": "http://app.example:5002/webhook"}}, p5002="2") == []


def test_a_limit_that_nothing_keeps(cgroups):
    (cgroups / "cgroup.controllers").write_text("cpu pids\n")
    [(key, said)] = told({"limits": {"memory_max": "1G"}})
    assert key == "limits.memory_max"
    assert "no memory controller" in said
    assert told({"limits": {"memory_max": 0}}) == []
    # The older layout has no such file.
    (cgroups / "cgroup.controllers").unlink()
    (cgroups / "memory").mkdir()
    assert told({"limits": {"memory_max": "1G"}}) == []
