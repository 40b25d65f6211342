"""How things look in JSON. Names here are a promise: members are added, never renamed or removed."""

import dataclasses
import datetime as dt
import json
import time
from typing import Any

from aiohttp import web

from waportd.api.schemas import array, flag, integer, moment, nullable, number, record, text, words
from waportd.kinds import Schema
from waportd.model import Desired, ProcessState, SessionState, Upstream, Usage, service_unit
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


def url(instance: Instance) -> str | None:
    """Name the address of a user's server; None where anybody might have taken the port."""
    return f"http://localhost:{instance.assignment.port}" if instance.held else None


_CAUSE = nullable(text("What exactly is wrong, for programs; null where nothing is."))
_HINT = nullable(text("What mends it."))

UPSTREAM: Schema = record(
    "Upstream",
    build=nullable(text("The version of WhatsApp's page; null until the page has told it.")),
    library=nullable(text("The version of whatsapp-web.js that runs.")),
    engine=nullable(text("Which of the installed ones that is: `bundled`, or a version.")),
    pinned=nullable(text("The file that is served in place of the site's page; null for the site's own.")),
    ok=flag("Nothing that was looked at is missing."),
    checked=array(text(), "What was looked at: `boot` before a login, `main` after it."),
    missing=array(
        record(
            "MissingMember",
            feature=text("What does not work without it: `link`, `send`, `media_out`."),
            module=text("The module of WhatsApp's page."),
            member=text("What is needed of it."),
            found=text("What is there in its place: `undefined`, `no such module`, `number`."),
        ),
        "What the page does not have as it is needed.",
    ),
    shims={
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "What was done for the library in the page, by name: `absent`, `not needed`, `applied` or "
        "`failed`.",
    },
)
"""What `upstream` returns."""

USER = record(
    "User",
    optional=["memory", "cpu"],
    user=text("Whose server it is."),
    port=integer("The port of the server."),
    url=nullable(
        text(
            "The address of the server, for calls of the web app; null where the port is not held for it, as that of a "
            "user who was stopped: whoever listens there is somebody else."
        )
    ),
    unit=text("The systemd unit."),
    desired=words(Desired, doc="What was asked for last."),
    linked=flag("A phone was linked when the server was last heard of."),
    note=nullable(text("Why the user did not get the port that would have been preferred.")),
    own_webhook=flag("The user has a `webhook_url` of their own. It may hold a token, so it is not told."),
    memory_max=nullable(integer("Bytes that the server may use; null for `limits.memory_max`.")),
    autostart=flag("A linked session is started again at boot."),
    engine=text(
        "Which version of whatsapp-web.js the server starts with next: `bundled`, or that of another engine. What "
        "runs now is `session.upstream.engine`."
    ),
    own_engine=flag("The user has an `engine` of their own; else it is `instances.engine`."),
    created_at=nullable(moment("When the port was assigned.")),
    process=record(
        "Process",
        state=words(ProcessState, doc="What systemd says of the server's process."),
        since=nullable(moment("When it entered that state.")),
        message=text("The state, in words."),
        cause=_CAUSE,
        hint=_HINT,
        pid=nullable(integer("The server's process.")),
        restarts=integer("How often systemd restarted it by itself."),
        next_start=nullable(
            moment(
                "When a server that ended again and again is started next. Requests on its port wait for that."
            )
        ),
    ),
    session=nullable(
        record(
            "Session",
            state=words(SessionState, doc="What the server says of its WhatsApp session."),
            since=nullable(moment("When it entered that state.")),
            message=text("The state, in words."),
            cause=_CAUSE,
            hint=_HINT,
            attempt=integer("Which of the codes is shown, from 1."),
            attempts=integer("How many codes are shown before the server waits to be asked again."),
            progress=nullable(integer("How much of the chats is loaded after a scan, in percent.")),
            phone_number=nullable(text("The linked phone.")),
            name=nullable(text("What its owner is called there.")),
            answering=flag("The server is heard, so this is what it says now; else its last word."),
            upstream=nullable(UPSTREAM),
        )
    ),
    memory=record(
        "Memory",
        bytes=nullable(integer("What the server and its browser use.")),
        source=nullable(
            text(
                "`systemd` (its own figure), or `pss` or `rss`, summed over the processes; null: not measured."
            )
        ),
    ),
    cpu=record(
        "Cpu",
        seconds=nullable(number("Processor time of the server and its browser.")),
        source=nullable(text("`systemd`, or `processes`; null: not measured.")),
    ),
)
"""What `user` returns."""

QR = record(
    "Qr",
    user=text("Whose code it is."),
    port=integer("The port of the server."),
    status=words(
        SessionState, ProcessState, doc="The session's state; that of the process where it matters more."
    ),
    qr=nullable(text("The code to draw. A secret: whoever scans it links a phone of theirs.")),
    expires_at=nullable(moment("Until when the code can be scanned.")),
    attempt=integer("Which of the codes it is, from 1."),
    attempts=integer("How many are shown before the server waits to be asked again."),
    message=text("The state, in words."),
    cause=_CAUSE,
    hint=_HINT,
)
"""What `qr` returns."""


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
        "engine": instance.engine,
        "own_engine": assignment.engine is not None,
        "created_at": timestamp(assignment.created_at),
        "process": {
            "state": process.state,
            "since": timestamp(process.since),
            "message": process.message,
            "cause": process.cause,
            "hint": process.hint,
            "pid": process.pid,
            "restarts": process.restarts,
            "next_start": timestamp(process.next_start),
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
            "upstream": upstream(session.upstream),
        }
    if usage is not None:
        document["memory"] = {"bytes": usage.memory, "source": usage.memory_source}
        document["cpu"] = {"seconds": usage.cpu, "source": usage.cpu_source}
    return document


def upstream(found: Upstream | None) -> dict[str, Any] | None:
    """Describe WhatsApp's page as a server has found it; None where the server does not tell."""
    if found is None:
        return None
    return {
        "build": found.build,
        "library": found.library,
        "engine": found.engine,
        "pinned": found.pinned,
        "ok": found.ok,
        "checked": list(found.checked),
        "missing": [dataclasses.asdict(missing) for missing in found.missing],
        "shims": dict(found.shims),
    }


def veiled(instance: Instance) -> Instance:
    """Return a user's server as the owner of a phone may see it, who has a connect link and is nobody known.

    Whose phone was linked before, the process and what is wrong with the machine are not for them.
    """
    process, session = instance.process, instance.session
    hint = None if process.hint is None else "tell whoever gave you this link"
    message = process.message if process.cause is None else "the server cannot run now"
    if session is not None:
        session = dataclasses.replace(session, phone_number=None, pushname=None, upstream=None)
    return dataclasses.replace(
        instance,
        assignment=dataclasses.replace(instance.assignment, note=None, memory_max=None),
        process=dataclasses.replace(process, pid=None, message=message, hint=hint),
        session=session,
    )


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
