"""Bodies and answers that go through this process, piece by piece: nothing of them is kept or logged."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, Final, TypeVar

import aiohttp
from aiohttp import hdrs, web

from waportd.api.access import access_of, caller_of
from waportd.api.connections import TiedHandler, Turns
from waportd.errors import BadRequest, TooSlow
from waportd.quotas import PIECE_S, PIECES_PER_TURN, READ_BYTES

_T = TypeVar("_T")

EVENTS: Final = "text/event-stream"
FOREVER_S: Final = 1e9
LOOK_AFTER_S: Final = 15.0
"""Seconds after which a silent stream is checked: whether its reader is there and may still read it."""
_SILENCE_S: Final = 40.0
"""Seconds of silence after which the other end counts as dead; in a stream it sends a comment every 15 s."""


def tied(request: web.BaseRequest) -> contextlib.AbstractContextManager[None]:
    """Cancel the call when the caller leaves: nobody must work for nothing."""
    connection = request.protocol
    return connection.tied() if isinstance(connection, TiedHandler) else contextlib.nullcontext()


async def pieces(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the caller's body as it comes. Raises TooSlow, and what `admit` raises once they may not call any more."""
    access = access_of(request)
    piece = b""
    while True:
        await _turn(request, piece)
        piece = await next_piece(request)
        # Also at the end: an incomplete body is not sent.
        access.confirm(request)
        if not piece:
            return
        yield piece


async def next_piece(request: web.BaseRequest) -> bytes:
    """Return the next piece of the caller's body, nothing at its end. Raises TooSlow and BadRequest."""
    try:
        async with asyncio.timeout(PIECE_S):
            return await request.content.readany()
    except TimeoutError:
        raise TooSlow(f"nothing of the body arrived for {PIECE_S:g} s", hint="send it in one go") from None
    except (ConnectionError, web.RequestPayloadError):
        raise BadRequest("the caller left before the body was there") from None


async def unless(gone: asyncio.Task[Any], work: Awaitable[_T], patience: float | None = None) -> _T | None:
    """Return the result of the work; None where ``gone`` is done before, and TimeoutError after ``patience``."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task, gone}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if done:
            return None
        raise TimeoutError
    finally:
        # Nothing uses its result now.
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def send_back(
    request: web.Request, answer: aiohttp.ClientResponse, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Answer with the status and the body of another answer, under these headers."""
    response = web.StreamResponse(status=answer.status, headers=headers)
    access, caller = access_of(request), caller_of(request)
    access.confirm(request)
    await response.prepare(request)
    try:
        piece = b""
        while True:
            await _turn(request, piece)
            async with asyncio.timeout(_SILENCE_S):
                piece = await answer.content.readany()
            if not piece:
                break
            if not access.still_admits(caller):
                raise ConnectionAbortedError
            await response.write(piece)
    except (aiohttp.ClientError, OSError):
        # Half of it is sent: the end of the connection shows that the rest is missing.
        _hang_up(request)
        return response
    await response.write_eof()
    return response


async def stream_back(
    request: web.Request, answer: aiohttp.ClientResponse, gone: asyncio.Task[Any]
) -> web.StreamResponse:
    """Answer with the events of another answer, until ``gone`` is done, and while the caller may read them."""
    access, caller = access_of(request), caller_of(request)
    access.confirm(request)
    response = web.StreamResponse(
        headers={hdrs.CONTENT_TYPE: EVENTS, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    # Its end closes the connection: the daemon, when it ends, does not wait for an idle one.
    response.force_close()
    await response.prepare(request)
    loop = asyncio.get_running_loop()
    heard = loop.time()
    with contextlib.suppress(aiohttp.ClientError, OSError):
        while loop.time() < heard + _SILENCE_S and access.still_admits(caller):
            try:
                piece = await unless(gone, answer.content.readany(), LOOK_AFTER_S)
            except TimeoutError:
                continue
            if not piece:
                break
            heard = loop.time()
            if not access.still_admits(caller):
                break
            await response.write(piece)
            await _turn(request, piece)
    return response


async def _turn(request: web.Request, piece: bytes) -> None:
    """Wait, after a large piece, until the caller's next one may be passed on: else they would take all the time."""
    if len(piece) >= READ_BYTES:
        turns: Turns = request.app["turns"]
        await turns.wait(caller_of(request).identity, PIECES_PER_TURN)


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
