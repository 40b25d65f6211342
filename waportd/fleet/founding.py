"""A fleet begins, and hosts are put on its list."""

import time

from waportd import __version__
from waportd.fleet.engine import Conflict, Engine, Host, HostState

_LEASE_S = 10.0


async def found(engine: Engine, name: str, address: str, capacity: int) -> None:
    """Begin a fleet with one host. Raises Conflict where the engine has one below its prefix, EngineUnavailable."""
    state = await engine.state()
    if state.hosts or state.rows:
        raise Conflict(
            "the engine has a fleet already",
            hint="`waportctl fleet join` makes this host one of it; another fleet needs another prefix",
        )
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
    host = Host(
        name,
        address,
        HostState.ACTIVE,
        __version__,
        capacity,
        time.time(),
        alive=False,
        incarnation=None,
        revision=known.get(name, 0),
    )
    return await engine.describe(host)
