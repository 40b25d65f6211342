"""Follows the event stream of each server that runs: it brings the state of the session."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import aiohttp

from waportd.concurrency import Background
from waportd.errors import WaportdError
from waportd.model import Port, Session
from waportd.quotas import SESSION_UPDATES, Pace
from waportd.server_client import close_http, open_http, why
from waportd.session_reader import BadEvent, parse_events, parse_session

log = logging.getLogger(__name__)

SILENCE_S = 40.0
"""Seconds without a byte after which a stream counts as dead; the server sends a heartbeat every 15 s."""
RETRY_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts to reach a server that runs; the last one repeats."""
EVENT_STREAM = "text/event-stream"
ANSWER_TIMEOUT_S = 20.0
"""Seconds a server has to answer with its event stream."""


class EventStreams:
    """One event stream per running server.

    Connecting to a stopped server's port would start it, so it only connects to servers that systemd reports
    as running: the supervisor says which to `follow`, and is asked again (``runs``) before each further attempt.
    """

    def __init__(
        self,
        on_session: Callable[[Port, Session], None],
        on_silence: Callable[[Port, str], None],
        runs: Callable[[Port], Awaitable[bool]],
    ) -> None:
        """``on_silence`` is called, with the reason, after each stream that ended or could not be opened."""
        self._on_session = on_session
        self._on_silence = on_silence
        self._runs = runs
        self._followers: dict[Port, asyncio.Task[None]] = {}
        self._begin_next: set[Port] = set()
        """Ports whose next server that connects has its turn to start its browser."""
        self._begun: dict[Port, aiohttp.ClientResponse] = {}
        """Event streams that servers have answered with, for `follow` to continue."""
        self._background = Background()
        self._http = open_http()

    def follow(self, port: Port) -> None:
        """Follow the server on that port until `unfollow`, whenever it runs."""
        if port not in self._followers:
            task = self._background.run(self._follow(port), f"follow port {port}")
            if task is not None:
                self._followers[port] = task
                task.add_done_callback(lambda done: self._followed(port, done))

    def unfollow(self, port: Port) -> None:
        """Stop following; harmless if it is not followed."""
        task = self._followers.pop(port, None)
        if task is not None:
            task.cancel()
        self._hang_up(port)

    async def close(self) -> None:
        """End all streams. The servers do not mind."""
        for port in [*self._followers, *self._begun]:
            self.unfollow(port)
        await self._background.close()
        await close_http(self._http)

    def go_on_with(self, port: Port, answer: aiohttp.ClientResponse) -> None:
        """Have `follow` continue with an event stream that a server has answered with."""
        self._hang_up(port)
        self._begun[port] = answer

    def begin_next(self, port: Port) -> None:
        """Let the session of the server that is about to start begin with the request for its event stream."""
        self._begin_next.add(port)

    def _followed(self, port: Port, task: asyncio.Task[None]) -> None:
        if self._followers.get(port) is task:
            del self._followers[port]

    async def _follow(self, port: Port) -> None:
        attempt = 0

        def hear(session: Session) -> None:
            nonlocal attempt
            attempt = 0
            self._on_session(port, session)

        # The supervisor has just learned that it runs.
        runs = True
        while True:
            reason = None
            try:
                if runs or await self._runs(port):
                    await self._listen(port, hear)
                    reason = "the server closed its event stream"
            except TimeoutError:
                reason = f"the server said nothing for {SILENCE_S:.0f} s"
            except BadEvent as error:
                reason = f"the server's event stream makes no sense: {error}"
            except (aiohttp.ClientError, OSError) as error:
                reason = f"the server's event stream broke: {why(error)}"
            except WaportdError as error:
                # Of ``runs``: systemd is busy, or restarts itself.
                reason = f"cannot see whether the server runs: {error}"
            runs = False
            if reason is not None:
                self._on_silence(port, reason)
            await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
            attempt += 1

    async def request(self, port: Port, method: str = "GET", path: str = "/events") -> aiohttp.ClientResponse:
        """Ask a server for its event stream by that call; return the answer, whatever it is.

        ``give`` promises it a turn to load WhatsApp's page; ``begin``, after `begin_next`, says that it has it.
        """
        turn = "begin" if port in self._begin_next else "give"
        answer = await self._http.request(
            method,
            f"http://127.0.0.1:{port}{path}",
            headers={"Accept": EVENT_STREAM, "Waportd-Turns": turn},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=SILENCE_S),
            allow_redirects=False,
        )
        self._begin_next.discard(port)
        return answer

    def _hang_up(self, port: Port) -> None:
        if answer := self._begun.pop(port, None):
            answer.close()

    async def _listen(self, port: Port, hear: Callable[[Session], None]) -> None:
        """Pass on what a server sends until it ends, however fast it is: of several events at once, the newest."""
        newest = None
        pace = Pace(*SESSION_UPDATES)

        async def pieces(content: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
            nonlocal newest
            async for piece in content.iter_any():
                yield piece
                # All events of this piece are known now.
                if newest is not None:
                    session, newest = parse_session(newest), None
                    hear(session)
                    await asyncio.sleep(pace.count(None, time.monotonic()))

        answer = self._begun.pop(port, None)
        if answer is None:
            # There may be any number of interim answers (100 Continue), and each resets the timeout.
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    answer = await self.request(port)
            except TimeoutError:
                raise BadEvent(f"it has not begun within {ANSWER_TIMEOUT_S:g} s") from None
        async with answer:
            if answer.status != 200:  # noqa: PLR2004
                raise BadEvent(f"status {answer.status}")
            async with contextlib.aclosing(parse_events(pieces(answer.content))) as events:
                async for text in events:
                    newest = text
