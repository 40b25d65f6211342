"""A linked user of an installed machine gets another port: no scan, and the administrator's settings are kept."""

import json
import re
import time

import pytest
from faults import PHONE, note_seen
from harness import STATE, server, until
from rows import EVERYTHING
from test_service import DENIED, MANAGER, TRANSIENT
from testbed import guests

RELEASES = guests.RELEASES if EVERYTHING else guests.RELEASES[:1]
SOURCE, TARGET = 5001, 5009
PLACES = {
    "/etc/systemd/system": "Environment=OWN=kept",
    "/etc/systemd/system.control": "CPUWeight=50",
    "/run/systemd/system": "Nice=3",
}
"""Where settings may be, of which one is there in each."""


def folder(place, port):
    return f"{place}/whatsapp@{port}.service.d"


@pytest.fixture(scope="module")
def linked(site):
    """User 1 is linked by a browser, and has settings of three kinds."""
    site.link("1", PHONE)
    for place in PLACES:
        set_own(site, place, SOURCE)
    site.machine.systemctl("daemon-reload")
    return site


def set_own(site, place, port):
    """Make a drop-in. Of two with one name, systemd would read one."""
    setting = PLACES[place]
    site.machine.run("mkdir", "--parents", folder(place, port))
    file = f"{folder(place, port)}/{setting.partition('=')[0]}.conf"
    site.machine.run("tee", file, given=f"[Service]\n{setting}\n")


def listed(site, path):
    return set(site.machine.run("ls", "--almost-all", path, check=False).stdout.split())


def shown(site, port):
    return [site.machine.show(server(port), name) for name in ("Environment", "CPUWeight", "Nice")]


def assert_is_on(site, port):
    """The user is ready there without a scan, with all settings; the other port has nothing."""
    assert site.until_session("1", "ready")["port"] == port
    other = SOURCE if port == TARGET else TARGET
    assert listed(site, STATE) == {f"{port}"}
    assert listed(site, "/var/cache/private/whatsapp") == {f"{port}"}
    assert listed(site, "/var/lib/whatsapp") == {f"{port}"}
    assert {f".wwebjs_auth_{port}"} <= listed(site, f"{STATE}/{port}")
    for place in PLACES:
        assert f"whatsapp@{port}.service.d" in listed(site, place)
        assert f"whatsapp@{other}.service.d" not in listed(site, place)
    environment, weight, nice = shown(site, port)
    assert "OWN=kept" in environment
    assert (weight, nice) == ("50", "3")
    uid = site.uid(port)
    assert site.machine.run("stat", "--format=%u", f"{STATE}/{port}").stdout.strip() == f"{uid}"
    assert site.machine.systemctl("--failed", "--plain", "--no-legend").strip() == ""


def test_a_linked_session_moves_without_a_scan_and_with_its_settings(linked):
    site, began = linked, time.monotonic()
    said = site.machine.run("waportctl", "move", "1", "--port", f"{TARGET}").stdout
    assert said.startswith(f"user 1: moved here from port {SOURCE} (port {TARGET}, ")
    assert_is_on(site, TARGET)
    note_seen(site, "waportctl move of a linked user", "no scan; login, cache and drop-ins are kept", began)
    sent = site.machine.curl(
        "webapp", "POST", f"http://localhost:{TARGET}/send", {"phone": "5511988887777", "message": "hello"}
    )
    assert sent.json["success"], sent.body
    # Who gets the port next gets nothing of it.
    assert site.show_code("other")["port"] != SOURCE
    site.call("DELETE", "/v1/users/other", 204)
    # A reboot finds the user where it left.
    site.machine.power_off()
    site.machine.boot()
    until(lambda: site.ask("GET", "/v1/users/1").status == 200, "the daemon's return")
    site.until_session("1", "ready")
    # The drop-in of that boot is gone with it.
    set_own(site, "/run/systemd/system", TARGET)
    site.machine.systemctl("daemon-reload")
    assert site.call("POST", "/v1/users/1/move")["port"] == SOURCE
    assert_is_on(site, SOURCE)


def hold(site, unit, setting):
    """Have a unit wait at some point, until the next boot."""
    site.machine.run("mkdir", "--parents", f"/run/systemd/system/{unit}.d")
    text = f"[Service]\n{setting}=/bin/sleep 600\n"
    site.machine.run("tee", f"/run/systemd/system/{unit}.d/hold.conf", given=text)
    site.machine.systemctl("daemon-reload")


@pytest.mark.parametrize(
    ("when", "setting"),
    [
        ("when the server is stopped and nothing renamed", "ExecStartPre"),
        pytest.param("when all is renamed and not noted", "ExecStartPost", marks=pytest.mark.thorough),
        pytest.param("when it is noted and the server to start", None, marks=pytest.mark.thorough),
    ],
)
def test_a_move_that_a_power_cut_breaks_off_is_finished_after_the_boot(linked, when, setting):
    site = linked
    source = site.until_session("1", "ready")["port"]
    target = TARGET if source == SOURCE else SOURCE
    unit = f"whatsapp-move@{source}:{target}.service"
    if setting:
        hold(site, unit, setting)
    site.machine.run("systemd-run", "--quiet", "--collect", "waportctl", "move", "1", "--port", f"{target}")
    if setting:
        there = source if setting == "ExecStartPre" else target
        until(
            lambda: (
                site.machine.show(unit, "ActiveState") == "activating" and listed(site, STATE) == {f"{there}"}
            ),
            f"the move to be where it is {when}",
        )
    else:
        until(lambda: site.call("GET", "/v1/users/1")["port"] == target, "the move to be noted")
    site.machine.cut_off()
    began = time.monotonic()
    site.machine.boot()
    until(lambda: site.ask("GET", "/v1/users/1").status == 200, "the daemon's return")
    until(lambda: site.call("GET", "/v1/users/1")["port"] == target, "the end of the move")
    site.until_session("1", "ready")
    note_seen(site, f"power cut in a move, {when}", "the move is finished after the boot; no scan", began)
    # The drop-in of that boot is gone with it.
    set_own(site, "/run/systemd/system", target)
    site.machine.systemctl("daemon-reload")
    assert_is_on(site, target)


def test_what_is_in_the_way_is_named_and_nothing_stops(linked):
    site = linked
    port = site.call("GET", "/v1/users/1")["port"]
    pid = site.main_pid(server(port))
    target = SOURCE if port == TARGET else TARGET
    there = folder("/etc/systemd/system", target)
    site.machine.run("mkdir", there)
    told = site.machine.run("waportctl", "move", "1", "--port", f"{target}", check=False)
    assert told.returncode == 1
    assert there in told.stderr
    site.machine.run("rmdir", there)
    assert site.main_pid(server(port)) == pid


def test_neither_a_session_nor_the_daemons_user_can_misuse_the_step_of_roots(linked):
    site = linked
    port = site.call("GET", "/v1/users/1")["port"]
    pid, unit = site.main_pid(server(port)), f"whatsapp-move@{port}:5008.service"
    before = listed(site, STATE)

    def call(method, signature, *arguments):
        return ("busctl", "call", *MANAGER, method, signature, "--", unit, "replace", *arguments)

    start, stop = call("StartUnit", "ss"), call("StopUnit", "ss")
    transient = call("StartTransientUnit", "ssa(sv)a(sa(sv))", *TRANSIENT[1:])
    for answer in (
        site.in_session(port, *start),
        site.machine.run(*start, user="webapp", check=False),
        site.machine.run(*stop, user="waportd", check=False),
    ):
        assert answer.returncode != 0, answer.stdout
        # The bus lets a user id that comes and goes with its session not even in.
        assert re.search(f"{DENIED}|Transport endpoint is not connected", answer.stderr), answer.stderr
    # The name is one that the daemon may start; the template, which has it already, is what refuses.
    assert site.machine.run(*transient, user="waportd", check=False).returncode != 0
    assert site.machine.show(unit, "Transient") == "no"
    site.machine.run(*start, user="waportd")
    until(
        lambda: "is active: stop it first" in site.machine.journal(f"--unit={unit}", "--output=cat"),
        "the refusal",
    )
    assert (site.main_pid(server(port)), listed(site, STATE)) == (pid, before)
    told = json.loads(site.machine.run("waportctl", "doctor", "--offline", "--json", check=False).stdout)
    verdicts = {finding["check"]: finding["verdict"] for finding in told["findings"]}
    assert (verdicts["rights"], verdicts["units"]) == ("ok", "ok")
