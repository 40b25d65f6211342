"""What comes back when the machine is switched off and on again, on a disk that keeps what was written."""

import itertools

import pytest
from harness import server, until
from rows import EVERYTHING
from testbed import guests

RELEASES = guests.RELEASES if EVERYTHING else guests.RELEASES[-1:]
LINKED = {"1": 5001, "2": 5002, "3": 5003}
STOPPED_BY_ADMIN = "4"
NOT_LINKED = "5"
STOPPED = "6"
NOT_AUTOSTARTED = "7"


@pytest.fixture(scope="module")
def inhabited(site):
    """A machine with users in every condition, who start one at a time."""
    site.configure(limits={"min_available_memory": 0, "start_concurrency": 1})
    for user in (*LINKED, STOPPED_BY_ADMIN, STOPPED, NOT_AUTOSTARTED):
        site.link(user, f"551199999000{user}")
    site.show_code(NOT_LINKED)
    site.call("PUT", f"/v1/users/{NOT_AUTOSTARTED}", body={"autostart": False})
    return site


def is_active(site, unit):
    return site.machine.systemctl("is-active", unit, check=False)


@pytest.mark.parametrize("how", ["power_off", "cut_off"])
def test_linked_sessions_come_back_one_after_the_other_and_of_the_rest_the_ports(inhabited, how):
    """Nobody calls: what runs was started by the boot."""
    site = inhabited
    site.call("POST", f"/v1/users/{STOPPED}/stop")
    site.machine.systemctl("stop", f"whatsapp@500{STOPPED_BY_ADMIN}.socket")
    boot = site.machine.run("cat", "/proc/sys/kernel/random/boot_id").stdout
    getattr(site.machine, how)()
    site.machine.boot()
    assert site.machine.run("cat", "/proc/sys/kernel/random/boot_id").stdout != boot

    back = {**LINKED, STOPPED_BY_ADMIN: int(f"500{STOPPED_BY_ADMIN}")}
    until(lambda: all(is_active(site, server(port)) == "active" for port in back.values()), "the servers")
    for user in back:
        site.until_session(user, "ready")
    starts = sorted(site.start_of(port) for port in back.values())
    assert all(connected <= began for (_, connected), (began, _) in itertools.pairwise(starts)), starts

    for user in (NOT_LINKED, NOT_AUTOSTARTED):
        assert is_active(site, f"whatsapp@500{user}.socket") == "active"
        assert is_active(site, server(f"500{user}")) == "inactive"
        assert site.call("GET", f"/v1/users/{user}")["process"]["state"] == "stopped"
    for unit in (f"whatsapp@500{STOPPED}.socket", server(f"500{STOPPED}")):
        assert is_active(site, unit) == "inactive"
    assert site.machine.systemctl("is-system-running", "--wait") == "running"

    # The port alone is enough for anyone who calls it, and who asks for a stopped user gets the login.
    answer = site.machine.curl("webapp", "GET", f"http://localhost:500{NOT_AUTOSTARTED}/health")
    assert answer.status == 200
    site.until_session(NOT_AUTOSTARTED, "ready")
    site.call("POST", f"/v1/users/{STOPPED}/start")
    site.until_session(STOPPED, "ready")
