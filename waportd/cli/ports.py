"""``port``: whose a port is and who holds it; ends a left-over server of an earlier setup."""

import os
from typing import TYPE_CHECKING, Any

from waportd.cli import exit_status
from waportd.cli.arguments import port as port_number
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.client import Port, WaportdClientError
from waportd.command_line import argument, flag
from waportd.model import Port as PortNumber

if TYPE_CHECKING:
    from waportd import port_holders

COMMANDS = Commands()


_AGAIN = 2.0
"""Seconds in which a process manager restarts a server that was ended."""


@COMMANDS.add(
    "port",
    "show who has a port, and which process holds it",
    """
    Shows the user who has the port, and the process that listens on it. Root sees the process even if
    waportd does not answer.

    With --end-stale, ends a left-over whatsapp_server.js of an earlier setup that holds the port, and looks two
    seconds later whether something has started it again. It never ends anything else. Exit status 1: the port is
    still held.
    """,
    argument("port", type=port_number, metavar="PORT", help="the port"),
    flag("--end-stale", help="end a left-over server of an earlier setup that holds the port (needs root)"),
    examples={
        "see who has port 5001": "waportctl port 5001",
        "free it from a server of an earlier setup": "sudo waportctl port 5001 --end-stale",
    },
)
def port(context: Context) -> Exit:
    """Show a port; with ``--end-stale`` end what may be ended on it."""
    import asyncio

    from waportd import port_holders

    number = PortNumber(context.options.port)
    if context.options.end_stale:
        if os.geteuid() != 0:
            raise exit_status.needs_root("end a process of another user")
        return _end_stale(context, number)
    info: Port | None = None
    try:
        info = context.client.port_info(number)
    except WaportdClientError:
        if os.geteuid() != 0:
            raise
        # Root can see which process holds it.
    found = asyncio.run(port_holders.holding(number)) if os.geteuid() == 0 else None
    shown = (
        _documents(found)
        if found is not None
        else [dict(holder.raw) for holder in info.holders]
        if info
        else []
    )
    if context.screen.as_json:
        context.screen.document(
            {**(info.raw if info else {"port": number}), "held": bool(shown), "holders": shown}
        )
        return Exit.OK
    context.screen.pairs(
        [
            ("Port", str(number)),
            ("User", (info.user or "not assigned") if info else "unknown: waportd does not answer"),
            ("Unit", info.unit if info else None),
            *(("Held by", _named(holder)) for holder in shown),
            ("Held by", None if shown else "no process"),
        ]
    )
    return Exit.OK


def _end_stale(context: Context, number: PortNumber) -> Exit:
    import asyncio

    from waportd import port_holders

    found = asyncio.run(port_holders.holding(number))
    ended = [
        holder
        for holder in found
        if asyncio.run(port_holders.end_stale_server(number, holder, of_anybody=True))
    ]
    # One that was ended may be one that somebody starts again.
    left = asyncio.run(_after(number, _AGAIN)) if ended else found
    if context.screen.as_json:
        context.screen.document({"port": number, "ended": _documents(ended), "left": _documents(left)})
        return Exit.FAILED if left else Exit.OK
    for holder in ended:
        context.screen.text(f"ended {holder}, a left-over server of an earlier setup")
    if not left:
        context.screen.text(f"port {number} is free")
        return Exit.OK
    if ended:
        raise Problem(
            f"port {number} is held again, by {left[0]}{_parent(left[0])}",
            "first stop what starts it: pm2, cron, a unit of the earlier setup, the web app",
            code="port_held",
        )
    raise Problem(
        f"port {number} is held by {left[0]}, which is not a left-over server of an earlier setup",
        "nothing was ended; end the process yourself, or reserve the port (ports.reserved)",
        code="port_held",
    )


async def _after(number: PortNumber, seconds: float) -> "list[port_holders.Holder]":
    import asyncio

    from waportd import port_holders

    await asyncio.sleep(seconds)
    return await port_holders.holding(number)


def _parent(holder: "port_holders.Holder") -> str:
    import psutil

    if holder.pid is None:
        return ""
    try:
        parent = psutil.Process(holder.pid).parent()
        return f", which {parent.name()} (pid {parent.pid}) started" if parent else ""
    except psutil.Error:
        return ""


def _documents(found: "list[port_holders.Holder]") -> list[dict[str, Any]]:
    return [{"user": holder.user, "pid": holder.pid, "command": holder.command} for holder in found]


def _named(holder: dict[str, Any]) -> str:
    from waportd import port_holders

    return str(port_holders.Holder(holder.get("user"), holder.get("pid"), holder.get("command")))
