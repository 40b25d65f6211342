"""How many servers and sockets there may be."""

import dataclasses

import pytest
from support import BASE

from waportd.errors import TooManyRunning
from waportd.model import Port, User, socket_unit

ONE, TWO = User("1"), User("2")


async def test_the_limit_of_running_servers(config, start_supervisor):
    limits = dataclasses.replace(config.limits, max_running=1)
    supervisor = await start_supervisor(dataclasses.replace(config, limits=limits))
    await supervisor.ensure(ONE)
    with pytest.raises(TooManyRunning, match=r"limits\.max_running") as caught:
        await supervisor.ensure(TWO)
    assert caught.value.retry_after


async def test_too_little_memory_on_the_host(config, start_supervisor):
    limits = dataclasses.replace(config.limits, min_available_memory=1 << 50)
    supervisor = await start_supervisor(dataclasses.replace(config, limits=limits))
    with pytest.raises(TooManyRunning, match=r"min_available_memory"):
        await supervisor.ensure(ONE)


async def test_the_longest_unused_idle_socket_gives_way(config, start_supervisor, systemd):
    limits = dataclasses.replace(config.limits, max_sockets=2)
    supervisor = await start_supervisor(dataclasses.replace(config, limits=limits))
    await supervisor.ensure(ONE)
    await supervisor.assign(TWO)
    await supervisor.assign(User("3"))
    assert systemd.units[socket_unit(Port(BASE + 1))].active_state == "inactive"
    assert supervisor.registry.get(TWO).process.message == "stopped"
    await supervisor.ensure(User("3"))
    with pytest.raises(TooManyRunning, match=r"max_sockets"):
        await supervisor.ensure(TWO)
