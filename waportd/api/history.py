"""``/v1/history``: the last hours, minute by minute."""

import asyncio
import math
import os
from typing import Annotated, Any, Final

import psutil
from aiohttp import web

from waportd.api import examples
from waportd.api.accept import takes_gzip
from waportd.api.documents import moment, respond, written
from waportd.api.json_schema import Document, Moment, of
from waportd.api.operations import READERS, Answer, Operation, Scope
from waportd.api.parameters import Parameter, supervisor_of
from waportd.history import MAX_HOURS, STEP_S, Excerpt
from waportd.value_types import number

Counts = tuple[int | None, ...]
Numbers = tuple[float | None, ...]


class LastHoursDocument(Document):
    """The last hours in columns: each has one entry for each of the `times`, and null where nothing was measured."""

    since: Annotated[Moment, "The first sample. The daemon keeps none from before its own start."]
    step_s: Annotated[int, "Seconds from one sample to the next."]
    cpus: Annotated[int, "Processors of the machine."]
    memory_total: Annotated[int, "Bytes of memory of the machine."]
    times: Annotated[
        tuple[Moment, ...],
        "When the samples were taken, the oldest first. All are by the clock as it is now: if it was set meanwhile, earlier "
        "samples move with it.",
    ]
    linked: Annotated[Counts, "Users whose phone is linked, and whose messages can be sent."]
    waiting: Annotated[Counts, "Users who have to do something: scan a code, use a passkey."]
    working: Annotated[Counts, "Users whose server starts, stops, loads or connects again."]
    trouble: Annotated[Counts, "Users with a problem."]
    asleep: Annotated[Counts, "Users with a login whose server does not run."]
    idle: Annotated[Counts, "Users without a login; nothing is done for them."]
    servers_memory: Annotated[
        Counts, "Bytes of memory of all servers with their browsers; null where systemd does not measure it."
    ]
    host_memory: Annotated[Counts, "Bytes of memory of the machine that are in use."]
    servers_cpu: Annotated[
        Numbers,
        "Processors that all servers with their browsers kept busy, on average since the sample before.",
    ]
    load: Annotated[Numbers, "Processes that run or want to, on average over a minute."]
    queued: Annotated[Counts, "Messages that wait for the web app."]
    delivered: Annotated[Counts, "Messages that the web app took since the sample before."]
    undelivered: Annotated[Counts, "Messages that were given up since the sample before. They are kept."]
    restarts: Annotated[Counts, "Servers that systemd restarted automatically since the sample before."]


_FRACTIONS: Final = ("servers_cpu", "load")
"""Figures that are no whole numbers."""
_HOURS: Final = Parameter[int]("hours", number(1, MAX_HOURS), "How far to look back.", default=MAX_HOURS)


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    answers = {200: Answer("the last hours", of(LastHoursDocument), example=examples.HISTORY)}
    return [Operation("GET", "/v1/history", show, Scope.ADMIN, answers, (_HOURS,), also=READERS)]


async def show(request: web.Request) -> web.Response:
    """Show the last hours: how the users were, what the servers used, what was delivered.

    A sample is taken every minute and kept in memory, for a day at most. A restart of the daemon begins again (`since`).
    While the machine sleeps there are no samples, and the columns hold null. For longer times, and for single users, use
    `/metrics`.
    """
    excerpt = supervisor_of(request).history.of_last(_HOURS.of(request))
    # A day is 20,000 numbers: some milliseconds, and 230 KB that become 20.
    response = respond(await asyncio.to_thread(_write, excerpt), Vary="Accept-Encoding")
    if takes_gzip(request):
        response.enable_compression(web.ContentCoding.gzip)
    return response


def _write(excerpt: Excerpt) -> bytes:
    columns: dict[str, Any] = {
        name: tuple(None if math.isnan(value) else _rounded(name, value) for value in column)
        for name, column in excerpt.columns.items()
    }
    return written(
        LastHoursDocument(
            since=moment(excerpt.since),
            step_s=STEP_S,
            cpus=os.cpu_count() or 1,
            memory_total=psutil.virtual_memory().total,
            times=tuple(map(moment, excerpt.times)),
            **columns,
        )
    )


def _rounded(name: str, value: float) -> float:
    return round(value, 2) if name in _FRACTIONS else int(value)
