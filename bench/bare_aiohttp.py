"""The least that aiohttp can do: ``python3 bare_aiohttp.py SOCKET BYTES`` answers with a constant JSON."""

import json
import sys

from aiohttp import web

path, size = sys.argv[1], int(sys.argv[2])
BODY = json.dumps({"constant": "x" * (size - len(json.dumps({"constant": ""})))}).encode()


async def constant(_request: web.Request) -> web.Response:
    """Answer every request alike."""
    return web.Response(body=BODY, content_type="application/json")


app = web.Application()
app.router.add_get("/constant", constant)
web.run_app(app, path=path, access_log=None, print=None)
