"""One request's path, as docs/architecture.md describes it: no step is done twice."""

import asyncio
import collections

import psutil
import pytest
from support import BASE

import waportd.api.connections
from waportd.api.access import Access
from waportd.model import service_unit, socket_unit
from waportd.sockets import Sockets
from waportd.units import EnvironmentFolder


@pytest.fixture
def steps(monkeypatch, systemd, store):
    """Count what takes time, or is worth doing once only."""
    counted = collections.Counter()

    def count(owner, name, step):
        does = getattr(owner, name)

        def counting(*arguments, **options):
            counted[step] += 1
            return does(*arguments, **options)

        monkeypatch.setattr(owner, name, counting)

    count(EnvironmentFolder, "write", "environment writes")
    count(psutil, "virtual_memory", "memory measurements")
    count(Sockets, "make_room", "searches for a free socket")
    count(Access, "permits", "looks at the list of callers")
    count(waportd.api.connections, "uid_of_peer", "questions for the caller's uid")
    count(asyncio.Lock, "acquire", "locks")
    count(store, "put", "commits")
    for method in (
        "start",
        "stop",
        "restart",
        "clean",
        "reset_failed",
        "status",
        "list_units",
        "limit_memory",
    ):
        count(systemd, method, f"systemd: {method}")
    return counted


async def test_a_first_put_until_the_code_repeats_no_step(api, systemd, steps):
    systemd.prepare = lambda server: setattr(server, "on_ask", server.show_code)
    async with api.get("/v1/users") as answer:  # opens the connection
        assert answer.status == 200
    steps.clear()
    systemd.calls.clear()
    async with api.put("/v1/users/2?wait=qr") as answer:
        assert answer.status == 201
        assert (await answer.json())["session"]["state"] == "qr"
    port = BASE + 1
    assert systemd.calls == [
        ("clean", service_unit(port)),
        ("start", socket_unit(port)),
        ("start", service_unit(port)),
    ]
    assert systemd.servers[port].calls == ["new code"]
    assert steps == {
        "environment writes": 1,
        "memory measurements": 1,
        "searches for a free socket": 1,
        # When it comes, and when the answer goes out: the list may have changed while the code was waited for.
        "looks at the list of callers": 2,
        "commits": 1,
        # The user's, that of the start, and that of what is written.
        "locks": 3,
        "systemd: clean": 1,
        "systemd: start": 2,
    }
