"""Every error leaves as an RFC 9457 problem document, with a code for programs and a hint for people."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from waportd.errors import BadRequest, MethodNotAllowed, NotFound, TooLarge, WaportdError

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def problem(error: WaportdError) -> web.Response:
    """Turn an error into a response."""
    return web.Response(
        text=json.dumps(error.as_problem()),
        status=error.status,
        headers={"Cache-Control": "no-store", **error.headers()},
        content_type="application/problem+json",
    )


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every exception of a handler with a problem document."""
    try:
        return await handler(request)
    except WaportdError as error:
        return problem(error)
    except web.HTTPException as error:
        return problem(_from_aiohttp(error, request))
    except web.RequestPayloadError:
        return problem(BadRequest("the body does not arrive as the headers announce it"))
    except asyncio.CancelledError:
        raise
    except Exception:
        # The text of an unforeseen error may hold anything, so it goes to the journal and not to the caller.
        log.exception("Cannot answer %s %s", request.method, request.path)
        return problem(
            WaportdError("an unexpected error", hint="the daemon's journal has it: `journalctl -u waportd`")
        )


def _from_aiohttp(error: web.HTTPException, request: web.Request) -> WaportdError:
    if isinstance(error, web.HTTPNotFound):
        return NotFound(f"there is nothing at {request.path}", hint="see the README for the calls there are")
    if isinstance(error, web.HTTPMethodNotAllowed):
        return MethodNotAllowed(f"{request.path} knows no {request.method}", allowed=error.allowed_methods)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLarge(f"the body is larger than {request.app['max_body']} bytes")
    return BadRequest(error.reason)
