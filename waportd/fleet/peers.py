"""Asks the other hosts of the fleet, each over a connection that is kept.

Hosts are asked by name (`addresses`).
"""

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias, TypeVar

import aiohttp

from waportd.errors import HostRefused, HostSilent, NotHere
from waportd.fleet import addresses
from waportd.fleet.engine import HostState, Lease
from waportd.fleet.identity import Identity
from waportd.fleet.limits import within
from waportd.fleet.peer_calls import (
    ANSWERING,
    CALL_S,
    MAX_ANSWER_BYTES,
    REACH,
    RENEW,
    Members,
    Reach,
    Renewal,
    read_hosts,
    read_reach,
    read_renewal,
)
from waportd.fleet.peer_faults import bad_answer, fault, misnamed, refusal, silence

T = TypeVar("T")

Outcome: TypeAlias = T | HostRefused | HostSilent
"""What asking a host led to."""


class Peers:
    """The side of a host that asks. Each call ends within its limit."""

    def __init__(
        self,
        identity: Identity,
        members: Members,
        *,
        call_s: float = CALL_S,
        learn: Callable[[Mapping[str, str]], None] = lambda _: None,
    ) -> None:
        """Take the limit of a call in seconds. An event loop has to run.

        ``learn`` gets the hosts that another one knows, with their addresses: there may be more than here.
        """
        self._learn = learn
        self._identity = identity
        self._members = members
        self._call_s = call_s
        self._http = addresses.client(identity, members)

    async def close(self) -> None:
        """End all connections."""
        await self._http.close()

    def others(self) -> tuple[str, ...]:
        """Return the names of the other hosts that have not left, as they are known now."""
        return tuple(
            name
            for name, host in self._members().items()
            if name != self._identity.name and host.state is not HostState.LEFT
        )

    async def renew(self, host: str, lease: Lease) -> Renewal:
        """Have another host renew the lease of this one. Raises HostRefused, HostSilent, NotHere, as all calls do."""

        def read(document: Any) -> Renewal:
            outcome = read_renewal(document)
            self._learn(read_hosts(document))
            return outcome

        return await self._call(host, "POST", RENEW, read, dataclasses.asdict(lease))

    async def reach(self, host: str) -> Reach:
        """Ask whether a host reaches the engine."""
        return _from(host, await self._call(host, "GET", REACH, read_reach))

    async def ask_all(
        self, ask: Callable[[str], Awaitable[T]], enough: Callable[[T], bool] | None = None
    ) -> Mapping[str, Outcome[T]]:
        """Ask all others at once, by one of the calls above; return what that led to, by name.

        After an answer that is ``enough`` no others are waited for; they are missing in what is returned.
        """
        waiting = {asyncio.ensure_future(_outcome(ask(name))): name for name in self.others()}
        outcomes: dict[str, Outcome[T]] = {}
        try:
            while waiting:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                new = {waiting.pop(task): task.result() for task in done}
                outcomes |= new
                if enough and any(
                    enough(one) for one in new.values() if not isinstance(one, HostRefused | HostSilent)
                ):
                    break
        finally:
            for task in waiting:
                task.cancel()
        return outcomes

    async def _call(self, host: str, method: str, path: str, read: Callable[[Any], T], body: Any = None) -> T:
        if (caller := ANSWERING.get()) is not None:
            raise NotHere(
                f"this is a call of host {caller}: it is not passed on to host {host}",
                hint=f"host {caller} asks host {host} itself",
            )
        try:
            status, content = await within(self._call_s, self._exchange(host, method, path, body))
        except TimeoutError:
            raise silence(host, f"did not answer within {self._call_s:g} s") from None
        except (OSError, aiohttp.ClientError) as error:
            raise fault(host, error) from error
        if status != HTTPStatus.OK:
            raise refusal(host, status, content)
        try:
            return read(json.loads(content))
        except (ValueError, TypeError, KeyError, RecursionError):
            raise bad_answer(host, "is not understood") from None

    async def _exchange(self, host: str, method: str, path: str, body: Any) -> tuple[int, bytes]:
        url = addresses.base(host, self._members, addresses.KEEPER) + path
        try:
            return await self._once(url, method, body)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # A daemon that restarts closes the connections that were kept, and its successor listens already.
            return await self._once(url, method, body)

    async def _once(self, url: str, method: str, body: Any) -> tuple[int, bytes]:
        async with self._http.request(method, url, json=body, allow_redirects=False) as response:
            content = bytearray()
            async for piece in response.content.iter_any():
                content += piece
                if len(content) > MAX_ANSWER_BYTES:
                    raise aiohttp.ClientPayloadError(f"more than {MAX_ANSWER_BYTES} bytes")
            return response.status, bytes(content)


async def _outcome(call: Awaitable[T]) -> Outcome[T]:
    try:
        return await call
    except (HostRefused, HostSilent) as error:
        return error


def _from(host: str, answer: Reach) -> Reach:
    """Return what a host says about itself. Raises HostRefused where it takes itself for another one."""
    if answer.host != host:
        raise misnamed(host, answer.host)
    return answer
