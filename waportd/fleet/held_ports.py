"""Which ports of other hosts' users another program has here: the fleet has to know it before it sends one of them."""

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import Collection
from typing import Final, NoReturn

from waportd.fleet.engine import Conflict, EngineUnavailable
from waportd.fleet.host import FleetHost
from waportd.model import Port
from waportd.port_holders import is_bound
from waportd.tcp_table import LISTENING, sockets

log = logging.getLogger(__name__)

LOOK_S: Final = 15.0
"""Seconds between two looks: less than a host is silent before its users are taken."""


class HeldPorts:
    """Writes them into the description of this host."""

    def __init__(self, host: FleetHost) -> None:
        self._host = host

    async def run(self) -> NoReturn:
        """Look again and again, until it is cancelled."""
        while True:
            # Who has described this host meanwhile is seen at the next look.
            with contextlib.suppress(EngineUnavailable, Conflict):
                await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Write what has changed. Raises EngineUnavailable, Conflict."""
        state, here = self._host.follower.state, self._host.store.rows
        own = next((host for host in state.hosts if host.name == self._host.name), None) if state else None
        if state is None or own is None:
            return
        ports = {Port(row.port) for row in state.rows if row.host != own.name and row.user not in here}
        held = tuple(sorted(await asyncio.to_thread(_held, ports)))
        if held == own.held:
            return
        if more := sorted(set(held) - set(own.held)):
            log.warning("Another program has ports of other hosts' users: %s", ", ".join(map(str, more)))
        await self._host.engine.describe(dataclasses.replace(own, held=held))


def _held(ports: Collection[Port]) -> list[Port]:
    """Return those on which systemd could not listen. What waportd forwards is its own, and let go of in time."""
    own = os.geteuid()
    found = {one.local[1] for one in sockets() if one.state == LISTENING and one.uid != own}
    return [port for port in ports if port in found and is_bound(port)]
