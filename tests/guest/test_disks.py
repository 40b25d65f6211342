"""What happens to the disks and folders that a session lives on: it says so, recovers, and nobody else notices."""

import pytest
from disks import fill, make_room, small_disk
from faults import PHONE, PORT, SERVICE, USER, lived_through
from harness import server, until
from rows import EVERYTHING
from testbed import guests

pytestmark = pytest.mark.thorough
RELEASES = guests.RELEASES if EVERYTHING else guests.RELEASES[-1:]
SESSION = f"/var/lib/private/whatsapp/{PORT}"
CACHE = f"/var/cache/private/whatsapp/{PORT}"
AUTH = f"{SESSION}/.wwebjs_auth_{PORT}"
PROFILE = f"{AUTH}/session-waportd_{PORT}"
START, STOP = (
    f"curl -sf --unix-socket /run/waportd/api.sock -X POST http://l/v1/users/{USER}/{verb}"
    for verb in ("start", "stop")
)
A_NEW_SCAN = "the session, by the fault; its user scanned a code again"


def session(site):
    return site.call("GET", f"/v1/users/{USER}")["session"]


def scan_again(site):
    """Do what the user does who is shown a code."""
    site.show_code(USER)
    site.scan(PORT, PHONE)
    site.until_session(USER, "ready")


def test_a_session_whose_disk_is_full_runs_on_and_a_new_start_says_why_it_waits(linked):
    with small_disk(linked, SESSION, "96m", STOP, START):
        linked.until_session(USER, "ready")
        before = linked.main_pid(SERVICE)
        with lived_through(linked, "the disk of a session is full") as lived:
            fill(linked, SESSION)
            linked.phone("message", {"phone": PHONE, "from": "5511999990009", "body": "hello"})
            assert session(linked)["state"] == "ready"
            make_room(linked, SESSION)
        assert lived.failed("API") == lived.failed("port") == []
        assert linked.main_pid(SERVICE) == before
        with lived_through(
            linked, "the disk of a session is full, and its server is restarted; the administrator makes room"
        ) as lived:
            fill(linked, SESSION)
            linked.call("POST", f"/v1/users/{USER}/restart")
            said = linked.until_session(USER, "error")
            assert said["linked"]
            assert said["session"]["cause"] == "disk_full"
            assert SESSION.rpartition("/")[2] in said["session"]["message"]
            assert "free some space" in said["session"]["hint"]
            page = linked.call("GET", f"/api/qr?user_id={USER}")
            assert (page["status"], page["cause"]) == ("error", "disk_full")
            make_room(linked, SESSION)
            linked.call("POST", f"/v1/users/{USER}/start")
        assert lived.failed("API") == lived.failed("port") == []


def test_a_session_whose_cache_is_full_comes_back_without_it(linked):
    with small_disk(linked, CACHE, "32m", STOP, START):
        linked.until_session(USER, "ready")
        with lived_through(
            linked, "the disk of a session's cache is full, and its server is restarted"
        ) as lived:
            fill(linked, CACHE)
            linked.call("POST", f"/v1/users/{USER}/restart")
            linked.until_session(USER, "ready")
        assert lived.failed("API") == lived.failed("port") == []
        make_room(linked, CACHE)


def test_with_run_full_what_runs_runs_on_and_what_cannot_start_says_why(linked):
    before = linked.main_pid(SERVICE)
    with lived_through(linked, "/run is full; the administrator makes room") as lived:
        linked.machine.run(
            "sh", "-c", "mount -o remount,size=$(( $(df --output=used -k /run | tail -n 1) + 1024 ))k /run"
        )
        fill(linked, "/run")
        try:
            daemon = linked.main_pid("waportd.service")
            linked.machine.systemctl("restart", "waportd.service")
            assert linked.main_pid("waportd.service") not in {0, daemon}
            linked.call("POST", "/v1/users/2/restart")
            # systemd has no place to note who a user id belongs to.
            refused = linked.ask("PUT", "/v1/users/new")
            assert (refused.status, refused.json["cause"]) == (502, "unit_user")
            assert "df /run" in refused.json["hint"]
        finally:
            make_room(linked, "/run")
        linked.call("PUT", "/v1/users/new")
        linked.call("DELETE", "/v1/users/new", 204)
    assert lived.failed("API") == lived.failed("port") == []
    assert linked.main_pid(SERVICE) == before


def test_with_a_full_journal_everything_continues_but_the_writing_of_it(linked):
    journal = "/var/log/journal"
    let_go = "systemctl stop systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service"
    take_up = "systemctl start systemd-journald.service; journalctl --flush"
    with small_disk(linked, journal, "64m", let_go, take_up):
        with lived_through(
            linked, "the journal's disk is full, and a server and the daemon are restarted"
        ) as lived:
            fill(linked, journal)
            linked.call("POST", f"/v1/users/{USER}/restart")
            linked.machine.systemctl("restart", "waportd.service")
            answer = linked.ask("GET", f"/v1/users/{USER}/logs")
            assert answer.status in {200, 503}
            make_room(linked, journal)
        assert lived.failed("API") == lived.failed("port") == []


def garble(site, folder):
    """Overwrite all files below a folder of a stopped session, and start it."""
    site.call("POST", f"/v1/users/{USER}/stop")
    site.machine.run(
        "sh",
        "-c",
        f"find {folder} -type f | while read -r file; do "
        'size=$(stat --format=%s "$file"); head -c $((size + 100)) /dev/urandom > "$file"; done',
    )
    site.call("POST", f"/v1/users/{USER}/start")


def test_a_garbled_profile_is_replaced_by_the_last_copy(linked):
    with lived_through(linked, "a session's profile is overwritten with random bytes"):
        garble(linked, PROFILE)
        said = linked.until_session(USER, "ready")
        assert said["linked"]
    until(lambda: (linked.call("GET", f"/v1/users/{USER}")["storage"] or {}).get("restored_at"), "its report")


def test_a_session_that_is_garbled_with_all_copies_asks_for_a_new_scan(linked):
    what = "a session's profile, its copies, and what is known of it are overwritten with random bytes"
    with lived_through(linked, what) as lived:
        garble(linked, AUTH)
        scan_again(linked)
        lived.lost = A_NEW_SCAN
    assert lived.failed("API") == []


def test_a_session_that_belongs_to_another_user_is_given_back_or_says_so(linked):
    with lived_through(linked, "a session's folder is of another owner; then the server is started") as lived:
        linked.call("POST", f"/v1/users/{USER}/stop")
        linked.machine.run("chown", "-R", "root:root", SESSION)
        linked.call("POST", f"/v1/users/{USER}/start")
        linked.until_session(USER, "ready")
    assert lived.failed("API") == []
    with lived_through(
        linked, "part of a session's folder is of another owner; the administrator gives it back"
    ) as lived:
        linked.call("POST", f"/v1/users/{USER}/stop")
        linked.machine.run("chown", "-R", "root:root", AUTH)
        linked.call("POST", f"/v1/users/{USER}/start")
        said = linked.until_session(USER, "error")
        assert said["session"]["cause"] == "profile_error"
        assert "belongs to the user" in said["session"]["hint"]
        # It may be there, so nobody forgets that it was.
        assert said["linked"]
        linked.machine.run("chown", "-R", f"--reference={SESSION}", AUTH)
        linked.call("POST", f"/v1/users/{USER}/start")
    assert lived.failed("API") == []


def test_a_session_that_is_deleted_behind_its_back_asks_for_a_new_scan(linked):
    with lived_through(
        linked, "a session's folder is deleted while it runs; then its server is killed"
    ) as lived:
        linked.machine.run("rm", "-r", SESSION)
        linked.machine.systemctl("kill", "--signal=KILL", SERVICE)
        until(lambda: not linked.call("GET", f"/v1/users/{USER}")["linked"], "the loss to be noticed")
        scan_again(linked)
        lived.lost = A_NEW_SCAN
    assert lived.failed("API") == []
    with lived_through(
        linked,
        "the folder of a session without a phone is deleted while it runs; then a pairing code is asked for",
    ) as lived:
        before = linked.main_pid(server(5002))
        linked.machine.run("rm", "-r", SESSION.replace(str(PORT), "5002"))
        # It needs another browser, and that a folder; who asks while the server restarts learns that.
        refused = linked.ask("POST", "/v1/users/2/pairing-code", {"phone": "5511999990002"})
        assert refused.status in {502, 503}
        assert refused.json["hint"]
        until(lambda: linked.main_pid(server(5002)) not in {0, before}, "the restart")
        linked.show_code("2")
    assert lived.failed("API") == lived.failed("port") == []
