"""A fault as those who depend on waportd live through it: what they saw, how long it lasted, what was lost."""

import contextlib
import json
import re
import time
from collections import Counter
from pathlib import Path

from harness import SOCKET, server, until
from rows import MACHINES, Row, note

_WITNESS = Path(__file__).parent / "witness.py"
_CALM = 5
"""Answers in a row, of each kind, after which the callers' world is in order again."""
_NOTED = "/var/lib/witness.json"
USER, PORT, PHONE = "1", 5001, "5511999990001"
"""Who is linked, and who the witness asks for."""
SERVICE = server(PORT)
UNANSWERED = {"ConnectionResetError", "RemoteDisconnected", "IncompleteRead"}
"""What a caller sees whose request was being answered by a process that died."""

_KILL = """
import os, re, sys, time

pattern, end, killed = re.compile(sys.argv[1]), time.monotonic() + float(sys.argv[2]), 0
while True:
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                line = file.read().replace("\\0", " ")
            if pid != os.getpid() and pattern.search(line):
                os.kill(pid, 9)
                killed += 1
        except OSError:
            pass
    if time.monotonic() >= end:
        break
    time.sleep(0.1)
print(killed)
"""


def kill_all(site, pattern, seconds=0.0):
    """Kill the processes whose command line matches, again and again for so long; return how many there were."""
    return int(site.machine.run("/usr/bin/python3", "-c", _KILL, pattern, str(seconds)).stdout)


class Witness:
    """A web app in the machine that asks all the time; it notes every answer."""

    def __init__(self, site, user=USER, port=PORT):
        self._site = site
        self._whom = user, str(port)

    def start(self):
        machine = self._site.machine
        machine.run("tee", "/run/witness.py", given=_WITNESS.read_text())
        machine.run(
            "systemd-run", "--quiet", "--unit=witness", "--uid=webapp", "--collect",
            f"--property=StandardOutput=truncate:{_NOTED}", "--property=KillSignal=SIGKILL",
            "/usr/bin/python3", "/run/witness.py", SOCKET, *self._whom,
        )  # fmt: skip

    def stop(self):
        self._site.machine.systemctl("stop", "witness", check=False)

    def noted(self):
        lines = self._site.machine.run("cat", _NOTED, check=False).stdout.splitlines()
        # The last one may be cut off.
        return [json.loads(line) for line in lines if line.endswith("}")]

    def is_calm(self, since):
        """Return whether calls of both kinds that began after that moment were answered, the last ones in a row."""
        for what in ("API", "port"):
            said = [
                line["said"]
                for line in self.noted()
                if line["what"] == what and line["at"] - line["took"] >= since
            ]
            if len(said) < _CALM or any(word != 200 for word in said[-_CALM:]):
                return False
        return True


def summary(lines):
    """Say in words what the callers saw."""
    words = []
    for what in ("API", "port"):
        own = [line for line in lines if line["what"] == what]
        failed = Counter(str(line["said"]) for line in own if line["said"] != 200)
        longest = max((line["took"] for line in own), default=0)
        text = ", ".join(f"{count} × {word}" for word, count in sorted(failed.items())) or "all answered"
        words.append(f"{what}: {text}, longest wait {longest:.1f} s")
    return "; ".join(words)


def belongings(site):
    """Return what may not get lost: who has which port, and which sessions are linked."""
    return {
        (shown["user"], shown["port"], shown["linked"]) for shown in site.call("GET", "/v1/users")["users"]
    }


def is_linked(site):
    answer = site.ask("GET", f"/v1/users/{USER}")
    session = answer.json.get("session") if answer.status == 200 else None
    return bool(session and session["state"] == "ready" and session["answering"])


class Lived:
    """What a test wants to know of a fault it caused."""

    def __init__(self):
        self.lines = []
        self.lost = "nothing"
        """What the fault itself destroyed."""

    def failed(self, what):
        """Return what callers of that kind got in place of an answer."""
        return [line["said"] for line in self.lines if line["what"] == what and line["said"] != 200]


@contextlib.contextmanager
def lived_through(site, fault):
    """Cause a fault inside the block, and fix it where that is an administrator's part; note the result of it.

    Returns when all is well again, fails where something is lost.
    """
    # From the fourth end in a row on a server has to wait for its next start, and these are many different ones.
    site.machine.systemctl("reset-failed")
    before, lived = belongings(site), Lived()
    witness = Witness(site)
    witness.start()
    until(lambda: witness.is_calm(0), "the calm before")
    began = time.time()
    try:
        yield lived
        mended = time.time()
        until(lambda: is_linked(site), f"the linked session, after: {fault}")
        linked = time.time()
        until(lambda: witness.is_calm(mended), f"answers, after: {fault}")
        until(
            lambda: site.machine.systemctl("is-system-running", check=False) == "running", "a running system"
        )
    finally:
        witness.stop()
    lived.lines = [line for line in witness.noted() if line["at"] >= began]
    last = max((line["at"] for line in lived.lines if line["said"] != 200), default=began)
    assert belongings(site) >= before
    seconds = round(max(last, linked) - began, 1)
    note(Row(release(site), fault, summary(lived.lines), seconds, lived.lost), MACHINES)


def note_seen(site, fault, saw, began=None):
    """Note a row of what a test has seen; ``began``: when, by the monotonic clock, what was well again just now went wrong."""
    seconds = None if began is None else round(time.monotonic() - began, 1)
    note(Row(release(site), fault, saw, seconds), MACHINES)


def release(site):
    """Return the name of the Debian that the machine runs."""
    return re.search(r"VERSION_CODENAME=(\w+)", site.machine.run("cat", "/etc/os-release").stdout)[1]
