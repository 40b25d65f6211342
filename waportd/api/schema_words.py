"""What a value may be, said in words: a JSON Schema as a few words of Markdown, for the pages that people read."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Node = Mapping[str, Any]

_FORMATS: Final = {"date-time": "time", "binary": "bytes", "uri": "URL"}


def anchor(name: str) -> str:
    """Return the fragment of a document's description."""
    return f"{name.lower()}-document"


def resolved(schema: Node, schemas: Mapping[str, Node]) -> Node:
    """Return the document that a reference names; anything else as it is."""
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def said(schema: Node) -> str:
    """Return the words for what a value may be."""
    for keyword, describe in _BY_KEYWORD.items():
        if keyword in schema:
            return describe(schema)
    types = schema.get("type", "anything")
    # Of what is allowed for no value: each keyword holds for its own type.
    words = " or ".join(_typed(one, schema) for one in ([types] if isinstance(types, str) else types))
    if schema.get("default") is not None:
        words += f", by default `{str(schema['default']).lower()}`"
    return words


def members(schema: Node) -> Iterator[tuple[str, str, str]]:
    """Yield each member of an object: its name, what it may be, and what it means."""
    for name, member in schema.get("properties", {}).items():
        mark = "" if name in schema.get("required", ()) else " (optional)"
        yield f"`{name}`{mark}", said(member), member.get("description", "")


def _typed(name: str, schema: Node) -> str:
    if name == "array" and "items" in schema:
        return f"list of {said(schema['items'])}"
    if name in {"integer", "number"} and "maximum" in schema:
        return f"{name} from {schema['minimum']} to {schema['maximum']}"
    if name == "string" and schema.get("maxLength") == 0:
        return "empty string"
    if name == "string":
        return _FORMATS.get(schema.get("format", ""), name)
    return name


def _reference(schema: Node) -> str:
    name = schema["$ref"].rpartition("/")[2]
    return f"[{name}](#{anchor(name)})"


def _event(schema: Node) -> str:
    found = schema["properties"]
    if {"event", "data"} <= set(found):
        return f"event {said(found['event'])} with {said(found['data'])}"
    return "object"


def _one_of(keyword: str) -> Callable[[Node], str]:
    return lambda schema: " or ".join(dict.fromkeys(map(said, schema[keyword])))


_BY_KEYWORD: Final[dict[str, Callable[[Node], str]]] = {
    "$ref": _reference,
    "contentSchema": lambda schema: said(schema["contentSchema"]),
    "const": lambda schema: f"`{schema['const']}`",
    "enum": lambda schema: ", ".join(f"`{one}`" for one in schema["enum"]),
    "properties": _event,
    "anyOf": _one_of("anyOf"),
    "oneOf": _one_of("oneOf"),
}
