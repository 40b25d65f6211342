"""``/v1/users/{user}/messages``, ``/chats``, ``/media``, …: calls that go through to the user's own server.

One table lists these calls. A call is checked here (who may make it, how many are under way, whether the server can
be called) and then passed on, and its answer back, piece by piece: nothing of it is kept or logged.
"""

import asyncio
import contextlib
import dataclasses
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp import hdrs, web

from waportd.api import examples
from waportd.api.access import caller_of
from waportd.api.crowds import Crowd
from waportd.api.happenings import ENTRY, HAPPENING
from waportd.api.json_schema import BINARY, array, event, flag, integer, nullable, record, text, words
from waportd.api.operations import Answer, Operation, Scope
from waportd.api.parameters import NO_BODY, USER, Body, Parameter, supervisor_of
from waportd.api.passing import EVENTS, FOREVER_S, pieces, send_back, stream_back, tied, unless
from waportd.api.problems import Handler
from waportd.contract import LIMITS, PATTERNS
from waportd.errors import (
    Conflict,
    NotLinked,
    NotRunning,
    PerhapsSent,
    ServerFailed,
    ShuttingDown,
    TooSlow,
    UnknownUser,
)
from waportd.model import Desired, Event
from waportd.quotas import PASSAGES, PASSAGES_PER_CALLER
from waportd.registry import Instance
from waportd.value_types import Kind, Schema, matching, word
from waportd.value_types import number as whole_number

_READ_LIMIT_S: Final = 40.0
"""Seconds that a server has to begin an answer from what it knows."""
_SEND_LIMIT_S: Final = 120.0
"""Seconds that a server has to report the outcome of a message, after its last piece has arrived."""
_JSON: Final = "application/json"
_PASSED_ON: Final = ("Idempotency-Key", "Last-Event-ID", hdrs.RANGE, hdrs.IF_RANGE)
_OF_BODY: Final = (hdrs.CONTENT_TYPE, hdrs.CONTENT_LENGTH)
_PASSED_BACK: Final = (hdrs.CONTENT_LENGTH, hdrs.CONTENT_RANGE, hdrs.ACCEPT_RANGES, "Retry-After")
_SHOWN_INLINE: Final = ("image/", "video/", "audio/")

# ---- What is said -----------------------------------------------------------------------------------

_OBJECT: Schema = {"type": "object"}
_PAGE = record(
    "Messages",
    messages=array(HAPPENING, "The oldest first."),
    next=nullable(text("What to send as `after` the next time.")),
    more=flag("There are more."),
)
_OUTCOME = record(
    "Outcome",
    optional=["code", "ack"],
    id=nullable(text("The message's id; null where there is none yet.")),
    outcome=words(
        "sent",
        "pending",
        "failed",
        doc="`sent`: WhatsApp's server has it. `pending`: not known yet; an event `message.ack` follows.",
    ),
    code=text("Why it failed or is pending, for programs."),
    ack=nullable(text("How far it came.")),
)
_CHANGED = record("Changed", id=text("The message's id."))
_TOLD = record("Notified", ok=flag("It was sent."))
_NUMBER = record(
    "Number",
    optional=["lid"],
    number=text("The number as WhatsApp has it, digits only."),
    exists=flag("It is on WhatsApp."),
    id=nullable(text("The id to send to.")),
    lid=nullable(text("The id that stands for it where the number is hidden.")),
)
_REDELIVERED = record("Redelivered", redelivered=integer("How many are sent again."))
_CHATS = record(
    "Chats",
    optional=["success"],
    success=flag("Always true."),
    chats=array(_OBJECT, "The newest first."),
    total=integer("How many there are in all."),
)
_HISTORY = record(
    "History",
    optional=["success", "total", "hasEarlier"],
    success=flag("Always true."),
    messages=array(ENTRY, "The oldest first."),
    total=integer("How many messages these are."),
    hasMore=flag("There are older ones."),
    nextCursor=nullable(text("What to send as `before` for the older ones.")),
    hasEarlier=nullable(
        flag("The phone has older ones: `POST …/earlier` asks it for them; null = not known.")
    ),
)
_DOCUMENT = record("ServersDocument")
"""What a server says about a chat, a contact or a group; it may have any members."""

# ---- What may be sent -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Passed(Body[None]):
    """A body that is passed on to the user's server unread."""

    goes_through = True
    document: Schema = dataclasses.field(default_factory=lambda: _OBJECT)
    others: Mapping[str, Schema] = dataclasses.field(default_factory=dict)
    """Its other content types than JSON."""
    sample: object = None
    """An example of the JSON."""

    @property
    def required(self) -> bool:
        """Whether there must be a body."""
        return bool(self.document.get("required"))

    @property
    def schema(self) -> Schema:
        """The object."""
        return self.document

    @property
    def content(self) -> Mapping[str, Schema]:
        """What may be sent, by its content type."""
        return {_JSON: self.document, **self.others}

    @property
    def shown(self) -> object:
        """An example of the JSON."""
        return self.sample

    async def read(self, _request: web.Request) -> dict[str, Any] | None:
        """Leave it unread."""
        return None


def _members(needed: tuple[str, ...] = (), /, example: object = None, **members: Schema) -> Passed:
    return Passed(
        document={"type": "object", "properties": members, "required": list(needed)}, sample=example
    )


_FILE: Schema = {
    "type": "object",
    "properties": {
        "url": text(
            "Where to fetch it; not from private addresses, unless `instances.media_from_private` is set."
        ),
        "data": text("The file in Base64, in place of a URL."),
        "type": text("Its media type."),
        "name": text("Its name."),
        "caption": text("The text below it."),
    },
}
_SOMEBODY = "+55 11 98888-7777"
_TO = text("A phone number as people write it, or the id of a chat.")
_SEND: Schema = {
    "title": "MessageToSend",
    "type": "object",
    "properties": {
        "to": _TO,
        "text": text("The text."),
        **{
            kind: {**_FILE, "description": f"A file to send as {kind}."}
            for kind in ("image", "video", "document", "audio", "voice", "sticker")
        },
        "location": {**_OBJECT, "description": "`latitude`, `longitude`, and perhaps `name` and `address`."},
        "contact": {"description": "A card, `name` with `phone` or `vcard`, or a list of cards."},
        "poll": {**_OBJECT, "description": "`question`, `options`, and perhaps `multiple`."},
        "quote": text("The id of the message that is answered."),
        "mentions": array(text(), "Numbers or ids of the people who are mentioned."),
        "link_preview": flag("Whether a link gets a preview."),
    },
    "required": ["to"],
}
_MESSAGE_TO_SEND = Passed(
    document=_SEND,
    others={
        "multipart/form-data": {
            "type": "object",
            "properties": {"message": {"type": "string", "contentMediaType": _JSON, "contentSchema": _SEND}},
            "required": ["message"],
        }
    },
    sample={"to": _SOMEBODY, "text": "Hello!"},
)

# ---- Parameters -------------------------------------------------------------------------------------


def _identifier(noun: str) -> Kind:
    # Not "." and "..", which lead elsewhere (https://url.spec.whatwg.org).
    return matching(r"(?!\.{1,2}$)[0-9A-Za-z@._:+=-]{1,300}", f"the id of a {noun}")


_EVENT = "|".join(re.escape(one) for one in Event)
_LEAST = r"[!-~]{1,100}"
_MESSAGE_ID = Parameter[str](
    "id",
    _identifier("message"),
    "The message's id, percent-encoded.",
    "path",
    required=True,
    example="true_5511988887777@c.us_3EB0AA",
)
_CHAT_ID = Parameter[str](
    "id",
    _identifier("chat"),
    "The chat's id, percent-encoded.",
    "path",
    required=True,
    example="5511988887777@c.us",
)
_WHO = Parameter[str](
    "id", _identifier("chat"), "The chat's id or the person's number.", "path", required=True
)
_CONTACT_ID = Parameter[str]("id", _identifier("contact"), "The contact's id.", "path", required=True)
_GROUP_ID = Parameter[str]("id", _identifier("group"), "The group's id.", "path", required=True)
_NUMBER_ASKED = Parameter[str](
    "number",
    matching(r"(?!\.{1,2}$)[0-9A-Za-z@._+() -]{1,60}", "a phone number"),
    "A phone number as people write it.",
    "path",
    required=True,
)
_AFTER = Parameter[str | None](
    "after",
    matching(_LEAST, "a cursor"),
    "Only events after this cursor; without it, from the oldest on.",
)
_TIMEOUT = Parameter[int | None](
    "timeout",
    whole_number(0, LIMITS["wait_s"]),
    "Seconds to wait for an event where there is none.",
    former="wait",
)
_LIMIT = Parameter[int | None]("limit", whole_number(1, LIMITS["page"]), "How many at most.")
_OFFSET = Parameter[int | None]("offset", whole_number(0, 1_000_000), "How many to skip at the beginning.")
_KINDS = Parameter[str | None](
    "events",
    matching(f"(?:{_EVENT})(?:,(?:{_EVENT}))*", f"some of {', '.join(Event)}, with commas between"),
    "Which events to return.",
)
_OF_CHAT = Parameter[str | None]("chat", _identifier("chat"), "Only events of this chat.")
_STATE = Parameter[str | None](
    "state",
    word("pending", "undelivered"),
    "Only events that still wait for the webhook, or undelivered ones; not together with `timeout` or a stream.",
)
_SEEN = Parameter[str | None](
    "Last-Event-ID",
    matching(_LEAST, "an event's id"),
    "The last event of a stream that was received: only later events are sent.",
    "header",
)
_KEY = Parameter[str | None](
    "Idempotency-Key",
    matching(PATTERNS["idempotency_key"], "1 to 255 visible characters of ASCII"),
    "For a day, a repeated call with the same key joins the first one: nothing is sent twice.",
    "header",
)
_BEFORE = Parameter[str | None](
    "before", matching(_LEAST, "a cursor"), "The `nextCursor` of the page with later messages."
)
_FOR = Parameter[str | None]("for", word("all", "me"), "Who no longer sees it; by default `all`.")

# ---- The table --------------------------------------------------------------------------------------

_REFUSALS: Final = {
    400: "What was sent cannot be understood (`bad_request`, `bad_number`, `bad_id`, `bad_cursor`)",
    404: (
        "It does not exist (`not_found`, `no_such_chat`, `no_such_contact`, `no_such_group`, `no_picture`, "
        "`no_media`, `media_gone`)"
    ),
    409: "It does not fit the current state",
    410: "The journal begins later (`cursor_gone`)",
    413: "It is too large (`too_large`)",
    422: "It cannot be done (`not_on_whatsapp`, `not_admin`, `refused`)",
    429: "Too many at a time (`rate_limited`)",
    500: "The server failed",
    501: "WhatsApp's page no longer has what this needs (`upstream_changed`)",
    503: "The session is busy, or not connected now (`busy`, `not_connected`)",
    504: "It took too long (`timeout`, `perhaps_sent`, `perhaps_done`)",
}


@dataclass(frozen=True)
class Passage:
    """A call that goes through."""

    name: str
    method: str
    path: str
    """The path at the user's server."""
    about: str
    """What it does: a summary, then details, as in a handler's docstring."""
    answer: Answer
    parameters: tuple[Parameter[Any], ...] = ()
    body: Body[Any] | None = None
    limit: float = _READ_LIMIT_S
    """Seconds until the answer must begin, after the last piece of the body has come."""
    sends: bool = False
    """Without an answer, the message may have been sent."""
    audited: bool = False
    """It changes something lasting, such as who is in a group: the caller is recorded."""
    other: Mapping[int, Answer] = dataclasses.field(default_factory=dict)


_SENT = Answer("it was sent", _OUTCOME, example=examples.OUTCOME)
_PENDING = {202: Answer("it is not known yet whether it was sent", _OUTCOME)}


def _found(schema: Schema = _DOCUMENT) -> Answer:
    return Answer("what the server knows", schema)


_ANY_BYTES = Answer(
    "the bytes, with the content type that the sender has given",
    # By name, too: generators of clients know no "*/*".
    others={"application/octet-stream": BINARY, "*/*": BINARY},
)

TABLE: Final = (
    Passage(
        "read",
        "GET",
        "/messages",
        """Return sent and received messages, from the user's message journal.

        The oldest first, after a cursor; with `timeout`, once there is something. With `Accept: text/event-stream` it
        is a stream that continues after `Last-Event-ID`. A cursor older than the journal is 410 `cursor_gone`; the
        stream then sends `reset`, and begins with the oldest. Reading removes nothing.
        """,
        Answer(
            "the messages; as `text/event-stream`, events of these names",
            _PAGE,
            others={EVENTS: {"anyOf": [event("message", HAPPENING), event("reset", _OBJECT)]}},
            example=examples.MESSAGES,
        ),
        (_AFTER, _TIMEOUT, _LIMIT, _KINDS, _OF_CHAT, _STATE, _SEEN),
    ),
    Passage(
        "send",
        "POST",
        "/messages",
        """Send a message: a text, a file, a location, contacts or a poll.

        A file is given as a URL, in Base64, or as a part of `multipart/form-data` that is named after its kind, beside
        a part `message` with the JSON. A message that WhatsApp's page has received is never answered as failed: where
        it is not known yet whether WhatsApp has it, the answer is 202, and an event `message.ack` follows.
        """,
        _SENT,
        (_KEY,),
        _MESSAGE_TO_SEND,
        _SEND_LIMIT_S,
        sends=True,
        other=_PENDING,
    ),
    Passage(
        "redeliver",
        "POST",
        "/messages/redeliver",
        """Send undelivered messages to the webhook again.

        Undelivered are those that it refused, or did not accept within `instances.webhook_retry`;
        `GET …/messages?state=undelivered` lists them.
        """,
        Answer("how many are sent again", _REDELIVERED),
        (),
        _members(example={"all": True}, cursor=text("The id of one event."), all=flag("All of them.")),
        audited=True,
    ),
    Passage(
        "state",
        "GET",
        "/messages/{id}",
        """Return how far a message of the user's own has come.

        404 `no_such_message` for others. An event `message.ack` reports each change.
        """,
        Answer("its outcome", _OUTCOME),
        (_MESSAGE_ID,),
    ),
    Passage(
        "edit",
        "PATCH",
        "/messages/{id}",
        """Replace the text of a message.

        WhatsApp allows it for 15 minutes; after that, and for messages of others, it is a 422 `refused`.
        """,
        Answer("it was changed", _CHANGED),
        (_MESSAGE_ID,),
        _members(
            ("text",),
            example={"text": "Hello again!"},
            text=text("The text."),
            mentions=array(text(), "The people who are mentioned."),
        ),
        _SEND_LIMIT_S,
    ),
    Passage(
        "delete",
        "DELETE",
        "/messages/{id}",
        """Delete a message, for everyone or only for the user.

        `for=me` removes it from this account only.
        """,
        Answer("it was deleted", _CHANGED),
        (_MESSAGE_ID, _FOR),
        NO_BODY,
        _SEND_LIMIT_S,
        audited=True,
    ),
    Passage(
        "react",
        "POST",
        "/messages/{id}/reaction",
        """React to a message, or remove the reaction.

        An empty text removes it.
        """,
        Answer("it was sent", _CHANGED),
        (_MESSAGE_ID,),
        _members(
            ("reaction",), example={"reaction": "👍"}, reaction=text("An emoji; empty removes the reaction.")
        ),
        _SEND_LIMIT_S,
    ),
    Passage(
        "forward",
        "POST",
        "/messages/{id}/forward",
        """Forward a message to another chat.

        With an `Idempotency-Key` it is forwarded once, however often the call is repeated.
        """,
        _SENT,
        (_MESSAGE_ID, _KEY),
        _members(("to",), example={"to": _SOMEBODY}, to=_TO),
        _SEND_LIMIT_S,
        sends=True,
        other=_PENDING,
    ),
    *(
        Passage(
            name,
            "POST",
            f"/chats/{{id}}/{name}",
            f"""Show the other side that the user {sees}.

            {more}
            """,
            Answer("it was sent", _TOLD),
            (_WHO,),
            body,
        )
        for name, sees, more, body in (
            (
                "typing",
                "is writing",
                "It ends after some 25 seconds, or when a message comes.",
                _members(example={"on": True}, on=flag("False ends it.")),
            ),
            (
                "recording",
                "is recording",
                "It ends after some 25 seconds, or when a message comes.",
                _members(example={"on": True}, on=flag("False ends it.")),
            ),
            ("seen", "has read the messages", "The chat has no more unread messages then.", NO_BODY),
        )
    ),
    Passage(
        "number",
        "GET",
        "/numbers/{number}",
        """Return whether a phone number is on WhatsApp.

        `id` is where to send to. It may differ from the number as it is dialled: for Brazil it may lack the ninth digit.
        """,
        Answer("what WhatsApp says", _NUMBER, example=examples.NUMBER),
        (_NUMBER_ASKED,),
    ),
    Passage(
        "chats",
        "GET",
        "/chats",
        """List the chats, the newest first.

        `limit` and `offset` select a part of them; `total` is how many there are.
        """,
        _found(_CHATS),
        (_LIMIT, _OFFSET),
    ),
    Passage(
        "chat",
        "GET",
        "/chats/{id}",
        """Show one chat.

        By any id by which WhatsApp knows it; 404 `no_such_chat` if there is none.
        """,
        _found(),
        (_CHAT_ID,),
    ),
    Passage(
        "history",
        "GET",
        "/chats/{id}/messages",
        """Show messages of a chat, the oldest first.

        The page's own, the newest of them; older ones with `before`.
        """,
        _found(_HISTORY),
        (_CHAT_ID, _LIMIT, _BEFORE),
    ),
    Passage(
        "earlier",
        "POST",
        "/chats/{id}/earlier",
        """Ask the phone for older messages of a chat.

        The phone must be on. `arrived` is how many came within 8 seconds; others may come later.
        """,
        Answer("the phone was asked", _DOCUMENT),
        (_CHAT_ID,),
        NO_BODY,
        _SEND_LIMIT_S,
    ),
    Passage(
        "contacts",
        "GET",
        "/contacts",
        """List the contacts.

        Those of the phone's address book, people with a chat, and members of groups.
        """,
        _found(),
        (_LIMIT, _OFFSET),
    ),
    Passage(
        "contact",
        "GET",
        "/contacts/{id}",
        """Show one contact.

        By any of their ids; 404 `no_such_contact` if WhatsApp's page knows nobody with that id.
        """,
        _found(),
        (_CONTACT_ID,),
    ),
    Passage(
        "picture",
        "GET",
        "/contacts/{id}/picture",
        """Show the picture of a contact.

        Also of a group or channel. 404 `no_picture` where there is none, or where this account may not see it.
        """,
        dataclasses.replace(_ANY_BYTES, schema=_DOCUMENT),
        (_CONTACT_ID,),
    ),
    Passage(
        "groups",
        "GET",
        "/groups",
        """List the groups.

        By name; all, unless `limit` is given.
        """,
        _found(),
        (_LIMIT, _OFFSET),
    ),
    Passage(
        "create_group",
        "POST",
        "/groups",
        """Create a group.

        With 1 to 20 people. The answer has the outcome for each of them.
        """,
        Answer("the group", _DOCUMENT),
        (),
        _members(
            ("subject", "participants"),
            example={"subject": "Holidays", "participants": [_SOMEBODY]},
            subject=text("Its name."),
            participants=array(text(), "Numbers or ids of its members."),
        ),
        _SEND_LIMIT_S,
        other={201: Answer("the group is created", _DOCUMENT)},
        audited=True,
    ),
    Passage(
        "group",
        "GET",
        "/groups/{id}",
        """Show a group and its members.

        WhatsApp is asked. If it does not answer, `is_current` is false, and the rest is what was known before.
        """,
        _found(),
        (_GROUP_ID,),
    ),
    Passage(
        "change_group",
        "PATCH",
        "/groups/{id}",
        """Change the name or description of a group.

        What is missing stays as it is. Some groups allow that to admins only: 422 `not_admin`.
        """,
        Answer("the group", _DOCUMENT),
        (_GROUP_ID,),
        _members(
            example={"subject": "Holidays"}, subject=text("Its name."), description=text("Its description.")
        ),
        _SEND_LIMIT_S,
        audited=True,
    ),
    Passage(
        "leave_group",
        "DELETE",
        "/groups/{id}",
        """Leave a group.

        Its chat stays.
        """,
        Answer("the user has left", _DOCUMENT),
        (_GROUP_ID,),
        NO_BODY,
        _SEND_LIMIT_S,
        audited=True,
    ),
    Passage(
        "participants",
        "POST",
        "/groups/{id}/participants",
        """Add people to a group, remove them, or change who is an admin.

        1 to 20 people a call; only an admin may: 422 `not_admin`. Nobody is sent an invitation.
        """,
        Answer("the outcome for each person", _DOCUMENT),
        (_GROUP_ID,),
        _members(
            ("action", "participants"),
            example={"action": "add", "participants": [_SOMEBODY]},
            action=words("add", "remove", "promote", "demote"),
            participants=array(text(), "Numbers or ids of these people."),
        ),
        _SEND_LIMIT_S,
        audited=True,
    ),
    Passage(
        "media",
        "GET",
        "/media/{id}",
        """Show the picture, video or file of a message.

        With `Range` a part of it. 404 `media_gone` where neither WhatsApp nor the phone has it any more.
        """,
        _ANY_BYTES,
        (_MESSAGE_ID,),
        limit=90.0,
        other={206: dataclasses.replace(_ANY_BYTES, description="the bytes of `Range`")},
    ),
)


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    return [
        Operation(
            passage.method,
            f"/v1/users/{{user}}{passage.path}",
            _handler(passage),
            Scope.USER,
            {200: passage.answer, **passage.other},
            (USER, *passage.parameters),
            passage.body,
            errors=(
                *(UnknownUser, Conflict, NotLinked, NotRunning, ServerFailed, ShuttingDown, TooSlow),
                *((PerhapsSent,) if passage.sends else ()),
            ),
            endless=True,
            refusals=_REFUSALS,
            narrowed={"id": "(?!redeliver$)[^/]+"} if passage.path == "/messages/{id}" else {},
            discreet=True,
            traffic=not passage.audited,
        )
        for passage in TABLE
    ]


def passages() -> Crowd:
    """Return the count of calls under way: none yet."""
    return Crowd(
        "{} calls of yours to users' servers are under way",
        "{} calls to users' servers are under way",
        "wait until some of them are answered, or use a webhook",
    )


# ---- Passing on -------------------------------------------------------------------------------------


def _handler(passage: Passage) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        crowd: Crowd = request.app["passages"]
        with crowd.one_more(caller_of(request).identity, PASSAGES_PER_CALLER, PASSAGES), tied(request):
            return await _pass(request, passage)

    handler.__name__, handler.__doc__ = passage.name, passage.about
    return handler


async def _pass(request: web.Request, passage: Passage) -> web.StreamResponse:
    supervisor = supervisor_of(request)
    instance = supervisor.reachable(USER.of(request))
    follows = passage.name == "read" and EVENTS in request.headers.get(hdrs.ACCEPT, "")
    timeout = (_TIMEOUT.of(request) or 0) if passage.name == "read" else 0
    body = pieces(request) if isinstance(passage.body, Passed) and request.body_exists else None
    passed_on = _PASSED_ON if body is None else (*_PASSED_ON, *_OF_BODY)
    headers = {name: request.headers[name] for name in passed_on if name in request.headers}
    headers[hdrs.ACCEPT] = EVENTS if follows else "*/*"
    call = supervisor.relay.call(
        instance.assignment.port,
        passage.method,
        _target(request, passage),
        headers,
        body,
        passage.limit + timeout,
        sends=passage.sends,
    )
    async with contextlib.AsyncExitStack() as stack:
        if not follows and not timeout:
            answer = await stack.enter_async_context(call)
            return await _pass_back(request, passage, answer)
        with _ending(request, instance) as gone:
            begun = await unless(gone, stack.enter_async_context(call))
            if begun is None:
                raise ShuttingDown("the server or waportd ends", hint="ask again", retry_after=1)
            if follows:
                if begun.content_type != EVENTS:
                    raise ServerFailed("the server's answer is not an event stream", cause="bad_answer")
                return await stream_back(request, begun, gone)
            return await _pass_back(request, passage, begun)


def _target(request: web.Request, passage: Passage) -> str:
    """Return path and query for the server: only the checked parts of what the caller sent."""
    values = {
        one.name: urllib.parse.quote(one.of(request), safe="")
        for one in passage.parameters
        if one.place == "path"
    }
    query = [
        # A server that started before waportd was updated knows only the former name.
        (one.former or one.name, text)
        for one in passage.parameters
        if one.place == "query" and (text := one.text(request)) is not None
    ]
    path = passage.path.format_map(values)
    return f"{path}?{urllib.parse.urlencode(query)}" if query else path


@contextlib.contextmanager
def _ending(request: web.Request, instance: Instance) -> Iterator[asyncio.Task[Any]]:
    """Give a task that is done when the user's server has left that port, or waportd ends."""
    assignment = instance.assignment

    def is_gone(now: Instance | None) -> bool:
        return (
            now is None
            or not now.held
            or now.assignment.desired is not Desired.RUNNING
            or (now.assignment.created_at, now.assignment.port) != (assignment.created_at, assignment.port)
        )

    waiting = supervisor_of(request).registry.wait(assignment.user, is_gone, FOREVER_S)
    gone = asyncio.create_task(waiting, name="passage")
    try:
        yield gone
    finally:
        gone.cancel()


async def _pass_back(
    request: web.Request, passage: Passage, answer: aiohttp.ClientResponse
) -> web.StreamResponse:
    """Answer with what the server answers."""
    bytes_too = passage.answer.others is not None and "*/*" in passage.answer.others
    if answer.content_type != _JSON and not bytes_too and answer.status != 204:  # noqa: PLR2004
        raise ServerFailed("the server's answer is not JSON", cause="bad_answer")
    headers = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
    headers |= {
        hdrs.CONTENT_TYPE: answer.headers.get(hdrs.CONTENT_TYPE, "application/octet-stream"),
        "Cache-Control": "private, no-store",
        # The sender of a file chooses its type: nothing in it may run on a page of this origin.
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if answer.content_type != _JSON:
        headers["Content-Disposition"] = _disposition(answer)
    return await send_back(request, answer, headers)


def _disposition(answer: aiohttp.ClientResponse) -> str:
    """Return whether a file is for showing or for download, with its name."""
    said = answer.headers.get("Content-Disposition", "")
    way, _, rest = said.partition(";")
    safe = answer.content_type.startswith(_SHOWN_INLINE) and answer.content_type != "image/svg+xml"
    way = "inline" if safe and way.strip() == "inline" else "attachment"
    return f"{way};{rest}" if rest else way
