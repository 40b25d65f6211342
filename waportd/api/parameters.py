"""What callers may send: described once, and read by that description.

Anything that does not match its description is a BadRequest that says what is allowed.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar, cast

from aiohttp import web

from waportd.api.json_schema import nullable
from waportd.config import (
    DEFAULT_COUNTRY,
    ENGINE,
    IGNORE,
    MEMORY_MAX,
    PROXY,
    SEND_RATE,
    WEBHOOK_EVENTS,
    WEBHOOK_SECRET,
    WEBHOOK_URL,
)
from waportd.errors import BadRequest, TooSlow
from waportd.model import USER_PATTERN, Options, Port, User, is_user
from waportd.quotas import BODY_S
from waportd.readiness import Wait
from waportd.supervisor import Supervisor
from waportd.value_types import FLAG, Kind, Schema, choice, matching, number, seconds

T = TypeVar("T")

_READ = "waportd.read"
"""Where a request keeps its parsed values."""


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
    """Its value where it is missing; None is a value like any other."""
    required: bool = False
    example: str | None = None
    former: str | None = None
    """Its name in the previous release: still read, and not documented."""

    def of(self, request: web.Request) -> T:
        """Return the value, which was read before the handler was called."""
        return cast("T", request[_READ][self])

    def read(self, request: web.Request) -> T | None:
        """Read the value; raise BadRequest for one that is not allowed."""
        text = self.text(request)
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

    def text(self, request: web.Request) -> str | None:
        """Return the value as it was sent; raise BadRequest where it was sent twice."""
        if self.place == "path":
            return request.match_info[self.name]
        if self.place == "header":
            return request.headers.get(self.name)
        if not request.query_string:
            return None
        values = request.query.getall(self.name, [])
        if self.former is not None and self.former in request.query:
            if values:
                raise BadRequest(
                    f"{self.name} and {self.former} are both given", hint=f"leave {self.former} out"
                )
            values = request.query.getall(self.former)
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
    simple: tuple[Schema, ...] = ()
    """What people and generators of clients read where the exact schema is of no help to them: it is one of these."""

    @property
    def schema(self) -> Schema:
        """The member's values, as the API's description has them."""
        if not self.simple:
            return self.exact
        found = self.simple if not self.nullable else (*self.simple, {"type": "null"})
        return {"oneOf": list(found), "description": self.doc}

    @property
    def exact(self) -> Schema:
        """The member's values: all that are accepted, and no other."""
        schema = self.kind.schema
        return {**(nullable(schema) if self.nullable else schema), "description": self.doc}

    def read(self, value: object) -> Any:
        """Read the member; raise BadRequest for a value that is not allowed."""
        if value is None and self.nullable:
            return None
        try:
            if isinstance(value, float) and value.is_integer():
                value = int(value)  # JSON has one kind of number, and 1.0 is 1
            return self._value(value)
        except ValueError:
            allowed = f"null, or {self.kind.allowed}" if self.nullable else self.kind.allowed
            raise BadRequest(f"{self.name}: must be {allowed}") from None

    def _value(self, value: object) -> Any:
        """Return the parsed value; raise ValueError for one that is not allowed."""
        kind = self.kind
        if kind.item is None:
            return _scalar(kind, value)
        if kind.alone and isinstance(value, str):
            value = [value] if value else []
        if not isinstance(value, list):
            raise ValueError  # noqa: TRY004 - as each other check
        return kind.parse([_scalar(kind.item, item) for item in value])


def _scalar(kind: Kind, value: object) -> Any:
    """Return a parsed text, number or flag; raise ValueError for one that the kind's schema does not allow."""
    types, pattern = kind.schema["type"], kind.schema.get("pattern", "")
    if isinstance(value, str):
        if "string" not in types or not re.search(pattern, value):
            raise ValueError
    elif types == "string":
        raise ValueError
    return kind.parse(value if isinstance(value, str) else json.dumps(value))


@dataclass(frozen=True, eq=False)
class Body(Generic[T]):
    """The members that a JSON object in a request's body may have."""

    members: tuple[Member, ...] = ()
    example: str = "nothing"
    title: str = ""
    """The name of its description, where several calls take it or clients need a name for it."""
    goes_through: ClassVar[bool] = False
    """It is not read here, but as it is passed on."""

    @property
    def required(self) -> bool:
        """Whether there must be a body."""
        return any(member.required for member in self.members)

    @property
    def schema(self) -> Schema:
        """The object."""
        return {
            **({"title": self.title} if self.title else {}),
            "type": "object",
            "properties": {member.name: member.schema for member in self.members},
            "required": [member.name for member in self.members if member.required],
            "additionalProperties": False,
        }

    @property
    def content(self) -> Mapping[str, Schema]:
        """What may be sent, by its content type."""
        return {"application/json": self.schema} if self.members else {}

    @property
    def shown(self) -> object:
        """An example of the JSON."""
        return json.loads(self.example) if self.members else None

    def of(self, request: web.Request) -> T:
        """Return the members that were sent, read before the handler was called; None where there is no body."""
        return cast("T", request[_READ][self])

    async def read(self, request: web.Request) -> dict[str, Any] | None:
        """Read the body; raise BadRequest for one that is not allowed."""
        text = (await whole_body(request)).strip() if request.body_exists else b""
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


async def whole_body(request: web.Request) -> bytes:
    """Return the body; raise TooSlow, or BadRequest where the caller left meanwhile."""
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except ConnectionError:  # from aiohttp 3.9 on, which does not cancel the call
        raise BadRequest("the caller left before the body was there") from None
    except TimeoutError:
        raise TooSlow(f"the body did not arrive within {BODY_S:g} s", hint="send it in one go") from None


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
    "1 to 64 ASCII letters, digits and _ . @ -, beginning with a letter or digit: use your database id",
    _parse_user,
    schema={"type": "string", "pattern": f"^{USER_PATTERN}$"},
)

USER: Final = Parameter[User]("user", OF_USER, "The user of the server.", "path", required=True, example="2")
USER_ID: Final = Parameter[User]("user_id", OF_USER, "The user of the server.", required=True, example="1")
OF_HOST: Final = matching(
    "[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?",
    "the name of a host: a letter, then at most 62 of a-z, 0-9 and -, the last one no -",
)
HOST: Final = Parameter[str | None](
    "host",
    OF_HOST,
    "Only of the host with that name; `self` is the one that is asked.",
)
EXPIRES: Final = Parameter[str | None](
    "expires",
    Kind("a number", str),
    "When the connect link of this call ends; goes with `signature`.",
)
SIGNATURE: Final = Parameter[str | None](
    "signature", Kind("a signature", str), "The signature of the connect link of this call."
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
    "Seconds to wait at most; then the answer is a 504. By default 30, 90 for `qr`, 180 for `ready`.",
)

OPTIONS: Final = Body[Options | None](
    (
        Member(
            "webhook_url",
            WEBHOOK_URL,
            "Where this user's incoming messages are posted, of plain ASCII, without user name and password; empty for "
            "nowhere, null for `instances.webhook_url`.",
            nullable=True,
            simple=(
                {
                    "type": "string",
                    "format": "uri",
                    "maxLength": WEBHOOK_URL.schema["maxLength"],
                    "pattern": "^[Hh][Tt]{2}[Pp][Ss]?://",
                },
                {"type": "string", "maxLength": 0},
            ),
        ),
        Member(
            "webhook_secret",
            WEBHOOK_SECRET,
            "The secrets that sign them: one or two, such as `whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw`, empty for no "
            "signature, null for `instances.webhook_secret`.",
            nullable=True,
            simple=(
                {"type": "string", "pattern": WEBHOOK_SECRET.schema["pattern"]},
                {name: WEBHOOK_SECRET.schema[name] for name in ("items", "maxItems")} | {"type": "array"},
            ),
        ),
        Member(
            "webhook_events",
            WEBHOOK_EVENTS,
            "Which events go to this user's webhook; null for `instances.webhook_events`.",
            nullable=True,
        ),
        Member(
            "ignore",
            IGNORE,
            "Chats of this user that are ignored; null for `instances.ignore`.",
            nullable=True,
        ),
        Member(
            "default_country",
            DEFAULT_COUNTRY,
            "The calling code for numbers that are written without one; empty for none, null for "
            "`instances.default_country`.",
            nullable=True,
        ),
        Member(
            "send_rate",
            SEND_RATE,
            "The most messages that this user sends in a minute; 0 for no limit, null for `instances.send_rate`.",
            nullable=True,
        ),
        Member(
            "memory_max",
            MEMORY_MAX,
            "Bytes that the server with its browser may use, 134217728 at least, or a text such as `512M` or `1G`; 0 for "
            "no limit, null for `limits.memory_max`.",
            nullable=True,
            simple=(
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": "^[1-9][0-9]*[MG]$"},
            ),
        ),
        Member("autostart", FLAG, "Whether a linked session is started again at boot."),
        Member(
            "engine",
            ENGINE,
            "The version of whatsapp-web.js for the server's next start: `bundled`, or one that is installed "
            "(`waportctl engine list`); null for `instances.engine`.",
            nullable=True,
        ),
        Member(
            "proxy",
            PROXY,
            "The proxy of this user's browser to WhatsApp, such as `http://name:password@proxy:3128`; `none` "
            "for no proxy, `auto` for the one in the environment of the unit, null for `instances.proxy`.",
            nullable=True,
            simple=(
                {
                    "type": "string",
                    "maxLength": PROXY.schema["maxLength"],
                    "pattern": "^(auto|none|(https?|socks[45])://.+)$",
                },
            ),
        ),
    ),
    '{"webhook_url": "http://localhost:5002/webhook"}',
    "Options",
)
MOVE: Final = Body[dict[str, Any] | None](
    (
        Member(
            "port",
            number(1, 65535),
            "The port to move to; null for the one that a new user with this name would get. Not in a fleet.",
            nullable=True,
        ),
        Member("host", OF_HOST, "In a fleet, the host to move to."),
    ),
    '{"port": 5009}',
)
NO_BODY: Final = Body[None]()
