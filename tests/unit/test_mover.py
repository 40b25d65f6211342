"""A user gets another port: what is kept moves along, and whatever cuts it short, one port and one login are left."""

import asyncio
import dataclasses
import socket

import pytest
from support import BASE, OVERFLOW, settled, until

from waportd import units
from waportd.errors import Conflict, PortsExhausted, StoreError, UnknownUser, WaportdError
from waportd.model import Desired, MoveStep, Port, ProcessState, User, move_unit, service_unit, socket_unit
from waportd.readiness import Wait
from waportd.systemd.manager import SystemdError

ONE, TWO = User("1"), User("2")
SOURCE, TARGET = Port(BASE), Port(BASE + 7)
LOGIN = "the login of user 1"


@pytest.fixture
def linked(systemd):
    """Have each server link a phone automatically; user 1 has a login on the port."""
    systemd.prepare = lambda server: server.link()


@pytest.fixture
async def moved_user(supervisor, systemd, linked):
    await supervisor.ensure(ONE, wait=Wait.READY)
    await until(supervisor, ONE, lambda now: now.assignment.linked)
    systemd.kept[SOURCE] = LOGIN
    return supervisor


def environments(config):
    return units.EnvironmentFolder(config.store.instances).ports()


def kept_for_somebody(supervisor):
    """Return the ports that are kept for users on their way to them, which nobody else sees."""
    return set(supervisor._allocator._choosing)  # noqa: SLF001


def assert_is_only_on(port, supervisor, systemd, store, config):
    """One port, one login, one environment; nothing of the other port's is left."""
    assert store.rows[ONE].port == port
    assert store.rows[ONE].moving_to is None
    assert supervisor.known(ONE).assignment == store.rows[ONE]
    assert systemd.kept == {port: LOGIN}
    assert environments(config) == [port]
    other = SOURCE if port == TARGET else TARGET
    assert list(systemd.servers) in ([port], [])
    for name in (service_unit(other), socket_unit(other)):
        assert name not in systemd.units or systemd.units[name].active_state == "inactive"
    assert not kept_for_somebody(supervisor) & {port, other}


async def test_a_running_user_runs_on_the_other_port_with_the_login(moved_user, systemd, store, config):
    instance = await moved_user.move(ONE, TARGET)
    assert_is_only_on(TARGET, moved_user, systemd, store, config)
    assert instance.assignment.port == TARGET
    assert instance.assignment.note == f"moved here from port {SOURCE}"
    assert instance.process.state is ProcessState.RUNNING
    assert instance.held
    await until(moved_user, ONE, lambda now: now.session and now.session.linked and now.answering)
    assert moved_user.registry.on_port(SOURCE) is None
    # The port is free again, and clean.
    _, created = await moved_user.ensure(User("other"))
    assert created
    with pytest.raises(Conflict, match=f"port {TARGET} is assigned to user 1"):
        await moved_user.move(User("other"), TARGET)
    assert (await moved_user.move(User("other"), SOURCE)).assignment.port == SOURCE


async def test_the_options_move_along_and_leave_the_port(moved_user, systemd, store):
    await moved_user.set_options(ONE, {"memory_max": 1 << 29, "webhook_url": "http://localhost/x"})
    await moved_user.move(ONE, TARGET)
    assert (store.rows[ONE].memory_max, store.rows[ONE].webhook_url) == (1 << 29, "http://localhost/x")
    limit = moved_user.limits.memory_max
    assert ("limit_memory", f"{service_unit(SOURCE)}={limit}") in systemd.calls
    assert ("limit_memory", f"{service_unit(TARGET)}={1 << 29}") in systemd.calls


async def test_nothing_stops_before_it_is_known_that_it_can_be_done(moved_user, systemd, store, config):
    systemd.fail_to_start(move_unit(SOURCE, TARGET, MoveStep.CHECK))
    before = list(systemd.calls)
    with pytest.raises(Conflict) as caught:
        await moved_user.move(ONE, TARGET)
    assert caught.value.cause == "move_failed"
    made = systemd.calls[len(before) :]
    assert not [call for call in made if call[0] == "stop"]
    assert_is_only_on(SOURCE, moved_user, systemd, store, config)
    assert list(systemd.servers) == [SOURCE]


@pytest.mark.parametrize("step", ["rename", "socket", "commit"])
async def test_what_fails_is_undone_and_the_server_runs_on(
    moved_user, systemd, store, config, monkeypatch, step
):
    if step == "rename":
        systemd.fail_to_start(move_unit(SOURCE, TARGET, MoveStep.THERE))
    elif step == "socket":
        systemd.fail_to_start(socket_unit(TARGET))
    else:
        put = store.put

        async def full(assignments):
            if any(assignment.port == TARGET for assignment in assignments):
                raise StoreError("the disk is full")
            await put(assignments)

        monkeypatch.setattr(store, "put", full)
    with pytest.raises(WaportdError):
        await moved_user.move(ONE, TARGET)
    await until(moved_user, ONE, lambda now: now.process.state is ProcessState.RUNNING)
    assert_is_only_on(SOURCE, moved_user, systemd, store, config)


@pytest.mark.parametrize("verb", ["stop", "restart", "log_out", "start_server"])
async def test_what_can_neither_be_done_nor_undone_stays_a_move_until_it_can(
    moved_user, systemd, store, config, verb
):
    there, back = move_unit(SOURCE, TARGET, MoveStep.THERE), move_unit(TARGET, SOURCE, MoveStep.BACK)
    systemd.fail_to_start(there)
    systemd.fail_to_start(back)
    with pytest.raises(Conflict):
        await moved_user.move(ONE, TARGET)
    await settled(moved_user)
    assert store.rows[ONE].moving_to == TARGET
    # No server starts on either port, and nobody else gets one of them.
    assert environments(config) == []
    assert not systemd.servers
    with pytest.raises(Conflict, match=f"user 1 is being moved from port {SOURCE} to {TARGET}") as caught:
        await getattr(moved_user, verb)(ONE)
    assert "waportctl move 1" in caught.value.hint
    await moved_user.ensure(TWO)
    with pytest.raises(Conflict, match=f"port {TARGET} is assigned to user 1"):
        await moved_user.move(TWO, TARGET)
    await moved_user.delete(TWO)
    systemd.mend(there)
    await moved_user.move(ONE)
    assert_is_only_on(TARGET, moved_user, systemd, store, config)
    await moved_user.restart(ONE)


async def test_a_user_between_two_ports_can_be_deleted_and_leaves_nothing(moved_user, systemd, store, config):
    systemd.fail_to_start(move_unit(SOURCE, TARGET, MoveStep.BACK))
    systemd.fail_to_start(move_unit(SOURCE, TARGET, MoveStep.THERE))
    systemd.fail_to_start(move_unit(TARGET, SOURCE, MoveStep.BACK))
    with pytest.raises(Conflict):
        await moved_user.move(ONE, TARGET)
    systemd.kept[TARGET] = "a part of it"
    await moved_user.delete(ONE)
    assert not store.rows
    assert not systemd.kept
    assert not kept_for_somebody(moved_user)
    assert environments(config) == []


class Crash(BaseException):
    """The daemon is killed at this point."""


def steps_of_a_move(systemd, store):
    """Return the calls of systemd and of the store, each of which a crash may come before, or after."""
    return [(systemd, name) for name in ("start", "stop", "clean", "reset_failed", "limit_memory")] + [
        (store, "put")
    ]


class Killer:
    """Lets so many calls of a move through, and then none any more: the daemon that made them is gone."""

    def __init__(self, monkeypatch, systemd, store, after, *, done):
        self.calls = 0
        self._after = after
        self._done = done
        self._store = store
        for target, name in steps_of_a_move(systemd, store):
            monkeypatch.setattr(target, name, self._wrapped(getattr(target, name)))

    def _wrapped(self, call):
        async def counted(*arguments):
            if self._store.rows[ONE].port == TARGET and self.calls <= self._after:
                return await call(*arguments)  # the move is done
            self.calls += 1
            if self.calls > self._after:
                if self._done and self.calls == self._after + 1:
                    await call(*arguments)
                raise Crash
            return await call(*arguments)

        return counted


@pytest.mark.parametrize("desired", list(Desired)[:2])
@pytest.mark.parametrize("done", [False, True])
async def test_after_a_crash_at_any_point_the_user_has_one_port_and_one_login(
    config, start_supervisor, systemd, store, linked, done, desired
):
    after, ended = 0, set()
    while True:
        supervisor = await start_supervisor()
        await supervisor.ensure(ONE, wait=Wait.READY)
        await until(supervisor, ONE, lambda now: now.assignment.linked)
        if desired is Desired.STOPPED:
            await supervisor.stop(ONE)
        systemd.kept[SOURCE] = LOGIN
        with pytest.MonkeyPatch.context() as patch:
            killer = Killer(patch, systemd, store, after, done=done)
            crashed = False
            try:
                await supervisor.move(ONE, TARGET)
            except Crash:
                crashed = True
            await settled(supervisor)
        supervisor = await start_supervisor()
        if desired is Desired.RUNNING:
            await until(supervisor, ONE, lambda now: now.process.state is ProcessState.RUNNING)
            await supervisor.ensure(ONE, wait=Wait.READY)
        else:
            assert not systemd.servers
            assert not [name for name, unit in systemd.units.items() if unit.active_state == "active"]
        assert store.rows[ONE].desired is desired
        ended.add(port := store.rows[ONE].port)
        assert_is_only_on(port, supervisor, systemd, store, config)
        await supervisor.delete(ONE)
        if not crashed:
            break
        after += 1
    assert killer.calls >= 8
    assert ended == {SOURCE, TARGET}


async def test_a_stopped_user_stays_stopped(moved_user, systemd, store, config):
    await moved_user.stop(ONE)
    instance = await moved_user.move(ONE, TARGET)
    assert_is_only_on(TARGET, moved_user, systemd, store, config)
    assert instance.process.state is ProcessState.STOPPED
    assert instance.assignment.desired is Desired.STOPPED
    assert not systemd.servers
    assert ("start", socket_unit(TARGET)) not in systemd.calls


async def test_an_admins_stop_holds_on_the_other_port(moved_user, systemd):
    await systemd.stop_by_hand(socket_unit(SOURCE))
    instance = await moved_user.move(ONE, TARGET)
    systemd.change(socket_unit(TARGET), active_state="inactive")
    assert moved_user.known(ONE).process.message == "stopped (by admin)"
    assert instance.assignment.port == TARGET
    await moved_user.poll(ONE)
    await settled(moved_user)
    assert not systemd.servers


async def test_a_page_that_polls_meanwhile_gets_the_server_of_the_new_port(moved_user, systemd):
    start, polled = systemd.start, []

    async def start_while_polled(unit):
        if unit.startswith("whatsapp-move@"):
            await moved_user.poll(ONE)
            polled.append(unit)
        await start(unit)

    systemd.start = start_while_polled
    instance = await moved_user.move(ONE, TARGET)
    assert len(polled) == 2
    assert instance.process.state is ProcessState.RUNNING
    assert list(systemd.servers) == [TARGET]


async def test_without_a_port_the_one_of_a_new_user_is_chosen(moved_user, config, start_supervisor):
    # The preferred one is the user's already.
    assert (await moved_user.move(ONE)).assignment.port == OVERFLOW
    assert (await moved_user.move(ONE)).assignment.port == SOURCE
    reserved = dataclasses.replace(config, ports=dataclasses.replace(config.ports, reserved={SOURCE}))
    moved_user = await start_supervisor(reserved)
    assert (await moved_user.move(ONE)).assignment.port == OVERFLOW
    assert (await moved_user.move(ONE)).assignment.port == OVERFLOW + 1


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("kind", ["listener", "drop-in", "stray", "reserved", "owned", "far"])
async def test_a_port_that_somebody_has_is_not_taken(
    moved_user, systemd, config, monkeypatch, tmp_path, kind, named
):
    target = OVERFLOW if not named else TARGET
    if kind == "far":
        target = Port(1024)
    elif kind == "listener":
        keeper = socket.create_server(("127.0.0.1", target))
    elif kind == "drop-in":
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        monkeypatch.setattr(
            units, "drop_ins", lambda port, bus: [tmp_path / "some.d"] if port == target else []
        )
    elif kind == "stray":
        systemd.change(service_unit(target), active_state="active")
    elif kind == "reserved":
        rules = dataclasses.replace(config.ports, reserved={target})
        await moved_user.reconfigure(dataclasses.replace(config, ports=rules))
        await settled(moved_user)
    else:
        await moved_user.ensure(User(str(target - BASE + 1)))
    if named:
        with pytest.raises(Conflict, match=f"port {target} is ") as caught:
            await moved_user.move(ONE, target)
        assert caught.value.cause == "port_taken"
        assert moved_user.known(ONE).assignment.port == SOURCE
        assert moved_user.known(ONE).process.state is ProcessState.RUNNING
    else:
        assert (await moved_user.move(ONE)).assignment.port not in {target, SOURCE}
    if kind == "listener":
        keeper.close()


async def test_where_no_port_is_left_nothing_changes(config, start_supervisor, moved_user):
    rules = dataclasses.replace(config.ports, reserved=set(range(BASE, BASE + 199)))
    moved_user = await start_supervisor(dataclasses.replace(config, ports=rules))
    with pytest.raises(PortsExhausted):
        await moved_user.move(ONE)
    assert moved_user.known(ONE).assignment.port == SOURCE


async def test_who_has_no_port_cannot_be_moved(supervisor):
    with pytest.raises(UnknownUser):
        await supervisor.move(ONE, TARGET)


async def test_two_who_want_the_same_port_do_not_both_get_it(supervisor, systemd, store):
    await supervisor.ensure(ONE)
    await supervisor.ensure(TWO)
    ended = await asyncio.gather(
        supervisor.move(ONE, TARGET), supervisor.move(TWO, TARGET), return_exceptions=True
    )
    assert [type(end) for end in ended].count(Conflict) == 1
    assert max(row.port for row in store.rows.values()) == TARGET


async def test_a_lost_bus_leaves_the_rest_to_the_next_daemon(
    moved_user, systemd, store, config, start_supervisor
):
    stop = systemd.stop

    async def lost(unit):
        raise SystemdError("the connection is gone")

    systemd.stop = lost
    with pytest.raises(SystemdError):
        await moved_user.move(ONE, TARGET)
    assert store.rows[ONE].moving_to == TARGET
    systemd.stop = stop
    supervisor = await start_supervisor()
    await until(supervisor, ONE, lambda now: now.process.state is ProcessState.RUNNING)
    assert_is_only_on(TARGET, supervisor, systemd, store, config)
