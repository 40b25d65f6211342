"""The API's reference, as Markdown, from its OpenAPI document."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from slugs import github

from waportd.api.openapi import document
from waportd.api.schema_words import members, resolved, said
from waportd.api.server import operations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Node = Mapping[str, Any]

_HEAD = """\
<!-- Written by `make docs` from the operations in waportd/api/. -->
# API
HTTP/1.1 with JSON, on the unix socket and where `api.listen` says. `GET /openapi.json` is all of this in OpenAPI 3.1,
for generators of clients and for tests, and `GET /docs` shows it as a page. [Connect a web app](integration.md#a-client-in-another-language)
says which generators work.
"""
_RULES = """\
## What holds for all calls
- **Who may call**: on the unix socket, anyone who may open it; over TCP, a caller with `Authorization: Bearer TOKEN` or a
  connect link, which are its `expires` and `signature` in the query. [security.md](security.md) describes how tokens and links are
  made. Each call says what it needs over TCP.
- **Errors** are [problem documents](#problem-document), `application/problem+json` (RFC 9457): `code` is for programs, `detail`
  and `hint` are for people. If a retry makes sense, `Retry-After` says when. Any call may be answered with
  400 `bad_request`, 401 `unauthorized`, 403 `forbidden`, 404 `not_found`, 405 `method_not_allowed`, 413 `too_large`,
  429 `too_many_requests` and 500 `internal_error`; each call lists its other errors.
- **Unknown parameters and members of a body are refused.** Only the front end's own `/api/…` and the
  pages ignore unknown parameters.
- **Answers may get more members**, and errors more codes, in later versions; none is renamed or removed.
- **Times** are RFC 3339 in UTC, to the millisecond. Durations are in seconds, sizes in bytes.
- **Streams** are server-sent events with a comment every 15 seconds. With `Last-Event-ID` a stream continues where it was cut off.
"""

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
    calls: dict[str, list[tuple[str, Node]]] = {tag["name"]: [] for tag in api["tags"]}
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            calls[operation["tags"][0]].append((f"{method.upper()} {path}", operation))
    titles = {tag["name"]: tag["x-displayName"] for tag in api["tags"]}
    sections = [
        "\n".join(
            [
                f"## {titles[tag]}",
                "",
                *("\n".join(_call(*one, api["components"]["schemas"])) for one in found),
            ]
        )
        for tag, found in calls.items()
    ]
    schemas = ["## Documents", ""]
    for name, schema in api["components"]["schemas"].items():
        schemas += [f"### {name} document", *_members(schema), ""]
    glance = ["## Calls at a glance", "", *_glance(titles, calls), ""]
    return "\n".join([_HEAD, *glance, _RULES, *sections, *schemas]).rstrip("\n") + "\n"


def _glance(titles: Mapping[str, str], calls: Mapping[str, list[tuple[str, Node]]]) -> Iterator[str]:
    """Yield a table of all calls."""
    yield from _table("Call", "What it does", "Of")
    for tag, found in calls.items():
        for call, operation in found:
            yield _row(
                f"[`{call}`](#{github(call, '-')})",
                operation["summary"],
                f"[{titles[tag]}](#{github(titles[tag], '-')})",
            )


def _call(call: str, operation: Node, schemas: Mapping[str, Node]) -> Iterator[str]:
    yield f"### `{call}`"
    yield operation["summary"]
    yield ""
    yield operation["description"]
    yield ""
    if parameters := operation.get("parameters"):
        yield from _table("Parameter", "In", "Value", "Meaning")
        for one in parameters:
            required = "" if one["required"] else " (optional)"
            yield _row(f"`{one['name']}`", f"{one['in']}{required}", said(one["schema"]), one["description"])
        yield ""
    if body := operation.get("requestBody"):
        content = body["content"]["application/json"]
        yield f"Body{'' if body['required'] else ' (optional)'}:"
        yield ""
        yield from _members(resolved(content["schema"], schemas))
        yield ""
        yield f"    {json.dumps(content['example'], ensure_ascii=False)}"
        yield ""
    yield from _table("Status", "Answer", "Content")
    errors = []
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        if set(content) == {"application/problem+json"}:
            errors += [f"{status} {code}" for code in re.findall("`[a-z_]+`", response["description"])]
            continue
        shown_as = [
            f"{media}: {said(of['schema'])}"
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
    yield from (_row(*member) for member in members(schema))


def _table(*titles: str) -> Iterator[str]:
    yield _row(*titles)
    yield f"|{'---|' * len(titles)}"


def _row(*cells: str) -> str:
    plain = (re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(plain)} |"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
