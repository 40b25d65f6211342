"""``/openapi.json``: the contract of this API, made from its operations."""

import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from waportd import __version__
from waportd.api.json_schema import of
from waportd.api.operations import Answer, Operation, Scope
from waportd.api.parameters import SIGNATURE, Parameter
from waportd.api.problems import ProblemDocument
from waportd.errors import (
    BadRequest,
    Forbidden,
    LinkExpired,
    LinkInvalid,
    TooLarge,
    TooManyRequests,
    TooSlow,
    Unauthorized,
    WaportdError,
)
from waportd.value_types import Schema

_PROBLEM = of(ProblemDocument)
_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of scope `admin`, or of the user that the call concerns. The unix socket needs none.",
    },
    "link": {
        "type": "apiKey",
        "in": "query",
        "name": SIGNATURE.name,
        "description": "The signature of a connect link; goes with `expires`.",
    },
}
_SECURITY: dict[Scope, list[dict[str, list[str]]]] = {
    Scope.PUBLIC: [],
    Scope.LINK: [{"token": ["user"]}, {"link": []}],
    Scope.USER: [{"token": ["user"]}],
    Scope.ADMIN: [{"token": ["admin"]}],
}
"""The roles are the least scope that a token has to have."""


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
    """Show this document."""
    return web.Response(body=_written(tuple(request.app["operations"])), content_type="application/json")


@functools.lru_cache(1)
def _written(operations: tuple[Operation, ...]) -> bytes:
    """Return the document as bytes. Cached: it takes 10 ms to make, and anyone may ask for it."""
    return json.dumps(document(operations)).encode()


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """Describe the operations in OpenAPI 3.1."""
    components: dict[str, Schema] = {}
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
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The unix socket, or where `api.listen` says."}],
        "paths": hoisted,
        "components": {
            "securitySchemes": _SCHEMES,
            "schemas": {name: components[name] for name in sorted(components)},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    summary, description = operation.words
    resource = operation.handler.__module__.rpartition(".")[2]
    item: dict[str, Any] = {
        "operationId": f"{resource}.{operation.handler.__name__}",
        "tags": [resource],
        "summary": summary,
    }
    if description:
        item["description"] = description
    # The signature is what authenticates, so it stands there.
    parameters = [_parameter(one) for one in operation.described if one is not SIGNATURE]
    if parameters:
        item["parameters"] = parameters
    body = operation.body
    if body is not None and body.content:
        item["requestBody"] = {
            "required": body.required,
            "content": {media: {"schema": schema} for media, schema in body.content.items()},
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


def _parameter(parameter: Parameter[Any]) -> dict[str, Any]:
    schema = dict(parameter.kind.schema)
    if parameter.default is not None:
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
    content = {} if answer.schema is None else {"application/json": {"schema": answer.schema}}
    for media, schema in (answer.others or {}).items():
        content[media] = {"schema": schema} if schema else {}
    response: dict[str, Any] = {"description": answer.description}
    if content:
        response["content"] = content
    if answer.headers:
        response["headers"] = {
            name: {"description": doc, "schema": {"type": "string"}} for name, doc in answer.headers.items()
        }
    return response


def _errors(operation: Operation) -> dict[str, Any]:
    """Describe the errors, by status."""
    kinds: list[type[WaportdError]] = [BadRequest, *operation.errors, WaportdError]
    if operation.scope is not Scope.PUBLIC:
        kinds += [Forbidden, Unauthorized, TooManyRequests]
    if operation.scope is Scope.LINK:
        kinds += [LinkInvalid, LinkExpired]
    if operation.body is not None:
        kinds += [TooLarge, TooSlow]
    by_status: dict[int, list[type[WaportdError]]] = {}
    for kind in kinds:
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
    components[title] = moved
    return {"$ref": f"#/components/schemas/{title}"}
