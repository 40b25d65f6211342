"""Users who go to another host of a fleet: what runs is ended first, and who stays after all runs again."""

import asyncio

import pytest
from support import BASE, is_process, settled, until

from waportd.errors import ServerFailed, UnknownUser
from waportd.model import Desired, Port, ProcessState, User, service_unit, socket_unit
from waportd.readiness import Wait

ONE = User("1")
PORT = Port(BASE)


class Engine:
    """Is asked to give a user away, and sees what lives of the user then."""

    def __init__(self, answer, systemd, config):
        self.answer, self._systemd, self._config = answer, systemd, config
        self.saw = None

    async def hand_over(self):
        environment = self._config.store.instances / f"{PORT}.env"
        states = [self._systemd.units[unit].active_state for unit in (service_unit(PORT), socket_unit(PORT))]
        self.saw = (states, environment.exists(), len(self._systemd.servers))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


NOTHING = (["inactive", "inactive"], False, 0)


@pytest.fixture
async def linked(supervisor, systemd):
    systemd.prepare = lambda server: server.link()
    await supervisor.ensure(ONE, wait=Wait.READY)
    await until(supervisor, ONE, lambda now: now.assignment.linked)
    return supervisor


async def test_who_leaves_is_ended_first_and_known_no_longer(linked, systemd, config, store):
    engine = Engine(True, systemd, config)
    assert await linked.give(ONE, engine.hand_over)
    assert engine.saw == NOTHING
    with pytest.raises(UnknownUser):
        linked.known(ONE)
    await settled(linked)
    assert not systemd.servers
    assert [one.user for one in await store.load()] == [ONE], (
        "the store of a fleet has forgotten the user itself"
    )


@pytest.mark.parametrize(
    "answer", [False, ServerFailed("the snapshot cannot be kept", cause="full", hint="-")]
)
async def test_who_stays_runs_again(linked, systemd, config, answer):
    engine = Engine(answer, systemd, config)
    if answer is False:
        assert not await linked.give(ONE, engine.hand_over)
    else:
        with pytest.raises(ServerFailed, match="the snapshot cannot be kept"):
            await linked.give(ONE, engine.hand_over)
    assert engine.saw == NOTHING
    await until(linked, ONE, is_process(ProcessState.RUNNING))
    assert PORT in systemd.servers


async def test_who_was_stopped_stays_stopped(linked, systemd, config):
    await linked.stop(ONE)
    assert not await linked.give(ONE, Engine(False, systemd, config).hand_over)
    await settled(linked)
    assert linked.known(ONE).assignment.desired is Desired.STOPPED
    assert not systemd.servers


async def test_what_an_administrator_has_stopped_stays_so(linked, systemd, config):
    await systemd.stop_by_hand(socket_unit(PORT))
    assert not await linked.give(ONE, Engine(False, systemd, config).hand_over)
    await settled(linked)
    assert linked.known(ONE).process.message == "stopped (by admin)"
    assert not systemd.servers


async def test_nothing_starts_while_it_is_asked_for(linked, systemd, config):
    engine, asked = Engine(True, systemd, config), []

    async def hand_over():
        linked.note_poll(linked.known(ONE))
        asked.append(asyncio.create_task(linked.restart(ONE)))
        await asyncio.sleep(0.05)
        return await engine.hand_over()

    assert await linked.give(ONE, hand_over)
    assert engine.saw == NOTHING
    with pytest.raises(UnknownUser):
        await asked[0]
    await settled(linked)
    assert not systemd.servers


async def test_who_is_not_here_is_not_given(linked, systemd, config):
    engine = Engine(True, systemd, config)
    with pytest.raises(UnknownUser):
        await linked.give(User("2"), engine.hand_over)
    assert engine.saw is None
