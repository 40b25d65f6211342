"""The hosts that a keeper asks while the engine is away."""

import asyncio
import dataclasses

import pytest

from waportd.fleet import failsafe
from waportd.fleet.engine import Host, HostState, Lease
from waportd.fleet.failsafe import Answer
from waportd.fleet.host_list import HostList
from waportd.fleet.lease import LeaseFolder, OwnLease

LEASE = Lease("a", 1, 7, 45.0)


def host(name, **values):
    return Host(name, f"{name}:7467", HostState.ACTIVE, "1", 10, 0.0, alive=True, incarnation=1, **values)


def test_what_another_host_knows_is_added_and_the_engine_has_the_last_word():
    hosts = HostList()
    hosts.replace([host("a"), dataclasses.replace(host("b"), state=HostState.LEFT)])
    hosts.learn({"b": "elsewhere:1", "c": "c:7467"})
    assert sorted(hosts()) == ["a", "b", "c"]
    assert hosts()["b"].state is HostState.LEFT
    assert hosts()["c"].address == "c:7467"
    hosts.replace([host("a")])
    assert sorted(hosts()) == ["a"]


class Others:
    """Hosts that each know one more."""

    def __init__(self, *answers):
        self.known, self.asked = ["b"], []
        self._answers = dict(answers)

    def others(self):
        return self.known

    async def renew(self, name, lease):
        self.asked.append(name)
        answer, more = self._answers[name]
        await asyncio.sleep(0.01)
        self.known = [*self.known, *(one for one in more if one not in self.known)]
        return answer


@pytest.mark.parametrize(
    ("last", "prolonged"),
    [(Answer.UNREACHABLE, "failsafe"), (Answer.SILENT, None), (Answer.RENEWED, "host d")],
)
async def test_hosts_that_are_heard_of_on_the_way_are_asked_too(last, prolonged):
    """A host that joined while this one did not reach the engine may reach it, and take users."""
    others = Others(("b", (Answer.UNREACHABLE, "bc")), ("c", (Answer.UNREACHABLE, "d")), ("d", (last, "")))
    answers = await failsafe.ask(others, LEASE, 5.0)
    assert others.asked == ["b", "c", "d"]
    why = failsafe.prolonged(answers)
    assert why is None if prolonged is None else why.startswith(prolonged)


def test_the_daemon_sees_each_time_that_another_host_heard_of_an_outage(tmp_path):
    own = OwnLease(tmp_path, clock=None)
    assert own.outage() is None
    with LeaseFolder(tmp_path) as folder:
        seen = [own.outage()]
        for _ in range(2):
            folder.note_outage()
            seen.append(own.outage())
    assert len(set(seen)) == 3
