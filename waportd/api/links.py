"""``/v1/users/{user}/connect-link``: lets a person who has no token link a phone."""

import urllib.parse
from typing import Annotated, Any

from aiohttp import web

from waportd.api import examples
from waportd.api.access import access_of
from waportd.api.documents import moment, respond
from waportd.api.json_schema import Document, Moment, of
from waportd.api.operations import ALL_HOSTS, Answer, Operation, Scope
from waportd.api.pages import embedders_of
from waportd.api.parameters import EXPIRES, NO_BODY, SIGNATURE, USER, Body, Member
from waportd.api.return_to import ADDRESS, RETURN_SIGNATURE, RETURN_TO, called, origin_of
from waportd.connect_links import MAX_LIFETIME_S
from waportd.errors import BadRequest, StoreError
from waportd.value_types import number

_LIFETIME_S = 600
_WISH = Body[dict[str, Any] | None](
    (
        Member(
            "ttl",
            number(1, MAX_LIFETIME_S),
            f"Seconds for which the link is valid; {_LIFETIME_S} by default.",
        ),
        Member(
            "return_to",
            ADDRESS,
            'Where "Back to the app" on the page leads, when the phone is linked or the link has ended: an address whose '
            "origin `api.frame_ancestors` names. Nobody is led there without a click.",
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
            _WISH,
            anywhere=True,  # all sign with one key, and it opens the pages of the host that is asked
        ),
        Operation(
            "DELETE",
            "/v1/connect-links",
            revoke_all,
            Scope.ADMIN,
            {204: Answer("all earlier links are invalid")},
            body=NO_BODY,
            errors=(StoreError,),
            refusals=ALL_HOSTS,
        ),
    ]


async def revoke_all(request: web.Request) -> web.Response:
    """Revoke all connect links, of all users.

    New links are signed with another key, in a fleet on all hosts. Streams that were opened by an old link end.
    """
    await access_of(request).links.revoke_all()
    return web.Response(status=204)


async def create(request: web.Request) -> web.Response:
    """Make a link to the connect page of a user.

    It gives access to the page and to the calls that the page makes, for this user and until it ends: the code, the
    events, a pairing code, a passkey, and to start the server. The user need not have a port yet.
    """
    user = USER.of(request)
    wish: dict[str, Any] = _WISH.of(request) or {}
    links = access_of(request).links
    address = wish.get("return_to")
    if address is not None:
        _refuse_strange(request, address)
    expires, signature = links.sign(user, wish.get("ttl", _LIFETIME_S))
    query: dict[str, Any] = {USER.name: user, EXPIRES.name: expires, SIGNATURE.name: signature}
    if address is not None:
        query[RETURN_TO.name] = address
        query[RETURN_SIGNATURE.name] = links.sign_return(user, expires, address)
    path = f"/connect?{urllib.parse.urlencode(query)}"
    place = links.public_url or called(request)
    return respond(ConnectLink(url=f"{place}{path}", path=path, expires_at=moment(expires)), 201)


def _refuse_strange(request: web.Request, address: str) -> None:
    """Raise BadRequest for an address to return to that the configuration does not name."""
    if not embedders_of(request).include(request, address):
        origin = origin_of(address)
        raise BadRequest(
            f"return_to: {origin} is not among the origins of api.frame_ancestors",
            hint=f"add {origin} to `api.frame_ancestors` in the configuration, and reload waportd. Where `self` is "
            "listed, the origin of `api.public_url` is among them",
        )
