"""``/api/…``: the shapes that the web front end has always read, so that its routes can pass them through."""

from typing import Any

from aiohttp import web

from waportd.api.operations import READERS, Answer, Operation, Scope
from waportd.api.problems import Handler
from waportd.api.representation import qr, respond, url
from waportd.api.requests import USER_ID, supervisor_of
from waportd.api.schemas import flag, integer, moment, nullable, record, text, words
from waportd.api.warm import mark_lasting
from waportd.errors import BadRequest, Conflict, Forbidden, TooManyRequests, Unauthorized, WaportdError
from waportd.kinds import Schema
from waportd.model import ProcessState, SessionState
from waportd.picture import Instance

_RESTARTS_IN_A_ROW = 5
"""What the front end shows as the most attempts. There is no such limit."""

_WRONG = (BadRequest, Unauthorized, Forbidden, TooManyRequests)
"""What callers have to mend."""

_UNDER_WAY = {
    SessionState.GENERATING,
    SessionState.PAIRING,
    SessionState.AUTHENTICATED,
    SessionState.DISCONNECTED,
    "starting",
    "stopping",
}


_ID = text("Whose server it is.")
_PAGE_ERROR = record(
    "PageError",
    success=flag(),
    status=words("error"),
    ready=flag(),
    qr={"type": "null"},
    hasQr=flag(),
    message=text("What went wrong."),
    error=text("The same."),
    hint=nullable(text("What mends it.")),
    cause=nullable(text("What exactly went wrong, for programs.")),
    code=text("The kind of error, for programs."),
    port={"type": "null"},
)
_PAGE_QR = record(
    "PageQr",
    success=flag("False in status `error`."),
    status=words("connected", "waiting", "generating", "error"),
    ready=flag("A phone is linked and messages can be sent."),
    qr=nullable(text("The code to draw. A secret: whoever scans it links a phone of theirs.")),
    hasQr=flag("There is a code."),
    message=text("The state, in words."),
    error=nullable(text("What is wrong, in status `error`.")),
    hint=nullable(text("What mends it.")),
    cause=nullable(text("What exactly is wrong, for programs.")),
    expires_at=nullable(moment("Until when the code can be scanned.")),
    port=integer("The port of the server."),
    user_id=_ID,
)
_PAGE_PORT = record(
    "PagePort",
    success=flag(),
    user_id=_ID,
    port=integer("The port of the server."),
    url=text("The address of the server."),
    message=nullable(text("Why the user did not get the port that would have been preferred.")),
)
_PAGE_STATUS = record(
    "PageStatus",
    success=flag(),
    user_id=_ID,
    ready=flag("Messages can be sent."),
    hasQr=flag("There is a code to scan."),
    actuallyConnected=flag("The same as `ready`."),
    clientInitialized=flag("The server's browser runs."),
    isAuthenticated=flag("A phone is linked."),
    isConnecting=flag("It is on its way."),
    phone_number=nullable(text("The linked phone.")),
    clientInfo=nullable(
        record(
            "ClientInfo",
            wid=nullable(text("The linked phone, as WhatsApp names it.")),
            pushname=nullable(text("What its owner is called there.")),
            platform=nullable(text("What the phone runs.")),
        )
    ),
    reconnectInfo=record(
        "ReconnectInfo",
        attempts=integer("How often systemd restarted the server by itself."),
        maxAttempts=integer("How often it does so in a row."),
        isReconnecting=flag("It does so now."),
    ),
    port=nullable(integer("The port of the server.")),
)


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    return [
        _operation("/api/qr", show_qr, "what the page draws", _PAGE_QR),
        _operation("/api/port", show_port, "the port", _PAGE_PORT),
        _operation("/api/whatsapp-status", show_status, "the session", _PAGE_STATUS, READERS),
    ]


def _operation(
    path: str, handler: Handler, description: str, schema: Schema, also: frozenset[Scope] = frozenset()
) -> Operation:
    """Describe a call whose errors have the shape of the page: its code reads ``error`` and ``hint``."""
    return Operation(
        "GET",
        path,
        handler,
        Scope.USER,
        {
            200: Answer(description, {"anyOf": [schema, _PAGE_ERROR]}),
            **{error.status: Answer(error.title, _PAGE_ERROR) for error in _WRONG},
        },
        (USER_ID,),
        also=also,
        lenient=True,
        on_error=_error_in_shape,
    )


async def show_qr(request: web.Request) -> web.Response:
    """Show what the page polls every few seconds.

    The HTTP status is 200 whatever state the session is in.
    """
    instance = await supervisor_of(request).ask(USER_ID.of(request))
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
    """Show the user's port, assigning one where there is none.

    The server starts with the first request to that port, except for a user who was stopped: whom a poll does
    not start, a look at the port does not either. There is no address then, but an error: the port is free, and
    whoever listens there is somebody else.
    """
    instance = await supervisor_of(request).open_port(USER_ID.of(request))
    assignment = instance.assignment
    if not instance.held:
        stopped = instance.process.state is ProcessState.STOPPED
        raise Conflict(
            f"port {assignment.port} is not held for user {assignment.user}: {instance.process.message}",
            hint=instance.process.hint or "start the user, then ask again",
            cause=instance.process.cause or ("stopped" if stopped else "not_held"),
        )
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
    """Show what the user's own server answers to ``/status``.

    It comes from memory, and never starts the server.
    """
    user = USER_ID.of(request)
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


def _error_in_shape(error: WaportdError) -> web.Response:
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
    # A status other than 200 becomes an error page there, so only a request that is wrong gets one.
    return respond(document, error.status if isinstance(error, _WRONG) else 200, **error.headers())
