"""What hits all linked sessions at once: they come back automatically, few at a time, and in the mildest way that helps.

In `make test` the servers' clocks run fast, so that their pauses are short; browsers, systemd and the daemon keep real time.
"""

import contextlib
import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from harness import PATIENCE, ROOT, Waportd, note_row, processes, systemctl, until
from rows import EVERYTHING
from starting import KILLED, Line, is_back, lines_of, most_at_a_time, starts, tries

SPEED = 1 if EVERYTHING else 4
"""How many times as fast the clocks of the servers run: a turn is waited for 75 s, of the host's clock, at least."""
OUTAGE = 300 if EVERYTHING else 40
"""Seconds, of the servers' clocks, for which no browser starts."""
CRASHES = 30 if EVERYTHING else 5
"""Seconds for which each page crashes as soon as it is there."""
KILLS = 30 if EVERYTHING else 0
"""Seconds for which each server is killed as soon as it is there; 0 = once."""
SESSIONS = 8 if EVERYTHING else 3
AT_A_TIME = 2 if EVERYTHING else 1
BACK_WITHIN = 120.0
"""Seconds in which all are to be back when the cause is gone."""
STARTS_AN_HOUR = 20
TURN_WAIT = 60
"""Seconds for which servers wait for a daemon that is to give them turns."""
BROWSER = "/usr/bin/chromium-headless-shell"


@dataclass
class Sessions:
    """Linked sessions, and what their servers said since a moment."""

    waportd: Waportd
    ports: tuple[int, ...]
    broken: Path
    """While this file is there no browser starts."""
    lines: Path
    """In this folder the servers' lines are, with their moments."""
    began: float = 0.0
    killed: list[Line] = dataclasses.field(default_factory=list)

    def pids(self):
        return {port: processes(port)[0].pid for port in self.ports}

    def shown(self):
        return self.waportd.call("GET", "/v1/users")["users"]

    def are_ready(self):
        return all(
            (now := row["session"]) and now["answering"] and now["state"] == "ready" for row in self.shown()
        )

    def is_none_ready(self):
        return not any((now := row["session"]) and now["state"] == "ready" for row in self.shown())

    def until_back(self):
        """Wait until all have met the fault and are back; return the seconds that it took."""
        since = time.monotonic()
        until(
            lambda: all(is_back(self.said(), port) for port in self.ports) and self.are_ready(),
            "the return of all",
            BACK_WITHIN + PATIENCE,
        )
        return time.monotonic() - since

    def kill_servers(self):
        self._note_killed()
        units = [f"whatsapp@{port}.service" for port in self.ports]
        systemctl("kill", "--signal=KILL", *units, check=False)
        # One may have begun to start in the time that this took: it is over, too.
        self._note_killed()

    def _note_killed(self):
        now = time.time()
        self.killed += [Line(now, port, KILLED) for port in self.ports]

    def said(self):
        """Return the lines of all servers, and when they were killed."""
        files = [(port, self.lines / str(port)) for port in self.ports]
        return self.killed + [
            line
            for port, file in files
            for line in lines_of(port, file.read_text(encoding="utf-8"), self.began)
        ]


@pytest.fixture(scope="function" if EVERYTHING else "module")
def linked(tmp_path_factory, standin):
    """As many sessions as there are to be, and a file; while that is there no browser starts."""
    folder = tmp_path_factory.mktemp("recovery")
    broken, browser = folder / "broken", folder / "chromium-headless-shell"
    browser.write_text(f'#!/bin/sh\n[ ! -e {broken} ] || exit 1\nexec {BROWSER} "$@"\n')
    browser.chmod(0o755)
    waportd = Waportd(folder, standin)
    waportd.configure(
        limits={"start_concurrency": AT_A_TIME},
        # Of the servers' clocks: a browser is as slow as ever, and as the host is busy.
        instances={
            "browser": str(browser),
            "start_timeout": 600,
            "ready_timeout": 600,
            "probe_interval": 60,
        },
    )
    waportd.start()
    try:
        lines = folder / "lines"
        lines.mkdir()
        preload_clock(waportd, lines)
        for number in range(SESSIONS):
            user = str(number + 1)
            standin.tell("scan", qr=waportd.show_code(user), phone=f"551199999{number:04d}", name="Ana")
            waportd.until_session(user, "ready")
        yield Sessions(waportd, tuple(5001 + number for number in range(SESSIONS)), broken, lines)
    finally:
        waportd.stop()


def preload_clock(waportd, lines):
    """Have the servers' clocks run fast, and the moments of their lines be kept, from their next start on."""
    folder = waportd.units / "whatsapp@.service.d"
    folder.mkdir(parents=True, exist_ok=True)
    clock = ROOT / "tests/node/support/fast-clock.js"
    environment = folder / "clock.env"
    # The daemon, which they wait for, is no faster than ever.
    environment.write_text(
        f"FAST_CLOCK={SPEED}\nFAST_CLOCK_LINES={lines}\nNODE_OPTIONS=--require {clock}\n"
        f"WAPORTD_TURN_WAIT={TURN_WAIT * SPEED}\n"
    )
    (folder / "clock.conf").write_text(f"[Service]\nEnvironmentFile={environment}\nReadWritePaths={lines}\n")
    systemctl("daemon-reload")


@pytest.fixture
def sessions(linked):
    # What a phone has to do to be linked is no recovery.
    return dataclasses.replace(linked, began=time.time())


def _command(process):
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def kill(victims):
    for process in victims:
        with contextlib.suppress(psutil.Error):
            process.kill()


def parts(port, kind=None):
    """Return a browser's processes of one type; without one, its own."""
    return [
        process
        for process in processes(port)
        if (f"--type={kind}" in (command := _command(process)))
        or (kind is None and "--user-data-dir=" in command and "--type=" not in command)
    ]


def judge(sessions, fault, seconds):
    """Return whether it was as it should be, and note it."""
    said = sessions.said()
    most, started = most_at_a_time(said), max(starts(said, port) for port in sessions.ports)
    assert 1 <= most <= AT_A_TIME
    assert started <= STARTS_AN_HOUR
    assert all(row["linked"] for row in sessions.shown())
    if EVERYTHING:
        assert seconds <= BACK_WITHIN
        note_row(
            f"{fault}, in {SESSIONS} linked sessions at once",
            f"all back automatically, never more than {most} browsers start at a time, at most {started} for a user",
            seconds,
        )


def test_sessions_whose_pages_crash_for_half_a_minute_come_back_few_at_a_time(sessions):
    pids = sessions.pids()
    end = time.monotonic() + CRASHES
    while time.monotonic() < end:
        for port in sessions.ports:
            kill(parts(port, "renderer"))
        time.sleep(0.1)
    judge(sessions, "each page crashes for half a minute", sessions.until_back())
    assert sessions.pids() == pids
    for port in sessions.ports:
        assert "its page is reloaded" in tries(sessions.said(), port)[0]


def test_sessions_whose_servers_are_all_killed_come_back_few_at_a_time(sessions):
    """As where memory runs out: of each server, systemd ends all that the kernel has left."""
    pids = sessions.pids()
    end = time.monotonic() + KILLS
    sessions.kill_servers()
    while time.monotonic() < end:
        time.sleep(1)
        sessions.kill_servers()
    judge(
        sessions, "each server is killed for half a minute, as where memory runs out", sessions.until_back()
    )
    assert not pids.items() & sessions.pids().items()


def test_sessions_without_a_browser_for_minutes_come_back_few_at_a_time(sessions):
    sessions.broken.touch()
    for port in sessions.ports:
        kill(parts(port))
    until(sessions.is_none_ready, "the fault to be told")
    time.sleep(OUTAGE / SPEED)
    assert sessions.is_none_ready()
    sessions.broken.unlink()
    judge(sessions, "no browser starts for five minutes", sessions.until_back())
