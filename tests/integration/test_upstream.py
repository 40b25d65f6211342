"""The day WhatsApp changes: what doctor says of its page, and the one alarm for many users."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from harness import LIGHT_SERVER, PATIENCE, ROOT, until

from waportd.config import Config
from waportd.units import restrictions, server_unit

PHONE = "5511999990001"
LEFT = ("waportctl-*", "doctor-*")
"""What a look keeps while it lasts, in the folder for temporary files."""


@pytest.fixture
def doctor(idle_waportd, standin):
    """Run ``doctor --upstream``; return exit status and document."""
    idle_waportd.configure()

    def run(*arguments):
        command = [
            sys.executable,
            "-m",
            "waportd.cli",
            "--socket",
            idle_waportd.socket,
            "doctor",
            "--upstream",
        ]
        done = subprocess.run(
            [*command, "--json", "--config", idle_waportd.config_file, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE,
            check=False,
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    yield run
    standin.tell("break", on=False)
    standin.tell("unreachable", on=False)
    assert [path for pattern in LEFT for path in Path(tempfile.gettempdir()).glob(pattern)] == []


def test_a_look_at_the_page_says_how_bad_it_is(doctor, standin):
    status, document = doctor()
    assert (status, document["verdict"], document["error"]) == (0, "fine", None), document
    assert document["upstream"]["missing"] == []
    assert document["code"]["shown"] is not False
    assert standin.see("pages") == []
    standin.tell("break", module="WAWebAltDeviceLinkingApi", member="startAltLinkingFlow")
    status, document = doctor()
    assert (status, document["verdict"]) == (1, "optional")
    assert {each["feature"] for each in document["upstream"]["missing"]} == {"pairing"}
    standin.tell("break", module="WAWebConnModel", member="Conn.on")
    status, document = doctor()
    assert (status, document["verdict"], document["error"]["cause"]) == (2, "broken", "upstream_changed")
    assert "link" in document["message"]
    standin.tell("unreachable")
    status, document = doctor()
    assert (status, document["verdict"], document["error"]["cause"]) == (
        3,
        "unreached",
        "upstream_unreachable",
    )


def test_a_look_by_a_users_server_knows_the_page_of_a_login_too(doctor, idle_waportd, standin):
    waportd = idle_waportd
    waportd.start()
    standin.tell("scan", qr=waportd.show_code("1"), phone=PHONE, name="Ana")
    waportd.until_session("1", "ready")
    found = until(
        lambda: (said := doctor("--user", "1"))[1]["upstream"]["checked"] == ["boot", "main"] and said,
        "the look after the login",
    )
    status, document = found
    assert (status, document["verdict"], document["user"]) == (0, "fine", "1"), document
    assert document["upstream"] == waportd.user("1")["session"]["upstream"]
    builds = [line for line in waportd.journal("waportd.service").splitlines() if "WhatsApp Web 2." in line]
    assert len(builds) == 1, builds


def test_many_who_fail_in_the_same_way_are_one_alarm(idle_waportd):
    waportd = idle_waportd
    waportd.configure(instances={"script": str(LIGHT_SERVER)})
    waportd.start()
    users = ("1", "2", "3", "4")
    for user in users:
        waportd.show_code(user)
    assert waportd.call("GET", "/v1/health")["alarm"] is None
    pids = [waportd.user(user)["process"]["pid"] for user in users]
    for pid in pids:
        os.kill(pid, signal.SIGUSR1)
    alarm = until(
        lambda: (said := waportd.call("GET", "/v1/health")["alarm"]) and said["users"] == 4 and said,
        "the alarm",
    )
    assert (alarm["cause"], alarm["build"]) == ("upstream_changed", "2.3000.1")
    shown = waportd.user("1")["session"]
    assert (shown["state"], shown["cause"]) == ("error", "upstream_changed")
    assert [each["feature"] for each in shown["upstream"]["missing"]] == ["link"]
    for pid in pids:
        os.kill(pid, signal.SIGUSR1)
    for user in users:
        waportd.show_code(user)
    until(lambda: waportd.call("GET", "/v1/health")["alarm"] is None, "the end of the alarm")
    said = [line for line in waportd.journal("waportd.service").splitlines() if "alarm" in line]
    assert ["is over" in line for line in said] == [False, True], said


def test_systemd_knows_each_restriction_of_a_look():
    """Not whether it can be had: the manager of a user may not set all of them."""
    for line in restrictions(server_unit(Config())):
        command = ["systemd-run", "--user", "--quiet", "--collect", "--wait", "--property", line, "true"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert "assignment" not in done.stderr, done.stderr
        # 217 to 243 are those of a unit that could not be set up (systemd.exec(5)), else the command line is wrong.
        assert done.returncode == 0 or done.returncode > 200, (line, done.stderr)
