"""What callers may send: described once, and read by that description.

Whatever is not as it is described is a BadRequest that says what is allowed.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar, cast

from aiohttp import web

from waportd.config import ENGINE, MEMORY_MAX, WEBHOOK_URL
from waportd.errors import BadRequest, TooSlow
from waportd.kinds import FLAG, Kind, Schema, choice, number, seconds
from waportd.model import USER_PATTERN, Port, User, is_user
from waportd.quotas import BODY
from waportd.supervisor import Options, Supervisor, Wait

T = TypeVar("T")

_QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
_READ = "waportd.read"
"""Where a request keeps what was read of it."""


def supervisor_of(request: web.Request) -> Supervisor:
    """Return the application's supervisor."""
    supervisor: Supervisor = request.app["supervisor"]
    return supervisor


@dataclass(frozen=True, eq=False)
class Parameter(Generic[T]):
    """One value of a request's path, query or headers. An operation that lists it may ask for its value."""

    name: str
    kind: Kind
    doc: str
    place: Literal["path", "query", "header"] = "query"
    default: T | None = None
    """What it is where it is missing; None is a value like any other."""
    required: bool = False
    example: str | None = None

    def of(self, request: web.Request) -> T:
        """Return the value, which was read before the handler was called."""
        return cast("T", request[_READ][self])

    def read(self, request: web.Request) -> T | None:
        """Read the value; raise BadRequest for one that is not allowed."""
        text = self._text(request)
        if text is not None:
            try:
                return cast("T", self.kind.parse(text))
            except ValueError:
                raise BadRequest(
                    f"{self.name}={text!r:.80} is not valid", hint=f"{self.name} must be {self.kind.allowed}"
                ) from None
        if self.required:
            example = f": {request.path}?{self.name}={self.example}" if self.example else ""
            raise BadRequest(f"{self.name} is missing", hint=f"add it{example}")
        return self.default

    def _text(self, request: web.Request) -> str | None:
        if self.place == "path":
            return request.match_info[self.name]
        if self.place == "header":
            return request.headers.get(self.name)
        if not request.query_string:
            return None
        values = request.query.getall(self.name, [])
        if len(values) > 1:
            raise BadRequest(f"{self.name} is given {len(values)} times")
        return values[0] if values else None


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a body."""

    name: str
    kind: Kind
    doc: str
    required: bool = False
    nullable: bool = False
    """null is allowed, and stands for the default."""

    @property
    def schema(self) -> Schema:
        """The member's values."""
        schema = {**self.kind.schema, "description": self.doc}
        if self.nullable:
            return {"anyOf": [self.kind.schema, {"type": "null"}], "description": self.doc}
        return schema

    def read(self, value: object) -> Any:
        """Read the member; raise BadRequest for a value that is not allowed."""
        if value is None and self.nullable:
            return None
        try:
            if isinstance(value, float) and value.is_integer():
                value = int(value)  # JSON has one kind of number, and 1.0 is 1
            self._check_type(value)
            return self.kind.parse(value if isinstance(value, str) else json.dumps(value))
        except ValueError:
            allowed = f"null, or {self.kind.allowed}" if self.nullable else self.kind.allowed
            raise BadRequest(f"{self.name}: must be {allowed}") from None

    def _check_type(self, value: object) -> None:
        """Raise ValueError where text is no text of the schema, or is missing; numbers are for the kind to judge."""
        types, pattern = self.kind.schema["type"], self.kind.schema.get("pattern", "")
        if isinstance(value, str):
            if "string" not in types or not re.search(pattern, value):
                raise ValueError
        elif types == "string":
            raise ValueError


@dataclass(frozen=True, eq=False)
class Body(Generic[T]):
    """The members that a JSON object in a request's body may have."""

    members: tuple[Member, ...] = ()
    example: str = "nothing"

    @property
    def required(self) -> bool:
        """Whether there must be a body."""
        return any(member.required for member in self.members)

    @property
    def schema(self) -> Schema:
        """The object."""
        return {
            "type": "object",
            "properties": {member.name: member.schema for member in self.members},
            "required": [member.name for member in self.members if member.required],
            "additionalProperties": False,
        }

    def of(self, request: web.Request) -> T:
        """Return the members that were sent, read before the handler was called; None where there is no body."""
        return cast("T", request[_READ][self])

    async def read(self, request: web.Request) -> dict[str, Any] | None:
        """Read the body; raise BadRequest for one that is not allowed."""
        text = (await _whole_body(request)).strip() if request.body_exists else b""
        if not text and not self.required:
            return None
        hint = (
            f"send {self.example}"
            if self.required or not self.members
            else f"send {self.example}, or nothing"
        )
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise BadRequest("the body is not JSON", hint=hint) from None
        if not isinstance(document, dict):
            raise BadRequest("the body is not a JSON object", hint=hint)
        known = {member.name: member for member in self.members}
        for name in document:
            if name not in known:
                raise BadRequest(
                    f"unknown member {name!r:.80}", hint=f"allowed: {', '.join(known) or 'none'}"
                )
        for member in self.members:
            if member.required and member.name not in document:
                raise BadRequest(f"{member.name} is missing", hint=hint)
        return {name: known[name].read(value) for name, value in document.items()}


async def _whole_body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY):
            return await request.read()
    except TimeoutError:
        raise TooSlow(f"the body did not arrive within {BODY:g} s", hint="send it in one go") from None


def best_accepted(request: web.Request, offers: Mapping[T, str]) -> T:
    """Return which of the offered media types the Accept header likes best; of equals the first."""
    accepted = _accepted(",".join(request.headers.getall("Accept", [])))
    return max(offers, key=lambda offer: accepted(offers[offer]))


def _accepted(header: str) -> Callable[[str], float]:
    """Return how welcome a media type is: the quality of the range that fits it best (RFC 9110, section 12.5.1)."""
    ranges: dict[str, float] = {}
    for part in header.lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        ranges[name] = float(quality) if _QUALITY.fullmatch(quality) else 0.0

    def quality_of(media_type: str) -> float:
        fitting = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        return next((ranges[name] for name in fitting if name in ranges), 0.0)

    return quality_of


def read_parameters(request: web.Request, parameters: tuple[Parameter[Any], ...]) -> None:
    """Read what may be asked for with `Parameter.of`."""
    request[_READ] = {parameter: parameter.read(request) for parameter in parameters}


async def read_body(request: web.Request, body: Body[Any]) -> None:
    """Read what may be asked for with `Body.of`."""
    request[_READ][body] = await body.read(request)


def _parse_user(text: str) -> User:
    if not is_user(text):
        raise ValueError(text)
    return User(text)


OF_USER: Final = Kind(
    "1 to 64 letters, digits, '_', '.', '@' or '-', the first one a letter or digit",
    _parse_user,
    schema={"type": "string", "pattern": f"^{USER_PATTERN}$"},
)

USER: Final = Parameter[User]("user", OF_USER, "Whose server.", "path", required=True, example="2")
USER_ID: Final = Parameter[User]("user_id", OF_USER, "Whose server.", required=True, example="1")
EXPIRES: Final = Parameter[str | None](
    "expires",
    Kind("a number", str),
    "When the connect link ends that this call is part of; goes with `signature`.",
)
SIGNATURE: Final = Parameter[str | None](
    "signature", Kind("a signature", str), "The signature of the connect link that this call is part of."
)
PORT: Final = Parameter[Port]("port", number(1, 65535), "The TCP port.", "path", required=True)
WAIT: Final = Parameter[Wait](
    "wait",
    choice(Wait),
    "How far the server must have come before the answer: `none` answers at once, `listening` when the port "
    "answers, `qr` when there is a code to scan (or a phone is linked), `ready` when messages can be sent.",
    default=Wait.LISTENING,
)
TIMEOUT: Final = Parameter[float | None](
    "timeout",
    seconds(600),
    "Seconds to wait for that at most, then the answer is a 504. Without it: 30, 90 for `qr`, 180 for `ready`.",
)

OPTIONS: Final = Body[Options | None](
    (
        Member(
            "webhook_url",
            WEBHOOK_URL,
            "Where this user's incoming messages go; empty for nowhere, null for `instances.webhook_url`.",
            nullable=True,
        ),
        Member(
            "memory_max",
            MEMORY_MAX,
            "Bytes that the server with its browser may use, or a text such as `512M`; 0 for no limit, null for "
            "`limits.memory_max`.",
            nullable=True,
        ),
        Member("autostart", FLAG, "Whether a linked session is started again at boot."),
        Member(
            "engine",
            ENGINE,
            "Which version of whatsapp-web.js the server starts with next: `bundled`, or one that is installed "
            "(`waportctl engine list`); null for `instances.engine`.",
            nullable=True,
        ),
    ),
    '{"webhook_url": "http://…"}',
)
NO_BODY: Final = Body[None]()
