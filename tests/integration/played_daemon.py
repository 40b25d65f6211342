"""A daemon that shows the connect page what a test says, and an extension that answers as the test says.

For what the real ones cannot be brought to at will: other extensions, refusals, and each step for as long as it is looked at.
The pages are the real ones, as the real daemon serves them.
"""

import asyncio
import contextlib
import io
import json
import threading
from pathlib import Path

import segno
from aiohttp import web
from harness import PATIENCE, until

from waportd.api import pages
from waportd.api.parameters import read_parameters

EXTENSION = (Path(__file__).parent / "played_extension.js").read_text(encoding="utf-8")
OWN = {"id": "own", "url": "assets/passkey-extension.zip", "own": True, "firefox": None}
OTHER = {"id": "other", "url": "https://store.example/extension", "own": False, "firefox": None}
OPTIONS = {"challenge": "Y2hhbGxlbmdl", "rpId": "whatsapp.com", "allowCredentials": [], "timeout": 600_000}
CREDENTIAL = {
    "id": "aWQ",
    "rawId": "aWQ",
    "type": "public-key",
    "response": {"clientDataJSON": "e30", "authenticatorData": "YQ", "signature": "cw", "userHandle": None},
}
ASKED = {"stage": "asked", "options": OPTIONS, "expires_at": "2100-01-01T00:00:00.000Z", "code": None}


class PlayedDaemon:
    """One user, `1`, whose session is in the state that was set last."""

    def __init__(self):
        self.asked = []
        """What the page called: method, path below the user, body."""
        self.refusals = {}
        """Answers by method and path in place of the usual ones: status, problem document, Retry-After."""
        self.extensions = [OWN]
        self._document = {"status": "generating", "attempt": 0}
        self._streams = set()
        self._loop = asyncio.new_event_loop()
        self._runner = None
        self._port = None
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,))
        self._thread.start()
        assert ready.wait(PATIENCE)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port}"

    def tell(self, status, passkey=None, **more):
        """Have the session be in a state, and show it to the pages that follow."""
        nothing = dict.fromkeys(("qr", "expires_at", "message", "cause", "hint"))
        document = {**nothing, "status": status, "attempt": 0, "attempts": 5, "passkey": passkey, **more}

        def publish():
            self._document = document
            for queue in self._streams:
                queue.put_nowait(document)

        self._loop.call_soon_threadsafe(publish)

    def until_asked(self, method, path, count=1):
        """Wait until the page has made that call as often; return the body of the last one."""

        def bodies():
            return [body for one, where, body in self.asked if (one, where) == (method, path)]

        until(lambda: len(bodies()) >= count, f"{method} {path}")
        return bodies()[-1]

    def close(self):
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)

    def _run(self, ready):
        self._loop.run_until_complete(self._begin())
        self._loop.call_soon(ready.set)
        self._loop.run_forever()
        self._loop.close()

    async def _begin(self):
        app = web.Application()
        app["embedders"] = pages.Embedders(["self", "http://127.0.0.2:*"])
        app.router.add_get("/assets/passkey-extensions.json", self._list)
        for operation in pages.operations():
            app.router.add_get(operation.path, self._page(operation))
        app.router.add_get("/v1/users/1/events", self._follow)
        app.router.add_get("/v1/users/1/qr", self._draw)
        app.router.add_route("*", "/v1/users/1{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]

    async def _end(self):
        for queue in self._streams:
            queue.put_nowait(None)
        await self._runner.cleanup()

    @staticmethod
    def _page(operation):
        async def show(request):
            read_parameters(request, operation.parameters)
            return await operation.handler(request)

        return show

    async def _list(self, _):
        return web.json_response({"extensions": self.extensions})

    async def _follow(self, request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        queue = asyncio.Queue()
        self._streams.add(queue)
        document = self._document
        with contextlib.suppress(ConnectionResetError):  # the page was left
            while document is not None:
                session = {"state": document["status"], "name": "Ana", "phone_number": None, "progress": None}
                for name, data in {"user": {"user": "1", "session": session}, "qr": document}.items():
                    await response.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
                document = await queue.get()
        self._streams.discard(queue)

    async def _draw(self, _):
        picture = io.BytesIO()
        segno.make("2@code").save(picture, kind="svg", scale=4, border=4)
        return web.Response(body=picture.getvalue(), content_type="image/svg+xml")

    async def _answer(self, request):
        method, path = request.method, request.match_info["path"]
        body = await request.json() if request.can_read_body else None
        self.asked.append((method, path, body))
        if refusal := self.refusals.get((method, path)):
            status, code, *wait = refusal
            headers = {"Retry-After": str(wait[0])} if wait else {}
            document = {"code": code, "detail": "d", "hint": None, "cause": None}
            return web.json_response(document, status=status, headers=headers)
        if method == "DELETE":
            return web.Response(status=204)
        return web.json_response({}, status=200 if method == "PUT" else 202)
