"""Words to describe JSON with: each function returns a JSON Schema."""

import enum
from collections.abc import Collection

from waportd.kinds import Schema


def record(title: str, /, *, optional: Collection[str] = (), **members: Schema) -> Schema:
    """Describe an object. Its title makes it a component of the OpenAPI document; members may be added later."""
    return {
        "title": title,
        "type": "object",
        "properties": members,
        "required": [name for name in members if name not in optional],
    }


def text(doc: str = "") -> Schema:
    """Describe a string."""
    return _described({"type": "string"}, doc)


def integer(doc: str = "") -> Schema:
    """Describe a whole number."""
    return _described({"type": "integer"}, doc)


def number(doc: str = "") -> Schema:
    """Describe a number."""
    return _described({"type": "number"}, doc)


def flag(doc: str = "") -> Schema:
    """Describe true or false."""
    return _described({"type": "boolean"}, doc)


def moment(doc: str = "") -> Schema:
    """Describe a time: RFC 3339 in UTC."""
    return _described({"type": "string", "format": "date-time"}, doc)


def words(*choices: str | type[enum.StrEnum], doc: str = "") -> Schema:
    """Describe a string that is one of these."""
    known: list[str] = []
    for choice in choices:
        known += [choice] if isinstance(choice, str) else [str(one) for one in choice]
    return _described({"type": "string", "enum": known}, doc)


def array(items: Schema, doc: str = "") -> Schema:
    """Describe a list."""
    return _described({"type": "array", "items": items}, doc)


def event(name: str, data: Schema) -> Schema:
    """Describe a server-sent event whose data is JSON."""
    members = {
        "event": {"type": "string", "const": name},
        "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data},
        "id": text("What to send as Last-Event-ID to go on after this event."),
    }
    return {"type": "object", "properties": members, "required": ["event", "data"]}


def nullable(schema: Schema) -> Schema:
    """Allow null, too."""
    if set(schema) <= {"type", "format", "description"}:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def _described(schema: Schema, doc: str) -> Schema:
    return {**schema, "description": doc} if doc else schema
