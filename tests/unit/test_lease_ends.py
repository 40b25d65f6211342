"""The end of a fleet's lease stops all servers: that is no decision of an administrator about any of them."""

import functools

import pytest
from support import BASE, is_process, settled, until

from waportd.host import SingleHost
from waportd.model import Port, ProcessState, User, socket_unit
from waportd.readiness import Wait

ONE, PORT = User("1"), Port(BASE)
STOPPED = "stopped (by admin)"


class Member(SingleHost):
    """A host whose daemon waits for its fleet before it starts anyone."""

    acts_at_once = False


@pytest.fixture
async def start(start_supervisor, config):
    return functools.partial(start_supervisor, host=Member(config.store.instances))


@pytest.fixture
async def linked(start, systemd):
    supervisor = await start()
    systemd.prepare = lambda server: server.link()
    await supervisor.resume(7)
    await supervisor.ensure(ONE, wait=Wait.READY)
    await until(supervisor, ONE, lambda now: now.assignment.linked)
    return supervisor


def message(supervisor):
    return supervisor.registry.get(ONE).process.message


async def test_who_was_stopped_with_the_lease_runs_again_under_the_next_one(linked, systemd):
    await systemd.stop_by_hand(socket_unit(PORT))  # as systemd does with all that is bound to the lease
    await settled(linked)
    linked.pause()
    assert message(linked) != STOPPED
    await linked.resume(8)
    await until(linked, ONE, is_process(ProcessState.RUNNING))


async def test_an_administrators_stop_outlives_the_daemon_under_the_same_lease(linked, systemd, start):
    await systemd.stop_by_hand(socket_unit(PORT))
    await until(linked, ONE, lambda now: now.process.message == STOPPED)
    next_one = await start()
    await next_one.resume(7)
    await settled(next_one)
    assert message(next_one) == STOPPED
    assert not systemd.servers


async def test_a_port_that_stays_open_under_the_next_lease_may_be_closed_by_an_administrator(linked, systemd):
    """The engine was away for a moment, or the daemon has missed the end of one lease and the beginning of the next."""
    await linked.resume(8)
    await settled(linked)
    await systemd.stop_by_hand(socket_unit(PORT))
    await until(linked, ONE, lambda now: now.process.message == STOPPED)
