"""A fleet begins, and hosts are put on its list."""

import time

from waportd import __version__
from waportd.fleet.engine import Conflict, Engine, Host, HostState

_LEASE_S = 10.0


async def found(engine: Engine, name: str, address: str, capacity: int) -> None:
    """Begin a fleet with one host. Raises Conflict where the engine has one below its prefix, EngineUnavailable.

    A fleet that all hosts have left no longer exists: what remains of it is removed.
    """
    state = await engine.state()
    if any(host.state is not HostState.LEFT for host in state.hosts) or (state.rows and not state.hosts):
        raise Conflict(
            "the engine has a fleet already",
            hint="`waportctl fleet join` makes this host one of it; another fleet needs another prefix",
        )
    for row in state.rows:
        await engine.delete(row)
    for fact in state.facts:
        await engine.erase(fact)
    await admit(engine, name, address, capacity)
    # There is nothing that any host could have to put back.
    lease = await engine.acquire(name, _LEASE_S)
    try:
        await engine.state()
        await engine.settle(lease)
    finally:
        await engine.release(lease)


async def admit(engine: Engine, name: str, address: str, capacity: int) -> Host:
    """Put a host on the list, which may have been on it before; return it. Raises Conflict, EngineUnavailable."""
    known = {host.name: host.revision for host in (await engine.state()).hosts}
    return await engine.describe(newcomer(name, address, capacity, known.get(name, 0)))


def newcomer(name: str, address: str, capacity: int, revision: int = 0) -> Host:
    """Return what the list has of a host that joins now."""
    return Host(
        name,
        address,
        HostState.ACTIVE,
        __version__,
        capacity,
        time.time(),
        alive=False,
        incarnation=None,
        revision=revision,
    )
