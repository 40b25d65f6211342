"""What breaks, in a machine with a linked phone and a web app that never stops asking: it is repaired, and nothing is lost."""

import itertools
import json
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from disks import fill, make_room, small_disk
from faults import PORT, SERVICE, UNANSWERED, USER, Witness, belongings, is_linked, lived_through, release
from harness import STATE, until
from rows import EVERYTHING, MACHINES, Row, note
from testbed import guests

from waportd.config import Limits

STORE = "/var/lib/waportd"
RELEASES = guests.RELEASES if EVERYTHING else guests.RELEASES[-1:]


def kill(site, pid, signal="KILL"):
    site.machine.run("sh", "-c", f"kill -{signal} {pid}")


def until_anew(site, unit, before):
    """Wait until a unit has another main process."""
    until(lambda: site.main_pid(unit) not in {0, before}, f"the restart of {unit}")


def processes(site, pattern):
    """Return the processes of user 1's server whose command line matches."""
    group = site.machine.show(SERVICE, "ControlGroup")
    # Between two processes of a server there is no group.
    pids = site.machine.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs", check=False).stdout.split()
    found = []
    for pid in pids:
        line = site.machine.run("cat", f"/proc/{pid}/cmdline", check=False).stdout.replace("\0", " ")
        if re.search(pattern, line):
            found.append(int(pid))
    return found


LOOPS = 180
"""Seconds within which servers that crash again and again have been started three times each."""
FOUND = 150
"""Seconds within which a page or browser that stands still is replaced, however busy it may have been."""


def until_another(site, pattern, before):
    """Wait until a process of user 1's server has gone, and there is another one like it."""
    until(
        lambda: (now := processes(site, pattern)) and before not in now,
        f"another process than {before}",
        FOUND,
    )


MORE = {"3": "5511999990003", "4": "5511999990004"}
"""Users who are linked beside the first where it is about all of them, and their phones."""
BACK_WITHIN = 120.0
"""Seconds within which all are back when what kept them down is gone."""
NODE = r"whatsapp_server\.js"
BROWSER = r"headless.shell(?!.*--type=)"
RENDERER = r"--type=renderer"


@pytest.mark.parametrize(
    ("fault", "victim"),
    [
        ("node", NODE),
        ("the browser's main process", BROWSER),
        ("the browser's page", RENDERER),
    ],
)
def test_a_killed_part_of_a_session_is_back_automatically(linked, fault, victim):
    server = linked.main_pid(SERVICE)
    with lived_through(linked, f"kill -9: {fault}") as lived:
        before = processes(linked, victim)[-1]
        kill(linked, before)
        until_another(linked, victim, before)
    # A browser, and a page in it, are replaced by the server, which lives on.
    assert (linked.main_pid(SERVICE) == server) is (victim != NODE)
    assert lived.failed("API") == []
    assert set(lived.failed("port")) <= UNANSWERED
    assert len(lived.failed("port")) <= 1


def test_a_killed_session_is_back_automatically(linked):
    with lived_through(linked, "kill -9: the whole group") as lived:
        linked.machine.systemctl("kill", "--signal=KILL", SERVICE)
    assert lived.failed("API") == []
    assert set(lived.failed("port")) <= UNANSWERED
    assert len(lived.failed("port")) <= 1


@pytest.mark.parametrize(("fault", "victim"), [("node", NODE), ("the browser", BROWSER)])
def test_a_part_that_stands_still_is_found(linked, fault, victim):
    with lived_through(linked, f"SIGSTOP: {fault}") as lived:
        before = processes(linked, victim)[-1]
        kill(linked, before, "STOP")
        until_another(linked, victim, before)
    assert lived.failed("API") == []
    assert set(lived.failed("port")) <= UNANSWERED


@pytest.fixture
def three_linked(linked):
    """Two more users are linked, and one of all may start at a time."""
    limits = {"min_available_memory": 0}
    linked.configure(limits=limits | {"start_concurrency": 1})
    for user, phone in MORE.items():
        linked.link(user, phone)
    yield linked
    for user in MORE:
        linked.call("DELETE", f"/v1/users/{user}", 204)
    linked.configure(limits=limits)


def sessions(site):
    users = {row["user"]: row["session"] for row in site.call("GET", "/v1/users")["users"]}
    return [users[user] or {"state": None, "message": "", "cause": None} for user in (USER, *MORE)]


def begins(session):
    """Return whether a session opens a browser, and is not ready."""
    said = session["message"]
    waits = said == "starting" or "waiting for its turn" in said or "next try at" in said
    return session["state"] not in {None, "ready"} and not waits


def test_all_whose_disk_is_full_are_back_automatically_when_it_is_not(three_linked):
    site = three_linked
    servers = " ".join(f"whatsapp@500{user}.service" for user in (USER, *MORE))
    with small_disk(site, STATE, "256m", f"systemctl stop {servers}", f"systemctl start {servers}"):
        until(lambda: {session["state"] for session in sessions(site)} == {"ready"}, "all sessions")
        fill(site, STATE)
        began = time.monotonic()
        site.machine.systemctl("kill", "--signal=KILL", *servers.split())
        until(lambda: {session["cause"] for session in sessions(site)} == {"disk_full"}, "the reason")
        most = 0

        def all_are_back():
            nonlocal most
            now = sessions(site)
            most = max(most, sum(map(begins, now)))
            return {session["state"] for session in now} == {"ready"}

        assert not all_are_back()
        make_room(site, STATE)
        room = time.monotonic()
        until(all_are_back, "the return of all", BACK_WITHIN)
        back = time.monotonic()
    # What a turn leaves behind may be heard a moment later than that the next one has begun.
    assert most <= 2
    saw = f"all back automatically {back - room:.1f} s after there was room, one at a time"
    fault = "the disk of three linked sessions is full, and their servers are killed"
    note(Row(release(site), fault, saw, round(back - began, 1)), MACHINES)


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_a_daemon_that_dies_or_stands_still_is_back_and_no_session_notices(linked, signal):
    server = linked.main_pid(SERVICE)
    with lived_through(linked, f"{'kill -9' if signal == 'KILL' else 'SIGSTOP'}: the daemon") as lived:
        before = linked.main_pid("waportd.service")
        kill(linked, before, signal)
        until_anew(linked, "waportd.service", before)
    assert lived.failed("port") == []
    assert set(lived.failed("API")) <= UNANSWERED
    assert linked.main_pid(SERVICE) == server


def test_a_daemon_killed_while_it_stops_or_while_a_server_starts_takes_nothing_with_it(linked):
    server = linked.main_pid(SERVICE)
    for fault, command in (
        ("while it stops", "systemctl restart --no-block waportd"),
        (
            "while a server starts",
            "curl -s --unix-socket /run/waportd/api.sock -X POST http://l/v1/users/2/restart",
        ),
    ):
        with lived_through(linked, f"kill -9: the daemon, {fault}") as lived:
            # One that stops may be gone by then, in order.
            before = linked.main_pid("waportd.service")
            linked.machine.run("sh", "-c", f"{command} >/dev/null & sleep 0.01; kill -9 {before} || true")
            until_anew(linked, "waportd.service", before)
            until(
                lambda: linked.call("GET", "/v1/users/2")["process"]["state"] == "running", "user 2's server"
            )
        assert lived.failed("port") == []
        assert set(lived.failed("API")) <= UNANSWERED
        assert linked.main_pid(SERVICE) == server


def delete(site, users):
    """Delete users, several at a time."""
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda user: site.ask("DELETE", f"/v1/users/{user}"), users))
    assert [answer for answer in answers if answer.status != 204] == []


def test_a_daemon_killed_while_it_assigns_ports_gives_each_to_one_user(linked):
    """Whatever moment the kill meets: what was answered holds, and no port has two owners."""
    answered = {}
    for moment in range(40 if EVERYTHING else 2):
        users = [f"churn_{moment}_{number}" for number in range(4)]
        with lived_through(linked, "kill -9: the daemon, during assignments"):
            before = linked.main_pid("waportd.service")
            kill_soon = f"sleep {moment % 8 * 0.03:.2f}; kill -9 {before}"
            calls = "; ".join(
                f"curl -s --unix-socket /run/waportd/api.sock -X PUT 'http://l/v1/users/{user}?wait=none' &"
                for user in users
            )
            said = linked.machine.run("sh", "-c", f"({kill_soon}) & {calls.replace('&;', '&')} wait").stdout
            until_anew(linked, "waportd.service", before)
            answered |= dict(re.findall(r'"user": "(churn_\w+)", "port": (\d+)', said))
            # What was begun continues or is asked for again.
            for user in users:
                linked.ask("PUT", f"/v1/users/{user}?wait=none")
        owners = {row["user"]: row["port"] for row in linked.call("GET", "/v1/users")["users"]}
        assert len(set(owners.values())) == len(owners)
        assert {user: str(owners.get(user)) for user in answered} == answered
    delete(linked, [user for user in owners if user.startswith("churn")])


@pytest.mark.parametrize("victim", ["dbus.service", "polkit.service", "systemd-journald.service"])
def test_a_killed_service_of_the_system_costs_no_session(linked, victim):
    server = linked.main_pid(SERVICE)
    with lived_through(linked, f"kill -9: {victim.removesuffix('.service')}") as lived:
        linked.machine.systemctl("kill", "--signal=KILL", victim)
        linked.machine.systemctl("start", victim)
        # It can still do what needs all of them.
        until(lambda: linked.ask("POST", "/v1/users/2/restart").status == 200, "a restart over D-Bus")
    assert lived.failed("port") == []
    assert linked.main_pid(SERVICE) == server


@pytest.mark.parametrize("verb", ["daemon-reexec", "daemon-reload"])
def test_systemd_may_restart_itself_at_any_moment(linked, verb):
    server = linked.main_pid(SERVICE)
    with lived_through(linked, f"systemctl {verb}, while a user is started") as lived:
        linked.machine.run(
            "sh", "-c",
            f"for i in 1 2 3; do systemctl {verb}; "
            "curl -sf --unix-socket /run/waportd/api.sock -X POST http://l/v1/users/2/restart >/dev/null & done; wait",
        )  # fmt: skip
    assert lived.failed("API") == lived.failed("port") == []
    assert linked.main_pid(SERVICE) == server


def test_a_store_on_a_full_or_read_only_disk_refuses_and_loses_nothing(linked):
    machine = linked.machine
    machine.run(
        "sh", "-c",
        f"systemctl stop waportd.service waportd.socket && cp -a {STORE} /run/kept && "
        f"mount -t tmpfs -o size=256k,mode=700 tmpfs {STORE} && cp -a /run/kept/. {STORE}/ && "
        "systemctl start waportd.socket waportd.service",
    )  # fmt: skip
    try:
        with lived_through(linked, "the store's disk is full"):
            machine.run("sh", "-c", f"cat /dev/zero > {STORE}/filling 2>/dev/null; true")
            refused = linked.ask("PUT", "/v1/users/full?wait=none")
            assert refused.status == 507
            assert "disk" in refused.json["hint"]
            assert linked.ask("GET", "/v1/users/full").status == 404
            machine.run("rm", f"{STORE}/filling")
            linked.call("PUT", "/v1/users/full?wait=none", 201)
            linked.ask("DELETE", "/v1/users/full")
        with lived_through(linked, "the store's disk is read-only"):
            machine.run(
                "sh",
                "-c",
                f"systemctl kill --signal=KILL waportd; until mount -o remount,ro {STORE}; do :; done",
            )
            until(
                lambda: "cannot be written" in machine.journal("--unit=waportd", "--lines=20"), "the reason"
            )
            machine.run("mount", "-o", "remount,rw", STORE)
    finally:
        machine.run(
            "sh", "-c",
            f"systemctl stop waportd.service waportd.socket; cp -a {STORE}/. /run/kept/; umount {STORE}; "
            f"cp -a /run/kept/. {STORE}/; rm -r /run/kept; systemctl start waportd.socket waportd.service",
        )  # fmt: skip


def test_a_damaged_store_is_named_and_sessions_run_on_until_it_is_restored(linked):
    machine = linked.machine
    server = linked.main_pid(SERVICE)
    with lived_through(linked, "the store is overwritten; the administrator restores a backup") as lived:
        machine.run(
            "sh", "-c", f"cp -a {STORE}/waportd.db /run/backup.db; head -c 8192 /dev/urandom > /run/garbage"
        )
        machine.run(
            "sh", "-c", f"cat /run/garbage > {STORE}/waportd.db; systemctl restart waportd.service || true"
        )
        until(
            lambda: f"{STORE}/waportd.db is damaged" in machine.journal("--unit=waportd", "--lines=50"),
            "the daemon to name the file",
        )
        machine.run(
            "sh", "-c",
            f"systemctl stop waportd.service; cp -a /run/backup.db {STORE}/waportd.db; "
            "systemctl reset-failed waportd.service; systemctl start waportd.socket waportd.service",
        )  # fmt: skip
    assert lived.failed("port") == []
    assert linked.main_pid(SERVICE) == server


@pytest.mark.parametrize(
    ("fault", "damage"),
    [
        ("deleted", "rm {file}"),
        ("garbled", "head -c 300 /dev/urandom > {file}"),
        ("a link to another file", "mv {file} {file}.kept; ln -s {file}.kept {file}"),
        ("unreadable, and of another owner", "chown root:root {file}; chmod 0 {file}"),
    ],
)
def test_a_damaged_environment_file_is_written_again(linked, fault, damage):
    file = f"{STORE}/instances/{PORT}.env"
    with lived_through(linked, f"a server's environment file is {fault}; then the server is restarted"):
        linked.machine.run("sh", "-c", damage.format(file=file))
        linked.call("POST", f"/v1/users/{USER}/restart")
    assert linked.machine.run("stat", "--format=%U %a", file).stdout == "waportd 600\n"


def test_what_the_administrator_does_to_a_unit_is_reported_and_not_fought(linked):
    with lived_through(linked, "systemctl kill, restart, stop and start, behind the daemon's back"):
        for verb in ("kill", "restart", "stop", "start"):
            linked.machine.systemctl(verb, SERVICE)
    with lived_through(linked, "a drop-in breaks the unit; the administrator removes it"):
        folder = f"/run/systemd/system/{SERVICE}.d"
        linked.machine.run("mkdir", "-p", folder)
        linked.machine.run(
            "tee", f"{folder}/broken.conf", given="[Service]\nExecStart=\nExecStart=/nonexistent\n"
        )
        linked.machine.systemctl("daemon-reload")
        refused = linked.ask("POST", f"/v1/users/{USER}/restart")
        assert refused.status == 502
        assert refused.json["hint"]
        linked.machine.run("rm", "-r", folder)
        linked.machine.systemctl("daemon-reload")
        linked.call("POST", f"/v1/users/{USER}/start")
    with lived_through(linked, "the unit is masked; the administrator unmasks it"):
        linked.call("POST", f"/v1/users/{USER}/stop")
        linked.machine.systemctl("mask", "--runtime", "--quiet", SERVICE)
        refused = linked.ask("POST", f"/v1/users/{USER}/start")
        assert refused.status in {409, 502}
        assert "unmask" in refused.json["hint"]
        linked.machine.systemctl("unmask", "--runtime", "--quiet", SERVICE)
        linked.call("POST", f"/v1/users/{USER}/start")


def test_a_foreign_program_on_the_port_is_named_and_when_it_ends_all_is_well(linked):
    with lived_through(linked, "a foreign program takes the port of a stopped user; then it ends"):
        linked.call("POST", f"/v1/users/{USER}/stop")
        linked.machine.run(
            "systemd-run",
            "--quiet",
            "--unit=intruder",
            "/usr/bin/python3",
            "-m",
            "http.server",
            str(PORT),
            "--bind",
            "127.0.0.1",
        )
        until(lambda: linked.call("GET", f"/v1/ports/{PORT}")["held"], "the intruder")
        refused = linked.ask("POST", f"/v1/users/{USER}/start")
        assert refused.status == 409
        assert refused.json["code"] == "port_held"
        assert "root" in refused.json["detail"]
        linked.machine.systemctl("stop", "intruder")
        linked.call("POST", f"/v1/users/{USER}/start")


INTRUDER = f"""
import socket, time
while True:
    for family, host in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
        with socket.socket(family) as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                own.bind((host, {PORT}))
                own.listen()
            except OSError:
                continue
            raise SystemExit("it has the port")
    time.sleep(0.001)
"""


def test_a_foreign_program_that_tries_all_the_time_never_gets_the_port_of_a_user(linked):
    machine = linked.machine
    machine.run("systemd-run", "--quiet", "--unit=intruder", "/usr/bin/python3", "-c", INTRUDER)
    with lived_through(
        linked, "a foreign program tries to take the port, while the server is killed"
    ) as lived:
        before = linked.main_pid(SERVICE)
        machine.systemctl("kill", "--signal=KILL", SERVICE)
        until_anew(linked, SERVICE, before)
        linked.call("POST", f"/v1/users/{USER}/restart")
    assert machine.systemctl("is-active", "intruder") == "active"
    machine.systemctl("stop", "intruder")
    assert lived.failed("API") == []
    assert set(lived.failed("port")) <= UNANSWERED


def test_a_new_user_whose_port_a_foreign_program_holds_gets_another_and_learns_why(linked):
    with lived_through(linked, "a foreign program holds the port that a new user prefers") as lived:
        linked.machine.run(
            "systemd-run", "--quiet", "--unit=intruder",
            "/usr/bin/python3", "-m", "http.server", "5009", "--bind", "127.0.0.1",
        )  # fmt: skip
        until(lambda: linked.call("GET", "/v1/ports/5009")["held"], "the intruder")
        assigned = linked.call("PUT", "/v1/users/9", 201)
        assert assigned["port"] != 5009
        assert assigned["note"].startswith("port 5009 is held by")
        linked.machine.systemctl("stop", "intruder")
        assert linked.call("PUT", "/v1/users/9")["port"] == assigned["port"]
        linked.call("DELETE", "/v1/users/9", 204)
    assert lived.failed("API") == lived.failed("port") == []


def test_a_socket_that_the_administrator_stops_stays_closed_until_somebody_starts_the_user(linked):
    with lived_through(linked, "the socket is stopped by hand; then the user is started") as lived:
        linked.machine.systemctl("stop", f"whatsapp@{PORT}.socket")
        shown = until(
            lambda: (
                (now := linked.call("GET", f"/v1/users/{USER}")["process"])["message"] == "stopped (by admin)"
                and now
            ),
            "the stop",
        )
        assert shown["hint"] == f"`POST /v1/users/{USER}/start` starts it"
        page = linked.call("GET", f"/api/qr?user_id={USER}")
        assert (page["status"], page["error"]) == ("error", "stopped (by admin)")
        assert linked.machine.systemctl("is-active", SERVICE, check=False) == "inactive"
        linked.call("POST", f"/v1/users/{USER}/start")
    assert lived.failed("API") == []
    assert set(lived.failed("port")) <= {"ConnectionRefusedError"} | UNANSWERED


def nice(site):
    """Return the nice value of user 1's server (proc(5))."""
    stat = site.machine.run("cat", f"/proc/{site.main_pid(SERVICE)}/stat").stdout
    return int(stat.rpartition(")")[2].split()[16])


def test_what_the_administrator_edits_holds_from_the_next_start(linked):
    machine = linked.machine
    with lived_through(
        linked, "systemctl edit of one user's server, a restart, and systemctl revert"
    ) as lived:
        # Between the comments that it is given, and named last.
        editor = "#!/bin/sh\nfor file; do :; done\nsed -i '2a [Service]\\nNice=5' \"$file\"\n"
        machine.run("tee", "/run/editor", given=editor)
        machine.run("chmod", "+x", "/run/editor")
        before = linked.main_pid(SERVICE)
        # It wants a terminal.
        machine.run("script", "-qec", f"SYSTEMD_EDITOR=/run/editor systemctl edit {SERVICE}", "/dev/null")
        assert linked.main_pid(SERVICE) == before
        linked.call("POST", f"/v1/users/{USER}/restart")
        assert nice(linked) == 5
        machine.systemctl("revert", SERVICE)
        linked.call("POST", f"/v1/users/{USER}/restart")
        assert nice(linked) == 0
    assert lived.failed("API") == []
    assert set(lived.failed("port")) <= UNANSWERED


@pytest.mark.parametrize(
    ("fault", "damage"),
    [
        ("deleted", "rm -r {folder}"),
        ("of another owner", "chown -R root:root {folder}"),
    ],
)
def test_a_damaged_session_never_becomes_somebody_elses(linked, fault, damage):
    linked.show_code("3")
    linked.scan(5003, "5511999990003")
    linked.until_session("3", "ready")
    linked.call("POST", "/v1/users/3/stop")
    linked.machine.run("sh", "-c", damage.format(folder="/var/lib/private/whatsapp/5003"))
    linked.show_code("3")
    shown = linked.call("GET", "/v1/users/3")
    # Its own session, which systemd gave back to it, or a new code.
    assert shown["session"]["state"] in ({"qr"} if fault == "deleted" else {"ready", "authenticated"})
    assert shown["session"]["phone_number"] in {None, "5511999990003"}
    linked.ask("DELETE", "/v1/users/3")


def waiting(site):
    """Return the users whose servers end again and again, and of which it is known when they are started next."""
    rows = site.call("GET", "/v1/users")["users"]
    return {
        row["user"]
        for row in rows
        if row["process"]["state"] == "crash_loop" and row["process"]["next_start"] is not None
    }


def test_a_hundred_servers_that_crash_again_and_again_disturb_nobody(linked):
    users = [f"loop_{number}" for number in range(100 if EVERYTHING else 8)]
    with lived_through(linked, f"{len(users)} crash loops at once") as lived:
        for user in users:
            linked.call("GET", f"/api/port?user_id={user}")
        ports = [row["port"] for row in linked.call("GET", "/v1/users")["users"] if row["user"] in users]
        linked.machine.run(
            "sh",
            "-c",
            f"for port in {' '.join(map(str, ports))}; do folder=/run/systemd/system/whatsapp@$port.service.d; "
            "mkdir -p $folder; printf '[Service]\nExecStart=\nExecStart=/bin/false\n' > $folder/loop.conf; done; "
            "systemctl daemon-reload",
        )
        for user in users:
            linked.call("PUT", f"/v1/users/{user}?wait=none")
        # They continue, with pauses from the fourth end on, and for each it is said when it is started next: not for all
        # at one moment, since some of a hundred are always just being started.
        for when in ("", " after a restart of the daemon"):
            told = set()

            def are_told(told=told):
                told |= waiting(linked)
                return told >= set(users)

            until(are_told, f"the loops to be told{when}", LOOPS)
            if not when:
                linked.machine.systemctl("restart", "waportd.service")
        linked.machine.run(
            "sh", "-c", "rm -r /run/systemd/system/whatsapp@2*.service.d; systemctl daemon-reload"
        )
        delete(linked, users)
    assert lived.failed("API") == lived.failed("port") == []


def test_after_a_power_cut_all_that_was_answered_is_there(linked):
    """The plug is pulled while ports are assigned. What the kernel had not written stays in its memory here:
    that the store waits for the disk is tested with the store."""
    answered = {}
    for cut in range(50 if EVERYTHING else 2):
        loop = (
            f"i=0; while :; do i=$((i+1)); curl -s --unix-socket /run/waportd/api.sock "
            f"-X PUT http://l/v1/users/cut_{cut}_$i?wait=none; echo; done"
        )
        with linked.machine.start("sh", "-c", loop) as churn:
            lines = [churn.stdout.readline()]
            # The second power cut meets another moment of the work than the first.
            time.sleep(cut % 10 * 0.13)
            linked.machine.cut_off()
            lines += churn.stdout
        # The last line may be half an answer, which is none.
        documents = [json.loads(line) for line in lines if line.endswith("}\n")]
        # systemd dies some milliseconds before the daemon, which says so.
        answered |= {document["user"]: document["port"] for document in documents if "user" in document}
        linked.machine.boot()
        owners = {row["user"]: row["port"] for row in linked.call("GET", "/v1/users")["users"]}
        assert len(set(owners.values())) == len(owners)
        assert {user: owners.get(user) for user in answered} == answered
    assert len(answered) > cut
    began = time.time()
    until(lambda: is_linked(linked), "the linked session")
    note(
        Row(
            release(linked),
            f"power cut, {cut + 1} times, while ports are assigned",
            f"{len(answered)} answered assignments, all there; the machine boots",
            round(time.time() - began, 1),
        ),
        MACHINES,
    )


MANY = 100 if EVERYTHING else 14


@pytest.fixture(scope="module")
def many(linked):
    """Many linked users and no others, and so without browsers: test_reboot.py has some with."""
    delete(linked, [row["user"] for row in linked.call("GET", "/v1/users")["users"]])
    linked.use_light_servers("/etc/systemd/system")
    put = "curl -s --unix-socket /run/waportd/api.sock -X PUT -o /dev/null"
    linked.machine.run(
        "sh", "-c", f"seq {MANY} | xargs -P 8 -I '<>' {put} 'http://l/v1/users/<>?wait=qr&timeout=100'"
    )
    linked.machine.systemctl("kill", "--kill-who=main", "--signal=USR2", "whatsapp@*.service")
    until(lambda: sum(is_linked for _, _, is_linked in belongings(linked)) == MANY, "the links")
    return linked


def test_a_scan_of_all_ports_opens_no_more_browsers_than_fit(many):
    ports = " ".join(str(port) for _, port, _ in belongings(many))
    limits = {"min_available_memory": 0}
    many.configure(limits=limits | {"max_running": 10})
    many.machine.systemctl("stop", "whatsapp@*.service")

    def rows():
        return many.call("GET", "/v1/users")["users"]

    until(lambda: {row["process"]["state"] for row in rows()} == {"stopped"}, "the servers to sleep")
    many.machine.run(
        "sh",
        "-c",
        f"for port in {ports}; do curl -sf -m 60 http://127.0.0.1:$port/health & done >/dev/null; wait",
    )

    def ready():
        said = [row["session"] for row in rows() if row["session"]]
        full = [each for each in said if "limits.max_running" in each["message"]]
        count = sum(each["state"] == "ready" for each in said)
        assert count <= 10
        return count == 10 and len(full) == MANY - 10

    began = time.time()
    until(ready, "as many as fit, and the others to say what they wait for")
    assert {row["process"]["state"] for row in rows()} == {"running"}
    many.configure(limits=limits)
    until(lambda: all(row["session"]["state"] == "ready" for row in rows()), "all when there is room")
    note(
        Row(
            release(many),
            f"a scan of all ports of {MANY} sleeping users, where limits.max_running is 10",
            "10 sessions begin, the others say that they wait for room; all are ready when there is",
            round(time.time() - began, 1),
        ),
        MACHINES,
    )


def test_after_a_boot_linked_sessions_come_back_few_at_a_time_while_the_daemon_answers(many):
    linked, machine, count = many, many.machine, MANY
    # Who is asked for, or called on his port, waits for no turn: it is this one.
    port = linked.call("PUT", "/v1/users/stopped?wait=none", 201)["port"]
    linked.call("POST", "/v1/users/stopped/stop")
    before = belongings(linked)

    machine.cut_off()
    booted = time.time()
    machine.boot()
    witness = Witness(linked, "stopped", port)
    witness.start()
    ports = until(
        lambda: (
            (
                ready := [
                    row["port"]
                    for row in linked.call("GET", "/v1/users")["users"]
                    if row["session"] and row["session"]["state"] == "ready"
                ]
            )
            and len(ready) == count
            and ready
        ),
        "all sessions",
        patience=300,
    )
    seconds = time.time() - booted
    witness.stop()
    assert belongings(linked) == before
    moments = [
        (moment, step) for port in ports for moment, step in zip(linked.start_of(port), (1, -1), strict=True)
    ]
    most = max(itertools.accumulate(step for _, step in sorted(moments)))
    assert most <= Limits().start_concurrency
    answers = [line for line in witness.noted() if line["what"] == "API"]
    assert {line["said"] for line in answers} == {200}
    p99 = statistics.quantiles([line["took"] for line in answers], n=100)[98]
    assert p99 < 0.5
    note(
        Row(
            release(linked),
            f"{count} linked users at a boot",
            f"never more than {most} start at a time; API meanwhile: all answered, 99 of 100 in {p99 * 1000:.0f} ms",
            round(seconds, 1),
        ),
        MACHINES,
    )
