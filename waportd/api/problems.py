"""Every error leaves as an RFC 9457 problem document, with a code for programs and a hint for people.

`answer_to` is the one way from an exception to an answer.
"""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from aiohttp import web

from waportd.api.json_schema import MISSING, Document, Missing, members
from waportd.contract import CONTRACT
from waportd.errors import BadRequest, MethodNotAllowed, NotFound, TooLarge, WaportdError

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


SERVERS_CODES: Final = frozenset(
    {
        *CONTRACT["causes"]["session"],
        *CONTRACT["causes"]["answer"],
        *("bad_cursor", "bad_id", "bad_media", "bad_number", "bad_request", "busy", "cursor_gone"),
        *("key_reused", "media_gone", "media_not_fetched", "media_refused", "no_media", "no_picture"),
        *("no_such_chat", "no_such_contact", "no_such_group", "no_such_message", "not_admin"),
        *("not_found", "not_kept", "not_linked", "not_on_whatsapp", "rate_limited", "refused"),
        *("server_failed", "timeout", "too_large", "too_many_requests"),
    }
)
"""The codes with which a user's server refuses a call that goes through to it (`server/*.js`, `relay`)."""


FLEET_CODES: Final = frozenset(
    {"engine_conflict", "engine_unavailable", "epoch_unsettled", "leaving", "login_coming", "no_lease"}
)
"""The codes with which a host refuses that belongs to a fleet (`waportd.fleet`, which a host on its own has not loaded)."""


class ProblemDocument(Document):
    """RFC 9457."""

    type: Annotated[str, "`urn:waportd:error:` and the code."]
    title: Annotated[str, "The kind of error, in words."]
    status: Annotated[int, "The HTTP status."]
    detail: Annotated[str, "What went wrong."]
    code: Annotated[
        str,
        "The kind of error, for programs. These are all that there are now. Later versions have more: treat a code that "
        "you do not know like `internal_error`, by the HTTP status.",
    ]
    hint: Annotated[str | None, "How to fix it."]
    cause: Annotated[str | Missing, "What exactly made a server fail, for programs."] = MISSING


def problem(error: WaportdError) -> web.Response:
    """Return an error as a problem document."""
    document = ProblemDocument(
        type=f"urn:waportd:error:{error.code}",
        title=error.title,
        status=error.status,
        detail=error.message,
        code=error.code,
        hint=error.hint,
        cause=MISSING if error.cause is None else error.cause,
    )
    return web.Response(
        # In ASCII: an error may repeat what was sent, such as a lone surrogate.
        text=json.dumps(document, default=members),
        status=error.status,
        headers={"Cache-Control": "no-store", **error.headers()},
        content_type="application/problem+json",
    )


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every exception of a handler with a problem document."""
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001  # reported by `answer_to`
        return answer_to(error, request)


def answer_to(
    error: Exception,
    request: web.Request,
    shape: Callable[[WaportdError], web.Response] = problem,
) -> web.Response:
    """Return the answer to a request that ended with an exception, as the caller may see it."""
    return shape(request.app["access"].for_caller(request, _explained(error, request)))


def _explained(error: Exception, request: web.Request) -> WaportdError:
    """Return the error that the caller gets; an unexpected one is written to the journal."""
    if isinstance(error, WaportdError):
        return error
    if isinstance(error, web.HTTPException):
        return _from_aiohttp(error, request)
    if isinstance(error, web.RequestPayloadError):
        return BadRequest("the body does not arrive as the headers announce it")
    if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
        return BadRequest("the caller left before the answer")  # as callers do, and nobody reads it
    # The text of an unexpected error may hold anything, so it goes to the journal and not to the caller.
    log.error("Cannot answer %s %s", request.method, request.path, exc_info=error)
    return WaportdError("an unexpected error", hint="the daemon's journal has it: `journalctl -u waportd`")


def _from_aiohttp(error: web.HTTPException, request: web.Request) -> WaportdError:
    if isinstance(error, web.HTTPNotFound):
        return NotFound(
            f"there is nothing at {request.path}",
            hint="/openapi.json lists all calls, /docs shows them to people",
        )
    if isinstance(error, web.HTTPMethodNotAllowed):
        return MethodNotAllowed(f"{request.path} knows no {request.method}", allowed=error.allowed_methods)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLarge(f"the body is larger than {request.app['max_body']} bytes")
    return BadRequest(error.reason)
