"""What may happen to a fleet: a story for rows of the design's table of failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.fleet.engine import TTL_S
from bench.fleet.machine import Rules
from bench.fleet.world import WELL, Broken, World
from waportd.fleet.engine import HostState

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE = 60.0


def dead_host(world: World) -> None:
    """Row 2 and 10: a host loses power, its users move, it returns and starts none of them."""
    first = world.machines[0]
    world.run(2 * MINUTE)
    first.power_off()
    world.run(3 * MINUTE)
    first.boot()
    world.run(2 * MINUTE)


def cut_off(world: World) -> None:
    """Row 2: a host reaches nobody."""
    world.run(2 * MINUTE)
    world.machines[0].reaches_engine = world.machines[0].reaches_peers = False
    world.run(3 * MINUTE)
    world.machines[0].reaches_engine = world.machines[0].reaches_peers = True
    world.run(2 * MINUTE)


def quick_reboot(world: World) -> None:
    """Row 11: nobody moves."""
    world.run(2 * MINUTE)
    world.machines[0].power_off()
    world.run(20)
    world.machines[0].boot()
    world.run(3 * MINUTE)
    if world.takes:
        raise Broken("a host was back in time, and its users moved all the same")


def outage(world: World) -> None:
    """Rows 4 and 6: the engine is down for longer than any lease; nobody moves, no session stops."""
    world.run(2 * MINUTE)
    known = len(world.outages)
    world.engine.up = False
    world.run(5 * MINUTE)
    world.engine.start()
    world.run(3 * MINUTE)
    if world.takes or len(world.outages) > known:
        raise Broken("an outage of the engine stopped or moved sessions")


def outage_with_a_dead_host(world: World) -> None:
    """Row 5: sessions end, and all come back with the engine."""
    world.run(2 * MINUTE)
    world.engine.up = False
    world.machines[0].power_off()
    world.run(5 * MINUTE)
    if any(machine.sessions for machine in world.machines):
        raise Broken("a host went on, although one of the members did not answer")
    world.engine.start()
    world.run(5 * MINUTE)


def lost_by_all_and_back_for_some(world: World) -> None:
    """All lose the engine, which runs on; the first host loses its peers when the others have the engine again."""
    first, *others = world.machines
    world.run(2 * MINUTE)
    for machine in world.machines:
        machine.reaches_engine = False
    world.run(2 * MINUTE)
    first.reaches_peers = False
    for machine in others:
        machine.reaches_engine = True
    world.run(3 * MINUTE)


def joined_during_failsafe(world: World) -> None:
    """As many hosts join as there are, and those run on without the engine."""
    old = list(world.machines)
    world.run(2 * MINUTE)
    for machine in old:
        machine.reaches_engine = False
    world.run(2 * MINUTE)
    for machine in old:
        world.join(f"new-{machine.name}")
    world.run(5 * MINUTE)


def joined_while_a_peer_renews(world: World) -> None:
    """Hosts join, while one knows the members only by the peer that renews for it."""
    first, *others = world.machines
    world.run(2 * MINUTE)
    first.reaches_engine = False
    world.run(MINUTE)
    new = [world.join(f"new-{machine.name}") for machine in (first, *others)]
    world.run(5 * MINUTE)
    for machine in others:
        machine.reaches_engine = False
    for machine in new:
        machine.reaches_peers = False
    world.run(5 * MINUTE)


def restored(world: World) -> None:
    """Rows 7 and 8: the engine forgets that users moved. Their old owner is back before their new one can say so."""
    first, second, *_ = world.machines
    world.run(2 * MINUTE)
    world.backup = world.engine.data.copy()
    first.power_off()
    world.run(3 * MINUTE)
    second.reaches_engine = False  # a peer renews for it
    world.run(30)
    world.engine.restore(world.backup)
    world.run(MINUTE)
    first.boot()
    world.run(3 * MINUTE)
    second.reaches_engine = True
    world.run(3 * MINUTE)
    if world.down:
        raise Broken(f"{len(world.down)} users are still down after a restore")


def restored_to_before_a_host_joined(world: World) -> None:
    """Row 8: the engine does not know a host that runs, and cannot say so."""
    world.run(2 * MINUTE)
    world.backup = world.engine.data.copy()
    new = world.join("new")
    world.run(5 * MINUTE)
    world.machines[0].power_off()
    world.run(3 * MINUTE)
    world.engine.restore(world.backup)
    new.reaches_engine = new.reaches_peers = False
    world.machines[0].boot()
    world.run(5 * MINUTE)


def most_are_silent(world: World) -> None:
    """Row 25: the last host keeps its own, until an administrator decides."""
    first, *others = world.machines
    world.run(2 * MINUTE)
    for machine in others:
        machine.power_off()
    world.run(5 * MINUTE)
    if world.takes:
        raise Broken("users were taken while most members were silent")
    for machine in others:
        world.evict(machine.name)
    world.run(3 * MINUTE)
    if len(first.sessions) < len(world.engine.data.rows):
        raise Broken("users of hosts that were evicted were not taken")


def flaps(world: World) -> None:
    """Row 24: a link that comes and goes."""
    first = world.machines[0]
    world.run(2 * MINUTE)
    for _ in range(40):
        first.reaches_engine = first.reaches_peers = not first.reaches_peers
        world.run(world.chance.uniform(5, 70))


def clone(world: World) -> None:
    """Row 12: a copy of a host boots, then the host is cut off."""
    first = world.machines[0]
    world.run(2 * MINUTE)
    world.join(first.name, like=first)
    world.run(2 * MINUTE)
    first.reaches_engine = first.reaches_peers = False
    world.run(3 * MINUTE)
    first.reaches_engine = first.reaches_peers = True
    world.run(2 * MINUTE)


def stopped_programs(world: World) -> None:
    """Rows 16 and 18: the keeper is stopped, the daemon is stopped and continued while hosts come and go."""
    first, second, *_ = world.machines
    world.run(2 * MINUTE)
    second.daemon_stopped = True
    first.keeper_stopped = True
    world.run(2 * MINUTE)
    first.power_off()
    world.run(10)
    second.daemon_stopped = False
    first.boot()
    world.run(2 * MINUTE)


def drain(world: World) -> None:
    """Rows 30 and 31: a target dies, the engine is away for a while; all users leave in the end."""
    first, second, *_ = world.machines
    world.run(2 * MINUTE)
    world.engine.data.hosts[first.name] = HostState.DRAINING
    world.engine.changed()
    world.run(10)
    second.power_off()
    world.run(10)
    world.engine.up = False
    world.run(MINUTE / 2)
    world.engine.start()
    world.run(4 * MINUTE)
    if left := [row for row in world.engine.data.rows.values() if row.host in {first.name, second.name}]:
        raise Broken(f"{len(left)} users are still on a host that drains, or is dead")


SCENARIOS: dict[Callable[[World], None], int] = {
    dead_host: 3,
    cut_off: 3,
    quick_reboot: 3,
    outage: 3,
    outage_with_a_dead_host: 3,
    lost_by_all_and_back_for_some: 3,
    joined_during_failsafe: 2,
    joined_while_a_peer_renews: 2,
    restored: 3,
    restored_to_before_a_host_joined: 3,
    most_are_silent: 3,
    flaps: 3,
    clone: 3,
    stopped_programs: 3,
    drain: 4,
}
"""What happens, and to how many hosts."""

BROKEN_RULES: dict[str, tuple[Rules, Callable[[World], None]]] = {
    "sessions end after the lease": (Rules(fence_s=TTL_S + 15), cut_off),
    "nobody waits for a new epoch": (Rules(waits_for_epoch=False), restored),
    "there is no brake": (Rules(brake=False), most_are_silent),
    "an outage does not start the counts again": (Rules(counts_again=False), lost_by_all_and_back_for_some),
    "a host that joins does not wait": (Rules(newcomers_wait=False), joined_during_failsafe),
    "a peer that renews names no members": (Rules(lists_are_fresh=False), joined_while_a_peer_renews),
}
"""Each with the scenario that finds it."""


def play(scenario: Callable[[World], None], seed: int, rules: Rules = WELL) -> World:
    """Run a scenario with clocks by that seed. Raises Broken."""
    world = World(seed, SCENARIOS[scenario], 8 * SCENARIOS[scenario], rules)
    scenario(world)
    return world
