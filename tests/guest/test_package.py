"""Upgrade, removal and purge, each on a machine of its own."""

import threading

from guests import GuestError
from harness import until

NEXT = "/mnt/packages-next/next.deb"
DATA = ("/var/lib/waportd/waportd.db", "/var/lib/private/whatsapp/5002", "/etc/waportd/config.yaml")


def exists(site, path):
    return site.machine.run("test", "-e", path, check=False).returncode == 0


def poll(site, done, outcomes):
    while not done.is_set():
        try:
            outcomes.append(site.ask("GET", "/v1/users/2/qr").status)
        except GuestError as error:
            outcomes.append(str(error))


def test_an_upgrade_restarts_the_daemon_and_no_session(empty_site):
    site = empty_site
    site.install()
    site.connect_to_standin()
    site.show_code("2")
    server, daemon = site.main_pid("whatsapp@5002"), site.main_pid("waportd")
    done, outcomes = threading.Event(), []
    poller = threading.Thread(target=poll, args=(site, done, outcomes))
    poller.start()
    try:
        site.install(NEXT)
        until(lambda: site.main_pid("waportd") not in {0, daemon}, "the daemon's restart")
        answered = len(outcomes)
        until(lambda: len(outcomes) > answered + 10, "answers after the upgrade")
    finally:
        done.set()
        poller.join()
    assert set(outcomes) == {200}
    assert site.main_pid("whatsapp@5002") == server
    assert site.machine.show("whatsapp@5002.service", "NRestarts") == "0"
    assert site.machine.systemctl("is-system-running") == "running"
    # The modules below it were replaced: it still links.
    site.show_code("2")
    site.scan(5002, "5511999990002")
    site.until_session("2", "ready")
    assert site.main_pid("whatsapp@5002") == server


def test_a_removal_stops_everything_and_keeps_the_data_for_the_next_installation(empty_site):
    site = empty_site
    site.install()
    site.connect_to_standin()
    site.show_code("2")
    site.call("PUT", "/v1/users/x?wait=none", 201)
    port = site.call("GET", "/v1/users/x")["port"]
    site.machine.run("dpkg", "--remove", "waportd")
    assert site.machine.systemctl("list-units", "--plain", "--no-legend", "whatsapp*", "waportd*") == ""
    assert all(exists(site, path) for path in DATA)
    assert not exists(site, "/usr/lib/waportd")
    assert site.machine.systemctl("is-system-running") == "running"
    site.install()
    assert site.call("GET", "/v1/users/x")["port"] == port
    site.show_code("2")


def files(site):
    """Return every path of the machine but those that logs and the package tools keep changing."""
    changing = ("/var/log/*", "/var/lib/dpkg/*", "/tmp/*", "/run/systemd/*", "/run/log/*", "/run/udev/*",
                "/var/tmp/*", "/var/cache/ldconfig/*", "/run/standin.json")  # fmt: skip
    options = [word for pattern in changing for word in ("-not", "-path", pattern)]
    return set(site.machine.run("find", "/", "/run", "-xdev", *options).stdout.splitlines())


def accounts(site):
    return site.machine.run("cat", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow").stdout


def test_a_purge_leaves_no_file_no_user_and_no_unit(empty_site):
    site = empty_site
    # What does not belong to the package: the accounts of the web app.
    site.machine.run("groupadd", "--system", "waportd")
    site.machine.run("useradd", "--system", "webapp")
    site.machine.run("useradd", "--system", "stranger")
    site.machine.run("groupdel", "waportd")
    before, accounts_before = files(site), accounts(site)
    site.install()
    site.connect_to_standin()
    site.show_code("2")
    site.ask("PUT", "/v1/users/2", {"memory_max": "512M"})
    assert exists(site, "/run/systemd/system.control/whatsapp@5002.service.d")
    site.forget_standin()
    site.machine.run("dpkg", "--purge", "waportd")
    assert files(site) - before == set()
    assert accounts(site) == accounts_before
    assert (
        site.machine.systemctl("list-units", "--all", "--plain", "--no-legend", "whatsapp*", "waportd*") == ""
    )
    assert (
        site.machine.systemctl("list-unit-files", "--no-legend", "whatsapp*", "waportd*", check=False) == ""
    )
    left = site.machine.run("find", "/run/systemd", "/etc/systemd", "-name", "*whatsapp@*").stdout
    assert left == ""
    assert site.machine.systemctl("is-system-running") == "running"
