"""Transactions of etcd: conditions and changes in one call, and what is known of the epoch in which they are made."""

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from waportd.fleet.engine import Unsettled
from waportd.fleet.etcd.gateway import Answer, Gateway, Refused, cluster_of
from waportd.fleet.etcd.keys import EPOCH, Keys, Part, Stored

log = logging.getLogger(__name__)

_NOT_FOUND: Final = 5
"""gRPC's code of a lease that does not exist."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a transaction has done."""

    done: bool
    revision: int
    found: Mapping[str, Stored]
    """Where nothing was changed: those of the keys that exist."""


class Transactions:
    """Transactions on the keys below a prefix. A deadline is of `time.monotonic`; at it, EngineUnavailable is raised."""

    def __init__(self, gateway: Gateway, keys: Keys) -> None:
        self._gateway = gateway
        self._keys = keys
        self._epoch: str | None = None
        self._cluster, self._revision = "", 0
        """What etcd has answered: the id of its cluster, and the highest revision of that."""

    @property
    def epoch(self) -> str:
        """The epoch in which this process acts: that of the state which it has read. Raises Unsettled without one."""
        if self._epoch is None:
            raise Unsettled("the state of the fleet was not read yet")
        return self._epoch

    def enter(self, epoch: str) -> None:
        """Act in an epoch from now on."""
        self._epoch = epoch

    def settled(self) -> Mapping[str, Part]:
        """Return the condition that the epoch is settled, and that it is the one of this process. Raises Unsettled."""
        return {EPOCH: self._keys.holds(EPOCH, {"epoch": self.epoch})}

    def is_settled(self, found: Mapping[str, Stored]) -> bool:
        """Return whether `settled` holds for what was found."""
        return EPOCH in found and found[EPOCH].value.get("epoch") == self.epoch

    def check_settled(self, found: Mapping[str, Stored]) -> None:
        """Raise Unsettled unless `settled` holds for what was found."""
        if not self.is_settled(found):
            raise Unsettled(
                "the engine is new, or was restored: the hosts have not all put back what they hold",
                hint="this ends when each host has answered; a host that does not come back is removed "
                "with `waportctl host evict NAME`",
            )

    async def transact(
        self,
        conditions: Mapping[str, Part],
        changes: Sequence[Part],
        deadline: float,
        *,
        also: Sequence[str] = (),
    ) -> Outcome:
        """Make all changes if all conditions hold, which are by key; otherwise find their keys, and others."""
        wanted = [{"request_range": {"key": self._keys.encode(key)}} for key in (*conditions, *also)]
        body = {"compare": list(conditions.values()), "success": changes or wanted, "failure": wanted}
        answer = await self.ask("v3/kv/txn", body, deadline)
        ranges = [response.get("response_range", {}) for response in answer.get("responses", ())]
        found = [self._keys.read(entry) for one in ranges for entry in one.get("kvs", ())]
        revision = int(answer["header"]["revision"])
        return Outcome(bool(answer.get("succeeded")), revision, {one.key: one for one in found})

    async def read(self, keys: Iterable[str], deadline: float) -> Mapping[str, Stored]:
        """Return those of some keys that exist, at one revision."""
        return (await self.transact({}, [], deadline, also=list(keys))).found

    async def read_ranges(
        self,
        ranges: Sequence[Mapping[str, Any]],
        deadline: float,
        *,
        unless: Part | None = None,
        then: Sequence[Mapping[str, Any]] = (),
    ) -> tuple[Answer, list[list[Stored]]]:
        """Return an answer with some ranges at its revision, and what is in each; ``then`` others, if ``unless`` holds."""
        wanted = [{"request_range": one} for one in ranges]
        body: dict[str, Any] = {"success": wanted}
        if unless is not None:
            others = [{"request_range": one} for one in then]
            body = {"compare": [unless], "success": others, "failure": wanted}
        answer = await self.ask("v3/kv/txn", body, deadline)
        found = [response["response_range"].get("kvs", ()) for response in answer["responses"]]
        return answer, [[self._keys.read(entry) for entry in entries] for entries in found]

    async def grant(self, ttl_s: int, deadline: float) -> tuple[int, float]:
        """Return the number of a new etcd lease, and its TTL in seconds, which may be longer."""
        answer = await self._gateway.call("v3/lease/grant", {"TTL": str(ttl_s)}, deadline)
        return int(answer["ID"]), float(answer["TTL"])

    async def keep_alive(self, lease: int, deadline: float) -> bool:
        """Renew an etcd lease; return whether it still exists.

        A leader that is cut off may still say so: only what is read after it has a majority behind it.
        """
        answer = await self._gateway.call("v3/lease/keepalive", {"ID": str(lease)}, deadline)
        return int(answer.get("TTL", 0)) > 0

    async def revoke(self, lease: int, deadline: float) -> None:
        """End an etcd lease, with its keys, if it still exists."""
        try:
            await self._gateway.call("v3/lease/revoke", {"ID": str(lease)}, deadline)
        except Refused as refused:
            if refused.number != _NOT_FOUND:
                raise

    async def ask(self, path: str, body: Answer, deadline: float) -> Answer:
        """Return an answer that has a majority behind it. So its revision goes back only where a backup was restored.

        A restored etcd should have a new cluster token, and with that another cluster id. This is for one that has not.
        """
        cluster, reached = self._cluster, self._revision
        answer = await self._gateway.call(path, body, deadline)
        now, revision = cluster_of(answer), int(answer["header"]["revision"])
        if now == cluster and revision < reached:
            log.error(
                "Cannot rely on the engine: it has forgotten revisions %d to %d. Each host puts back what it holds. "
                "Restore a backup with a new --initial-cluster-token",
                revision + 1,
                reached,
            )
            await self.unsettle({}, deadline)
        elif now == self._cluster:
            revision = max(revision, self._revision)
        self._cluster, self._revision = now, revision
        return answer

    async def unsettle(self, conditions: Mapping[str, Part], deadline: float) -> None:
        """Have every host put back what it holds, if some conditions hold."""
        changes = [self._keys.delete(EPOCH), self._keys.delete_below("confirmed/")]
        body = {"compare": list(conditions.values()), "success": changes}
        await self._gateway.call("v3/kv/txn", body, deadline)
