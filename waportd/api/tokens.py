"""``/v1/tokens``: who may call over TCP."""

import re
from typing import Annotated, NotRequired, TypedDict

from aiohttp import web

from waportd.api import examples
from waportd.api.access import access_of
from waportd.api.documents import moment, respond, timestamp
from waportd.api.json_schema import Document, Moment, of
from waportd.api.operations import ALL_HOSTS, READERS, Answer, Operation, Scope
from waportd.api.parameters import NO_BODY, Body, Member, Parameter
from waportd.config import has_control_characters
from waportd.errors import Conflict, StoreError, UnknownToken
from waportd.model import USER_PATTERN, User
from waportd.tokens import Kind, Token
from waportd.value_types import Kind as ValueKind
from waportd.value_types import matching, number

_WHOLE = tuple(kind for kind in Kind if kind is not Kind.USER)
_MAX_TTL_S = 10 * 366 * 86_400


class TokenDocument(Document):
    """A token, without its secret."""

    id: Annotated[str, "The id of the token; not a secret."]
    name: Annotated[str, "What it is for, in its creator's words."]
    scope: Annotated[str, "`admin`, `read`, `metrics`, or `user:` and the user whose calls it allows."]
    created_at: Annotated[Moment, "When it was made."]
    last_used_at: Annotated[
        Moment | None,
        "When it was last used, to the minute, on another host of a fleet to ten minutes; null for never.",
    ]
    expires_at: Annotated[Moment | None, "When it expires; null for never."]


class NewToken(TokenDocument):
    """A token that was just made. Holds a secret."""

    token: Annotated[str, "The token. A secret, shown here and never again."]


class TokensDocument(Document):
    """All tokens."""

    tokens: tuple[TokenDocument, ...]


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


# The pattern does not exclude lone surrogates: no JSON that is valid UTF-8 has them.
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
            "`admin` for all calls, `user:2` for those about user 2 only, `read` for all documents, but no codes "
            "and no changes, `metrics` for metrics and health.",
            required=True,
        ),
        Member("ttl", number(60, _MAX_TTL_S), "Seconds after which it expires; never by default."),
    ),
    '{"name": "web app", "scope": "admin"}',
)
_ID = Parameter[str](
    "id", matching("[0-9a-f]{12}", "12 hexadecimal digits"), "The id of the token.", "path", required=True
)


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    listed = Answer("all tokens, the oldest first", of(TokensDocument), example={"tokens": [examples.TOKEN]})
    created = Answer(
        "the token", of(NewToken), example={**examples.TOKEN, "token": "waportd_0123456789ab_3q2-7w"}
    )
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
            refusals=ALL_HOSTS,
        ),
        Operation(
            "DELETE",
            "/v1/tokens/{id}",
            delete,
            Scope.ADMIN,
            {204: Answer("the token is deleted")},
            (_ID,),
            NO_BODY,
            errors=(UnknownToken, StoreError),
            refusals=ALL_HOSTS,
        ),
    ]


async def index(request: web.Request) -> web.Response:
    """List the tokens for the API over TCP, without their secrets.

    What each is for, what it allows, and when it was last used.
    """
    return respond(TokensDocument(tokens=tuple(map(_shown, access_of(request).tokens))))


async def create(request: web.Request) -> web.Response:
    """Create a token. Only this answer ever shows it.

    The daemon keeps a digest of it. It is sent as `Authorization: Bearer TOKEN`. In a fleet it is good on every host,
    within moments.
    """
    wish = _WISH.of(request)
    scope = wish["scope"]
    user, kind = (None, scope) if isinstance(scope, Kind) else (scope, None)
    token, secret = await access_of(request).tokens.create(wish["name"], user, kind, wish.get("ttl"))
    return respond(NewToken(**vars(_shown(token)), token=secret), 201)


async def delete(request: web.Request) -> web.Response:
    """Delete a token: it is invalid at once, and streams that it opened end.

    Its id stands in the list of tokens. In a fleet it is invalid on every host, within moments. Where its engine does
    not answer (`engine_unavailable`), it is invalid on the host that was asked, and on the others when it answers again.
    """
    await access_of(request).tokens.revoke(_ID.of(request))
    return web.Response(status=204)


def _shown(token: Token) -> TokenDocument:
    return TokenDocument(
        id=token.id,
        name=token.name,
        scope=str(token.kind) if token.user is None else f"user:{token.user}",
        created_at=moment(token.created_at),
        last_used_at=timestamp(token.last_used_at),
        expires_at=timestamp(token.expires_at),
    )
