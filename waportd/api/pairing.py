"""``/v1/users/{user}/pairing-code``: a code to type on the phone, for people who cannot scan one."""

from typing import Annotated, TypedDict

from aiohttp import web

from waportd.api import examples
from waportd.api.access import by_link
from waportd.api.documents import moment, respond
from waportd.api.json_schema import Document, Moment, of
from waportd.api.operations import START_ERRORS, Answer, Operation, Scope
from waportd.api.parameters import NO_BODY, USER, Body, Member, supervisor_of
from waportd.errors import AlreadyLinked, ServerFailed, TooManyRequests, UnknownUser
from waportd.pairing import PHONE_PATTERN, phone_digits
from waportd.value_types import Kind


class PairingCode(Document):
    """A pairing code. Holds a secret."""

    user: Annotated[str, "The user of the server."]
    code: Annotated[str, "What to type on the phone: eight characters and a dash. A secret."]
    expires_at: Annotated[Moment, "Until when it can be typed."]


class _Request(TypedDict):
    phone: str


def _parse_phone(given: str) -> str:
    digits = phone_digits(given)
    if digits is None:
        raise ValueError
    return digits


_REQUEST = Body[_Request](
    (
        Member(
            "phone",
            Kind(
                "a phone number with its country code, 8 to 15 digits",
                _parse_phone,
                schema={"type": "string", "pattern": f"^{PHONE_PATTERN}$"},
            ),
            "The number of the phone, with its country code; spaces, dots, dashes and parentheses do not matter.",
            required=True,
        ),
    ),
    '{"phone": "+55 11 99999-8888"}',
)


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    return [
        Operation(
            "POST",
            "/v1/users/{user}/pairing-code",
            create,
            Scope.LINK,
            {200: Answer("the code", of(PairingCode), example=examples.PAIRING_CODE)},
            (USER,),
            _REQUEST,
            errors=(AlreadyLinked, TooManyRequests, *START_ERRORS),
            creates=True,
        ),
        Operation(
            "DELETE",
            "/v1/users/{user}/pairing-code",
            delete,
            Scope.LINK,
            {204: Answer("codes to scan are shown again")},
            (USER,),
            NO_BODY,
            errors=(UnknownUser, ServerFailed),
        ),
    ]


async def create(request: web.Request) -> web.Response:
    """Request a code to type on the phone from WhatsApp.

    Starts the server where it does not run, and takes up to a minute. The code is the same for the same phone while
    it is valid; a new one can be requested every 30 seconds, and five times an hour.
    """
    user = USER.of(request)
    code = await supervisor_of(request).linking.pairing_code(
        user, _REQUEST.of(request)["phone"], undo_stop=not by_link(request)
    )
    return respond(PairingCode(user=user, code=code.code, expires_at=moment(code.expires_at)))


async def delete(request: web.Request) -> web.Response:
    """Go back from a pairing code to codes to scan.

    Does nothing where there is no pairing code, or where a phone has answered already.
    """
    await supervisor_of(request).linking.end_pairing(USER.of(request))
    return web.Response(status=204)
