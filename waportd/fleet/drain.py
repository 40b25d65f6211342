"""Users who leave a host that lives: whose turn it is in a drain, and what a rebalance would move. Pure functions.

A move costs a user 5 to 20 s without a session, so users who run nothing come first, and linked ones last. Nothing is
planned ahead: each step is decided upon the newest state. So a target that dies, or an engine that does not answer,
needs no other code: the next step goes elsewhere, or does not happen, and what has moved stays.
"""

import collections
import dataclasses
import enum
from collections.abc import Mapping

from waportd.fleet.engine import HostState, Row, State
from waportd.fleet.placement import NoRoom, is_open, obstacle, place, ranked, without_port
from waportd.model import Desired


class Cost(enum.IntEnum):
    """What a move takes from a user."""

    NOTHING = 0
    """Nothing runs."""
    CODE = 1
    """A server runs, and no phone is linked: a page waits some seconds longer for a code."""
    SESSION = 2
    """A linked session is interrupted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """A user who is to go to another host."""

    row: Row
    host: str
    cost: Cost


@dataclasses.dataclass(frozen=True, slots=True)
class Drain:
    """What a drain does now."""

    moves: tuple[Move, ...]
    """To begin now."""
    left: int
    """Users still on the host, with those under way. 0: the drain is over."""
    stuck: Mapping[str, str]
    """Users who do not leave as things are, each with the reason."""


def cost(row: Row) -> Cost:
    """Return what a move takes from the user. A document without a word on it counts as running and linked."""
    if row.document.get("desired", Desired.RUNNING) != Desired.RUNNING:
        return Cost.NOTHING
    return Cost.SESSION if row.document.get("linked", True) else Cost.CODE


def next_moves(host: str, state: State, *, at_once: int, under_way: Mapping[str, str]) -> Drain:
    """Return which users a host that drains moves now, so that ``at_once`` users are under way (`limits.start_concurrency`).

    ``under_way`` has the users whose move has begun, with their targets: these have no room for as many more. It is not
    called while the engine does not answer.
    """
    mine = [row for row in state.rows if row.host == host]
    waiting = sorted(
        (row for row in mine if row.user not in under_way), key=lambda row: (cost(row), row.user)
    )
    moves: list[Move] = []
    stuck: dict[str, str] = {}
    promised = list(under_way.values())
    for row in waiting:
        if len(under_way) + len(moves) >= at_once:
            break
        try:
            target = place(row.user, state, unfit={host, *without_port(state, row.port)}, promised=promised)
        except NoRoom as error:
            stuck[row.user] = error.message
            continue
        moves.append(Move(row, target, cost(row)))
        promised.append(target)
    return Drain(tuple(moves), len(mine), stuck)


def due(host: str, state: State, *, at_once: int, under_way: Mapping[str, str]) -> Drain:
    """Return who leaves a host now: those whose order names another one, and everybody if the host drains.

    Arguments as those of `next_moves`. Who has not gone as ordered is not tried again before the engine has forgotten
    the order, which says why.
    """
    mine = [row for row in state.rows if row.host == host]
    ordered = {row.user: order for row in mine if (order := state.order_of(row))}
    moves: list[Move] = []
    stuck = {user: order.failed for user, order in ordered.items() if order.failed}
    promised = dict(under_way)
    for row in sorted(mine, key=lambda row: (cost(row), row.user)):
        if row.user not in ordered or row.user in stuck or row.user in promised or len(promised) >= at_once:
            continue
        target = ordered[row.user].host
        if why := obstacle(target, state, promised.values(), row.port):
            stuck[row.user] = why
        else:
            moves.append(Move(row, target, cost(row)))
            promised[row.user] = target
    if any(each.name == host and each.state == HostState.DRAINING for each in state.hosts):
        rest = tuple(row for row in state.rows if row.host != host or row.user not in ordered)
        drained = next_moves(host, dataclasses.replace(state, rows=rest), at_once=at_once, under_way=promised)
        moves += drained.moves
        stuck |= drained.stuck
    return Drain(tuple(moves), len(mine), stuck)


def rebalance(state: State, *, most: Cost = Cost.SESSION) -> list[Move]:
    """Return the fewest moves after which each open host has its share of the users, by capacity, within one user.

    Hosts that are silent or drain give and get nothing. ``most`` bounds what a move may cost; what a daemon does
    without being asked is bounded by `Cost.NOTHING`. A dry run shows the list. A user moves once at most.
    """
    capacity = {host.name: host.capacity for host in state.hosts if is_open(host)}
    if not any(capacity.values()):
        return []
    by_host: dict[str, list[Row]] = {name: [] for name in capacity}
    for row in state.rows:
        if row.host in by_host:
            by_host[row.host].append(row)
    shares = _shares(capacity, {name: len(rows) for name, rows in by_host.items()})
    needs = collections.Counter({name: shares[name] - len(by_host[name]) for name in capacity})
    given = [row for name in capacity if needs[name] < 0 for row in by_host[name] if cost(row) <= most]
    moves = []
    for row in sorted(given, key=lambda row: (cost(row), row.user)):
        if needs[row.host] == 0:
            continue
        unfit = without_port(state, row.port)
        takers = {name: capacity[name] for name, need in needs.items() if need > 0 and name not in unfit}
        if takers:
            target = ranked(row.user, takers)[0]
            needs[target] -= 1
            needs[row.host] += 1
            moves.append(Move(row, target, cost(row)))
    return moves


def _shares(capacity: Mapping[str, int], users: Mapping[str, int]) -> dict[str, int]:
    """Share the users out by capacity, in whole users. Who has more already gets what is left over: that saves moves.

    Users beyond all room are in no share: they stay where they are.
    """
    room = sum(capacity.values())
    total = min(sum(users.values()), room)
    shares = {name: total * each // room for name, each in capacity.items()}
    uneven = [name for name, each in capacity.items() if total * each % room]
    for name in sorted(uneven, key=lambda name: (shares[name] - users[name], name))[
        : total - sum(shares.values())
    ]:
        shares[name] += 1
    return shares
