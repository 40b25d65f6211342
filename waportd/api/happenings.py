"""The schemas of events about messages, calls and the session, which a user's server makes (``server/describe.js``)."""

from typing import Final

from waportd.api.json_schema import array, flag, integer, nullable, number, record, text, words
from waportd.model import Event
from waportd.value_types import Schema

_PERSON: Final = record(
    "Person",
    id=nullable(text("WhatsApp's id; null where a group does not say who it was.")),
    phone=nullable(text("The number, digits with country code; null where WhatsApp does not reveal it.")),
    lid=nullable(text("WhatsApp's other id, which hides the number.")),
    name=nullable(text("The name that they chose, else the name in the account's contacts.")),
)
_CHAT: Final = record(
    "ChatOfMessage",
    id=nullable(text("Its id.")),
    type=nullable(words("person", "group", "channel", "status", "broadcast")),
    name=nullable(text("Its name, as the phone shows it.")),
)
_MEDIA: Final = record(
    "Media",
    type=nullable(text("The media type.")),
    name=nullable(text("The name of the file.")),
    size=nullable(integer("Bytes, as the sender says.")),
    seconds=nullable(number("How long it plays.")),
    url=nullable(text("The path to read it from, below the user's path.")),
)
_QUOTED: Final = record(
    "Quoted",
    id=nullable(text("The message that is answered.")),
    sender=_PERSON,
    body=text("Its text, as far as the reply contains it."),
    type=nullable(text("WhatsApp's own word for its type.")),
)
_LOCATION: Final = record(
    "Location",
    latitude=nullable(number("Degrees.")),
    longitude=nullable(number("Degrees.")),
    name=nullable(text()),
    address=nullable(text()),
    live=flag("It is a live location."),
)
_CARD: Final = record(
    "ContactCard",
    name=nullable(text()),
    phones=array(text(), "As written; digits only where the card says that the number is on WhatsApp."),
    vcard=text("The card itself."),
)
_POLL: Final = record(
    "Poll",
    question=nullable(text()),
    options=array(text()),
    multiple=flag("Several options can be chosen."),
)
_BUTTON: Final = record("Choice", id=nullable(text()), text=nullable(text()))
_ROW: Final = record("MenuRow", id=nullable(text()), title=nullable(text()), description=nullable(text()))
_MENU: Final = record(
    "Menu",
    title=nullable(text()),
    description=nullable(text()),
    button=nullable(text()),
    footer=nullable(text()),
    sections=array(record("MenuSection", title=nullable(text()), rows=array(_ROW))),
)
_ORDER: Final = record(
    "Order",
    id=nullable(text()),
    token=nullable(text()),
    title=nullable(text()),
    items=nullable(number("How many things.")),
)
_PRODUCT: Final = record("Product", id=nullable(text()), title=nullable(text()), description=nullable(text()))
_INVITE: Final = record(
    "GroupInvitation",
    group=nullable(text("The id of the group.")),
    name=nullable(text()),
    code=nullable(text()),
    expires_at=nullable(number("Milliseconds since the epoch.")),
)
_MEETING: Final = record(
    "Meeting",
    name=nullable(text()),
    description=nullable(text()),
    place=nullable(text()),
    begins_at=nullable(number("Milliseconds since the epoch.")),
    ends_at=nullable(number("Milliseconds since the epoch.")),
)

_HEAD: Final[dict[str, Schema]] = {
    "id": nullable(text("The message's id.")),
    "type": nullable(text("WhatsApp's own word for its type: `chat` is a text.")),
    "timestamp": nullable(integer("When it happened, in milliseconds since the epoch.")),
    "chat": _CHAT,
    "isGroup": flag("It is in a group."),
    "fromMe": flag("The user sent it."),
    "sender": _PERSON,
}
_MEMBERS: Final[dict[str, Schema]] = {
    "from": nullable(
        text("The id of the chat that it came from; for a message of the user's own, the user's id.")
    ),
    "phone": nullable(text("The sender's number.")),
    "body": text("The text, or the caption."),
    "ephemeral": flag("It is a disappearing message."),
    "forwarded": flag("It was forwarded."),
    "quoted": nullable(_QUOTED),
    "mentions": array(
        record("Mention", id=nullable(text()), phone=nullable(text())), "The people who are mentioned."
    ),
    "hasMedia": flag("There is a file."),
    "media": nullable(_MEDIA),
    "mimetype": nullable(text("As in `media`.")),
    "filename": nullable(text("As in `media`.")),
    "size": nullable(integer("As in `media`.")),
    "mediaUrl": nullable(text("As in `media`.")),
    "location": nullable(_LOCATION),
    "contacts": nullable(array(_CARD)),
    "poll": nullable(_POLL),
    "edited_at": nullable(number("When it was edited last, in milliseconds since the epoch.")),
}
_OF_KINDS: Final[dict[str, Schema]] = {
    "choice": _BUTTON,
    "list": _MENU,
    "buttons": array(_BUTTON),
    "order": _ORDER,
    "product": _PRODUCT,
    "invite": _INVITE,
    "meeting": _MEETING,
}
_ACK: Final = words(
    "pending",
    "server",
    "device",
    "read",
    "played",
    "error",
    doc="How far a message of the user's own has come.",
)
_OWN: Final[dict[str, Schema]] = {
    "message": text("The same as `body`."),
    "ack": _ACK,
    "previous": nullable(text("The words before an edit.")),
    "everyone": flag("It was deleted for everyone, not only in this account."),
    "by": nullable(_PERSON),
    "reaction": text("An emoji; empty where the reaction was removed."),
    "call": record(
        "Call",
        id=nullable(text()),
        **{"from": nullable(text("The id of the caller."))},
        phone=nullable(text("The number of the caller.")),
        video=flag(),
        group=flag(),
    ),
    "session": record("SessionChange", state=text(), cause=nullable(text()), message=text()),
    "user_id": nullable(text("The user whose server sends it.")),
    "port": integer("That server's port."),
}

HAPPENING: Final = record(
    "Message",
    optional=[*_HEAD, *_MEMBERS, *_OF_KINDS, *_OWN],
    cursor=text("Its place in the journal: `after` reads what came after it."),
    event=words(Event, doc="What has happened."),
    event_id=text("Identifies what happened: the same event, delivered twice, has the same id."),
    recovered=flag("It was recovered later: nothing listened when it came."),
    **_HEAD,
    **_MEMBERS,
    **_OF_KINDS,
    **_OWN,
)
"""An event with its place in the journal. Which members an event has depends on it: see docs/server.md."""

ENTRY: Final = record(
    "Entry",
    optional=_OF_KINDS,
    messageId=nullable(text("The same as `id`.")),
    contactName=nullable(text("The name in a contact card that it holds.")),
    ack=nullable(_ACK),
    **_HEAD,
    **_MEMBERS,
    **_OF_KINDS,
)
"""A message in the history of its chat."""
