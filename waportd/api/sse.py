"""Sends server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

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
"""Seconds for which a reader may leave data unread."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=members)

Send = Callable[[bytes], Awaitable[None]]
"""Sends whole frames; returns when the reader is ready for more, which limits what is kept for it."""


def text_of(document: object) -> str:
    """Write a document as the data of an event: on one line."""
    return _ENCODER.encode(document)


def frame(event: str, data: object, identifier: str | None = None) -> bytes:
    """Write one event, whose data is a document."""
    return written(event, text_of(data), identifier)


def written(event: str, text: str, identifier: str | None = None) -> bytes:
    """Write one event, whose data is written already."""
    head = "" if identifier is None else f"id: {identifier}\n"
    return f"{head}event: {event}\ndata: {text}\n\n".encode()


async def stream(request: web.Request, produce: Callable[[Send], Awaitable[None]]) -> web.StreamResponse:
    """Answer with the events that ``produce`` sends, until it returns or the reader is gone or reads nothing."""
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # nginx would hold events back until it has a full buffer
        }
    )
    # Its end closes the connection: the daemon, when it ends, does not wait for an idle one.
    response.force_close()
    writer = await response.prepare(request)
    transport = request.transport
    if writer is None or transport is None:
        return response
    # Data that the kernel does not take at once is waited for, not piled up. Not 0: where nothing at all is left, the TLS
    # of asyncio reaches that, too, and waits for more.
    transport.set_write_buffer_limits(high=1)

    access, caller = access_of(request), caller_of(request)

    async def send(frames: bytes) -> None:
        if not access.still_admits(caller):
            # The caller left the list, or its token or link ended: the stream must not outlive that.
            raise ConnectionAbortedError
        try:
            async with asyncio.timeout(STALLED_READER_S):
                await writer.write(frames)
                await writer.drain()
        except TimeoutError:
            log.info("dropped a reader of %s that read nothing for %g s", request.path, STALLED_READER_S)
            transport.abort()
            raise ConnectionAbortedError from None

    try:
        await send(_RETRY)
        await produce(send)
    except ConnectionError:
        # It left, as readers do.
        pass
    return response
