"""``/v1/users/{user}/connect-link``: lets a person who has no token link a phone."""

import urllib.parse
from typing import Annotated, Any

from aiohttp import hdrs, web

from waportd.api import examples
from waportd.api.access import access_of, peer_uid
from waportd.api.documents import moment, respond
from waportd.api.json_schema import Document, Moment, of
from waportd.api.operations import Answer, Operation, Scope
from waportd.api.parameters import EXPIRES, NO_BODY, SIGNATURE, USER, Body, Member
from waportd.connect_links import MAX_LIFETIME_S
from waportd.errors import StoreError
from waportd.value_types import number

_LIFETIME_S = 600
_TTL = Body[dict[str, int] | None](
    (
        Member(
            "ttl",
            number(1, MAX_LIFETIME_S),
            f"Seconds for which the link is valid; {_LIFETIME_S} by default.",
        ),
    ),
    f'{{"ttl": {_LIFETIME_S}}}',
)


class ConnectLink(Document):
    """A connect link. Holds a secret."""

    url: Annotated[
        str,
        "The link, complete where `api.public_url` is set or an address was called. A secret until it ends: anyone who "
        "has it can link a phone for the user.",
    ]
    path: Annotated[str, "The same without the host, for a web app that proxies the page."]
    expires_at: Annotated[Moment, "When it ends."]


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    return [
        Operation(
            "POST",
            "/v1/users/{user}/connect-link",
            create,
            Scope.USER,
            {201: Answer("the link", of(ConnectLink), example=examples.CONNECT_LINK)},
            (USER,),
            _TTL,
        ),
        Operation(
            "DELETE",
            "/v1/connect-links",
            revoke_all,
            Scope.ADMIN,
            {204: Answer("all earlier links are invalid")},
            body=NO_BODY,
            errors=(StoreError,),
        ),
    ]


async def revoke_all(request: web.Request) -> web.Response:
    """Revoke all connect links, of all users.

    New links are signed with another key. Streams that were opened by an old link end.
    """
    await access_of(request).links.revoke_all()
    return web.Response(status=204)


async def create(request: web.Request) -> web.Response:
    """Make a link to the connect page of a user.

    It gives access to the page and to the calls that the page makes, for this user and until it ends: the code, the
    events, a pairing code, a passkey, and to start the server. The user need not have a port yet.
    """
    user = USER.of(request)
    wish: dict[str, Any] = _TTL.of(request) or {}
    expires, signature = access_of(request).links.sign(user, wish.get("ttl", _LIFETIME_S))
    query = urllib.parse.urlencode({USER.name: user, EXPIRES.name: expires, SIGNATURE.name: signature})
    path = f"/connect?{query}"
    place = access_of(request).links.public_url or _called(request)
    return respond(ConnectLink(url=f"{place}{path}", path=path, expires_at=moment(expires)), 201)


def _called(request: web.Request) -> str:
    """Return the address that the caller used; nothing for a unix socket, which no browser can open."""
    host = request.headers.get(hdrs.HOST) if peer_uid(request) is None else None
    return f"{request.scheme}://{host}" if host else ""
