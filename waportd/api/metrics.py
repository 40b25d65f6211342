"""``/metrics``: what is measured, for Prometheus."""

import asyncio
import time

from aiohttp import web

from waportd.api.operations import WATCHERS, Answer, Operation, Scope
from waportd.api.parameters import supervisor_of
from waportd.api.problems import Handler
from waportd.metrics import CONTENT_TYPE, Snapshot, render

_WAITS = ("wait=", "timeout=")
"""The query parameters of calls that wait."""
_METHODS = {"GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"}


def operations() -> list[Operation]:
    """Return the operations of this resource."""
    text = Answer("the metrics", others={"text/plain": {"type": "string"}})
    return [Operation("GET", "/metrics", show, Scope.ADMIN, {200: text}, also=WATCHERS)]


@web.middleware
async def time_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Time each answer, by operation, except for calls that wait for something to happen."""
    began = time.perf_counter()
    response = await handler(request)
    if isinstance(response, web.Response) and not any(name in request.query_string for name in _WAITS):
        resource = request.match_info.route.resource
        # Callers may send any path and any method, and each would stay as a series.
        supervisor_of(request).metrics.requests.labels(
            resource.canonical if resource else "unknown",
            request.method if request.method in _METHODS else "other",
            f"{response.status // 100}xx",
        ).observe(time.perf_counter() - began)
    return response


async def show(request: web.Request) -> web.Response:
    """Show the metrics, in the text format of Prometheus.

    `docs/metrics.md` lists them all. Memory and processor time are at most half a minute old.
    """
    supervisor = supervisor_of(request)
    capacity = await supervisor.capacity()
    instances, usages = list(supervisor.registry), supervisor.usages()
    snapshot = Snapshot(
        instances=instances,
        usages=usages,
        cpu_total=supervisor.metrics.add_cpu(usages, instances),
        capacity=capacity,
        unassigned=len(supervisor.unassigned),
        alarm=supervisor.alarm.alarm if supervisor.alarm else None,
        warm_answers=request.app["response_cache"].answered,
        open_requests=request.app["traffic"].open,
        per_user=supervisor.metrics_per_user,
        fleet=supervisor.fleet.figures() if supervisor.fleet else None,
    )
    body = await asyncio.to_thread(render, supervisor.metrics, snapshot)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})
