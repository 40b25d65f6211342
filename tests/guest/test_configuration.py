"""A configuration that cannot be used, or may not be meant, is reported where an administrator looks."""

import contextlib
import json
import threading

import pytest
import yaml
from harness import CONFIG, server, until
from rows import EVERYTHING
from testbed import guests
from testbed.guests import GuestError

RELEASES = guests.RELEASES if EVERYTHING else guests.RELEASES[:1]


@pytest.fixture(scope="module")
def running(site):
    """A machine with a server that must not notice any of it."""
    site.use_light_servers()
    site.call("PUT", "/v1/users/1", 201)
    return site


@pytest.fixture
def good(running):
    """The text of a configuration that works, which is there again afterwards."""
    text = running.machine.run("cat", CONFIG).stdout
    pid = running.main_pid(server(5001))
    yield text
    running.machine.run("tee", CONFIG, given=text)
    running.machine.run("chown", "root:waportd", CONFIG)
    running.machine.run("chmod", "640", CONFIG)
    running.machine.systemctl("restart", "waportd")
    until(lambda: running.ask("GET", "/v1/health").status == 200, "the daemon's return")
    assert running.main_pid(server(5001)) == pid


FAULT = "ports:\n  bse: 5001\n"


def ctl(site, *arguments):
    return site.machine.run("waportctl", *arguments, check=False)


def is_failed(site):
    return site.machine.systemctl("is-failed", "waportd.service", check=False) == "failed"


def test_a_restart_with_faults_ends_failed_at_once_and_does_not_loop(running, good):
    # Starts after which systemd closes the socket: as shipped, each of 30 of them would take a second.
    assert running.machine.show("waportd.socket", "TriggerLimitBurst") == "30"
    limit = "/run/systemd/system/waportd.socket.d/limit.conf"
    running.machine.run("mkdir", "--parents", limit.rpartition("/")[0])
    running.machine.run("tee", limit, given="[Socket]\nTriggerLimitBurst=5\n")
    running.machine.systemctl("daemon-reload")
    running.machine.run("tee", CONFIG, given=FAULT)
    assert running.machine.run("systemctl", "restart", "waportd", check=False).returncode
    assert is_failed(running)
    assert running.machine.show("waportd.service", "ExecMainStatus") == "78"
    assert "waportd.service" in running.machine.systemctl("--failed", "--plain", "--no-legend")
    done = threading.Event()

    def call():
        while not done.is_set():
            # Nobody answers.
            with contextlib.suppress(GuestError):
                running.ask("GET", "/v1/users")

    caller = threading.Thread(target=call)
    caller.start()
    try:
        # Who calls starts it again, and is refused when that has happened for too often.
        until(
            lambda: running.machine.systemctl("is-active", "waportd.socket", check=False) == "failed",
            "the end of the calls' starts",
            patience=120,
        )
    finally:
        done.set()
        caller.join()
    until(lambda: is_failed(running), "the failure")
    starts = running.machine.journal("--unit=waportd.service", "--output=cat").count("ports.bse")
    running.machine.run("sleep", "5")
    assert running.machine.journal("--unit=waportd.service", "--output=cat").count("ports.bse") == starts
    found = json.loads(ctl(running, "doctor", "--offline", "--json").stdout)["findings"]
    failed = {finding["check"]: finding for finding in found if finding["verdict"] == "fail"}
    assert "did you mean base?" in failed["configuration"]["message"]
    # Once it is fixed, one restart brings all of it back.
    running.machine.run("tee", CONFIG, given=good)
    running.machine.systemctl("restart", "waportd")
    assert running.ask("GET", "/v1/users/1").status == 200
    running.machine.run("rm", limit)
    running.machine.systemctl("daemon-reload")


def test_a_reload_with_faults_fails_and_changes_nothing(running, good):
    running.machine.run("tee", CONFIG, given=FAULT)
    answer = running.machine.run("systemctl", "reload", "waportd", check=False)
    assert answer.returncode
    assert running.machine.systemctl("is-active", "waportd") == "active"
    assert running.ask("GET", "/v1/users/1").status == 200
    assert "did you mean base?" in running.machine.journal("--unit=waportd.service", "--lines=20")
    running.machine.run("tee", CONFIG, given=good)
    running.machine.systemctl("reload", "waportd")


UNREADABLE = pytest.mark.parametrize(
    "damage", ["chown root:root {0}; chmod 600 {0}", "rm {0}"], ids=["unreadable", "missing"]
)


@UNREADABLE
def test_a_restart_without_a_file_that_can_be_read_ends_failed_at_once(running, good, damage):
    running.machine.run("sh", "-c", damage.format(CONFIG))
    before = running.machine.show("waportd.service", "NRestarts")
    assert running.machine.run("systemctl", "restart", "waportd", check=False).returncode
    assert is_failed(running)
    assert running.machine.show("waportd.service", "ExecMainStatus") == "78"
    assert running.machine.show("waportd.service", "NRestarts") in {before, "0"}
    said = running.machine.journal("--unit=waportd.service", "--lines=20", "--output=cat")
    assert CONFIG in said
    running.machine.run("tee", CONFIG, given=good)
    running.machine.run("sh", "-c", f"chown root:waportd {CONFIG}; chmod 640 {CONFIG}")
    running.machine.systemctl("restart", "waportd.service")
    until(lambda: running.ask("GET", "/v1/health").status == 200, "the daemon's return")


@UNREADABLE
def test_a_file_that_the_daemon_cannot_read_is_found_by_root_too(running, good, damage):
    running.machine.run("sh", "-c", damage.format(CONFIG))
    checked = running.machine.run("waportd", "--config", CONFIG, "--check-config", check=False)
    assert checked.returncode == 78
    assert running.machine.run("systemctl", "reload", "waportd", check=False).returncode
    found = json.loads(ctl(running, "doctor", "--offline", "--json").stdout)["findings"]
    [finding] = [finding for finding in found if finding["check"] == "configuration"]
    assert finding["verdict"] == "fail"
    if "chown" in damage:
        assert "user waportd" in checked.stderr
        assert ctl(running, "config", "check").returncode == 1
        # What it says fixes it.
        running.machine.run("sh", "-c", finding["fix"])
        running.machine.systemctl("reload", "waportd")


def test_what_may_not_be_meant_is_a_warning_in_all_four_places(running, good):
    running.call("PUT", "/v1/users/2?wait=none", 201, {"webhook_url": "http://localhost:5001/secret-path"})
    wrong = {
        "api": {"allow_users": ["root", "webapp", "nosuch"]},
        "ports": {"reserved": [5001]},
        "limits": {"memory_max": "1G"},
    }
    known = yaml.safe_load(good)
    known["instances"]["webhook_url"] = "http://localhost:5002/webhook"
    running.machine.run("tee", CONFIG, given=yaml.safe_dump(known | wrong))
    told = [
        "no account nosuch",
        "user 1 has port 5001 already",
        "this is the server of user 2",
        "the webhook of user 2 is the server of user 1",
    ]
    keys = {"api.allow_users", "ports.reserved", "instances.webhook_url", "webhook_url"}
    if "memory" not in running.machine.run("cat", "/sys/fs/cgroup/cgroup.controllers").stdout.split():
        told.append("no limit holds here")
        keys.add("limits.memory_max")
    checked = running.machine.run("waportd", "--check-config")
    assert all(part in checked.stderr for part in told)
    warnings = json.loads(ctl(running, "config", "check", "--json").stdout)["warnings"]
    assert {warning["key"] for warning in warnings} == keys
    assert "secret-path" not in checked.stderr + json.dumps(warnings)
    running.machine.systemctl("reload", "waportd")
    until(
        lambda: all(part in running.machine.journal("--unit=waportd.service", "--lines=40") for part in told),
        "the warnings of the reload",
    )
    found = json.loads(ctl(running, "doctor", "--offline", "--json").stdout)["findings"]
    warned = " ".join(finding["message"] for finding in found if finding["verdict"] == "warn")
    assert all(part in warned for part in told)
    running.call("DELETE", "/v1/users/2", 204)
