"""Ports without an owner, cleaned before the next user needs them."""

import asyncio
from collections.abc import Awaitable, Callable

from waportd.concurrency import retrieve_error
from waportd.model import Port, service_unit
from waportd.systemd.manager import SystemdError, UnitManager

CLEAN_NEXT_DELAY_S = 0.1
"""Seconds after an assignment until the next port is cleaned, which takes the machine some 20 ms."""
PRECLEANED_TTL_S = 60.0
"""Seconds for which a port that was cleaned counts as clean, and its unit stays loaded: a start then takes 3 ms less."""


class CleaningAhead:
    """Remembers which ports are clean. Where it is not ``enabled``, none ever is.

    A port stays clean: without an environment its units do not start. Nobody but root could put a session there, and where
    that is done while the daemon runs (docs/operations.md says to stop it) a minute is all that is missed.
    """

    def __init__(
        self, clean: Callable[[Port], Awaitable[None]], manager: UnitManager, *, enabled: bool
    ) -> None:
        """``clean`` deletes what is left on a port."""
        self._clean = clean
        self._manager = manager
        self._enabled = enabled
        self._cleaned: dict[Port, asyncio.Task[None]] = {}
        """Ports that were cleaned within the last minute, or are just being."""

    async def close(self) -> None:
        """Cancel what is under way, and begin nothing more."""
        self._enabled = False
        tasks = list(self._cleaned.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def clean_later(self, choose: Callable[[], Port | None]) -> None:
        """Begin to clean the port that ``choose`` names, once the first calls of the newest user are answered."""
        if self._enabled:
            asyncio.get_running_loop().call_later(CLEAN_NEXT_DELAY_S, self._begin, choose)

    async def has_cleaned(self, port: Port) -> bool:
        """Return whether a port is clean, once its cleaning is over where it is under way. It counts as one that is used."""
        task = self._cleaned.pop(port, None)
        if task is None:
            return False
        await asyncio.wait({task})
        return not task.cancelled() and task.exception() is None

    def _begin(self, choose: Callable[[], Port | None]) -> None:
        port = choose() if self._enabled else None
        if port is not None and port not in self._cleaned:
            task = asyncio.create_task(self._clean_unowned(port), name=f"clean port {port}")
            self._cleaned[port] = task
            task.add_done_callback(lambda done: self._ended(port, done))

    async def _clean_unowned(self, port: Port) -> None:
        try:
            await self._manager.keep_loaded(service_unit(port), PRECLEANED_TTL_S)
            await self._clean(port)
        except SystemdError:
            # The user who gets the port tries again, and sees the failure. Until then it concerns no user.
            await self._manager.reset_failed(service_unit(port))
            raise

    def _ended(self, port: Port, task: asyncio.Task[None]) -> None:
        retrieve_error(task)

        def forget() -> None:
            if self._cleaned.get(port) is task:
                del self._cleaned[port]

        asyncio.get_running_loop().call_later(PRECLEANED_TTL_S, forget)
