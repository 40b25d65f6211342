"""HTTP that goes through this process piece by piece: a request that is passed on, and its answer that is passed back.

Nothing of it is kept, read or logged.
"""

from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict, MultiMapping

from waportd.api.passing import next_piece

_OF_THE_HOP: Final = frozenset(
    {
        *("connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"),
        "upgrade",
    }
)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def headers_of(headers: MultiMapping[str]) -> CIMultiDict[str]:
    """Return the headers that are about the message, and not about the connection (RFC 9110, section 7.6.1)."""
    named = {word.strip().lower() for line in headers.getall(hdrs.CONNECTION, ()) for word in line.split(",")}
    kept = ((name, value) for name, value in headers.items() if name.lower() not in _OF_THE_HOP | named)
    return CIMultiDict(kept)


def body_of(request: web.BaseRequest) -> AsyncIterator[bytes] | None:
    """Return the body of a request as it comes; None where it has none. It raises TooSlow and BadRequest."""
    return _pieces(request) if request.body_exists else None


async def _pieces(request: web.BaseRequest) -> AsyncIterator[bytes]:
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(_CONTINUE)
    while piece := await next_piece(request):
        yield piece


async def pass_back(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    """Answer a request with another answer, as it comes.

    Where that one breaks off, the connection does, too: its end shows that the rest is missing.
    """
    response = web.StreamResponse(
        status=answer.status, reason=answer.reason, headers=headers_of(answer.headers)
    )
    await response.prepare(request)
    try:
        async for piece in answer.content.iter_any():
            await response.write(piece)
    except (aiohttp.ClientError, OSError):
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response
