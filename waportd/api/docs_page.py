"""``/docs``: the calls of this API, as a page for developers, from memory.

It is made of the OpenAPI document, without a script and without anything from another host.
"""

import functools
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from aiohttp import web

from waportd.api import openapi, pages
from waportd.api.json_schema import text
from waportd.api.operations import Answer, Operation, Scope
from waportd.api.schema_words import anchor, members, resolved, said

_Node = Mapping[str, Any]

_POLICY: Final = (
    "; ".join(f"{kind} 'none'" for kind in ("default-src", "base-uri", "form-action", "frame-ancestors"))
    + "; style-src 'self'; img-src 'self'"
)
"""No script, nothing from other sites, nothing inline."""
_INLINE: Final = (
    (re.compile(r"`([^`]+)`"), r"<code>\1</code>"),
    (re.compile(r"\*\*([^*]+)\*\*"), r"<strong>\1</strong>"),
    (re.compile(r"\[([^\]]+)\]\((#[a-z0-9-]+)\)"), r'<a href="\2">\1</a>'),
)
_PROBLEM: Final = "application/problem+json"


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    answers = {
        200: Answer("the page", others={"text/html": text()}),
        304: pages.UNCHANGED,
    }
    return [Operation("GET", "/docs", show, Scope.PUBLIC, answers, (pages.KNOWN,), lenient=True)]


async def show(request: web.Request) -> web.Response:
    """Show this API to people.

    The page is `GET /openapi.json` in words: all calls with what they take, what they answer, and examples.
    """
    response = pages.respond(request, "text/html", _page(tuple(request.app["operations"])))
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@functools.lru_cache(1)
def _page(operations: tuple[Operation, ...]) -> bytes:
    """Return the page. Cached: it takes 20 ms to make, and anyone may ask for it."""
    return written(openapi.document(operations)).encode()


def written(api: _Node) -> str:
    """Return an OpenAPI document as a page."""
    calls: dict[str, list[tuple[str, str, _Node]]] = {}
    for path, methods in api["paths"].items():
        for method, call in methods.items():
            calls.setdefault(call["tags"][0], []).append((method.upper(), path, call))
    tags = [(tag, calls[tag["name"]]) for tag in api["tags"]]
    schemas = api["components"]["schemas"]
    return "\n".join(
        [
            _HEAD,
            f"<p class=version>Version {_safe(api['info']['version'])}, OpenAPI {_safe(api['openapi'])}</p>",
            '<p>For generators of clients and for tests: <a href="openapi.json">openapi.json</a></p>',
            *_prose(api["info"]["description"]),
            "<h2 id=where>Where it is</h2>",
            *_table(
                ("Server", "Meaning"), ((f"`{one['url']}`", one["description"]) for one in api["servers"])
            ),
            "<h2 id=calls>Calls at a glance</h2>",
            *_overview(tags),
            *(line for tag, found in tags for line in _section(tag, found, schemas)),
            "<h2 id=documents>Documents</h2>",
            *(line for name, schema in schemas.items() for line in _document(name, schema)),
            "</main></body></html>",
        ]
    )


_HEAD: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>The API of waportd</title>
<link rel="icon" href="assets/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="assets/base.css">
<link rel="stylesheet" href="assets/docs.css">
</head>
<body>
<main>
<h1><img src="assets/icon.svg" alt="" width="26" height="26">The API of waportd</h1>"""


def _overview(tags: Iterable[tuple[_Node, list[tuple[str, str, _Node]]]]) -> Iterator[str]:
    yield "<nav>"
    for tag, found in tags:
        yield f'<h3><a href="#{_safe(tag["name"])}">{_safe(tag["x-displayName"])}</a></h3>'
        yield "<ul>"
        for method, path, call in found:
            yield (
                f'<li><a href="#{_safe(call["operationId"])}"><code>{_safe(f"{method} {path}")}</code></a> '
                f"{_inline(call['summary'])}</li>"
            )
        yield "</ul>"
    yield "</nav>"


def _section(
    tag: _Node, found: Iterable[tuple[str, str, _Node]], schemas: Mapping[str, _Node]
) -> Iterator[str]:
    yield f'<h2 id="{_safe(tag["name"])}">{_safe(tag["x-displayName"])}</h2>'
    yield from _prose(tag["description"])
    for method, path, call in found:
        yield f'<article id="{_safe(call["operationId"])}">'
        yield f'<h3><span class="method {method.lower()}">{method}</span> <code>{_safe(path)}</code></h3>'
        yield from _prose(f"**{call['summary']}**")
        yield from _prose(call["description"])
        yield from _call(call, schemas)
        yield "</article>"


def _call(call: _Node, schemas: Mapping[str, _Node]) -> Iterator[str]:
    if parameters := call.get("parameters"):
        yield from _table(
            ("Parameter", "In", "Value", "Meaning"),
            (
                (
                    f"`{one['name']}`",
                    one["in"] + ("" if one["required"] else " (optional)"),
                    said(one["schema"]),
                    one["description"],
                )
                for one in parameters
            ),
        )
    if body := call.get("requestBody"):
        yield f"<h4>Body{'' if body['required'] else ' (optional)'}</h4>"
        for media, content in body["content"].items():
            yield f"<p><code>{_safe(media)}</code></p>"
            yield from _table(("Member", "Value", "Meaning"), members(resolved(content["schema"], schemas)))
            yield from _example(content)
    yield "<h4>Answers</h4>"
    errors = []
    rows, shown = [], []
    for status, answer in call["responses"].items():
        content = answer.get("content", {})
        if set(content) == {_PROBLEM}:
            errors.append((status, answer["description"], said(content[_PROBLEM]["schema"])))
            continue
        forms = [f"`{media}`: {said(one['schema'])}" for media, one in content.items() if media != _PROBLEM]
        rows.append((status, answer["description"], "; ".join(forms) or "none"))
        shown += list(content.values())
    yield from _table(("Status", "Answer", "Content"), (*rows, *errors))
    # Those of 200 and of 201 are alike.
    for one in shown[:1]:
        yield from _example(one)


def _document(name: str, schema: _Node) -> Iterator[str]:
    yield f'<article id="{_safe(anchor(name))}"><h3>{_safe(name)}</h3>'
    yield from _table(("Member", "Value", "Meaning"), members(schema))
    yield from _example({"example": schema["examples"][0]} if "examples" in schema else {})
    yield "</article>"


def _example(content: _Node) -> Iterator[str]:
    if "example" in content:
        shown = json.dumps(content["example"], indent=2, ensure_ascii=False)
        yield f"<details><summary>Example</summary><pre>{_safe(shown)}</pre></details>"


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    lines = [f"<tr>{''.join(f'<td>{_inline(cell)}</td>' for cell in row)}</tr>" for row in rows]
    if lines:
        heads = "".join(f"<th>{_safe(title)}</th>" for title in titles)
        yield f"<div class=table><table><thead><tr>{heads}</tr></thead><tbody>"
        yield from lines
        yield "</tbody></table></div>"


def _prose(text: str) -> Iterator[str]:
    """Write paragraphs and lists of Markdown."""
    for part in text.strip().split("\n\n"):
        if part.startswith("- "):
            items = re.split(r"(?m)^- ", part)[1:]
            yield f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in items)}</ul>"
        else:
            yield f"<p>{_inline(part)}</p>"


def _inline(text: str) -> str:
    text = _safe(text)
    for pattern, markup in _INLINE:
        text = pattern.sub(markup, text)
    return text


def _safe(text: str) -> str:
    return html.escape(text)
