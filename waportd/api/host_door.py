"""Where the other hosts of a fleet come in: over TLS, and only with a certificate.

Anybody on the network may knock. So few are looked at at a time, and not for long; the others wait in the kernel, and
take nothing from this host's own callers.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

from aiohttp import web

log = logging.getLogger(__name__)

HANDSHAKES: Final = 64
"""Callers at a time that have not shown a certificate yet."""
HANDSHAKE_S: Final = 3.0
"""Seconds for a caller to show it."""
_PAUSE_S: Final = 0.5
"""Seconds for which nobody is accepted where there is no descriptor left."""


class HostDoor:
    """Accepts the other hosts on a socket of its own."""

    def __init__(
        self, listener: socket.socket, tls: ssl.SSLContext, make: Callable[[], web.RequestHandler]
    ) -> None:
        """Begin to accept; ``make`` makes the connection of one that has shown a certificate. Owns the listener."""
        self._listener = listener
        self._tls = tls
        self._make = make
        self._room = asyncio.Semaphore(HANDSHAKES)
        self._arrivals: set[asyncio.Task[None]] = set()
        listener.setblocking(False)  # noqa: FBT003  # the standard library's signature
        self._accepting = asyncio.create_task(self._accept(), name="accept hosts")

    def shut(self) -> None:
        """Stop accepting, and close the listener."""
        self._accepting.cancel()

    async def close(self) -> None:
        """Let go of who has not come in yet."""
        self.shut()
        for task in self._arrivals:
            task.cancel()
        await asyncio.gather(self._accepting, *self._arrivals, return_exceptions=True)

    async def _accept(self) -> None:
        with self._listener:  # what is not accepted any more is refused: the caller tries the successor
            await self._accept_all()

    async def _accept_all(self) -> None:
        loop = asyncio.get_running_loop()
        said = False
        while True:
            await self._room.acquire()
            try:
                arrived, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                self._room.release()
                if not said:
                    log.warning("Cannot accept other hosts for a moment: %s", error.strerror)
                said = True
                await asyncio.sleep(_PAUSE_S)
                continue
            said = False
            task = asyncio.create_task(self._welcome(arrived), name="welcome a host")
            self._arrivals.add(task)
            task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._arrivals.discard(task)
        self._room.release()

    async def _welcome(self, arrived: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        # A caller without a certificate of the fleet, or one that takes too long, is let go without a word.
        with contextlib.suppress(OSError):
            await loop.connect_accepted_socket(
                self._make, arrived, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_S
            )
