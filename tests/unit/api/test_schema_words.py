"""What a value may be, in words."""

import pytest

from waportd.api.schema_words import said


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, "anything"),
        ({"type": "string"}, "string"),
        ({"type": ["string", "null"], "format": "date-time"}, "time or null"),
        ({"type": "string", "format": "binary"}, "bytes"),
        (
            {"type": "integer", "minimum": 1, "maximum": 9, "default": 5},
            "integer from 1 to 9, by default `5`",
        ),
        ({"type": ["integer", "null"], "minimum": 1, "maximum": 9}, "integer from 1 to 9 or null"),
        ({"type": "string", "maxLength": 0}, "empty string"),
        ({"type": "boolean", "default": False}, "boolean, by default `false`"),
        ({"type": "array", "items": {"type": "string"}}, "list of string"),
        ({"type": ["array", "null"], "items": {"enum": ["a", "b"]}}, "list of `a`, `b` or null"),
        ({"oneOf": [{"type": "string"}, {"type": "string"}, {"type": "null"}]}, "string or null"),
        (
            {"anyOf": [{"$ref": "#/components/schemas/User"}, {"type": "null"}]},
            "[User](#user-document) or null",
        ),
        ({"const": "a"}, "`a`"),
        ({"type": "object", "properties": {"a": {}}}, "object"),
    ],
)
def test_a_schema_is_said_in_words(schema, words):
    assert said(schema) == words
