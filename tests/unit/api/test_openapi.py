"""The contract: it describes every route, and every schema in it is one."""

import re
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
from contract import document
from support import access_for

from waportd.api.operations import Operation, Scope
from waportd.api.server import make_app, operations

sys.path.insert(0, str(Path(__file__).parents[3] / "tools"))

import authorization

ROOT = Path(__file__).parents[3]


def test_who_may_call_each_operation_stands_in_the_table_that_is_tried():
    told = {row.partition(",")[0] for row in authorization.API.rows}
    assert told == {f"{operation.method} {operation.path}" for operation in operations()}


async def test_every_route_is_an_operation_of_the_document(supervisor):
    for route in make_app(supervisor, access_for()).router.routes():
        if route.method != "HEAD":
            operation = route.handler.__self__
            assert isinstance(operation, Operation), route
            assert route.method.lower() in document()["paths"][operation.path]


def test_no_two_operations_have_one_id():
    ids = [one["operationId"] for path in document()["paths"].values() for one in path.values()]
    assert len(ids) == len(set(ids)) == len(operations())


def test_exceptions_of_the_contract_tests_are_of_calls_that_there_are():
    config = tomllib.loads((ROOT / "tests/contract/schemathesis.toml").read_text())
    named = {name for one in config["operations"] for name in one.get("include-operation-id", ())}
    assert named
    assert named <= {one["operationId"] for path in document()["paths"].values() for one in path.values()}


@pytest.mark.parametrize(
    "operation", operations(), ids=lambda operation: f"{operation.method} {operation.path}"
)
class TestOperation:
    def test_it_is_described_in_words(self, operation):
        summary, _ = operation.words
        assert re.fullmatch(r"[A-Z].*\.", summary)
        assert len(summary) < 100
        assert all(parameter.doc for parameter in operation.parameters)
        assert all(answer.description for answer in operation.answers.values())

    def test_what_its_path_holds_is_described(self, operation):
        described = {one.name for one in operation.parameters if one.place == "path"}
        assert described == set(re.findall(r"{(\w+)", operation.path))

    def test_a_wait_is_a_state_and_a_timeout_is_seconds(self, operation):
        types = {one.name: one.kind.schema["type"] for one in operation.parameters}
        assert types.get("wait", "string") == "string"
        assert types.get("timeout", "number") in {"number", "integer"}

    def test_whoever_has_a_token_of_one_user_is_asked_which(self, operation):
        if operation.scope in {Scope.USER, Scope.LINK}:
            assert {"user", "user_id"} & {one.name for one in operation.parameters}

    def test_a_call_that_changes_something_refuses_a_body_it_would_not_read(self, operation):
        assert (operation.method == "GET") == (operation.body is None)


def test_every_schema_is_one():
    def schemas(node):
        if isinstance(node, dict):
            if "schema" in node:
                yield node["schema"]
            for value in node.values():
                yield from schemas(value)
        elif isinstance(node, list):
            for value in node:
                yield from schemas(value)

    found = [*schemas(document()["paths"]), *document()["components"]["schemas"].values()]
    assert len(found) > 20
    for schema in found:
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_the_document_is_served(api):
    async with api.get("/openapi.json") as answer:
        assert answer.status == 200
        assert await answer.json() == document()


async def test_whoever_asks_again_and_again_costs_nothing(api, monkeypatch):
    async with api.get("/openapi.json") as answer:
        first = await answer.read()
    monkeypatch.setattr("waportd.api.openapi.document", None)
    async with api.get("/openapi.json") as answer:
        assert await answer.read() == first
