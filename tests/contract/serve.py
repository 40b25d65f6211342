"""Serves the API over TCP for those who want to break its contract: all of it is real but systemd and WhatsApp.

    serve.py DIRECTORY

Prints a line of JSON with `url` and `token` when it is ready, and serves until SIGTERM.
"""

import asyncio
import contextlib
import dataclasses
import functools
import json
import re
import signal
import socket
import sys
from pathlib import Path

import jsonschema
from aiohttp import web
from fake_journal import FakeJournal
from fakes import FakeSystemd

from waportd.api import events, logs, messages, passkey, sse, throttle
from waportd.api.access import Access
from waportd.api.server import ApiServer, make_app
from waportd.config import Config, PortRange
from waportd.connect_links import Links
from waportd.store import SqliteStore
from waportd.supervisor import Supervisor
from waportd.systemd import server_log
from waportd.tokens import Token, Tokens

CHANGE = 0.2
"""Seconds from one change of a session to the next, so that no call that waits for one has to wait for long."""
STREAM = 0.2
"""Seconds after which a stream ends, which else ends when its reader goes: this one never does."""


class TokensAndOne(Tokens):
    """Beside all others, a token that no call can delete."""

    LASTING = Token("0" * 12, "of the test", None, "", 0.0)
    TEXT = "of-the-test"

    def recognise(self, text):
        return self.LASTING if text == self.TEXT else super().recognise(text)

    def is_valid(self, identifier):
        return identifier == self.LASTING.id or super().is_valid(identifier)


ANSWERS = {
    "read": {"messages": [], "next": None, "more": False},
    "send": {"id": None, "outcome": "pending"},
    "forward": {"id": None, "outcome": "pending"},
    "state": {"id": None, "outcome": "sent"},
    "redeliver": {"redelivered": 0},
    **{name: {"id": "true_1"} for name in ("edit", "delete", "react")},
    **{name: {"ok": True} for name in ("typing", "recording", "seen")},
    "number": {"number": "5511", "exists": False, "id": None},
    "chats": {"chats": [], "total": 0},
    "history": {"messages": [], "hasMore": False, "nextCursor": None},
}
"""What a user's server answers where it is more than an empty document, by the name of the call."""


async def answer_messages(request):
    """Answer as a user's server does what is as it is described, and refuse the rest."""
    passage = next(one for one in messages.TABLE if fits(one, request))
    if isinstance(passage.body, messages.Passed) and not request.content_type.startswith("multipart/"):
        try:
            jsonschema.validate(json.loads(await request.text() or "{}"), passage.body.document)
        except (ValueError, jsonschema.ValidationError):
            return web.json_response({"error": "not as described", "code": "bad_request"}, status=400)
    if passage.name == "media":
        return web.Response(body=b"media", content_type="image/png")
    status = 202 if passage.sends else 200
    return web.json_response(ANSWERS.get(passage.name, {}), status=status)


def fits(passage, request):
    """Return whether a request is for that call."""
    path = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(passage.path))
    return passage.method == request.method and re.fullmatch(path, request.rel_url.raw_path)


async def stream_for_a_while(request, tell):
    async def tell_for_a_while(send):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STREAM):
                await tell(send)

    return await sse.stream(request, tell_for_a_while)


def check_passkey(signed):
    """Refuse what is not as it is described; return None for the rest."""
    try:
        jsonschema.validate(signed, passkey.CREDENTIAL)
    except jsonschema.ValidationError:
        return web.json_response({"error": "not as described", "code": "passkey_malformed"}, status=400)
    return None


async def live(systemd):
    """Let every session show a code, want a passkey, get linked, lose its phone, and so on."""
    while True:
        for server in list(systemd.servers.values()):
            wanted = server.document["passkey"]
            if server.document["state"] in {"generating", "ready"}:
                server.show_code()
            elif server.document["state"] == "qr":
                server.ask_for_passkey()
            elif wanted and wanted["stage"] == "asked":
                server.ask_for_passkey("code")
            else:
                server.link()
        await asyncio.sleep(CHANGE)


async def main(directory):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    (directory / "instances").mkdir(parents=True)
    default = Config()
    config = dataclasses.replace(
        default,
        store=dataclasses.replace(default.store, directory=directory),
        ports=dataclasses.replace(default.ports, overflow=PortRange(10000, 29999)),
        limits=dataclasses.replace(default.limits, max_sockets=10000, min_available_memory=0),
    )
    for module in (events, logs):
        module.stream = stream_for_a_while
    journal = FakeJournal()
    journal.write("some line of some program")
    server_log.journal.Reader = journal.open
    throttle.MOST = 10**9  # else a wrong token is soon answered with 429, and nothing is learnt of the 401
    store = await SqliteStore.open(config.store.database)
    systemd = FakeSystemd()
    systemd.prepare = lambda server: vars(server).update(
        on_messages=answer_messages, on_passkey=check_passkey
    )
    supervisor = Supervisor(config, store, systemd)
    await supervisor.start()
    tokens = TokensAndOne(store)
    await tokens.load()
    renew = functools.partial(store.change_secret, "connect links")
    access = Access([], tokens, Links(await store.secret("connect links"), renew))
    server = ApiServer(make_app(supervisor, access))
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    await server.start([listener])
    life = asyncio.create_task(live(systemd))
    address, port = listener.getsockname()
    sys.stdout.write(json.dumps({"url": f"http://{address}:{port}", "token": tokens.TEXT}) + "\n")
    sys.stdout.flush()
    await stop.wait()
    life.cancel()
    await server.close()
    await supervisor.close()
    await systemd.close()
    await store.close()


asyncio.run(main(Path(sys.argv[1])))
