"""The members of an etcd cluster: listed, added one at a time, removed.

A new member is a learner first: it has no vote, so a cluster does not wait for one that never starts
(https://etcd.io/docs/v3.5/learning/design-learner/).
"""

import asyncio
import dataclasses
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from waportd.fleet.engine import EngineUnavailable
from waportd.fleet.etcd.gateway import Gateway, Refused

LIMIT_S: Final = 10.0
"""Seconds for one call."""
_AGAIN_S: Final = 0.3
"""Seconds until it is asked again whether a learner has all that the others have."""
_NOT_YET: Final = "in sync"
"""A word of what etcd says then (its rpctypes/error.go, ErrGRPCMemberNotEnoughStarted and ErrGRPCLearnerNotReady)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A member of the cluster."""

    id: int
    name: str
    """Empty until it has started for the first time."""
    peers: tuple[str, ...]
    """URLs at which the other members reach it,"""
    clients: tuple[str, ...]
    """and those for clients; none until it has started."""
    is_learner: bool


class Members:
    """Asks a cluster. Make it within the event loop; close it."""

    def __init__(self, endpoints: Sequence[str], tls: ssl.SSLContext | None = None) -> None:
        self._gateway = Gateway(endpoints, tls)

    async def close(self) -> None:
        """End all connections."""
        await self._gateway.close()

    async def all(self) -> list[Member]:
        """Return all. Raises EngineUnavailable, as all calls here."""
        answer = await self._call("list", {})
        return [_member(one) for one in answer.get("members", ())]

    async def add(self, peer_url: str) -> list[Member]:
        """Add a learner, unless there is a member with that URL; return all."""
        found = await self.all()
        if any(peer_url in one.peers for one in found):
            return found
        await self._call("add", {"peerURLs": [peer_url], "isLearner": True})
        return await self.all()

    async def promote(self, peer_url: str, limit_s: float) -> None:
        """Give a learner its vote, once it has all that the others have. Raises EngineUnavailable, also after the limit."""
        deadline = time.monotonic() + limit_s
        while True:
            own = next((one for one in await self.all() if peer_url in one.peers), None)
            if own is None or not own.is_learner:
                return
            try:
                await self._call("promote", {"ID": str(own.id)})
            except Refused as error:
                if _NOT_YET not in error.message or time.monotonic() > deadline:
                    raise
            except EngineUnavailable:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_AGAIN_S)

    async def remove(self, peer_url: str) -> None:
        """Remove a member, where there is one with that URL."""
        for one in await self.all():
            if peer_url in one.peers:
                await self._call("remove", {"ID": str(one.id)})

    async def _call(self, name: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self._gateway.call(f"v3/cluster/member/{name}", body, time.monotonic() + LIMIT_S)


def _member(value: Mapping[str, Any]) -> Member:
    return Member(
        int(value["ID"]),
        str(value.get("name", "")),
        tuple(value.get("peerURLs", ())),
        tuple(value.get("clientURLs", ())),
        bool(value.get("isLearner")),
    )
