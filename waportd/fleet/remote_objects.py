"""The object store of another host of the fleet, over the connections between daemons (`object_server` answers)."""

import asyncio
import json
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

import aiohttp

from waportd.errors import HostRefused, HostSilent
from waportd.fleet.chunks import Damaged
from waportd.fleet.manifest import MAX_BYTES
from waportd.fleet.objects import ObjectMissing, Place, StoreUnavailable
from waportd.fleet.peer_calls import LISTED, MOST, OBJECTS
from waportd.fleet.peer_faults import refusal
from waportd.host import Fleet, HostCall

LIMIT_S: Final = 45.0
"""Seconds for one call: more than the other host's disk has (`directory.LIMIT_S`)."""
_SAME_VERSION: Final = "run the same version of waportd on all hosts"


class Hosts(Fleet, Protocol):
    """The other hosts."""

    def has_left(self, host: str) -> bool:
        """Return whether a host has left the fleet, as far as is known here."""


class RemoteObjects:
    """A store on the disk of another host."""

    def __init__(self, hosts: Hosts, host: str, *, limit_s: float = LIMIT_S) -> None:
        self._hosts = hosts
        self._host = host
        self._limit_s = limit_s

    async def put(self, place: Place, name: str, content: bytes) -> None:
        """Store an object, as `Objects.put`."""
        await self._ask("PUT", f"{_path(place)}/{name}", content)

    async def get(self, place: Place, name: str, most: int) -> bytes:
        """Return an object, as `Objects.get`. Those of a host that has left are missing: it does not come back with them."""
        try:
            _, content = await self._ask("GET", f"{_path(place)}/{name}?{MOST}={most}", most=most)
        except StoreUnavailable:
            if self._hosts.has_left(self._host):
                raise ObjectMissing(f"host {self._host} has left the fleet, with what it kept") from None
            raise
        return content

    async def list(self, place: Place) -> Mapping[str, int]:
        """Return names and sizes, as `Objects.list`."""
        _, sizes = await self._listed(place)
        return sizes

    async def tokens(self, user: str) -> Collection[int]:
        """Return tokens, as `Objects.tokens`."""
        _, content = await self._ask("GET", user)
        return [int(token) for token in self._read(content, list)]

    async def delete(self, place: Place, objects: Collection[str]) -> None:
        """Delete objects, as `Objects.delete`.

        Should this call be given up and come late, it is refused there once the place was listed again, which each
        publication begins with.
        """
        number, _ = await self._listed(place)
        await self._ask("DELETE", _path(place), json.dumps(list(objects)).encode(), {LISTED: number})

    async def _listed(self, place: Place) -> tuple[str, Mapping[str, int]]:
        headers, content = await self._ask("GET", _path(place))
        sizes = self._read(content, dict)
        return headers.get(LISTED, ""), {str(name): int(size) for name, size in sizes.items()}

    def _read(self, content: bytes, kind: type) -> Any:
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, kind):
            raise StoreUnavailable(f"the answer of host {self._host} is not understood", hint=_SAME_VERSION)
        return document

    async def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        most: int = MAX_BYTES,
    ) -> tuple[Mapping[str, str], bytes]:
        """Return headers and body of an answer of at most so many bytes. Raises StoreUnavailable, ObjectMissing, Damaged."""
        content = bytearray()
        try:
            async with (
                asyncio.timeout(self._limit_s),
                self._hosts.call(self._host, HostCall(method, OBJECTS + path, headers or {}, body)) as answer,
            ):
                is_well = answer.status == HTTPStatus.OK
                async for piece in answer.content.iter_any():
                    content += piece
                    if len(content) > (most if is_well else MAX_BYTES):
                        raise Damaged(f"what host {self._host} sends is longer than it can be")
        except TimeoutError:
            raise self._silence(f"did not answer within {self._limit_s:g} s") from None
        except (HostSilent, HostRefused) as error:
            raise StoreUnavailable(error.message, hint=error.hint) from error
        except (OSError, aiohttp.ClientError) as error:
            raise self._silence("ended its answer before it was complete") from error
        if is_well:
            return answer.headers, bytes(content)
        refused = refusal(self._host, answer.status, bytes(content))
        kind = {kind.code: kind for kind in (ObjectMissing, Damaged)}.get(
            refused.cause or "", StoreUnavailable
        )
        raise kind(refused.message, hint=refused.hint)

    def _silence(self, what: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"host {self._host} {what}", hint=f"`waportctl doctor` on {self._host} says whether it is well"
        )


def _path(place: Place) -> str:
    return f"{place.user}/{place.token}"
