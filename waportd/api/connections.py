"""Connections: they are accepted, counted for their callers, and closed to make room when there are too many.

aiohttp limits none of this: it takes as many connections and as many requests ahead as are sent, and waits for ever for
a first request and for a reader. asyncio's own accept loop keeps trying where there are no descriptors left.
"""

import asyncio
import collections
import contextlib
import itertools
import logging
import re
import socket
import struct
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final

from aiohttp import hdrs, web

from waportd.api.problems import problem
from waportd.api.throttle import network
from waportd.errors import BadRequest, TooManyRequests
from waportd.quotas import (
    ARRIVALS_PER_TURN,
    BAD_REQUEST_LINES,
    FIRST_REQUEST_S,
    NOBODY,
    READ_BYTES,
    SILENT_CONNECTIONS,
    TURN_S,
    UID,
    UNREAD_S,
    Pace,
    Share,
)

log = logging.getLogger(__name__)

BACKLOG: Final = 4096
"""Connections that wait in the kernel."""
_ACCEPTING_S = 0.006
"""Seconds for which connections are accepted before connected callers are answered again."""
_NO_DESCRIPTOR_PAUSE_S = 0.5
"""Seconds for which no connection is accepted where there is no descriptor left."""
LOOKED_AT = 64
"""Connections of a caller that are looked at for one that is idle; the longest unused come first. All of a link's or of
a user's token."""
PROGRESS_BYTES = 64 * 1024
"""Bytes that a reader has to take in `UNREAD_S` seconds, where there are as many."""
_UCRED = struct.Struct("iII")
"""struct ucred: pid, uid, gid; ids above 2^31 are valid."""
_END_OF_HEAD = re.compile(rb"\n\r?\n")
"""aiohttp 3.8 takes line ends without CR, too."""
_PEEKED_BYTES = 4096
"""Bytes of a first request that are looked at for who sends it."""
_NOBODY = "nobody"

Recognise = Callable[[bytes], tuple[Hashable, Share] | None]
"""Returns who sends a request, by its beginning; None for an unknown caller."""


def uid_of_peer(peer: Any) -> int | None:
    """Return the user id of the process at the other end of a unix socket; None for other sockets."""
    if peer.family != socket.AF_UNIX:
        return None
    _, uid, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


class TiedHandler(web.RequestHandler):
    """A connection whose requests may be tied to it: they are given up when the caller leaves."""

    _tied: asyncio.Task[Any] | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give up what is tied to the connection."""
        super().connection_lost(exc)
        if self._tied is not None:
            self._tied.cancel()

    @contextlib.contextmanager
    def tied(self) -> Iterator[None]:
        """Cancel the current task, which answers a request of this connection, if the caller disconnects meanwhile."""
        self._tied = asyncio.current_task()
        try:
            if self.transport is None:
                raise ConnectionResetError("the caller is gone")
            yield
        finally:
            self._tied = None


class Connection(TiedHandler, asyncio.BufferedProtocol):
    """A connection that takes no more than its share, and whose every answer is a problem document.

    What is sent ahead of an answer is not read: not by aiohttp beyond the next request's head, and not from the kernel
    beyond `READ_BYTES` bytes.
    """

    def __init__(self, door: "Door", caller: Hashable, share: Share, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.door = door
        self.caller = caller
        """The caller to which it counts; None for one that does not count any more."""
        self.share = share
        self.uid = caller if isinstance(caller, int) else None
        """Whose process it is, over the unix socket."""
        self._held = b""
        """What has arrived and is not looked at yet."""
        self._holds = False
        """Whether that keeps it from reading on."""
        self._alarm: asyncio.TimerHandle | None = None
        """Ends what lasts too long: the wait for a first request, or for a reader."""

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything on it."""
        transport = self.transport
        return transport is None or (
            not (self._messages or self._current_request or self._held)
            and not transport.get_write_buffer_size()
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request, if there is room."""
        super().connection_made(transport)
        if not self.door.let_in(self):
            transport.abort()  # type: ignore[attr-defined]  # of Transport, which it is
            return
        self._alarm = self._loop.call_later(FIRST_REQUEST_S, self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._end_alarm()
        self._held = b""
        self.door.see_off(self)
        super().connection_lost(exc)

    # What arrives

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Return where to put what arrives: never more than `READ_BYTES` bytes at a time."""
        return self.door.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has arrived."""
        self.data_received(bytes(self.door.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Take what has arrived, up to the next request; the rest waits until that is answered."""
        self.door.note_use(self)
        self._held += data
        self._feed()

    async def finish_response(self, *arguments: Any, **options: Any) -> Any:
        """Send an answer, then look at what arrived meanwhile."""
        result = await super().finish_response(*arguments, **options)
        if self._held:
            self._feed()
        return result

    def _feed(self) -> None:
        while self._held and not self._is_busy():
            if self.share.turns and not self.door.turns.take(self, self.caller, self.share.turns, self._feed):
                break
            end = self._body_left()
            if end is None:
                head = _END_OF_HEAD.search(self._held)
                end = head.end() if head else len(self._held)
            piece, self._held = self._held[:end], self._held[end:]
            super().data_received(piece)
            if self._messages and hasattr(self._messages[-1][0], "exc"):
                self._give_up_body()
        if self._messages:
            self._end_alarm()
        if self._held:
            self._holds = True
            self.pause_reading()
        elif self._holds:
            self._holds = False
            self.resume_reading()

    def _body_left(self) -> int | None:
        """Return how many bytes of a body are still to come; None where none is being read, or nobody knows."""
        if self._messages:
            message, body = self._messages[-1]
        elif self._current_request is not None:
            message, body = self._current_request._message, self._current_request.content  # noqa: SLF001
        else:
            return None
        length = None if body.is_eof() else getattr(message, "headers", {}).get(hdrs.CONTENT_LENGTH)
        return int(length) - body.total_bytes if length and length.isdecimal() else None

    def _is_busy(self) -> bool:
        """Return whether a request that has arrived as a whole waits for its answer."""
        if self._messages:
            _, body = self._messages[-1]
            return body.is_eof()
        request = self._current_request
        return request is not None and request.content.is_eof()

    def _give_up_body(self) -> None:
        """End the wait for the rest of a body where no valid HTTP came in its place: aiohttp does not."""
        if len(self._messages) > 1:
            del self._messages[-2]
        elif self._current_request is not None and not self._current_request.content.is_eof():
            self._messages.clear()
            body = self._current_request.content
            body.set_exception(web.RequestPayloadError())
            body.feed_eof()
            self.close()

    def resume_reading(self) -> None:
        """Continue to read, as aiohttp asks: not while something that arrived before still waits."""
        if not self._held:
            super().resume_reading()

    # What is sent

    def pause_writing(self) -> None:
        """Note that the caller does not read as fast as it is answered."""
        super().pause_writing()
        if self.transport is not None:
            self._await_reader(self.transport)

    def resume_writing(self) -> None:
        """Note that the caller has read."""
        self._end_alarm()
        super().resume_writing()

    def _await_reader(self, transport: asyncio.Transport) -> None:
        self._end_alarm()
        self._alarm = self._loop.call_later(
            UNREAD_S, self._look_at_reader, transport, transport.get_write_buffer_size()
        )

    def _look_at_reader(self, transport: asyncio.Transport, before: int) -> None:
        if before - transport.get_write_buffer_size() >= PROGRESS_BYTES:
            self._await_reader(transport)
            return
        if not self.door.lines.count(("unread", self.caller), self._loop.time()):
            log.info("dropped a reader that read nothing for %g s", UNREAD_S)
        transport.abort()

    def _end_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the middlewares never see. aiohttp's own answer and log line repeat what was sent."""
        if status != BadRequest.status:
            return super().handle_error(request, status, exc, message)
        source = network(request.remote or "nobody") if self.uid is None else f"uid {self.uid}"
        if not self.door.lines.count(source, self._loop.time()):
            log.info("refused a request of %s that is no valid HTTP (%s)", source, type(exc).__name__)
        response = problem(
            BadRequest(
                "the request is no valid HTTP/1.1",
                hint="a line or header may be 8190 bytes long, and plain text",
            )
        )
        response.force_close()
        return response


class Turns:
    """Spreads the callers' work over time: each gets a number of turns every `TURN_S` seconds, and the rest waits."""

    def __init__(self) -> None:
        self._taken: collections.Counter[Hashable] = collections.Counter()
        self._ends = 0.0
        """When the turns that are counted end, by the event loop's clock."""
        self._lines: dict[Hashable, collections.OrderedDict[Hashable, tuple[int, Callable[[], None]]]] = {}
        """What waits for a turn of each caller: what to call then."""
        self._timer: asyncio.TimerHandle | None = None
        self._calling = False
        """Whether those who wait are being called: they do not line up behind the others again."""

    def take(self, who: Hashable, caller: Hashable, most: int, then: Callable[[], None]) -> bool:
        """Take a turn of the caller; where none is left, return False and call ``then`` when there is one."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= self._ends:
            self._taken.clear()
            self._ends = now + TURN_S
        line = self._lines.get(caller)
        if self._taken[caller] < most and (not line or self._calling):
            self._taken[caller] += 1
            return True
        self._lines.setdefault(caller, collections.OrderedDict()).setdefault(who, (most, then))
        self._set_timer()
        return False

    async def wait(self, caller: Hashable, most: int) -> None:
        """Take a turn of the caller; where none is left, wait until there is one."""
        turn = asyncio.get_running_loop().create_future()

        def take() -> None:
            if self.take(turn, caller, most, take):
                turn.set_result(None)

        take()
        try:
            await turn
        finally:
            self.leave(turn, caller)

    @property
    def are_waited_for(self) -> bool:
        """Whether any caller waits for a turn."""
        return any(self._lines.values())

    def waiting(self, caller: Hashable) -> int:
        """Return how many wait for a turn of the caller's."""
        return len(self._lines.get(caller, ()))

    def leave(self, who: Hashable, caller: Hashable) -> None:
        """Wait no more."""
        line = self._lines.get(caller)
        if line is not None:
            line.pop(who, None)

    @property
    def lines(self) -> int:
        """How many lines are kept, each of a caller; an empty one until the next turns."""
        return len(self._lines)

    def first(self, caller: Hashable) -> Hashable:
        """Return who has waited longest."""
        return next(iter(self._lines[caller]))

    def close(self) -> None:
        """End all waits."""
        self._lines.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        self._taken.clear()
        self._ends = loop.time() + TURN_S
        self._calling = True
        try:
            self._call_all()
        finally:
            self._calling = False
        if self._lines:
            self._set_timer()

    def _call_all(self) -> None:
        for caller, line in list(self._lines.items()):
            for _ in range(len(line)):  # each once, though who is called may line up again
                if not line:
                    break
                who, (most, then) = next(iter(line.items()))
                if self._taken[caller] >= most:
                    break
                del line[who]
                then()
            if not line:
                self._lines.pop(caller, None)

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TURN_S, self._next)


class Door:
    """Accepts callers on listening sockets, and keeps room for all: TCP has one, and the unix socket another.

    Over TCP only the first request shows who the caller is. Until it is there, and until it is its caller's turn, a
    connection is only a descriptor.
    """

    def __init__(
        self,
        most: int,
        recognise: Recognise,
        make: Callable[["Door", Hashable, Share], Connection],
        share_of: Callable[[int], Share] = lambda _: UID,
    ) -> None:
        """``most`` connections at a time, each made by ``make``; ``share_of`` returns the share of a user id."""
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.lines = Pace(*BAD_REQUEST_LINES)
        """Lines of the journal about each source."""
        self.turns = Turns()
        self.most = most
        """Connections at a time."""
        self._recognise = recognise
        self._make = make
        self._share_of = share_of
        self._count = 0
        self._callers: dict[Hashable, collections.OrderedDict[Connection, None]] = {}
        """The connections of each caller, the longest unused first."""
        self._listeners: list[socket.socket] = []
        self._withdrawn: set[tuple[str, int]] = set()
        """TCP addresses that are not served any more."""
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        self._silent: collections.OrderedDict[socket.socket, asyncio.TimerHandle] = collections.OrderedDict()
        """Connections on which nothing has come yet, and what ends the wait for it."""
        self._arrivals: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """How many are connected."""
        return self._count

    @property
    def arriving(self) -> bool:
        """Whether an accepted caller is not connected yet, or waits for a turn."""
        return bool(self._arrivals) or self.turns.are_waited_for

    # Accepting

    def open(self, listener: socket.socket) -> None:
        """Begin to accept. Owns the listener from now on."""
        listener.setblocking(False)  # noqa: FBT003  # the standard library's signature
        listener.listen(BACKLOG)
        if listener.family != socket.AF_UNIX:
            # The kernel holds back connections without data (tcp(7)), so that most callers are known on accept.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, int(FIRST_REQUEST_S))
        self._listeners.append(listener)
        self._accept_on(listener)

    def withdraw(self, host: str, port: int) -> None:
        """Stop serving a TCP address: accept nothing there, and end the connections that came by it."""
        self._withdrawn.add((host, port))
        for listener in [one for one in self._listeners if one.getsockname()[:2] == (host, port)]:
            asyncio.get_running_loop().remove_reader(listener)
            if pause := self._pauses.pop(listener, None):
                pause.cancel()
            self._listeners.remove(listener)
            listener.close()
        for connection in [one for owned in self._callers.values() for one in owned]:
            if self._is_withdrawn(connection):
                self._end(connection)

    def _is_withdrawn(self, connection: Connection) -> bool:
        if not self._withdrawn or connection.transport is None:
            return False
        host, port = connection.transport.get_extra_info("sockname")[:2]
        # Where the address stands for all of the host's, a connection has one of these.
        return not self._withdrawn.isdisjoint({(host, port), ("::" if ":" in host else "0.0.0.0", port)})  # noqa: S104

    def shut(self) -> None:
        """Stop accepting. The listeners stay open: where systemd keeps them too, callers wait for the next daemon."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
        for pause in self._pauses.values():
            pause.cancel()

    async def close(self) -> None:
        """Close what has not become a connection, and the listeners."""
        self.shut()
        self.turns.close()
        for arrived in list(self._silent):
            self._hang_up(arrived)
        await asyncio.gather(*self._arrivals, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def _accept_on(self, listener: socket.socket) -> None:
        self._pauses.pop(listener, None)
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + _ACCEPTING_S
        while loop.time() < until:
            try:
                arrived, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptors or no memory: it stays readable, and would be tried all the time.
                if not self.lines.count("accept", loop.time()):
                    log.warning("Cannot accept connections for a moment: %s", error.strerror)
                loop.remove_reader(listener)
                self._pauses[listener] = loop.call_later(_NO_DESCRIPTOR_PAUSE_S, self._accept_on, listener)
                return
            arrived.setblocking(False)  # noqa: FBT003
            uid = uid_of_peer(arrived)
            if uid is not None:
                self._line_up(arrived, uid, self._share_of(uid))
                continue
            self._look_at(arrived)

    def _hang_up(self, arrived: socket.socket) -> None:
        alarm = self._silent.pop(arrived, None)
        if alarm is not None:
            alarm.cancel()
            asyncio.get_running_loop().remove_reader(arrived)
        arrived.close()

    def _look_at(self, arrived: socket.socket) -> None:
        """Look at what has come to see who the caller is, and leave it there to be read as a request."""
        try:
            head = arrived.recv(_PEEKED_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            self._await_word(arrived)
            return
        except OSError:
            head = b""
        if head:
            self._line_up(arrived, *(self._recognise(head) or (_NOBODY, NOBODY)))
        else:
            arrived.close()

    def _await_word(self, arrived: socket.socket) -> None:
        loop = asyncio.get_running_loop()

        def has_come() -> None:
            self._silent.pop(arrived).cancel()
            loop.remove_reader(arrived)
            self._look_at(arrived)

        if len(self._silent) >= SILENT_CONNECTIONS:
            self._hang_up(next(iter(self._silent)))
        self._silent[arrived] = loop.call_later(FIRST_REQUEST_S, self._hang_up, arrived)
        loop.add_reader(arrived, has_come)

    def _line_up(self, arrived: socket.socket, caller: Hashable, share: Share) -> None:
        def come_in() -> None:
            self._line_up(arrived, caller, share)

        # A line of its own: connected callers do not wait for new ones.
        line = ("arrivals", caller)
        if self.turns.take(arrived, line, share.turns or ARRIVALS_PER_TURN, come_in):
            task = asyncio.get_running_loop().create_task(self._welcome(arrived, caller, share))
            self._arrivals.add(task)
            task.add_done_callback(self._arrivals.discard)
        elif self.turns.waiting(line) > share.connections:
            longest = self.turns.first(line)
            self.turns.leave(longest, line)
            longest.close()  # type: ignore[attr-defined]  # a socket

    async def _welcome(self, arrived: socket.socket, caller: Hashable, share: Share) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: self._make(self, caller, share), arrived)
        except OSError:
            arrived.close()  # it left before it was greeted

    # Counting

    def let_in(self, connection: Connection) -> bool:
        """Count a connection; return whether there is room for it, after another one was closed perhaps."""
        if self._is_withdrawn(connection):
            connection.caller = None
            return False
        self._count += 1
        self._add(connection, connection.caller, connection.share)
        if self._is_over(connection) and not self._make_room(connection):
            if connection.uid is not None:
                return False
            # It has no caller until its request is refused, with a reason.
            self._remove(connection)
            self._add(connection, _NOBODY, NOBODY)
            if self._is_over(connection):
                self._make_room(connection)
        if self._count <= self.most:
            return True
        caller = connection.caller
        largest = max(self._callers, key=lambda one: (len(self._callers[one]), one != caller))
        if largest == caller:
            return self._make_room(connection)
        # The caller with the most connections gives way, even in the middle of something.
        self._end(next(iter(self._callers[largest])))
        return True

    def belongs_to(self, connection: Connection, caller: Hashable, share: Share) -> None:
        """Count a connection for another caller, which a request has identified.

        Raises TooManyRequests where that caller has as many as may be, and uses them all.
        """
        before, share_before = connection.caller, connection.share
        if before is None or before == caller:
            return
        self._remove(connection)
        self._add(connection, caller, share)
        if self._is_over(connection) and not self._make_room(connection):
            self._remove(connection)
            self._add(connection, before, share_before)
            connection.close()
            raise TooManyRequests(
                f"{share.connections} calls are under way with this token or link, which is the limit",
                hint="wait until some of them are answered",
                retry_after=1,
            )

    def note_use(self, connection: Connection) -> None:
        """Note that a connection has received something."""
        if connection.caller is not None:
            self._callers[connection.caller].move_to_end(connection)

    def see_off(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        if connection.caller is not None:
            self._count -= 1
            self._remove(connection)
            connection.caller = None

    def _is_over(self, connection: Connection) -> bool:
        return len(self._callers[connection.caller]) > connection.share.connections

    def _make_room(self, newcomer: Connection) -> bool:
        """Close the longest unused other connection of the same caller; return whether one could be closed."""
        others = self._callers[newcomer.caller]
        for connection in list(itertools.islice(others, LOOKED_AT)):
            if connection.idle and connection is not newcomer:
                self._end(connection)
                return True
            # In use: a silent stream must not stand before idle connections.
            others.move_to_end(connection)
        if newcomer.caller != _NOBODY:
            return False
        # The callers are unknown, so the last one may be the one that matters.
        self._end(next(iter(others)))
        return True

    def _end(self, connection: Connection) -> None:
        self.see_off(connection)
        if connection.transport is not None:
            connection.transport.abort()

    def _add(self, connection: Connection, caller: Hashable, share: Share) -> None:
        connection.caller, connection.share = caller, share
        self._callers.setdefault(caller, collections.OrderedDict())[connection] = None

    def _remove(self, connection: Connection) -> None:
        self.turns.leave(connection, connection.caller)
        connections = self._callers[connection.caller]
        del connections[connection]
        if not connections:
            del self._callers[connection.caller]
