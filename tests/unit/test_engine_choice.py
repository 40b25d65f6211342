"""Which engine a user's server is started with."""

import dataclasses
import re

import pytest
from support import BASE, add_engine, calls_for, settled

from waportd.errors import UnknownEngine
from waportd.model import Port, User

ONE, TWO = User("1"), User("2")
PORT = Port(BASE)


def engine_told(config):
    """Return the engine that the environment of user 1's server names."""
    text = (config.store.instances / f"{PORT}.env").read_text("utf-8")
    return re.search(r'^WAPORTD_ENGINE="(.*)"$', text, re.MULTILINE)[1]


async def test_another_engine_is_for_the_next_start_and_leaves_a_running_server_alone(
    supervisor, systemd, config
):
    folder = add_engine(config, "1.34.6")
    await supervisor.ensure(ONE)
    before = calls_for(systemd, PORT)
    instance = await supervisor.set_options(ONE, {"engine": "1.34.6"})
    assert instance.engine == "1.34.6"
    # It may be systemd that starts the server next, automatically.
    assert engine_told(config) == str(folder)
    assert calls_for(systemd, PORT) == before
    instance = await supervisor.set_options(ONE, {"engine": None})
    assert (instance.engine, engine_told(config)) == ("bundled", "")


async def test_another_default_is_for_all_who_have_no_engine_of_their_own(supervisor, config, systemd):
    folder = add_engine(config, "1.34.6")
    await supervisor.ensure(ONE)
    await supervisor.ensure(TWO, {"engine": "bundled"})
    before, version = len(systemd.calls), supervisor.registry.version
    instances = dataclasses.replace(config.instances, engine="1.34.6")
    await supervisor.reconfigure(dataclasses.replace(config, instances=instances))
    assert [supervisor.known(user).engine for user in (ONE, TWO)] == ["1.34.6", "bundled"]
    assert engine_told(config) == str(folder)
    assert supervisor.registry.version > version
    await settled(supervisor)
    assert not {verb for verb, _ in systemd.calls[before:]} & {"restart", "stop"}


async def test_a_new_user_may_be_given_an_engine(supervisor, config, store):
    add_engine(config, "1.34.6")
    instance, _ = await supervisor.ensure(ONE, {"engine": "1.34.6"})
    assert (instance.engine, store.rows[ONE].engine) == ("1.34.6", "1.34.6")
    with pytest.raises(
        UnknownEngine, match=re.escape("there is no engine '1.0.0'; there is bundled, 1.34.6")
    ):
        await supervisor.ensure(TWO, {"engine": "1.0.0"})
    assert TWO not in store.rows


async def test_engines_are_shown_after_a_restart_of_the_daemon(supervisor, config, start_supervisor):
    add_engine(config, "1.34.6")
    await supervisor.ensure(ONE, {"engine": "1.34.6"})
    await supervisor.ensure(TWO)
    again = await start_supervisor()
    assert [again.known(user).engine for user in (ONE, TWO)] == ["1.34.6", "bundled"]
