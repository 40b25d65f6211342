"""What keeps sessions apart, beyond what the table of test_authorization.py tells."""

import pytest
from harness import server

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
"""Tries every way into another process's memory, and prints what came of each."""


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
    """Command lines are public, and what systemd tells of a unit."""
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
    site.configure(api={})
