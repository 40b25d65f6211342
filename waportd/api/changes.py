"""``/v1/audit``: who changed what through the API, read from the journal."""

import time
from typing import Annotated

from aiohttp import web

from waportd.api import examples
from waportd.api.documents import moment, respond
from waportd.api.json_schema import Document, Moment, of
from waportd.api.operations import Answer, Operation, Scope
from waportd.api.parameters import OF_USER, Parameter
from waportd.model import User
from waportd.systemd import changes
from waportd.systemd.server_log import JournalUnavailable
from waportd.value_types import number


class ChangeDocument(Document):
    """A change that was made through the API: its line in the journal."""

    time: Annotated[Moment, "When it was made."]
    caller: Annotated[str | None, "Who made it: the account, what the token is for, or whose link it was."]
    uid: Annotated[str | None, "The caller's user id; null over TCP."]
    token: Annotated[str | None, "The id of the token that was sent."]
    link: Annotated[str | None, "The user whose connect link was sent."]
    address: Annotated[str | None, "Where the call came from; null on the unix socket."]
    user: Annotated[str | None, "The user that it concerns."]
    action: Annotated[str | None, "Method and path of the call."]
    status: Annotated[str | None, "The HTTP status that it was answered with."]


class ChangesDocument(Document):
    """Changes that were made through the API."""

    changes: tuple[ChangeDocument, ...]


_OF = Parameter[User | None]("user", OF_USER, "Only changes of this user.")
_SINCE = Parameter[int](
    "since", number(1, 366 * 86_400), "How many seconds to look back.", default=7 * 86_400
)
_LIMIT = Parameter[int]("limit", number(1, 1000), "The most changes to return; the newest ones.", default=100)


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    listed = Answer(
        "the changes, the oldest first", of(ChangesDocument), example={"changes": [examples.CHANGE]}
    )
    return [
        Operation(
            "GET",
            "/v1/audit",
            index,
            Scope.ADMIN,
            {200: listed},
            (_OF, _SINCE, _LIMIT),
            errors=(JournalUnavailable,),
        )
    ]


async def index(request: web.Request) -> web.Response:
    """List who changed what through the API.

    The journal holds it, as long as it keeps its lines.
    """
    found = await changes.newest(_OF.of(request), time.time() - _SINCE.of(request), _LIMIT.of(request))
    return respond(
        ChangesDocument(
            changes=tuple(ChangeDocument(**{**one, "time": moment(one["time"] / 1e6)}) for one in found)
        )
    )
