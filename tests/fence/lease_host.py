"""What a test of the fence drives: the real units of a host, and a fleet that it switches on and off."""

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import psutil
from played_fleet import Folder
from testbed.ports import free_port

from waportd import units as host_units
from waportd.config import Bus, Config
from waportd.fleet import units
from waportd.fleet.lease import Environments
from waportd.fleet.timing import Timing
from waportd.model import Assignment, Port, User

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
PATIENCE = 60.0
TIMING = Timing(
    renew_s=0.2,
    call_s=0.3,
    ask_s=0.5,
    deadline_s=2.2,
    late_s=1.0,
    watchdog_s=2.6,
    abort_s=1.0,
    stop_s=1.2,
    ttl_s=6.5,
    taken_s=14.0,
)
LEASE = units.LEASE_UNIT

PROGRAM = """\
#!/usr/bin/python3
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {here!r}]
import played_fleet
from waportd.fleet.program import main

async def connect():
    folder = played_fleet.Folder(Path({fleet!r}))
    return played_fleet.Engine(folder), played_fleet.Peers(folder)

main("a", connect)
"""


def until(condition, what="it"):
    """Wait until the condition gives something true; return that."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen in {PATIENCE:g} s"
        time.sleep(0.01)
    return result


def systemctl(*arguments, check=True):
    result = subprocess.run(
        ["systemctl", "--user", *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert not check or result.returncode == 0, f"systemctl {' '.join(arguments)}: {result.stderr}"
    return result.stdout.strip()


def show(unit, name):
    return systemctl("show", "--value", f"--property={name}", "--", unit)


def state(unit):
    return show(unit, "ActiveState")


def service(port):
    return f"whatsapp@{port}.service"


class LeaseHost:
    """A host named a. Its users are sessions that beat."""

    def __init__(self, path):
        self.path = path
        self.runtime = Path(os.environ["XDG_RUNTIME_DIR"])
        self.instances = self.runtime / "waportd/instances"
        self.fleet = Folder(path)
        self.beat = path / "beat.py"
        self.ports = []
        defaults = Config()
        self.config = dataclasses.replace(
            defaults,
            store=dataclasses.replace(defaults.store, directory=path),
            instances=dataclasses.replace(defaults.instances, script=str(self.beat), node="/usr/bin/python3"),
            systemd=dataclasses.replace(defaults.systemd, bus=Bus.SESSION),
        )

    def install(self):
        """Write the units, of a host and of a fleet, and have systemd read them."""
        shutil.copy(HERE / "beat.py", self.beat)
        program = self.path / "lease"
        program.write_text(PROGRAM.format(root=str(ROOT), here=str(HERE), fleet=str(self.path)))
        program.chmod(0o755)
        host_units.install_session_units(self.config)
        # A user's own systemd is not at the root of the control groups.
        root = Path("/sys/fs/cgroup", show("-.slice", "ControlGroup").lstrip("/"))
        self.sessions = root / "whatsapp.slice"
        written = units.render_units(
            bus=Bus.SESSION, timing=TIMING, programs=self.path, sessions=self.sessions
        )
        units.write(self.runtime / "systemd/user", written)
        systemctl("daemon-reload")

    def begin(self):
        self.fleet.begin()
        systemctl("start", LEASE)

    def end(self):
        self.fleet.set(engine="up")
        systemctl("stop", "whatsapp.target", LEASE, *map(service, self.ports))
        systemctl("reset-failed")
        for port in self.ports:
            (self.path / f"{port}.beats").unlink(missing_ok=True)
            (self.path / f"{port}.deaf").unlink(missing_ok=True)
        self.ports.clear()

    def environments(self):
        """Return the daemon's side of the lease that is held."""
        return Environments(self.instances)

    def allow(self, *ports):
        """Write environments, without which nothing starts."""
        environments = self.environments()
        for port in ports:
            user = Assignment(User(str(port)), Port(port))
            environments.write(Port(port), host_units.environment(user, self.config))
        environments.close()

    def run(self, number, deaf=()):
        """Start sessions; return their ports. Those of these indexes ignore SIGTERM."""
        ports = []
        for index in range(number):
            ports.append(next(port for port in iter(free_port, None) if port not in ports))
            if index in deaf:
                (self.path / f"{ports[-1]}.deaf").touch()
        self.ports += ports
        self.allow(*ports)
        systemctl("start", *map(service, ports))
        return ports

    def beats(self, port):
        """Return when a session wrote that it runs, in order."""
        file = self.path / f"{port}.beats"
        # The last line may not be whole yet.
        return [float(line) for line in file.read_text().split("\n")[:-1]] if file.exists() else []

    def longest_gap(self, ports, since=0.0):
        """Return the longest time in seconds without a beat, of any of these."""
        return max(
            later - before
            for port in ports
            for before, later in itertools.pairwise(self.beats(port))
            if before >= since
        )

    def pids(self, ports):
        return {port: int(show(service(port), "MainPID")) for port in ports}

    def shell(self):
        """Return the main process of the lease unit."""
        return psutil.Process(int(show(LEASE, "MainPID")))

    def keeper(self):
        """Return the process of the keeper, which runs the program already."""

        def found():
            for child in self.shell().children():
                try:
                    if str(self.path / "lease") in child.cmdline():
                        return child
                except psutil.NoSuchProcess:
                    pass
            return None

        return until(found, "the start of a keeper")

    def incarnation(self):
        return json.loads((self.instances / "lease.json").read_text())["incarnation"]

    def renewed_after(self, moment):
        """Wait for a renewal that began after this moment."""
        until(lambda: (self.fleet.renewals() or [0])[-1] > moment, "a renewal")

    def gone(self, ports):
        """Wait until no session runs; return when the last one beat."""
        until(lambda: not self.populated(), "the end of all sessions")
        return max(self.beats(port)[-1] for port in ports)

    def populated(self):
        try:
            return "populated 1" in (self.sessions / "cgroup.events").read_text()
        except FileNotFoundError:
            return False
