"""``/v1/tokens``: who may call over TCP."""

import re
from typing import Any, NotRequired, TypedDict

from aiohttp import web

from waportd.api.access import access_of
from waportd.api.operations import READERS, Answer, Operation, Scope
from waportd.api.representation import respond, timestamp
from waportd.api.requests import NO_BODY, Body, Member, Parameter
from waportd.api.schemas import array, moment, nullable, record, text
from waportd.config import has_control_characters
from waportd.errors import Conflict, StoreError, UnknownToken
from waportd.kinds import Kind as ValueKind
from waportd.kinds import matching, number
from waportd.model import USER_PATTERN, User
from waportd.tokens import Kind, Token

_WHOLE = tuple(kind for kind in Kind if kind is not Kind.USER)
_MEMBERS = {
    "id": text("Names the token; no secret."),
    "name": text("What it is for, as whoever made it put it."),
    "scope": text("`admin`, `read`, `metrics`, or `user:` and the user whose calls it is good for."),
    "created_at": moment("When it was made."),
    "last_used_at": nullable(moment("When it was used last, to the minute; null for never.")),
    "expires_at": nullable(moment("When it ends by itself; null for never.")),
}
_TOKEN = record("Token", **_MEMBERS)
_NEW_TOKEN = record("NewToken", token=text("The token. A secret, shown here and never again."), **_MEMBERS)


_LONGEST = 10 * 366 * 86_400


class _Wish(TypedDict):
    name: str
    scope: User | Kind
    ttl: NotRequired[int]


def _scope(scope: str) -> User | Kind:
    if scope in _WHOLE:
        return Kind(scope)
    if not re.fullmatch(f"user:{USER_PATTERN}", scope):
        raise ValueError(scope)
    return User(scope.removeprefix("user:"))


def _name(name: str) -> str:
    if not 1 <= len(name) <= 64 or has_control_characters(name):  # noqa: PLR2004
        raise ValueError(name)
    return name


# The pattern leaves lone surrogates to us: no JSON that is valid UTF-8 has them.
_NAME = ValueKind(
    "1 to 64 characters on one line",
    _name,
    schema={"type": "string", "pattern": r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,64}$"},
)
_WISH = Body[_Wish](
    (
        Member(
            "name",
            _NAME,
            "What it is for.",
            required=True,
        ),
        Member(
            "scope",
            ValueKind(
                "admin, read, metrics, or user: and a user",
                _scope,
                schema={"type": "string", "pattern": f"^(?:{'|'.join(_WHOLE)}|user:{USER_PATTERN})$"},
            ),
            "`admin` for all calls, `user:2` for those that concern user 2 only, `read` for all documents without codes "
            "and without changes, `metrics` for metrics and health.",
            required=True,
        ),
        Member("ttl", number(60, _LONGEST), "Seconds after which it ends by itself; without it never."),
    ),
    '{"name": "web app", "scope": "admin"}',
)
_ID = Parameter[str](
    "id", matching("[0-9a-f]{12}", "12 hexadecimal digits"), "Which token.", "path", required=True
)


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    listed = Answer("all tokens, the oldest first", record("Tokens", tokens=array(_TOKEN)))
    created = Answer("the token", _NEW_TOKEN)
    return [
        Operation("GET", "/v1/tokens", index, Scope.ADMIN, {200: listed}, also=READERS),
        Operation(
            "POST",
            "/v1/tokens",
            create,
            Scope.ADMIN,
            {201: created},
            body=_WISH,
            errors=(Conflict, StoreError),
        ),
        Operation(
            "DELETE",
            "/v1/tokens/{id}",
            delete,
            Scope.ADMIN,
            {204: Answer("the token is no more")},
            (_ID,),
            NO_BODY,
            errors=(UnknownToken, StoreError),
        ),
    ]


async def index(request: web.Request) -> web.Response:
    """List the tokens that open the API over TCP, without what is secret of them."""
    return respond({"tokens": [_shown(token) for token in access_of(request).tokens]})


async def create(request: web.Request) -> web.Response:
    """Make a token. The answer is the only place where it is ever shown."""
    wish = _WISH.of(request)
    scope = wish["scope"]
    user, kind = (None, scope) if isinstance(scope, Kind) else (scope, None)
    token, secret = await access_of(request).tokens.create(wish["name"], user, kind, wish.get("ttl"))
    return respond({**_shown(token), "token": secret}, 201)


async def delete(request: web.Request) -> web.Response:
    """Delete a token: it opens nothing any more, and streams that it opened end."""
    await access_of(request).tokens.revoke(_ID.of(request))
    return web.Response(status=204)


def _shown(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "scope": str(token.kind) if token.user is None else f"user:{token.user}",
        "created_at": timestamp(token.created_at),
        "last_used_at": timestamp(token.last_used_at),
        "expires_at": timestamp(token.expires_at),
    }
