"""``/api/…``: the shapes that the web front end has always read, so that its routes can pass them through."""

from typing import Annotated, Literal

from aiohttp import web

from waportd.api.access import access_of
from waportd.api.documents import qr, respond, url
from waportd.api.json_schema import Document, Moment, of
from waportd.api.operations import READERS, Answer, Operation, Scope
from waportd.api.parameters import USER_ID, supervisor_of
from waportd.api.problems import Handler
from waportd.api.response_cache import mark_lasting
from waportd.errors import BadRequest, Conflict, Forbidden, TooManyRequests, Unauthorized, WaportdError
from waportd.model import ProcessState, SessionState, User
from waportd.registry import Instance

_RESTARTS_IN_A_ROW = 5
"""What the front end shows as the most attempts. There is no such limit."""

_WRONG = (BadRequest, Unauthorized, Forbidden, TooManyRequests)
"""Errors that callers have to fix."""

_UNDER_WAY = {
    SessionState.GENERATING,
    SessionState.PAIRING,
    SessionState.AUTHENTICATED,
    SessionState.DISCONNECTED,
    "starting",
    "stopping",
}


class PageError(Document):
    """What went wrong."""

    success: bool
    status: Literal["error"]
    ready: bool
    qr: None
    hasQr: bool
    message: Annotated[str, "What went wrong."]
    error: Annotated[str, "The same."]
    hint: Annotated[str | None, "How to fix it."]
    cause: Annotated[str | None, "What exactly went wrong, for programs."]
    code: Annotated[str, "The kind of error, for programs."]
    port: None


class PageQr(Document):
    """What the page shows. Holds a secret."""

    success: Annotated[bool, "False in status `error`."]
    status: Literal["connected", "waiting", "generating", "error"]
    ready: Annotated[bool, "A phone is linked and messages can be sent."]
    qr: Annotated[str | None, "The code to draw. A secret: anyone who scans it can link their phone."]
    hasQr: Annotated[bool, "There is a code."]
    message: Annotated[str, "The state, in words."]
    error: Annotated[str | None, "What is wrong, in status `error`."]
    hint: Annotated[str | None, "How to fix it."]
    cause: Annotated[str | None, "What exactly is wrong, for programs."]
    expires_at: Annotated[Moment | None, "Until when the code can be scanned."]
    port: Annotated[int, "The port of the server."]
    user_id: Annotated[str, "Whose server it is."]


class PagePort(Document):
    """The user's port."""

    success: bool
    user_id: Annotated[str, "Whose server it is."]
    port: Annotated[int, "The port of the server."]
    url: Annotated[str, "The address of the server."]
    message: Annotated[str | None, "Why the user did not get the preferred port."]


class ClientInfo(Document):
    """The linked phone."""

    wid: Annotated[str | None, "The linked phone, as WhatsApp names it."]
    pushname: Annotated[str | None, "The name of its owner on WhatsApp."]
    platform: Annotated[str | None, "The platform of the phone."]


class ReconnectInfo(Document):
    """How often the server was restarted."""

    attempts: Annotated[int, "How often systemd restarted the server automatically."]
    maxAttempts: Annotated[int, "How often it does so in a row at most."]
    isReconnecting: Annotated[bool, "It is restarting now."]


class PageStatus(Document):
    """The user's session."""

    success: bool
    user_id: Annotated[str, "Whose server it is."]
    ready: Annotated[bool, "Messages can be sent."]
    hasQr: Annotated[bool, "There is a code to scan."]
    actuallyConnected: Annotated[bool, "The same as `ready`."]
    clientInitialized: Annotated[bool, "The server's browser runs."]
    isAuthenticated: Annotated[bool, "A phone is linked."]
    isConnecting: Annotated[bool, "It is on its way."]
    phone_number: Annotated[str | None, "The linked phone."]
    clientInfo: ClientInfo | None
    reconnectInfo: ReconnectInfo
    port: Annotated[int | None, "The port of the server."]


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    return [
        _operation("/api/qr", show_qr, "what the page draws", PageQr, creates=True),
        _operation("/api/port", show_port, "the port", PagePort, creates=True),
        _operation("/api/whatsapp-status", show_status, "the session", PageStatus, READERS),
    ]


def _operation(
    path: str,
    handler: Handler,
    description: str,
    document: type,
    also: frozenset[Scope] = frozenset(),
    *,
    creates: bool = False,
) -> Operation:
    """Describe a call whose errors have the shape that the page reads: ``error`` and ``hint``."""
    error = of(PageError)
    return Operation(
        "GET",
        path,
        handler,
        Scope.USER,
        {
            200: Answer(description, {"anyOf": [of(document), error]}),
            **{wrong.status: Answer(wrong.title, error) for wrong in _WRONG},
        },
        (USER_ID,),
        also=also,
        lenient=True,
        creates=creates,
        on_error=_error_in_shape,
    )


async def show_qr(request: web.Request) -> web.Response:
    """Show what the page polls every few seconds.

    The HTTP status is 200 whatever state the session is in.
    """
    instance = await supervisor_of(request).poll(
        USER_ID.of(request), lambda: access_of(request).begin_change(request)
    )
    mark_lasting(request, instance)
    document = qr(instance)
    status = _status(document.status)
    failed = status == "error"
    return respond(
        PageQr(
            success=not failed,
            status=status,
            ready=status == "connected",
            qr=document.qr,
            hasQr=document.qr is not None,
            message=document.message,
            error=document.message if failed else None,
            hint=document.hint,
            cause=document.cause,
            expires_at=document.expires_at,
            port=document.port,
            user_id=document.user,
        )
    )


async def show_port(request: web.Request) -> web.Response:
    """Show the user's port; assign one where there is none.

    The server starts with the first request to that port, except for a user who was stopped: like a poll, this call
    does not start such a user. Then the answer is an error and no address: the port is free, and another program
    may listen there.
    """
    instance = await supervisor_of(request).open_port(
        USER_ID.of(request), lambda: access_of(request).begin_change(request)
    )
    assignment, address = instance.assignment, url(instance)
    if address is None:
        stopped = instance.process.state is ProcessState.STOPPED
        raise Conflict(
            f"port {assignment.port} is not held for user {assignment.user}: {instance.process.message}",
            hint=instance.process.hint or "start the user, then ask again",
            cause=instance.process.cause or ("stopped" if stopped else "not_held"),
        )
    return respond(
        PagePort(
            success=True,
            user_id=assignment.user,
            port=assignment.port,
            url=address,
            message=assignment.note,
        )
    )


async def show_status(request: web.Request) -> web.Response:
    """Show what the user's own server answers to ``/status``.

    It comes from memory, and never starts the server.
    """
    user = USER_ID.of(request)
    return respond(_page_status(user, supervisor_of(request).registry.get(user)))


def _status(state: str) -> Literal["connected", "waiting", "generating", "error"]:
    """Map a session's or a process' state to one of the four words the page knows."""
    if state == SessionState.READY:
        return "connected"
    if state == SessionState.QR:
        return "waiting"
    return "generating" if state in _UNDER_WAY else "error"


def _page_status(user: User, instance: Instance | None) -> PageStatus:
    session = instance.session if instance and instance.answering else None
    state = session.state if session else None
    ready = state is SessionState.READY
    info = None
    if session and ready:
        info = ClientInfo(
            wid=f"{session.phone_number}@c.us" if session.phone_number else None,
            pushname=session.pushname,
            platform=session.platform,
        )
    return PageStatus(
        success=True,
        user_id=user,
        ready=ready,
        hasQr=state is SessionState.QR,
        actuallyConnected=ready,
        clientInitialized=bool(session and session.browser_running),
        isAuthenticated=state in {SessionState.AUTHENTICATED, SessionState.READY},
        isConnecting=state in {SessionState.GENERATING, SessionState.PAIRING, SessionState.AUTHENTICATED},
        phone_number=session.phone_number if session else None,
        clientInfo=info,
        reconnectInfo=ReconnectInfo(
            attempts=instance.process.restarts if instance else 0,
            maxAttempts=_RESTARTS_IN_A_ROW,
            isReconnecting=bool(
                instance and instance.process.restarts and instance.process.state is ProcessState.STARTING
            ),
        ),
        port=instance.assignment.port if instance else None,
    )


def _error_in_shape(error: WaportdError) -> web.Response:
    document = PageError(
        success=False,
        status="error",
        ready=False,
        qr=None,
        hasQr=False,
        message=error.message,
        error=error.message,
        hint=error.hint,
        cause=error.cause,
        code=error.code,
        port=None,
    )
    # The front end turns other statuses than 200 into an error page, so only invalid requests get one.
    return respond(document, error.status if isinstance(error, _WRONG) else 200, **error.headers())
