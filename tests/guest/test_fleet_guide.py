"""The guide from one host to three (docs/fleet.md), word for word, on three fresh machines of each release."""

import contextlib
import json
import re
import time
from pathlib import Path

import pytest
from harness import PACKAGES, until
from machines import shown_to, site_on
from rows import MACHINES, Row, note
from testbed import guests, network

GUIDE = Path(__file__).resolve().parents[2] / "docs/fleet.md"
APT_S = 600.0
TWENTY_MINUTES_S = 1200.0

pytestmark = pytest.mark.thorough


def blocks():
    """Return the blocks of commands of the guide, with what an administrator of another network would replace."""
    _, _, text = GUIDE.read_text().partition("\n## Begin\n")
    text = text.partition("\n## ")[0].replace("192.0.2.", f"{network.PREFIX}.")
    found = re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE)
    return [re.sub(r"^ {4}", "", block, flags=re.MULTILINE) for block in found], text


class Host:
    """A fresh machine."""

    def __init__(self, name, site):
        self.name, self.site, self.machine = name, site, site.machine
        # Where the administrator has put the packages; apt asks nobody here.
        version = site.package.rpartition("/")[2].removeprefix("waportd_")
        for package in ("waportd", "waportd-fleet"):
            self.machine.run("cp", f"{PACKAGES}/{package}_{version}", "/root")
        self.machine.run("tee", "/etc/apt/apt.conf.d/99yes", given='APT::Get::Assume-Yes "true";\n')

    def type(self, block, hosts):
        """Do what a block says; ssh is played."""
        for line in block.replace("\\\n", " ").splitlines():
            if copied := re.fullmatch(r"scp (\S+) root@(\S+):", line):
                target = hosts[copied[2]]
                target.machine.run(
                    "tee", f"/root/{copied[1]}", given=self.machine.run("cat", f"/root/{copied[1]}").stdout
                )
                target.machine.run("chmod", "600", f"/root/{copied[1]}")
            else:
                self.machine.run("bash", "-euc", f"cd /root; {line}", patience=APT_S)


@pytest.fixture
def hosts(release, package):
    offered = ", ".join(
        [guests.field(package, "Depends"), "age, etcd-server, python3-cryptography"]  # of waportd-fleet
    )
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(guests.prepared_root(release, offered=offered))
        net = stack.enter_context(network.created())
        hosts = {}
        for name in "abc":
            port = net.add()
            booted = guests.booted(root, shown=shown_to(package), network=port.space.path)
            site = stack.enter_context(site_on(stack.enter_context(booted), package))
            hosts[port.address] = Host(name, site)
        yield hosts


@pytest.mark.parametrize("release", guests.RELEASES)
def test_from_one_host_to_three(hosts):
    (on_a, on_b, elsewhere, status), text = blocks()
    a, b, c = hosts.values()
    began = time.monotonic()
    a.type(on_a, hosts)
    b.type(on_b, hosts)
    [invite] = re.findall(r"after `(waportctl fleet invite c .*?)` on `a`", text)
    a.type(invite, hosts)
    a.type(f"scp c.bundle root@{network.PREFIX}.3:", hosts)
    c.type(on_b.replace("b.bundle", "c.bundle"), hosts)
    for host in (a, b, c):
        host.type(status, hosts)
    took = time.monotonic() - began
    assert took < TWENTY_MINUTES_S
    assert elsewhere.startswith("waportctl fleet init a"), "test_fleet.py does that one"
    listed = json.loads(a.machine.run("waportctl", "fleet", "status", "--json").stdout)["hosts"]
    assert [(host["name"], host["alive"]) for host in listed] == [("a", True), ("b", True), ("c", True)]
    for host in (a, b, c):
        host.machine.run("waportctl", "fleet", "doctor")
    for host in (a, b, c):
        host.site.let_the_web_app_in()
    # As the guide says: from then on, one of the three may fail.
    b.machine.cut_off()
    until(lambda: a.site.ask("PUT", "/v1/users/1?wait=none").status in {200, 201}, "a new user")
    assert c.site.call("GET", "/v1/users/1")["user"] == "1"
    b.machine.boot()
    until(lambda: b.site.ask("GET", "/v1/users/1").status == 200, "its return")
    # One that leaves takes its etcd along.
    c.machine.run("waportctl", "fleet", "leave", "--yes")
    assert c.machine.systemctl("is-active", "etcd", check=False) != "active"
    assert not c.machine.run("ls", "/etc/systemd/system/etcd.service.d", check=False).stdout
    until(lambda: a.site.ask("PUT", "/v1/users/2?wait=none").status in {200, 201}, "another user")
    said = a.machine.run("sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME").stdout.strip()
    what = "a host becomes a fleet of three, with etcd on them, by the guide"
    note(Row(said, what, "they run users; one may fail", round(took, 1)), MACHINES)
