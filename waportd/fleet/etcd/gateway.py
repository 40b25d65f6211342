"""Calls of etcd's JSON gateway (https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/) on several endpoints.

A call is a task that is *waited for*: after the limit it is left, with its connection, whatever it does. An endpoint
that fails, or does not answer within its share of the limit, has the next one asked. The last good one is asked first.
"""

import asyncio
import itertools
import json
import os
import re
import ssl
import time
import weakref
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import aiohttp
from yarl import URL

from waportd.fleet.engine import EngineUnavailable

T = TypeVar("T")

PAUSE_S: Final = 0.1
"""Seconds until an endpoint that refused is asked again, when all were."""
_FAREWELL_S: Final = 1.0
"""Seconds that `close` waits for calls that were left."""

Answer = Mapping[str, Any]

_HINTS: Final = {
    "unreachable": "check on the engine's hosts that etcd runs: `systemctl status etcd`",
    "no_leader": "fewer than half of etcd's members reach one another: start the others; "
    "`etcdctl endpoint status --cluster -w table` shows them",
    "no_space": "etcd's quota is used up: let `etcdctl compact REVISION` and `etcdctl defrag --cluster` free it, "
    "then `etcdctl alarm disarm`",
    "authentication": "waportd shows etcd a certificate, and no password: `etcdctl auth disable`, "
    "and let etcd demand certificates (--client-cert-auth)",
    "certificate": "check that the engine's certificate names its address, that both sides have the CA of the other's "
    "certificate, and that neither has expired",
}
_CAUSES: Final = (
    ("leader", "no_leader"),
    ("space exceeded", "no_space"),
    ("user name is empty", "authentication"),
    ("auth", "authentication"),
    ("permission denied", "authentication"),
)
"""Words of etcd's errors (its rpctypes/error.go, 3.4 and 3.5), and what they mean; the first that is found counts."""
_UNKNOWN: Final = 2
_TLS_TEXT: Final = re.compile(r"\[SSL: \w+\] (.*?)(?: \(_ssl|$)")
"""OpenSSL's words in those of Python's `ssl`."""
_PASSING_CODES: Final = {1, _UNKNOWN, 4, 8, 10, 14}
"""gRPC's codes of errors that another endpoint, or a later moment, may not have: cancelled, unknown, deadline, too many
requests, aborted, unavailable (https://grpc.github.io/grpc/core/md_doc_statuscodes.html)."""


class Refused(EngineUnavailable):
    """etcd has refused a call; another endpoint would, too. Nothing was changed."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(
            f"the engine refuses: {text}", cause="refused", hint="`journalctl -u etcd` there may say more"
        )
        self.number = number
        """gRPC's code of it."""


class Failure(Exception):
    """An endpoint has not answered, or has not this time. The call may have happened."""

    def __init__(self, reason: str, cause: str = "unreachable") -> None:
        super().__init__(reason)
        self.cause = cause


class _Connector(aiohttp.TCPConnector):
    """Knows its connections, to end them at once. One with TLS waits up to 30 s for the other side to agree."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(limit=0, ssl=tls)
        self._transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    async def connect(self, *arguments: Any, **options: Any) -> Any:
        connection = await super().connect(*arguments, **options)
        if connection.transport is not None:
            self._transports.add(connection.transport)
        return connection

    def abort(self) -> None:
        """End all connections."""
        for transport in list(self._transports):
            transport.abort()


class Gateway:
    """The endpoints of an etcd cluster. Make it within the event loop."""

    def __init__(self, endpoints: Sequence[str], tls: ssl.SSLContext | None = None) -> None:
        """``endpoints`` are URLs, at least one; ``tls`` has the CA of https ones, and this host's certificate for them."""
        self._endpoints = [URL(endpoint) for endpoint in endpoints]
        self.names = [f"{endpoint.host}:{endpoint.port}" for endpoint in self._endpoints]
        """What people know the endpoints by."""
        self._first = 0
        self._left: set[asyncio.Task[Any]] = set()
        # Always a context: in aiohttp 3.8, any other word for "as usual" means that nothing is verified.
        self._connector = _Connector(tls or ssl.create_default_context())
        self._http = aiohttp.ClientSession(
            connector=self._connector,
            # A member without a leader refuses a call, and ends a stream, in place of waiting for one.
            headers={"Grpc-Metadata-hasleader": "true"},
            timeout=aiohttp.ClientTimeout(),  # none: who waits for a call has a limit
            trust_env=False,
        )

    async def close(self) -> None:
        """End all connections."""
        for task in self._left:
            task.cancel()
        if self._left:
            await asyncio.wait(self._left, timeout=_FAREWELL_S)
        self._connector.abort()
        await self._http.close()
        await asyncio.sleep(0)  # they end in the turn after that (aiohttp's manual, "Graceful Shutdown")

    async def call(self, path: str, body: Answer, deadline: float) -> Answer:
        """Return the answer of the first endpoint that gives one.

        Raises Refused; EngineUnavailable at ``deadline``, which is of `time.monotonic`.
        """
        failures: dict[str, Failure] = {}
        first, count = self._first, len(self._endpoints)
        for attempt in itertools.count():
            position = (first + attempt) % count
            untried = count - attempt % count
            left = deadline - time.monotonic()
            if left <= 0:
                raise unavailable(failures)
            try:
                answer = await self.ask(position, path, body, left / untried)
            except Failure as failure:
                said = failures.setdefault(self.names[position], failure)
                if said.cause == "unreachable":  # what a try before this one said is not lost
                    failures[self.names[position]] = failure
            else:
                if attempt:
                    self._first = position
                return answer
            if untried == 1:
                await asyncio.sleep(min(PAUSE_S, max(0, deadline - time.monotonic())))
        raise AssertionError  # it counts without end

    @property
    def first(self) -> int:
        """The number of the endpoint that is asked first."""
        return self._first

    def avoid(self, position: int) -> None:
        """Ask another endpoint first from now on."""
        if self._first == position:
            self._first = (position + 1) % len(self._endpoints)

    async def ask(self, position: int, path: str, body: Answer, limit_s: float) -> Answer:
        """Return the answer of one endpoint. Raises Refused, Failure."""
        return await self._within(limit_s, self._post(self._endpoints[position], path, body))

    async def follow(
        self, position: int, path: str, body: Answer, *, limit_s: float, silence_s: float
    ) -> AsyncGenerator[Answer | None, None]:
        """Yield what an endpoint sends on a stream, and None whenever it has sent nothing for ``silence_s`` seconds.

        It has ``limit_s`` seconds to begin. Raises Refused, Failure, also where the stream ends.
        """
        response = await self._within(limit_s, self._open(self._endpoints[position], path, body))
        try:
            unfinished = b""
            while True:
                try:
                    async with asyncio.timeout(silence_s):
                        piece = await response.content.readany()
                except TimeoutError:
                    yield None
                    continue
                if not piece:
                    raise Failure("it ended the stream")
                *lines, unfinished = (unfinished + piece).split(b"\n")
                for line in lines:
                    yield _read(response.status, line)
        except (aiohttp.ClientError, OSError) as error:
            raise Failure(*_why(error)) from error
        finally:
            response.close()

    async def _post(self, endpoint: URL, path: str, body: Answer) -> Answer:
        response = await self._open(endpoint, path, body)
        try:
            return _read(response.status, await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise Failure(*_why(error)) from error
        finally:
            response.release()  # which closes the connection where the answer was not read to its end

    async def _open(self, endpoint: URL, path: str, body: Answer) -> aiohttp.ClientResponse:
        try:
            return await self._http.post(endpoint / path, data=json.dumps(body), allow_redirects=False)
        except (aiohttp.ClientError, OSError) as error:
            raise Failure(*_why(error)) from error

    async def _within(self, limit_s: float, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of some work. Raises Failure after the limit, when the work is left to itself."""
        task = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=limit_s)
        except asyncio.CancelledError:
            self._leave(task)
            raise
        if done:
            return task.result()
        self._leave(task)
        raise Failure(f"no answer within {limit_s:.1f} s")

    def _leave(self, task: asyncio.Task[Any]) -> None:
        task.cancel()
        self._left.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._left.discard(task)
        if (
            not task.cancelled()
            and task.exception() is None
            and isinstance(task.result(), aiohttp.ClientResponse)
        ):
            task.result().close()


def unavailable(failures: Mapping[str, Failure]) -> EngineUnavailable:
    """Return the error of a call that no endpoint has answered."""
    causes = [failure.cause for failure in failures.values()]
    cause = next((one for one in causes if one != "unreachable"), "unreachable")
    said = "; ".join(f"{name}: {failure}" for name, failure in failures.items())
    return EngineUnavailable(
        f"the engine does not answer: {said or 'no time was left to ask it'}",
        cause=cause,
        hint=_HINTS[cause],
    )


def cluster_of(answer: Answer) -> str:
    """Return the id of the cluster that has answered, in hexadecimal as etcd's logs have it."""
    return f"{int(answer['header']['cluster_id']):x}"


def _read(status: int, body: bytes) -> Answer:
    """Return an answer, or a message of a stream. Raises Refused, Failure, and EngineUnavailable where a fault lasts."""
    try:
        said = json.loads(body)
        # An error's form is of the gateway's version: its own text beside a code, or an object in place of the text.
        error = said.get("error") if status < 300 else said.get("error") or said  # noqa: PLR2004
        if error is None:
            answer: Answer = said.get("result", said)
            int(answer["header"]["cluster_id"])
            return answer
        fields = error if isinstance(error, dict) else said
        code = int(fields.get("grpc_code") or fields.get("code") or _UNKNOWN)
        text = str(fields.get("message", error))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as fault:
        raise Failure(f"the answer is not etcd's (HTTP status {status})") from fault
    cause = next((cause for words, cause in _CAUSES if words in text), None)
    if cause == "no_leader" or (cause is None and code in _PASSING_CODES):
        raise Failure(text, cause or "unreachable")
    if cause is not None:
        raise EngineUnavailable(f"the engine refuses: {text}", cause=cause, hint=_HINTS[cause])
    raise Refused(code, text)


def _why(error: Exception) -> tuple[str, str]:
    """Say in plain words why a call broke off, and the cause. The library's own words are about its internals."""
    # Of a certificate that the other side refuses, aiohttp keeps the text only.
    if tls := _TLS_TEXT.search(str(error)):
        return f"TLS: {tls[1]}", "certificate"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno), "unreachable"
    return "it closed the connection", "unreachable"
