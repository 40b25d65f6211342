"""What an integration test drives: a real daemon on a real systemd, the stand-in for WhatsApp, real browsers."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.parse
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from rows import BESIDE, Row, note
from systemd import journal

ROOT = Path(__file__).resolve().parents[2]
LIGHT_SERVER = ROOT / "tests/light_server.js"
"""In place of whatsapp_server.js: one that needs no browser."""
PATIENCE = 60.0
"""Seconds until a test gives up on what it waits for; far more than anything takes."""

SESSIONS = [Path.home() / base / "whatsapp" for base in (".config", ".local/state", ".cache")]
"""Where a user's systemd keeps the sessions of all servers, and their caches."""

DAEMON_SERVICE = """\
[Unit]
Requires=waportd.socket
After=waportd.socket
[Service]
Type=notify
WorkingDirectory={root}
ExecStart=/usr/bin/python3 -m waportd --config {config}
ExecReload=/bin/sh -c 'kill -HUP $MAINPID'
Restart=on-failure
RestartSec=100ms
RestartPreventExitStatus=78
WatchdogSec=30
TimeoutStopSec=15
LimitNOFILE=16384
"""
DAEMON_SOCKET = """\
[Socket]
ListenStream={socket}
SocketMode=0660
"""


def until(condition, what="it", patience=PATIENCE):
    """Wait until the condition gives something true; return that, at most a twentieth of the time too late."""
    began = time.monotonic()
    while True:
        if result := condition():
            return result
        waited = time.monotonic() - began
        assert waited < patience, f"{what} did not happen in {patience:g} s"
        # Who looks all the time takes the processor from what is waited for.
        time.sleep(min(max(0.02, waited / 20), 0.2))


def note_row(fault, saw, seconds=None, lost="nothing"):
    """Add a row to docs/reliability.md."""
    release = re.search(r"VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text())
    note(Row(release[1] if release else "", fault, saw, seconds and round(seconds, 1), lost), BESIDE)


def systemctl(*arguments, check=True):
    result = subprocess.run(
        ["systemctl", "--user", *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert not check or result.returncode == 0, f"systemctl {' '.join(arguments)}: {result.stderr}"
    return result.stdout


def unit_property(unit, name):
    return systemctl("show", unit, f"--property={name}", "--value").strip()


def is_active(unit):
    return systemctl("is-active", unit, check=False).strip() == "active"


def processes(port):
    """Return the processes of a user's server, by the main one."""
    pid = int(unit_property(f"whatsapp@{port}.service", "MainPID"))
    if not pid:
        return []
    with contextlib.suppress(psutil.NoSuchProcess):
        main = psutil.Process(pid)
        return [main, *main.children(recursive=True)]
    return []


def browser_of(port):
    """Return the main process of a user's browser: the one that started renderers and helpers."""
    return until(lambda: next(filter(_is_browser, processes(port)), None), f"the browser of {port}")


def _is_browser(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        kinds = ["--type=" in " ".join(child.cmdline()) for child in process.children()]
        return any(kinds) and "--type=" not in " ".join(process.cmdline())
    return False


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, timeout=PATIENCE):
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


def ask(connection, method, path, body=None, headers=None):
    """Send one request on a connection that is closed afterwards."""
    try:
        headers = {**({} if body is None else {"Content-Type": "application/json"}), **(headers or {})}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def ask_server(port, path, method="GET", body=None, timeout=PATIENCE):
    """Call a user's server directly, as the old front end does."""
    return ask(http.client.HTTPConnection("localhost", port, timeout=timeout), method, path, body)


class Caller:
    """Calls over TCP, with a token or without."""

    def __init__(self, port, token=None):
        self._port = port
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def call(self, method, path, expected=200):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        answer = ask(connection, method, path, headers=self._headers)
        assert answer.status == expected, answer.body
        return answer.body.decode()


@dataclass
class Event:
    """A server-sent event."""

    name: str
    data: Any
    id: str | None


class EventStream:
    """Reads an event stream of the daemon."""

    def __init__(self, waportd, path, last=None):
        self._connection = UnixConnection(waportd.socket)
        self._connection.request("GET", path, headers={"Last-Event-ID": last} if last else {})
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200, self._answer.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._answer.close()
        self._connection.close()

    def next(self):
        """Return the next event; None where the stream has ended."""
        fields = {}
        while line := self._answer.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name not in {"", ":"}:
                fields[name] = value
            elif not name and "event" in fields:
                return Event(fields["event"], json.loads(fields["data"]), fields.get("id"))
        return None

    def until(self, name, condition=lambda data: True):
        """Return the events up to the next one of that name for which the condition holds."""
        events = []
        deadline = time.monotonic() + PATIENCE
        while not events or events[-1].name != name or not condition(events[-1].data):
            assert time.monotonic() < deadline, f"no {name} came as awaited, but {events}"
            event = self.next()
            assert event is not None, f"the stream ended before {name}"
            events.append(event)
        return events


# Which page the stand-in plays.
SHAPE = os.environ.get("STANDIN_SHAPE", "today")


class StandIn:
    """WhatsApp and its phones."""

    def __init__(self, directory, *options):
        self._process = subprocess.Popen(
            ["node", ROOT / "tests/standin/standin.js", "--data", directory, "--shape", SHAPE, *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self._process.stdout.readline()
        assert line, "the stand-in did not start"
        started = json.loads(line)
        self.browser_args = started["browserArgs"]
        self._control = started["control"]

    def tell(self, command, expected=200, **body):
        connection = http.client.HTTPConnection("127.0.0.1", self._control, timeout=PATIENCE)
        answer = ask(connection, "POST", f"/{command}", body)
        assert answer.status == expected, answer.body
        return answer.json

    def see(self, what):
        return ask(
            http.client.HTTPConnection("127.0.0.1", self._control, timeout=PATIENCE), "GET", f"/{what}"
        ).json

    def close(self):
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


class NoBrowser:
    """In place of a StandIn where no browser runs."""

    browser_args: tuple[str, ...] = ()


class Waportd:
    """The daemon as a systemd service with its socket."""

    def __init__(self, directory: Path, standin: StandIn | NoBrowser):
        self.directory = directory
        self.socket = directory / "api.sock"
        self.config_file = directory / "config.yaml"
        self.settings: dict[str, Any] = {
            "store": {"directory": str(directory / "state")},
            "instances": {"browser_args": standin.browser_args, "webhook_url": ""},
            "limits": {"min_available_memory": 0},
            "systemd": {"bus": "session"},
            "log": {"level": "debug"},
        }
        self.units = Path(os.environ["XDG_RUNTIME_DIR"]) / "systemd/user"

        self._began = time.time()

    def journal(self, unit):
        """Return what a unit, and systemd of it, said since this daemon was made."""
        # The journal gets to lines when it has the time, and to this one after those that were sent before. Only root
        # may call `journalctl --sync`.
        mark = uuid.uuid4().hex
        journal.send("so far", WAPORTD_MARK=mark)
        until(lambda: self._journal("--output=cat", f"WAPORTD_MARK={mark}"), "the journal")
        return self._journal("--output=cat", f"--user-unit={unit}", f"--since=@{self._began:.6f}")

    def _journal(self, *selection):
        command = ["journalctl", "--user", "--no-pager", *selection]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False).stdout

    def configure(self, **sections):
        for section, values in sections.items():
            self.settings[section] = {**self.settings.get(section, {}), **values}
        self.config_file.write_text(yaml.safe_dump(self.settings), encoding="utf-8")

    def start(self):
        self.configure()
        self.units.mkdir(parents=True, exist_ok=True)
        service = DAEMON_SERVICE.format(root=ROOT, config=self.config_file)
        (self.units / "waportd.service").write_text(service, encoding="utf-8")
        (self.units / "waportd.socket").write_text(DAEMON_SOCKET.format(socket=self.socket), encoding="utf-8")
        systemctl("daemon-reload")
        systemctl("start", "waportd.socket")
        systemctl("start", "waportd.service")

    def stop(self):
        """Stop the daemon and all servers; forget every session."""
        systemctl("stop", "waportd.service", "waportd.socket", "whatsapp.target", "whatsapp@*", check=False)
        systemctl("reset-failed", check=False)
        for unit in [*self.units.glob("whatsapp*"), *self.units.glob("waportd.*")]:
            shutil.rmtree(unit) if unit.is_dir() else unit.unlink()
        systemctl("daemon-reload")
        for folder in SESSIONS:
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def pid(self):
        return int(unit_property("waportd.service", "MainPID"))

    def restart(self):
        """Restart the daemon as an upgrade does."""
        systemctl("restart", "waportd.service")

    def reload(self):
        """Have the daemon take over its configuration: systemctl alone does not wait for that."""
        before = self._reloads()
        systemctl("reload", "waportd.service")
        until(lambda: self._reloads() > before, "the reload")

    def _reloads(self):
        return len(re.findall(r"reconciled:|Cannot reload", self.journal("waportd.service")))

    def kill(self):
        """Kill the daemon; systemd restarts it."""
        before = self.pid
        os.kill(before, signal.SIGKILL)
        until(lambda: is_active("waportd.service") and self.pid not in {0, before}, "the daemon's return")

    def call(self, method, path, expected=200, body=None, timeout=PATIENCE):
        answer = self.ask(method, path, body, timeout)
        assert answer.status == expected, f"{method} {path}: {answer.status} {answer.body.decode()}"
        return answer.json if answer.body else None

    def ask(self, method, path, body=None, timeout=PATIENCE):
        return ask(UnixConnection(self.socket, timeout), method, path, body)

    def user(self, user):
        return self.call("GET", f"/v1/users/{user}")

    def qr(self, user):
        return self.call("GET", f"/v1/users/{user}/qr")

    def show_code(self, user, **query):
        """Have the user's server show a code; return it."""
        query = urllib.parse.urlencode({"wait": "qr", "timeout": 60, **query})
        answer = self.ask("PUT", f"/v1/users/{user}?{query}", timeout=90)
        assert answer.status in {200, 201}, answer.body
        return self.qr(user)["qr"]

    def until_session(self, user, state):
        return until(
            lambda: (shown := self.user(user))["session"] and shown["session"]["state"] == state and shown,
            f"session {state} of user {user}",
        )

    def until_restarts(self, user, count):
        return until(
            lambda: (shown := self.user(user))["process"]["restarts"] >= count and shown,
            f"{count} restarts of user {user}",
        )

    def until_process(self, user, state):
        return until(
            lambda: (shown := self.user(user))["process"]["state"] == state and shown, f"process {state}"
        )


@dataclass
class Poller:
    """Asks again and again in the background, on a new connection each time, and keeps the result of it."""

    ask: Any
    pause: float = 0.02
    statuses: list[Any] = field(default_factory=list)
    longest: float = 0.0

    def __enter__(self):
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join(PATIENCE)

    def _run(self):
        while not self._done.wait(self.pause):
            began = time.monotonic()
            try:
                self.statuses.append(self.ask().status)
            except OSError as error:
                self.statuses.append(repr(error))
            except http.client.HTTPException as error:
                self.statuses.append(repr(error))
            self.longest = max(self.longest, time.monotonic() - began)

    def since(self, count, more=10):
        """Wait until that many more answers came."""
        until(lambda: len(self.statuses) >= count + more, "more answers")
