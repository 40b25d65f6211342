"""The first command of the README, on machines that have nothing of what the package depends on."""

import itertools
import json

import pytest
from faults import note_seen
from harness import until
from rows import EVERYTHING
from testbed import guests

APT = 600.0
"""Seconds for some hundred packages; far more than they take."""


OLD, NEW = guests.RELEASES[0], guests.RELEASES[-1]
WITHOUT, WITH = "--no-install-recommends", "--install-recommends"
MACHINES = (
    list(itertools.product(guests.RELEASES, ("dbus", "dbus-broker"), (WITHOUT, WITH)))
    if EVERYTHING
    else [(OLD, "dbus", WITHOUT), (NEW, "dbus-broker", WITH)]
)


@pytest.mark.parametrize(("release", "bus", "recommends"), MACHINES)
def test_after_it_a_code_is_drawn_without_another_step(bare_site, bus, recommends):
    """One transaction of apt: the bus hears of its new policies before the user of ours is made."""
    site = bare_site
    assert site.machine.run("sh", "-c", "command -v node", check=False).returncode
    site.machine.run("apt-get", "install", "--yes", recommends, site.package, patience=APT)
    site.let_the_web_app_in()
    site.connect_to_standin()
    answer = site.machine.run("waportctl", "qr", "1", check=False)
    assert answer.returncode == 0, answer.stderr
    assert len(answer.stdout.split(",")) >= 4
    found = json.loads(site.machine.run("waportctl", "doctor", "--offline", "--json").stdout)["findings"]
    assert [finding for finding in found if finding["verdict"] == "fail"] == []
    # Nor has anything to be fixed by anyone who deletes a user, the one call that the bus keeps for root.
    site.machine.run("waportctl", "delete", "--yes", "1")
    until(lambda: site.ask("GET", "/v1/users/1").status == 404, "the deletion")
    what = f"apt install on a machine without what it needs, {recommends}, {bus}"
    note_seen(site, what, "the next command, waportctl qr 1, draws a code")
