"""Holds real answers to what the OpenAPI document promises."""

import datetime as dt
import functools
import json

import jsonschema
from aiohttp import web

from waportd.api import openapi
from waportd.api.operations import Operation
from waportd.api.server import operations


@functools.cache
def document() -> dict:
    """Return the OpenAPI document as clients get it."""
    return json.loads(json.dumps(openapi.document(operations())))


FORMATS = jsonschema.FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def is_moment(value: object) -> bool:
    return not isinstance(value, str) or dt.datetime.fromisoformat(value).tzinfo is dt.UTC


def described(path: str, method: str, status: int) -> dict:
    """Return the content that the document promises of an answer; fail where it does not know the answer."""
    responses = document()["paths"][path][method.lower()]["responses"]
    assert str(status) in responses, f"{method} {path} answers {status}, which is not described"
    return responses[str(status)].get("content", {})


@functools.cache
def validator(path: str, method: str, status: int, media: str) -> jsonschema.Draft202012Validator:
    """Return what checks such an answer, and that it has no member that is not described."""
    content = described(path, method, status)
    assert media in content, f"{method} {path} answers {media}, which is not described"
    components = {name: closed(one) for name, one in document()["components"]["schemas"].items()}
    schema = {**closed(content[media]["schema"]), "components": {"schemas": components}}
    return jsonschema.Draft202012Validator(schema, format_checker=FORMATS)


def closed(schema):
    """Allow only the members that are named."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(one) for name, one in schema.items()}
    return {"additionalProperties": False, **inner} if isinstance(schema.get("properties"), dict) else inner


@web.middleware
async def keeps_its_word(request, handler):
    """Fail a test whose request is answered in another way than the document says."""
    response = await handler(request)
    operation = getattr(request.match_info.handler, "__self__", None)
    if isinstance(operation, Operation):
        where = operation.path, operation.method, response.status
        if not isinstance(response, web.Response):
            assert {response.content_type, "*/*"} & described(*where).keys(), (
                f"{where}: {response.content_type}"
            )
        elif response.body is None:
            assert not described(*where), f"{where} has no content, which is not described"
        elif response.content_type.endswith("json"):
            validator(*where, response.content_type).validate(json.loads(response.body))
        else:
            assert {response.content_type, "*/*"} & described(*where).keys(), (
                f"{where}: {response.content_type}"
            )
    return response
