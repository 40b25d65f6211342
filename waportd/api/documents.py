"""How things look in JSON. Names here are a promise: members are added, never renamed or removed."""

import dataclasses
import datetime as dt
import json
import time
from collections.abc import Mapping
from typing import Annotated, Any

from aiohttp import web

from waportd import summary
from waportd.api.json_schema import MISSING, As, Document, Missing, Moment, members, words
from waportd.model import (
    Desired,
    Event,
    Ignored,
    Passkey,
    PasskeyStage,
    ProcessState,
    Session,
    SessionState,
    Storage,
    Upstream,
    Usage,
    Webhook,
    service_unit,
)
from waportd.proxies import AUTO
from waportd.registry import Instance
from waportd.summary import Group

_ENCODER = json.JSONEncoder(ensure_ascii=False, default=members)
"""Made once: `json.dumps` makes one for each call, which takes as long as to write a small document."""


def written(document: object) -> bytes:
    """Write a document as JSON."""
    return _ENCODER.encode(document).encode()


def respond(document: object, status: int = 200, **headers: str) -> web.Response:
    """Answer with a JSON document that must not be cached; bytes are one that is already written."""
    return web.Response(
        body=document if isinstance(document, bytes) else written(document),
        status=status,
        headers={"Cache-Control": "no-store", **headers},
        content_type="application/json",
        charset="utf-8",
    )


def timestamp(seconds: float | None) -> str | None:
    """Write seconds since the epoch, as `moment`; None for never."""
    return moment(seconds) if seconds else None


def moment(seconds: float) -> str:
    """Write seconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    written = dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds")
    return written.replace("+00:00", "Z")


def url(instance: Instance) -> str | None:
    """Name the address of a user's server; None where another program might have taken the port."""
    return f"http://localhost:{instance.assignment.port}" if instance.held else None


Status = Annotated[str, As(words(SessionState, ProcessState))]
Cause = Annotated[str | None, "What exactly is wrong, for programs; null where nothing is wrong."]
Hint = Annotated[str | None, "How to fix it."]


class MissingMember(Document):
    """A member of WhatsApp's page that something needs."""

    feature: Annotated[str, "What does not work without it: `link`, `send`, `media_out`."]
    module: Annotated[str, "The module of WhatsApp's page."]
    member: Annotated[str, "The member of it that is needed."]
    found: Annotated[str, "What is there instead: `undefined`, `no such module`, `number`."]


class UpstreamDocument(Document):
    """WhatsApp's page as a server has found it."""

    build: Annotated[str | None, "The version of WhatsApp's page; null until the page reports it."]
    library: Annotated[str | None, "The version of whatsapp-web.js that runs."]
    engine: Annotated[str | None, "Which of the installed ones that is: `bundled`, or a version."]
    pinned: Annotated[
        str | None, "The file that is served in place of the site's page; null for the site's own page."
    ]
    ok: Annotated[bool, "Nothing of what was checked is missing."]
    checked: Annotated[tuple[str, ...], "What was checked: `boot` before a login, `main` after it."]
    missing: Annotated[
        tuple[MissingMember, ...], "What the page lacks, or has in another form than is needed."
    ]
    shims: Annotated[
        Mapping[str, str],
        "Fixes that were made in the page for the library, by name: `absent`, `not needed`, `applied` or `failed`.",
    ]


class StorageDocument(Document):
    """What a session keeps on disk."""

    login: Annotated[int, "Bytes of the login with its browser profile."]
    cache: Annotated[int, "Bytes of the browser's cache, which `instances.cache_max` limits at each start."]
    journal: Annotated[int, "Bytes of the journal of messages, which `instances.journal_size` limits."]
    snapshots: Annotated[int, "Bytes of the copies of the login, of which `instances.snapshots` are kept."]
    snapshot_at: Annotated[Moment | None, "When the newest copy was made; null as long as there is none."]
    restored_at: Annotated[
        Moment | None,
        "When a copy replaced a login that the browser had found damaged; null: never.",
    ]
    measured_at: Annotated[Moment, "When the server measured it: when its session is ready, then every hour."]


class SummaryDocument(Document):
    """The state of a user's server."""

    state: Annotated[
        Status, "What matters now: the state of the session while the server runs, else that of the process."
    ]
    group: Annotated[
        Group,
        "The few groups that a person looks for. `waiting`: for a person, who scans a code or uses a passkey. "
        "`trouble`: something has to be fixed. `asleep`: the login is there, and a start is all that it needs.",
    ]
    message: Annotated[str, "The state, in words."]
    cause: Annotated[
        str | None,
        "What exactly is wrong, for programs; null where nothing is wrong. `not_answering`: the server runs and does "
        "not answer. `undelivered`: messages have waited for the web app for more than five minutes.",
    ]
    hint: Hint
    since: Annotated[Moment | None, "When that began: the state, or the wait of the oldest message."]


class ProcessDocument(Document):
    """A server's process."""

    state: Annotated[
        ProcessState,
        "What systemd says of the server's process; `unreachable` where the host that has the user does not answer, "
        "`moving` while the user comes to another one.",
    ]
    since: Annotated[Moment | None, "When it entered that state."]
    message: Annotated[str, "The state, in words."]
    cause: Cause
    hint: Hint
    pid: Annotated[int | None, "The server's process."]
    restarts: Annotated[int, "How often systemd restarted it automatically."]
    next_start: Annotated[
        Moment | None,
        "When systemd next starts a server that keeps ending. Requests on its port wait for that.",
    ]


class WebhookDocument(Document):
    """What happened to a server's incoming messages."""

    queued: Annotated[int, "Messages that wait to be delivered."]
    delivered: Annotated[int, "Messages that were delivered since the server started."]
    failed: Annotated[int, "Failed tries; each was followed by a retry or a drop."]
    dropped: Annotated[int, "Messages that are lost."]
    undelivered: Annotated[
        int, "Undelivered messages that are kept: `POST …/messages/redeliver` sends them again."
    ]
    oldest_at: Annotated[Moment | None, "Since when the oldest message has waited; null where none waits."]
    error: Annotated[str | None, "Why the last try failed; null once a message has been delivered since."]
    error_at: Annotated[Moment | None, "When it failed."]


class SessionDocument(Document):
    """A server's session."""

    state: Annotated[SessionState, "What the server says of its WhatsApp session."]
    since: Annotated[Moment | None, "When it entered that state."]
    message: Annotated[str, "The state, in words."]
    cause: Cause
    hint: Hint
    attempt: Annotated[int, "The number of the code that is shown, from 1."]
    attempts: Annotated[int, "How many codes are shown before the server waits for another request."]
    progress: Annotated[int | None, "How many of the chats are loaded after a scan, in percent."]
    phone_number: Annotated[str | None, "The linked phone."]
    name: Annotated[str | None, "The name of its owner on WhatsApp."]
    answering: Annotated[
        bool, "The server is connected, so this is its current state; else the last known one."
    ]
    upstream: UpstreamDocument | None
    webhook: WebhookDocument
    last_message_at: Annotated[
        Moment | None, "When a message last came or went since the server started; null where none did."
    ]


class MemoryDocument(Document):
    """How much memory a server uses."""

    bytes: Annotated[int | None, "The memory that the server and its browser use."]
    source: Annotated[
        str | None,
        "`systemd` (systemd's own figure), or `pss` or `rss`, summed over the processes; null: not measured.",
    ]


class CpuDocument(Document):
    """How much processor time a server has used."""

    seconds: Annotated[float | None, "Processor time of the server and its browser."]
    source: Annotated[str | None, "`systemd`, or `processes`; null: not measured."]


class UserDocument(Document):
    """A user's server. It holds no secret: the QR code has its own resource."""

    user: Annotated[str, "Whose server it is."]
    host: Annotated[
        str | None, "The host of the fleet that has the user; null on a host that belongs to no fleet."
    ]
    port: Annotated[int, "The port of the server."]
    url: Annotated[
        str | None,
        "The address of the server, for calls of the web app on that host; null where the port is not held for it, as after a stop: "
        "another program may listen there.",
    ]
    unit: Annotated[str, "The systemd unit."]
    desired: Annotated[Desired, "The state that was last asked for."]
    linked: Annotated[bool, "A phone was linked when the server last reported."]
    linked_at: Annotated[
        Moment | None,
        "When that phone was linked; null where none is, or where that was not noted at the time.",
    ]
    note: Annotated[
        str | None,
        "Why the user did not get the preferred port, or which port the user had before a move.",
    ]
    own_webhook: Annotated[
        bool, "The user has a `webhook_url` of their own. It may hold a token, so it is not shown."
    ]
    own_webhook_secret: Annotated[bool, "The user has a `webhook_secret` of their own."]
    webhook_events: Annotated[
        tuple[Event, ...] | None, "Which events go to the webhook; null for `instances.webhook_events`."
    ]
    ignore: Annotated[tuple[Ignored, ...] | None, "Chats that are ignored; null for `instances.ignore`."]
    default_country: Annotated[
        str | None, "The calling code for numbers without one; null for `instances.default_country`."
    ]
    send_rate: Annotated[int | None, "Messages a minute, 0 for no limit; null for `instances.send_rate`."]
    memory_max: Annotated[int | None, "Bytes that the server may use; null for `limits.memory_max`."]
    autostart: Annotated[bool, "A linked session is started again at boot."]
    engine: Annotated[
        str,
        "The version of whatsapp-web.js for the server's next start: `bundled`, or another engine. The one that "
        "runs now is `session.upstream.engine`.",
    ]
    own_engine: Annotated[bool, "The user has an `engine` of their own; else it is `instances.engine`."]
    proxy: Annotated[
        str,
        "The proxy for the browser's next start: `auto`, `none`, or its URL, with `***` in place of a password.",
    ]
    own_proxy: Annotated[bool, "The user has a `proxy` of their own; else it is `instances.proxy`."]
    created_at: Annotated[Moment | None, "When the port was assigned."]
    storage: StorageDocument | None
    summary: SummaryDocument
    process: ProcessDocument
    session: SessionDocument | None
    memory: MemoryDocument | Missing = MISSING
    cpu: CpuDocument | Missing = MISSING


class PasskeyDocument(Document):
    """The passkey request of WhatsApp. Holds a secret."""

    stage: Annotated[
        PasskeyStage,
        "`opening`: the challenge is on its way. `asked`: it is there. `given`: it was signed, and the phone must "
        "answer. `code`: a person compares `code` with the phone. `failed`: it failed, and is retried.",
    ]
    options: Annotated[
        Mapping[str, Any] | None,
        "The challenge to sign, in `asked`: WhatsApp's complete PublicKeyCredentialRequestOptionsJSON. Each try has "
        "a new one.",
    ]
    expires_at: Annotated[Moment | None, "When the stage ends at the latest."]
    code: Annotated[str | None, "The code that the phone must show, too, in `code`."]


class QrDocument(Document):
    """The code to scan, or why there is none. Holds a secret."""

    user: Annotated[str, "Whose code it is."]
    port: Annotated[int, "The port of the server."]
    status: Annotated[Status, "The state of the session, or of the process where that matters more."]
    qr: Annotated[str | None, "The code to draw. A secret: anyone who scans it can link their phone."]
    expires_at: Annotated[Moment | None, "Until when the code can be scanned."]
    attempt: Annotated[int, "The number of this code, from 1."]
    attempts: Annotated[int, "How many codes are shown before the server waits for another request."]
    message: Annotated[str, "The state, in words."]
    cause: Cause
    hint: Hint
    passkey: Annotated[
        PasskeyDocument | None,
        "WhatsApp's passkey request; null where there is none. As secret as a code.",
    ]


def user(instance: Instance, usage: Usage | None = None) -> UserDocument:
    """Describe a user's server, with memory and CPU where they were measured."""
    assignment, process, session = instance.assignment, instance.process, instance.session
    moving_to = assignment.moving_to
    return UserDocument(
        user=assignment.user,
        host=instance.host,
        port=assignment.port,
        url=url(instance),
        unit=service_unit(assignment.port),
        desired=assignment.desired,
        linked=assignment.linked,
        linked_at=timestamp(assignment.linked_at),
        note=assignment.note if moving_to is None else f"is being moved to port {moving_to}",
        # The address may hold a token, so only whether there is one of the user's own.
        own_webhook=assignment.webhook_url is not None,
        own_webhook_secret=assignment.webhook_secret is not None,
        webhook_events=assignment.webhook_events,
        ignore=assignment.ignore,
        default_country=assignment.default_country,
        send_rate=assignment.send_rate,
        memory_max=assignment.memory_max,
        autostart=assignment.autostart,
        engine=instance.engine,
        own_engine=assignment.engine is not None,
        proxy=instance.proxy,
        own_proxy=assignment.proxy is not None,
        created_at=timestamp(assignment.created_at),
        storage=storage(instance.storage),
        summary=_summary(instance),
        process=ProcessDocument(
            state=process.state,
            since=timestamp(process.since),
            message=process.message,
            cause=process.cause,
            hint=process.hint,
            pid=process.pid,
            restarts=process.restarts,
            next_start=timestamp(process.next_start),
        ),
        session=None if session is None else _session(session, instance),
        memory=MISSING if usage is None else MemoryDocument(bytes=usage.memory, source=usage.memory_source),
        cpu=MISSING if usage is None else CpuDocument(seconds=usage.cpu, source=usage.cpu_source),
    )


def _summary(instance: Instance) -> SummaryDocument:
    shown = summary.of_server(instance, time.time())
    return SummaryDocument(
        state=shown.state,
        group=summary.group_of(shown, linked=instance.assignment.linked),
        message=shown.message,
        cause=shown.cause,
        hint=shown.hint,
        since=timestamp(shown.since),
    )


def _session(session: Session, instance: Instance) -> SessionDocument:
    webhook = session.webhook
    return SessionDocument(
        state=session.state,
        since=timestamp(session.since),
        message=session.message,
        cause=session.cause,
        hint=instance.hint,
        attempt=session.attempt,
        attempts=session.attempts,
        progress=session.progress,
        phone_number=session.phone_number,
        name=session.pushname,
        answering=instance.answering,
        upstream=upstream(session.upstream),
        webhook=WebhookDocument(
            queued=webhook.queued,
            delivered=webhook.delivered,
            failed=webhook.failed,
            dropped=webhook.dropped,
            undelivered=webhook.undelivered,
            oldest_at=timestamp(webhook.oldest_at),
            error=webhook.error,
            error_at=timestamp(webhook.error_at),
        ),
        last_message_at=timestamp(session.last_message_at),
    )


def storage(kept: Storage | None) -> StorageDocument | None:
    """Describe what a session keeps on disk; None where that was not measured since the login was deleted."""
    if kept is None:
        return None
    return StorageDocument(
        **kept.sizes,
        snapshot_at=timestamp(kept.snapshot_at),
        restored_at=timestamp(kept.restored_at),
        measured_at=moment(kept.measured_at),
    )


def upstream(found: Upstream | None) -> UpstreamDocument | None:
    """Describe WhatsApp's page as a server has found it; None where the server does not say."""
    if found is None:
        return None
    return UpstreamDocument(
        build=found.build,
        library=found.library,
        engine=found.engine,
        pinned=found.pinned,
        ok=found.ok,
        checked=found.checked,
        missing=tuple(
            MissingMember(feature=one.feature, module=one.module, member=one.member, found=one.found)
            for one in found.missing
        ),
        shims=dict(found.shims),
    )


def veiled(instance: Instance) -> Instance:
    """Return a user's server as the owner of a phone may see it, an unknown person with a connect link.

    It leaves out whose phone was linked before, the process, the proxy and what is wrong with the machine.
    """
    process, session = instance.process, instance.session
    hint = None if process.hint is None else "report this to the person who gave you this link"
    message = process.message if process.cause is None else "the server cannot run now"
    if session is not None:
        session = dataclasses.replace(
            session,
            phone_number=None,
            pushname=None,
            upstream=None,
            storage=None,
            webhook=Webhook(),
            last_message_at=None,
        )
    return dataclasses.replace(
        instance,
        assignment=dataclasses.replace(
            instance.assignment,
            note=None,
            linked_at=None,
            memory_max=None,
            storage=None,
            webhook_events=None,
            ignore=None,
            default_country=None,
            send_rate=None,
        ),
        process=dataclasses.replace(process, pid=None, message=message, hint=hint),
        session=session,
        proxy=AUTO,
        host=None,
    )


def qr(instance: Instance) -> QrDocument:
    """Describe the code to scan, or why there is none. Holds a secret."""
    code = instance.live_qr(time.time())
    shown = summary.of_code(instance)
    status, message = shown.state, shown.message
    if code is None and status == SessionState.QR:
        status, message = SessionState.GENERATING, "the last code has expired; the next one is on its way"
    session = instance.session
    return QrDocument(
        user=instance.assignment.user,
        port=instance.assignment.port,
        status=status,
        qr=code,
        expires_at=timestamp(session.expires_at) if code and session else None,
        attempt=session.attempt if session else 0,
        attempts=session.attempts if session else 0,
        message=message,
        cause=shown.cause,
        hint=shown.hint,
        passkey=passkey(instance.passkey) if instance.passkey else None,
    )


def passkey(wanted: Passkey) -> PasskeyDocument:
    """Describe WhatsApp's passkey request. Holds a secret."""
    return PasskeyDocument(
        stage=wanted.stage,
        options=None if wanted.options is None else json.loads(wanted.options),
        expires_at=timestamp(wanted.expires_at),
        code=wanted.code,
    )
