"""A user's server on a real port, as its HTTP is played by a test."""

import asyncio
import socket
from typing import Self

from aiohttp import web

from waportd.model import Port

MISSING = {
    "feature": "media_out",
    "module": "WAWebPrepRawMedia",
    "member": "prepRawMedia",
    "found": "undefined",
}
SESSION = {
    "port": 5002,
    "user": "2",
    "state": "qr",
    "since": "2026-01-01T00:00:00.000Z",
    "message": "scan the code",
    "cause": None,
    "hint": None,
    "qr": "ref,noise,identity,secret,1",
    "expires_at": "2026-01-01T00:01:00.500Z",
    "attempt": 3,
    "attempts": 5,
    "pairing": {"code": "ABCD-EFGH", "phone": "5511…", "expires_at": "2026-01-01T00:03:00Z"},
    "ready": False,
    "linked": False,
    "phone_number": None,
    "pushname": None,
    "platform": None,
    "progress": None,
    "browser": {"path": "/usr/bin/chromium", "running": True},
    "webhook": {"queued": 0, "delivered": 0, "failed": 0, "dropped": 0, "error": None, "error_at": None},
    "upstream": {
        "build": "2.3000.1049833609",
        "library": "1.34.7",
        "engine": "bundled",
        "pinned": None,
        "ok": False,
        "checked": ["boot"],
        "missing": [MISSING],
        "shims": {"message_keys": "applied", "new_codes": "not needed"},
    },
}


class Server:
    """Answers as a test says: each stream begins with ``greeting``, and ``answer`` is for calls."""

    def __init__(self) -> None:
        self.greeting = b""
        self.headers: dict[str, str] = {}
        self.status = 200
        self.answer = lambda: web.json_response({}, status=202)
        self.calls: list[str] = []
        self.answers_otherwise = False
        """Whether it is a script that knows no event streams."""
        self.open_streams = 0
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._stopping = False

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = Port(listener.getsockname()[1])
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        self._stopping = True
        await self.until_open(0)
        await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def say(self, *chunks: bytes | None) -> None:
        """Send chunks on the newest stream; None ends it."""
        for chunk in chunks:
            self._chunks.put_nowait(chunk)

    async def until_open(self, count: int) -> None:
        """Return when so many streams are open."""
        async with asyncio.timeout(10):
            while self.open_streams != count:
                self._changed.clear()
                await self._changed.wait()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(f"{request.method} {request.path}")
        if request.path != "/events" and request.headers["Accept"] != "text/event-stream":
            return self.answer()
        if self.answers_otherwise:
            return self.answer()
        chunks = self._chunks = asyncio.Queue()
        chunks.put_nowait(self.greeting)
        response = web.StreamResponse(status=self.status, headers=self.headers)
        await response.prepare(request)
        self._count(1)
        try:
            # aiohttp does not let a handler know that its client is gone.
            while not self._stopping and request.transport and not request.transport.is_closing():
                try:
                    chunk = await asyncio.wait_for(chunks.get(), 0.02)
                except TimeoutError:
                    continue
                if chunk is None:
                    break
                await response.write(chunk)
        except ConnectionError:
            pass
        finally:
            self._count(-1)
        return response

    def _count(self, change: int) -> None:
        self.open_streams += change
        self._changed.set()
