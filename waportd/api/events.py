"""``/v1/events`` and ``/v1/users/{user}/events``: each change as it happens.

Every event carries the whole state, so nothing is queued for a reader: one who is slow gets fewer events, the newest
of each user. An event is written once, and the same bytes go to everybody. Listening starts no server.
"""

import asyncio
import re
import time
import weakref
from typing import Any

from aiohttp import web

from waportd.api import representation
from waportd.api.access import by_link
from waportd.api.operations import READERS, Answer, Operation, Scope
from waportd.api.representation import QR
from waportd.api.representation import USER as USER_DOCUMENT
from waportd.api.requests import USER, Parameter, supervisor_of
from waportd.api.schemas import event, integer, record, text
from waportd.api.sse import HEARTBEAT, HEARTBEAT_FRAME, Send, frame, stream
from waportd.errors import UnknownUser
from waportd.kinds import Kind, Schema
from waportd.picture import Change, Instance, Picture

_AT_ONCE = 50
"""Users who are sent in one piece, of about 50 KiB."""
_PAUSE = 0.2
"""Seconds from one piece to the next: however often users change, a reader costs five writes a second at most."""
_MARGIN = 0.01
"""Seconds after a code's end until it is told, so that it has ended by every clock."""
_IDENTIFIER = re.compile(r"([0-9a-f]{1,16})-([0-9]{1,18})")


_SEEN = Parameter[str | None](
    "Last-Event-ID",
    Kind("an event's id", str),
    "The last event that was received: only what came after it is told.",
    "header",
)
_USER_EVENT = event("user", USER_DOCUMENT)
_DELETED = event("deleted", record("Deleted", user=text("Who is gone.")))
_RESET = event("reset", {"type": "object"})
_COMPLETE = event("complete", record("Complete", users=integer("How many users there are.")))


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    return [
        Operation(
            "GET",
            "/v1/events",
            follow_all,
            Scope.ADMIN,
            {200: _events(_USER_EVENT, _DELETED, _RESET, _COMPLETE)},
            (_SEEN,),
            also=READERS,
            endless=True,
        ),
        Operation(
            "GET",
            "/v1/users/{user}/events",
            follow_one,
            Scope.LINK,
            {200: _events(_USER_EVENT, event("qr", QR), _DELETED, _RESET)},
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
        self._users: tuple[weakref.WeakKeyDictionary[Change, bytes], ...] = (
            weakref.WeakKeyDictionary(),
            weakref.WeakKeyDictionary(),
        )
        """As they are, and as they are for who has a connect link."""
        self._codes: tuple[weakref.WeakKeyDictionary[Change, tuple[dict[str, Any], bytes]], ...] = (
            weakref.WeakKeyDictionary(),
            weakref.WeakKeyDictionary(),
        )

    def mark(self, event: str, version: int, **data: Any) -> bytes:
        """Return an event that is about nobody."""
        return frame(event, data, f"{self._epoch}-{version}")

    def of_user(self, change: Change, *, veil: bool = False) -> bytes:
        """Return ``user``, or ``deleted``: what a user is since a change, without any code."""
        users = self._users[veil]
        written = users.get(change)
        if written is None:
            event, data = "deleted", {"user": str(change.user)}
            if change.instance is not None:
                event, data = "user", representation.user(_seen_through(change.instance, veil=veil))
            written = users[change] = self.mark(event, change.version, **data)
        return written

    def of_code(
        self, change: Change, instance: Instance, *, veil: bool = False
    ) -> tuple[dict[str, Any], bytes]:
        """Return ``qr``: what there is to scan now, as a document and as an event. A secret."""
        code = instance.live_qr(time.time())
        codes = self._codes[veil]
        written = codes.get(change)
        if written is None or written[0]["qr"] != code:
            document = representation.qr(_seen_through(instance, veil=veil))
            written = codes[change] = (document, self.mark("qr", change.version, **document))
        return written


def _seen_through(instance: Instance, *, veil: bool) -> Instance:
    return representation.veiled(instance) if veil else instance


async def follow_all(request: web.Request) -> web.StreamResponse:
    """Tell the state of all users, then each change.

    Events are ``user`` with a user's state, ``complete`` when these were all, and ``deleted``. No code is in it. After a Last-Event-ID only those who changed since are told, or after ``reset`` all anew.
    """
    picture = supervisor_of(request).picture
    frames: Frames = request.app["frames"]
    seen = _seen(request, picture)

    async def tell(send: Send) -> None:
        known = seen or 0
        # Who starts from nothing is told of nobody who left before.
        gone = picture.version if seen is None else 0
        complete = False
        if seen is None and _resumes(request):
            await send(frames.mark("reset", 0))
        while not picture.released:
            changes = picture.changes_since(known, _AT_ONCE)
            if changes:
                known = changes[-1].version
                told = (change for change in changes if change.instance or change.version > gone)
                await send(b"".join(map(frames.of_user, told)))
            elif not complete:
                complete = True
                await send(frames.mark("complete", known, users=len(picture)))
            else:
                await picture.wait_for_change(known, HEARTBEAT)
                if picture.version == known:
                    await send(HEARTBEAT_FRAME)
                continue
            if complete:
                await asyncio.sleep(_PAUSE)

    return await stream(request, tell)


async def follow_one(request: web.Request) -> web.StreamResponse:
    """Tell a user's state and code, now and at each change.

    Events are ``user`` with the state, ``qr`` with the code, and ``deleted``, after which it ends.
    """
    user = USER.of(request)
    supervisor = supervisor_of(request)
    picture = supervisor.picture
    frames: Frames = request.app["frames"]
    seen = _seen(request, picture)
    veil = by_link(request)
    if seen is None or not (last := picture.change_of(user)) or last.version <= seen:
        # Unless it is to be told that the user is gone.
        supervisor.known(user)

    async def tell(send: Send) -> None:
        known = seen or 0
        shown: dict[str, Any] | None = None
        if seen is None and _resumes(request):
            await send(frames.mark("reset", 0))
        while not picture.released and (change := picture.change_of(user)):
            instance = change.instance
            if instance is None:
                await send(frames.of_user(change, veil=veil))
                return
            document, code = frames.of_code(change, instance, veil=veil)
            news = (frames.of_user(change, veil=veil) if change.version > known else b"") + (
                code if document != shown else b""
            )
            known, shown = change.version, document
            await send(news or HEARTBEAT_FRAME)
            await asyncio.sleep(_PAUSE)
            await picture.wait(user, lambda _: picture.change_of(user) is not change, _patience(instance))

    return await stream(request, tell)


def _patience(instance: Instance) -> float:
    """Return for how many seconds there is nothing to tell: an expiry changes the code, and nothing in the picture."""
    now = time.time()
    return min(HEARTBEAT, instance.code_ends_at(now) - now + _MARGIN)


def _resumes(request: web.Request) -> bool:
    return _SEEN.of(request) is not None


def _seen(request: web.Request, picture: Picture) -> int | None:
    """Return the version up to which the reader knows all; None where it knows nothing that can be gone on from."""
    match = _IDENTIFIER.fullmatch(_SEEN.of(request) or "")
    if not match or match[1] != picture.epoch or not picture.remembers(int(match[2])):
        return None
    return int(match[2])
