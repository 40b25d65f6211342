"""The attackers of tests/hostile, on the daemon as it is installed, with the modules of the newest release."""

import json

import pytest
from harness import ROOT, SOCKET

RELEASES = ("trixie",)
ATTACKERS = (ROOT / "tests/hostile/attackers.py").read_text()
PORT = 8097


@pytest.fixture(scope="module")
def outcomes(site):
    """The result of each attack, as the machine reports it."""
    machine = site.machine
    site.use_light_servers()
    machine.run("useradd", "--system", "--groups", "waportd", "colleague")
    # Root calls, the web app, and not who is in the group only.
    site.configure(api={"allow_users": ["webapp"], "listen": [f"127.0.0.1:{PORT}"]})
    site.hold_addresses()
    for user in ("1", "2"):
        site.show_code(user)
    ids = [machine.run("id", *which).stdout for which in (("-u", "colleague"), ("-G", "colleague"))]
    target = {
        "pid": site.main_pid("waportd"),
        "socket": SOCKET,
        "port": PORT,
        "admin": site.call("POST", "/v1/tokens", 201, {"name": "x", "scope": "admin"})["token"],
        "token": site.call("POST", "/v1/tokens", 201, {"name": "y", "scope": "user:2"})["token"],
        "link": site.call("POST", "/v1/users/2/connect-link", 201)["path"].partition("user=2&")[2],
        "stranger": (int(ids[0]), [int(one) for one in ids[1].split()]),
    }
    told = json.loads(machine.run("python3", "-c", ATTACKERS, json.dumps(target)).stdout)
    assert site.main_pid("waportd") == target["pid"], "the daemon ended"
    return told


def test_others_hardly_notice_what_one_caller_does(outcomes):
    assert len(outcomes) >= 8
    assert {name: said["tries"] for name, said in outcomes.items() if not said["withstood"]} == {}


def test_what_they_do_leaves_few_lines_in_the_journal(site, outcomes):
    assert outcomes
    lines = site.machine.journal("--unit=waportd.service", "--output=cat").splitlines()
    # What the others have changed meanwhile has its line each.
    lines = [line for line in lines if "PUT /v1/users/1 by" not in line]
    assert len(lines) < 300, lines[-20:]
