"""``fleet leave``: this host gives its users to the others, and is on its own again."""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from waportd.cli import etcd_member, moving
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.cli.fleets import ask, config_for, member, reported, say
from waportd.cli.systemctl import SYSTEM_UNITS, systemctl
from waportd.config import Bus
from waportd.errors import WaportdError
from waportd.fleet import administration, enrolment, holdings, units
from waportd.fleet.certificates import AUTHORITY_FILE
from waportd.fleet.drain import Drain
from waportd.fleet.engine import Engine, Host, HostState, Lease, State
from waportd.fleet.identity import HOST_FILE
from waportd.fleet.lease import LeaseFolder
from waportd.fleet.settings import FILE, FOLDER, Settings
from waportd.fleet.timing import Timing

_LISTENERS: Final = ("waportd.socket", "waportd-tcp.socket")
"""What would start the daemon again, upon a call."""


def leave(context: Context) -> Exit:
    """Take this host out of its fleet."""
    config = config_for(context, "leave the fleet")
    folder = context.options.config.parent / FOLDER
    if (folder / HOST_FILE).exists() and not (folder / FILE).exists():
        # An earlier call was cut off there.
        return _finish(context, folder)
    settings = member(context.options.config)
    with reported():
        state = ask(settings, lambda engine: engine.state())
    others = [host for host in state.hosts if host.name != settings.name and host.state is not HostState.LEFT]
    _keep_authority(folder, others)
    if not context.agreed(_question(state, settings, others)):
        return Exit.FAILED
    with reported():
        if others and (left := _give_all_away(context, settings, state)).left:
            return moving.report(context, settings.name, left)
        with _without_daemon():
            ask(settings, lambda engine: _sign_off(engine, settings.name, is_last=not others))
            _release_sessions(settings)
            etcd_member.leave(settings, is_last=not others)
            # The other hosts' users have other copies by then, or in a moment.
            shutil.rmtree(holdings.folder_in(config), ignore_errors=True)
            enrolment.leave(folder)
    return _finish(context, folder)


def _finish(context: Context, folder: Path) -> Exit:
    with reported():
        if folder.exists():
            enrolment.leave(folder)
    say(context, "This host has left its fleet, and is on its own.")
    return Exit.OK


def _keep_authority(folder: Path, others: list[Host]) -> None:
    """Raise Problem where the fleet would lose the key with which hosts are invited."""
    if others and (folder / AUTHORITY_FILE).exists():
        raise Problem(
            f"this host has the CA of the fleet, without which no host can be invited: {folder / AUTHORITY_FILE}",
            f"move that file to the same place on another host ({others[0].name}), with mode 600. Then leave",
            code="has_authority",
        )


def _question(state: State, settings: Settings, others: list[Host]) -> str:
    users = sum(row.host == settings.name for row in state.rows)
    if others:
        return (
            f"{settings.name} leaves the fleet; its users ({users}) go to {len(others)} other hosts. Do it?"
        )
    return f"{settings.name} is the last host of the fleet, which ends; its users ({users}) stay here. Do it?"


def _give_all_away(context: Context, settings: Settings, state: State) -> Drain:
    """Have this host drain until nobody is left, or nobody leaves. Raises Problem, Conflict, EngineUnavailable."""
    own = next((host for host in state.hosts if host.name == settings.name), None)
    if own is None or own.state is HostState.LEFT:
        return administration.due(state, settings.name)  # it was evicted, or an earlier call has come so far
    ask(settings, lambda engine: administration.drain(engine, own.name))
    return ask(settings, lambda engine: moving.until_drained(engine, own.name, moving.progress(context)))


@contextlib.contextmanager
def _without_daemon() -> Iterator[None]:
    """Have no daemon run inside the block, and start it then, to read what this host is now."""
    listeners = [unit for unit in _LISTENERS if systemctl("is-active", unit, check=False)]
    systemctl("stop", *listeners, "waportd.service")
    try:
        yield
    finally:
        systemctl("start", *listeners, "waportd.service")


async def _sign_off(engine: Engine, name: str, *, is_last: bool) -> None:
    """Put on record that this host has left. Raises Problem where it has a user by now."""
    state = await engine.state()
    if not is_last and any(row.host == name for row in state.rows):
        raise Problem(f"{name} has a new user since", "run the same command again", code="conflict")
    own = next((host for host in state.hosts if host.name == name), None)
    if own is not None and own.state is not HostState.LEFT:
        await engine.describe(dataclasses.replace(own, state=HostState.LEFT))


def _release_sessions(settings: Settings) -> None:
    """Have systemd bind the sessions of this host to no lease any more, and give the lease back.

    The order matters: a session that is still bound ends with the lease.
    """
    files = units.render_units(bus=Bus.SYSTEM, timing=Timing())
    units.remove(SYSTEM_UNITS, [name for name in files if name.startswith("whatsapp@")])
    systemctl("daemon-reload")
    lease = _lease()
    systemctl("stop", units.LEASE_UNIT, check=False)
    if lease is not None:
        # While sessions run, the unit leaves its lease to run out.
        with contextlib.suppress(WaportdError):
            ask(settings, lambda engine: engine.release(lease))
    units.remove(SYSTEM_UNITS, files)
    systemctl("daemon-reload")


def _lease() -> Lease | None:
    with contextlib.suppress(OSError, ValueError), LeaseFolder(units.runtime_folder(system=True)) as folder:
        held = folder.held()
        return held.lease if held else None
    return None
