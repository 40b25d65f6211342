"""``/v1/host``: the machine's resources, and how many more servers fit on it."""

from typing import Annotated

from aiohttp import web

from waportd.api.documents import respond
from waportd.api.json_schema import Document, of
from waportd.api.operations import READERS, Answer, Operation, Scope
from waportd.api.parameters import supervisor_of


class HostMemory(Document):
    """The machine's memory."""

    total: Annotated[int, "Bytes."]
    available: Annotated[int, "Bytes that are available to programs without swapping."]


class HostDocument(Document):
    """The machine, and how many servers fit on it."""

    memory: HostMemory
    cpus: Annotated[int, "Processors."]
    load: Annotated[tuple[float, ...], "Processes that run or want to, on average over 1, 5 and 15 minutes."]
    running: Annotated[int, "Servers that run."]
    max_running: Annotated[int, "`limits.max_running`: how many servers may run; 0 for no limit."]
    min_available_memory: Annotated[
        int, "`limits.min_available_memory`: bytes that a start leaves free; 0 for none."
    ]
    memory_per_session: Annotated[
        int, "Bytes that a server uses: the measured average, or 250 MiB where none was measured."
    ]
    more_sessions: Annotated[int | None, "How many more servers fit; null where no limit is set."]


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    return [
        Operation(
            "GET", "/v1/host", show, Scope.ADMIN, {200: Answer("the machine", of(HostDocument))}, also=READERS
        )
    ]


async def show(request: web.Request) -> web.Response:
    """Show the machine's resources, and how many more servers fit on it.

    `more_sessions` follows from the free memory and from the limits of the configuration.
    """
    supervisor = supervisor_of(request)
    capacity, limits = await supervisor.capacity(), supervisor.limits
    return respond(
        HostDocument(
            memory=HostMemory(total=capacity.memory_total, available=capacity.memory_available),
            cpus=capacity.cpus,
            load=tuple(round(average, 2) for average in capacity.load),
            running=capacity.running,
            max_running=limits.max_running,
            min_available_memory=limits.min_available_memory,
            memory_per_session=capacity.memory_per_session,
            more_sessions=capacity.more_sessions,
        )
    )
