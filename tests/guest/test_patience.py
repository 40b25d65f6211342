"""A linked user is never given up: what goes by itself is survived without help, and what was asked for never counts."""

import re
import threading

import guests
import pytest
from guests import GuestError
from harness import server, until
from rows import EVERYTHING

RELEASES = guests.RELEASES if EVERYTHING else guests.RELEASES[-1:]
PORT = 5001
UNIT = server(PORT)
NODE = "/usr/bin/node"
PATIENCE = 120.0
"""Seconds within which a user is back when what kept them down is gone."""


@pytest.fixture
def user(site):
    """User 1, linked and running, with no failures behind."""
    site.use_light_servers()
    site.call(
        "PUT", "/v1/users/1?wait=listening", 201 if site.ask("GET", "/v1/users/1").status == 404 else 200
    )
    site.link_light("1")
    site.call("POST", "/v1/users/1/restart")
    site.until_session("1", "ready")
    return site


def starts(site):
    """Return how often systemd has tried to start the server, in this boot."""
    return len(re.findall(rf"Starting {re.escape(UNIT)}", site.machine.journal(f"--unit={UNIT}")))


def kill(site):
    site.machine.systemctl("kill", "--kill-whom=main", "--signal=KILL", UNIT, check=False)


def call(site, outcomes, done):
    while not done.is_set():
        try:
            outcomes.append(site.machine.curl("webapp", "GET", f"http://localhost:{PORT}/health").status)
        except GuestError as error:
            outcomes.append(str(error))


def test_a_server_that_is_killed_again_and_again_is_back_by_itself_and_keeps_its_port(user):
    outcomes, done = [], threading.Event()
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


def test_node_is_missing_for_ten_seconds(user):
    """As while its package is upgraded: one end of the server meets it."""
    before = starts(user)
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
    user.until_session("1", "ready")
    # The light server is node, too: it was tried a few times, and not all the time.
    assert starts(user) - before <= 10


def test_what_was_asked_for_never_counts_and_is_never_refused(user):
    for _ in range(20):
        assert user.ask("POST", "/v1/users/1/restart").status == 200
    for _ in range(7):
        user.machine.systemctl("restart", UNIT)
    for _ in range(7):
        user.machine.run("waportctl", "stop", "1")
        user.machine.run("waportctl", "start", "1")
    user.until_session("1", "ready")
    assert user.call("GET", "/v1/users/1")["process"]["next_start"] is None


def test_who_asks_while_it_waits_does_not_wait(user):
    for _ in range(3):
        before = user.main_pid(UNIT)
        kill(user)
        until(lambda before=before: user.main_pid(UNIT) not in {0, before}, "its restart")
    kill(user)
    until(lambda: user.call("GET", "/v1/users/1")["process"]["state"] == "crash_loop", "the pause")
    assert user.call("POST", "/v1/users/1/restart")["process"]["state"] == "running"
    user.until_session("1", "ready")


def test_a_loop_without_the_daemon_is_taken_over_by_it(user):
    """Nobody paces it meanwhile; when the daemon is back it ends well."""
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
    until(lambda: user.main_pid(UNIT), "its start by the daemon", PATIENCE)
    user.until_session("1", "ready")
