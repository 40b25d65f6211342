"""What an installed package does and refuses, on a machine that the tests share; each has users of its own."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import SOCKET, until

STATE = "/var/lib/private/whatsapp"


def test_an_installation_starts_everything_and_fails_nothing(site):
    assert site.machine.systemctl("is-system-running") == "running"
    for unit in ("waportd.socket", "waportd.service", "whatsapp.target"):
        assert site.machine.systemctl("is-active", unit) == "active"
        assert site.machine.systemctl("is-enabled", unit) == "enabled"
    assert site.machine.run("stat", "--format=%U:%G %a", SOCKET).stdout == "root:waportd 660\n"
    daemon = site.main_pid("waportd.service")
    assert site.machine.run("stat", "--format=%U", f"/proc/{daemon}").stdout == "waportd\n"


def test_the_configuration_may_hold_a_token_so_only_the_group_reads_it(site):
    found = site.machine.run("stat", "--format=%U:%G %a", "/etc/waportd/config.yaml").stdout
    assert found == "root:waportd 640\n"


def test_the_web_app_gets_a_port_and_a_code_for_each_of_its_users(site):
    """Each code is that user's own: the phone that scans it becomes that user's, with the login to the right port."""
    users = {"1": 5001, "2": 5002, "3": 5003, "2_1": None}
    with ThreadPoolExecutor() as pool:
        shown = dict(zip(users, pool.map(site.show_code, users), strict=True))
    for user, port in users.items():
        assert shown[user]["status"] == "qr"
        assert port in {None, shown[user]["port"]}
        assert shown[user]["user"] == user
    assert len({each["port"] for each in shown.values()}) == len(users)
    for number, user in enumerate(users):
        site.phone(
            "scan", {"qr": shown[user]["qr"], "phone": f"551199999000{number}", "name": f"User {user}"}
        )
        assert site.until_session(user, "ready")["port"] == shown[user]["port"]
        status = site.machine.curl("webapp", "GET", f"http://localhost:{shown[user]['port']}/status")
        assert status.json["phone_number"] == f"551199999000{number}"
    assert site.call("GET", "/api/qr?user_id=2_1")["status"] == "connected"
    assert site.machine.systemctl("is-system-running") == "running"


def renderers(site, port):
    group = site.machine.show(f"whatsapp@{port}", "ControlGroup")
    pids = site.machine.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs").stdout.split()
    found = []
    for pid in pids:
        # Chromium's own processes rewrite theirs: with blanks.
        command = (
            site.machine.run("cat", f"/proc/{pid}/cmdline", check=False).stdout.replace("\0", " ").split()
        )
        assert "--no-sandbox" not in command
        if "--type=renderer" in command:
            found.append(pid)
    return found


def test_chromiums_own_sandbox_is_on(site):
    site.show_code("7")
    found = until(lambda: renderers(site, 5007), "a renderer")
    main = site.main_pid("whatsapp@5007")
    for pid in found:
        status = dict(
            line.split(":\t", 1)
            for line in site.machine.run("cat", f"/proc/{pid}/status").stdout.splitlines()
            if ":\t" in line
        )
        assert status["Seccomp"] == "2"  # a filter
        assert int(status["Seccomp_filters"]) > int(
            re.search(r"Seccomp_filters:\t(\d+)", site.machine.run("cat", f"/proc/{main}/status").stdout)[1]
        )
        assert status["NoNewPrivs"] == "1"
        for kind in ("user", "pid", "net"):
            own = site.machine.run("readlink", f"/proc/{main}/ns/{kind}").stdout
            assert site.machine.run("readlink", f"/proc/{pid}/ns/{kind}").stdout != own
        # A root without anything in it, which its maker took away as well.
        assert site.machine.run("ls", f"/proc/{pid}/root/", check=False).stdout == ""
    assert site.machine.run("ls", f"/proc/{main}/root/").stdout


@pytest.mark.parametrize(("unit", "most"), [("waportd.service", 1.1), ("whatsapp@5001.service", 2.2)])
def test_the_exposure_stays_low(site, unit, most):
    text = site.machine.run("systemd-analyze", "security", unit, check=False).stdout
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)
    assert match, text
    assert float(match[1]) <= most, text


# What the daemon does over polkit and the bus, each verb by the call that needs it.


def test_start_stop_and_restart_work(site):
    site.show_code("10")
    first = site.main_pid("whatsapp@5010")
    site.call("POST", "/v1/users/10/restart")
    second = site.main_pid("whatsapp@5010")
    assert second not in {0, first}
    site.call("POST", "/v1/users/10/stop")
    assert site.machine.systemctl("is-active", "whatsapp@5010.socket", check=False) == "inactive"
    assert site.machine.systemctl("is-active", "whatsapp@5010.service", check=False) == "inactive"
    site.call("POST", "/v1/users/10/start")
    assert site.main_pid("whatsapp@5010")


def test_a_users_memory_limit_reaches_the_unit_until_the_next_boot(site):
    """The daemon sets it at each start, so that it leaves nothing in /etc."""
    site.ask("PUT", "/v1/users/11", {"memory_max": "512M"})
    assert site.machine.show("whatsapp@5011.service", "MemoryMax") == str(512 * 1024**2)
    [path] = site.machine.show("whatsapp@5011.service", "DropInPaths").split()
    assert path.startswith("/run/systemd/system.control/")
    site.call("POST", "/v1/users/11/restart")
    assert site.machine.show("whatsapp@5011.service", "MemoryMax") == str(512 * 1024**2)


def test_all_servers_together_have_limits(site):
    site.call("PUT", "/v1/users/15", 201)
    assert site.machine.show("whatsapp@5015.service", "Slice") == "whatsapp.slice"
    assert site.machine.show("whatsapp@5015.service", "TasksMax") == "512"
    meminfo = site.machine.run("cat", "/proc/meminfo").stdout
    total = int(re.search(r"MemTotal: +(\d+) kB", meminfo)[1]) * 1024
    for name, share in (("MemoryHigh", 0.75), ("MemoryMax", 0.85)):
        assert abs(int(site.machine.show("whatsapp.slice", name)) / total - share) < 0.01
    assert 0 < int(site.machine.show("whatsapp.slice", "TasksMax")) < 2**63


def test_a_crash_loop_is_reported_and_fixed_by_a_start(site):
    site.call("PUT", "/v1/users/12", 201)

    def killed():
        # A minimal Debian has no /bin/kill. Between two starts there is nobody to kill.
        site.machine.systemctl("kill", "--signal=KILL", "whatsapp@5012.service", check=False)
        return site.call("GET", "/v1/users/12")["process"]["state"] == "crash_loop"

    until(killed, "a crash loop")
    process = site.call("GET", "/v1/users/12")["process"]
    assert process["cause"] == "killed"
    assert process["next_start"]
    # Its port is still systemd's, and nothing has failed for good.
    assert site.machine.systemctl("is-active", "whatsapp@5012.socket") == "active"
    assert site.machine.systemctl("--failed", "--plain", "--no-legend") == ""
    site.call("POST", "/v1/users/12/start")
    assert site.call("GET", "/v1/users/12")["process"]["state"] == "running"


def test_a_deleted_user_leaves_nothing(site):
    site.show_code("13")
    folders = (f"{STATE}/5013", "/var/cache/private/whatsapp/5013", "/var/lib/waportd/instances/5013.env")
    for folder in folders:
        site.machine.run("test", "-e", folder)
    site.ask("DELETE", "/v1/users/13")
    until(lambda: site.ask("GET", "/v1/users/13").status == 404, "the deletion")
    for folder in folders:
        assert site.machine.run("test", "-e", folder, check=False).returncode == 1, folder
    assert site.machine.systemctl("is-system-running") == "running"


# What it may not do.

MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
DENIED = "Access denied|Interactive authentication required|Permission denied"
TRANSIENT = ("a(sv)a(sa(sv))", "1", "ExecStart", "a(sasb)", "1", "/usr/bin/touch", "2", "touch", "/run/owned",
             "false", "0")  # fmt: skip


def as_daemon(site, method, signature="", *arguments):
    command = ["busctl", "call", *MANAGER, method]
    if signature:
        command += [signature, "--", *arguments]
    return site.machine.run(*command, user="waportd", check=False)


@pytest.mark.parametrize(
    "call",
    [
        ("StartUnit", "ss", "systemd-ask-password-console.service", "replace"),
        ("StopUnit", "ss", "dbus.service", "replace"),
        ("StopUnit", "ss", "systemd-journald.service", "replace"),
        ("RestartUnit", "ss", "waportd.service", "replace"),
        ("StopUnit", "ss", "whatsapp.target", "replace"),
        ("StartUnit", "ss", "whatsapp@80.service", "replace"),
        ("StartUnit", "ss", "poweroff.target", "replace"),
        ("KillUnit", "ssi", "whatsapp@5014.socket", "all", "9"),
        ("KillUnit", "ssi", "dbus.service", "all", "9"),
        ("StartUnit", "ss", "whatsapp@05014.service", "replace"),
        ("StartUnit", "ss", "whatsapp@5014.timer", "replace"),
        ("StartUnit", "ss", "whatsapp@5014.evil.service", "replace"),
        ("FreezeUnit", "s", "whatsapp@5014.service"),
        ("SetUnitProperties", "sba(sv)", "dbus.service", "true", "1", "MemoryMax", "t", "1"),
        ("SetUnitProperties", "sba(sv)", "whatsapp.slice", "true", "1", "MemoryMax", "t", "1"),
        ("Reexecute",),
        ("DisableUnitFiles", "asb", "1", "waportd.service", "false"),
        ("MaskUnitFiles", "asbb", "1", "dbus.service", "true", "true"),
        ("LinkUnitFiles", "asbb", "1", "/tmp/evil.service", "true", "true"),
        ("RevertUnitFiles", "as", "1", "waportd.service"),
        ("PresetAllUnitFiles", "sbb", "full", "false", "true"),
        ("SetDefaultTarget", "sb", "rescue.target", "true"),
        ("Reboot",),
        ("PowerOff",),
        ("StartTransientUnit", "ssa(sv)a(sa(sv))", "evil.service", "replace", *TRANSIENT[1:]),
    ],
    ids=lambda call: " ".join(call[:3:2]),
)
def test_the_daemons_user_may_do_nothing_else_to_systemd(site, call):
    site.call("PUT", "/v1/users/14?wait=listening", 201 if not hasattr(site, "knows_14") else 200)
    site.knows_14 = True
    before = site.main_pid("whatsapp@5014")
    answer = as_daemon(site, *call)
    assert answer.returncode != 0, answer.stdout
    assert re.search(DENIED, answer.stderr), answer.stderr
    assert site.main_pid("whatsapp@5014") == before
    assert site.machine.run("test", "-e", "/run/owned", check=False).returncode == 1


@pytest.mark.parametrize(
    "call",
    [
        ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "Reboot", "b", "0"),
        ("org.freedesktop.hostname1", "/org/freedesktop/hostname1", "org.freedesktop.hostname1", "SetHostname", "sb",
         "evil", "false"),
        ("org.freedesktop.timedate1", "/org/freedesktop/timedate1", "org.freedesktop.timedate1", "SetTime", "xbb",
         "1700000000000000", "false", "false"),
    ],
    ids=lambda call: call[3],
)  # fmt: skip
def test_the_daemons_user_may_do_nothing_to_the_rest_of_the_machine(site, call):
    answer = site.machine.run("busctl", "call", *call, user="waportd", check=False)
    assert answer.returncode != 0
    assert re.search(DENIED, answer.stderr), answer.stderr


@pytest.mark.parametrize(
    "name", ["whatsapp@5999.service", "whatsapp@5999.socket", "whatsapp-move@5998:5999.service"]
)
def test_no_transient_unit_can_take_the_name_of_a_server(site, name):
    """The rule allows a start under this name; the template, which has it already, is what refuses."""
    answer = as_daemon(site, "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "replace", *TRANSIENT[1:])
    assert answer.returncode != 0
    assert site.machine.run("test", "-e", "/run/owned", check=False).returncode == 1
    assert site.machine.show(name, "Transient") == "no"


@pytest.mark.parametrize("kind", ["service", "socket"])
def test_a_port_that_nobody_was_assigned_does_not_start_by_hand(site, kind):
    answer = site.machine.run("systemctl", "start", f"whatsapp@5998.{kind}", check=False)
    assert answer.returncode != 0
    assert site.machine.systemctl("is-active", f"whatsapp@5998.{kind}", check=False) == "inactive"
