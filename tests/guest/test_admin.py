"""What an administrator does with systemctl and journalctl, on a machine that the tests share."""

import json
import re
import threading
import time

import pytest
from faults import note_seen
from harness import SOCKET, server, until
from rows import EVERYTHING
from testbed import guests
from testbed.guests import GuestError

RELEASES = guests.RELEASES if EVERYTHING else guests.RELEASES[:1]


def status_line(site, unit):
    text = site.machine.systemctl("status", unit, check=False)
    [line] = re.findall(r"Status: (.*)", text)
    return line


def process(site, user):
    return site.call("GET", f"/v1/users/{user}")["process"]


def is_active(site, unit):
    return site.machine.systemctl("is-active", unit, check=False)


def poll(site, user):
    """Ask as pages that were left open do."""
    site.ask("GET", f"/v1/users/{user}/qr")
    site.ask("GET", f"/api/qr?user_id={user}")


def test_the_status_line_names_the_user_and_says_how_far_the_session_is(site):
    site.show_code("3")
    until(
        lambda: re.search(r"\buser 3\b.*code 1 of 5", status_line(site, "whatsapp@5003")),
        "the status line of a code",
    )
    site.scan(5003, "5511999990003")
    site.until_session("3", "ready")
    until(lambda: "ready" in status_line(site, "whatsapp@5003"), "the status line of a linked session")
    assert "users" in status_line(site, "waportd")


def test_the_journal_has_the_story_by_port_and_user_and_no_secret(site):
    code = site.show_code("4")["qr"]
    pairing = site.call("POST", "/v1/users/4/pairing-code", body={"phone": "+55 11 99999-0004"})["code"]
    site.phone("pair", {"code": pairing, "phone": "5511999990004", "name": "Ana"})
    site.until_session("4", "ready")
    sent = site.machine.curl(
        "webapp",
        "POST",
        "http://localhost:5004/send",
        {"phone": "5511988887777", "message": "see you at nine"},
    )
    assert sent.json["success"], sent.body
    site.phone("message", {"phone": "5511999990004", "from": "5511988887777", "body": "bring the keys"})
    site.call("POST", "/v1/users/4/logout")
    until(lambda: process(site, "4")["state"] == "stopped", "the server's end")

    told = site.machine.journal("WAPORTD_PORT=5004", "_SYSTEMD_UNIT=whatsapp@5004.service", "--output=cat")
    for change in ("generating -> qr", "-> authenticated", "-> ready", "-> logged_out"):
        assert f"user 4: {change}" in told or re.search(rf"user 4: \w+ {re.escape(change)}", told), change
    by_unit = site.machine.journal("--unit=whatsapp@5004", "--output=cat")
    assert "Started" in by_unit
    assert all(line in by_unit for line in told.splitlines())
    of_daemon = [
        json.loads(line)
        for line in site.machine.journal("--unit=waportd", "--output=json", "WAPORTD_USER=4").splitlines()
    ]
    # Who called for what is about a user; all else is about their server.
    calls = [entry for entry in of_daemon if "WAPORTD_ACTION" in entry]
    assert any(entry["WAPORTD_ACTION"] == "POST /v1/users/4/logout" for entry in calls)
    assert {entry["WAPORTD_PORT"] for entry in of_daemon if entry not in calls} == {"5004"}
    assert any("session ready" in entry["MESSAGE"] for entry in of_daemon)

    everything = site.machine.journal("--output=export")  # the browsers' lines and the kernel's, too
    assert "whatsapp@5004" in everything
    secrets = [part for part in code.split(",") if len(part) >= 8]
    assert len(secrets) >= 4
    secrets += [pairing, pairing.replace("-", ""), "see you at nine", "bring the keys"]
    secrets += ["5511999990004", "99999-0004", "5511988887777"]
    assert [secret for secret in secrets if secret in everything] == []


def edit(site, unit, text):
    """Run systemctl edit on a terminal, with an editor that writes `text`."""
    site.machine.run("tee", "/run/editor", given='for file; do :; done\ncat /run/edited >"$file"\n')
    site.machine.run("tee", "/run/edited", given=text)
    command = f"env SYSTEMD_EDITOR='sh /run/editor' systemctl edit {unit}"
    site.machine.run("script", "--quiet", "--return", "--command", command, "/dev/null")


def test_systemctl_edit_changes_one_users_server_and_keeps_its_login(site):
    site.link("5", "5511999990005")
    site.show_code("6")
    edit(site, "whatsapp@5005.service", "[Service]\nNice=7\n")
    site.machine.systemctl("restart", server(5005))
    site.until_session("5", "ready")
    assert site.machine.show(server(5005), "DropInPaths").endswith("/whatsapp@5005.service.d/override.conf")
    statistics = site.machine.run("cat", f"/proc/{site.main_pid(server(5005))}/stat").stdout
    assert statistics.rpartition(")")[2].split()[16] == "7"  # proc_pid_stat(5): nice
    site.call("POST", "/v1/users/5/restart")
    assert site.machine.show(server(5005), "Nice") == "7"
    assert site.machine.show(server(5006), "Nice") == "0"
    site.call("PUT", "/v1/users/5", body={"memory_max": "600M"})
    assert site.machine.show(server(5005), "MemoryMax") == str(600 * 1024**2)
    assert site.machine.show(server(5005), "Nice") == "7"


@pytest.mark.parametrize("way_back", ["PUT", "start"])
def test_a_stopped_socket_stays_stopped_until_somebody_asks_for_a_start(site, way_back):
    user, port = ("7", 5007) if way_back == "PUT" else ("8", 5008)
    site.link(user, f"551199999000{user}")
    site.machine.systemctl("stop", f"whatsapp@{port}.socket")
    until(lambda: process(site, user)["message"] == "stopped (by admin)", "the stop in the picture")
    for _ in range(3):
        poll(site, user)
    site.machine.systemctl("restart", "waportd")
    poll(site, user)
    shown = process(site, user)
    assert (shown["state"], shown["message"]) == ("stopped", "stopped (by admin)")
    for unit in (f"whatsapp@{port}.socket", server(port)):
        assert is_active(site, unit) == "inactive"
    with pytest.raises(GuestError, match=r"exit status 7\b"):  # curl: could not connect
        site.machine.curl("webapp", "GET", f"http://localhost:{port}/health")
    if way_back == "PUT":
        site.call("PUT", f"/v1/users/{user}")
    else:
        site.call("POST", f"/v1/users/{user}/start")
    site.until_session(user, "ready")


def test_a_restart_of_all_servers_refuses_no_request_and_keeps_every_login(site):
    site.link("9", "5511999990009")
    site.show_code("10")
    before = {port: site.main_pid(server(port)) for port in (5009, 5010)}
    outcomes, done = [], threading.Event()

    def call():
        while not done.is_set():
            for port in before:
                try:
                    answer = site.machine.curl("webapp", "GET", f"http://localhost:{port}/health")
                    outcomes.append(answer.status)
                except GuestError as error:
                    outcomes.append(str(error))

    caller = threading.Thread(target=call)
    caller.start()
    try:
        until(lambda: len(outcomes) > 4, "the first answers")
        site.machine.systemctl("restart", "whatsapp@*.service")
        answered = len(outcomes)
        until(lambda: len(outcomes) > answered + 4, "answers after the restart")
    finally:
        done.set()
        caller.join()
    assert set(outcomes) == {200}
    for port, pid in before.items():
        assert site.main_pid(server(port)) not in {0, pid}
    site.until_session("9", "ready")


def test_stopping_the_target_stops_every_server_and_frees_every_port(site):
    site.link("11", "5511999990011")
    site.show_code("12")
    site.machine.systemctl("stop", "whatsapp.target")
    active = site.machine.systemctl("list-units", "--plain", "--no-legend", "--state=active", "whatsapp@*")
    assert active == ""
    for user in ("11", "12"):
        until(
            lambda user=user: process(site, user)["message"] == "stopped (by admin)",
            f"the stop of user {user}",
        )
        poll(site, user)
        assert process(site, user)["message"] == "stopped (by admin)"
    assert "stopped (by admin)" in site.machine.journal("--unit=waportd", "--output=cat", "WAPORTD_USER=11")
    assert site.machine.systemctl("is-system-running") == "running"
    site.call("PUT", "/v1/users/11")
    site.until_session("11", "ready")
    assert process(site, "12")["message"] == "stopped (by admin)"
    note_seen(
        site,
        "systemctl stop whatsapp.target, and pages that poll",
        "all servers stay stopped, all ports free",
    )


def test_what_concerns_all_servers_is_no_decision_about_one_of_them(site):
    site.link("13", "5511999990013")
    site.show_code("14")
    for verbs in (("stop", "start"), ("restart",)):
        before, began = site.main_pid(server(5013)), time.monotonic()
        for verb in verbs:
            site.machine.systemctl(verb, "whatsapp.target")
        until(lambda before=before: site.main_pid(server(5013)) not in {0, before}, "the linked server")
        site.until_session("13", "ready")
        what = f"systemctl {' and '.join(verbs)} whatsapp.target"
        note_seen(site, what, "who should run runs again, who should not does not", began)
        until(lambda: is_active(site, "whatsapp@5014.socket") == "active", "the port of who is not linked")
        assert "by admin" not in process(site, "14")["message"]
    # As an administrator does who comes back from rescue mode.
    before = site.main_pid(server(5013))
    site.machine.systemctl("isolate", "multi-user.target")
    assert site.main_pid(server(5013)) == before
    assert is_active(site, "whatsapp@5014.socket") == "active"


@pytest.fixture
def for_rescue(site):
    """User 17 is linked, user 18 is not; both have their ports."""
    if site.ask("GET", "/v1/users/17").status == 404:
        site.link("17", "5511999990017")
        site.show_code("18")
    return site


def assert_all_are_back(site):
    until(lambda: site.ask("GET", "/v1/users/17").status == 200, "the daemon's return")
    site.until_session("17", "ready")
    until(lambda: is_active(site, "whatsapp@5018.socket") == "active", "the port of who is not linked")
    assert "by admin" not in process(site, "18")["message"]


def test_who_comes_back_from_rescue_mode_finds_every_user_who_should_run(for_rescue):
    site = for_rescue
    back = site.machine.systemctl("get-default").strip()
    site.machine.systemctl("isolate", "rescue.target")
    assert is_active(site, "rescue.target") == "active"
    # It is there before all others are gone. The bus goes too, after the daemon, which so ends in order.
    for unit in ("waportd.service", "whatsapp.target", server(5017), "whatsapp@5018.socket"):
        until(lambda unit=unit: is_active(site, unit) not in {"active", "deactivating"}, f"the end of {unit}")
        assert is_active(site, unit) == "inactive"
    began = time.monotonic()
    site.machine.systemctl("isolate", back)
    assert_all_are_back(site)
    note_seen(site, "rescue mode and back", "who should run runs again", began)


def test_who_comes_back_from_rescue_mode_while_servers_stop_finds_them_too(for_rescue):
    """What all servers stop with is stopped last: it runs on, and they do not."""
    site, go_on = for_rescue, "/run/go-on"
    site.until_session("17", "ready")
    folder = f"/run/systemd/system/{server(5017)}.d"
    site.machine.run("mkdir", "--parents", folder)
    slow = f"[Service]\nTimeoutStopSec=90\nExecStop=/bin/sh -c 'until test -e {go_on}; do sleep 0.1; done'\n"
    site.machine.run("tee", f"{folder}/slow.conf", given=slow)
    site.machine.systemctl("daemon-reload")
    back, began = site.machine.systemctl("get-default").strip(), time.monotonic()
    since = site.machine.show("whatsapp.target", "ActiveEnterTimestampMonotonic")
    site.machine.systemctl("isolate", "rescue.target")
    assert is_active(site, server(5017)) == "deactivating"
    site.machine.systemctl("isolate", "--no-block", back)
    site.machine.run("touch", go_on)
    until(lambda: site.machine.systemctl("list-jobs", "--no-legend") in {"", "No jobs running."}, "all jobs")
    assert site.machine.show("whatsapp.target", "ActiveEnterTimestampMonotonic") == since
    assert_all_are_back(site)
    site.machine.run("rm", "--recursive", folder)
    site.machine.systemctl("daemon-reload")
    note_seen(site, "rescue mode, and back while servers stop", "who should run runs again", began)


POLLER = """
import http.client, itertools, socket, sys, time

class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])

for number in itertools.count():
    at = time.monotonic() + 0.02
    connection = Unix("localhost", timeout=60) if number % 5 else http.client.HTTPConnection("localhost", 5016, timeout=5)
    try:
        connection.request("GET", ("/v1/users/16/qr", "/api/qr?user_id=16")[number % 2] if number % 5 else "/health")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        pass
    connection.close()
    time.sleep(max(0, at - time.monotonic()))
"""


def test_a_stop_holds_against_who_polls_all_the_time(site):
    """Fifty times a second: by the API, and on the port itself."""
    site.use_light_servers()
    site.call("PUT", "/v1/users/16", 201)
    with site.machine.start("/usr/bin/python3", "-c", POLLER, SOCKET, user="webapp") as poller:
        try:
            times = 100 if EVERYTHING else 8
            for number in range(times):
                site.machine.systemctl("stop", "whatsapp@5016.socket")
                for _ in range(5):
                    states = {is_active(site, unit) for unit in ("whatsapp@5016.socket", server(5016))}
                    assert states <= {"inactive"}, f"stop number {number + 1} did not hold"
                assert site.call("POST", "/v1/users/16/start")["process"]["state"] == "running"
            what = "systemctl stop of a socket, while pages and callers poll 50 times a second"
            note_seen(site, what, f"{times} of {times} stops hold")
        finally:
            poller.kill()
