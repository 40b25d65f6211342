"""How long a failover takes, and what a large fleet needs."""

from __future__ import annotations

import dataclasses
import json
import time
import tracemalloc

from bench.fleet.engine import STEP_S
from bench.fleet.machine import RENEW_S
from bench.fleet.world import World
from waportd.fleet.engine import Host, HostState, Row, State
from waportd.fleet.membership import Membership
from waportd.fleet.placement import takeovers


def failover(hosts: int, users: int, seeds: int) -> list[float]:
    """Return for how many seconds each user of a host that dies is down, with 4 slots and 6 to 20 s for a start."""
    down = []
    for seed in range(seeds):
        world = World(seed, hosts, users, on_first=True)
        world.run(90)
        world.slots, world.start_s = 4, (6.0, 20.0)
        known = len(world.outages)
        world.run(world.chance.uniform(0, RENEW_S))
        world.machines[0].power_off()
        while world.down or len(world.outages) < known + users:
            world.run(STEP_S)
        down += world.outages[known:]
    return down


def plan(hosts: int, users_each: int) -> dict[str, float]:
    """Return what so many hosts need of the engine and of each daemon."""
    document = {
        "desired": "running",
        "linked": True,
        "autostart": True,
        "webhook_url": "https://app.example.org/hook",
        "created_at": 1.7e9,
    }
    names = [f"h{number:04}" for number in range(hosts)]
    copies = [(names[number - 1], names[number - 2]) for number in range(hosts)]

    def rows() -> tuple[Row, ...]:
        return tuple(
            Row(
                str(number),
                5000 + number,
                names[number % hosts],
                number,
                1,
                dict(document),
                number,
                f"{number:064x}",
                copies[number % hosts],
            )
            for number in range(hosts * users_each)
        )

    tracemalloc.start()
    state = State(
        tuple(
            Host(name, name, HostState.ACTIVE, "1", 2 * users_each, 0.0, alive=True, incarnation=1)
            for name in names
        ),
        rows(),
        1,
        "1",
        settled=True,
    )
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    members = Membership(names[0], ttl_s=45.0, failover_after_s=15.0, established=True)
    began = time.process_time()
    members.observe(state, 0.0)
    observed = time.process_time() - began
    one_dead = dataclasses.replace(
        state, hosts=(*state.hosts[:-1], dataclasses.replace(state.hosts[-1], alive=False))
    )
    began = time.process_time()
    takeovers(names[0], one_dead, {names[-1]: 10.0})
    took = time.process_time() - began
    size = len(json.dumps(dataclasses.asdict(state.rows[0])))
    publishes = hosts * users_each / 300
    return {
        "renewals a second": hosts / RENEW_S,
        "publishes a second, if all users change in 5 min": publishes,
        "bytes of a row": size,
        "watch traffic of each host, KiB/s": publishes * size / 1024,
        "watch traffic of the engine, MiB/s": publishes * size * hosts / 2**20,
        "memory of the state in each daemon, MiB": memory / 2**20,
        "ms to observe a state": observed * 1000,
        "ms to decide about a dead host": took * 1000,
        "failsafe: questions a second of each host": hosts / RENEW_S,
        "failsafe: questions a second in all": hosts * hosts / RENEW_S,
    }
