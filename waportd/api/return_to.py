"""Where the connect page leads back to: to the web apps that the administrator has named, and nowhere else."""

import re
from collections.abc import Iterable
from typing import Final

from aiohttp import hdrs, web

from waportd.api.access import access_of, peer_uid
from waportd.api.parameters import EXPIRES, Parameter
from waportd.value_types import Kind

_MOST = 1000
_ADDRESS = r"^[Hh][Tt][Tt][Pp][Ss]?://[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::[1-9][0-9]{0,4})?(?:[/?#][!-~]*)?$"
_ORIGIN = re.compile(r"(https?)://([a-z0-9.-]+)(?::([0-9]+))?(?:[/?#]|$)", re.IGNORECASE)
_USUAL_PORT = {"http": "80", "https": "443"}


def _parse(text: str) -> str:
    if len(text) > _MOST or not re.fullmatch(_ADDRESS, text):
        raise ValueError
    return text


ADDRESS: Final = Kind(
    f"an http or https URL of at most {_MOST} characters, of plain ASCII, without user name and password",
    _parse,
    schema={"type": "string", "format": "uri", "maxLength": _MOST, "pattern": _ADDRESS},
)

RETURN_TO: Final = Parameter[str | None](
    "return_to",
    Kind("an address", str),
    'Where "Back to the app" leads. To another site than the page\'s own it needs the signature that comes with a link.',
)
RETURN_SIGNATURE: Final = Parameter[str | None](
    "return_signature", Kind("a signature", str), "The signature of `return_to`, which a link brings along."
)


def called(request: web.Request) -> str:
    """Return the address that the caller used; nothing for a unix socket, which no browser can open."""
    host = request.headers.get(hdrs.HOST) if peer_uid(request) is None else None
    return f"{request.scheme}://{host}" if host else ""


def own_origin(request: web.Request) -> str | None:
    """Return the origin at which people see the pages; None where it is not known."""
    return origin_of(access_of(request).links.public_url or called(request))


def granted(request: web.Request, user: str | None) -> str | None:
    """Return the address to return to that came with a link of that user; None for one that was added to it."""
    address, signature = RETURN_TO.of(request), RETURN_SIGNATURE.of(request)
    if address is None or signature is None or user is None:
        return None
    expires = request.query.get(EXPIRES.name, "")
    links = access_of(request).links
    return address if links.vouches_for(user, expires, address, signature) else None


def origin_of(address: str) -> str | None:
    """Return scheme, host and port of an address as a browser writes its origin; None for other addresses."""
    match = _ORIGIN.match(address)
    if match is None:
        return None
    scheme, host, port = match[1].lower(), match[2].lower(), match[3]
    return f"{scheme}://{host}" + (f":{port}" if port and port != _USUAL_PORT[scheme] else "")


def is_among(origin: str, origins: Iterable[str], own: str | None) -> bool:
    """Return whether an origin is one of these: ``self`` is our own, ``https://*.example.com`` any below that name."""
    return any(origin == own if one == "self" else _is(origin, one) for one in origins)


def _is(origin: str, known: str) -> bool:
    base = origin_of(known.replace("*.", "", 1))
    if base is None or "*." not in known:
        return origin == base
    scheme, _, host = base.partition("://")
    return origin.startswith(f"{scheme}://") and origin.endswith(f".{host}")
