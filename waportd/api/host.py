"""``/v1/host``: what the machine has, and how many more servers fit on it."""

from aiohttp import web

from waportd.api.operations import READERS, Answer, Operation, Scope
from waportd.api.representation import respond
from waportd.api.requests import supervisor_of
from waportd.api.schemas import array, integer, nullable, number, record

_HOST = record(
    "Host",
    memory=record(
        "HostMemory",
        total=integer("Bytes."),
        available=integer("Bytes that could be given to programs without swapping."),
    ),
    cpus=integer("Processors."),
    load=array(number(), "Processes that run or want to, on average over 1, 5 and 15 minutes."),
    running=integer("Servers that run."),
    max_running=integer("`limits.max_running`: how many may; 0 for no limit."),
    min_available_memory=integer(
        "`limits.min_available_memory`: bytes that a start leaves free; 0 for none."
    ),
    memory_per_session=integer(
        "Bytes of a server: the measured average, or 250 MiB where none was measured."
    ),
    more_sessions=nullable(integer("How many more servers fit; null where no limit is set.")),
)


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    return [
        Operation("GET", "/v1/host", show, Scope.ADMIN, {200: Answer("the machine", _HOST)}, also=READERS)
    ]


async def show(request: web.Request) -> web.Response:
    """Show what the machine has, and how many more servers fit on it."""
    supervisor = supervisor_of(request)
    room, limits = await supervisor.room(), supervisor.limits
    return respond(
        {
            "memory": {"total": room.memory_total, "available": room.memory_available},
            "cpus": room.cpus,
            "load": [round(average, 2) for average in room.load],
            "running": room.running,
            "max_running": limits.max_running,
            "min_available_memory": limits.min_available_memory,
            "memory_per_session": room.memory_per_session,
            "more_sessions": room.more_sessions,
        }
    )
