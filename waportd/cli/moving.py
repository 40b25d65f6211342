"""Users sent from one host of a fleet to another: what is ordered in the engine, and how far the hosts are with it."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from waportd.cli import terminal
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.cli.fleets import ask, config_for, fleet_now, member, reported, say
from waportd.fleet import administration
from waportd.fleet import drain as drains
from waportd.fleet.drain import Cost, Drain, Move
from waportd.fleet.engine import Engine, Host, HostState, State

POLL_S: Final = 0.5
"""Seconds between two looks at the fleet."""
MOVE_S: Final = 120.0
"""Seconds for one user to go to another host."""


def drain(context: Context) -> Exit:
    """Have all users of a host go to others."""
    options = context.options
    settings, state = fleet_now(context, "drain a host")
    with reported():
        host = administration.live_member(state, options.name)
    plan = administration.due(_with(state, dataclasses.replace(host, state=HostState.DRAINING)), host.name)
    if not context.agreed(f"{_planned(host.name, plan)} Do it?"):
        return Exit.FAILED
    with reported():
        ask(settings, lambda engine: administration.drain(engine, host.name))
        if not options.wait:
            say(
                context,
                f"{host.name} drains. To see how far it is: `waportctl host drain {host.name} --wait`",
                f"When it is to take users again: `waportctl host activate {host.name}`",
            )
            return Exit.OK
        left = ask(settings, lambda engine: until_drained(engine, host.name, progress(context)))
    return report(context, host.name, left)


def activate(context: Context) -> Exit:
    """Have a host take users again."""
    options = context.options
    config_for(context, "activate a host")
    settings = member(options.config)
    with reported():
        ask(settings, lambda engine: administration.activate(engine, options.name))
    say(context, f"{options.name} takes users again.")
    return Exit.OK


def order(context: Context) -> Exit:
    """Have a user go to another host."""
    options = context.options
    settings, state = fleet_now(context, "move a user to another host")
    with reported():
        row = administration.check_send(state, options.user, options.to)
    if row.host == options.to:
        say(context, f"user {row.user} is on host {row.host} already")
        return Exit.OK
    fate = {
        Cost.NOTHING: "Nothing of the user runs.",
        Cost.CODE: "The server is down for some seconds.",
        Cost.SESSION: "The session is down for some seconds.",
    }[drains.cost(row)]
    plan = f"User {row.user} goes from host {row.host} to host {options.to}, with port {row.port}. {fate}"
    if options.dry_run:
        if context.screen.as_json:
            context.screen.document({"user": row.user, "host": row.host, "target": options.to})
        else:
            context.screen.text(plan)
        return Exit.OK
    if not context.agreed(f"{plan} Do it?"):
        return Exit.FAILED
    with reported():
        ask(settings, lambda engine: _send(engine, Move(row, options.to, drains.cost(row))))
    say(context, f"user {row.user}: on host {options.to} now (port {row.port})")
    return Exit.OK


def rebalance(context: Context) -> Exit:
    """Share the users out again among the hosts."""
    options = context.options
    settings, state = fleet_now(context, "share users out")
    moves = drains.rebalance(state)
    if options.dry_run or not moves:
        _show(context, moves)
        return Exit.OK
    if not context.agreed(f"{_counted(moves)} go to other hosts. {_interrupted(moves)} Do it?"):
        return Exit.FAILED
    with reported():
        ask(settings, lambda engine: _give_all(engine, moves))
    say(context, f"{_counted(moves)} are on their way. `waportctl fleet status` shows how far they are.")
    return Exit.OK


async def until_drained(engine: Engine, name: str, show: Callable[[int], None]) -> Drain:
    """Return what is left of a drain when nobody leaves any more; ``show`` gets how many are left.

    Raises Problem where the host does not drain any more, UnknownHost, Conflict, HostSilent, EngineUnavailable.
    """
    while True:
        state = await engine.state()
        host = administration.member(state, name)
        left = administration.due(state, name)
        show(left.left)
        if not left.left:
            return left
        administration.live_member(state, name)
        if host.state is not HostState.DRAINING:
            raise Problem(f"host {name} is {host.state}: somebody has ended the drain", code="conflict")
        if not left.moves:
            return left
        await asyncio.sleep(POLL_S)


def report(context: Context, name: str, left: Drain) -> Exit:
    """Say how a drain has ended."""
    if context.screen.as_json:
        context.screen.document({"host": name, "left": left.left, "stuck": dict(left.stuck)})
    elif not left.left:
        context.screen.text(f"{name} has no users any more.")
    if not left.left:
        return Exit.OK
    if not context.screen.as_json:
        for user, why in sorted(left.stuck.items()):
            terminal.complain(f"user {user}: {why}")
        terminal.complain(
            f"{_users(left.left)} of {name} did not leave; `waportctl host drain {name}` tries again"
        )
    return Exit.FAILED


async def _give_all(engine: Engine, moves: Iterable[Move]) -> None:
    state = await engine.state()
    for move in moves:
        await administration.give(engine, state, move.row, move.host)


async def _send(engine: Engine, move: Move) -> None:
    """Order a user to another host, and wait until the user is there. Raises Problem, Conflict, EngineUnavailable."""
    state = await engine.state()
    given = await administration.give(engine, state, move.row, move.host)
    try:
        async with asyncio.timeout(MOVE_S):
            while (row := administration.row_of(state, move.row.user)).host != move.host:
                known = state.orders.get(row.user)
                if row.token != given.token:
                    raise Problem(f"user {row.user} has gone to host {row.host} instead", code="conflict")
                if known and known.failed and known.revision > given.revision:
                    raise Problem(
                        f"user {row.user} has stayed on host {row.host}: {known.failed}", code="not_moved"
                    )
                await asyncio.sleep(POLL_S)
                state = await engine.state()
    except TimeoutError:
        raise Problem(
            f"user {move.row.user} is still on host {move.row.host}, and may yet go",
            f"`journalctl -u waportd` on {move.row.host} says what it does",
            Exit.NOT_IN_TIME,
            "not_in_time",
        ) from None


def _with(state: State, host: Host) -> State:
    hosts = tuple(host if each.name == host.name else each for each in state.hosts)
    return dataclasses.replace(state, hosts=hosts)


def _planned(name: str, plan: Drain) -> str:
    if not plan.left:
        return f"Host {name} has no users, and takes no new ones."
    targets = Counter(move.host for move in plan.moves)
    where = ", ".join(f"{count} to {host}" for host, count in sorted(targets.items()))
    said = (
        f"{_counted(plan.moves)} of {name} go to other hosts ({where}). {_interrupted(plan.moves)}"
        if plan.moves
        else ""
    )
    if plan.stuck:
        said += f" {_users(len(plan.stuck))} cannot leave: {next(iter(plan.stuck.values()))}."
    return said.strip()


def _interrupted(moves: Iterable[Move]) -> str:
    """Say how many sessions are down for a while."""
    count = sum(move.cost is Cost.SESSION for move in moves)
    if not count:
        return "No linked session is interrupted."
    return f"{count} linked session{'s are' if count > 1 else ' is'} down for some seconds{' each' if count > 1 else ''}."


def _counted(moves: Iterable[Move]) -> str:
    return _users(len(list(moves)))


def _users(count: int) -> str:
    return f"{count} user" if count == 1 else f"{count} users"


def _show(context: Context, moves: list[Move]) -> None:
    if context.screen.as_json:
        context.screen.document(
            [{"user": move.row.user, "host": move.row.host, "target": move.host} for move in moves]
        )
    elif not moves:
        context.screen.text("Each host has its share of the users.")
    else:
        what = {Cost.NOTHING: "nothing runs", Cost.CODE: "not linked", Cost.SESSION: "linked"}
        rows = [[move.row.user, move.row.host, move.host, what[move.cost]] for move in moves]
        context.screen.table(("USER", "FROM", "TO", "SESSION"), rows)


def progress(context: Context) -> Callable[[int], None]:
    """Return what shows how many users are left, whenever that changes."""
    last: list[int] = []

    def show_left(left: int) -> None:
        if last[-1:] != [left] and not context.screen.as_json:
            context.screen.text(f"{_users(left)} left")
        last.append(left)

    return show_left
