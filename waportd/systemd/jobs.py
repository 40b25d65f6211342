"""Jobs of systemd that are waited for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from waportd.systemd.calls import MANAGER, Calls
from waportd.systemd.manager import BusTimeout, JobFailed, UnitStatus
from waportd.systemd.watcher import UnitWatcher

_End = tuple[str, UnitStatus | None]
"""How a job ended, and the state of its unit in the signals so far."""


class Job:
    """A job that is waited for. It notes every job that ends: its own may end before the answer that names it."""

    def __init__(self) -> None:
        self.end: asyncio.Future[_End] = asyncio.get_running_loop().create_future()
        self._path: str | None = None
        self._ended: dict[str, _End] = {}

    def set_path(self, path: str) -> None:
        """Take the job's path, from systemd's answer."""
        self._path = path
        if path in self._ended:
            self.note_end(path, self._ended[path])

    def note_end(self, path: str, end: _End) -> None:
        """Take notice of the end of a job."""
        if self._path is None:
            self._ended[path] = end
        elif path == self._path and not self.end.done():
            self.end.set_result(end)


class Jobs:
    """The jobs under way, each of which may take ``timeout`` seconds."""

    def __init__(self, calls: Calls, watcher: UnitWatcher, timeout: float) -> None:
        self._calls = calls
        self._watcher = watcher
        self.timeout = timeout
        self.waiting: set[Job] = set()
        """Jobs that are waited for."""

    async def subscribe(self) -> None:
        """Hear of jobs that end."""
        await self._calls.connection.subscribe(MANAGER, "JobRemoved", self._on_job_removed)

    async def run(self, method: str, unit: str) -> None:
        """Have the manager make a job, and return when that is done. Raises JobFailed, BusTimeout, and what calls raise."""
        job = Job()
        # Listens before it asks: the job may have ended before the answer comes.
        self.waiting.add(job)
        try:
            async with self.within_timeout(method, unit):
                [path] = await self._calls.ask(method, "(ss)", unit, "replace", reply="(o)")
                job.set_path(path)
                result, status = await self._calls.unless_lost(job.end)
        finally:
            self.waiting.discard(job)
        if result != "done":
            # The signals before the job's end: by now systemd may have restarted it, and forgotten why it failed.
            status = status or await self._watcher.status(unit)
            raise JobFailed(
                f"{method} {unit}: the job ended as {result!r}; the unit is {status.active_state} "
                f"({status.sub_state}), its result {status.result!r}",
                result=result,
                unit=status,
                hint=f"see `journalctl {'--user ' if self._calls.connection.bus == 'session' else ''}-u {unit}`",
            )

    @contextlib.asynccontextmanager
    async def within_timeout(self, method: str, unit: str) -> AsyncIterator[None]:
        """Raise BusTimeout where something takes longer than a job may."""
        try:
            async with asyncio.timeout(self.timeout):
                yield
        except TimeoutError:
            raise BusTimeout(
                f"{method} {unit}: not done within {self.timeout:g} s", hint="see `systemctl list-jobs`"
            ) from None

    def _on_job_removed(self, _path: str, arguments: Any) -> None:
        _, job, unit, result = arguments.unpack()
        for waiting in self.waiting:
            waiting.note_end(job, (result, self._watcher.heard(unit)))
