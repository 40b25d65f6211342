"""Logins that are backed up while they run, and come back without a scan: `waportctl backup` and `restore`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness import PATIENCE, ROOT, SESSIONS, until

from waportd.store import read_assignments

PHONE, OTHER = "5511999990031", "5511999990032"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A secret key of age, and its public one."""
    secret = tmp_path_factory.mktemp("keys") / "backup.key"
    subprocess.run(["age-keygen", "--output", secret], check=True, capture_output=True)
    public = subprocess.run(["age-keygen", "-y", secret], check=True, capture_output=True, text=True)
    return secret, public.stdout.strip()


@pytest.fixture
def ctl(waportd):
    """Run waportctl; return the result of it."""

    def run(command, *arguments, **options):
        words = [command, "--config", waportd.config_file, *arguments]
        return subprocess.run(
            [sys.executable, "-m", "waportd.cli", "--socket", waportd.socket, *map(str, words)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=4 * PATIENCE,
            check=False,
            **options,
        )

    return run


def link(waportd, standin, user, phone):
    assert waportd.ask("PUT", f"/v1/users/{user}?wait=qr").status in {200, 201}
    standin.tell("scan", qr=waportd.call("GET", f"/v1/users/{user}/qr")["qr"], phone=phone, name="Ana")
    return waportd.until_session(user, "ready")


def messages_of(waportd, user):
    return json.dumps(waportd.call("GET", f"/v1/users/{user}/messages"))


def assert_is_back(shown, port):
    assert (shown["port"], shown["linked"], shown["session"]["state"]) == (port, True, "ready")
    assert (shown["session"]["phone_number"], shown["session"]["attempt"]) == (PHONE, 0)


def test_a_deleted_user_comes_back_without_a_scan_with_options_and_messages(
    waportd, standin, ctl, keys, tmp_path
):
    secret, public = keys
    file = tmp_path / "backups/waportd.age"
    waportd.call("PUT", "/v1/users/7?wait=none", 201, {"webhook_secret": SECRET, "send_rate": 17})
    link(waportd, standin, "7", PHONE)
    port = waportd.user("7")["port"]
    standin.tell("message", phone=PHONE, **{"from": "5511977770001"}, body="before the backup")
    until(lambda: "before the backup" in messages_of(waportd, "7"), "the message")
    link(waportd, standin, "8", OTHER)
    done = ctl("backup", "7", "8", file, "--recipient", public, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 users backed up" in done.stdout
    assert file.stat().st_mode & 0o077 == 0
    assert [path.name for path in file.parent.iterdir()] == ["waportd.age"]
    assert b"indexeddb" not in file.read_bytes()
    assert waportd.user("7")["session"]["state"] == "ready", "it goes on meanwhile"

    listed = ctl("restore", file, "--list", "--identity", secret, "--json", text=True)
    assert [user["user"] for user in json.loads(listed.stdout)["users"]] == ["7", "8"]
    refused = ctl("restore", file, "7", "--identity", secret, text=True)
    assert refused.returncode == 1
    assert f"user 7 has a session on port {port} already" in refused.stderr

    waportd.call("DELETE", "/v1/users/7", 204)
    restored = ctl("restore", file, "7", "--identity", secret, text=True)
    assert restored.returncode == 0, restored.stderr
    assert f"user 7: restored on port {port}, ready" in restored.stdout
    shown = waportd.user("7")
    assert_is_back(shown, port)
    assert shown["send_rate"] == 17
    assert "before the backup" in messages_of(waportd, "7")
    [kept] = [each for each in read_assignments(waportd.directory / "state/waportd.db") if each.user == "7"]
    assert kept.webhook_secret == (SECRET,)
    assert waportd.user("8")["session"]["state"] == "ready", "others notice nothing"


def test_a_torn_backup_brings_nothing_back(waportd, standin, ctl, keys, tmp_path):
    secret, public = keys
    file = tmp_path / "waportd.age"
    link(waportd, standin, "9", PHONE)
    assert ctl("backup", "9", file, "--recipient", public).returncode == 0
    waportd.call("DELETE", "/v1/users/9", 204)
    whole = file.read_bytes()
    for torn in (whole[:-100], whole[: len(whole) // 2], whole[:-40] + bytes(40)):
        file.write_bytes(torn)
        refused = ctl("restore", file, "9", "--identity", secret, text=True)
        assert refused.returncode == 1, refused.stdout
        assert "cannot be decrypted" in refused.stderr
    assert waportd.ask("GET", "/v1/users/9").status == 404
    assert not [path for folder in SESSIONS for path in folder.glob(".import-*")]


def test_another_hosts_login_is_not_run_twice(waportd, standin, ctl, tmp_path):
    """Of an archive that nobody encrypted, the test is another host."""
    file = tmp_path / "waportd.tar"
    link(waportd, standin, "10", PHONE)
    done = ctl("backup", "10", "-", "--unencrypted")
    assert done.returncode == 0, done.stderr
    machine = _member(done.stdout, "waportd-backup.json")["machine"]
    file.write_bytes(done.stdout.replace(machine.encode(), b"0" * len(machine)))
    waportd.call("DELETE", "/v1/users/10", 204)
    refused = ctl("restore", file, "10", text=True)
    assert refused.returncode == 1
    assert "which may still run these logins" in refused.stderr
    assert "--old-host-is-gone" in refused.stderr
    restored = ctl("restore", file, "--all", "--old-host-is-gone", text=True)
    assert restored.returncode == 0, restored.stderr
    assert waportd.user("10")["session"]["state"] == "ready"


def test_who_moves_is_stopped_for_it_and_the_backup_says_so(waportd, standin, ctl, tmp_path):
    link(waportd, standin, "11", PHONE)
    done = ctl("backup", "11", f"{tmp_path}/", "--unencrypted", "--final", "--json", text=True)
    assert done.returncode == 0, done.stderr
    [user] = json.loads(done.stdout)["users"]
    assert user["bytes"] > 0
    shown = waportd.user("11")
    assert (shown["desired"], shown["process"]["state"]) == ("stopped", "stopped")
    file = tmp_path / "11.waportd.age"
    listed = ctl("restore", file, "--list", text=True)
    assert "whose servers were stopped for it" in listed.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["backup", "/tmp/x"], "name users, or --all"),
        (["backup", "1", "/tmp/x"], "no recipient was given who can read the backup"),
        (["restore", "/tmp/x"], "name users, or --all"),
        (["restore", "/nonexistent", "--all"], "/nonexistent cannot be read"),
        (["restore", "/etc/passwd", "--all"], "is not a backup of waportd"),
    ],
)
def test_what_is_missing_is_named(ctl, arguments, words):
    assert not Path("/etc/waportd/backup.recipients").exists(), "this machine has recipients of its own"
    said = ctl(*arguments, text=True)
    assert said.returncode in {1, 2}
    assert words in said.stderr


def _member(archive, name):
    start = archive.index(b"{", archive.index(name.encode()))
    return json.JSONDecoder().raw_decode(archive[start:].decode(errors="replace"))[0]
