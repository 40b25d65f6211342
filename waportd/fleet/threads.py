"""Blocking work in threads that may hang for ever: on a disk or a mount that does not answer."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

from waportd.concurrency import KeyedLocks

T = TypeVar("T")

_THREADS: Final = 8


class Threads:
    """Does blocking work, each piece in a thread of its own and a few at a time.

    The threads of an executor are not used: a process waits for these when it ends. Work that is given up keeps its
    place among the few and the lock of its key until it has ended. So work of one key happens in order, and a mount
    that hangs costs a few threads, however often it is asked.
    """

    def __init__(self, limit_s: float, *, most: int = _THREADS) -> None:
        self._limit_s = limit_s
        self._locks: KeyedLocks[Hashable] = KeyedLocks()
        self._free = asyncio.Semaphore(most)

    async def run(self, key: Hashable, work: Callable[[], T]) -> T:
        """Return what the work returns, or raise what it raises; TimeoutError after the limit, with the time to wait."""
        async with asyncio.timeout(self._limit_s):
            lock = self._locks[key]
            await lock.acquire()
            try:
                await self._free.acquire()
            except BaseException:
                lock.release()
                raise
            return await self._begin(lock, work)

    def _begin(self, lock: asyncio.Lock, work: Callable[[], T]) -> "asyncio.Future[T]":
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()

        def end(settle: Callable[[Any], None], value: Any) -> None:
            lock.release()
            self._free.release()
            if not outcome.done():
                settle(value)

        def body() -> None:
            result: tuple[Callable[[Any], None], Any]
            try:
                result = outcome.set_result, work()
            except BaseException as error:  # noqa: BLE001  # it is raised where the work is awaited
                result = outcome.set_exception, error
            with contextlib.suppress(RuntimeError):  # the loop has closed, and nobody waits
                loop.call_soon_threadsafe(end, *result)

        try:
            threading.Thread(target=body, name="snapshots", daemon=True).start()
        except BaseException:
            lock.release()
            self._free.release()
            raise
        return outcome
