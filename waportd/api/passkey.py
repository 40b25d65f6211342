"""``/v1/users/{user}/passkey``: WhatsApp asks for a passkey to link a phone, and a person signs in a browser.

Nothing of it is kept, and only the document of the code holds it too: it is as secret as a code.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from waportd.api import examples
from waportd.api.documents import PasskeyDocument, passkey, respond
from waportd.api.json_schema import nullable, of, text
from waportd.api.operations import Answer, Operation, Scope
from waportd.api.parameters import NO_BODY, USER, Body, Member, supervisor_of, whole_body
from waportd.contract import LIMITS
from waportd.errors import NoPasskeyRequest, ServerFailed, TooLarge, TooManyRequests, UnknownUser
from waportd.server_client import PASSKEY_REFUSALS
from waportd.value_types import Schema, matching

_MAX_BYTES: Final[int] = LIMITS["passkey_bytes"]
"""Bytes of the browser's answer; that of a usual passkey has 650."""
_BASE64URL: Final = "In base64url, without padding."
CREDENTIAL: Final[Schema] = {
    "type": "object",
    "description": "The browser's answer: `PublicKeyCredential.toJSON()`, unchanged.",
    "properties": {
        "id": text(_BASE64URL),
        "rawId": text("The same as `id`."),
        "type": {"type": "string", "const": "public-key"},
        "response": {
            "type": "object",
            "properties": {
                "clientDataJSON": text(_BASE64URL),
                "authenticatorData": text(_BASE64URL),
                "signature": text(_BASE64URL),
                "userHandle": nullable(text(_BASE64URL)),
            },
            "required": ["clientDataJSON", "authenticatorData", "signature"],
        },
    },
    "required": ["id", "rawId", "type", "response"],
}
"""What `POST` accepts. The user's server checks it further."""


@dataclass(frozen=True, eq=False)
class _Credential(Body[bytes]):
    """A body for the user's server and WhatsApp's page, which check it."""

    document: Schema = field(default_factory=lambda: CREDENTIAL)

    @property
    def required(self) -> bool:
        """Whether there must be a body."""
        return True

    @property
    def content(self) -> dict[str, Schema]:
        """What may be sent, by its content type."""
        return {"application/json": self.document}

    @property
    def shown(self) -> object:
        """An example of the JSON."""
        signed = {"clientDataJSON": "eyJ0eXBl", "authenticatorData": "SZYN5Y", "signature": "MEUCIQ"}
        return {"id": "AbCdEf", "rawId": "AbCdEf", "type": "public-key", "response": signed}

    async def read(self, request: web.Request) -> Any:
        """Read the body, whatever it is."""
        sent = await whole_body(request) if request.body_exists else b""
        if len(sent) > _MAX_BYTES:
            raise TooLarge(
                f"the body is larger than {_MAX_BYTES} bytes",
                hint="send only the browser's answer",
            )
        return sent


_SIGNED: Final = _Credential()
_SAME: Final = Body[dict[str, str]](
    (
        Member(
            "code",
            matching(r"[!-~]{1,60}", "the code that is shown, such as ABCD-EFGH"),
            "The code that is shown here, and on the phone, too.",
            required=True,
        ),
    ),
    '{"code": "K7P2-9QXM"}',
)
_REFUSED: Final = {
    400: f"It is not what WhatsApp asked for ({', '.join(f'`{code}`' for code in PASSKEY_REFUSALS[400])})",
    409: f"It does not fit ({', '.join(f'`{code}`' for code in PASSKEY_REFUSALS[409])})",
}


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    path, wrong = "/v1/users/{user}/passkey", (UnknownUser, NoPasskeyRequest)
    wanted = of(PasskeyDocument)
    return [
        Operation(
            "GET",
            path,
            show,
            Scope.LINK,
            {200: Answer("the current request", wanted, example=examples.PASSKEY)},
            (USER,),
            errors=wrong,
        ),
        Operation(
            "POST",
            path,
            give,
            Scope.LINK,
            {202: Answer("WhatsApp's page has it; the next request", wanted, example=examples.PASSKEY)},
            (USER,),
            _SIGNED,
            errors=(*wrong, ServerFailed, TooManyRequests),
            refusals=_REFUSED,
        ),
        Operation(
            "POST",
            f"{path}/confirm",
            confirm,
            Scope.LINK,
            {
                202: Answer(
                    "WhatsApp's page has the confirmation; the next request", wanted, example=examples.PASSKEY
                )
            },
            (USER,),
            _SAME,
            errors=(*wrong, ServerFailed, TooManyRequests),
            refusals={409: _REFUSED[409]},
        ),
        Operation(
            "DELETE",
            path,
            cancel,
            Scope.LINK,
            {204: Answer("codes to scan are shown again")},
            (USER,),
            NO_BODY,
            errors=(*wrong, ServerFailed),
        ),
    ]


async def show(request: web.Request) -> web.Response:
    """Show WhatsApp's current passkey request.

    The document of the code (`GET /v1/users/{user}/qr`) has the same in `passkey`, and can be waited for. It takes a
    browser that has the account's passkey, on a page of https://web.whatsapp.com: the connect page leads a person there.
    """
    return respond(passkey(supervisor_of(request).linking.passkey(USER.of(request))))


async def give(request: web.Request) -> web.Response:
    """Submit what a browser has signed with the account's passkey.

    Pass `options` to `navigator.credentials.get` on a page of https://web.whatsapp.com, and send the `toJSON()` of the
    result here unchanged. An invalid answer is refused with the reason, and another one may follow; only WhatsApp
    can check the signature. Ten a minute may be sent, together with confirmations.
    """
    user = USER.of(request)
    return respond(passkey(await supervisor_of(request).linking.give_passkey(user, _SIGNED.of(request))), 202)


async def confirm(request: web.Request) -> web.Response:
    """Confirm that the phone shows the same code.

    In stage `code`, and only when a person has compared the two.
    """
    user, code = USER.of(request), _SAME.of(request)["code"]
    return respond(passkey(await supervisor_of(request).linking.confirm_passkey(user, code)), 202)


async def cancel(request: web.Request) -> web.Response:
    """Cancel the passkey request, and go back to codes to scan.

    What the phone was shown is void; the next scan begins again.
    """
    await supervisor_of(request).linking.cancel_passkey(USER.of(request))
    return web.Response(status=204)
