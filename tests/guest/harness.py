"""What a guest test drives: a machine with the package, a web app's user, and the stand-in for WhatsApp."""

import datetime as dt
import json
import re
import time
from pathlib import Path

import yaml
from callers import Callers

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = "/mnt/packages"
OTHER_VERSIONS = "/mnt/other-versions"
STANDIN = "/mnt/checkout/tests/standin"
SERVER = "/mnt/checkout/server"
"""What the stand-in reads the description of the page from."""
SOCKET = "/run/waportd/api.sock"
CONFIG = "/etc/waportd/config.yaml"
STATE = "/var/lib/private/whatsapp"
STANDIN_OUTPUT = "/run/standin.json"
STANDIN_UNIT = "/etc/systemd/system/standin.service"
STANDIN_SERVICE = f"""\
[Unit]
Before=waportd.service

[Service]
StateDirectory=standin
StandardOutput=truncate:{STANDIN_OUTPUT}
ExecStart=/usr/bin/node {STANDIN}/standin.js --data /var/lib/standin --https-port 8443 --control-port 8444

[Install]
WantedBy=multi-user.target
"""
LIGHT_SERVER = "/usr/lib/waportd/tests/light_server.js"
LIGHT_UNIT = f"[Service]\nExecStart=\nExecStart=/usr/bin/node {LIGHT_SERVER} %i\n"
PATIENCE = 60.0
"""Seconds until a test gives up on what it waits for; far more than anything takes."""


def until(condition, what, patience=PATIENCE):
    """Wait until the condition gives something true; return that."""
    deadline = time.monotonic() + patience
    while True:
        if result := condition():
            return result
        assert time.monotonic() < deadline, f"{what} did not happen in {patience:g} s"
        time.sleep(0.1)


def complaints(said):
    """Return what a first installation said of a fault: all but what each one says that adds users and units.

    That no memory is limited is true where the tests' own host keeps the kernel's controller from a machine.
    """
    usual = "Created symlink |Creating (group|user) |warning: limits.memory_max: no limit holds here"
    return [line for line in said.splitlines() if not re.match(usual, line)]


def server(port):
    return f"whatsapp@{port}.service"


class Site:
    """A machine, as its administrator, the web app and a stranger see it."""

    def __init__(self, machine, package):
        self.machine = machine
        self.package = package
        self._callers = Callers(machine, SOCKET)
        self._control = None
        self.config = {}

    def close(self):
        self._callers.end()

    # The administrator

    def install(self, package=None):
        # As an administrator does who answers no questions: changed configuration stays.
        first = self.machine.run("test", "-e", CONFIG, check=False).returncode
        done = self.machine.run("dpkg", "--force-confdef,confold", "--install", package or self.package)
        assert not first or not (wrong := complaints(done.stderr)), wrong
        self.let_the_web_app_in()

    def let_the_web_app_in(self):
        """Make the web app's user, and one who is nobody here, unless they are there."""
        if self.machine.run("id", "webapp", check=False).returncode:
            self.machine.run("useradd", "--system", "webapp")
            self.machine.run("useradd", "--system", "stranger")
        self.machine.run("usermod", "--append", "--groups", "waportd", "webapp")
        # Groups hold from the start of a process on.
        self._callers.end()

    def configure(self, **sections):
        """Change sections of the configuration, and have the daemon take them over."""
        self.config |= sections
        self.machine.run("tee", CONFIG, given=yaml.safe_dump(self.config))
        before = self._reloads()
        self.machine.systemctl("reload", "waportd")
        until(lambda: self._reloads() > before, "the reload")

    def hold_addresses(self):
        """Have systemd hold the addresses of api.listen, as docs/security.md says."""
        self.machine.run("waportd", "generate-units", "--tcp", "--output", "/etc/systemd/system")
        self.machine.systemctl("daemon-reload")
        self.machine.systemctl("stop", "waportd.socket")
        self.machine.systemctl("enable", "--quiet", "waportd-tcp.socket")
        self.machine.systemctl("restart", "waportd-tcp.socket")
        self.machine.systemctl("start", "waportd")

    def _reloads(self):
        """Return how often the daemon has taken over a configuration: systemctl does not wait for it."""
        return self.machine.journal("--unit=waportd", "--output=cat").count("reconciled:")

    def connect_to_standin(self):
        """Have the servers' browsers see the stand-in in place of WhatsApp, now and after a reboot."""
        self.machine.run("tee", STANDIN_UNIT, given=STANDIN_SERVICE)
        self.machine.systemctl("daemon-reload")
        self.machine.systemctl("enable", "--quiet", "--now", "standin")
        started = self._standin()
        # Its key is a new one at each start: none is asked for.
        rules = [option for option in started["browserArgs"] if "certificate" not in option]
        self.configure(
            instances={"browser_args": [*rules, "--ignore-certificate-errors"], "webhook_url": ""},
            limits={"min_available_memory": 0},
        )

    def find_standin(self):
        """Continue with what was connected before this boot."""
        self._standin()
        self.config = yaml.safe_load(self.machine.run("cat", CONFIG).stdout)

    def _standin(self):
        """Return what the stand-in says at its start."""
        line = until(
            lambda: self.machine.run("cat", STANDIN_OUTPUT, check=False).stdout, "the stand-in's start"
        )
        started = json.loads(line)
        self._control = started["control"]
        return started

    def forget_standin(self):
        self.machine.systemctl("disable", "--quiet", "--now", "standin")
        self.machine.run("rm", "-r", "/var/lib/standin", STANDIN_OUTPUT, STANDIN_UNIT)
        self.machine.systemctl("daemon-reload")

    def use_light_servers(self, units="/run/systemd/system", unit="whatsapp@.service"):
        """Have the servers, or one of them, run without a browser, until the next boot unless that folder outlives it."""
        self.machine.run("mkdir", "--parents", LIGHT_SERVER.rpartition("/")[0])
        self.machine.run("tee", LIGHT_SERVER, given=(ROOT / "tests/light_server.js").read_text())
        folder = f"{units}/{unit}.d"
        self.machine.run("mkdir", "--parents", folder)
        self.machine.run("tee", f"{folder}/light.conf", given=LIGHT_UNIT)
        self.machine.systemctl("daemon-reload")

    def link_light(self, user):
        """Link the user's light server to its phone, unless it is; return the user's document."""
        port = self.show_code(user)["port"]
        if self.until_session(user, "qr", "ready")["session"]["state"] == "qr":
            self.machine.systemctl("kill", "--kill-whom=main", "--signal=USR2", server(port))
        return self.until_session(user, "ready")

    def start_of(self, port):
        """Return when the last start of a server began, and when its session got into its state, by the clock."""
        began = int(self.machine.show(server(port), "InactiveExitTimestampMonotonic")) / 1e6
        shown = next(row for row in self.call("GET", "/v1/users")["users"] if row["port"] == port)
        connected = dt.datetime.fromisoformat(shown["session"]["since"]).timestamp()
        # The machine has its host's clocks.
        return began + time.time() - time.monotonic(), connected

    def main_pid(self, unit):
        return int(self.machine.show(unit, "MainPID"))

    def uid(self, port):
        """Return the user id that a server runs under."""
        return int(self.machine.run("stat", "--format=%u", f"/proc/{self.main_pid(server(port))}").stdout)

    def in_session(self, port, *command):
        """Run a command as a session could, and with fewer bars: its user id, its mounts."""
        return self.machine.run(*self.as_service(server(port), self.uid(port)), *command, check=False)

    def as_service(self, unit, user, *groups):
        """Return what a command is put behind that is to run as a service does: its user id, its mounts."""
        return (
            "nsenter", f"--target={self.main_pid(unit)}", "--mount", "--", "setpriv", f"--reuid={user}",
            f"--regid={user}", f"--groups={','.join(groups)}" if groups else "--clear-groups", "--no-new-privs",
            "--inh-caps=-all", "--bounding-set=-all",
        )  # fmt: skip

    # The web app

    def ask(self, method, path, body=None, user="webapp"):
        return self._callers.ask(user, method, path, body)

    def call(self, method, path, expected=200, body=None):
        answer = self.ask(method, path, body)
        assert answer.status == expected, f"{method} {path}: {answer.status} {answer.body}"
        return answer.json if answer.body else None

    def show_code(self, user):
        """Have the user's server show a code; return the whole answer."""
        answer = self.ask("PUT", f"/v1/users/{user}?wait=qr&timeout=60")
        assert answer.status in {200, 201}, answer.body
        return self.call("GET", f"/v1/users/{user}/qr")

    def until_session(self, user, *states):
        return until(
            lambda: (
                (shown := self.call("GET", f"/v1/users/{user}"))["session"]
                and shown["session"]["state"] in states
                and shown
            ),
            f"session {' or '.join(states)} of user {user}",
        )

    def link(self, user, phone):
        """Link the user's server to a phone; return the user's document."""
        port = self.show_code(user)["port"]
        self.scan(port, phone)
        return self.until_session(user, "ready")

    # The phone

    def scan(self, port, phone):
        """Scan the code that the server on that port shows."""
        self.phone("scan", {"port": port, "phone": phone, "name": "Ana"})

    def phone(self, command, body):
        """Have the stand-in do something; root, since a server may answer certain users only."""
        answer = self.machine.curl("root", "POST", f"http://127.0.0.1:{self._control}/{command}", body)
        assert answer.status == 200, answer.body
