"""waportctl on an installed machine: as root, as a member of the group, as a stranger."""

import json

import pytest
import yaml
from harness import CONFIG, STATE, until
from rows import EVERYTHING
from testbed import guests

RELEASES = guests.RELEASES if EVERYTHING else guests.RELEASES[-1:]
PHONE = "5511999990030"


def ctl(site, *arguments, user=None):
    return site.machine.run("waportctl", *arguments, user=user, check=False)


def failures(site, *, user=None):
    """Return what doctor finds amiss, by check."""
    answer = ctl(site, "doctor", "--offline", "--json", user=user)
    found = json.loads(answer.stdout)["findings"]
    assert answer.returncode == (1 if any(finding["verdict"] == "fail" for finding in found) else 0)
    return {finding["check"]: finding for finding in found if finding["verdict"] == "fail"}


def test_root_and_the_group_may_call_and_a_stranger_learns_what_is_missing(site):
    site.call("PUT", "/v1/users/31?wait=none", 201)
    for user in (None, "webapp"):
        listed = ctl(site, "list", user=user)
        assert listed.returncode == 0, listed.stderr
        assert any(line.startswith("31 ") and "5031" in line for line in listed.stdout.splitlines())
    refused = ctl(site, "list", user="stranger")
    assert refused.returncode == 4
    assert "user stranger may not open /run/waportd/api.sock" in refused.stderr
    assert "usermod --append --groups waportd stranger" in refused.stderr


def test_doctor_finds_nothing_amiss_on_a_fresh_machine_and_root_sees_all(site):
    assert failures(site) == {}
    found = json.loads(ctl(site, "doctor", "--offline", "--json").stdout)["findings"]
    assert {finding["check"] for finding in found if finding["verdict"] == "skip"} == {"upstream"}
    assert next(finding for finding in found if finding["check"] == "rights")["verdict"] == "ok"
    assert failures(site, user="webapp") == {}
    assert set(failures(site, user="stranger")) == {"socket"}


@pytest.mark.parametrize(
    ("damage", "repair", "check", "mend"),
    [
        (
            ("systemctl", "stop", "waportd.service", "waportd.socket"),
            ("systemctl", "start", "waportd.socket", "waportd.service"),
            "socket",
            "systemctl start waportd.socket",
        ),
        (
            ("mv", "/usr/share/polkit-1/rules.d/waportd.rules", "/root/"),
            ("mv", "/root/waportd.rules", "/usr/share/polkit-1/rules.d/"),
            "rights",
            "apt install --reinstall waportd",
        ),
        (("mv", "/usr/bin/node", "/root/"), ("mv", "/root/node", "/usr/bin/"), "node", "apt install nodejs"),
    ],
    ids=["no daemon", "no rule", "no node"],
)
def test_doctor_names_what_is_amiss_and_the_command_that_fixes_it(site, damage, repair, check, mend):
    site.machine.run(*damage)
    try:
        found = failures(site)
    finally:
        site.machine.run(*repair)
    assert mend in found[check]["fix"]
    assert failures(site) == {}


def test_a_rule_that_refuses_the_daemon_is_found(site):
    """The rule is there, and another one comes before it: only asking polkit itself shows that."""
    rule = 'polkit.addRule(function(action, subject) { if (subject.user == "waportd") return polkit.Result.NO; });'
    place = "/etc/polkit-1/rules.d/00-refuse.rules"
    site.machine.run("tee", place, given=rule)
    site.machine.run("chmod", "644", place)
    try:
        site.machine.systemctl("restart", "polkit")
        finding = failures(site)["rights"]
        assert "polkit does not let waportd call RefUnit, StartUnit," in finding["message"]
        assert "systemctl restart polkit" in finding["fix"]
    finally:
        site.machine.run("rm", place)
        site.machine.systemctl("restart", "polkit")
    assert failures(site) == {}


@pytest.mark.parametrize(
    ("drop_in", "told"),
    [
        ("RestrictNamespaces=yes", "No usable sandbox"),
        ("BindReadOnlyPaths=/nowhere", "no server can start here: the unit's sandbox cannot be set up"),
    ],
)
def test_a_browser_is_started_as_a_server_starts_it(site, drop_in, told):
    """What the administrator's drop-in forbids, doctor finds before any user does."""
    folder = "/etc/systemd/system/whatsapp@.service.d"
    site.machine.run("mkdir", "--parents", folder)
    site.machine.run("tee", f"{folder}/forbid.conf", given=f"[Service]\n{drop_in}\n")
    site.machine.systemctl("daemon-reload")
    try:
        finding = failures(site)["browser"]
        assert told in finding["message"]
        assert "systemctl cat whatsapp@.service" in finding["fix"]
    finally:
        site.machine.run("rm", f"{folder}/forbid.conf")
        site.machine.systemctl("daemon-reload")
    assert failures(site) == {}


POLICY = """<busconfig><policy user="waportd">
  <deny send_interface="org.freedesktop.systemd1.Manager" send_member="CleanUnit"/>
</policy></busconfig>"""


def test_a_bus_that_refuses_the_daemon_is_found_and_named_by_the_daemon_too(site):
    """polkit would not mind."""
    place = "/etc/dbus-1/system.d/refuse.conf"
    site.call("PUT", "/v1/users/33?wait=none", 201)
    site.machine.run("tee", place, given=POLICY)
    site.machine.run("chmod", "644", place)
    site.machine.systemctl("reload", "dbus")
    try:
        refused = site.ask("DELETE", "/v1/users/33")
        assert refused.json["code"] == "systemd_access_denied"
        assert "systemctl reload dbus" in refused.json["hint"]
        finding = failures(site)["rights"]
        assert "the bus does not let waportd call CleanUnit" in finding["message"]
        assert finding["fix"] == "systemctl reload dbus"
    finally:
        site.machine.run("rm", place)
        site.machine.systemctl("reload", "dbus")
    assert failures(site) == {}
    site.call("DELETE", "/v1/users/33", 204)


def test_a_session_of_the_earlier_setup_is_taken_over_without_a_new_scan(site):
    """The web app ran the server itself, in a folder of its own; each new server has a user id of its own."""
    folder = "/srv/old"
    site.machine.run("install", "--directory", "--owner=webapp", folder)
    arguments = yaml.safe_load(site.machine.run("cat", CONFIG).stdout)["instances"]["browser_args"]
    site.machine.run(
        "systemd-run", "--quiet", "--unit=old-server", "--uid=webapp", f"--working-directory={folder}",
        f"--setenv=HOME={folder}", f"--setenv=WAPORTD_BROWSER_ARGS={json.dumps(arguments)}",
        "--setenv=WAPORTD_WEBHOOK_URL=", "/usr/bin/node", "/usr/lib/waportd/whatsapp_server.js", "5030",
    )  # fmt: skip

    def ask(path):
        answer = site.machine.run(
            "curl", "--silent", f"http://127.0.0.1:5030{path}", user="webapp", check=False
        )
        return json.loads(answer.stdout or "{}")

    until(lambda: ask("/qr").get("qr"), "a code of the old server")
    site.scan(5030, PHONE)
    until(lambda: ask("/status").get("ready"), "the old session")
    used = ctl(site, "import-session", "5030", "--from", folder)
    assert used.returncode == 1
    assert "the old session is in use" in used.stderr
    site.machine.systemctl("stop", "old-server")
    denied = ctl(site, "import-session", "5030", "--from", folder, user="webapp")
    assert denied.returncode == 4
    assert "only root can" in denied.stderr

    done = ctl(site, "import-session", "5030", "--from", folder)
    assert done.returncode == 0, done.stderr
    assert f"user 30: linked as +{PHONE} on port 5030, without a new scan" in done.stdout
    shown = site.call("GET", "/v1/users/30")
    assert (shown["linked"], shown["session"]["state"], shown["session"]["attempt"]) == (True, "ready", 0)
    owner = site.machine.run("stat", "--format=%u", f"/proc/{site.main_pid('whatsapp@5030')}").stdout.strip()
    others = site.machine.run("find", f"{STATE}/5030/", "!", "-user", owner).stdout
    assert others == ""
    readable = site.machine.run("find", f"{STATE}/5030/", "-perm", "/077", "-not", "-type", "l").stdout
    assert readable == ""
    assert site.machine.run("stat", "--format=%U", f"{folder}/.wwebjs_auth_5030").stdout == "webapp\n"
    site.call("POST", "/v1/users/30/restart")
    site.until_session("30", "ready")
    again = ctl(site, "import-session", "5030", "--from", folder)
    assert again.returncode == 1
    assert "has a session on port 5030 already" in again.stderr


def test_what_the_owner_may_not_read_is_not_copied_by_root(site):
    folder = "/srv/trap/.wwebjs_auth_5032/session-ylada_bot_5032"
    site.machine.run(
        "install", "--directory", "--owner=webapp", "/srv/trap", "/srv/trap/.wwebjs_auth_5032", folder
    )
    site.machine.run("install", "--mode=600", "/etc/hostname", f"{folder}/Secret")
    refused = ctl(site, "import-session", "5032", "--from", "/srv/trap", "--no-start")
    assert refused.returncode == 1
    assert "cannot be copied" in refused.stderr
    assert site.machine.run("ls", "-A", f"{STATE}/", check=False).stdout.count("5032") == 0


def _profile(site, folder, port, owner):
    """Make what looks like a session of somebody's."""
    profile = f"{folder}/.wwebjs_auth_{port}/session-ylada_bot_{port}"
    site.machine.run("mkdir", "--parents", profile)
    site.machine.run("tee", f"{profile}/Preferences", given="{}")
    site.machine.run("chown", "--recursive", owner, folder)
    return profile


def test_a_copy_that_its_owner_cannot_reach_is_taken(site):
    """As root unpacks one of another host's: with the number of a user that is not there, below its own folder."""
    _profile(site, "/root/moved", 20000, "62237:62237")
    done = ctl(site, "import-session", "moved", "--from", "/root/moved", "--no-start")
    assert done.returncode == 0, done.stderr
    port = site.call("GET", "/v1/users/moved")["port"]
    copied = f"{STATE}/{port}/.wwebjs_auth_{port}/session-waportd_{port}/Preferences"
    assert site.machine.run("stat", "--format=%U %a", copied).stdout == "root 600\n"
    site.call("DELETE", "/v1/users/moved", 204)


def test_a_profile_that_becomes_a_link_gives_nothing_of_roots(site):
    profile = _profile(site, "/srv/swapped", 5033, "webapp")
    swap = (
        f"cd /srv/swapped/.wwebjs_auth_5033; ln -s /root trap; while :; do "
        f"mv -T {profile} kept; mv -T trap {profile}; sleep 0.05; mv -T {profile} trap; mv -T kept {profile}; sleep 0.05; done"
    )
    site.machine.run("systemd-run", "--quiet", "--unit=swap", "--uid=webapp", "/bin/sh", "-c", swap)
    try:
        for _ in range(8):
            ctl(site, "import-session", "5033", "--from", "/srv/swapped", "--no-start")
            found = site.machine.run("find", f"{STATE}/", "-name", ".bashrc").stdout
            assert found == ""
            site.ask("DELETE", "/v1/users/33")
    finally:
        site.machine.systemctl("stop", "swap")
        site.machine.run("rm", "--recursive", "/srv/swapped")


def test_roots_own_folder_in_reach_of_others_is_not_read(site):
    _profile(site, "/srv/reach", 5034, "root")
    site.machine.run("chmod", "777", "/srv/reach")
    refused = ctl(site, "import-session", "5034", "--from", "/srv/reach", "--no-start")
    assert refused.returncode == 1
    assert "belongs to root, and others may write in /srv/reach" in refused.stderr


def test_a_note_that_is_a_pipe_is_not_waited_for(site):
    _profile(site, "/srv/note", 5035, "webapp")
    assert ctl(site, "import-session", "5035", "--from", "/srv/note", "--no-start").returncode == 0
    note = f"{STATE}/5035/.wwebjs_auth_5035/login.json"
    site.machine.run("rm", "--force", note)
    site.machine.run("mkfifo", note)
    refused = site.machine.run(
        "timeout",
        "20",
        "waportctl",
        "import-session",
        "5035",
        "--from",
        "/srv/note",
        "--no-start",
        check=False,
    )
    assert refused.returncode == 1
    assert "has a session on port 5035 already" in refused.stderr
    site.call("DELETE", "/v1/users/35", 204)


def test_root_looks_at_whatsapps_page_as_somebody_else_and_leaves_nothing(site):
    """The browser's sandbox refuses root: systemd gives the look a user id and the restrictions of a server."""

    def kept():
        return site.machine.run("find", "/tmp", "/var/tmp").stdout

    before = kept()
    looked = ctl(site, "doctor", "--upstream", "--json")
    assert looked.returncode == 0, looked.stdout + looked.stderr
    document = json.loads(looked.stdout)
    assert (document["verdict"], document["upstream"]["missing"]) == ("fine", [])
    assert document["upstream"]["build"]
    assert kept() == before
    services = ("list-units", "--all", "--plain", "--no-legend", "--type=service", "run-*")
    assert site.machine.run("systemctl", *services).stdout == ""
    # By hand a person has no more rights than ever; there the real site is asked for, which is out of reach.
    by_hand = ctl(site, "doctor", "--upstream", "--json", "--config", "/dev/null", user="stranger")
    assert by_hand.returncode == 3, by_hand.stdout + by_hand.stderr
    assert json.loads(by_hand.stdout)["error"]["cause"] == "upstream_unreachable"
    assert kept() == before
