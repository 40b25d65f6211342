"""Calls to the users' servers, for what only a server can do."""

import asyncio
import json
import os
import socket
from typing import Any

import aiohttp

from waportd.errors import AlreadyLinked, BadRequest, Refused, ServerFailed, StartTimeout, WaportdError
from waportd.model import PairingCode, Passkey, PasskeyStage, Port
from waportd.session_reader import read_pairing, read_passkey, read_text

NOT_ANSWERING = "not_answering"
"""Cause of a call that a server did not answer. systemd knows the state of the server better."""
CALL_TIMEOUT_S = 20.0
"""Seconds a server has to answer a call; a logout waits for the phone to be unlinked."""
_PAIRING_TIMEOUT_S = 70.0
"""Seconds a server has to answer with a pairing code; the server gives up after 60."""
_MAX_ANSWER_BYTES = 64 * 1024
"""Bytes read of an answer that says why a call failed."""
_AT_A_TIME_BYTES = 8 * 1024
"""The receive buffer for a server's data; the kernel makes it somewhat larger (SO_RCVBUF in socket(7))."""


class _Narrow(aiohttp.TCPConnector):
    """Keeps the kernel's buffers for servers' data small: that data is read, and parsed, in one go."""

    async def connect(self, *arguments: Any, **options: Any) -> Any:
        connection = await super().connect(*arguments, **options)
        if connection.transport is not None:
            peer = connection.transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _AT_A_TIME_BYTES)
        return connection


def open_http() -> aiohttp.ClientSession:
    """Return the HTTP client for servers: it buffers little of their data, and uses no proxy."""
    return aiohttp.ClientSession(
        connector=_Narrow(limit=0, force_close=True),
        # A small compressed stream could grow without end in memory.
        auto_decompress=False,
        read_bufsize=2**14,
        trust_env=False,
    )


async def close_http(http: aiohttp.ClientSession) -> None:
    """End all connections."""
    await http.close()
    # They end in the turn of the event loop after that (aiohttp's manual, "Graceful Shutdown").
    await asyncio.sleep(0)


class ServerClient:
    """Calls servers on their ports. A call to the port of a stopped server starts it: callers know that it runs."""

    def __init__(self) -> None:
        self._http = open_http()

    async def close(self) -> None:
        """Let go."""
        await close_http(self._http)

    async def ask_for_code(self, port: Port) -> None:
        """Let the server open a browser for a code, if none is open. Raises ServerFailed.

        Asks again where the server ends before it answers: systemd holds the port, and starts the next one.
        """
        await self._call(port, "/qr/new", again=True)

    async def begin(self, port: Port) -> None:
        """Let a linked session load WhatsApp's page, if it waits for its turn. Raises ServerFailed."""
        await self._call(port, "/begin", again=True)

    async def wait(self, port: Port, limit: str) -> None:
        """Have a linked session keep waiting for its turn, and say which limit leaves no room. Raises ServerFailed."""
        await self._call(port, "/begin", body={"limit": limit})

    async def relay_poll(self, port: Port) -> None:
        """Notify the server that somebody is looking at its code; it decides what to do with that."""
        await self._call(port, "/qr", method="GET")

    async def log_out(self, port: Port) -> None:
        """Unlink the phone and let the server delete its session. Raises ServerFailed."""
        await self._call(port, "/disconnect")

    async def pairing_code(self, port: Port, phone: str) -> PairingCode:
        """Return a code to type on the phone of that number, digits only; the same again while it is valid.

        Raises BadRequest, AlreadyLinked, StartTimeout where none came in time, ServerFailed with the cause.
        """
        answer = await self._call(port, "/pairing-code", body={"phone": phone}, limit=_PAIRING_TIMEOUT_S)
        try:
            code = read_pairing(json.loads(answer))
        except (ValueError, RecursionError, AttributeError):
            code = None
        if code is None:
            raise ServerFailed(
                f"the server on port {port} answered without a pairing code",
                cause="bad_answer",
                hint="scan the QR code instead, or restart the user",
            )
        return code

    async def end_pairing(self, port: Port) -> None:
        """Let the server show codes to scan again, unless a phone has answered. Raises ServerFailed."""
        await self._call(port, "/pairing-code", "DELETE")

    async def give_passkey(self, port: Port, credential: bytes) -> Passkey:
        """Submit what a passkey has signed, the browser's unchanged JSON; return the next request.

        Raises Refused where it is not valid, or not asked for; ServerFailed.
        """
        return _accepted(await self._call(port, "/passkey", body=credential))

    async def confirm_passkey(self, port: Port, code: str) -> Passkey:
        """Confirm that the phone shows that code, too; return the next request. Raises as `give_passkey`."""
        return _accepted(await self._call(port, "/passkey/confirm", body={"code": code}))

    async def cancel_passkey(self, port: Port) -> None:
        """Let the server show codes to scan again in place of a passkey request. Raises as `give_passkey`."""
        await self._call(port, "/passkey", "DELETE")

    async def _call(
        self,
        port: Port,
        path: str,
        method: str = "POST",
        body: dict[str, str] | bytes | None = None,
        limit: float | None = None,
        *,
        again: bool = False,
    ) -> bytes:
        limit = limit or CALL_TIMEOUT_S
        url = f"http://127.0.0.1:{port}{path}"
        timeout = aiohttp.ClientTimeout(total=limit)
        sent: dict[str, Any] = {"json": body}
        if isinstance(body, bytes):
            sent = {"data": body, "headers": {"Content-Type": "application/json"}}
        try:
            # A redirect could lead anywhere, even to another user's server.
            async with self._http.request(
                method, url, timeout=timeout, allow_redirects=False, **sent
            ) as answer:
                said = await start_of(answer.content)
                if answer.status < 300:  # noqa: PLR2004
                    return said
                raise refused(port, answer.status, said)
        except TimeoutError as error:
            raise not_answering(port, f"no answer within {limit:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            if not again:
                raise not_answering(port, why(error)) from error
        return await self._call(port, path, method, body, limit)


_REFUSALS: dict[tuple[int, str | None], type[WaportdError]] = {
    (400, "bad_phone"): BadRequest,
    (409, "already_linked"): AlreadyLinked,
    (504, "pairing_timeout"): StartTimeout,
}
"""The errors for refusals that are not the server's own failure, by status and code."""


PASSKEY_REFUSALS = {
    400: (
        "passkey_malformed",
        "passkey_not_allowed",
        "passkey_not_verified",
        "passkey_wrong_challenge",
        "passkey_wrong_origin",
        "passkey_wrong_site",
        "passkey_wrong_type",
    ),
    409: ("no_passkey_code", "no_passkey_request", "passkey_code_changed", "passkey_given"),
}
"""Why a server refuses an answer about a passkey: its codes, by status."""


def _accepted(answer: bytes) -> Passkey:
    try:
        wanted = read_passkey(json.loads(answer))
    except (ValueError, RecursionError):
        wanted = None
    return wanted or Passkey(PasskeyStage.GIVEN)


async def start_of(body: aiohttp.StreamReader) -> bytes:
    """Return the beginning of an answer, at most 64 KiB."""
    content = b""
    async for chunk in body.iter_any():
        content += chunk
        if len(content) > _MAX_ANSWER_BYTES:
            break
    return content[:_MAX_ANSWER_BYTES]


def refused(port: Port, status: int, body: bytes) -> WaportdError:
    """Return the error of a call that a server refused, with the server's own reason where that makes sense."""
    try:
        answer = json.loads(body)
        said = {name: read_text(answer, name) for name in ("error", "code", "cause", "hint")}
    except (ValueError, RecursionError, AttributeError):
        said = {}
    code, reason = said.get("code"), said.get("error")
    if code is not None and code in PASSKEY_REFUSALS.get(status, ()):
        return Refused(reason or "the server refused", status, code, hint=said.get("hint"))
    return _REFUSALS.get((status, code), ServerFailed)(
        f"the server on port {port} refused: {reason or f'HTTP status {status}'}",
        cause=said.get("cause") or code,
        hint=said.get("hint"),
    )


def why(error: Exception) -> str:
    """Say in plain words why a call broke off. The library's own words are about its internals."""
    if isinstance(error, OSError) and error.errno:
        # Its own text comes from asyncio, with the address.
        return os.strerror(error.errno)
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return "the server ended in the middle of it"
    return "the answer is not HTTP"


def not_answering(port: Port, reason: str) -> ServerFailed:
    """Return the error of a server that did not answer a call."""
    return ServerFailed(
        f"the server on port {port} does not answer: {reason}",
        cause=NOT_ANSWERING,
        hint="systemd restarts a hung server automatically within a minute; retry then",
    )
