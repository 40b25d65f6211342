"""A document: one dataclass from which both its description and the answer are made."""

import enum
import json
from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from typing import Annotated, Any, Literal

import jsonschema
import pytest

from waportd.api.documents import respond, written
from waportd.api.json_schema import MISSING, As, Document, Missing, Moment, members, of
from waportd.api.sse import frame


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(Document):
    text: str


class OuterDocument(Document):
    name: Annotated[str, "Its name."]
    inner: Inner
    others: Annotated[tuple[Inner, ...], "The others."]
    extra: Annotated[Inner | Missing, "More of it."] = MISSING
    note: str | Missing | None = MISSING


def outer(**more) -> OuterDocument:
    return OuterDocument(name="Zoë", inner=Inner(text="a"), others=(Inner(text="b"),), **more)


OUTER = outer()


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (Moment, {"type": "string", "format": "date-time"}),
        (Colour, {"type": "string", "enum": ["red", "blue"]}),
        (Literal["ok"], {"type": "string", "enum": ["ok"]}),
        (str | None, {"type": ["string", "null"]}),
        (Colour | None, {"anyOf": [{"type": "string", "enum": ["red", "blue"]}, {"type": "null"}]}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (Mapping[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Mapping[str, Any], {"type": "object"}),
        (Annotated[int, "How many."], {"type": "integer", "description": "How many."}),
        (Annotated[str, As({"const": "x"}), "It."], {"const": "x", "description": "It."}),
        (
            Annotated[Moment | None, "When."],
            {"type": ["string", "null"], "format": "date-time", "description": "When."},
        ),
    ],
)
def test_a_type_is_described(kind, schema):
    assert of(kind) == schema


@pytest.mark.parametrize("kind", [bytes, dict, object, "str"])
def test_what_json_does_not_have_is_an_error(kind):
    with pytest.raises(KeyError):
        of(kind)


def test_a_document_is_described_by_its_fields():
    schema = of(OuterDocument)
    assert (schema["title"], of(Inner)["title"]) == ("Outer", "Inner")
    assert list(schema["properties"]) == ["name", "inner", "others", "extra", "note"]
    assert schema["required"] == ["name", "inner", "others"]
    assert schema["properties"]["inner"] == of(Inner)
    assert schema["properties"]["name"]["description"] == "Its name."
    assert schema["properties"]["note"] == {"type": ["string", "null"]}


def test_an_answer_has_the_members_of_its_document_in_their_order():
    told = '{"name": "Zoë", "inner": {"text": "a"}, "others": [{"text": "b"}]}'
    assert written(OUTER) == respond(OUTER).body == respond(written(OUTER)).body == told.encode()
    assert frame("x", OUTER) == f"event: x\ndata: {told.replace(', ', ',').replace(': ', ':')}\n\n".encode()


def test_a_member_that_is_null_is_reported_and_one_that_is_missing_is_not():
    assert "note" not in members(OUTER)
    assert members(outer(note=None))["note"] is None


@pytest.mark.parametrize("change", [{}, {"note": None}, {"note": "x"}, {"extra": Inner(text="c")}])
def test_an_answer_is_what_the_description_says(change):
    jsonschema.validate(json.loads(written(outer(**change))), of(OuterDocument))


@pytest.mark.parametrize("value", [object(), {1}, b"bytes", OuterDocument])
def test_what_is_no_document_is_not_answered(value):
    with pytest.raises(TypeError):
        written([value])


def test_a_document_is_what_its_members_are_and_stays_so():
    assert outer() == OUTER != outer(note="x")
    assert Inner(text="a") != OuterDocument(text="a")
    assert outer(extra=MISSING).members == OUTER.members
    assert OUTER.extra is MISSING
    with pytest.raises(FrozenInstanceError):
        OUTER.name = "Ana"
    assert "Zoë" not in repr(OUTER)
