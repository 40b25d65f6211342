"""Messages for a long time: the memory of daemon and servers stays flat. `make endurance` has them come for an hour."""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import threading
import time
from pathlib import Path

import pytest
from harness import ROOT, NoBrowser, UnixConnection, Waportd, ask_server, systemctl, until
from testbed.ports import free_port

FULL = os.environ.get("WAPORTD_ENDURANCE") == "full"
REPORT = ROOT / ".run/test/endurance.json"

SECONDS = 3600 if FULL else 15
RATE = 25
"""Messages a second of each session."""
STREAMED, PULLED = "1", "2"
"""The users whose messages are read as a stream, and page by page."""


@pytest.fixture
def waportd(tmp_path):
    app_port = free_port()
    waportd = Waportd(tmp_path, NoBrowser())
    waportd.configure(
        instances={
            "script": str(ROOT / "bench/page_traffic.js"),
            "webhook_url": f"http://127.0.0.1:{app_port}/webhook",
        },
        log={"level": "warning"},
    )
    command = ["node", ROOT / "bench/web_app.js", str(app_port)]
    with subprocess.Popen(command) as waportd.web_app:
        until(lambda: delivered(app_port) == 0, "the web app")
        waportd.app_port = app_port
        waportd.start()
        yield waportd
        waportd.stop()
        waportd.web_app.terminate()


def delivered(app_port):
    """Return how many messages the web app took since this was asked last."""
    with contextlib.suppress(OSError):
        return len(ask_server(app_port, "/forget").json["took"])
    return None


def have_messages_come(waportd):
    """Have messages come to each session from when it is linked, for longer than it takes."""
    folder = waportd.units / "whatsapp@.service.d"
    folder.mkdir(parents=True)
    environment = folder / "traffic.env"
    traffic = {"messages": RATE * (SECONDS + 600), "chats": 20, "rate": RATE}
    environment.write_text(f"TRAFFIC='{json.dumps(traffic)}'\n")
    (folder / "traffic.conf").write_text(f"[Service]\nEnvironmentFile={environment}\n")
    systemctl("daemon-reload")


def memory(pid):
    """Return the proportional set size of a process, in bytes."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


class Reader:
    """Reads the messages of a user through the daemon, and counts them."""

    def __init__(self, waportd, read):
        self.count = 0
        self._waportd = waportd
        self._is_over = False
        self._thread = threading.Thread(target=getattr(self, read))
        self._thread.start()

    def stream(self):
        connection = UnixConnection(self._waportd.socket, 60)
        path = f"/v1/users/{STREAMED}/messages"
        connection.request("GET", path, headers={"Accept": "text/event-stream"})
        answer = connection.getresponse()
        while not self._is_over:
            self.count += answer.readline().startswith(b"event: message")
        connection.close()

    def pull(self):
        after = ""
        while not self._is_over:
            page = self._waportd.call("GET", f"/v1/users/{PULLED}/messages?timeout=5&limit=100{after}")
            self.count += len(page["messages"])
            after = f"&after={page['next']}"

    def end(self):
        self._is_over = True
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.count


def growth(sizes):
    """Return by which part the second half is more than the first, without the time in which heaps get their size."""
    sizes = sizes[len(sizes) // 10 :]
    half = len(sizes) // 2
    return statistics.median(sizes[half:]) / statistics.median(sizes[:half]) - 1


def test_an_hour_of_messages_costs_no_memory_of_daemon_or_servers(waportd):
    have_messages_come(waportd)
    for user in (STREAMED, PULLED):
        waportd.show_code(user)
    pids = {user: waportd.user(user)["process"]["pid"] for user in (STREAMED, PULLED)}
    for user, pid in pids.items():
        os.kill(pid, signal.SIGUSR2)
        waportd.until_session(user, "ready")
    processes = {"daemon": waportd.pid, **pids}
    samples = {name: [] for name in processes}
    readers = [Reader(waportd, "stream"), Reader(waportd, "pull")]
    taken = 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(SECONDS / 500)
        taken += delivered(waportd.app_port)
        for name, pid in processes.items():
            samples[name].append(memory(pid))
    streamed, pulled = (reader.end() for reader in readers)
    expected = 0.8 * RATE * SECONDS
    assert min(streamed, pulled, taken / 2) >= expected, (streamed, pulled, taken, expected)
    assert waportd.pid == processes["daemon"]
    assert {user: waportd.user(user)["process"]["pid"] for user in pids} == pids
    grown = {name: growth(sizes) for name, sizes in samples.items()}
    if FULL:
        note = {
            "seconds": SECONDS,
            "rate": RATE,
            "taken": taken,
            "streamed": streamed,
            "pulled": pulled,
            "memory": {name: statistics.median(sizes[len(sizes) // 2 :]) for name, sizes in samples.items()},
            "growth": grown,
        }
        REPORT.write_text(json.dumps(note, indent=1))
    # In seconds a heap is still on its way to its size, which may be twice that at first.
    assert max(grown.values()) < (0.05 if FULL else 1.5), grown
