"""Waits for work that may not be able to give up.

No client library can be trusted to end at its own limit: so work is a task that is waited for, and left when its time
is over.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from waportd.concurrency import retrieve_error

T = TypeVar("T")


async def within(limit_s: float, work: Coroutine[Any, Any, T]) -> T:
    """Return what work returns. Raises TimeoutError after so many seconds, and what the work raises.

    Work that is not over then is cancelled, and not waited for: it may take as long as it likes to end.
    """
    task = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=limit_s)
    finally:
        task.add_done_callback(retrieve_error)
        task.cancel()
    if not done:
        raise TimeoutError
    return task.result()
