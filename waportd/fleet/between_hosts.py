"""What one daemon of the fleet asks another one for itself, beside the calls of the API that it passes on."""

from aiohttp import web

from waportd.errors import NotFound
from waportd.fleet.object_server import ObjectServer
from waportd.fleet.peer_calls import OBJECTS, SERVERS
from waportd.fleet.peer_faults import problem
from waportd.fleet.port_calls import PortCalls


class BetweenHosts:
    """Has each call answered by what it is about."""

    def __init__(self, calls: PortCalls, objects: ObjectServer | None) -> None:
        """Without ``objects``, this host keeps none for the others."""
        self._calls = calls
        self._objects = objects

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a call of another host."""
        if request.path.startswith(SERVERS):
            return await self._calls.answer(request)
        if self._objects is not None and request.path.startswith(OBJECTS):
            return await self._objects.answer(request)
        return problem(
            NotFound(
                f"hosts do not call {request.method} {request.path:.200}",
                hint="run the same version of waportd, with the same `snapshots`, on all hosts",
            )
        )
