"""Another version of whatsapp-web.js, tried on real sessions before all get it, and taken back."""

import json
import re
import subprocess
import sys

import pytest
from harness import PATIENCE, ROOT

PHONE = "5511999990071"
MAKE = "require('./tests/node/support/engine').makeEngine(process.argv[1], process.argv[2])"
STUCK = "\nClient.prototype.inject = () => new Promise(() => {});\n"


@pytest.fixture
def engine(waportd):
    """Run `waportctl engine`; return the result of it."""

    def run(*arguments):
        command = [sys.executable, "-m", "waportd.cli", "--socket", waportd.socket, "engine", *arguments]
        return subprocess.run(
            [*map(str, command), "--config", waportd.config_file],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE,
            check=False,
        )

    return run


@pytest.fixture
def make(waportd):
    """Put an engine in its place: the bundled library under another version, with more at the end of its client."""

    def make(version, more=""):
        folder = waportd.directory / "state/engines"
        subprocess.run(["node", "-e", MAKE, folder, version], cwd=ROOT, check=True, timeout=PATIENCE)
        with (folder / version / "node_modules/whatsapp-web.js/src/Client.js").open("a") as client:
            client.write(more)
        manifest = {"library": version, "integrity": "sha512-x", "source": "file", "installed_at": 1}
        (folder / version / "engine.json").write_text(json.dumps(manifest))
        return version

    return make


@pytest.fixture
def two(waportd, standin):
    """User 1 is linked, user 2 is shown a code."""
    qr = waportd.show_code(1)
    standin.tell("scan", qr=qr, phone=PHONE, name="Ana")
    waportd.until_session(1, "ready")
    waportd.show_code(2)


def runs(waportd, user):
    return waportd.user(user)["session"]["upstream"]["engine"]


def test_it_is_tried_on_some_then_it_is_for_all_and_one_command_goes_back(waportd, engine, make, two):
    make("1.99.0")
    waportd.show_code(3)
    pid = waportd.user(3)["process"]["pid"]
    before = waportd.config_file.read_text()
    said = engine("use", "1.99.0", "--canary", "2", "--watch", "2", "--json")
    assert said.returncode == 0, said.stdout + said.stderr
    outcomes = json.loads(said.stdout)["outcomes"]
    assert [(each["user"], each["goal"], each["reached"]) for each in outcomes] == [
        ("1", "ready", True),
        ("2", "qr", True),
    ]
    after = waportd.config_file.read_text()
    assert [line for line in after.splitlines() if line not in before.splitlines()] == ["  engine: 1.99.0"]
    assert [runs(waportd, user) for user in (1, 2)] == ["1.99.0", "1.99.0"]
    assert waportd.user(1)["session"]["upstream"]["library"] == "1.99.0"
    assert waportd.user(1)["session"]["phone_number"] == PHONE
    # Who was no canary continues, and gets it with the next start.
    assert waportd.user(3)["process"]["pid"] == pid
    assert (waportd.user(3)["engine"], runs(waportd, 3)) == ("1.99.0", "bundled")
    assert not any(waportd.user(user)["own_engine"] for user in (1, 2, 3))
    waportd.show_code(4)
    assert runs(waportd, 4) == "1.99.0"

    said = engine("rollback")
    assert said.returncode == 0, said.stderr
    assert waportd.config_file.read_text() == after.replace("engine: 1.99.0", "engine: bundled")
    assert (waportd.user(1)["engine"], runs(waportd, 1)) == ("bundled", "1.99.0")
    waportd.call("POST", "/v1/users/1/restart")
    waportd.until_session(1, "ready")
    assert runs(waportd, 1) == "bundled"


def test_one_that_does_not_get_as_far_is_taken_back_from_all(waportd, engine, make, two):
    make("1.98.0", STUCK)
    before = waportd.config_file.read_text()
    said = engine("use", "1.98.0", "--canary", "2", "--limit", "10")
    assert said.returncode == 7, said.stdout + said.stderr
    # A busy host takes longer to see that the limit is over.
    waited = re.search(r"^user 1: not connected after (\d+) s: ", said.stdout, re.MULTILINE)
    assert 10 <= int(waited[1]) < 60, said.stdout
    assert "Rolled back: all users have engine bundled, as before." in said.stdout
    assert waportd.config_file.read_text() == before
    shown = waportd.until_session(1, "ready")
    assert shown["session"]["phone_number"] == PHONE
    assert (shown["engine"], shown["own_engine"], runs(waportd, 1)) == ("bundled", False, "bundled")
    assert engine("remove", "1.98.0").returncode == 0


def test_a_reload_with_an_engine_that_is_not_there_changes_nothing(waportd, two):
    waportd.configure(instances={"engine": "1.97.0", "qr_max_retries": 7})
    waportd.reload()
    assert "there is no engine '1.97.0'" in waportd.journal("waportd.service")
    assert waportd.call("GET", "/v1/health")["engine"] == "bundled"
    # When the daemon starts with it, it says so, and the sessions have the way out.
    waportd.restart()
    waportd.call("POST", "/v1/users/2/restart")
    waportd.ask("PUT", "/v1/users/2?wait=qr&timeout=5")
    shown = waportd.until_session(2, "error")
    assert shown["session"]["cause"] == "engine_missing"
    assert (shown["process"]["state"], shown["process"]["restarts"]) == ("running", 0)
    assert waportd.user(1)["session"]["state"] == "ready"
