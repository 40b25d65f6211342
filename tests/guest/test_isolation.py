"""What keeps sessions apart, beyond what the table of test_authorization.py says."""

import json

import pytest
from harness import CONFIG, SOCKET, server, until

LOOK_INTO = """
import ctypes, errno, os, sys

libc = ctypes.CDLL(None, use_errno=True)
pid, address = int(sys.argv[1]), int(sys.argv[2], 16)

class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

def named(result):
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]

def opened(path):
    try:
        with open(path, "rb") as file:
            file.seek(address)
            return "done" if file.read(8) else "nothing"
    except OSError as error:
        return errno.errorcode[error.errno]

content = ctypes.create_string_buffer(8)
ours, theirs = Vector(ctypes.addressof(content), 8), Vector(address, 8)
print("mem", opened(f"/proc/{pid}/mem"))
print("readv", named(libc.process_vm_readv(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)))
SEIZE, DETACH = 0x4206, 17
print("ptrace", named(libc.ptrace(SEIZE, pid, None, None)))
print("signal", named(libc.kill(pid, 0)))
"""
"""Tries every way into another process's memory, and prints the result of each."""


@pytest.fixture(scope="module")
def two_sessions(site):
    site.link("1", "5511999990001")
    site.link("2", "5511999990002")
    return site


def test_a_session_cannot_write_beside_its_own_folders(two_sessions):
    for folder in ("/var/lib/whatsapp", "/var/lib/whatsapp/5002", "/etc", "/usr/lib/waportd", "/run", "/srv"):
        answer = two_sessions.in_session(5001, "touch", f"{folder}/mark")
        assert answer.returncode != 0, folder


def test_a_session_sees_no_process_but_its_own(two_sessions):
    site = two_sessions
    own = site.in_session(5001, "sh", "-c", "cd /proc && stat --format=%u [0-9]*").stdout.split()
    assert set(own) == {str(site.uid(5001))}


@pytest.mark.parametrize("target", ["other", "daemon"])
def test_a_session_gets_into_no_other_process(two_sessions, target):
    site = two_sessions
    pid = site.main_pid(server(5002) if target == "other" else "waportd")
    address = site.machine.run("head", "-c", "12", f"/proc/{pid}/maps").stdout.split("-")[0]

    def tried(run):
        answer = run("python3", "-c", LOOK_INTO, str(pid), address)
        assert answer.returncode == 0, answer.stderr
        return dict(line.split() for line in answer.stdout.splitlines())

    refused = tried(lambda *command: site.in_session(5001, *command))
    assert set(refused) == {"mem", "readv", "ptrace", "signal"}
    assert all(outcome in {"EPERM", "EACCES", "ENOENT", "ESRCH"} for outcome in refused.values()), refused
    # That the attempts are good ones: root succeeds.
    assert set(tried(site.machine.run).values()) == {"done"}


def test_each_session_has_a_user_id_of_its_own(two_sessions):
    uids = {two_sessions.uid(port) for port in (5001, 5002)}
    assert len(uids) == 2
    assert all(61184 <= uid <= 65519 for uid in uids)  # DynamicUser=, systemd.exec(5)


def test_what_everybody_may_see_holds_no_secret(two_sessions):
    """Command lines are public, and what systemd says of a unit."""
    site = two_sessions
    code = site.show_code("3")["qr"]
    commands = site.machine.run(
        "sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null || true", user="stranger"
    ).stdout
    assert "whatsapp_server.js" in commands
    units = site.machine.run("systemctl", "show", "--all", "whatsapp@*", user="stranger").stdout
    assert "linked as +55…01" in units
    for secret in (*code.split(","), "5511999990001", "5511999990002"):
        assert len(secret) < 8 or secret not in commands + units


SQUAT = """
import socket, sys, time
end = time.monotonic() + float(sys.argv[2])
taken = 0
while time.monotonic() < end:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", int(sys.argv[1])))
            one.listen()
            taken += 1
        except OSError:
            pass
    time.sleep(0.0005)  # leave the processor to those who are to let it go
print("taken", taken)
"""


def test_nobody_takes_the_address_of_the_api_while_the_daemon_is_away(site):
    machine = site.machine
    assert machine.run("python3", "-c", SQUAT, "8099", "0.2", user="stranger").stdout != "taken 0\n"
    site.configure(api={"listen": ["127.0.0.1:8099"]})
    site.hold_addresses()
    restarts = "for i in 1 2 3; do sleep 0.5; systemctl restart waportd; sleep 0.5; systemctl kill -s KILL waportd; done"
    machine.run("systemd-run", "--quiet", "--unit=restarts", "sh", "-c", restarts)
    assert machine.run("python3", "-c", SQUAT, "8099", "8", user="stranger").stdout == "taken 0\n"
    machine.run("curl", "--silent", "--fail", "--max-time", "20", "http://127.0.0.1:8099/openapi.json")
    assert "8099" in machine.run("waportctl", "doctor", "--offline", check=False).stdout
    # Taken out, it is served no more, no matter who holds it, and not after a restart either.
    asked = ("curl", "--silent", "--fail", "--max-time", "2", "http://127.0.0.1:8099/openapi.json")
    site.configure(api={})
    assert machine.run(*asked, check=False).returncode == CURL_TIMED_OUT
    machine.systemctl("restart", "waportd")
    assert machine.run(*asked, check=False).returncode == CURL_TIMED_OUT
    assert (
        "which api.listen does not name"
        in machine.run("waportctl", "doctor", "--offline", check=False).stdout
    )
    refused = machine.run("waportd", "generate-units", "--tcp", "--output", "/run/units", check=False)
    machine.run("sh", "-ec", refused.stderr.rpartition("as root: ")[2])
    assert machine.run(*asked, check=False).returncode == CURL_REFUSED
    machine.run("curl", "--silent", "--fail", "--unix-socket", SOCKET, "http://localhost/openapi.json")


def test_nobody_takes_the_address_of_the_api_while_the_package_is_upgraded(site):
    machine = site.machine
    site.configure(api={"listen": ["127.0.0.1:8095"]})
    site.hold_addresses()
    assert machine.run("python3", "-c", SQUAT, "8094", "0.2", user="stranger").stdout != "taken 0\n"
    before = site.main_pid("waportd")
    upgrade = f"for i in 1 2; do dpkg --force-confdef,confold --install {site.package}; done"
    machine.run("systemd-run", "--quiet", "--unit=upgrade", "--property=Type=exec", "sh", "-ec", upgrade)
    rounds = 0
    while machine.show("upgrade", "ActiveState") == "active":
        rounds += 1
        assert machine.run("python3", "-c", SQUAT, "8095", "2", user="stranger").stdout == "taken 0\n"
    assert rounds
    assert machine.show("upgrade", "Result") == "success"
    assert site.main_pid("waportd") != before, "it was not restarted"
    machine.run("curl", "--silent", "--fail", "--max-time", "20", "http://127.0.0.1:8095/openapi.json")


CALL = f"""
while :; do
    curl --silent --max-time 1 http://127.0.0.1:8098/v1/health
    curl --silent --max-time 1 --unix-socket {SOCKET} http://localhost/v1/health
    sleep 0.05
done
"""


def test_nobody_takes_the_address_of_the_api_while_the_daemon_cannot_start(site):
    """Who calls starts it, and it ends at once: systemd gives up a socket by which that happens too often."""
    machine = site.machine
    site.configure(api={"listen": ["127.0.0.1:8098"]})
    site.hold_addresses()
    fine = machine.run("cat", CONFIG).stdout
    machine.run("tee", CONFIG, given="no: configuration\n")
    assert machine.run("systemctl", "restart", "waportd", check=False).returncode
    for number in range(4):
        machine.run("systemd-run", "--quiet", f"--unit=call-{number}", "sh", "-c", CALL)
    try:
        assert machine.run("python3", "-c", SQUAT, "8098", "6", user="stranger").stdout == "taken 0\n"
        assert machine.systemctl("is-active", "waportd-tcp.socket") == "active"
        said = machine.run("waportctl", "doctor", "--offline", check=False)
        assert said.returncode
    finally:
        machine.run("tee", CONFIG, given=fine)
        machine.systemctl("stop", "call-*")
    machine.systemctl("restart", "waportd")
    machine.run("curl", "--silent", "--fail", "--max-time", "20", "http://127.0.0.1:8098/openapi.json")


def test_doctor_fails_where_systemd_does_not_hold_the_address(site):
    machine = site.machine
    site.configure(api={"listen": ["127.0.0.1:8096"]})
    machine.run("sh", "-c", "systemctl disable --now waportd-tcp.socket 2>/dev/null || true")
    found = json.loads(machine.run("waportctl", "doctor", "--offline", "--json", check=False).stdout)[
        "findings"
    ]
    told = [one["message"] for one in found if one["verdict"] == "fail"]
    assert any("127.0.0.1:8096" in message for message in told), told
    site.configure(api={})


UID, OTHER_UID = 61204, 61205


def test_a_web_app_with_a_dynamic_user_is_let_in_where_it_is_named(site):
    """And one that is not named is refused by the servers, as every other session is."""
    machine = site.machine
    group = machine.run("getent", "group", "waportd").stdout.split(":")[2]

    def start(name, owner):
        """Have the service get that user id: it takes who its folder belongs to (systemd.exec(5))."""
        machine.run("install", "--directory", f"--owner={owner}", f"/var/lib/private/{name}")
        how = (
            f"--unit={name}",
            "--property=Type=exec",
            f"--property=User={name}",
            "--property=DynamicUser=yes",
        )
        machine.run("systemd-run", "--quiet", *how, f"--property=StateDirectory={name}", "sleep", "infinity")
        assert uid(name) == owner

    def uid(name):
        return int(machine.run("stat", "--format=%u", f"/proc/{site.main_pid(name)}").stdout)

    def asked(name, *how):
        become = ("setpriv", f"--reuid={uid(name)}", f"--regid={group}", "--clear-groups")
        shown = ("curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", *how)
        return machine.run(*become, *shown).stdout

    def asked_api(name):
        return asked(name, "--unix-socket", SOCKET, "http://localhost/v1/users")

    def asked_server(name):
        return asked(name, f"http://localhost:{port}/status")

    start("named", UID)
    start("unnamed", UID + 10)
    before = machine.run("cat", CONFIG).stdout
    site.use_light_servers()
    site.configure(api={"allow_users": [UID, "webapp"]})
    port = site.call("PUT", "/v1/users/6", 201)["port"]
    assert (asked_api("named"), asked_server("named")) == ("200", "200")
    assert (asked_api("unnamed"), asked_server("unnamed")) == ("403", "403")
    # It has the same one after a restart, also without a folder.
    how = ("--unit=plain", "--property=Type=exec", "--property=DynamicUser=yes")
    machine.run("systemd-run", "--quiet", *how, "sleep", "infinity")
    plain = uid("plain")
    machine.systemctl("restart", "plain")
    assert uid("plain") == plain
    machine.systemctl("stop", "plain")
    # With another user id it is somebody else: to the API until the list is changed, to a server until it starts again.
    machine.systemctl("stop", "named")
    start("named", OTHER_UID)
    assert (asked_api("named"), asked_server("named")) == ("403", "403")
    site.configure(api={"allow_users": [OTHER_UID, "webapp"]})
    assert (asked_api("named"), asked_server("named")) == ("200", "403")
    site.call("POST", "/v1/users/6/restart")
    assert asked_server("named") == "200"
    site.call("DELETE", "/v1/users/6", 204)
    machine.systemctl("stop", "named", "unnamed")
    machine.run("tee", CONFIG, given=before)
    machine.systemctl("reload", "waportd")


ADDRESSES = """
import fcntl, socket, struct, sys
SIOCSIFADDR = 0x8916
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    for number, host in enumerate(sys.argv[1:]):
        address = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(host))
        fcntl.ioctl(any_socket, SIOCSIFADDR, struct.pack("16s16s8x", f"lo:{number}".encode(), address))
"""
REACH = """
import socket, sys
for host in sys.argv[1:]:
    try:
        socket.create_connection((host, 8077), 3).close()
        print("reached", host)
    except OSError:
        print("kept from", host)
"""
LINK_LOCAL, NAME_SERVER = "169.254.77.1", "169.254.77.53"


def reached(machine):
    """Say what a program reaches that runs among the sessions."""
    beside = ("systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--slice=whatsapp.slice")
    return machine.run(
        *beside, "python3", "-c", REACH, LINK_LOCAL, NAME_SERVER, "127.0.0.1"
    ).stdout.splitlines()


def test_sessions_reach_no_link_local_network_but_its_name_server(site, record_property):
    machine = site.machine
    machine.run("python3", "-c", ADDRESSES, LINK_LOCAL, NAME_SERVER)
    serve = ("python3", "-m", "http.server", "8077", "--directory", "/usr/share/doc/waportd")
    machine.run("systemd-run", "--quiet", "--unit=everywhere", *serve)
    listens = "until curl --silent --output /dev/null http://127.0.0.1:8077; do sleep 0.1; done"
    machine.run("timeout", "30", "sh", "-c", listens)

    def told():
        shown = machine.run(
            "systemctl", "show", "whatsapp.slice", "-p", "IPAddressDeny", "-p", "IPAddressAllow"
        )
        return dict(line.split("=", 1) for line in shown.stdout.splitlines())

    until(lambda: "169.254.0.0/16" in told()["IPAddressDeny"].split(), "the networks to be denied")
    assert told()["IPAddressAllow"] == ""
    before = machine.run("cat", "/etc/resolv.conf").stdout
    machine.run("tee", "/etc/resolv.conf", given=f"{before}nameserver {NAME_SERVER}\n")
    until(lambda: told()["IPAddressAllow"] == f"{NAME_SERVER}/32", "the name server to be within reach")
    # Most of these machines may not have the kernel filter (bpf(2)): what doctor says of it is true in either case.
    said = machine.run("waportctl", "doctor", "--offline", check=False).stdout
    works = "ok    networks       sessions are kept from" in said
    assert works != ("the kernel does not keep sessions from" in said), said
    if not works:
        record_property(
            "succeeds here", f"sessions reach {LINK_LOCAL}: the kernel has no filter for it (bpf)"
        )
    assert reached(machine) == [
        f"{'kept from' if works else 'reached'} {LINK_LOCAL}", f"reached {NAME_SERVER}", "reached 127.0.0.1",
    ]  # fmt: skip
    # A configuration with faults changes nothing of it, but a name server is within reach all the same.
    fine = machine.run("cat", CONFIG).stdout
    machine.run("tee", CONFIG, given="no: configuration\n")
    machine.run("tee", "/etc/resolv.conf", given="nameserver 169.254.77.54\n")
    until(lambda: told()["IPAddressAllow"] == "169.254.77.54/32", "the other name server to be within reach")
    assert "169.254.0.0/16" in told()["IPAddressDeny"].split()
    machine.run("tee", CONFIG, given=fine)
    machine.run("tee", "/etc/resolv.conf", given=before)
    until(lambda: told()["IPAddressAllow"] == "", "no name server to need it")


def test_name_servers_that_change_while_the_last_change_is_ending_count(site):
    machine = site.machine
    slow = "/run/systemd/system/whatsapp-networks.service.d/slow.conf"
    machine.run("mkdir", "--parents", slow.rpartition("/")[0])
    machine.run("tee", slow, given="[Service]\nExecStopPost=/bin/sleep 3\n")
    machine.systemctl("daemon-reload")
    before = machine.run("cat", "/etc/resolv.conf").stdout
    machine.run("tee", "/etc/resolv.conf", given="nameserver 169.254.77.55\n")
    until(lambda: machine.show("whatsapp-networks.service", "SubState") == "stop-post", "the end of a run")
    machine.run("tee", "/etc/resolv.conf", given="nameserver 169.254.77.56\n")
    shown = "169.254.77.56/32"
    until(
        lambda: machine.show("whatsapp.slice", "IPAddressAllow") == shown, "the last one to be within reach"
    )
    machine.run("tee", "/etc/resolv.conf", given=before)
    machine.run("rm", "-r", slow.rpartition("/")[0])
    machine.systemctl("daemon-reload")
    until(lambda: machine.show("whatsapp.slice", "IPAddressAllow") == "", "no name server to need it")


CURL_REFUSED, CURL_TIMED_OUT = 7, 28

LISTEN = """
import ctypes, errno, socket, subprocess, sys
TRIED = [
    ("ipv4", socket.AF_INET, ("127.0.0.1", 5031)),
    ("ipv6", socket.AF_INET6, ("::1", 5031)),
    ("any", socket.AF_INET, ("0.0.0.0", 5032)),
]
for name, family, address in TRIED:
    with socket.socket(family) as server, socket.socket(family) as caller:
        server.bind(address)
        server.listen()
        print(name, errno.errorcode.get(caller.connect_ex(address), "connected"))
libc = ctypes.CDLL(None, use_errno=True)
ring = libc.syscall(425, 1, ctypes.create_string_buffer(120))  # io_uring_setup(2)
print("ring", "made" if ring >= 0 else errno.errorcode[ctypes.get_errno()])
"""
"""Listens in every way there is, and prints whether somebody was connected."""


def test_a_session_gets_no_connection_but_through_the_sockets_of_systemd(two_sessions):
    machine = two_sessions.machine
    barred = ("SystemCallFilter=", "SystemCallErrorNumber=", "SystemCallArchitectures=", "NoNewPrivileges=")
    unit = machine.systemctl("cat", server(5001)).splitlines()
    lines = [
        "[Service]", "Type=oneshot", "DynamicUser=yes", "ExecStart=python3 /run/listen.py",
        "StandardOutput=truncate:/run/listened", *(line for line in unit if line.startswith(barred)),
    ]  # fmt: skip
    machine.run("tee", "/run/listen.py", given=LISTEN)
    machine.run("tee", "/run/systemd/system/listen.service", given="\n".join(lines))
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "listen.service")
    outcomes = dict(line.split() for line in machine.run("cat", "/run/listened").stdout.splitlines())
    assert outcomes == dict.fromkeys(("ipv4", "ipv6", "any"), "ECONNREFUSED") | {"ring": "EPERM"}
    # That the attempts are good ones: without these bars they succeed.
    assert machine.run("python3", "/run/listen.py").stdout.count("connected") == 3


BIND = """
import errno, socket, sys, time
families = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}
kept = []
for host, family in families.items():
    one = socket.socket(family)
    try:
        one.bind((host, int(sys.argv[1])))
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
    else:
        print("bound", flush=True)
        kept.append(one)
if kept:
    time.sleep(3600)
"""
"""Keeps a port without listening on it."""


def test_a_session_keeps_no_port_from_a_user(two_sessions, record_property):
    """It cannot bind one where systemd has libbpf, as that of Debian 13; elsewhere there is a way round it."""
    site = two_sessions
    machine = site.machine
    # Without a server, whose connections would keep the port for a minute longer (TIME_WAIT).
    site.call("GET", "/api/port?user_id=4")
    port = site.call("POST", "/v1/users/4/stop")["port"]
    unit = machine.systemctl("cat", server(5001)).splitlines()
    lines = [
        "[Service]", "Type=exec", "DynamicUser=yes", f"ExecStart=python3 /run/bind.py {port}",
        "StandardOutput=truncate:/run/bound", *(line for line in unit if line.startswith("SocketBindDeny=")),
    ]  # fmt: skip
    machine.run("tee", "/run/bind.py", given=BIND)
    machine.run("tee", "/run/systemd/system/bind.service", given="\n".join(lines))
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "bind.service")
    tried = until(
        lambda: len(said := machine.run("cat", "/run/bound").stdout.split()) == 2 and said, "both attempts"
    )
    if "+BPF_FRAMEWORK" in machine.systemctl("--version"):
        assert tried == ["EPERM", "EPERM"]
        # That the attempts are good ones: without that bar they succeed.
        assert (
            machine.run("timeout", "1", "python3", "/run/bind.py", str(port), check=False).stdout
            == "bound\n" * 2
        )
        assert site.call("PUT", "/v1/users/4")["port"] == port
    else:
        record_property("succeeds here", "a session binds a port: this systemd is built without libbpf")
        assert tried == ["bound", "bound"]
        held = site.ask("PUT", "/v1/users/4").json
        assert held["code"] == "port_held"
        assert "does not listen" in held["detail"]
        assert "waportctl move" in held["hint"]
        moved = site.call("POST", "/v1/users/4/move", body={})
        assert moved["port"] != port
        assert site.call("PUT", "/v1/users/4")["process"]["state"] == "running"
        # And who is new gets another one.
        site.call("DELETE", "/v1/users/4", 204)
        assert site.call("PUT", "/v1/users/4", 201)["port"] != port
        machine.systemctl("stop", "bind.service")
    site.call("DELETE", "/v1/users/4", 204)


LURE = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.chdir(sys.argv[1])
def tried(name, result):
    print(name, "made" if result >= 0 else errno.errorcode[ctypes.get_errno()])
AT_FDCWD, MODE = -100, 0o010600
tried("link", libc.symlink(b"/root/secret", b"a.env"))
tried("link-at", libc.symlinkat(b"/root/secret", AT_FDCWD, b"b.env"))
tried("pipe", libc.mkfifo(b"c.env", 0o600))
tried("pipe-at", libc.mknodat(AT_FDCWD, b"d.env", MODE, 0))
tried("ring", libc.syscall(425, 1, ctypes.create_string_buffer(120)))  # io_uring_setup(2)
"""
"""Makes what PID 1 would follow, or wait at, in every way there is."""


@pytest.mark.parametrize("unit", ["waportd.service", "whatsapp-pause@5001.service"])
def test_what_runs_as_the_daemons_user_makes_no_link_and_no_pipe(site, unit):
    """PID 1 reads the environments in its folder as root."""
    machine = site.machine
    barred = ("SystemCallFilter=", "SystemCallErrorNumber=", "SystemCallArchitectures=", "NoNewPrivileges=")
    lines = [
        "[Service]", "Type=oneshot", "User=waportd", "ExecStart=python3 /run/lure.py /var/lib/waportd/lure",
        "StandardOutput=truncate:/run/lured",
        *(line for line in machine.systemctl("cat", unit).splitlines() if line.startswith(barred)),
    ]  # fmt: skip
    machine.run("install", "--directory", "--owner=waportd", "/var/lib/waportd/lure", "/run/lure")
    machine.run("tee", "/run/lure.py", given=LURE)
    machine.run("tee", "/run/systemd/system/lure.service", given="\n".join(lines))
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "lure.service")
    outcomes = dict(line.split() for line in machine.run("cat", "/run/lured").stdout.splitlines())
    assert outcomes == dict.fromkeys(("link", "link-at", "pipe", "pipe-at", "ring"), "EPERM")
    assert machine.run("ls", "/var/lib/waportd/lure").stdout == ""
    # That the attempts are good ones: without these bars they succeed.
    assert machine.run("python3", "/run/lure.py", "/run/lure").stdout.count("made") >= 4
    machine.run("rm", "--recursive", "/run/lure", "/var/lib/waportd/lure")


def test_a_pause_runs_behind_these_bars(site):
    machine, pause = site.machine, "whatsapp-pause@5001.service"
    machine.systemctl("stop", "waportd.service")  # which ends pauses that nobody waits for
    machine.systemctl("start", "--no-block", pause)
    until(lambda: machine.show(pause, "SubState") == "start" and site.main_pid(pause), "the pause")
    shown = f"/proc/{site.main_pid(pause)}"
    until(lambda: "sleep" in machine.run("cat", f"{shown}/cmdline").stdout, "its program")
    assert "Seccomp:\t2" in machine.run("cat", f"{shown}/status").stdout
    assert machine.run("stat", "--format=%U", shown).stdout == "waportd\n"
    machine.systemctl("stop", pause)
    assert machine.show(pause, "Result") == "success"
    machine.systemctl("start", "waportd.service")


POSE = """
import http.server, socket, sys, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"qr": "2@ATTACKERS-CODE", "hasQr": true, "status": "waiting"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
class IPv6(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
for port in sys.argv[1:]:
    for kind, host in (http.server.ThreadingHTTPServer, "127.0.0.1"), (IPv6, "::1"):
        threading.Thread(target=kind((host, int(port)), Answer).serve_forever).start()
"""
"""Answers as a user's server does, with a code of its own."""
ASKED = """
import sys
from waportd.client import WaportdClientError
from waportd.compat import get_whatsapp_server_url
try:
    print(get_whatsapp_server_url(int(sys.argv[1])))
except WaportdClientError as error:
    print(type(error).__name__, error.cause)
"""


def test_a_stranger_on_the_port_of_a_stopped_or_future_user_is_named_to_nobody(site):
    machine = site.machine
    site.call("PUT", "/v1/users/4", 201)
    site.call("POST", "/v1/users/4/stop")
    pose = ("--unit=pose", "--uid=stranger", "/usr/bin/python3", "-c", POSE, "5004", "5009")
    machine.run("systemd-run", "--quiet", *pose)
    for port in (5004, 5009):
        shown = ("curl", "--silent", "--retry", "20", "--retry-connrefused", f"http://localhost:{port}/qr")
        # That the attempt is a good one: a program that computes the port believes it.
        assert "ATTACKERS" in machine.run(*shown, user="webapp").stdout

    def asked(port):
        return machine.run("python3", "-c", ASKED, str(port), user="webapp").stdout.strip()

    def refused(cause):
        told = site.call("GET", "/api/port?user_id=4")
        assert (told["success"], told["port"], told["cause"]) == (False, None, cause)
        assert "url" not in told
        assert site.call("GET", "/v1/users/4")["url"] is None
        assert asked(5004) == f"Conflict {cause}"
        for path in ("/api/qr?user_id=4", "/v1/users/4/qr", "/v1/users/4"):
            assert "ATTACKERS" not in str(site.call("GET", path))

    refused("stopped")
    held = site.ask("PUT", "/v1/users/4").json
    assert held["code"] == "port_held"
    assert "stranger" in held["detail"]
    refused("port_held")

    new = site.call("PUT", "/v1/users/9", 201)
    assert new["port"] != 5009
    assert site.call("GET", "/api/port?user_id=9")["url"] == new["url"] == f"http://localhost:{new['port']}"
    assert asked(5009) == new["url"]

    machine.systemctl("stop", "pose")
    assert site.call("PUT", "/v1/users/4")["url"] == "http://localhost:5004"
    assert asked(5004) == "http://localhost:5004"
    for user in ("4", "9"):
        site.call("DELETE", f"/v1/users/{user}", 204)
