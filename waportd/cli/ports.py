"""``port``: whose a port is and who holds it; ends a left-over server of an earlier setup."""

import asyncio
import os
from typing import Any

import psutil

from waportd import holders
from waportd.cli import exits
from waportd.cli.exits import Exit, Problem
from waportd.cli.main import Context
from waportd.client import Port, WaportdClientError
from waportd.model import Port as PortNumber

_AGAIN = 2.0
"""Seconds in which a process manager starts a server again that was ended under it."""


def port(context: Context) -> Exit:
    """Show a port; with ``--end-stale`` end what may be ended on it."""
    number = PortNumber(context.options.port)
    if context.options.end_stale:
        if os.geteuid() != 0:
            raise exits.needs_root("end a process of another user")
        return _end_stale(context, number)
    info: Port | None = None
    try:
        info = context.client.port_info(number)
    except WaportdClientError:
        if os.geteuid() != 0:
            raise
        # Root sees for himself who holds it.
    found = asyncio.run(holders.listeners(number)) if os.geteuid() == 0 else None
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
            ("User", (info.user or "nobody's") if info else "unknown: waportd does not answer"),
            ("Unit", info.unit if info else None),
            *(("Held by", _named(holder)) for holder in shown),
            ("Held by", None if shown else "nobody"),
        ]
    )
    return Exit.OK


def _end_stale(context: Context, number: PortNumber) -> Exit:
    found = asyncio.run(holders.listeners(number))
    ended = [
        holder for holder in found if asyncio.run(holders.end_stale_server(number, holder, of_anybody=True))
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
            "whatever started it has to be stopped first: pm2, cron, a unit of the earlier setup, the web app",
            code="port_held",
        )
    raise Problem(
        f"port {number} is held by {left[0]}, which is not a left-over server of an earlier setup",
        "nothing was ended; end it yourself if it may be ended, or reserve the port (ports.reserved)",
        code="port_held",
    )


async def _after(number: PortNumber, seconds: float) -> list[holders.Holder]:
    await asyncio.sleep(seconds)
    return await holders.listeners(number)


def _parent(holder: holders.Holder) -> str:
    if holder.pid is None:
        return ""
    try:
        parent = psutil.Process(holder.pid).parent()
        return f", which {parent.name()} (pid {parent.pid}) started" if parent else ""
    except psutil.Error:
        return ""


def _documents(found: list[holders.Holder]) -> list[dict[str, Any]]:
    return [{"user": holder.user, "pid": holder.pid, "command": holder.command} for holder in found]


def _named(holder: dict[str, Any]) -> str:
    return str(holders.Holder(holder.get("user"), holder.get("pid"), holder.get("command")))
