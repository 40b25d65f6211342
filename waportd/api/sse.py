"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), to whoever reads them."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from waportd.api.access import access_of, caller_of
from waportd.api.json_schema import members

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
"""Seconds of silence after which a comment is sent: proxies cut silent connections, and clients notice dead ones."""
HEARTBEAT_FRAME = b":\n\n"
_RETRY = b"retry: 2000\n\n"
STALLED_READER_S = 30.0
"""Seconds for which a reader may read nothing of what there is to read."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=members)

Send = Callable[[bytes], Awaitable[None]]
"""Sends whole frames; returns when the reader is ready for more, which bounds what is kept for it."""


def frame(event: str, data: object, identifier: str | None = None) -> bytes:
    """Write one event, whose data is a document."""
    text = _ENCODER.encode(data)
    head = "" if identifier is None else f"id: {identifier}\n"
    return f"{head}event: {event}\ndata: {text}\n\n".encode()


async def stream(request: web.Request, tell: Callable[[Send], Awaitable[None]]) -> web.StreamResponse:
    """Answer with the events that ``tell`` sends, until it returns or the reader is gone or reads nothing."""
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # nginx would keep events back until it has a page of them
        }
    )
    # Its end is the end of the connection: who waits for the daemon's last connections waits for no idle one.
    response.force_close()
    writer = await response.prepare(request)
    transport = request.transport
    if writer is None or transport is None:
        return response
    # What the kernel does not take at once is waited for, not piled up.
    transport.set_write_buffer_limits(high=0)

    access, caller = access_of(request), caller_of(request)

    async def send(frames: bytes) -> None:
        if not access.still_admits(caller):
            # Off the list, the token deleted, the link ended: a stream that stays open would outlive it.
            raise ConnectionAbortedError
        try:
            async with asyncio.timeout(STALLED_READER_S):
                await writer.write(frames)
                await writer.drain()
        except TimeoutError:
            log.info("dropped a reader of %s, who read nothing for %g s", request.path, STALLED_READER_S)
            transport.abort()
            raise ConnectionAbortedError from None

    try:
        await send(_RETRY)
        await tell(send)
    except ConnectionError:
        # It left, as readers do.
        pass
    return response
