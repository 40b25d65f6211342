"""Changes of etcd's keys as they happen, on whichever member answers."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from waportd.fleet.engine import Change, EngineUnavailable, Reset
from waportd.fleet.etcd.gateway import PAUSE_S, Answer, Failure, Gateway, cluster_of
from waportd.fleet.etcd.keys import EPOCH, Keys, event_of

log = logging.getLogger(__name__)

SILENCE_S: Final = 5.0
"""Seconds without a change after which a member must show that it, and a majority, are there."""
_LONGEST_PAUSE_S: Final = 1.0
"""Seconds between two tries at most, while no member answers."""


async def follow(
    gateway: Gateway, keys: Keys, epoch: str, revision: int, *, limit_s: float, silence_s: float
) -> AsyncGenerator[Change, None]:
    """Yield each change after a revision, once and in order; a `Reset` is the last.

    A member that fails, or stands still, is left for the next one, which continues at the same revision.
    """
    pause_s = PAUSE_S
    while True:
        position = gateway.first
        try:
            batches = _follow_member(gateway, position, keys, epoch, revision, limit_s, silence_s)
            async with contextlib.aclosing(batches):
                async for reached, changes in batches:
                    pause_s = PAUSE_S
                    for change in changes:
                        yield change
                        if isinstance(change, Reset):
                            return
                    revision = max(revision, reached)
        except (Failure, EngineUnavailable) as error:
            if pause_s == PAUSE_S:  # once, however long it lasts
                log.warning("Cannot follow the engine's changes at %s: %s", gateway.names[position], error)
            gateway.avoid(position)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _follow_member(
    gateway: Gateway, position: int, keys: Keys, epoch: str, revision: int, limit_s: float, silence_s: float
) -> AsyncGenerator[tuple[int, Sequence[Change]], None]:
    """Yield changes as one member reports them, with the revision that this reaches. Raises Failure."""

    async def check() -> list[Change]:
        """Return whether changes were lost; only a member that has a majority with it answers."""
        probe = {"key": keys.encode(EPOCH), "count_only": True}
        answer = await gateway.ask(position, "v3/kv/range", probe, limit_s)
        if cluster_of(answer) != epoch:
            return [Reset("the engine is another cluster: it was restored, or set up again")]
        if int(answer["header"]["revision"]) < revision:
            return [Reset("the engine has forgotten changes: it was restored")]
        return []

    if lost := await check():
        yield revision, lost
        return
    create = {**keys.below(), "start_revision": str(revision + 1), "progress_notify": True}
    messages = gateway.follow(
        position, "v3/watch", {"create_request": create}, limit_s=limit_s, silence_s=silence_s
    )
    async with contextlib.aclosing(messages):
        async for message in messages:
            if message is None or cluster_of(message) != epoch:
                yield revision, await check()
            elif message.get("canceled") and int(message.get("compact_revision", 0)):
                yield revision, [Reset("the engine has compacted changes that were not read")]
            elif message.get("canceled"):
                raise Failure(message.get("cancel_reason") or "it cancelled the watch")
            else:
                try:
                    reached, changes = _read(message, keys, epoch)
                except (
                    EngineUnavailable
                ) as error:  # of a key that waportd has not written: reading all says so, too
                    reached, changes = revision, [Reset(error.message)]
                revision = max(revision, reached)
                yield revision, changes


def _read(message: Answer, keys: Keys, epoch: str) -> tuple[int, list[Change]]:
    changes: list[Change] = []
    reached = 0
    for entry in message.get("events", ()):
        stored, deleted = keys.read(entry["kv"]), entry.get("type") == "DELETE"
        reached = stored.revision
        if deleted and stored.key == EPOCH:
            changes.append(Reset("the hosts have to put back what they hold"))
        elif event := event_of(stored, epoch, deleted=deleted):
            changes.append(event)
    if not message.get("events") and not message.get("created"):
        reached = int(message["header"]["revision"])  # nothing came up to there (progress_notify)
    return reached, changes
