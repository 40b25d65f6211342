"""Who gets which port, and what has happened to it before."""

import asyncio
import dataclasses
import socket

import pytest
from support import BASE, OVERFLOW

from waportd.errors import ServerFailed
from waportd.model import Assignment, Desired, Port, User, service_unit, socket_unit
from waportd.sockets import PortHeld
from waportd.units import EnvironmentFolder

ONE, TWO = User("1"), User("2")
PORT = Port(BASE)


@pytest.fixture
def held_port():
    """A port that somebody else listens on: user 2's."""
    with socket.create_server(("127.0.0.1", BASE + 1)):
        yield Port(BASE + 1)


async def test_different_users_get_different_ports_at_once(supervisor):
    users = [User(f"u{number}") for number in range(20)]
    results = await asyncio.gather(*(supervisor.assign(user) for user in users))
    assert len({instance.assignment.port for instance, _ in results}) == len(users)


@pytest.mark.also_without("cleaning_ahead", "first_answers")
async def test_a_held_port_is_left_alone_and_named(supervisor, systemd, config, held_port):
    systemd.fail_to_start(socket_unit(held_port), result="resources")
    instance, _ = await supervisor.ensure(TWO)
    assert instance.assignment.port == OVERFLOW
    assert f"port {held_port} is held by" in instance.assignment.note
    assert held_port not in EnvironmentFolder(config.store.instances).ports()


async def test_a_port_that_somebody_has_only_bound_is_held(supervisor, systemd):
    """As a session can, or any local user: a new user gets another port, and the one who has it learns a way out."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", BASE + 1))
        systemd.fail_to_start(socket_unit(Port(BASE + 1)), result="resources")
        instance, _ = await supervisor.ensure(TWO)
    assert instance.assignment.port == OVERFLOW
    assert "has bound it and does not listen" in instance.assignment.note
    await supervisor.stop(TWO)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", OVERFLOW))
        systemd.fail_to_start(socket_unit(Port(OVERFLOW)), result="resources")
        with pytest.raises(PortHeld) as caught:
            await supervisor.ensure(TWO)
    assert "waportctl move" in caught.value.hint


@pytest.mark.also_without("cleaning_ahead", "first_answers")
async def test_nothing_of_an_earlier_owner_is_left_on_a_new_port(supervisor, systemd):
    await supervisor.assign(ONE)
    assert systemd.calls.index(("clean", service_unit(PORT))) < systemd.calls.index(
        ("start", socket_unit(PORT))
    )


async def test_no_failed_unit_of_a_deleted_user_is_left(supervisor, systemd):
    await supervisor.ensure(ONE)
    await systemd.servers.pop(PORT).stop()
    for unit in (service_unit(PORT), socket_unit(PORT)):
        systemd.change(unit, active_state="failed", sub_state="failed", result="service-start-limit-hit")
    await supervisor.delete(ONE)
    assert {status.active_state for status in systemd.units.values()} == {"inactive"}


async def test_a_socket_that_does_not_open_for_a_masked_service_is_reported_as_such(supervisor, systemd):
    await supervisor.ensure(ONE)
    await supervisor.stop(ONE)
    systemd.change(service_unit(PORT), load_state="masked")
    systemd.fail_to_start(socket_unit(PORT))
    with pytest.raises(ServerFailed, match="is masked") as caught:
        await supervisor.start_server(ONE)
    assert "unmask" in caught.value.hint


async def test_a_port_is_nobody_elses_before_its_session_is_gone(supervisor, systemd, store):
    await supervisor.ensure(ONE)
    blocked = asyncio.Event()

    async def clean(unit):
        blocked.set()
        await asyncio.sleep(60)

    systemd.clean = clean
    deletion = asyncio.create_task(supervisor.delete(ONE))
    await blocked.wait()
    assert store.rows[ONE].desired is Desired.DELETED
    assert supervisor.registry.on_port(PORT) is not None
    deletion.cancel()


async def test_a_unit_that_nobody_owns_is_reported_and_left_alone(start_supervisor, systemd):
    await systemd.start_server(PORT)
    supervisor = await start_supervisor()
    assert supervisor.unassigned == {PORT}
    assert systemd.servers


async def test_a_port_taken_for_an_assignment_that_never_reached_the_store_is_given_back(
    config, start_supervisor, systemd
):
    (config.store.instances / f"{PORT}.env").write_text("PORT=1\n", encoding="utf-8")
    systemd.change(socket_unit(PORT), active_state="active")
    await start_supervisor()
    assert systemd.units[socket_unit(PORT)].active_state == "inactive"
    assert not list(config.store.instances.iterdir())


async def test_a_port_whose_unit_failed_before_anybody_owned_it_can_be_had(start_supervisor, systemd):
    systemd.change(service_unit(PORT), active_state="failed", result="exit-code", exit_code=1, exit_status=1)
    supervisor = await start_supervisor()
    instance, _ = await supervisor.ensure(ONE)
    assert instance.assignment.port == PORT


async def test_the_port_of_a_unit_that_nobody_owns_goes_to_nobody_and_the_unit_runs_on(
    start_supervisor, systemd
):
    await systemd.start_server(PORT)
    supervisor = await start_supervisor()
    instance, _ = await supervisor.ensure(ONE)
    assert instance.assignment.port == OVERFLOW
    assert instance.assignment.note == f"port {PORT} is held by {service_unit(PORT)}, which nobody owns"
    assert PORT in systemd.servers
    assert ("clean", service_unit(PORT)) not in systemd.calls


async def test_the_lowest_port_that_was_freed_is_given_again(supervisor):
    for name in ("a", "b", "c"):
        await supervisor.ensure(User(name))
    await supervisor.delete(User("a"))
    await supervisor.delete(User("b"))
    assert (await supervisor.ensure(User("d")))[0].assignment.port == OVERFLOW
    assert (await supervisor.ensure(User("e")))[0].assignment.port == OVERFLOW + 1
    assert (await supervisor.ensure(User("f")))[0].assignment.port == OVERFLOW + 3


async def test_stopped_users_take_no_port_from_those_who_are_not(start_supervisor, store, systemd, config):
    limits = dataclasses.replace(config.limits, max_sockets=1)
    store.rows = {
        ONE: Assignment(ONE, PORT, created_at=1.0),
        User("2"): Assignment(User("2"), Port(PORT + 1), desired=Desired.STOPPED, created_at=2.0),
    }
    await start_supervisor(dataclasses.replace(config, limits=limits))
    assert systemd.units[socket_unit(PORT)].active_state == "active"
