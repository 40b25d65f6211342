"""Calls for users of other hosts: each is passed on to the host that has the user, and its answer back.

The host that is asked lets its caller in, counts and records the call, and watches that the caller may still read the
answer. The host that has the user trusts it in that (`access`), and never passes such a call on again.
"""

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Awaitable, Iterator
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict

from waportd.api.access import caller_of, handed_over, is_passed_on
from waportd.api.operations import Operation
from waportd.api.parameters import supervisor_of
from waportd.api.passing import EVENTS, FOREVER_S, pieces, send_back, stream_back, tied, unless
from waportd.errors import HostSilent, LoginComing, NotHere, ShuttingDown
from waportd.host import Fleet, HostCall
from waportd.model import User
from waportd.quotas import PASSAGES, PASSAGES_PER_CALLER

_WHOLE_BYTES: Final = 64 * 1024
"""Bytes of an answer that is passed back in one piece."""
PATIENCE_S: Final = 5.0
"""Seconds in which the daemon of another host may come back, which restarts in less, and in which a login may arrive.
A browser that follows events gives up for good where it is refused once."""
_GRACE_S: Final = 4.0
"""Seconds that calls are given to be answered when the daemon ends: less than it gives its open requests."""
_PASSED_ON: Final = (
    *(hdrs.ACCEPT, hdrs.CONTENT_TYPE, hdrs.IF_NONE_MATCH, hdrs.IF_RANGE, hdrs.RANGE),
    *("Idempotency-Key", "Last-Event-ID"),
)
_OF_THE_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "date", "server"})
"""Headers that are not passed back: they are about the connection between the hosts."""
_WITHOUT_BODY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


def across(fleet: Fleet, operation: Operation) -> Operation:
    """Return an operation as a host of a fleet answers it: by the host that has the user, where it is about one."""
    whose = operation.whose
    if whose is None:
        return operation
    here = operation.handler

    @functools.wraps(here)
    def answer(request: web.Request) -> Awaitable[web.StreamResponse]:
        # Users of this host cost one look at a dict.
        user = whose.of(request)
        host = fleet.owners().get(user)
        is_here = supervisor_of(request).registry.get(user) is not None
        if is_here and host in {None, fleet.name}:
            return here(request)
        if host == fleet.name and fleet.is_coming(user):
            return _answer_later(request, fleet, operation, user)
        return _answer_elsewhere(request, fleet, operation, user, host)

    return dataclasses.replace(operation, handler=answer)


async def _answer_later(
    request: web.Request, fleet: Fleet, operation: Operation, user: User
) -> web.StreamResponse:
    """Answer a call for a user who comes to this host, once the user is there. Raises LoginComing."""
    registry = supervisor_of(request).registry
    await registry.wait(user, lambda instance: instance is not None, PATIENCE_S)
    if registry.get(user) is None and fleet.is_coming(user):
        raise LoginComing(user, fleet.name)
    return await _answer_elsewhere(request, fleet, operation, user, fleet.owners().get(user))


async def _answer_elsewhere(
    request: web.Request, fleet: Fleet, operation: Operation, user: User, host: str | None
) -> web.StreamResponse:
    """Answer a call for a user who is not here, or whose host is not known here."""
    if host == fleet.name:
        return await operation.handler(request)
    if is_passed_on(request):
        if host is None:
            return await operation.handler(request)
        raise NotHere(
            f"user {user} is on host {host}, and this call comes from another host already",
            hint="ask again: the hosts learn of a move within a moment",
            retry_after=1,
        )
    host = host or await fleet.find(user)
    if host is not None and host != fleet.name:
        return await _pass_on(request, fleet, operation, user, host, PATIENCE_S)
    if host is None and operation.creates:
        return await _place(request, fleet, operation, user)
    return await operation.handler(request)


async def _place(request: web.Request, fleet: Fleet, operation: Operation, user: User) -> web.StreamResponse:
    """Have a new user made by the host that has most room for one."""
    unfit: set[str] = set()
    while (host := fleet.place(user, unfit)) != fleet.name:
        try:
            response = await _pass_on(request, fleet, operation, user, host)
        except HostSilent as error:
            if error.cause != HostSilent.NOT_REACHED:
                raise
            unfit.add(host)
        else:
            if response.status < HTTPStatus.BAD_REQUEST:
                # What this caller asks next is about a user who is there.
                await fleet.until_known(user)
            return response
    return await operation.handler(request)


async def _pass_on(
    request: web.Request,
    fleet: Fleet,
    operation: Operation,
    user: User,
    host: str,
    patience_s: float = 0,
) -> web.StreamResponse:
    """Answer with what another host answers. Raises HostSilent, HostRefused."""
    headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
    headers |= handed_over(request)
    body: bytes | AsyncIterator[bytes] | None = None
    if operation.body is not None and request.body_exists:
        if operation.body.goes_through:
            body = pieces(request)
            if hdrs.CONTENT_LENGTH in request.headers:
                headers[hdrs.CONTENT_LENGTH] = request.headers[hdrs.CONTENT_LENGTH]
        else:
            body = await request.read()
    wanted = HostCall(request.method, request.rel_url.raw_path_qs, headers, body)
    call = fleet.call(host, wanted, patience_s)
    crowd = request.app["passages"]
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(crowd.one_more(caller_of(request).identity, PASSAGES_PER_CALLER, PASSAGES))
        stack.enter_context(tied(request))
        with _ending(request, user, _GRACE_S) as ended:
            answer = await unless(ended, stack.enter_async_context(call))
        if answer is None:
            raise ShuttingDown("waportd ends", hint="ask again", retry_after=1)
        return await _pass_back(request, user, answer)


async def _pass_back(request: web.Request, user: User, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    if answer.content_type == EVENTS:
        with _ending(request, user, 0) as ended:
            return await stream_back(request, answer, ended)
    headers = CIMultiDict(one for one in answer.headers.items() if one[0].lower() not in _OF_THE_HOP)
    length = 0 if answer.status in _WITHOUT_BODY else answer.content_length
    if request.method == hdrs.METH_HEAD or length is None or length > _WHOLE_BYTES:
        return await send_back(request, answer, headers)
    headers.popall(hdrs.CONTENT_LENGTH, None)
    return web.Response(status=answer.status, headers=headers, body=await answer.read() or None)


@contextlib.contextmanager
def _ending(request: web.Request, user: User, grace_s: float) -> Iterator[asyncio.Task[Any]]:
    """Give a task that is done when waportd has been ending for so many seconds."""
    registry = supervisor_of(request).registry

    async def wait() -> None:
        await registry.wait(user, lambda _: False, FOREVER_S)
        await asyncio.sleep(grace_s)

    ended = asyncio.create_task(wait(), name="forward")
    try:
        yield ended
    finally:
        ended.cancel()
