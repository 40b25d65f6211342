"""What a guest test drives: a machine with the package, a web app's user, and the stand-in for WhatsApp."""

import json
import time

import yaml

PACKAGES = "/mnt/packages"
STANDIN = "/mnt/standin"
SOCKET = "/run/waportd/api.sock"
CONFIG = "/etc/waportd/config.yaml"
STATE = "/var/lib/private/whatsapp"
PATIENCE = 60.0
"""Seconds until a test gives up on what it waits for; far more than anything takes."""


def until(condition, what):
    """Wait until the condition gives something true; return that."""
    deadline = time.monotonic() + PATIENCE
    while True:
        if result := condition():
            return result
        assert time.monotonic() < deadline, f"{what} did not happen in {PATIENCE:g} s"
        time.sleep(0.1)


class Site:
    """A machine, as its administrator, the web app and a stranger see it."""

    def __init__(self, machine, package):
        self.machine = machine
        self.package = package
        self._control = None

    # The administrator

    def install(self, package=None):
        self.machine.run("dpkg", "--install", package or self.package)
        if self.machine.run("id", "webapp", check=False).returncode:
            self.machine.run("useradd", "--system", "webapp")
            self.machine.run("useradd", "--system", "stranger")
        self.machine.run("usermod", "--append", "--groups", "waportd", "webapp")

    def configure(self, **sections):
        self.machine.run("tee", CONFIG, given=yaml.safe_dump(sections))
        self.machine.systemctl("reload", "waportd")

    def connect_to_standin(self):
        """Have the servers' browsers see the stand-in in place of WhatsApp."""
        output = "/run/standin.json"
        self.machine.run(
            "systemd-run", "--quiet", "--unit=standin", "--property=StateDirectory=standin",
            f"--property=StandardOutput=truncate:{output}",
            "/usr/bin/node", f"{STANDIN}/standin.js", "--data", "/var/lib/standin",
        )  # fmt: skip
        line = until(lambda: self.machine.run("cat", output, check=False).stdout, "the stand-in's start")
        started = json.loads(line)
        self._control = started["control"]
        self.configure(
            instances={"browser_args": started["browserArgs"], "webhook_url": ""},
            limits={"min_available_memory": 0},
        )

    def main_pid(self, unit):
        return int(self.machine.show(unit, "MainPID"))

    # The web app

    def ask(self, method, path, body=None, user="webapp"):
        return self.machine.curl(user, method, path, body, socket=SOCKET)

    def call(self, method, path, expected=200, body=None):
        answer = self.ask(method, path, body)
        assert answer.status == expected, f"{method} {path}: {answer.status} {answer.body}"
        return answer.json if answer.body else None

    def show_code(self, user):
        """Have the user's server show a code; return the whole answer."""
        answer = self.ask("PUT", f"/v1/users/{user}?wait=qr&timeout=60")
        assert answer.status in {200, 201}, answer.body
        return self.call("GET", f"/v1/users/{user}/qr")

    def until_session(self, user, state):
        return until(
            lambda: (
                (shown := self.call("GET", f"/v1/users/{user}"))["session"]
                and shown["session"]["state"] == state
                and shown
            ),
            f"session {state} of user {user}",
        )

    # The phone

    def scan(self, port, phone):
        """Scan the code that the server on that port shows."""
        url = f"http://127.0.0.1:{self._control}/scan"
        answer = self.machine.curl("stranger", "POST", url, {"port": port, "phone": phone, "name": "Ana"})
        assert answer.status == 200, answer.body
