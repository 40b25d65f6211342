"""Installation, upgrade, downgrade, backup, removal and purge, each on a machine of its own."""

import contextlib
import re
import textwrap
import time
from pathlib import Path

from faults import Witness, note_seen, summary
from harness import CONFIG, OTHER_VERSIONS, PACKAGES, until

ROOT = Path(__file__).resolve().parents[2]
AUTOPKGTEST = ROOT / "debian/tests/api"
EARLIER = f"{OTHER_VERSIONS}/earlier.deb"
LATER = f"{OTHER_VERSIONS}/later.deb"
DATA = ("/var/lib/waportd/waportd.db", "/var/lib/private/whatsapp/5002", CONFIG)
LONGEST_WAIT = 15.0
"""Seconds that a caller of API or port waits during an upgrade, at most; on an idle host it was about one."""
ENGINE = "/var/lib/waportd-engines/1.34.6"


def exists(site, path):
    return site.machine.run("test", "-e", path, check=False).returncode == 0


def read(site, path):
    return site.machine.run("cat", path).stdout


@contextlib.contextmanager
def witnessed(site, user):
    """Have a web app ask for a user, and call its port, all the time."""
    witness = Witness(site, user, 5000 + int(user))
    witness.start()
    until(lambda: witness.is_calm(0), "the calm before")
    try:
        yield witness
    finally:
        witness.stop()


def refused(witness, since):
    """Return of which kind the calls were that nobody took."""
    return {line["what"] for line in witness.noted() if isinstance(line["said"], str) and line["at"] > since}


def daemon_is_back(site, before):
    until(lambda: site.main_pid("waportd") not in {0, before}, "the daemon's restart")
    until(
        lambda: site.machine.systemctl("is-active", "waportd", check=False) == "active", "the daemon's start"
    )


def block(heading, number=0):
    """Return a block of docs/install.md, as it stands there."""
    text = (ROOT / "docs/install.md").read_text()
    section = re.search(rf"(?ms)^##+ {heading}\n(.*?)^##", text)[1]
    return textwrap.dedent(re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)[number])


def documented(site, heading, number=0):
    """Run a block of commands of docs/install.md, where its `make deb` would have been run."""
    commands = block(heading, number)
    # What cannot be here: a compiler's packages, and WhatsApp itself.
    commands = commands.replace("make deb\n", "\n").replace(
        "waportctl doctor\n", "waportctl doctor --offline\n"
    )
    return run(site, commands)


def run(site, commands):
    """Run commands of docs/install.md, which may name what `make deb` makes."""
    site.machine.run("mkdir", "--parents", "/root/waportd")
    site.machine.run("ln", "--symbolic", "--force", "--no-dereference", PACKAGES, "/root/waportd/dist")
    return site.machine.run("sh", "-exc", f"cd /root/waportd\n{commands}").stdout


def test_the_documented_commands_install_it_and_let_the_web_app_in(empty_site):
    site = empty_site
    documented(site, "Install it")
    documented(site, "Install it", 1)
    assert "no users" in documented(site, "Let the web app in").lower()
    assert site.machine.run("stat", "--format=%a %U %G", CONFIG).stdout == "640 root waportd\n"
    # The next two blocks are the file's text, and how to have it read.
    site.machine.run("tee", CONFIG, given=block("Let the web app in", 1))
    documented(site, "Let the web app in", 2)
    until(lambda: "ports.reserved: taken over" in site.machine.journal("--unit=waportd"), "the reload")
    site.let_the_web_app_in()
    assert site.ask("GET", "/v1/users").status == 403
    assert site.ask("GET", "/v1/users", user="www-data").status == 200
    # What follows has a web app of its own.
    site.machine.run("sh", "-c", f"sed -i /allow_users/d {CONFIG}; sed -i /api:/d {CONFIG}")
    site.machine.systemctl("reload", "waportd")
    until(lambda: site.ask("GET", "/v1/users").status == 200, "the second reload")
    answer = site.machine.run("sh", given=AUTOPKGTEST.read_text(), check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_apparmor_profile_is_there_where_it_can_be_read(empty_site):
    """AppArmor before 4.0 could not, and its service would fail."""
    site = empty_site
    site.install()
    profile = "/etc/apparmor.d/whatsapp-server"
    if exists(site, "/etc/apparmor.d/abi/4.0"):
        site.machine.run("apparmor_parser", "--skip-kernel-load", "--skip-cache", profile)
    else:
        assert not exists(site, profile)
        site.machine.run("touch", "/etc/apparmor.d/abi/4.0")
        site.machine.run("dpkg-trigger", "--by-package=apparmor", "/etc/apparmor.d/abi")
        site.machine.run("dpkg", "--triggers-only", "--pending")
        assert exists(site, profile)


def test_an_upgrade_restarts_the_daemon_and_no_session(empty_site):
    site = empty_site
    site.install(EARLIER)
    site.connect_to_standin()
    site.show_code("2")
    server, daemon, config = site.main_pid("whatsapp@5002"), site.main_pid("waportd"), read(site, CONFIG)
    with witnessed(site, "2") as witness:
        began = time.monotonic()
        site.install(LATER)
        daemon_is_back(site, daemon)
        upgraded = time.time()
        until(lambda: witness.is_calm(upgraded), "answers after the upgrade")
        note_seen(site, "an upgrade of the package", summary(witness.noted()), began)
    lines = witness.noted()
    assert {line["said"] for line in lines} == {200}
    assert max(line["took"] for line in lines) < LONGEST_WAIT
    assert site.main_pid("whatsapp@5002") == server
    assert site.machine.show("whatsapp@5002.service", "NRestarts") == "0"
    assert site.machine.systemctl("is-system-running") == "running"
    # The administrator's configuration is as it was, and the new one beside it.
    assert read(site, CONFIG) == config
    assert "What the later version says." in read(site, f"{CONFIG}.dpkg-dist")
    assert site.machine.run("stat", "--format=%a %U %G", CONFIG).stdout == "640 root waportd\n"
    # The modules below the server were replaced: it still links.
    site.show_code("2")
    site.scan(5002, "5511999990002")
    site.until_session("2", "ready")
    assert site.main_pid("whatsapp@5002") == server


def test_a_downgrade_works_or_says_why_not(empty_site):
    site = empty_site
    site.install()
    site.connect_to_standin()
    site.show_code("2")
    server, daemon = site.main_pid("whatsapp@5002"), site.main_pid("waportd")
    # The store is the same in both versions.
    site.install(EARLIER)
    daemon_is_back(site, daemon)
    assert site.call("GET", "/v1/users/2")["port"] == 5002
    # It is not: the older daemon refuses it, and leaves it and the sessions alone.
    site.install(LATER)
    until(lambda: site.call("GET", "/v1/users/2"), "the later version's answer")
    store = site.machine.run("sha256sum", DATA[0]).stdout
    site.install()
    until(lambda: "has schema version" in site.machine.journal("--unit=waportd"), "the refusal")
    assert "install the newer waportd again" in site.machine.journal("--unit=waportd")
    # Another try would not fix it: it ends as failed, at once.
    until(lambda: site.machine.systemctl("is-failed", "waportd", check=False) == "failed", "the failure")
    assert site.machine.show("waportd.service", "ExecMainStatus") == "65"
    assert site.machine.journal("--unit=waportd", "--output=cat").count("has schema version") == 1
    assert site.machine.run("sha256sum", DATA[0]).stdout == store
    assert site.main_pid("whatsapp@5002") == server
    assert site.machine.curl("webapp", "GET", "http://localhost:5002/health").status == 200
    site.install(LATER)
    assert site.call("GET", "/v1/users/2")["port"] == 5002
    assert site.main_pid("whatsapp@5002") == server


def test_the_documented_backup_brings_a_linked_session_back_on_another_machine(empty_site):
    site = empty_site
    site.install()
    site.connect_to_standin()
    phone = site.link("1", "5511999990001")["session"]["phone_number"]
    shown = documented(site, "Link a first phone")
    assert "whatsapp@5001.service - WhatsApp server on port 5001" in shown
    documented(site, "Back up and restore")
    with witnessed(site, "1") as witness:
        began, asked = time.monotonic(), time.time()
        documented(site, "Back up and restore", 1)
        done = time.time()
        until(lambda: witness.is_calm(done), "answers after the backup")
        assert refused(witness, asked) == set()
        note_seen(site, "a backup as documented, while a web app asks", summary(witness.noted()), began)
    # Another machine: nothing is left of the package, and it is another boot.
    site.machine.run("dpkg", "--purge", "waportd")
    assert not any(exists(site, path) for path in ("/var/lib/waportd", "/var/lib/private/whatsapp", CONFIG))
    site.machine.power_off()
    site.machine.boot()
    site.install()
    site.connect_to_standin()
    documented(site, "Back up and restore", 2)
    assert site.until_session("1", "ready")["session"]["phone_number"] == phone


def fails_at_its_stop(site, port):
    """Have the server on a port end as failed when it is stopped."""
    folder = f"/run/systemd/system/whatsapp@{port}.service.d"
    site.machine.run("mkdir", "--parents", folder)
    site.machine.run("tee", f"{folder}/fail.conf", given="[Service]\nExecStopPost=/bin/false\n")
    site.machine.systemctl("daemon-reload")


def test_a_removal_stops_everything_and_keeps_the_data_for_the_next_installation(empty_site):
    site = empty_site
    site.install()
    site.connect_to_standin()
    site.link("2", "5511999990002")
    site.call("PUT", "/v1/users/x?wait=none", 201)
    port = site.call("GET", "/v1/users/x")["port"]
    config = read(site, CONFIG)
    site.machine.run("mkdir", ENGINE)
    fails_at_its_stop(site, port)
    # One more that is just being started.
    site.call("PUT", "/v1/users/8?wait=none", 201)
    site.machine.run("dpkg", "--remove", "waportd")
    assert exists(site, ENGINE)
    assert site.machine.systemctl("list-units", "--plain", "--no-legend", "whatsapp*", "waportd*") == ""
    assert all(exists(site, path) for path in DATA)
    assert not exists(site, "/usr/lib/waportd")
    assert not exists(site, "/etc/apparmor.d/whatsapp-server")
    assert site.machine.systemctl("is-system-running") == "running"
    site.install()
    assert read(site, CONFIG) == config
    assert site.call("GET", "/v1/users/x")["port"] == port
    # Nobody asks for it: a removal is no decision about one user.
    site.until_session("2", "ready")


def files(site):
    """Return every path of the machine with its kind, mode, owner and target, but what logs and package tools change."""
    changing = ("/var/log/*", "/var/lib/dpkg/*", "/tmp/*", "/run/systemd/*", "/run/log/*", "/run/udev/*",
                "/var/tmp/*", "/var/cache/ldconfig/*", "/run/standin.json")  # fmt: skip
    options = [word for pattern in changing for word in ("-not", "-path", pattern)]
    shown = ["-printf", "%p %y %m %u %g %l\n"]
    return set(site.machine.run("find", "/", "/run", "-xdev", *options, *shown).stdout.splitlines())


def contents(site):
    """Return a checksum of each file below /etc and /usr: accounts, policies, caches of links and units included."""
    command = 'find /etc /usr -xdev -type f -not -name "*-" -exec sha256sum {} +'
    return set(site.machine.run("sh", "-c", command).stdout.splitlines())


def test_a_purge_leaves_no_file_no_user_and_no_unit(empty_site):
    site = empty_site
    # What does not belong to the package: the accounts of the web app.
    site.machine.run("groupadd", "--system", "waportd")
    site.machine.run("useradd", "--system", "webapp")
    site.machine.run("useradd", "--system", "stranger")
    site.machine.run("groupdel", "waportd")
    files_before, contents_before = files(site), contents(site)
    site.install()
    site.connect_to_standin()
    site.show_code("2")
    site.ask("PUT", "/v1/users/2", {"memory_max": "512M"})
    site.machine.run("mkdir", ENGINE)
    site.configure(api={"listen": ["127.0.0.1:8080"]})
    site.hold_addresses()
    assert exists(site, "/run/systemd/system.control/whatsapp@5002.service.d")
    site.forget_standin()
    purged = site.machine.run("dpkg", "--purge", "waportd")
    # The package is built on Debian 12, whose debhelper puts units below /lib: on Debian 13 dpkg finds that folder, a
    # link there, not empty, as for each package that was built so.
    unmerged = (
        "dpkg: warning: while removing waportd, directory '/lib/systemd/system' not empty so not removed"
    )
    assert [line for line in purged.stderr.splitlines() if line != unmerged] == []
    assert files(site) ^ files_before == set()
    assert contents(site) ^ contents_before == set()
    units = ("--no-legend", "whatsapp*", "waportd*")
    assert site.machine.systemctl("list-units", "--all", "--plain", *units) == ""
    assert site.machine.systemctl("list-unit-files", *units, check=False) == ""
    left = site.machine.run("find", "/run/systemd", "/etc/systemd", "-name", "*whatsapp@*").stdout
    assert left == ""
    assert site.machine.systemctl("is-system-running") == "running"
