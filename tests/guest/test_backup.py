"""Logins of an installed machine are copied, backed up and brought back, each with the rights that it has there."""

import json
import time

import pytest
from faults import PHONE, note_seen
from harness import STATE, server, until
from rows import EVERYTHING
from testbed import guests

RELEASES = guests.RELEASES if EVERYTHING else guests.RELEASES[1:]
PORT = 5001
FILE = "/var/backups/waportd.age"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def linked(site):
    """User 1 is linked by a browser, with a secret of their own; root has a key of age."""
    site.call("PUT", "/v1/users/1?wait=none", 201, {"webhook_secret": SECRET})
    site.link("1", PHONE)
    site.machine.run("age-keygen", "--output", "/root/backup.key")
    public = site.machine.run("age-keygen", "-y", "/root/backup.key").stdout
    site.machine.run("tee", "/etc/waportd/backup.recipients", given=public)
    return site


def snapshots(site):
    return f"{STATE}/{PORT}/.wwebjs_auth_{PORT}/snapshots"


def waportctl(site, *arguments):
    return site.machine.run("waportctl", *arguments, check=False)


def assert_is_ready(site):
    shown = site.until_session("1", "ready")
    assert (shown["port"], shown["session"]["phone_number"], shown["session"]["attempt"]) == (PORT, PHONE, 0)
    return shown


def test_a_snapshot_is_made_for_any_caller_that_is_allowed_and_belongs_to_the_session(linked):
    answer = linked.machine.curl("root", "POST", f"http://localhost:{PORT}/snapshot", {})
    assert answer.status == 200, answer.body
    newest = linked.machine.run("ls", snapshots(linked)).stdout.split()[0]
    found = linked.machine.run("stat", "--format=%u %a", f"{snapshots(linked)}/{newest}").stdout.split()
    assert found == [f"{linked.uid(PORT)}", "700"]
    told = until(lambda: linked.call("GET", "/v1/users/1")["storage"], "what is on the disk")
    until(lambda: linked.call("GET", "/v1/users/1")["storage"]["snapshot_at"], "the time of the snapshot")
    assert told["login"] > 0
    said = waportctl(linked, "doctor", "--offline", "--json")
    findings = {each["message"] for each in json.loads(said.stdout)["findings"]}
    assert any("user 1: the snapshot is complete" in each for each in findings), findings


def test_a_deleted_user_is_back_without_a_scan(linked):
    done = waportctl(linked, "backup", "--all", FILE)
    assert done.returncode == 0, done.stderr
    assert linked.machine.run("stat", "--format=%U %a", FILE).stdout.split() == ["root", "600"]
    assert linked.call("GET", "/v1/users/1")["session"]["state"] == "ready"
    linked.call("DELETE", "/v1/users/1", 204)
    until(lambda: linked.ask("GET", "/v1/users/1").status == 404, "the end of the user")
    done = waportctl(linked, "restore", FILE, "--all", "--identity", "/root/backup.key")
    assert done.returncode == 0, done.stderr
    assert f"user 1: restored on port {PORT}, ready" in done.stdout
    shown = assert_is_ready(linked)
    assert shown["own_webhook_secret"]
    assert (
        linked.machine.run("stat", "--format=%u", f"{STATE}/{PORT}").stdout.strip() == f"{linked.uid(PORT)}"
    )
    assert linked.machine.run("ls", "--almost-all", STATE).stdout.split() == [f"{PORT}"]
    assert linked.machine.run("ls", "/var/tmp").stdout.count("waportctl") == 0


def test_a_damaged_login_is_replaced_by_its_snapshot(linked):
    assert linked.ask("POST", "/v1/users/1/stop").status == 200
    login = f"{STATE}/{PORT}/.wwebjs_auth_{PORT}/session-waportd_{PORT}/Default/IndexedDB"
    harm = f"find {login} -type f -size +0 -exec sh -c 'truncate -s 0 \"$1\"' sh {{}} ';'"
    linked.machine.run("sh", "-ec", harm)
    began = time.monotonic()
    assert linked.ask("POST", "/v1/users/1/start?wait=none").status == 200
    assert_is_ready(linked)
    seen = "a start finds no login; the newest snapshot takes its place, and nobody scans"
    note_seen(linked, "the databases of a login are cut off", seen, began)
    restored = until(lambda: linked.call("GET", "/v1/users/1")["storage"]["restored_at"], "that it is told")
    assert restored
    log = linked.machine.journal(f"--unit={server(PORT)}", "--output=cat")
    assert "the login was damaged; a snapshot takes its place" in log


@pytest.mark.parametrize("who", ["webapp", "stranger"])
def test_only_root_backs_up(linked, who):
    said = linked.machine.run("waportctl", "backup", "1", "/tmp/x", user=who, check=False)
    assert said.returncode in {3, 4}
    assert linked.machine.run("ls", "/tmp/x", check=False).returncode != 0
