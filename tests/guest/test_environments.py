"""A host that is unlike the others in all that it can be: a container with users of its own, a root that is read-only,
no IPv6, another language and time zone, a proxy in the environment, and an installation into an image by chroot.
"""

import datetime as dt
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import time

import pytest
from faults import USER, note_seen
from harness import CONFIG, PACKAGES, SERVER, STANDIN, complaints, server, until
from rows import EVERYTHING
from testbed import guests, linux

RELEASES = guests.RELEASES if EVERYTHING else guests.RELEASES[:1]
PHONE, OTHER_PHONE = "5511999990001", "5511999990002"
FIRST_ID, IDS = 655360, 65536
WRITABLE = ("/var", "/etc/waportd", "/etc/systemd/system")
"""What such a host keeps elsewhere; the last one is for the stand-in only."""
IDLE = 240.0 if EVERYTHING else 30.0
FOUND = 120.0
"""Seconds within which a session that has to wait for its next try is back."""
LANGUAGE = "pt_BR.UTF-8"
ZONE = dt.timezone(dt.timedelta(hours=-3))
"""America/Sao_Paulo."""
PROXY = "http://127.0.0.1:9"
HOOK = 8999
CLOSED = r"find /etc /usr /var/lib \( -type d ! -perm -o=rx -o -type f ! -perm -o=r \)"
"""Lists what not everybody may read."""
INSTALL = f"""
localedef --inputfile=pt_BR --charmap=UTF-8 {LANGUAGE}
rm -r /usr/share/i18n
echo LANG={LANGUAGE} > /etc/locale.conf
ln -sf ../locale.conf /etc/default/locale
ln -sf /usr/share/zoneinfo/America/Sao_Paulo /etc/localtime
mkdir --parents /etc/sysctl.d
echo net.ipv6.conf.all.disable_ipv6=1 > /etc/sysctl.d/90-no-ipv6.conf
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n' > /etc/hosts
mount -t proc proc /proc
{CLOSED} > /root/closed-before
umask 077
LANG={LANGUAGE} dpkg --install /root/waportd.deb 2> /root/said
{CLOSED} > /root/closed-now
umount /proc
umask 022
useradd --system webapp
useradd --system stranger
usermod --append --groups waportd webapp
mkdir /etc/systemd/system/whatsapp@.service.d
cat > /etc/systemd/system/whatsapp@.service.d/proxy.conf <<END
[Service]
Environment=HTTP_PROXY={PROXY} http_proxy={PROXY} HTTPS_PROXY={PROXY} https_proxy={PROXY} ALL_PROXY={PROXY}
END
"""
RECEIVER = f"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", {HOOK}), Handler).serve_forever()
"""


def give(disk):
    """Give each file to the container's users; nspawn cannot do it for a root that is read-only."""
    for folder, folders, files in os.walk(disk):
        for name in (".", *folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118  # of some ten thousand files
            before = os.lstat(path)
            if before.st_uid < FIRST_ID:
                os.lchown(path, before.st_uid + FIRST_ID, before.st_gid + FIRST_ID)
                if before.st_mode & (stat.S_ISUID | stat.S_ISGID):
                    os.chmod(path, stat.S_IMODE(before.st_mode))  # noqa: PTH101


def prepare(disk, package):
    """Install the package where no systemd runs; return how nspawn boots the result of it."""
    shutil.copy(package, disk / "root/waportd.deb")
    shutil.copytree("/usr/share/i18n", disk / "usr/share/i18n", dirs_exist_ok=True)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["chroot", disk, "sh", "-exc", INSTALL], env=environment, check=True)
    for place in (PACKAGES, STANDIN, SERVER):
        (disk / place[1:]).mkdir(parents=True)
    give(disk)
    # Another way to the same files, since nspawn makes the folder itself read-only.
    writable = disk.parent / "writable"
    writable.mkdir()
    linux.mount(disk, writable, flags=linux.MS_BIND)
    return (
        f"--private-users={FIRST_ID}:{IDS}",
        "--read-only",
        *(f"--bind={writable}{folder}:{folder}" for folder in WRITABLE),
    )


def in_portuguese(site, *command, user=None):
    return site.machine.run("env", f"LANG={LANGUAGE}", *command, user=user, check=False)


def failed(site):
    """Return what doctor finds wrong, by the name of the check."""
    said = in_portuguese(site, "waportctl", "doctor", "--offline", "--json")
    return {each["check"]: each for each in json.loads(said.stdout)["findings"] if each["verdict"] == "fail"}


def session(site):
    """Return the session; between two servers there is none."""
    return site.call("GET", f"/v1/users/{USER}")["session"] or {"state": None}


@pytest.fixture(scope="module")
def unlike(unusual_site):
    site = unusual_site
    site.connect_to_standin()
    instances = site.config["instances"] | {"proxy": "none", "webhook_url": f"http://localhost:{HOOK}/hook"}
    site.configure(instances=instances)
    return site


@pytest.fixture(scope="module")
def joined(unlike):
    unlike.link(USER, PHONE)
    return unlike


def test_it_is_such_a_host_and_all_is_well_after_its_first_boot(unlike):
    machine = unlike.machine
    assert machine.run("cat", "/proc/self/uid_map").stdout.split() == ["0", str(FIRST_ID), str(IDS)]
    assert machine.run("touch", "/usr/written", check=False).returncode
    assert machine.run("cat", "/proc/net/if_inet6").stdout == ""
    assert f"LANG={LANGUAGE}" in machine.systemctl("show-environment").splitlines()
    assert machine.systemctl("is-system-running", "--wait") == "running"
    assert failed(unlike) == {}


def test_a_narrow_umask_at_the_installation_closed_nothing_that_others_read(unlike):
    before, now = (
        set(unlike.machine.run("cat", f"/root/closed-{when}").stdout.split()) for when in ("before", "now")
    )
    # The other ones are of the programs that add users, and are always closed.
    accounts = {"/etc/.pwd.lock", "/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-"}
    assert {path for path in now - before if not path.startswith("/var/lib/dpkg/")} - accounts == {CONFIG}
    assert unlike.machine.run("stat", "--format=%a %U %G", CONFIG).stdout == "640 root waportd\n"
    said = in_portuguese(unlike, "waportctl", "list", user="webapp")
    assert said.returncode == 0, said.stderr


def test_the_installation_by_chroot_complained_of_nothing(unlike):
    said = unlike.machine.run("cat", "/root/said").stdout
    assert complaints(said) == []
    # There is no host yet that could lack anything.
    assert "warning" not in said


def test_a_message_goes_to_the_web_app_and_through_no_proxy(joined):
    machine = joined.machine
    receive = ["systemd-run", "--quiet", "--unit=hook", "--property=StandardOutput=truncate:/run/hook.json"]
    machine.run(*receive, "/usr/bin/python3", "-c", RECEIVER)
    environment = machine.run("cat", f"/proc/{joined.main_pid(server(5001))}/environ").stdout.split("\0")
    assert f"HTTP_PROXY={PROXY}" in environment
    joined.phone("message", {"from": OTHER_PHONE, "phone": PHONE, "body": "Olá"})
    until(lambda: "Olá" in machine.run("cat", "/run/hook.json").stdout, "the message at the web app")


def test_times_are_the_hosts_and_words_stay(joined):
    now = dt.datetime.now(ZONE)
    shown = in_portuguese(joined, "waportctl", "show", USER).stdout
    times = [
        dt.datetime.fromisoformat(text) for text in re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d-03:00", shown)
    ]
    assert times, shown
    assert all(abs(now - moment) < dt.timedelta(minutes=30) for moment in times)
    lines = in_portuguese(joined, "waportctl", "logs", USER).stdout.splitlines()
    [ready] = [line for line in lines if "session ready" in line]
    moment = dt.datetime.strptime(f"{now.year} {ready[:15]}", "%Y %b %d %H:%M:%S").replace(tzinfo=ZONE)
    assert abs(now - moment) < dt.timedelta(minutes=30)


def test_nothing_is_said_while_nothing_happens(joined):
    joined.until_session(USER, "ready")
    cursor = (
        joined.machine.run("journalctl", "--lines=0", "--show-cursor").stdout.split("cursor: ")[1].strip()
    )
    time.sleep(IDLE)
    ours = ["--unit=waportd*", "--unit=whatsapp*", f"--after-cursor={cursor}", "--output=cat"]
    assert joined.machine.journal(*ours).replace("-- No entries --\n", "") == ""
    assert session(joined)["state"] == "ready"


def test_a_session_is_back_after_a_kill_when_the_host_has_another_name(joined):
    joined.machine.run("hostname", "outro-nome")
    before = joined.main_pid(server(5001))
    joined.machine.systemctl("kill", "--signal=KILL", server(5001))
    until(lambda: joined.main_pid(server(5001)) not in {0, before}, "the restart")
    joined.until_session(USER, "ready")


def test_without_user_namespaces_doctor_says_what_brings_the_session_back(joined):
    leader = f"{joined.machine.leader}"
    forbid = "echo 0 > /proc/sys/user/max_user_namespaces"
    subprocess.run(["nsenter", f"--target={leader}", "--user", "sh", "-c", forbid], check=True)
    joined.machine.systemctl("kill", "--signal=KILL", server(5001))
    assert "waportctl doctor names the setting" in joined.until_session(USER, "error")["session"]["hint"]
    finding = failed(joined)["browser"]
    assert "user.max_user_namespaces is 0" in finding["message"]
    allow = re.search(r"on its host: (nsenter [^;]*);", finding["fix"])[1]
    began = time.monotonic()
    subprocess.run(shlex.split(allow.replace("PID", leader)), check=True)
    if not EVERYTHING:
        joined.call("POST", f"/v1/users/{USER}/restart")
    until(lambda: session(joined)["state"] == "ready", "the session", FOUND)
    assert failed(joined) == {}
    note_seen(
        joined, "a container may not make user namespaces", "what doctor says brings the session back", began
    )


def test_a_polkit_that_is_masked_is_named_by_api_daemon_and_doctor(joined):
    before = joined.main_pid(server(5001))
    joined.machine.systemctl("mask", "--now", "polkit.service")
    began = time.monotonic()
    answer = joined.ask("POST", f"/v1/users/{USER}/restart")
    assert (answer.status, answer.json["code"]) == (502, "systemd_access_denied")
    assert "polkit.service is masked" in answer.json["detail"]
    assert "`systemctl unmask polkit`" in answer.json["hint"]
    finding = failed(joined)["rights"]
    assert "polkit, which does not start" in finding["message"]
    said = joined.machine.run("waportctl", "restart", USER, check=False)
    assert said.returncode
    assert "systemctl unmask polkit" in said.stderr
    # Who is asked for is answered all the same, and the session does not notice.
    assert joined.ask("GET", f"/api/qr?user_id={USER}").status == 200
    assert joined.main_pid(server(5001)) == before
    joined.machine.run("sh", "-ec", finding["fix"].partition("; if")[0])
    joined.call("POST", f"/v1/users/{USER}/restart")
    note_seen(joined, "polkit is masked", "calls are refused with the reason; no session notices", began)


@pytest.mark.thorough
def test_a_polkit_whose_program_is_missing_is_named(joined):
    folder = "/run/systemd/system/polkit.service.d"
    joined.machine.run("mkdir", "--parents", folder)
    joined.machine.run("tee", f"{folder}/gone.conf", given="[Service]\nExecStart=\nExecStart=/nonexistent\n")
    joined.machine.systemctl("daemon-reload")
    joined.machine.systemctl("stop", "polkit.service")
    began = time.monotonic()
    try:
        answer = joined.ask("POST", f"/v1/users/{USER}/restart")
        assert (answer.status, answer.json["code"]) == (502, "systemd_access_denied")
        assert "polkit" in answer.json["hint"]
        finding = failed(joined)["rights"]
        assert "polkit, which does not start" in finding["message"]
    finally:
        joined.machine.run("rm", "--recursive", folder)
        joined.machine.systemctl("daemon-reload")
        joined.machine.systemctl("reset-failed", "polkit.service", check=False)
    joined.call("POST", f"/v1/users/{USER}/restart")
    note_seen(
        joined, "polkit's program is missing", "calls are refused with the reason; no session notices", began
    )
