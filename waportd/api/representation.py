"""How things look in JSON. Names here are a promise: members are added, never renamed or removed."""

import datetime as dt
import json
import time
from typing import Any

from aiohttp import web

from waportd.model import ProcessState, SessionState, Usage, service_unit
from waportd.picture import Instance


def respond(document: dict[str, Any], status: int = 200, **headers: str) -> web.Response:
    """Answer with a JSON document that nobody may keep."""
    return web.Response(
        body=json.dumps(document, ensure_ascii=False).encode(),
        status=status,
        headers={"Cache-Control": "no-store", **headers},
        content_type="application/json",
        charset="utf-8",
    )


def timestamp(seconds: float | None) -> str | None:
    """Write seconds since the epoch as RFC 3339 in UTC, to the millisecond; None for never."""
    if not seconds:
        return None
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def url(instance: Instance) -> str:
    """Name the address of a user's server."""
    return f"http://localhost:{instance.assignment.port}"


def user(instance: Instance, usage: Usage | None = None) -> dict[str, Any]:
    """Describe a user's server. No secret is in it: the QR code has a resource of its own."""
    assignment, process = instance.assignment, instance.process
    document: dict[str, Any] = {
        "user": assignment.user,
        "port": assignment.port,
        "url": url(instance),
        "unit": service_unit(assignment.port),
        "desired": assignment.desired,
        "linked": assignment.linked,
        "note": assignment.note,
        # The address may hold a token, so only whether there is one of the user's own.
        "own_webhook": assignment.webhook_url is not None,
        "memory_max": assignment.memory_max,
        "autostart": assignment.autostart,
        "created_at": timestamp(assignment.created_at),
        "process": {
            "state": process.state,
            "since": timestamp(process.since),
            "message": process.message,
            "cause": process.cause,
            "hint": process.hint,
            "pid": process.pid,
            "restarts": process.restarts,
        },
        "session": None,
    }
    session = instance.session
    if session is not None:
        document["session"] = {
            "state": session.state,
            "since": timestamp(session.since),
            "message": session.message,
            "cause": session.cause,
            "hint": session.hint,
            "attempt": session.attempt,
            "attempts": session.attempts,
            "progress": session.progress,
            "phone_number": session.phone_number,
            "name": session.pushname,
            "answering": instance.answering,
        }
    if usage is not None:
        document["memory"] = {"bytes": usage.memory, "source": usage.memory_source}
        document["cpu"] = {"seconds": usage.cpu, "source": usage.cpu_source}
    return document


def condition(instance: Instance) -> tuple[str, str, str | None, str | None]:
    """Return state, message, cause and hint of whatever matters now: the session while the server runs."""
    session, process = instance.session, instance.process
    if process.state is ProcessState.RUNNING:
        if session is None:
            return "starting", "the server runs and has not said anything yet", None, None
        if not instance.answering:
            return (
                "error",
                "the server does not answer",
                "not_answering",
                "systemd ends and restarts a hung server by itself within a minute",
            )
        return session.state, session.message, session.cause, session.hint
    # Of one who was stopped that counts, and not what would otherwise bring a code.
    ended_by_itself = process.state is ProcessState.STOPPED and process.hint is None
    if ended_by_itself and session is not None:
        return session.state, session.message, session.cause, session.hint
    return process.state, process.message, process.cause, process.hint


def qr(instance: Instance) -> dict[str, Any]:
    """Describe the code to scan, or why there is none. Holds a secret."""
    code = instance.live_qr(time.time())
    status, message, cause, hint = condition(instance)
    if code is None and status == SessionState.QR:
        status, message = SessionState.GENERATING, "the last code has expired; the next one is on its way"
    session = instance.session
    return {
        "user": instance.assignment.user,
        "port": instance.assignment.port,
        "status": status,
        "qr": code,
        "expires_at": timestamp(session.expires_at) if code and session else None,
        "attempt": session.attempt if session else 0,
        "attempts": session.attempts if session else 0,
        "message": message,
        "cause": cause,
        "hint": hint,
    }
