"""The API's reference, as Markdown, from its OpenAPI document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from waportd.api.openapi import document
from waportd.api.server import operations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Node = Mapping[str, Any]

_HEAD = """\
<!-- Written by `make docs` from the operations in waportd/api/. -->
# API
HTTP/1.1 with JSON, on the unix socket and where `api.listen` says. `GET /openapi.json` is all of this in OpenAPI 3.1,
for generators of clients and for tests.

- **Who may call**: on the unix socket, anyone who may open it; over TCP, a caller with `Authorization: Bearer TOKEN` or a
  connect link. [security.md](security.md) describes how tokens and links are made. Each call says what it needs over
  TCP.
- **Errors** are [problem documents](#problem-document), `application/problem+json` (RFC 9457): `code` is for programs, `detail`
  and `hint` are for people. If a retry makes sense, `Retry-After` says when. Any call may be answered with
  400 `bad_request`, 401 `unauthorized`, 403 `forbidden`, 404 `not_found`, 405 `method_not_allowed`, 413 `too_large`,
  429 `too_many_requests` and 500 `internal_error`; each call lists its other errors.
- **Unknown parameters and members of a body are refused.** Only the front end's own `/api/…` and the
  pages ignore unknown parameters.
- **Answers may get more members** in later versions; none is renamed or removed.
- **Times** are RFC 3339 in UTC, to the millisecond. Durations are in seconds, sizes in bytes.
- **Streams** are server-sent events with a comment every 15 seconds. With `Last-Event-ID` a stream continues where it was cut off.
"""

_TITLES = {
    "users": "Users",
    "qr": "QR codes",
    "pairing": "Pairing codes",
    "events": "Events",
    "messages": "Messages, chats and groups",
    "logs": "Logs",
    "links": "Connect links",
    "ports": "Ports",
    "tokens": "Tokens",
    "health": "Health",
    "host": "Host",
    "metrics": "Metrics",
    "openapi": "This document",
    "legacy": "The web front end's own shapes",
    "pages": "Pages",
}
_NEEDS = {
    (): "nothing",
    ("admin",): "a token of scope `admin`",
    ("user",): "a token of that user, or of scope `admin`",
    ("user", "link"): "a token or connect link of that user, or a token of scope `admin`",
}
_ANYWHERE = {
    "400 `bad_request`",
    "401 `unauthorized`",
    "403 `forbidden`",
    "413 `too_large`",
    "429 `too_many_requests`",
    "500 `internal_error`",
}


def markdown() -> str:
    """Return docs/api.md."""
    api = document(operations())
    calls: dict[str, list[str]] = {}
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            calls.setdefault(operation["tags"][0], []).append("\n".join(_call(method, path, operation)))
    sections = [
        "\n".join([f"## {_TITLES.get(tag, tag.capitalize())}", "", "\n".join(texts)])
        for tag, texts in calls.items()
    ]
    schemas = ["## Documents", ""]
    for name, schema in api["components"]["schemas"].items():
        schemas += [f"### {name} document", *_members(schema), ""]
    return "\n".join([_HEAD, *sections, *schemas]).rstrip("\n") + "\n"


def _call(method: str, path: str, operation: Node) -> Iterator[str]:
    yield f"### `{method.upper()} {path}`"
    yield operation["summary"]
    if "description" in operation:
        yield ""
        yield operation["description"]
    yield ""
    shown = tuple(
        role for one in operation["security"] for scheme, roles in one.items() for role in roles or [scheme]
    )
    yield f"Needs over TCP: {_NEEDS[shown]}."
    yield ""
    if parameters := operation.get("parameters"):
        yield from _table("Parameter", "In", "Value", "Meaning")
        for one in parameters:
            required = "" if one["required"] else " (optional)"
            yield _row(f"`{one['name']}`", f"{one['in']}{required}", _kind(one["schema"]), one["description"])
        yield ""
    if body := operation.get("requestBody"):
        schema = body["content"]["application/json"]["schema"]
        yield f"Body{'' if body['required'] else ' (optional)'}:"
        yield ""
        yield from _members(schema)
        yield ""
    yield from _table("Status", "Answer", "Content")
    errors = []
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        if set(content) == {"application/problem+json"}:
            errors += [f"{status} {code}" for code in re.findall("`[a-z_]+`", response["description"])]
            continue
        shown_as = [
            f"{media}: {_kind(of['schema'])}" if "schema" in of else media
            for media, of in content.items()
            if media != "application/problem+json"
        ]
        yield _row(status, _sentence(response["description"]), "; ".join(shown_as) or "none")
    yield ""
    if special := [error for error in errors if error not in _ANYWHERE]:
        yield f"Errors: {', '.join(special)}."
        yield ""


def _members(schema: Node) -> Iterator[str]:
    yield from _table("Member", "Value", "Meaning")
    for name, member in schema.get("properties", {}).items():
        mark = "" if name in schema.get("required", ()) else " (optional)"
        yield _row(f"`{name}`{mark}", _kind(member), member.get("description", ""))


def _kind(schema: Node) -> str:
    """Return the words for what a value may be."""
    for keyword, describe in _TOLD_BY.items():
        if keyword in schema:
            return describe(schema)
    if "type" not in schema and "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    kinds = schema.get("type", "anything")
    words = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    if schema.get("format") == "date-time":
        words = words.replace("string", "time")
    if "maximum" in schema:
        words += f" from {schema['minimum']} to {schema['maximum']}"
    if schema.get("default") is not None:
        words += f", by default `{str(schema['default']).lower()}`"
    return words


def _reference(schema: Node) -> str:
    name = schema["$ref"].rpartition("/")[2]
    return f"[{name}](#{name.lower()}-document)"


def _event(schema: Node) -> str:
    members = schema["properties"]
    if {"event", "data"} <= set(members):
        return f"event {_kind(members['event'])} with {_kind(members['data'])}"
    return "object"


_TOLD_BY: dict[str, Callable[[Node], str]] = {
    "$ref": _reference,
    "contentSchema": lambda schema: _kind(schema["contentSchema"]),
    "const": lambda schema: f"`{schema['const']}`",
    "enum": lambda schema: ", ".join(f"`{one}`" for one in schema["enum"]),
    "items": lambda schema: f"list of {_kind(schema['items'])}",
    "properties": _event,
}


def _table(*titles: str) -> Iterator[str]:
    yield _row(*titles)
    yield f"|{'---|' * len(titles)}"


def _row(*cells: str) -> str:
    plain = (re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(plain)} |"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
