"""The program of waportd-lease.service: the keeper, and the release of its lease when the unit has stopped."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from waportd.errors import ConfigError, WaportdError
from waportd.fleet.boot_clock import BootClock
from waportd.fleet.failsafe import Peers
from waportd.fleet.keeper import ExitStatus, Keeper, Leases
from waportd.fleet.lease import LeaseFolder
from waportd.fleet.limits import within
from waportd.fleet.timing import Timing
from waportd.systemd.journal import set_up_logging

log = logging.getLogger(__name__)

RELEASE: Final = "--release"
"""The argument, followed by the control group of the sessions, with which the program gives the lease back."""

Connect = Callable[[], Awaitable[tuple[Leases, Peers]]]
"""Makes the engine and the peers, in the event loop that uses them. Raises ConfigError."""


def main(host: str, connect: Connect, arguments: Sequence[str] = tuple(sys.argv[1:])) -> NoReturn:
    """Run the program for the host of this name, in the fleet; end with an `ExitStatus`.

    It ends at once, whatever still hangs in a thread or in a task that does not let itself be cancelled.
    """
    set_up_logging("info")
    loop = asyncio.new_event_loop()
    status = ExitStatus.REFUSED
    connected: list[tuple[Leases, Peers]] = []
    """There until the end: connections that are open when nobody has them any more are complained of."""
    try:
        status = loop.run_until_complete(_run(host, connect, arguments, connected))
    except ConfigError as error:
        log.error("Cannot hold a lease: %s; %s", error, error.hint)  # noqa: TRY400 - it says all
    except BaseException:
        log.exception("Cannot continue: the keeper starts again, and resumes the lease")
        os._exit(1)
    os._exit(status)


async def _run(
    host: str, connect: Connect, arguments: Sequence[str], connected: list[tuple[Leases, Peers]]
) -> ExitStatus:
    timing = Timing.from_environment()
    with LeaseFolder(Path(os.environ["RUNTIME_DIRECTORY"])) as folder:
        connected.append(await connect())
        engine, peers = connected[0]
        if RELEASE in arguments:
            await release(engine, folder, Path(arguments[-1]), timing)
            return ExitStatus.AGAIN
        keeper = Keeper(host, engine, peers, folder, timing=timing, clock=BootClock())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, keeper.end, ExitStatus.AGAIN)
        return await keeper.run()


async def release(engine: Leases, folder: LeaseFolder, sessions: Path, timing: Timing) -> bool:
    """Give the lease back, so that others need not wait for its end; return whether it is given back.

    Only where the control group ``sessions`` is empty: while any of its processes runs, the lease is what keeps other
    hosts from starting the same session.
    """
    held = folder.held()
    if held is None:
        return False
    if _populated(sessions):
        log.warning("The lease is not released, but runs out: %s still has processes", sessions)
        return False
    try:
        await within(timing.call_s, engine.release(held.lease))
    except (TimeoutError, WaportdError) as error:
        log.warning("Cannot release the lease, which runs out: %s", error or "no answer")
        return False
    return True


def _populated(group: Path) -> bool:
    """Return whether a control group or one below it has processes (cgroups(7)); a missing one has none."""
    try:
        return "populated 0" not in (group / "cgroup.events").read_text("ascii").splitlines()
    except FileNotFoundError:
        return False
