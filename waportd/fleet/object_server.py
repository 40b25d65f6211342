"""Answers the other hosts about the objects that this host keeps (`holdings`), which `remote_objects` asks for."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web

from waportd.errors import BadRequest, NotFound, TooLarge, TooSlow, Unauthorized
from waportd.fleet.chunks import CHUNK_BYTES, TAG_BYTES
from waportd.fleet.holdings import Holdings
from waportd.fleet.manifest import MAX_BYTES
from waportd.fleet.objects import MANIFEST, NAME, Place
from waportd.fleet.peer_calls import LISTED, MOST, OBJECTS
from waportd.fleet.peer_faults import reported

_BODY_S: Final = 30.0
"""Seconds for the body of a call to arrive."""
_PATH: Final = re.compile(rf"{OBJECTS}([^/]+)(?:/(0|[1-9][0-9]{{0,18}})(?:/({NAME.pattern}))?)?")


class ObjectServer:
    """The side of a host that keeps objects for others."""

    def __init__(self, holdings: Holdings, admit: Callable[[Mapping[str, Any]], str]) -> None:
        """``admit`` returns which host showed a certificate, and raises HostRefused for one that may not call."""
        self._holdings = holdings
        self._admit = admit

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a call of another host."""
        return await reported(request, self._answered(request))

    async def _answered(self, request: web.BaseRequest) -> web.Response:
        if (certificate := request.get_extra_info("peercert")) is None:
            raise Unauthorized("other hosts call with a certificate")
        caller = self._admit(certificate)
        place, token, name = _asked(request)
        match request.method, token, name:
            case "GET", None, None:
                return web.json_response(list(await self._holdings.tokens(place.user)))
            case "GET", str(), None:
                number, sizes = await self._holdings.list(place)
                return web.json_response(dict(sizes), headers={LISTED: str(number)})
            case "GET", str(), str(name):
                content = await self._holdings.get(
                    place, name, min(_number(request.query.get(MOST)), MAX_BYTES)
                )
                return web.Response(body=content)
            case "PUT", str(), str(name):
                most = MAX_BYTES if name.startswith(MANIFEST) else CHUNK_BYTES + TAG_BYTES
                await self._holdings.put(caller, place, name, await _body(request, most))
                return web.Response()
            case "DELETE", str(), None:
                listed = _number(request.headers.get(LISTED))
                await self._holdings.delete(caller, place, _names(await _body(request, MAX_BYTES)), listed)
                return web.Response()
        raise _unknown(request)


def _asked(request: web.BaseRequest) -> tuple[Place, str | None, str | None]:
    """Return what a path names. Raises NotFound."""
    if (found := _PATH.fullmatch(request.path)) is None:
        raise _unknown(request)
    user, token, name = found.groups()
    try:
        return Place(user, int(token or 0)), token, name
    except ValueError:
        raise _unknown(request) from None


def _unknown(request: web.BaseRequest) -> NotFound:
    return NotFound(f"hosts do not call {request.method} {request.path:.200}", hint=_SAME_VERSION)


def _number(text: str | None) -> int:
    if not (text and text.isascii() and text.isdecimal()):
        raise BadRequest("a number is missing", hint=_SAME_VERSION)
    return int(text)


def _names(body: bytes) -> list[str]:
    """Read the names of objects. Raises BadRequest."""
    try:
        names = json.loads(body)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(one, str) and NAME.fullmatch(one) for one in names):
        raise BadRequest("that is no list of names", hint=_SAME_VERSION)
    return names


async def _body(request: web.BaseRequest, most: int) -> bytes:
    """Read a body of at most so many bytes. Raises TooLarge, TooSlow, BadRequest."""
    content = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for piece in request.content.iter_any():
                content += piece
                if len(content) > most:
                    raise TooLarge(f"more than {most} bytes", hint=_SAME_VERSION)
    except TimeoutError:
        raise TooSlow(f"the body did not arrive within {_BODY_S:g} s") from None
    except web.RequestPayloadError:
        raise BadRequest("the body does not arrive as the headers announce it") from None
    return bytes(content)


_SAME_VERSION: Final = "run the same version of waportd on all hosts"
