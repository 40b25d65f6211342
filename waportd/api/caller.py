"""``/v1/caller``: who calls, and what that allows."""

from typing import Annotated

from aiohttp import web

from waportd.api.access import access_of, caller_of
from waportd.api.documents import respond
from waportd.api.json_schema import Document, of
from waportd.api.operations import Answer, Operation, Scope
from waportd.tokens import Kind

_EXAMPLE = {"scope": "user", "user": "2", "token": "0123456789ab", "name": "page"}


class CallerDocument(Document):
    """Who calls."""

    scope: Annotated[Kind, "What the caller may call: that of the token; `admin` on the unix socket."]
    user: Annotated[str | None, "The user whose calls the token allows; null: all users."]
    token: Annotated[str | None, "The id of the token; null on the unix socket."]
    name: Annotated[str, "The name of the token; on the unix socket, that of the caller's account."]


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    answer = Answer("the caller", of(CallerDocument), example=_EXAMPLE)
    return [Operation("GET", "/v1/caller", show, Scope.TOKEN, {200: answer})]


async def show(request: web.Request) -> web.Response:
    """Show who calls, and what that allows.

    A page learns from it which calls it may offer.
    """
    caller = caller_of(request)
    return respond(
        CallerDocument(
            scope=Kind(caller.scope.name.lower()),
            user=caller.user,
            token=caller.token,
            name=access_of(request).name(caller),
        )
    )
