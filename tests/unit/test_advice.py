"""What a valid configuration does that nobody may have meant."""

import subprocess

import pytest
import yaml

from waportd import advice
from waportd.advice import advise, advise_held
from waportd.config import parse
from waportd.model import Port, User


@pytest.fixture(autouse=True)
def cgroups(tmp_path, monkeypatch):
    """A machine whose systemd can limit memory."""
    monkeypatch.setattr(advice, "CGROUPS", tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    return tmp_path


def told(sections, webhooks=(), **owners):
    config = parse(yaml.safe_dump(sections), "config.yaml")
    found = advise(config, {Port(int(port[1:])): User(user) for port, user in owners.items()}, dict(webhooks))
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
    assert "waportctl move 2" in said


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_webhook_that_is_a_users_own_server(host):
    sections = {"instances": {"webhook_url": f"http://{host}:5002/webhook"}}
    [(key, said)] = told(sections, p5002="2")
    assert key == "instances.webhook_url"
    assert "the server of user 2" in said
    assert told({"instances": {"webhook_url": "http://app.example:5002/webhook"}}, p5002="2") == []


def test_a_users_own_webhook_that_is_a_users_server():
    webhooks = {
        Port(5001): "http://localhost:5003/secret-path",
        Port(5002): "http://ana:secret-word@[::1]:5003/",
        Port(5003): "http://127.0.0.1:5002/",
        Port(5004): "http://app.example:5003/",
        Port(5005): "http://localhost:5999/",
        Port(5006): "http://localhost:99999/",
        Port(5007): "",
    }
    owners = {f"p{port}": str(port - 5000) for port in webhooks}
    first, second = told({"instances": {"webhook_url": "http://localhost:5010/"}}, webhooks, **owners)
    assert first[0] == second[0] == "webhook_url"
    assert "the webhook of user 3 is the server of user 2" in first[1]
    assert "the webhooks of users 1, 2 are the server of user 3" in second[1]
    assert "secret" not in first[1] + second[1]
    # Of all users it is reported once, by the configuration.
    [(key, _)] = told(
        {"instances": {"webhook_url": webhooks[Port(5003)]}},
        [(Port(5003), webhooks[Port(5003)])],
        p5002="2",
        p5003="3",
    )
    assert key == "instances.webhook_url"


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


def test_an_address_that_systemd_does_not_hold_where_it_runs(tmp_path, monkeypatch):
    text = "api: {listen: ['127.0.0.1:8080', '[::1]:8080']}"
    config = parse(text, "config.yaml")
    said = "Listen=127.0.0.1:8080 (Stream)\nActiveState=active\n"
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, said))
    monkeypatch.setattr(advice, "SYSTEMD", tmp_path)
    [only] = advise_held(config)
    assert str(only).startswith("api.listen: nobody is answered on [::1]:8080: systemd does not hold it; ")
    assert advise_held(parse(text + "\nsystemd: {bus: session}", "config.yaml")) == []
    assert advise_held(parse("", "config.yaml")) == []
    # In a chroot, as where a package is installed into an image, nothing can be said.
    monkeypatch.setattr(advice, "SYSTEMD", tmp_path / "none")
    assert advise_held(config) == []
