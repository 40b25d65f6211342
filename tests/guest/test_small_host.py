"""A host with 1 GB of memory: what docs/operations.md promises there, and that the kernel never has to end anything."""

import json

import pytest
from faults import note_seen
from harness import until
from memory import Confined, tell_memory

pytestmark = pytest.mark.thorough
MEMORY = 1 << 30
LIMITS = {"start_concurrency": 1, "memory_max": "512M"}
"""As docs/operations.md has it."""
LEAST = 2
"""Users whose sessions fit, by the same page."""
MOST = 12
SEEN = "/mnt/meminfo"
_meminfo = None


def prepare(disk, package):
    """Have the machine see a file of this one as its /proc/meminfo."""
    global _meminfo  # noqa: PLW0603
    _meminfo = disk.parent / "meminfo"
    tell_memory(_meminfo, MEMORY, MEMORY // 2)
    (disk / SEEN[1:]).touch()
    return (f"--bind-ro={_meminfo}:{SEEN}",)


@pytest.fixture(scope="module")
def small(unusual_site):
    site = unusual_site
    site.machine.run("mount", "--bind", SEEN, "/proc/meminfo")
    with Confined(site.machine, _meminfo, MEMORY) as confined:
        site.install()
        site.connect_to_standin()
        site.configure(limits=LIMITS)
        yield site, confined


def phone(number):
    return f"55119999900{number:02}"


def fitting(site):
    return site.call("GET", "/v1/host")["more_sessions"]


def test_sessions_are_linked_until_no_more_fit_and_all_continue(small, record_property):
    site, confined = small
    assert site.call("GET", "/v1/host")["memory"]["total"] == MEMORY
    linked, refused = [], None
    while refused is None and len(linked) < MOST:
        user = str(len(linked) + 1)
        answer = site.ask("PUT", f"/v1/users/{user}?wait=listening")
        if answer.status == 503:
            refused = json.loads(answer.body)
            break
        site.link(user, phone(len(linked)))
        linked.append(user)
    assert len(linked) > LEAST
    assert confined.kills() == 0
    assert all(site.call("GET", f"/v1/users/{user}")["session"]["state"] == "ready" for user in linked)
    if not confined.is_real:
        record_property("only played here", "1 GB: the kernel has no controller that these tests may use")
        return
    assert refused["code"] == "limit_reached"
    assert "available" in refused["detail"]
    assert fitting(site) == 0
    said = site.machine.run("waportctl", "doctor", "--offline", "--json", check=False).stdout
    [finding] = [each for each in json.loads(said)["findings"] if each["check"] == "memory"]
    assert finding["verdict"] == "fail"
    assert "no server starts" in finding["message"]
    # The machine's disk is in its memory, too: only who is deleted gives all back.
    for user in [*linked[-4:], str(len(linked) + 1)]:
        site.call("DELETE", f"/v1/users/{user}", 204)
    until(lambda: fitting(site) >= 1, "room for another one")
    saw = f"{len(linked)} sessions of the stand-in's small page were linked, the next was refused with the reason, none was ended"
    note_seen(site, "a host with 1 GB of memory", saw)
