"""JSON Schemas: made from the `Document` that an answer is, or written here where a user's server makes the answer.

A `Document` is the only place that names its members: `of` makes the JSON Schema from it, `members` the answer. What
a member means stands beside its type: ``port: Annotated[int, "The port."]``.
"""

import enum
import inspect
import types
from collections.abc import Collection, Mapping
from dataclasses import FrozenInstanceError, dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, dataclass_transform, get_args, get_origin

from waportd.value_types import Schema


@dataclass(frozen=True, eq=False)
class As:
    """Annotates a type with a schema that says more than the type."""

    schema: Schema


class Missing(enum.Enum):
    """The value of a member that the answer does not have."""

    MISSING = enum.auto()


MISSING: Final = Missing.MISSING
BINARY: Final[Schema] = {"type": "string", "format": "binary"}
"""Bytes, as generators of clients know them."""
Moment = Annotated[str, As({"type": "string", "format": "date-time"})]
"""A time: RFC 3339 in UTC."""
_TYPES: Final[Mapping[Any, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    None: "null",
}


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Document:
    """What an answer says about one thing.

    For its users it is a frozen dataclass, and mypy checks that each member is given. It generates no code on import,
    as `dataclass` does: that took 30 ms of each start. Its repr names no member,
    since some are secret.
    """

    _types: ClassVar[Mapping[str, Any]] = {}
    _optional: ClassVar[frozenset[str]] = frozenset()
    """Members that an answer may lack."""

    def __init_subclass__(cls) -> None:
        cls._types = {**cls._types, **inspect.get_annotations(cls)}
        cls._optional = frozenset(
            name for name, kind in cls._types.items() if Missing in get_args(_bare(kind))
        )

    def __init__(self, **members: Any) -> None:
        self.__dict__.update(members)

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(name)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]  # some members are mappings

    @classmethod
    def schema(cls) -> Schema:
        """Describe it."""
        described = {name: of(kind) for name, kind in cls._types.items()}
        return record(cls.__name__.removesuffix("Document"), optional=cls._optional, **described)

    @property
    def members(self) -> dict[str, Any]:
        """The members of the answer; nested documents stay as they are."""
        found = vars(self)
        if not self._optional:
            return found
        return {name: value for name, value in found.items() if value is not MISSING}


def members(document: Any) -> dict[str, Any]:
    """Return the members of a document, for `json.JSONEncoder(default=members)`; raise TypeError for anything else."""
    if isinstance(document, Document):
        return document.members
    raise TypeError(f"{type(document).__name__} is no document")


def of(kind: Any) -> Schema:
    """Describe a document, or the type of a member. Raises KeyError for a type that JSON does not have."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _noted(of(arguments[0]), arguments[1:])
    if origin is not None:
        return _composed(origin, arguments)
    if isinstance(kind, type) and issubclass(kind, Document):
        return kind.schema()
    if isinstance(kind, type) and issubclass(kind, enum.StrEnum):
        return words(kind)
    return {"type": _TYPES[kind]}


def _noted(schema: Schema, notes: tuple[As | str, ...]) -> Schema:
    for note in notes:
        schema = note.schema if isinstance(note, As) else _described(schema, note)
    return schema


def _composed(origin: Any, arguments: tuple[Any, ...]) -> Schema:
    if origin is Literal:
        return words(*arguments)
    if origin is tuple:
        return array(of(arguments[0]))
    if origin is Mapping:
        values = {} if arguments[1] is Any else {"additionalProperties": of(arguments[1])}
        return {"type": "object", **values}
    [one] = set(arguments) - {types.NoneType, Missing}
    return nullable(of(one)) if types.NoneType in arguments else of(one)


def _bare(kind: Any) -> Any:
    """Return a type without its annotations."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def record(title: str, /, *, optional: Collection[str] = (), **members: Schema) -> Schema:
    """Describe an object. Its title makes it a component of the OpenAPI document; members may be added later."""
    return {
        "title": title,
        "type": "object",
        "properties": members,
        "required": [name for name in members if name not in optional],
    }


def text(doc: str = "") -> Schema:
    """Describe a string."""
    return _described({"type": "string"}, doc)


def integer(doc: str = "") -> Schema:
    """Describe a whole number."""
    return _described({"type": "integer"}, doc)


def number(doc: str = "") -> Schema:
    """Describe a number."""
    return _described({"type": "number"}, doc)


def flag(doc: str = "") -> Schema:
    """Describe true or false."""
    return _described({"type": "boolean"}, doc)


def words(*choices: str | type[enum.StrEnum], doc: str = "") -> Schema:
    """Describe a string that is one of these."""
    known: list[str] = []
    for choice in choices:
        known += [choice] if isinstance(choice, str) else [str(one) for one in choice]
    return _described({"type": "string", "enum": known}, doc)


def array(items: Schema, doc: str = "") -> Schema:
    """Describe a list."""
    return _described({"type": "array", "items": items}, doc)


def event(name: str, data: Schema) -> Schema:
    """Describe a server-sent event whose data is JSON."""
    members = {
        "event": {"type": "string", "const": name},
        "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data},
        "id": text("What to send as Last-Event-ID to continue after this event."),
    }
    return {"type": "object", "properties": members, "required": ["event", "data"]}


def nullable(schema: Schema) -> Schema:
    """Allow null, too."""
    # Each other keyword but these holds for values of its own type only.
    if isinstance(schema.get("type"), str) and not {"enum", "const", "title"} & set(schema):
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def _described(schema: Schema, doc: str) -> Schema:
    return {**schema, "description": doc} if doc else schema
