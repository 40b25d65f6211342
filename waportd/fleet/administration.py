"""What an administrator orders in a fleet. It is written in the engine; the hosts that it concerns do it, or say why not."""

import dataclasses
from typing import Final

from waportd.errors import Conflict, HostSilent, UnknownHost, UnknownUser
from waportd.fleet import drain as drains
from waportd.fleet.drain import Drain
from waportd.fleet.engine import Engine, Host, HostState, Order, Row, State
from waportd.fleet.placement import obstacle

_LIST: Final = "`waportctl fleet status` lists them"


def member(state: State, name: str) -> Host:
    """Return a host of the fleet. Raises UnknownHost, and Conflict where it has left."""
    host = _host(state, name)
    if host.state is HostState.LEFT:
        raise Conflict(
            f"{name} has left the fleet", hint="`waportctl fleet join` on it brings it back", cause="left"
        )
    return host


def live_member(state: State, name: str) -> Host:
    """Return a host that can give its users away itself. Raises UnknownHost, Conflict, HostSilent."""
    host = member(state, name)
    if not host.alive:
        raise HostSilent(
            f"host {name} is silent: it holds no lease",
            hint="after a minute its users are on other hosts; if it runs, `systemctl status waportd-lease` there says why",
        )
    return host


def row_of(state: State, user: str) -> Row:
    """Return the row of a user. Raises UnknownUser."""
    row = next((each for each in state.rows if each.user == user), None)
    if row is None:
        raise UnknownUser(f"no host of the fleet has user {user}", hint="`waportctl list` shows all users")
    return row


def due(state: State, name: str) -> Drain:
    """Return who is to leave a host, however many at once, and who cannot."""
    return drains.due(name, state, at_once=len(state.rows) + 1, under_way={})


async def drain(engine: Engine, name: str) -> None:
    """Have a host give its users to others, and try again with those who did not leave.

    Raises UnknownHost, Conflict, HostSilent, EngineUnavailable.
    """
    state = await engine.state()
    host = live_member(state, name)
    await _set_state(engine, host, HostState.DRAINING)
    for row in state.rows:
        given = state.order_of(row)
        if row.host == name and given and given.failed:
            await engine.order(dataclasses.replace(given, host=name, failed=None))


async def activate(engine: Engine, name: str) -> None:
    """Have a host take users again. Raises UnknownHost, Conflict, EngineUnavailable."""
    await _set_state(engine, member(await engine.state(), name), HostState.ACTIVE)


async def evict(engine: Engine, name: str) -> None:
    """Remove a host that is off for good. Raises UnknownHost, Conflict where it is alive, EngineUnavailable."""
    host = _host(await engine.state(), name)
    if host.alive:
        raise Conflict(
            f"host {name} holds its lease: it is alive",
            hint="switch it off first, and wait for a minute",
            cause="alive",
        )
    await _set_state(engine, host, HostState.LEFT)


def check_send(state: State, user: str, host: str) -> Row:
    """Return the row of a user who can be sent to a host. Raises UnknownUser, UnknownHost, Conflict, HostSilent."""
    row = row_of(state, user)
    member(state, host)
    if row.host != host:
        if why := obstacle(host, state, port=row.port):
            raise Conflict(why, hint=_LIST, cause="no_room")
        live_member(state, row.host)
    return row


async def send(engine: Engine, user: str, host: str) -> Order | None:
    """Order a user to a host; return the order, or None where the user is there already.

    Raises UnknownUser, UnknownHost, Conflict, HostSilent, EngineUnavailable.
    """
    state = await engine.state()
    row = check_send(state, user, host)
    return None if row.host == host else await give(engine, state, row, host)


async def give(engine: Engine, state: State, row: Row, host: str) -> Order:
    """Order the user of a row to a host, upon a state. Raises Conflict, EngineUnavailable."""
    known = state.orders.get(row.user)
    return await engine.order(Order(row.user, host, row.token, revision=known.revision if known else 0))


def _host(state: State, name: str) -> Host:
    host = next((each for each in state.hosts if each.name == name), None)
    if host is None:
        raise UnknownHost(f"there is no host {name}", hint=_LIST)
    return host


async def _set_state(engine: Engine, host: Host, wanted: HostState) -> None:
    if host.state is not wanted:
        await engine.describe(dataclasses.replace(host, state=wanted))
