"""Which host a user goes to: pure functions of one state of the fleet, which all hosts answer alike.

Hosts are ranked for each user by weighted rendezvous hashing: each host has a pseudo-random score for the user, and the
highest one wins. A host that goes away changes nothing for the users whose winner is another one. The score is
``-weight / ln(hash)``, so that a host wins in proportion to its weight (Schindelhauer and Schomaker, "Weighted
Distributed Hash Tables", 2005).
"""

import collections
import dataclasses
import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from waportd.errors import WaportdError
from waportd.fleet.engine import Host, HostState, Row, State

JITTER_S: Final = 3.0
"""Seconds over which the takeovers of one dead host's users are spread."""
ANYBODY_AFTER_S: Final = 30.0
"""Seconds after which a user who is still not taken may be taken by any host, not only by the winner."""


class NoRoom(WaportdError):
    """No host has room for one more user."""

    code = "no_room"
    status = 503
    title = "No host has room"


@dataclasses.dataclass(frozen=True, slots=True)
class Takeovers:
    """What one host does about the users of dead hosts at one moment."""

    due: tuple[Row, ...]
    """Users that this host takes now, those that wait longest first."""
    unplaced: int
    """Users that no host has room for."""


def rooms(state: State, promised: Iterable[str] = ()) -> dict[str, int]:
    """Return for each host that takes users how many more it takes: it is active, has a lease, and is not full.

    ``promised`` has a host for each user who is on the way to it.
    """
    users = _users(state, promised)
    room = {host.name: host.capacity - users[host.name] for host in state.hosts if is_open(host)}
    return {name: more for name, more in room.items() if more > 0}


def is_open(host: Host) -> bool:
    """Return whether a host is active and has a lease."""
    return host.state == HostState.ACTIVE and host.alive


def without_port(state: State, port: int) -> set[str]:
    """Return the hosts that cannot have the user of a port: another program has it there."""
    return {host.name for host in state.hosts if port in host.held}


def place(user: str, state: State, *, unfit: Collection[str] = (), promised: Collection[str] = ()) -> str:
    """Return the host for a new user, or for one who has to leave a host: more room makes a host more likely.

    ``unfit`` are hosts that cannot have this user, as those `without_port`. ``promised`` has a host for each user who is
    on the way to it. Raises NoRoom.
    """
    fit = {name: more for name, more in rooms(state, promised).items() if name not in unfit}
    if not fit:
        raise NoRoom(
            f"no host has room for user {user}: {_why_none(state, unfit, promised)}",
            hint="add a host (`waportctl fleet invite`), give one more room (`limits`), or delete users who are gone",
        )
    return _winner(user, fit)


def takeovers(host: str, state: State, takeable: Mapping[str, float]) -> Takeovers:
    """Return which users this host takes now.

    ``takeable`` has the hosts whose users may be taken, with the seconds since that time (`Standing.takeable`). Of hosts
    that see the same state, one only is due for a user before `ANYBODY_AFTER_S`. The engine's transaction decides between
    hosts that see different ones. Who can be on no host that has room stays: its port is in use on each.
    """
    orphans = [row for row in state.rows if row.host in takeable]
    room = rooms(state)
    if not orphans or not room:
        return Takeovers((), len(orphans))
    weights = {each.name: each.capacity for each in state.hosts if each.name in room}
    due = []
    for row in orphans:
        unfit = without_port(state, row.port)
        if host not in room or host in unfit:
            continue
        waits = takeable[row.host] - JITTER_S * _fraction("jitter", host, row.user)
        fit = {name: weight for name, weight in weights.items() if name not in unfit} if unfit else weights
        if waits >= ANYBODY_AFTER_S or (waits >= 0 and _winner(row.user, fit) == host):
            due.append((-waits, row.user, row))
    first = sorted(due, key=lambda each: each[:2])[: room.get(host, 0)]
    return Takeovers(tuple(row for *_, row in first), max(0, len(orphans) - sum(room.values())))


def copy_holders(row: Row, state: State, *, copies: int) -> tuple[str, ...]:
    """Return the hosts that keep copies of a user's snapshots; fewer than ``copies`` where there are not enough hosts."""
    weights = {host.name: host.capacity for host in state.hosts if is_open(host) and host.name != row.host}
    return tuple(ranked(row.user, weights)[:copies])


def ranked(user: str, weights: Mapping[str, float]) -> list[str]:
    """Return hosts in the order in which they are chosen for the user. Weights are positive."""
    return sorted(weights, key=lambda name: _order(user, name, weights[name]))


def _winner(user: str, weights: Mapping[str, float]) -> str:
    return min(weights, key=lambda name: _order(user, name, weights[name]))


def _order(user: str, host: str, weight: float) -> tuple[float, str]:
    """Return the score, negative so that the highest comes first; the name decides between equal ones."""
    return weight / math.log(_fraction("rank", host, user)), host


def _fraction(purpose: str, host: str, user: str) -> float:
    """Return a number above 0 and below 1 which is the same on every host and in every process."""
    digest = hashlib.blake2b(f"{purpose}\0{host}\0{user}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) // 2**12 + 0.5) / 2**52


def _users(state: State, promised: Iterable[str]) -> collections.Counter[str]:
    return collections.Counter([*(row.host for row in state.rows), *promised])


def obstacle(name: str, state: State, promised: Iterable[str] = (), port: int | None = None) -> str | None:
    """Return why a host takes nobody, or not the user of a port, as a sentence; None where it has room."""
    host = next((each for each in state.hosts if each.name == name), None)
    if host is None:
        return f"there is no host {name}"
    users = _users(state, promised)[name]
    facts = (
        (host.state == HostState.LEFT, f"{name} has left the fleet"),
        (not host.alive, f"{name} is silent"),
        (host.state != HostState.ACTIVE, f"{name} is {host.state}"),
        (users >= host.capacity, f"{name} is full ({users} of {host.capacity})"),
        (port in host.held, f"another program has port {port} on {name}"),
    )
    return next((why for holds, why in facts if holds), None)


def _why_none(state: State, unfit: Collection[str], promised: Collection[str]) -> str:
    """Say of each host why it is not chosen."""
    members = sorted(each.name for each in state.hosts if each.state != HostState.LEFT)
    reasons = {name: obstacle(name, state, promised) for name in members}
    reasons |= {
        name: f"{name} cannot have this user's port" for name in unfit if reasons.get(name, "") is None
    }
    return ", ".join(why for why in reasons.values() if why) or "the fleet has no hosts"
