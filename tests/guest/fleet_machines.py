"""Three booted machines as one fleet, with an etcd beside them: for tests, and for measurements.

The sessions have no browser. Times are shorter than those of a real fleet.
"""

import contextlib
import functools
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness import PACKAGES, until
from machines import shown_to, site_on
from testbed import cgroups, etcd, guests, network

from waportd.fleet.timing import Timing

NAMES = ("a", "b", "c")
SETTINGS = "/etc/waportd/fleet/fleet.yaml"
LOGINS = "/var/lib/waportd/snapshots"
"""Where each host keeps logins of the others' users."""
TIMING = Timing(
    renew_s=0.75, call_s=0.6, ask_s=0.8, deadline_s=3.8, late_s=0.5, watchdog_s=4.4, abort_s=0.4, stop_s=2.0,
    ttl_s=9.0, taken_s=18.0,
)  # fmt: skip
"""A fourth or fifth of the times of a real fleet; what must hold between them does."""
FAILOVER_AFTER_S = 2.0
WHOLE_S = TIMING.ttl_s + FAILOVER_AFTER_S
CHANGE_TIMES = f"""
from pathlib import Path
from waportd.config import Bus
from waportd.fleet.timing import Timing
from waportd.fleet.units import render_units, write
write(Path("/etc/systemd/system"), render_units(bus=Bus.SYSTEM, timing={TIMING!r}))
"""


class Engine:
    """An etcd on the bridge."""

    def __init__(self, net, folder):
        self.url = f"http://{network.HUB}:2379"
        self._inside, self._folder, self._lives = net.hub.command, folder, 0
        self._log = (folder / "etcd.log").open("ab")
        self.start()

    @property
    def _data(self):
        return self._folder / f"data{self._lives}"

    def start(self):
        command = [
            *self._inside, etcd.program("trixie", "etcd"), "--data-dir", self._data,
            "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def set_up_again(self):
        """Begin with nothing, as after the loss of all members."""
        self.kill()
        self._lives += 1
        self.start()

    def save(self):
        """Return a copy, as docs/fleet.md says how to make one."""
        copy = self._folder / f"copy{self._lives}.db"
        self._etcdctl("--endpoints", self.url, "snapshot", "save", copy)
        return copy

    def restore(self, copy):
        """Begin with a copy, as docs/fleet.md says how."""
        self.kill()
        self._lives += 1
        self._etcdctl("snapshot", "restore", copy, "--data-dir", self._data)
        self.start()

    def _etcdctl(self, *words):
        command = [*self._inside, etcd.program("trixie", "etcdctl"), *words]
        subprocess.run(command, check=True, stdout=self._log, stderr=self._log, timeout=60)

    def kill(self):
        self._process.kill()
        self._process.wait()

    def close(self):
        self.kill()
        self._log.close()


class FleetHost:
    """One machine of the fleet."""

    def __init__(self, name, site, port, release):
        self.name, self.site, self.machine, self.port = name, site, site.machine, port
        self.release = release
        """What is noted of it: that of the machine, or ``both`` where the fleet is mixed."""

    def install(self, package):
        """Install the package that a fleet needs beside the other."""
        self.package = package
        self.machine.run(
            "dpkg", "--install", f"{PACKAGES}/{package.name.replace('waportd_', 'waportd-fleet_')}"
        )

    def ctl(self, *words):
        """Run waportctl as root."""
        return self.machine.run("waportctl", *words).stdout

    def hurry(self):
        """Have this host's times be those of the tests."""
        self.machine.run("sh", "-c", f"echo failover_after_s: {FAILOVER_AFTER_S} >> {SETTINGS}")
        self.machine.run("sed", "--in-place", "/failover_after_s: 15/d", SETTINGS)
        self.machine.run("/usr/bin/python3", "-c", CHANGE_TIMES)
        self.machine.systemctl("daemon-reload")
        self.machine.systemctl("restart", "waportd-lease")
        self.machine.systemctl("restart", "waportd")

    def users(self):
        """Return the states of the processes of the users of this host, by user."""
        answer = self.site.call("GET", "/v1/users?host=self")
        return {row["user"]: row["process"]["state"] for row in answer["users"]}

    def keeps_login(self, user):
        """Return whether it has a whole login of a user of another host."""
        look = f"ls {LOGINS}/{user}/*/manifest-* 2>/dev/null || true"
        return bool(self.machine.run("sh", "-c", look).stdout)

    def is_established(self):
        """Return whether it has seen all members for long enough to take users."""
        return "the members of the fleet are a, b, c" in self.machine.journal("--unit=waportd")

    def keeper_says(self):
        """Return what `systemctl status` shows of the lease."""
        return self.machine.show("waportd-lease", "StatusText")

    def holds_lease(self):
        """Return whether it does."""
        state = self.machine.systemctl("is-active", "waportd-lease", check=False)
        return state == "active"

    def ports(self):
        """Return the ports of the sessions that live on it, as the kernel says, also where nobody can ask it."""
        groups = (self.group() / "whatsapp.slice").glob("whatsapp@*.service")
        return {_port(path.name) for path in groups if _is_populated(path)}

    def group(self):
        """Return the control group of all that runs in it; systemd-nspawn keeps it apart from itself."""
        below = [
            _group(unified) / self.machine.name / "payload"
            for unified in (cgroups.ROOT, cgroups.ROOT / "unified")
        ]
        return next((path for path in below if path.is_dir()), below[0])

    @contextlib.contextmanager
    def stands_still(self):
        """Have nothing of it run, as a virtual machine that is paused while its clock runs on."""
        freeze = self.group() / "cgroup.freeze"
        freeze.write_text("1")
        try:
            yield
        finally:
            freeze.write_text("0")


@functools.cache
def _group(unified):
    """Return the control group in which the machines' own are."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return unified / next(line for line in lines if line.startswith("0::")).removeprefix("0::/")


def _port(name):
    return int(name.removeprefix("whatsapp@").removesuffix(".service"))


def _is_populated(group):
    """Return whether a server runs there; systemd itself, as when it deletes what a session has left, has a name in brackets."""
    with contextlib.suppress(OSError):
        return any(not _name(pid).startswith("(") for pid in (group / "cgroup.procs").read_text().split())
    return False


def _name(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return "(it has ended)"


class Hosts(list):
    """The hosts of a fleet, and its engine."""

    engine: Engine


@contextlib.contextmanager
def fleet_on(
    disks: Sequence[tuple[Path, Path]], package: Path, folder: Path, release: str
) -> Iterator[Hosts]:
    """Give the hosts a, b and c of a fleet: for each a root, and what an installation has left on it."""
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(network.created())
        engine = stack.enter_context(contextlib.closing(Engine(net, folder)))
        hosts = Hosts()
        hosts.engine = engine
        for name, (root, written) in zip(NAMES, disks, strict=True):
            port = net.add()
            booted = guests.booted(root, shown=shown_to(package), written=written, network=port.space.path)
            site = stack.enter_context(site_on(stack.enter_context(booted), package))
            site.find_standin()
            site.use_light_servers("/etc/systemd/system")
            hosts.append(FleetHost(name, site, port, release))
            hosts[-1].install(package)
        begin(hosts)
        for host in hosts:
            host.hurry()
        for host in hosts:
            until(host.is_established, "what makes a host one that the others rely on")
        yield hosts


def begin(hosts):
    """Make a fleet of hosts, as their administrator does."""
    first, *others = hosts
    address = f"{first.port.address}:7467"
    first.ctl("fleet", "init", first.name, "--address", address, "--engine", hosts.engine.url)
    for host in others:
        join(first, host)


def join(first, host):
    """Have a host join the fleet that another one has begun."""
    bundle = f"/root/{host.name}.bundle"
    first.machine.run("rm", "--force", bundle)
    first.ctl("fleet", "invite", host.name, bundle, "--address", f"{host.port.address}:7467")
    host.machine.run("tee", bundle, given=first.machine.run("cat", bundle).stdout)
    host.machine.run("chmod", "600", bundle)
    host.ctl("fleet", "join", bundle)


def owners(*hosts):
    """Return the host of each user, as the hosts say that are asked."""
    return {user: host.name for host in hosts for user in host.users()}


def all_are_linked(*hosts):
    """Return once all users run, linked as before: nobody has scanned a code since."""
    for host in hosts:
        for user in host.users():
            host.site.until_session(user, "ready")
