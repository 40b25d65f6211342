"""``/v1/events`` and ``/v1/users/{user}/events``: each change as it happens.

Every event carries the whole state, so nothing is queued for a reader: a slow one gets fewer events, the newest
of each user. An event is serialized once, and the same bytes go to all readers. Listening starts no server.
"""

import asyncio
import re
import time
import weakref
from collections.abc import Callable
from typing import Annotated, TypeVar

from aiohttp import web

from waportd.api import documents
from waportd.api.access import by_link, is_passed_on
from waportd.api.documents import QrDocument, UserDocument
from waportd.api.json_schema import Document, event, of
from waportd.api.operations import READERS, Answer, Operation, Scope
from waportd.api.parameters import USER, Parameter, supervisor_of
from waportd.api.sse import HEARTBEAT_FRAME, HEARTBEAT_S, Send, frame, stream
from waportd.change_log import Change, ChangeLog
from waportd.errors import UnknownUser
from waportd.registry import Instance
from waportd.value_types import Kind, Schema, word

T = TypeVar("T")

_AT_ONCE = 50
"""How many users are sent in one piece, of about 50 KiB."""
PIECE_PAUSE_S = 0.2
"""Seconds from one piece to the next: however often users change, a reader costs five writes a second at most."""
_WHOLE_POLL_S = 0.1
"""Seconds between two looks whether all hosts of a fleet were heard."""
_EXPIRY_MARGIN_S = 0.01
"""Seconds from a code's end to the event, so that it has ended by every clock."""
_IDENTIFIER = re.compile(r"([0-9a-f]{1,16})-([0-9]{1,18})")


_SEEN = Parameter[str | None](
    "Last-Event-ID",
    Kind("an event's id", str),
    "The last event that was received: only later events are sent.",
    "header",
)


_ONLY = Parameter[str | None](
    "host",
    word("self"),
    "`self` for the users of the host that is asked; by default those of the whole fleet.",
)


class DeletedDocument(Document):
    """A user who was deleted."""

    user: Annotated[str, "The user that was deleted."]


class LeftDocument(Document):
    """A user who went to another host of the fleet."""

    user: Annotated[str, "The user."]
    left: Annotated[bool, "Always true."]


class CompleteDocument(Document):
    """All users were sent."""

    users: Annotated[int, "How many users there are."]


_USER_EVENT = event("user", of(UserDocument))
_DELETED = event("deleted", of(DeletedDocument))
_LEFT = event("left", of(LeftDocument))
_RESET = event("reset", {"type": "object"})
_COMPLETE = event("complete", of(CompleteDocument))


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    return [
        Operation(
            "GET",
            "/v1/events",
            follow_all,
            Scope.ADMIN,
            {200: _events(_USER_EVENT, _DELETED, _LEFT, _RESET, _COMPLETE)},
            (_SEEN, _ONLY),
            also=READERS,
            endless=True,
        ),
        Operation(
            "GET",
            "/v1/users/{user}/events",
            follow_one,
            Scope.LINK,
            {200: _events(_USER_EVENT, event("qr", of(QrDocument)), _DELETED, _RESET)},
            (USER, _SEEN),
            errors=(UnknownUser,),
            endless=True,
        ),
    ]


def _events(*events: Schema) -> Answer:
    return Answer(
        "server-sent events; the schema is that of each",
        others={"text/event-stream": {"anyOf": list(events)}},
    )


class Frames:
    """Events as they are sent, each written once however many read it."""

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch
        self._users: tuple[weakref.WeakKeyDictionary[Change[Instance], bytes], ...] = (
            weakref.WeakKeyDictionary(),
            weakref.WeakKeyDictionary(),
        )
        """The full documents, and those for callers with a connect link."""
        self._codes: tuple[weakref.WeakKeyDictionary[Change[Instance], tuple[QrDocument, bytes]], ...] = (
            weakref.WeakKeyDictionary(),
            weakref.WeakKeyDictionary(),
        )

    def event(self, event: str, version: int, data: object) -> bytes:
        """Return an event whose data is a document."""
        return frame(event, data, f"{self._epoch}-{version}")

    def of_user(self, change: Change[Instance], *, veil: bool = False) -> bytes:
        """Return ``user``, ``deleted`` or ``left``: the state of a user since a change, without any code."""
        users = self._users[veil]
        written = users.get(change)
        if written is None:
            event: str = "deleted"
            data: UserDocument | DeletedDocument | LeftDocument = DeletedDocument(user=change.user)
            if change.left:
                event, data = "left", LeftDocument(user=change.user, left=True)
            elif change.value is not None:
                event, data = "user", documents.user(_seen_through(change.value, veil=veil))
            written = users[change] = self.event(event, change.version, data)
        return written

    def of_code(
        self, change: Change[Instance], instance: Instance, *, veil: bool = False
    ) -> tuple[QrDocument, bytes]:
        """Return ``qr``: the code to scan now, as a document and as an event. A secret."""
        code = instance.live_qr(time.time())
        codes = self._codes[veil]
        written = codes.get(change)
        if written is None or written[0].qr != code:
            document = documents.qr(_seen_through(instance, veil=veil))
            written = codes[change] = (document, self.event("qr", change.version, document))
        return written


def _seen_through(instance: Instance, *, veil: bool) -> Instance:
    return documents.veiled(instance) if veil else instance


async def follow_all(request: web.Request) -> web.StreamResponse:
    """Send the state of all users, then each change.

    Events are ``user`` with a user's state, ``complete`` when these were all, and ``deleted``. They hold no code. After
    a Last-Event-ID only users that changed since are sent, or, after ``reset``, all again. In a fleet these are the users
    of all hosts; those of a host that does not answer are in state ``unreachable``, and those between two hosts in state
    ``moving``. Of one host, ``left`` names a user who went to another one.
    """
    supervisor = supervisor_of(request)
    registry, frames = supervisor.registry, request.app["frames"]
    if supervisor.fleet is None or _ONLY.of(request) is not None or is_passed_on(request):
        return await _follow_log(request, registry, frames.of_user, lambda: True, lambda: len(registry))
    with request.app["fleet_events"].reading() as log:
        return await _follow_log(request, log, log.frame, lambda: log.is_whole, lambda: len(log))


async def _follow_log(
    request: web.Request,
    log: ChangeLog[T],
    written: Callable[[Change[T]], bytes],
    is_whole: Callable[[], bool],
    count: Callable[[], int],
) -> web.StreamResponse:
    """Send all changes of a log: ``complete`` once it is whole, and has sent what it has."""
    seen = _seen(request, log)

    async def produce(send: Send) -> None:
        known = seen or 0
        # A reader that starts from nothing needs no earlier removals.
        gone = log.version if seen is None else 0
        complete = False
        if seen is None and _resumes(request):
            await send(frame("reset", {}, f"{log.epoch}-0"))
        while not log.released:
            changes = log.changes_since(known, _AT_ONCE)
            if changes:
                known = changes[-1].version
                sent = (change for change in changes if change.value is not None or change.version > gone)
                await send(b"".join(map(written, sent)))
            elif complete:
                await log.wait_for_change(known, HEARTBEAT_S)
                if log.version == known:
                    await send(HEARTBEAT_FRAME)
                continue
            elif is_whole():
                complete = True
                data = CompleteDocument(users=count())
                await send(frame("complete", data, f"{log.epoch}-{known}"))
            else:
                await log.wait_for_change(known, _WHOLE_POLL_S)
            if complete:
                await asyncio.sleep(PIECE_PAUSE_S)

    return await stream(request, produce)


async def follow_one(request: web.Request) -> web.StreamResponse:
    """Send a user's state and code, now and at each change.

    Events are ``user`` with the state, ``qr`` with the code, and ``deleted``, which ends the stream.
    """
    user = USER.of(request)
    supervisor = supervisor_of(request)
    registry = supervisor.registry
    frames: Frames = request.app["frames"]
    seen = _seen(request, registry)
    veil = by_link(request)
    if seen is None or not (last := registry.change_of(user)) or last.version <= seen:
        # Unless the removal of the user is still to be sent.
        supervisor.known(user)

    async def produce(send: Send) -> None:
        known = seen or 0
        shown: QrDocument | None = None
        if seen is None and _resumes(request):
            await send(frame("reset", {}, f"{registry.epoch}-0"))
        while not registry.released and (change := registry.change_of(user)):
            instance = change.value
            if change.left:
                return  # the reader comes back, and is led to the user's new host
            if instance is None:
                await send(frames.of_user(change, veil=veil))
                return
            document, code = frames.of_code(change, instance, veil=veil)
            news = (frames.of_user(change, veil=veil) if change.version > known else b"") + (
                code if document != shown else b""
            )
            known, shown = change.version, document
            await send(news or HEARTBEAT_FRAME)
            if instance.passkey is not None:
                # The server runs, and continues that step while somebody watches.
                supervisor.note_poll(instance)
            await asyncio.sleep(PIECE_PAUSE_S)
            await registry.wait(user, lambda _: registry.change_of(user) is not change, _patience(instance))

    return await stream(request, produce)


def _patience(instance: Instance) -> float:
    """Return for how many seconds there is nothing to send: an expiry changes the code, and nothing in the registry."""
    now = time.time()
    return min(HEARTBEAT_S, instance.code_ends_at(now) - now + _EXPIRY_MARGIN_S)


def _resumes(request: web.Request) -> bool:
    return _SEEN.of(request) is not None


def _seen(request: web.Request, log: ChangeLog[T]) -> int | None:
    """Return the version up to which the reader knows all; None where it has to start again."""
    match = _IDENTIFIER.fullmatch(_SEEN.of(request) or "")
    if not match or match[1] != log.epoch or not log.remembers(int(match[2])):
        return None
    return int(match[2])
