"""Real implementations of the protocols that the supervisor works with, kept in memory.

`FakeSystemd` behaves as systemd does with our units: a service pulls its socket in, stopping the socket stops the
service, a job fails with a result. A started service is a `FakeServer`: it answers HTTP on the real port.
"""

import asyncio
import dataclasses
import datetime as dt
import fnmatch
import json
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiohttp import web

from waportd.model import Assignment, Port, User, port_of_pause, port_of_unit, service_unit, socket_unit
from waportd.systemd.manager import Accounting, JobFailed, UnitStatus
from waportd.tokens import Token

SESSION = {
    "port": 0,
    "user": None,
    "state": "generating",
    "since": "2026-01-01T00:00:00.000Z",
    "message": "waiting until somebody asks for a code",
    "cause": None,
    "hint": None,
    "qr": None,
    "expires_at": None,
    "attempt": 0,
    "attempts": 5,
    "pairing": None,
    "passkey": None,
    "ready": False,
    "linked": False,
    "phone_number": None,
    "pushname": None,
    "platform": None,
    "progress": None,
    "turn": None,
    "browser": None,
    "storage": None,
    "webhook": {
        **dict.fromkeys(("queued", "delivered", "failed", "dropped", "undelivered"), 0),
        **dict.fromkeys(("error", "error_at", "oldest_at")),
    },
    "upstream": {
        "build": None,
        "library": "1.34.7",
        "engine": "bundled",
        "pinned": None,
        "ok": True,
        "checked": [],
        "missing": [],
        "shims": {},
    },
}


_MOVE = re.compile(r"whatsapp-move@(\d+):(\d+)(:back|:check)?\.service")


OPTIONS = {
    "challenge": "",
    "rpId": "whatsapp.com",
    "timeout": 600_000,
    "allowCredentials": [{"type": "public-key", "id": "c2VjcmV0LWlk", "transports": ["internal", "hybrid"]}],
    "userVerification": "required",
    "extensions": {"uvm": True},
}
"""What WhatsApp wants signed by a passkey, but for the challenge."""


def _refusal(status: int, code: str) -> web.Response:
    document = {"error": f"the server says {code}", "code": code, "hint": f"what mends {code}"}
    return web.json_response(document, status=status)


def iso(seconds: float) -> str:
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class FakeServer:
    """Answers as whatsapp_server.js does, as far as the daemon calls it; a test says what its session does."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.document = {**SESSION, "port": port}
        self.calls: list[str] = []
        self.codes = self.challenges = 0
        self.given: list[Any] = []
        """What was sent as signed by a passkey."""
        self.engine = "bundled"
        self.on_exit: Callable[[int], None] = lambda status: None
        self._changed = asyncio.Event()
        self._has_turn = False
        self._then: Callable[[], object] | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.add_routes(
            [
                web.get("/events", self._events),
                web.post("/qr/new", self._new_code),
                web.post("/begin", self._begin),
                web.get("/qr", self._qr),
                web.post("/disconnect", self._disconnect),
                web.post("/pairing-code", self._pairing_code),
                web.delete("/pairing-code", self._end_pairing),
                web.get("/passkey", self._passkey),
                web.post("/passkey", self._take_passkey),
                web.delete("/passkey", self._cancel_passkey),
                web.post("/passkey/confirm", self._confirm_passkey),
                web.route("*", "/{messages:.*}", self._messages),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._site = web.SockSite(self._runner, self._listener)
        await self._site.start()

    async def stop(self) -> None:
        if self._runner:
            runner, self._runner = self._runner, None
            self._changed.set()
            asyncio.get_running_loop().remove_reader(self._listener)
            # A connection that a server is just accepting when it closes is one that asyncio forgets to close.
            for _ in range(4):
                await asyncio.sleep(0)
            transports = [connection.transport for connection in runner.server.connections]
            await self._site.stop()
            self._listener.close()  # the site leaves it open whose start was cut short
            await runner.cleanup()
            for transport in filter(None, transports):
                # One whose reader is slow would stay open until it has read all.
                transport.abort()
            await asyncio.sleep(0)  # the connections' cancelled tasks end in the turn after

    def say(self, state: str, **members: object) -> None:
        """Change the session and notify all listeners."""
        upstream = {**SESSION["upstream"], "engine": self.engine}
        turn = "taken" if self._has_turn and state in {"generating", "authenticated"} else None
        about = {
            "port": self.port,
            "state": state,
            "since": iso(time.time()),
            "turn": turn,
            "upstream": upstream,
        }
        self.document = {**SESSION, **about, **members}
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def show_code(self, lifetime: float = 60.0) -> str:
        """Show the next code; return it."""
        self.codes += 1
        code = f"ref{self.codes},noise{self.port},identity,secret,1"
        self.say(
            "qr", qr=code, expires_at=iso(time.time() + lifetime), attempt=self.codes, message="scan the code"
        )
        return code

    def ask_for_passkey(self, stage: str = "asked", **members: object) -> dict[str, Any]:
        """Want a passkey; return how the server says it."""
        self.challenges += 1
        options = {**OPTIONS, "challenge": f"challenge-{self.challenges}"} if stage == "asked" else None
        code = "ABCD-EFGH" if stage == "code" else None
        passkey = {"stage": stage, "options": options, "expires_at": iso(time.time() + 600), "code": code}
        state = "pairing" if stage == "given" else "passkey_required"
        self.say(state, passkey={**passkey, **members}, message="WhatsApp wants a passkey")
        return self.document["passkey"]

    def link(self, phone: str = "5511999990000") -> None:
        self.say("ready", linked=True, ready=True, phone_number=phone, pushname="Ana", platform="android")

    def wait_for_turn(self, then: Callable[[], object]) -> None:
        """Do as a linked session that starts, and ``then`` what it does when it is its turn."""
        self._then = then
        if self._has_turn:
            then()
        else:
            self.say("generating", linked=True, turn="awaited", message="waiting for its turn")

    def take_turn(self) -> None:
        self._has_turn = True
        if self.document["turn"] != "awaited":
            return
        self.say(self.document["state"], linked=True, turn="taken")
        if self._then is not None:
            self._then()

    async def _begin(self, request: web.Request) -> web.Response:
        limit = (await request.json())["limit"] if request.can_read_body else None
        self.calls.append("begin" if limit is None else f"wait: {limit}")
        if limit is None:
            self.take_turn()
        return web.json_response(self.document)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if request.headers["Waportd-Turns"] == "begin":
            self.take_turn()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while self._runner is not None:
            changed = self._changed
            await response.write(f"event: session\ndata: {json.dumps(self.document)}\n\n".encode())
            await changed.wait()
        return response

    async def _new_code(self, request: web.Request) -> web.StreamResponse:
        self.calls.append("new code")
        if self.document["state"] in {"generating", "qr_timeout", "error"} and self.on_ask is not None:
            self.on_ask()
        if request.headers["Accept"] == "text/event-stream":
            return await self._events(request)
        return web.json_response(self.document, status=202)

    on_messages: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    """Answers what concerns messages, chats and media."""

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        if self.on_messages is None:
            return web.json_response({"error": "there is no such path"}, status=404)
        return await self.on_messages(request)

    on_ask: Callable[[], object] | None = None

    async def _qr(self, _: web.Request) -> web.Response:
        self.calls.append("qr")
        return web.json_response({"qr": self.document["qr"]})

    on_pairing: Callable[[str], web.Response] | None = None

    async def _pairing_code(self, request: web.Request) -> web.Response:
        phone = (await request.json())["phone"]
        self.calls.append(f"pairing code {phone}")
        if self.on_pairing is not None:
            return self.on_pairing(phone)
        expires_at = iso(time.time() + 180)
        pairing = {"code": f"CODE-{phone[-4:]}", "phone": phone, "expires_at": expires_at}
        self.say("pairing", pairing=pairing, message="waiting for the pairing code to be typed on the phone")
        return web.json_response({"code": pairing["code"], "expires_at": expires_at})

    async def _end_pairing(self, _: web.Request) -> web.Response:
        self.calls.append("end pairing")
        self.show_code()
        return web.Response(status=204)

    on_passkey: Callable[[Any], web.Response | None] | None = None
    """Answers what was signed; None where it is right."""

    async def _passkey(self, _: web.Request) -> web.Response:
        passkey = self.document["passkey"]
        return web.json_response(passkey) if passkey else _refusal(409, "no_passkey_request")

    async def _take_passkey(self, request: web.Request) -> web.Response:
        self.calls.append("passkey")
        try:
            signed = await request.json()
        except ValueError:
            return _refusal(400, "passkey_malformed")
        self.given.append(signed)
        passkey = self.document["passkey"] or {}
        if passkey.get("stage") != "asked":
            return _refusal(409, "passkey_given" if passkey else "no_passkey_request")
        refused = self.on_passkey(signed) if self.on_passkey is not None else None
        if refused is not None:
            return refused
        return web.json_response(self.ask_for_passkey("given"), status=202)

    async def _confirm_passkey(self, request: web.Request) -> web.Response:
        self.calls.append("confirm passkey")
        code = (await request.json())["code"]
        passkey = self.document["passkey"] or {}
        if passkey.get("stage") != "code":
            return _refusal(409, "no_passkey_code")
        if code != passkey["code"]:
            return _refusal(409, "passkey_code_changed")
        return web.json_response(self.ask_for_passkey("given"), status=202)

    async def _cancel_passkey(self, _: web.Request) -> web.Response:
        self.calls.append("cancel passkey")
        if self.document["passkey"] is None:
            return _refusal(409, "no_passkey_request")
        self.show_code()
        return web.Response(status=204)

    async def _disconnect(self, _: web.Request) -> web.Response:
        self.calls.append("disconnect")
        asyncio.get_running_loop().call_soon(self.on_exit, 10)
        return web.json_response({"success": True})


class Messages:
    """What answers at users' servers where it is about messages; a test says what."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: Callable[[web.Request], Any] = lambda _: web.json_response({"ok": True})
        self.reads_itself = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = b"" if self.reads_itself else await request.read()
        self.calls.append((request.method, request.raw_path, dict(request.headers), body))
        answer = self.answer(request)
        return await answer if asyncio.iscoroutine(answer) else answer

    @property
    def targets(self) -> list[str]:
        return [f"{method} {path}" for method, path, _, _ in self.calls]


class FakeSystemd:
    """A UnitManager in memory."""

    def __init__(self) -> None:
        self.boot_name = "boot-1"
        self.units: dict[str, UnitStatus] = {}
        self.servers: dict[Port, FakeServer] = {}
        self.calls: list[tuple[str, str]] = []
        self._failures: dict[str, tuple[str, dict[str, Any]]] = {}
        self.last_starts: dict[str, float] = {}
        """When the main processes of units were last started, by the monotonic clock."""
        self.prepare: Callable[[FakeServer], None] = lambda server: None
        self.delay = 0.0
        self.starting = 0
        self.most_starting = 0
        self.kept: dict[Port, str] = {}
        """What lies in the folder of a port."""
        self._watchers: list[tuple[str, Callable[[UnitStatus], None]]] = []
        self._pid = 1000
        self._exits: set[asyncio.Task[None]] = set()

    async def boot(self) -> str:
        return self.boot_name

    async def start(self, unit: str) -> None:
        self.calls.append(("start", unit))
        if match := _MOVE.fullmatch(unit):
            if unit in self._failures:
                result, values = self._failures[unit]
                raise JobFailed(f"start of {unit}: {result}", result=result, unit=UnitStatus(unit, **values))
            self._move(Port(int(match[1])), Port(int(match[2])), match[3])
            return
        port = port_of_unit(unit)
        assert port is not None
        if unit.endswith(".service") and socket_unit(port) in self._failures:
            self.change(socket_unit(port), **self._failures[socket_unit(port)][1])
            raise JobFailed(f"start of {unit}: dependency", result="dependency", unit=UnitStatus(unit))
        if unit in self._failures:
            result, values = self._failures[unit]
            self.change(unit, **values)
            raise JobFailed(f"start of {unit}: {result}", result=result, unit=self.units[unit])
        if unit.endswith(".service"):
            self.change(socket_unit(port), active_state="active", sub_state="listening")
            await self.start_server(port)
        else:
            self.change(unit, active_state="active", sub_state="listening")

    def _move(self, source: Port, target: Port, step: str | None) -> None:
        if step == ":check":
            assert target not in self.kept
            return
        for name in (name_of(port) for port in (source, target) for name_of in (service_unit, socket_unit)):
            assert self.units.get(name, UnitStatus(name)).active_state == "inactive", name
        if step != ":back":
            assert not {source, target} <= self.kept.keys()
        if source in self.kept and target not in self.kept:
            self.kept[target] = self.kept.pop(source)

    def fail_to_start(self, unit: str, outcome: str = "failed", **values: object) -> None:
        """Let each job that starts the unit end so from now on; ``values`` is what its status says then."""
        self._failures[unit] = (outcome, {"active_state": "failed", "sub_state": "failed", **values})

    def mend(self, unit: str) -> None:
        """Let the unit start again."""
        del self._failures[unit]

    async def start_server(self, port: Port) -> None:
        """Start a service as a request on its socket would."""
        unit = service_unit(port)
        if port in self.servers:
            return
        self.change(unit, active_state="activating", sub_state="start")
        self.starting += 1
        self.most_starting = max(self.most_starting, self.starting)
        try:
            await asyncio.sleep(self.delay)
            server = FakeServer(port)
            server.on_exit = lambda status: self._exit_soon(port, status)
            start = asyncio.ensure_future(server.start())
            try:
                await asyncio.shield(start)
            except asyncio.CancelledError:
                await start  # in the middle of it asyncio would lose the listener
                await server.stop()
                raise
        finally:
            self.starting -= 1
        self.servers[port] = server
        self.prepare(server)
        self._pid += 1
        self.change(unit, active_state="active", sub_state="running", main_pid=self._pid, result="success")

    def _exit_soon(self, port: Port, status: int) -> None:
        exiting = asyncio.ensure_future(self.exit(port, status))
        self._exits.add(exiting)
        exiting.add_done_callback(self._exits.discard)

    async def exit(self, port: Port, status: int = 0) -> None:
        """End the server of a port as from within, with that exit status; systemd does not restart it."""
        await self.servers.pop(port).stop()
        self.change(
            service_unit(port),
            active_state="inactive",
            sub_state="dead",
            main_pid=0,
            exit_code=1,
            exit_status=status,
        )

    async def begin(self, unit: str) -> None:
        self.calls.append(("begin", unit))
        self.change(unit, active_state="activating", sub_state="start")

    async def stop(self, unit: str) -> None:
        self.calls.append(("stop", unit))
        if port_of_pause(unit):
            self.change(unit, active_state="inactive", sub_state="dead")
        else:
            await self.stop_by_hand(unit)

    async def stop_by_hand(self, unit: str) -> None:
        """Stop a unit as an administrator does: nobody asked the daemon."""
        port = port_of_unit(unit)
        assert port is not None
        if port in self.servers:
            await self.servers.pop(port).stop()
            self.change(service_unit(port), active_state="inactive", sub_state="dead", main_pid=0)
        elif self.units.get(service_unit(port), UnitStatus(unit)).sub_state == "auto-restart":
            self.change(service_unit(port), active_state="inactive", sub_state="dead")
        if unit.endswith(".socket") and self.units.get(unit, UnitStatus(unit)).active_state != "failed":
            self.change(unit, active_state="inactive", sub_state="dead")

    async def restart(self, unit: str) -> None:
        self.calls.append(("restart", unit))
        port = port_of_unit(unit)
        assert port is not None
        if port in self.servers:
            await self.servers.pop(port).stop()
        await self.start_server(port)

    async def reset_failed(self, unit: str) -> None:
        self.calls.append(("reset_failed", unit))
        if unit in self.units and self.units[unit].active_state == "failed":
            self.change(unit, active_state="inactive", sub_state="dead", result="success")

    async def keep_loaded(self, unit: str, seconds: float) -> None:
        self.calls.append(("keep_loaded", unit))

    async def clean(self, unit: str) -> None:
        self.calls.append(("clean", unit))
        assert self.units.get(unit, UnitStatus(unit)).active_state == "inactive"
        port = port_of_unit(unit)
        assert port is not None
        self.kept.pop(port, None)

    async def status(self, unit: str) -> UnitStatus:
        return self.units.get(unit, UnitStatus(unit))

    async def list_units(self, pattern: str) -> list[UnitStatus]:
        return [status for name, status in self.units.items() if fnmatch.fnmatch(name, pattern)]

    async def last_start(self, unit: str) -> float:
        return self.last_starts.get(unit, 0.0)

    async def accounting(self, unit: str) -> Accounting:
        return Accounting(memory=64 << 20, cpu=1.5)

    async def limit_memory(self, unit: str, memory_max: int) -> None:
        self.calls.append(("limit_memory", f"{unit}={memory_max}"))

    async def reload(self) -> None:
        self.calls.append(("reload", ""))

    def watch(self, pattern: str, on_change: Callable[[UnitStatus], None]) -> None:
        self._watchers.append((pattern, on_change))

    def change(self, unit: str, **values: Any) -> None:
        """Change a unit and notify those who watch it."""
        before = self.units.get(unit, UnitStatus(unit))
        is_as_before = before.since and values.get("active_state", before.active_state) == before.active_state
        since = before.since if is_as_before else time.time()
        self.units[unit] = dataclasses.replace(before, since=since, **values)
        for pattern, on_change in self._watchers:
            if fnmatch.fnmatch(unit, pattern):
                on_change(self.units[unit])

    def forget_watchers(self) -> None:
        """Let a new supervisor take the place of the one before."""
        self._watchers.clear()

    async def close(self) -> None:
        # One that was cut short in the middle would leave its listener open.
        await asyncio.gather(*self._exits)
        for server in list(self.servers.values()):
            await server.stop()


class MemoryStore:
    """An AllocationStore and TokenStore in memory."""

    def __init__(self, assignments: Iterable[Assignment] = ()) -> None:
        self.rows: dict[User, Assignment] = {assignment.user: assignment for assignment in assignments}
        self.tokens: dict[str, Token] = {}

    async def load(self) -> list[Assignment]:
        return list(self.rows.values())

    async def put(self, assignments: Iterable[Assignment]) -> None:
        await asyncio.sleep(0)
        for assignment in assignments:
            assert all(
                other.port != assignment.port for other in self.rows.values() if other.user != assignment.user
            )
            self.rows[assignment.user] = assignment

    async def remove(self, user: User) -> None:
        await asyncio.sleep(0)
        self.rows.pop(user, None)

    async def load_tokens(self) -> list[Token]:
        return list(self.tokens.values())

    async def put_token(self, token: Token) -> None:
        await asyncio.sleep(0)
        self.tokens[token.id] = token

    async def remove_token(self, identifier: str) -> None:
        await asyncio.sleep(0)
        self.tokens.pop(identifier, None)

    async def close(self) -> None:
        pass
