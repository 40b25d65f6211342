"""``/v1/users/{user}/qr``: the code to scan, from memory; changes are waited for, not polled."""

import asyncio
import hashlib
import time
import weakref

from aiohttp import web

from waportd.api import examples
from waportd.api.accept import best_type
from waportd.api.access import access_of, by_link
from waportd.api.documents import QrDocument, qr, respond, veiled, written
from waportd.api.json_schema import BINARY, of, text
from waportd.api.operations import START_ERRORS, Answer, Operation, Scope
from waportd.api.parameters import USER, Parameter, supervisor_of
from waportd.api.response_cache import mark_lasting
from waportd.change_log import Change
from waportd.errors import NoCode, UnknownUser
from waportd.model import User
from waportd.qr_image import Format, draw
from waportd.registry import Instance
from waportd.supervisor import Supervisor
from waportd.value_types import Kind, seconds, word

_CONTENT_TYPES = {
    Format.SVG: "image/svg+xml",
    Format.PNG: "image/png",
    Format.TXT: "text/plain",
    Format.DATAURL: "text/plain",
}
_OFFERS = {
    None: "application/json",
    Format.SVG: "image/svg+xml",
    Format.PNG: "image/png",
    Format.TXT: "text/plain",
}
"""The formats that an Accept header can choose; of equals the first."""

_FORMAT = Parameter[str | None](
    "format",
    word("json", *Format),
    "The format of the code. Without it an Accept header decides, and the default is JSON. `svg` and `png` are "
    "pictures, `dataurl` is the PNG as a `data:` URL, `txt` is drawn for a dark terminal.",
)
_TIMEOUT = Parameter[float](
    "timeout",
    seconds(60),
    "Seconds to hold the answer at most, until it changes.",
    default=0.0,
    former="wait",
)
_KNOWN = Parameter[str | None](
    "If-None-Match", Kind("an ETag", str), "The answer that the caller has.", "header"
)


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    etag = {"ETag": "Identifies this answer, for If-None-Match."}
    pictures = {"image/svg+xml": text(), "image/png": BINARY, "text/plain": text()}
    return [
        Operation(
            "GET",
            "/v1/users/{user}/qr",
            show,
            Scope.LINK,
            {
                200: Answer(
                    "the code, or why there is none",
                    of(QrDocument),
                    others=pictures,
                    headers=etag,
                    example=examples.QR,
                ),
                304: Answer("the caller has this answer already", headers=etag),
            },
            (USER, _FORMAT, _TIMEOUT, _KNOWN),
            errors=(UnknownUser, NoCode, *START_ERRORS),
            creates=True,
        )
    ]


class Drawings:
    """Pictures of codes that are shown, each drawn once. A change of the user removes them: they are secrets."""

    def __init__(self) -> None:
        self._drawn: weakref.WeakKeyDictionary[Change[Instance], dict[Format, bytes]] = (
            weakref.WeakKeyDictionary()
        )
        self._drawing = asyncio.Lock()

    async def of(self, change: Change[Instance], code: str, form: Format) -> bytes:
        """Return the picture of the code that is shown since that change. Raises NoCode where there is none."""
        # One at a time: another request for the same code finds it drawn, and the others wait milliseconds.
        async with self._drawing:
            drawn = self._drawn.setdefault(change, {})
            if form not in drawn:
                try:
                    drawn[form] = await asyncio.to_thread(draw, code, form)
                except ValueError:
                    raise NoCode(
                        "the server shows a code that no picture can hold",
                        hint="restart the user; if that does not help, update waportd",
                        cause="undrawable",
                    ) from None
            return drawn[form]


async def show(request: web.Request) -> web.Response:
    """Show the code to scan; start the server where that is useful.

    ``?format=svg`` or an Accept header draws it; where there is no code, the answer is a 409 with the reason.
    ``?timeout=25`` holds the answer until it differs from the one that If-None-Match names, or
    else from the one at the time of the call. 304 where an If-None-Match still holds.
    """
    name, timeout, known = USER.of(request), _TIMEOUT.of(request), _KNOWN.of(request)
    form = _wanted(request)
    supervisor = supervisor_of(request)
    instance = await supervisor.poll(name, lambda: access_of(request).begin_change(request))
    if not timeout and form is None:
        mark_lasting(request, instance)
    shown = veiled if by_link(request) else _as_it_is
    document = qr(shown(instance))
    body = written(document)
    seen = known or _etag(body, form)
    if timeout and _etag(body, form) == seen:
        # An expiry changes the answer but not the picture, so the wait ends with it at the latest.
        now = time.time()
        patience = min(timeout, max(0.05, instance.code_ends_at(now) - now + 0.05))
        await supervisor.registry.wait(
            name, lambda now: now is None or _etag(written(qr(shown(now))), form) != seen, patience
        )
        document = qr(shown(supervisor.known(name)))
        body = written(document)
    headers = {"ETag": _etag(body, form), "Cache-Control": "no-store", "Vary": "Accept"}
    if headers["ETag"] == known:
        return web.Response(status=304, headers=headers)
    if form is None:
        return respond(body, 200, **headers)
    return web.Response(
        body=await _drawn(request, supervisor, name, document, form),
        content_type=_CONTENT_TYPES[form],
        charset="utf-8" if form in {Format.TXT, Format.DATAURL} else None,
        headers=headers,
    )


def _as_it_is(instance: Instance) -> Instance:
    return instance


def _wanted(request: web.Request) -> Format | None:
    """Return the format of the answer; None stands for JSON."""
    named = _FORMAT.of(request)
    if named is None:
        return best_type(request, _OFFERS)
    return None if named == "json" else Format(named)


async def _drawn(
    request: web.Request, supervisor: Supervisor, user: User, document: QrDocument, form: Format
) -> bytes:
    code = document.qr
    change = supervisor.registry.change_of(user)
    if code is None or change is None:
        raise NoCode(
            f"there is no code to draw: {document.message}",
            hint=document.hint
            or "ask again in a moment, or with `?timeout=25`; JSON shows the state without one",
            cause=document.cause or document.status,
        )
    drawings: Drawings = request.app["drawings"]
    return await drawings.of(change, code, form)


def _etag(body: bytes, form: Format | None) -> str:
    # A digest, since headers end in logs and the code is a secret.
    return f'"{hashlib.sha256(body + (form or "").encode()).hexdigest()[:16]}"'
