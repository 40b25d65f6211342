"""Servers that count as up when they answer, some 20 ms before systemd learns that they are ready."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp

from waportd.concurrency import retrieve_error
from waportd.event_streams import ANSWER_TIMEOUT_S, EVENT_STREAM, EventStreams
from waportd.model import Assignment, Port, User, service_unit
from waportd.observer import Observer
from waportd.server_client import not_answering, refused, why
from waportd.systemd.manager import UnitManager

log = logging.getLogger(__name__)


class FirstAnswers:
    """Starts services, and sends each a first request while it starts: it waits in the socket that systemd holds.

    Where it is not ``enabled``, a service is up when systemd says so, and gets no request.
    """

    def __init__(
        self,
        observer: Observer,
        manager: UnitManager,
        note_opened: Callable[[User], Coroutine[Any, Any, None]],
        *,
        enabled: bool,
    ) -> None:
        """``note_opened`` stores that the user's port was opened; it runs while the server starts."""
        self._observer = observer
        self._manager = manager
        self._note_opened = note_opened
        self._enabled = enabled
        self._jobs: set[asyncio.Task[None]] = set()
        """Starts of servers that have answered already, while systemd does not know yet that they are ready."""

    async def close(self) -> None:
        """Stop waiting for jobs; systemd continues them."""
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    async def start(self, assignment: Assignment) -> bool:
        """Start the service; return when it answers (True), or else when systemd says that it is ready (False).

        A server that has answered was asked for a code, too, where no phone is linked. Raises JobFailed, SystemdError.
        """
        port = assignment.port
        if not self._enabled:
            await self._manager.start(service_unit(port))
            return False
        job = asyncio.create_task(
            self._manager.start(service_unit(port)), name=f"job of {service_unit(port)}"
        )
        answer = asyncio.create_task(
            self._first_answer(assignment), name=f"first answer of {service_unit(port)}"
        )
        answer.add_done_callback(retrieve_error)
        try:
            await asyncio.wait({job, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() or answer.exception() is not None:
                await job
                return False
            if not job.done():
                self._observer.note_answer(port)
                self._jobs.add(job)
                job.add_done_callback(self._job_ended)
            return True
        finally:
            answer.cancel()
            if job not in self._jobs:
                job.cancel()

    async def _first_answer(self, assignment: Assignment) -> None:
        """Return when the server has answered. Before systemd holds the port, another program might answer."""
        port = assignment.port
        await self._observer.until_held(port)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._note_opened(assignment.user))
            # The request that makes an unlinked server begin its work is as good as any.
            both.create_task(
                open_first_stream(self._observer.streams, port, ask_for_code=not assignment.linked)
            )

    def _job_ended(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()):
            # The unit's state shows what it means.
            log.warning("Cannot complete the %s: %s", job.get_name(), error)


async def open_first_stream(streams: EventStreams, port: Port, *, ask_for_code: bool) -> None:
    """Return when a server that starts answers. Raises ServerFailed.

    It is asked for its event stream, which `EventStreams.follow` then continues, and with ``ask_for_code`` for a code
    in the same request: while it starts, each further request would delay others. Asks again where the
    server ends before it answers: systemd holds the port, and starts the next one.
    """
    call = ("POST", "/qr/new") if ask_for_code else ("GET", "/events")
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            try:
                answer = await streams.request(port, *call)
            except (aiohttp.ClientError, OSError):
                answer = await streams.request(port, *call)
    except TimeoutError as error:
        raise not_answering(port, f"no answer within {ANSWER_TIMEOUT_S:.0f} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise not_answering(port, why(error)) from error
    if answer.status == 200 and answer.content_type == EVENT_STREAM:  # noqa: PLR2004
        streams.go_on_with(port, answer)
        return
    answer.close()
    if answer.status >= 300:  # noqa: PLR2004
        raise refused(port, answer.status, b"")
