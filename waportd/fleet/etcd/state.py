"""All that etcd holds of a fleet, at one revision."""

from collections.abc import AsyncGenerator
from typing import Final

from waportd.fleet.engine import Row, State
from waportd.fleet.etcd.gateway import Refused, cluster_of
from waportd.fleet.etcd.keys import EPOCH, Keys, fact_of, host_of, order_of, row_of, token_of
from waportd.fleet.etcd.transactions import Transactions

_PAGE: Final = 500
"""Rows that are read in one call."""
_OUT_OF_RANGE: Final = 11
"""gRPC's code of a revision that has been compacted."""


async def read_state(transactions: Transactions, keys: Keys, deadline: float) -> State:
    """Return the state, and enter its epoch. Raises EngineUnavailable."""
    while True:
        try:
            return await _read(transactions, keys, deadline)
        except Refused as refused:
            if refused.number != _OUT_OF_RANGE:  # between two pages
                raise


async def _read(transactions: Transactions, keys: Keys, deadline: float) -> State:
    parts = ("hosts/", "leases/", "deleted/", "orders/", "facts/", "confirmed/", EPOCH)
    answer, found = await transactions.read_ranges([keys.below(part) for part in parts], deadline)
    hosts, leases, deleted, orders, facts, confirmed, settled = found
    revision, epoch = int(answer["header"]["revision"]), cluster_of(answer)
    transactions.enter(epoch)
    for one in settled:
        if one.value.get("epoch") != epoch:
            # That of the cluster whose backup this is. Before anybody changes anything here, processes that have not
            # noticed must be refused: the revisions that they know may mean something else soon.
            await transactions.unsettle({EPOCH: keys.unchanged(EPOCH, one.revision)}, deadline)
    incarnations = {one.name: one.revision for one in leases}
    return State(
        hosts=tuple(host_of(one, incarnations.get(one.name)) for one in hosts),
        rows=tuple([row async for row in _rows(transactions, keys, revision, deadline)]),
        revision=revision,
        epoch=epoch,
        leases=incarnations,
        tombstones={one.name: token_of(one) for one in deleted},
        confirmed=frozenset(one.name for one in confirmed if one.value.get("epoch") == epoch),
        settled=any(one.value.get("epoch") == epoch for one in settled),
        orders={one.name: order_of(one) for one in orders},
        facts={one.name: fact_of(one) for one in facts},
    )


async def _rows(
    transactions: Transactions, keys: Keys, revision: int, deadline: float
) -> AsyncGenerator[Row, None]:
    """Yield all rows as they were at a revision. Raises Refused where that has been compacted."""
    after = ""
    while True:
        page = {**keys.below("users/", after), "limit": str(_PAGE), "revision": str(revision)}
        answer = await transactions.ask("v3/kv/range", page, deadline)
        entries = [keys.read(entry) for entry in answer.get("kvs", ())]
        for one in entries:
            yield row_of(one)
        if not answer.get("more"):
            return
        after = entries[-1].key
