"""Three hosts of a fleet, of which one is silent, for the pages in a real browser: real daemons but for systemd."""

import asyncio
import sys
import threading
from pathlib import Path

from harness import PATIENCE

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit/fleet"))

from support import config_in
from two_hosts import Fleet

from waportd.fleet.engine import HostState


class FleetOfFakes:
    """Users 1 and 3 are on host a, whose dashboard is at ``url``, 2 and 4 on b, and 5 on c, which is silent."""

    def __init__(self, folder):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.run(self._begin(folder))

    async def _begin(self, folder):
        self.fleet = Fleet(folder, config_in(folder))
        self.a = await self.fleet.add("a")
        for user in ("1", "3"):
            await self.a.has(user)
        self.fleet.describe("a", state=HostState.DRAINING)
        self.b = await self.fleet.add("b")
        for user in ("2", "4"):
            await self.b.has(user)
        self.c = await self.fleet.add("c", serves=False)
        self.fleet.coming("5", self.c)
        self.fleet.describe("c", alive=False)
        _, self.token = await self.a.access.tokens.create("dashboard", None)
        self.url = f"{self.a.url}/"

    def run(self, work):
        """Return what work returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def close(self):
        self.run(self.fleet.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
