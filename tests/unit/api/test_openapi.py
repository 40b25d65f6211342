"""The contract: it describes every route, and every schema in it is one."""

import re
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
from contract import FORMATS, closed, document
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


def calls():
    return [one for path in document()["paths"].values() for one in path.values()]


def test_the_ids_of_operations_stay_since_generated_clients_are_called_by_them():
    known = (Path(__file__).parent / "operation_ids.txt").read_text().split()
    assert [one["operationId"] for one in calls()] == known
    assert all(re.fullmatch("[a-z_]+", name) for name in known)


def test_each_tag_is_described_and_has_a_title():
    tags = document()["tags"]
    assert {one["name"] for one in tags} == {one["tags"][0] for one in calls()}
    for one in tags:
        assert re.fullmatch(r"[A-Z`].*\.", one["description"]), one
        assert one["x-displayName"]


def test_each_operation_says_more_than_its_summary_and_who_may_call_it():
    for one in calls():
        more, _, needs = one["description"].rpartition("Needs over TCP: ")
        assert len(more) > 15, one["operationId"]
        assert needs.endswith(".")


def test_security_requirements_name_schemes_and_both_parts_of_a_link_together():
    schemes = document()["components"]["securitySchemes"]
    requirements = [requirement for one in calls() for requirement in one["security"]]
    assert all(set(one) <= set(schemes) and not any(one.values()) for one in requirements)
    assert {"link_expires": [], "link_signature": []} in requirements
    assert all(("link_expires" in one) == ("link_signature" in one) for one in requirements)
    assert not any(
        parameter["name"] in {"expires", "signature"}
        for one in calls()
        for parameter in one.get("parameters", ())
    )


def test_a_default_is_a_value_of_its_type():
    for one in calls():
        for parameter in one.get("parameters", ()):
            schema = parameter["schema"]
            if "default" in schema:
                jsonschema.validate(schema["default"], schema)


def test_every_example_is_as_described():
    components = {name: closed(one) for name, one in document()["components"]["schemas"].items()}

    def check(content):
        if "example" not in content:
            return 0
        schema = {**closed(content["schema"]), "components": {"schemas": components}}
        jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(content["example"])
        return 1

    found = 0
    for one in calls():
        for holder in (one.get("requestBody", {}), *one["responses"].values()):
            found += sum(map(check, holder.get("content", {}).values()))
    assert found > 30
    problem = document()["components"]["schemas"]["Problem"]
    jsonschema.validate(problem["examples"][0], problem)


def test_each_body_of_json_has_an_example():
    for one in calls():
        for media, content in one.get("requestBody", {}).get("content", {}).items():
            assert media != "application/json" or "example" in content, one["operationId"]


def test_every_form_of_an_answer_has_a_schema():
    for one in calls():
        for answer in one["responses"].values():
            for media, content in answer.get("content", {}).items():
                assert content["schema"], (one["operationId"], media)


def test_a_problem_s_code_is_one_of_those_that_there_are():
    code = document()["components"]["schemas"]["Problem"]["properties"]["code"]
    assert {"unknown_user", "not_found", "port_held", "bus_lost", "passkey_given", "key_reused"} < set(
        code["enum"]
    )
    assert "that you do not know" in code["description"]


def test_codes_with_which_a_server_refuses_a_call_are_among_them():
    codes = set(document()["components"]["schemas"]["Problem"]["properties"]["code"]["enum"])
    text = (ROOT / "docs/server.md").read_text()
    rows = re.findall(r"(?m)^\| \d{3} \| ((?:`[a-z_]+`(?:, )?)+) \|", text)
    named = {code for row in rows for code in re.findall(r"[a-z_]+", row)}
    translated = {"bad_phone", "pairing_timeout"}  # into errors of the API
    assert len(named) > 20
    assert named - translated <= codes


def test_no_pattern_of_a_body_is_longer_than_a_person_reads():
    def patterns(node):
        if isinstance(node, dict):
            if isinstance(node.get("pattern"), str):
                yield node["pattern"]
            node = list(node.values())
        if isinstance(node, list):
            for one in node:
                yield from patterns(one)

    schemas = document()["components"]["schemas"]
    bodies = [one["requestBody"] for one in calls() if "requestBody" in one] + [schemas["Options"]]
    assert max(map(len, patterns(bodies))) < 250


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("memory_max", [0, 134217728, "512M", "1G", None], [True, "512K", 1.5]),
        ("webhook_url", ["http://localhost:5002/webhook", "HTTPS://[::1]/a?b", "", None], ["ftp://a", 1]),
        ("proxy", ["auto", "none", "http://a:b@c:3128", "socks5://c:1", None], ["direct"]),
        ("webhook_secret", [f"whsec_{'A' * 32}", [f"whsec_{'A' * 32}"], "", None], ["secret", ["a"]]),
    ],
)
def test_an_option_is_described_as_a_union_that_generators_understand(name, allowed, refused):
    schema = document()["components"]["schemas"]["Options"]["properties"][name]
    assert set(schema) == {"oneOf", "description"}
    assert all(isinstance(one["type"], str) for one in schema["oneOf"])
    check = jsonschema.Draft202012Validator(schema)
    assert [value for value in allowed if not check.is_valid(value)] == []
    assert [value for value in refused if check.is_valid(value)] == []


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

    def test_who_has_a_token_of_one_user_is_asked_which(self, operation):
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


async def test_who_asks_again_and_again_costs_nothing(api, monkeypatch):
    async with api.get("/openapi.json") as answer:
        first = await answer.read()
    monkeypatch.setattr("waportd.api.openapi.document", None)
    async with api.get("/openapi.json") as answer:
        assert await answer.read() == first
