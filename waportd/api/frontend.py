"""``/api/…``: the shapes that the web front end has always read, so that its routes can pass them through."""

import functools
from typing import Any

from aiohttp import web

from waportd.api.problems import Handler
from waportd.api.representation import qr, respond, url
from waportd.api.requests import supervisor_of, user_in_query
from waportd.api.warm import mark_lasting
from waportd.errors import BadRequest, WaportdError
from waportd.model import ProcessState, SessionState
from waportd.picture import Instance

_RESTARTS_IN_A_ROW = 5
"""StartLimitBurst= of the unit: what the front end shows as the most attempts."""

_UNDER_WAY = {
    SessionState.GENERATING,
    SessionState.PAIRING,
    SessionState.AUTHENTICATED,
    SessionState.DISCONNECTED,
    "starting",
    "stopping",
}


def routes() -> list[web.RouteDef]:
    """Return the routes of this resource."""
    return [
        web.get("/api/qr", _errors_in_shape(show_qr)),
        web.get("/api/port", _errors_in_shape(show_port)),
        web.get("/api/whatsapp-status", _errors_in_shape(show_status)),
    ]


async def show_qr(request: web.Request) -> web.Response:
    """Show what the page polls every few seconds; the status is 200 whatever state the session is in."""
    instance = await supervisor_of(request).ask(user_in_query(request))
    mark_lasting(request, instance)
    document = qr(instance)
    status = _status(document["status"])
    failed = status == "error"
    return respond(
        {
            "success": not failed,
            "status": status,
            "ready": status == "connected",
            "qr": document["qr"],
            "hasQr": document["qr"] is not None,
            "message": document["message"],
            "error": document["message"] if failed else None,
            "hint": document["hint"],
            "cause": document["cause"],
            "expires_at": document["expires_at"],
            "port": document["port"],
            "user_id": document["user"],
        }
    )


async def show_port(request: web.Request) -> web.Response:
    """Show the user's port, assigning one where there is none; its server starts with the first request to it.

    Except for a user who was stopped: whom a poll does not start, a look at the port does not either.
    """
    instance = await supervisor_of(request).open_port(user_in_query(request))
    assignment = instance.assignment
    return respond(
        {
            "success": True,
            "user_id": assignment.user,
            "port": assignment.port,
            "url": url(instance),
            "message": assignment.note,
        }
    )


async def show_status(request: web.Request) -> web.Response:
    """Show what the user's own server answers to ``/status``, from memory; never starts it."""
    user = user_in_query(request)
    instance = supervisor_of(request).picture.get(user)
    return respond({"success": True, "user_id": user, **_session_status(instance)})


def _status(state: str) -> str:
    """Map a session's or a process' state to one of the four words the page knows."""
    if state == SessionState.READY:
        return "connected"
    if state == SessionState.QR:
        return "waiting"
    return "generating" if state in _UNDER_WAY else "error"


def _session_status(instance: Instance | None) -> dict[str, Any]:
    session = instance.session if instance and instance.answering else None
    state = session.state if session else None
    ready = state is SessionState.READY
    info = None
    if session and ready:
        info = {
            "wid": f"{session.phone_number}@c.us" if session.phone_number else None,
            "pushname": session.pushname,
            "platform": session.platform,
        }
    return {
        "ready": ready,
        "hasQr": state is SessionState.QR,
        "actuallyConnected": ready,
        "clientInitialized": bool(session and session.browser_running),
        "isAuthenticated": state in {SessionState.AUTHENTICATED, SessionState.READY},
        "isConnecting": state in {SessionState.GENERATING, SessionState.PAIRING, SessionState.AUTHENTICATED},
        "phone_number": session.phone_number if session else None,
        "clientInfo": info,
        "reconnectInfo": {
            "attempts": instance.process.restarts if instance else 0,
            "maxAttempts": _RESTARTS_IN_A_ROW,
            "isReconnecting": bool(
                instance and instance.process.restarts and instance.process.state is ProcessState.STARTING
            ),
        },
        "port": instance.assignment.port if instance else None,
    }


def _errors_in_shape(handler: Handler) -> Handler:
    """Answer errors in the shape of the page: its code reads ``error`` and ``hint``, not problem documents."""

    @functools.wraps(handler)
    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except WaportdError as error:
            document = {
                "success": False,
                "status": "error",
                "ready": False,
                "qr": None,
                "hasQr": False,
                "message": error.message,
                "error": error.message,
                "hint": error.hint,
                "cause": error.cause,
                "code": error.code,
                "port": None,
            }
            headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
            # A status other than 200 becomes an error page there, so only a request that is wrong gets one.
            return respond(document, error.status if isinstance(error, BadRequest) else 200, **headers)

    return guarded
