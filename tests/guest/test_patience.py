"""A linked user is never given up: what passes is survived without help, and what was asked for never counts."""

import datetime as dt
import itertools
import re
import threading
import time

import pytest
from faults import kill_all, note_seen, release
from harness import ROOT, SOCKET, server, until
from memory import shortage
from rows import EVERYTHING
from starting import is_back, lines_of, most_at_a_time, starts, tries
from testbed import guests
from testbed.guests import GuestError

from waportd.model import pause_unit
from waportd.pacer import PAUSES_S, RESTARTS_AT_ONCE, pause_before

RELEASES = guests.RELEASES if EVERYTHING else guests.RELEASES[-1:]
PORT = 5001
UNIT = server(PORT)
NODE = "/usr/bin/node"
PATIENCE = 120.0
"""Seconds within which a user is back when what kept them down is gone."""
TOGETHER = {5002: "5511999990002", 5003: "5511999990003", 5004: "5511999990004"}
"""Ports of sessions with real browsers, all of which a fault hits, and their phones."""
OUTAGE, CRASHES, SHORTAGE = (300, 30, 60) if EVERYTHING else (6, 5, 1)
"""Seconds for which no browser starts, pages crash, and memory is short."""
STARTS_AN_HOUR = 20
LATE_RESTARTS = 4
"""Restarts that may follow those that need not wait until the first pause is there. Each is one less after a pause."""
BROKEN, BROKEN_PORT = "9", 5009
"""A user whose server ends at once, for as long as these tests take."""
HOUR = 3600.0
RENDERER, BROWSER = "--type=renderer", "--user-data-dir=(?!.*--type=)"
MOMENTS = "/var/lib/moments"
"""In this folder each line of the real sessions is, with its moment: the journal has it when it comes to it."""
CLOCK = "/usr/lib/waportd/tests/fast-clock.js"
CALLERS = f"""
while :; do curl --silent --max-time 5 http://localhost:{BROKEN_PORT}/health; sleep 1; done &
while :; do curl --silent --unix-socket {SOCKET} "http://localhost/api/qr?user_id={BROKEN}"; sleep 0.3; done
"""
"""A web app that calls the broken server's port, and a page that polls."""


def drop_in(site, port, text):
    """Change one user's server, from its next start on."""
    folder = f"/run/systemd/system/{server(port)}.d"
    site.machine.run("mkdir", "--parents", folder)
    site.machine.run("tee", f"{folder}/test.conf", given=text)
    site.machine.systemctl("daemon-reload")


@pytest.fixture(scope="module", autouse=True)
def broken(site):
    """The server of one linked user ends at once, while its port is called and its page polls; since when, and starts before."""
    site.use_light_servers(unit=server(BROKEN_PORT))
    site.call("PUT", f"/v1/users/{BROKEN}?wait=listening", 201)
    site.link_light(BROKEN)
    drop_in(site, BROKEN_PORT, "[Service]\nExecStart=\nExecStart=/bin/false\n")
    before, began = begun(site, server(BROKEN_PORT)), time.monotonic()
    site.machine.systemctl("kill", "--kill-whom=main", "--signal=KILL", server(BROKEN_PORT))
    site.machine.run(
        "systemd-run",
        "--quiet",
        "--unit=callers",
        "--uid=webapp",
        "--property=StandardOutput=null",
        "sh",
        "-c",
        CALLERS,
    )
    return before, began


class Together:
    """Linked sessions that a fault hits together, and what their servers say of it."""

    def __init__(self, site):
        self.site = site
        self.began = time.time()

    def shown(self):
        return [row for row in self.site.call("GET", "/v1/users")["users"] if row["port"] in TOGETHER]

    def states(self):
        return [row["session"]["state"] if row["session"] else None for row in self.shown()]

    def pids(self):
        return {row["port"]: row["process"]["pid"] for row in self.shown()}

    def said(self):
        read = self.site.machine.run
        return [
            line
            for port in TOGETHER
            for line in lines_of(port, read("cat", f"{MOMENTS}/{port}").stdout, self.began)
        ]

    def until_back(self):
        """Wait until all have met the fault and are back automatically; return the seconds that it took."""
        since = time.monotonic()
        until(
            lambda: (
                set(self.states()) == {"ready"}
                and (said := self.said())
                and all(is_back(said, port) for port in TOGETHER)
            ),
            "the return of all",
            PATIENCE,
        )
        return time.monotonic() - since

    def judge(self, fault, seconds, saw=""):
        """Return whether it was as it should be, and note it."""
        said = self.said()
        most, started = most_at_a_time(said), max(starts(said, port) for port in TOGETHER)
        assert most == 1
        assert started <= STARTS_AN_HOUR
        assert all(row["linked"] for row in self.shown())
        way = f"all back automatically, one browser starts at a time, at most {started} for a user"
        what = f"{fault}, in {len(TOGETHER)} linked sessions at once; seconds from when it is over"
        note_seen(self.site, what, saw + way, time.monotonic() - seconds)


@pytest.fixture(scope="module")
def real(site):
    """Three users with real browsers are linked; one may start at a time."""
    site.configure(limits={"min_available_memory": 0, "start_concurrency": 1})
    site.machine.run("mkdir", "--parents", CLOCK.rpartition("/")[0])
    site.machine.run("tee", CLOCK, given=(ROOT / "tests/node/support/fast-clock.js").read_text())
    site.machine.run("install", "--directory", "--mode=1777", MOMENTS)
    for port, phone in TOGETHER.items():
        settings = f'FAST_CLOCK=1 FAST_CLOCK_LINES={MOMENTS} "NODE_OPTIONS=--require {CLOCK}"'
        drop_in(site, port, f"[Service]\nEnvironment={settings}\nReadWritePaths={MOMENTS}\n")
        site.link(str(port - 5000), phone)
    return site


@pytest.fixture
def together(real):
    return Together(real)


def test_sessions_whose_pages_crash_again_and_again_are_back_automatically(together):
    pids = together.pids()
    assert kill_all(together.site, RENDERER, CRASHES) > len(TOGETHER)
    together.judge(f"each page crashes for {CRASHES} s", together.until_back())
    assert together.pids() == pids
    for port in TOGETHER:
        assert "its page is reloaded" in tries(together.said(), port)[0]


def test_sessions_without_a_browser_are_back_automatically(together):
    machine = together.site.machine
    [browser] = machine.run(
        "sh", "-c", "command -v chromium-headless-shell chromium | head -n 1"
    ).stdout.split()
    machine.run("mv", browser, f"{browser}.away")
    try:
        assert kill_all(together.site, BROWSER) >= len(TOGETHER)
        until(lambda: "ready" not in together.states(), "the fault to be told")
        machine.run("sleep", str(OUTAGE), patience=OUTAGE + PATIENCE)
        assert "ready" not in together.states()
    finally:
        machine.run("mv", f"{browser}.away", browser)
    together.judge(f"no browser is there for {OUTAGE} s", together.until_back())


def test_sessions_that_run_out_of_memory_are_back_automatically(together, record_property):
    with shortage(together.site) as short:
        until(lambda: short.killed() and "ready" not in together.states(), "the end of all")
        together.site.machine.run("sleep", str(SHORTAGE))
        killed = short.killed()
        assert "ready" not in together.states()
    assert killed >= len(TOGETHER)
    assert "KILL" not in together.site.machine.journal(f"--unit={pause_unit(BROKEN_PORT)}")
    if not short.is_real:
        record_property(
            "only played here", "memory runs out: the kernel has no controller that these tests may use"
        )
    who = "the kernel" if short.is_real else "the test, as the kernel would,"
    together.judge(
        f"memory is short for {SHORTAGE} s", together.until_back(), f"{who} ends {killed} processes; "
    )


@pytest.fixture
def user(site):
    """User 1, linked and running, with no failures behind."""
    site.use_light_servers(unit=UNIT)
    site.call(
        "PUT", "/v1/users/1?wait=listening", 201 if site.ask("GET", "/v1/users/1").status == 404 else 200
    )
    site.link_light("1")
    site.call("POST", "/v1/users/1/restart")
    site.until_session("1", "ready")
    return site


def begun(site, unit=UNIT):
    """Return how often systemd has tried to start a server, in this boot."""
    return len(moments_of(site, unit))


def moments_of(site, unit):
    """Return when systemd has tried to start a server, in this boot, in seconds since the epoch."""
    lines = site.machine.journal(f"--unit={unit}", "--output=short-unix")
    return [float(moment) for moment in re.findall(rf"(?m)^([\d.]+) .*Starting {re.escape(unit)}", lines)]


def kill(site):
    site.machine.systemctl("kill", "--kill-whom=main", "--signal=KILL", UNIT, check=False)


def call(site, outcomes, done):
    while not done.is_set():
        try:
            outcomes.append(site.machine.curl("webapp", "GET", f"http://localhost:{PORT}/health").status)
        except GuestError as error:
            outcomes.append(str(error))


def test_a_server_that_is_killed_again_and_again_is_back_automatically_and_keeps_its_port(user):
    outcomes, done, began = [], threading.Event(), time.monotonic()
    caller = threading.Thread(target=call, args=(user, outcomes, done))
    caller.start()
    try:
        for _ in range(5):
            before = user.main_pid(UNIT)
            kill(user)
            until(lambda before=before: user.main_pid(UNIT) not in {0, before}, "its restart", PATIENCE)
        user.until_session("1", "ready")
    finally:
        done.set()
        caller.join()
    # A connection that was open dies with the server; nothing is refused.
    refused = [outcome for outcome in outcomes if "exit status 7" in str(outcome)]
    assert refused == []
    assert user.machine.systemctl("is-active", f"whatsapp@{PORT}.socket") == "active"
    saw = f"{len(outcomes)} calls on its port, none refused; the fifth start comes after a pause"
    note_seen(user, "kill -9: a server, five times in a row", saw, began)


def test_node_is_missing_for_ten_seconds(user):
    """As while its package is upgraded: one end of the server meets it."""
    before = begun(user)
    user.machine.run("mv", NODE, f"{NODE}.away")
    try:
        kill(user)
        shown = until(
            lambda: (
                (process := user.call("GET", "/v1/users/1")["process"])["state"] == "crash_loop" and process
            ),
            "the loop to be told",
        )
        assert shown["next_start"]
        assert "node cannot be executed" in shown["message"]
        user.machine.run("sleep", "10")
    finally:
        user.machine.run("mv", f"{NODE}.away", NODE)
    back = time.monotonic()
    user.until_session("1", "ready")
    # The light server is node, too: it was tried a few times, and not all the time.
    tried = begun(user) - before
    assert tried <= 10
    saw = f"shown as crash_loop with its cause and the next start; {tried} starts; seconds from when node is back"
    note_seen(user, "node is missing for ten seconds", saw, back)


def test_what_was_asked_for_never_counts_and_is_never_refused(user):
    began = time.monotonic()
    for _ in range(20):
        assert user.call("POST", "/v1/users/1/restart")["process"]["next_start"] is None
    for _ in range(7):
        user.machine.systemctl("restart", UNIT)
    for _ in range(7):
        user.machine.run("waportctl", "stop", "1")
        user.machine.run("waportctl", "start", "1")
    user.until_session("1", "ready")
    assert user.call("GET", "/v1/users/1")["process"]["next_start"] is None
    what = "20 restarts by the API, 7 by systemctl, 7 stops and starts by waportctl, in a row"
    note_seen(user, what, "none refused, none counted, none waits", began)


def test_a_logout_and_a_new_code_may_follow_each_other_as_often_as_one_likes(user):
    began = time.monotonic()
    for _ in range(7):
        user.call("POST", "/v1/users/1/logout")
        assert user.show_code("1")["qr"]
        assert user.call("GET", "/v1/users/1")["process"]["next_start"] is None
    note_seen(
        user, "a logout and a new code, 7 times in a row", "none refused, none counted, none waits", began
    )
    user.link_light("1")


def until_it_waits(site):
    """Have the server end until it has to wait for its next start; return when that is due."""
    for _ in range(RESTARTS_AT_ONCE + LATE_RESTARTS + 1):
        before = site.main_pid(UNIT)
        kill(site)
        until(
            lambda before=before: waits(site) or site.main_pid(UNIT) not in {0, before},
            "its restart or a pause",
        )
        if due_at := waits(site):
            return dt.datetime.fromisoformat(due_at).timestamp()
    raise AssertionError("no pause came")


def waits(site):
    """Return when the server that waits is started next; None where it does not wait."""
    process = site.call("GET", "/v1/users/1")["process"]
    return process["next_start"] if process["state"] == "crash_loop" else None


def test_who_asks_while_it_waits_does_not_wait(user):
    due_at = until_it_waits(user)
    began = time.monotonic()
    assert user.call("POST", "/v1/users/1/restart")["process"]["state"] == "running"
    user.until_session("1", "ready")
    assert user.start_of(PORT)[0] < due_at
    note_seen(user, "POST …/restart in the pause before a next start", "it starts at once", began)


def test_who_stops_it_while_it_waits_has_the_next_start_wait_for_nothing(user):
    """By systemctl, which nobody reports to the daemon; a start alone joins the one that waits.

    So does a restart before version 254 of systemd, which shows nothing of it.
    """
    joins = release(user) == "bookworm"
    for command in (("stop", "start"),) if joins else (("stop", "start"), ("restart",)):
        due_at = until_it_waits(user)
        began = time.monotonic()
        for verb in command:
            user.machine.systemctl(verb, UNIT)
        user.until_session("1", "ready")
        assert user.start_of(PORT)[0] < due_at
        assert user.call("GET", "/v1/users/1")["process"]["next_start"] is None
        what = f"systemctl {' and '.join(command)} in the pause before a next start"
        note_seen(user, what, "it starts at once", began)


def due(seconds):
    """Return how often a server may have been started that ended so long ago, and has ended at once ever since."""
    at, number = 0.0, 0
    while (at := at + pause_before(number + 1)) <= seconds:
        number += 1
    return number


def test_a_fault_that_lasts_costs_few_starts_however_many_call(site, broken):
    before, began = broken
    if EVERYTHING:
        left = HOUR - (time.monotonic() - began)
        site.machine.run("sleep", str(max(0, left)), patience=HOUR)
    else:
        until(lambda: begun(site, server(BROKEN_PORT)) - before > due(0), "a start after a pause")
    moments = moments_of(site, server(BROKEN_PORT))[before:]
    tried, seconds = len(moments), time.monotonic() - began
    site.machine.systemctl("stop", "callers")
    shown = site.call("GET", f"/v1/users/{BROKEN}")["process"]
    site.call("POST", f"/v1/users/{BROKEN}/stop")
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    pauses = [gap for gap in gaps if gap >= PAUSES_S[0] - 1]
    # Until a busy daemon has heard of an end and begun the pause, one more start may follow.
    at_once = 1 + len(gaps) - len(pauses)
    assert at_once <= RESTARTS_AT_ONCE + LATE_RESTARTS, gaps
    for number, pause in enumerate(pauses, start=RESTARTS_AT_ONCE + 1):
        assert pause >= pause_before(number) - 1, gaps
    assert due(seconds / 2) <= tried <= STARTS_AN_HOUR
    assert shown["state"] == "crash_loop"
    what = "a linked user's server ends at once, while its port is called and its page polls"
    note_seen(site, what, f"{tried} starts in {seconds / 60:.0f} minutes")


def test_a_loop_without_the_daemon_is_taken_over_by_it(user):
    """Nobody paces it meanwhile; when the daemon is back it ends well."""
    # A busy host starts it more slowly than the limit of the unit is meant for.
    drop_in(user, PORT, "[Unit]\nStartLimitBurst=20\n")
    user.machine.systemctl("stop", "waportd.socket", "waportd.service")
    try:
        before = user.main_pid(UNIT)
        kill(user)
        until(lambda: user.main_pid(UNIT) not in {0, before}, "a restart that needs no daemon")
        user.machine.run("mv", NODE, f"{NODE}.away")
        kill(user)
        until(
            lambda: (
                user.machine.show(UNIT, "Result") == "start-limit-hit"
                or user.machine.show(f"whatsapp@{PORT}.socket", "ActiveState") == "failed"
            ),
            "the limit",
            120,
        )
    finally:
        user.machine.run("mv", f"{NODE}.away", NODE)
        user.machine.systemctl("start", "waportd.socket", "waportd.service")
    back = time.monotonic()
    until(lambda: user.main_pid(UNIT), "its start by the daemon", PATIENCE)
    user.until_session("1", "ready")
    drop_in(user, PORT, "")
    saw = "systemd gives up in the end; the daemon starts the server when it is back; seconds from then"
    note_seen(user, "node is missing while there is no daemon", saw, back)
