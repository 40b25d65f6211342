"""Everything that may happen to a fleet, by chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.fleet.scenarios import MINUTE
from bench.fleet.world import WELL, Broken, World
from waportd.fleet.engine import HostState

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.fleet.machine import Machine, Rules


def _boot_all(world: World, _machine: Machine) -> None:
    for each in world.machines:
        if not each.on:
            each.boot()


def _connect_all(world: World, _machine: Machine) -> None:
    for each in world.machines:
        each.reaches_engine = each.reaches_peers = True


def _stop_engine(world: World, _machine: Machine) -> None:
    world.engine.up = False


def _start_engine(world: World, _machine: Machine) -> None:
    if not world.engine.up:
        world.engine.start()


def _back_up(world: World, _machine: Machine) -> None:
    world.backup = world.engine.data.copy()


def _restore(world: World, _machine: Machine) -> None:
    if world.backup and world.chance.random() < 0.3:
        world.engine.restore(world.backup)


def _stop_or_continue_daemon(_world: World, machine: Machine) -> None:
    machine.daemon_stopped = not machine.daemon_stopped


def _stop_keeper(_world: World, machine: Machine) -> None:
    machine.keeper_stopped = machine.on


def _join(world: World, _machine: Machine) -> None:
    if world.engine.up and len(world.machines) < 9:
        world.join(f"new{len(world.machines)}")


def _clone(world: World, machine: Machine) -> None:
    if len(world.machines) < 9:
        world.join(machine.name, like=machine)


def _drain_or_activate(world: World, machine: Machine) -> None:
    hosts = world.engine.data.hosts
    if world.engine.up and machine.name in hosts:
        drains = hosts[machine.name] == HostState.DRAINING
        hosts[machine.name] = HostState.ACTIVE if drains else HostState.DRAINING
        world.engine.changed()


ACCIDENTS: tuple[Callable[[World, Machine], None], ...] = (
    *(lambda _world, machine: machine.power_off(),) * 2,
    *(_boot_all, _connect_all) * 3,
    _stop_engine,
    *(_start_engine,) * 2,
    _back_up,
    _restore,
    _stop_or_continue_daemon,
    lambda _world, machine: machine.restart_daemon(),
    _stop_keeper,
    _join,
    _clone,
    *(_drain_or_activate,) * 2,
)


def accidents(minutes: float, seed: int, rules: Rules = WELL) -> World:
    """Let everything happen to a fleet, in an order by that seed, and then nothing more. Raises Broken."""
    world = World(seed, 3 + seed % 3, 12, rules)
    chance = world.chance
    while world.time < minutes * MINUTE:
        world.run(chance.choice([2, 5, 15, 40, 60, 90]))
        machine = chance.choice(world.machines)
        machine.reaches_engine = chance.random() < 0.7
        machine.reaches_peers = chance.random() < 0.8
        chance.choice(ACCIDENTS)(world, machine)
    _end_all_faults(world)
    world.run(8 * MINUTE)
    if world.down:
        raise Broken(f"{len(world.down)} users are down, although all faults ended 8 minutes ago")
    return world


def _end_all_faults(world: World) -> None:
    for accident in (_connect_all, _start_engine, _boot_all):
        accident(world, world.machines[0])
    for machine in world.machines:
        machine.daemon_stopped = machine.keeper_stopped = False
    world.engine.data.hosts = dict.fromkeys(world.engine.data.hosts, HostState.ACTIVE)
    world.engine.changed()
