"""``/openapi.json``: the contract of this API, made from its operations."""

import functools
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from aiohttp import web

from waportd import __version__
from waportd.api import examples
from waportd.api.json_schema import BINARY, of
from waportd.api.operations import HOST_ERRORS, Answer, Operation, Scope
from waportd.api.parameters import EXPIRES, SIGNATURE, Parameter
from waportd.api.problems import FLEET_CODES, SERVERS_CODES, ProblemDocument
from waportd.errors import (
    BadRequest,
    Forbidden,
    LinkExpired,
    LinkInvalid,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    TooManyRequests,
    TooSlow,
    Unauthorized,
    WaportdError,
)
from waportd.value_types import Schema

_ABOUT = """\
A WhatsApp Web server for every user of a web app: link a phone, send and receive messages, see what is wrong.

- **Where**: on a unix socket, `/run/waportd/api.sock`, and over TCP where `api.listen` says. It is HTTP without TLS: for
  other hosts, put a reverse proxy in front.
- **Who may call**: on the unix socket anyone who may open it, over TCP a caller with `Authorization: Bearer TOKEN` or with
  a connect link. Each call says what it needs over TCP.
- **Errors** are `application/problem+json` (RFC 9457): `code` is for programs, `detail` and `hint` are for people. Where a
  retry makes sense, `Retry-After` says when.
- **Later versions** may answer with more members and more codes of errors. They rename and remove none.
"""
TITLES: Final = {
    "users": "Users",
    "qr": "QR codes",
    "pairing": "Pairing codes",
    "passkey": "Passkeys",
    "events": "Events",
    "messages": "Messages, chats and groups",
    "logs": "Logs",
    "changes": "Changes",
    "links": "Connect links",
    "ports": "Ports",
    "tokens": "Tokens",
    "caller": "The caller",
    "health": "Health",
    "history": "The last hours",
    "host": "Host",
    "hosts": "Hosts of the fleet",
    "metrics": "Metrics",
    "openapi": "This document",
    "docs_page": "The API, to read",
    "legacy": "The web front end's own shapes",
    "pages": "Pages",
}
"""The names of the tags, for people."""
_SERVERS: Final = [
    {
        "url": "http://{host}:{port}",
        "description": "Where `api.listen` says. The same is on the unix socket `/run/waportd/api.sock`, where no token "
        "is needed: `curl --unix-socket /run/waportd/api.sock http://localhost/v1/users`.",
        "variables": {
            "host": {
                "default": "localhost",
                "description": "An address of `api.listen`, or a reverse proxy.",
            },
            "port": {"default": "8080", "description": "Its port."},
        },
    },
    {"url": "/", "description": "Where this document comes from."},
]
_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of scope `admin`, or of the user that the call concerns. The unix socket needs none.",
    },
    "link_expires": {
        "type": "apiKey",
        "in": "query",
        "name": EXPIRES.name,
        "description": "When the connect link ends; together with `link_signature`.",
    },
    "link_signature": {
        "type": "apiKey",
        "in": "query",
        "name": SIGNATURE.name,
        "description": "The signature of a connect link; together with `link_expires`.",
    },
}
_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
# Both parts of a link are credentials, so both are schemes: in one requirement, they are needed together.
_TOKEN: Final[dict[str, list[str]]] = {"token": []}
_LINK: Final[dict[str, list[str]]] = {"link_expires": [], "link_signature": []}
_SECURITY: dict[Scope, list[dict[str, list[str]]]] = {
    Scope.PUBLIC: [],
    Scope.TOKEN: [_TOKEN],
    Scope.LINK: [_TOKEN, _LINK],
    Scope.USER: [_TOKEN],
    Scope.ADMIN: [_TOKEN],
}
_NEEDS: Final = {
    Scope.PUBLIC: "nothing",
    Scope.TOKEN: "any token",
    Scope.LINK: "a token or connect link of that user, or a token of scope `admin`",
    Scope.USER: "a token of that user, or of scope `admin`",
    Scope.ADMIN: "a token of scope `admin`",
}
_ALSO: Final = {Scope.READ: "`read`", Scope.METRICS: "`metrics`"}


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    return [
        Operation(
            "GET",
            "/openapi.json",
            show,
            Scope.PUBLIC,
            {200: Answer("the document", {"type": "object"})},
        )
    ]


async def show(request: web.Request) -> web.Response:
    """Show this document.

    It is in OpenAPI 3.1: a generator makes a client from it, and `GET /docs` shows it to people.
    """
    return web.Response(body=_written(tuple(request.app["operations"])), content_type="application/json")


@functools.lru_cache(1)
def _written(operations: tuple[Operation, ...]) -> bytes:
    """Return the document as bytes. Cached: it takes 10 ms to make, and anyone may ask for it."""
    return json.dumps(document(operations)).encode()


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """Describe the operations in OpenAPI 3.1."""
    operations = tuple(operations)
    problem = _problem(operations)
    components: dict[str, Schema] = {problem["title"]: problem}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        item = paths.setdefault(operation.path, {})
        item[operation.method.lower()] = _operation(operation)
    hoisted = _hoist(paths, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "waportd",
            "version": __version__,
            "summary": "A WhatsApp Web server for every user of a web app.",
            "description": _ABOUT,
            "contact": {"name": "The maintainers of waportd"},
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": _SERVERS,
        "tags": [_tag(module) for module in dict.fromkeys(one.handler.__module__ for one in operations)],
        "paths": hoisted,
        "components": {
            "securitySchemes": _SCHEMES,
            "schemas": {name: components[name] for name in sorted(components)},
        },
    }


def _tag(module: str) -> dict[str, str]:
    """Describe what the calls of a module are about, in the words of its docstring."""
    name = _resource(module)
    about = inspect.getdoc(sys.modules[module]) or ""
    summary = about.partition("\n\n")[0].partition(": ")[2]
    text = " ".join(summary.split()).replace("``", "`")
    return {"name": name, "x-displayName": TITLES[name], "description": f"{text[:1].upper()}{text[1:]}"}


def _resource(module: str) -> str:
    return module.rpartition(".")[2]


def _operation(operation: Operation) -> dict[str, Any]:
    summary, description = operation.words
    resource = _resource(operation.handler.__module__)
    item: dict[str, Any] = {
        "operationId": f"{resource}_{operation.handler.__name__}",
        "tags": [resource],
        "summary": summary,
        "description": "\n\n".join(filter(None, (description, f"Needs over TCP: {_needs(operation)}."))),
    }
    # A link is what authenticates, so it stands there.
    parameters = [_parameter(one) for one in operation.parameters]
    if parameters:
        item["parameters"] = parameters
    body = operation.body
    if body is not None and body.content:
        item["requestBody"] = {
            "required": body.required,
            "content": {
                media: _content(schema, body.shown if media == "application/json" else None)
                for media, schema in body.content.items()
            },
        }
    item["security"] = _SECURITY[operation.scope]
    responses = _errors(operation)
    for status, answer in operation.answers.items():
        described = _answer(answer)
        # Errors of the operation have their own shape; errors before it are problems all the same.
        if "content" in described:
            described["content"].update(responses.get(str(status), {}).get("content", {}))
        responses[str(status)] = described
    item["responses"] = dict(sorted(responses.items()))
    return item


def _needs(operation: Operation) -> str:
    """Return who may make a call over TCP, in words."""
    also = [word for scope, word in _ALSO.items() if scope in operation.also]
    return ", or ".join((_NEEDS[operation.scope], *also))


def _content(schema: Schema, example: object = None) -> dict[str, Any]:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _parameter(parameter: Parameter[Any]) -> dict[str, Any]:
    schema = dict(parameter.kind.schema)
    if parameter.default is not None and (isinstance(parameter.default, str) or schema["type"] != "string"):
        schema["default"] = parameter.default
    example = {} if parameter.example is None else {"example": parameter.example}
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.doc,
        "schema": schema,
        **example,
    }


def _answer(answer: Answer) -> dict[str, Any]:
    content = {} if answer.schema is None else {"application/json": _content(answer.schema, answer.example)}
    content |= {media: _content(schema or BINARY) for media, schema in (answer.others or {}).items()}
    response: dict[str, Any] = {"description": answer.description}
    if content:
        response["content"] = content
    if answer.headers:
        response["headers"] = {
            name: {"description": doc, "schema": {"type": "string"}} for name, doc in answer.headers.items()
        }
    return response


def _kinds(operation: Operation) -> list[type[WaportdError]]:
    """Return the errors that a call may be answered with."""
    kinds: list[type[WaportdError]] = [BadRequest, *operation.errors, WaportdError]
    if operation.scope is not Scope.PUBLIC:
        kinds += [Forbidden, Unauthorized, TooManyRequests]
    if operation.scope is Scope.LINK:
        kinds += [LinkInvalid, LinkExpired]
    if operation.whose is not None:
        kinds += HOST_ERRORS
    if operation.body is not None:
        kinds += [TooLarge, TooSlow]
    return kinds


def _errors(operation: Operation) -> dict[str, Any]:
    """Describe the errors, by status."""
    by_status: dict[int, list[type[WaportdError]]] = {}
    for kind in _kinds(operation):
        by_status.setdefault(kind.status, []).append(kind)
    described = {
        status: [f"{kind.title} (`{kind.code}`)" for kind in known] for status, known in by_status.items()
    }
    for status, about in operation.refusals.items():
        described.setdefault(status, []).append(about)
    return {
        str(status): {
            "description": "; ".join(words),
            "content": {"application/problem+json": {"schema": _PROBLEM}},
        }
        for status, words in described.items()
    }


def _problem(operations: Iterable[Operation]) -> Schema:
    """Describe a problem document, with all codes that there are."""
    schema = of(ProblemDocument)
    kinds = {kind for operation in operations for kind in _kinds(operation)} | {NotFound, MethodNotAllowed}
    codes = {found.code for kind in kinds for found in _refined(kind)} | SERVERS_CODES | FLEET_CODES
    members = {
        **schema["properties"],
        "code": {**schema["properties"]["code"], "enum": sorted(codes)},
    }
    return {**schema, "properties": members, "examples": [examples.PROBLEM]}


def _refined(kind: type[WaportdError]) -> Iterator[type[WaportdError]]:
    """Yield an error and all that are one. Of the base only itself: the rest of it never answers a call."""
    yield kind
    if kind is not WaportdError:
        for one in kind.__subclasses__():
            yield from _refined(one)


def _hoist(node: Any, components: dict[str, Schema]) -> Any:
    """Return the node with every record in the components' table and a reference in its place."""
    if isinstance(node, list):
        return [_hoist(item, components) for item in node]
    if not isinstance(node, Mapping):
        return node
    moved = {name: _hoist(value, components) for name, value in node.items()}
    title = node.get("title")
    if node.get("type") != "object" or not isinstance(title, str):
        return moved
    # Two kinds of documents must not take one name: clients would read one as the other.
    known = components.setdefault(title, moved)
    assert known == moved, title
    return {"$ref": f"#/components/schemas/{title}"}
