"""Helpers for the event loop: background work, and a lock for each key."""

import asyncio
import logging
import weakref
from collections.abc import Coroutine, Hashable
from typing import Any, Generic, TypeVar

from waportd.errors import WaportdError

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


class Background:
    """Background work. Its failures go to the log: a WaportdError without a traceback, others as bugs."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def run(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
        """Begin the work; return None after `close`, when it is not done any more. ``name`` completes "Cannot …"."""
        if self._closed:
            work.close()
            return None
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    async def idle(self) -> None:
        """Return when nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)
            await asyncio.sleep(0)  # a later callback removes the tasks that have ended

    async def close(self) -> None:
        """Cancel what is under way, and wait until it has ended."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, WaportdError):
            log.warning("Cannot %s: %s", task.get_name(), error)
        else:
            log.error("Cannot %s: %s", task.get_name(), error, exc_info=error)


class KeyedLocks(Generic[K]):
    """A lock for each key. It lives as long as somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: weakref.WeakValueDictionary[K, asyncio.Lock] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._locks)

    def __getitem__(self, key: K) -> asyncio.Lock:
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock


def retrieve_error(task: asyncio.Task[Any]) -> None:
    """Retrieve the error of a task that nothing waits for any more, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()
