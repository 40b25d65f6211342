"""A fleet of three booted machines, and an etcd beside them: who runs a user when hosts, daemons and the network fail.

The sessions have no browser. What must never be is that one runs on two hosts. The machines run on one kernel, whose
control groups show at any time which sessions live on which of them.
"""

import contextlib
import dataclasses
import subprocess
import threading
import time
from pathlib import Path

import pytest
import yaml
from harness import until
from machines import shown_to, site_on
from rows import EVERYTHING, MACHINES, Row, note
from testbed import cgroups, etcd, guests, network

from waportd.fleet.timing import Timing

ROOT = Path(__file__).resolve().parents[2]
RELEASES = guests.RELEASES if EVERYTHING else guests.RELEASES[-1:]
NAMES = ("a", "b", "c")
TIMING = Timing(
    renew_s=0.5, call_s=0.4, ask_s=0.5, deadline_s=2.3, late_s=0.5, watchdog_s=2.8, abort_s=0.3, stop_s=2.0,
    ttl_s=7.0, taken_s=14.0,
)  # fmt: skip
"""A sixth of the times of a real fleet; what must hold between them does."""
FAILOVER_AFTER_S = 2.0
WHOLE_S = TIMING.ttl_s + FAILOVER_AFTER_S
USERS = 6
FLEET_CODE = "/usr/lib/python3/dist-packages/waportd/fleet"
FLEET_UNITS = "/usr/lib/waportd/units/fleet"
LEASE = """\
#!/bin/sh
exec /usr/bin/python3 -m waportd.fleet "$@"
"""
WRITE_UNITS = f"""
from pathlib import Path
from waportd.config import Bus
from waportd.fleet.timing import Timing
from waportd.fleet.units import render_units, write
write(Path("/etc/systemd/system"), render_units(bus=Bus.SYSTEM, timing={TIMING!r}))
"""
FOUND = """
import asyncio, sys
from waportd.fleet.etcd import Etcd
from waportd.fleet.founding import admit, found

async def main(endpoint, hosts):
    engine = Etcd([endpoint])
    (first, *others) = hosts
    await found(engine, *first, 100)
    for host in others:
        await admit(engine, *host, 100)
    await engine.close()

asyncio.run(main(sys.argv[1], [pair.split("=") for pair in sys.argv[2:]]))
"""


@contextlib.contextmanager
def engine(net, folder):
    """Run an etcd on the bridge; give its URL."""
    url = f"http://{network.HUB}:2379"
    command = [
        *net.hub.command, etcd.program("trixie", "etcd"), "--data-dir", folder,
        "--listen-client-urls", url, "--advertise-client-urls", url,
    ]  # fmt: skip
    with (
        (folder.parent / "etcd.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            yield url
        finally:
            process.kill()


class FleetHost:
    """One machine of the fleet."""

    def __init__(self, name, site, port):
        self.name, self.site, self.machine, self.port = name, site, site.machine, port

    def join(self, url):
        """Be made one of the fleet."""
        run = self.machine.run
        settings = {
            "name": self.name,
            "address": f"{self.port.address}:7467",
            "engine": [url],
            "failover_after_s": FAILOVER_AFTER_S,
        }
        run("mkdir", "--parents", "/etc/waportd/fleet")
        run("tee", "/etc/waportd/fleet/fleet.yaml", given=yaml.safe_dump(settings))
        run("tee", "/usr/lib/waportd/lease", given=LEASE)
        run("chmod", "755", "/usr/lib/waportd/lease")
        run("cp", f"{FLEET_UNITS}/waportd-fleet.rules", "/usr/share/polkit-1/rules.d/")
        run("/usr/bin/python3", "-c", WRITE_UNITS)
        self.machine.systemctl("daemon-reload")
        self.machine.systemctl("restart", "polkit")
        self.machine.systemctl("restart", "waportd")

    def users(self):
        """Return the states of the processes of the users of this host, by user."""
        answer = self.site.call("GET", "/v1/users")
        return {row["user"]: row["process"]["state"] for row in answer["users"]}

    def is_established(self):
        """Return whether it has seen all members for long enough to take users."""
        return "the members of the fleet are a, b, c" in self.machine.journal("--unit=waportd")

    def holds_lease(self):
        """Return whether it does."""
        state = self.machine.systemctl("is-active", "waportd-lease", check=False)
        return state == "active"

    def ports(self):
        """Return the ports of the sessions that live on it, as the kernel says, also where nobody can ask it."""
        for unified in (cgroups.ROOT, cgroups.ROOT / "unified"):
            slices = list(unified.glob(f"**/{self.machine.name}/**/whatsapp.slice"))
            if slices:
                return {
                    int(path.name[len("whatsapp@") : -len(".service")])
                    for path in slices[0].glob("whatsapp@*.service")
                    if _is_populated(path)
                }
        return set()


def _is_populated(group):
    with contextlib.suppress(OSError):
        return "populated 1" in (group / "cgroup.events").read_text()
    return False


@dataclasses.dataclass
class Lives:
    """Looks all the time which sessions live on which host."""

    hosts: list[FleetHost]
    twice: list[tuple[float, int, list[str]]] = dataclasses.field(default_factory=list)

    def __enter__(self):
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        assert self.twice == [], "sessions that ran on two hosts"

    def _run(self):
        while not self._ended.wait(0.02):
            lives = {}
            for host in self.hosts:
                for port in host.ports():
                    lives.setdefault(port, []).append(host.name)
            now = time.monotonic()
            self.twice += [(now, port, names) for port, names in lives.items() if len(names) > 1]


@pytest.fixture(scope="module")
def fleet(root, package, installed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    shown = {ROOT / "waportd/fleet": FLEET_CODE, ROOT / "units/fleet": FLEET_UNITS}
    written = installed(root)
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(network.created())
        url = stack.enter_context(engine(net, folder / "data"))
        hosts = []
        for name in NAMES:
            port = net.add()
            booted = guests.booted(
                root, shown=shown_to(package) | shown, written=written, network=port.space.path
            )
            site = stack.enter_context(site_on(stack.enter_context(booted), package))
            site.find_standin()
            site.use_light_servers("/etc/systemd/system")
            hosts.append(FleetHost(name, site, port))
        pairs = [f"{host.name}={host.port.address}:7467" for host in hosts]
        command = [*net.hub.command, "/usr/bin/python3", "-c", FOUND, url, *pairs]
        subprocess.run(command, cwd=ROOT, check=True)
        for host in hosts:
            host.join(url)
        for host in hosts:
            until(host.is_established, "what makes a host one that the others rely on")
        yield hosts


def owners(*hosts):
    """Return the host of each user, as the hosts say that are asked."""
    return {user: host.name for host in hosts for user in host.users()}


def run_all(*hosts):
    """Have the servers of all users run: who has no login is started by the first request."""
    for host in hosts:
        for user, state in host.users().items():
            if state != "running":
                host.site.call("PUT", f"/v1/users/{user}")


@pytest.fixture(scope="module")
def settled(fleet):
    """Six users, of whom the first host has all; they are linked, as far as servers without a browser are."""
    a, *_ = fleet
    for number in range(1, USERS + 1):
        a.site.link_light(str(number))
    time.sleep(1)  # what is only known to the host that dies is lost with it
    return fleet


def noted(host, fault, saw, began):
    release = host.machine.run("sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME").stdout.strip()
    note(Row(release, fault, saw, round(time.monotonic() - began, 1)), MACHINES)


def test_users_of_a_host_without_power_are_on_others_and_it_gives_them_up_when_it_is_back(settled):
    a, b, c = settled
    with Lives(settled):
        began = time.monotonic()
        a.machine.cut_off()
        until(lambda: len(owners(b, c)) == USERS, "the users on other hosts")
        taken = time.monotonic()
        assert taken - began > TIMING.ttl_s - TIMING.renew_s + FAILOVER_AFTER_S
        run_all(b, c)
        before = owners(b, c)
        assert set(before.values()) == {"b", "c"}, "each takes its share"
        noted(b, "a host of three loses its power", f"its {USERS} users run on the two others", began)
        a.machine.boot()
        until(a.holds_lease, "the next lease")
        until(lambda: a.site.ask("GET", "/v1/users").json["users"] == [], "the loss")
        time.sleep(WHOLE_S)
        assert owners(b, c) == before
        assert a.ports() == set()


def test_a_host_that_is_cut_off_ends_its_sessions_before_others_run_them(settled):
    a, b, c = settled
    with Lives(settled):
        cut = next(host for host in (b, c) if owners(host))
        others = [host for host in settled if host is not cut]
        ports = cut.ports()
        began = time.monotonic()
        cut.port.unplug()
        until(lambda: not cut.ports(), "the end of its sessions")
        ended = time.monotonic() - began
        assert ended < TIMING.deadline_s + TIMING.stop_s + TIMING.renew_s + 1
        until(lambda: len(owners(*others)) == USERS, "all users on the others")
        run_all(*others)
        saw = f"its {len(ports)} sessions end after {ended:.1f} s; they run on the two others"
        noted(a, "a host of three is cut off from the network", saw, began)
        cut.port.plug()
        until(cut.holds_lease, "the next lease")
        until(lambda: cut.users() == {}, "the loss")
        assert not cut.ports()


def test_a_daemon_that_is_killed_stopped_and_started_disturbs_no_session(settled):
    host = next(host for host in settled if host.ports())
    ports = host.ports()
    pids = {port: host.site.main_pid(f"whatsapp@{port}.service") for port in ports}
    with Lives(settled):
        host.machine.systemctl("kill", "--signal=KILL", "waportd")
        until(lambda: host.site.ask("GET", "/v1/users").status == 200, "the daemon's return")
        host.machine.systemctl("stop", "waportd")
        time.sleep(WHOLE_S)
        host.machine.systemctl("start", "waportd")
        until(lambda: list(host.users().values()).count("running") == len(ports), "the daemon's picture")
    assert {port: host.site.main_pid(f"whatsapp@{port}.service") for port in ports} == pids


def test_a_user_who_is_elsewhere_is_not_made_again_nor_is_the_port_given_away(settled):
    owner, other = (next(host for host in settled if bool(owners(host)) is has) for has in (True, False))
    user = next(iter(owners(owner)))
    refused = other.site.ask("PUT", f"/v1/users/{user}")
    assert refused.status == 421
    assert f"user {user} is on host {owner.name}" in refused.json["detail"]
    taken = {row["port"] for row in owner.site.call("GET", "/v1/users")["users"]}
    port = other.site.call("PUT", "/v1/users/new?wait=none", 201)["port"]
    assert port not in taken
    other.site.call("DELETE", "/v1/users/new", 204)
