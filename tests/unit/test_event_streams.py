"""Event streams of the users' servers, on real ports."""

import asyncio
import contextlib
import gc
import gzip
import json
import socket
import subprocess
import sys
import time

import pytest
from aiohttp import web
from user_server import SESSION, Server

from waportd import event_streams
from waportd.errors import ServerFailed
from waportd.event_streams import EventStreams
from waportd.first_answers import open_first_stream
from waportd.model import Port, Session, SessionState
from waportd.systemd.manager import BusTimeout


def event(**members) -> bytes:
    return f"event: session\nid: 1\ndata: {json.dumps(SESSION | members)}\n\n".encode()


NO_HTTP = "the answer is not HTTP"


class Heard:
    """What the supervisor would hear."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Session | str] = asyncio.Queue()
        self.running = True
        self.asked = 0
        self.fault: Exception | None = None
        """What the next question whether a server runs ends with."""

    def session(self, port: Port, session: Session) -> None:
        self.queue.put_nowait(session)

    def silence(self, port: Port, reason: str) -> None:
        self.queue.put_nowait(reason)

    async def runs(self, port: Port) -> bool:
        self.asked += 1
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        return self.running

    async def next(self) -> Session | str:
        return await asyncio.wait_for(self.queue.get(), 10)

    async def document(self) -> Session:
        """Return the next document of a session."""
        while not isinstance(told := await self.next(), Session):
            pass
        return told

    async def reason(self) -> str:
        """Return the next reason for which a stream is not there."""
        while not isinstance(told := await self.next(), str):
            pass
        return told


@pytest.fixture
async def server():
    async with Server() as server:
        yield server


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
async def streams(heard, monkeypatch):
    monkeypatch.setattr(event_streams, "RETRY_S", (0.01,))
    streams = EventStreams(heard.session, heard.silence, heard.runs)
    yield streams
    await streams.close()


class TestGreeting:
    @pytest.fixture
    def server(self, server):
        server.headers = {"Content-Type": "text/event-stream"}
        server.greeting = event()
        return server

    @pytest.mark.parametrize(("ask", "call"), [(True, "POST /qr/new"), (False, "GET /events")])
    async def test_a_server_is_followed_by_what_it_answered_with(self, server, streams, heard, ask, call):
        await open_first_stream(streams, server.port, ask_for_code=ask)
        assert heard.queue.empty()
        streams.follow(server.port)
        assert (await heard.next()).qr == SESSION["qr"]
        server.say(event(state="ready"))
        assert (await heard.next()).state is SessionState.READY
        assert server.calls == [call]
        server.say(None)
        await heard.reason()
        await heard.document()
        assert server.calls == [call, "GET /events"]

    async def test_who_is_not_followed_after_all_is_hung_up_on(self, server, streams):
        await open_first_stream(streams, server.port, ask_for_code=True)
        await server.until_open(1)
        streams.unfollow(server.port)
        await server.until_open(0)

    async def test_at_the_end_nothing_stays_open(self, server, streams):
        await open_first_stream(streams, server.port, ask_for_code=False)
        await server.until_open(1)
        await streams.close()
        await server.until_open(0)

    async def test_of_two_answers_the_newer_one_counts(self, server, streams):
        await open_first_stream(streams, server.port, ask_for_code=True)
        await open_first_stream(streams, server.port, ask_for_code=True)
        await server.until_open(1)

    async def test_a_script_that_answers_with_something_else_has_answered(self, server, streams, heard):
        server.answers_otherwise = True
        await open_first_stream(streams, server.port, ask_for_code=True)
        server.answers_otherwise = False
        streams.follow(server.port)
        await heard.document()
        assert server.calls == ["POST /qr/new", "GET /events"]

    async def test_a_refusal_is_no_answer(self, server, streams):
        server.answers_otherwise = True
        server.answer = lambda: web.json_response({}, status=403)
        with pytest.raises(ServerFailed, match="refused: HTTP status 403"):
            await open_first_stream(streams, server.port, ask_for_code=True)

    async def test_nobody_there_is_no_answer(self, closed_port, streams):
        with pytest.raises(ServerFailed, match="does not answer"):
            await open_first_stream(streams, closed_port, ask_for_code=True)

    async def test_a_server_that_hangs_is_no_answer(self, streams, monkeypatch):
        monkeypatch.setattr("waportd.first_answers.ANSWER_TIMEOUT_S", 0.1)
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            pytest.raises(ServerFailed, match="no answer within"),
        ):
            await open_first_stream(streams, Port(listener.getsockname()[1]), ask_for_code=True)


class TestFollowing:
    async def test_the_picture_comes_first_and_then_each_change(self, server, streams, heard):
        server.greeting = event()
        streams.follow(server.port)
        assert (await heard.next()).qr == SESSION["qr"]
        server.say(b": heartbeat\n\n", event(state="ready"))
        assert (await heard.next()).state is SessionState.READY

    async def test_a_server_that_ends_its_stream_is_asked_again(self, server, streams, heard):
        server.greeting = event()
        streams.follow(server.port)
        await heard.next()
        server.say(None)
        assert await heard.next() == "the server closed its event stream"
        assert (await heard.next()).state is SessionState.QR
        assert server.calls == ["GET /events"] * 2

    async def test_a_server_that_runs_no_more_is_not_woken_and_followed_once_it_runs(
        self, server, streams, heard
    ):
        server.greeting = event()
        streams.follow(server.port)
        await heard.next()
        heard.running = False
        server.say(None)
        assert await heard.next() == "the server closed its event stream"
        async with asyncio.timeout(10):
            while heard.asked < 3:
                await asyncio.sleep(0.01)
        assert server.calls == ["GET /events"]
        assert heard.queue.empty()
        heard.running = True
        assert (await heard.next()).state is SessionState.QR

    async def test_a_server_that_says_nothing_is_given_up_and_asked_again(
        self, server, streams, heard, monkeypatch
    ):
        monkeypatch.setattr(event_streams, "SILENCE_S", 0.05)
        streams.follow(server.port)
        assert "said nothing" in await heard.reason()
        server.greeting = event()
        assert (await heard.document()).state is SessionState.QR

    async def test_heartbeats_keep_a_stream_open(self, server, streams, heard, monkeypatch):
        monkeypatch.setattr(event_streams, "SILENCE_S", 0.5)
        streams.follow(server.port)
        await server.until_open(1)
        began = time.monotonic()
        while time.monotonic() - began < 0.7:
            server.say(b": heartbeat\n\n")
            await asyncio.sleep(0.02)
        assert heard.queue.empty()
        assert server.open_streams == 1

    @pytest.mark.parametrize(
        "nonsense",
        [
            b"data: {}\n\n",
            b"data: \xff\n\n",
            event(state="dancing"),
            event(qr=1),
            b"data: " + b"x" * 300_000,
        ],
        ids=["no state", "no JSON", "unknown state", "a number for a code", "too large"],
    )
    async def test_a_picture_that_makes_no_sense_is_dropped_and_the_next_one_taken(
        self, server, streams, heard, nonsense
    ):
        server.greeting = nonsense
        streams.follow(server.port)
        assert "makes no sense" in await heard.reason()
        server.greeting = event()
        assert (await heard.document()).state is SessionState.QR

    async def test_a_server_without_events_is_reported(self, server, streams, heard):
        server.status = 404
        streams.follow(server.port)
        assert "status 404" in await heard.reason()

    async def test_a_port_that_refuses_is_reported(self, closed_port, streams, heard):
        streams.follow(closed_port)
        assert await heard.reason() == "the server's event stream broke: Connection refused"

    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (b"", "the server ended in the middle of it"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", NO_HTTP),
            (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", NO_HTTP),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", NO_HTTP),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ndata: {",
                "the server ended in the middle of it",
            ),
            (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", NO_HTTP),
            (b"HTTP/1.1 \xff\xfe\r\n\r\n", NO_HTTP),
            (b"\0" * 1000, NO_HTTP),
        ],
        ids=["none", "SSH", "bad length", "bad chunk", "cut off", "long header", "bad status", "zeros"],
    )
    async def test_a_server_that_speaks_no_http_is_reported_and_asked_again(
        self, raw_server, streams, heard, answer, why
    ):
        raw_server.answer = answer
        streams.follow(raw_server.port)
        for _ in range(2):
            # In words of ours: the library's show its insides.
            assert await heard.reason() == f"the server's event stream broke: {why}"

    async def test_a_redirect_is_not_followed(self, server, streams, heard):
        other = Server()
        await other.start()
        server.status, server.headers = 302, {"Location": f"http://127.0.0.1:{other.port}/events"}
        streams.follow(server.port)
        assert "status 302" in await heard.reason()
        assert other.calls == []
        await other.stop()

    async def test_a_compressed_stream_is_not_unpacked(self, server, streams, heard):
        server.headers = {"Content-Encoding": "gzip"}
        server.greeting = gzip.compress(event())
        streams.follow(server.port)
        await server.until_open(1)
        server.say(None)
        assert await heard.next() == "the server closed its event stream"

    async def test_following_twice_opens_one_stream(self, server, streams, heard):
        server.greeting = event()
        streams.follow(server.port)
        streams.follow(server.port)
        await heard.next()
        assert server.calls == ["GET /events"]

    async def test_a_systemd_that_does_not_answer_ends_no_following(self, server, streams, heard):
        server.greeting = event()
        heard.fault = BusTimeout("systemd did not answer in time")
        streams.follow(server.port)
        await heard.next()
        server.say(None)
        assert await heard.next() == "the server closed its event stream"
        assert await heard.next() == "cannot see whether the server runs: systemd did not answer in time"
        assert (await heard.document()).state is SessionState.QR

    async def test_who_is_not_followed_any_more_is_left_alone(self, server, streams, heard):
        server.greeting = event()
        streams.follow(server.port)
        await heard.next()
        streams.unfollow(server.port)
        streams.unfollow(server.port)
        await server.until_open(0)
        assert server.calls == ["GET /events"]
        assert heard.queue.empty()

    async def test_who_is_followed_again_at_once_is_heard(self, server, streams, heard):
        server.greeting = event()
        streams.follow(server.port)
        await heard.next()
        server.greeting = event(state="ready")
        streams.unfollow(server.port)
        streams.follow(server.port)
        assert (await heard.next()).state is SessionState.READY
        await server.until_open(1)

    async def test_a_listener_that_fails_is_logged_and_can_follow_again(self, server, heard, caplog):
        def fail(port, session):
            raise RuntimeError("broken listener")

        streams = EventStreams(fail, heard.silence, heard.runs)
        server.greeting = event()
        for times in (1, 2):
            streams.follow(server.port)
            async with asyncio.timeout(10):
                while caplog.text.count("broken listener") < times:
                    await asyncio.sleep(0.01)
        await streams.close()

    async def test_nothing_is_left_after_the_end(self, server, streams, heard):
        before = asyncio.all_tasks()
        server.greeting = event()
        streams.follow(server.port)
        await heard.next()
        streams.unfollow(server.port)
        streams.follow(server.port)
        await streams.close()
        assert not [task for task in asyncio.all_tasks() - before if task.get_name().startswith("follow")]
        await server.until_open(0)

    async def test_a_hundred_servers_are_followed_at_once(self, server, streams, heard):
        others = [Server() for _ in range(99)]
        await asyncio.gather(*(other.start() for other in others))
        for number, other in enumerate([server, *others]):
            other.greeting = event(attempt=number)
            streams.follow(other.port)
        assert sorted([(await heard.next()).attempt for _ in range(100)]) == list(range(100))
        await streams.close()
        await asyncio.gather(*(other.stop() for other in others))


FLOOD = b"data: " + json.dumps({**SESSION, "message": "x" * 200}).encode() + b"\n\n"
FLOODING = """
import socket, sys
head, again = (bytes.fromhex(text) for text in sys.argv[1:])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    sent = 0
    try:
        connection.sendall(head)
        while True:
            sent += connection.send(again * 2000)
    except OSError:
        print(sent, flush=True)
"""


@contextlib.contextmanager
def flood(again, head=b""):
    """Have a process answer with these bytes again and again without end, as fast as they are taken."""
    with subprocess.Popen(
        [sys.executable, "-c", FLOODING, head.hex(), again.hex()], stdout=subprocess.PIPE
    ) as process:
        try:
            yield Port(int(process.stdout.readline())), process.stdout
        finally:
            process.kill()


async def longest_turn(seconds):
    """Return for how long the event loop worked at a time, at most, within so many seconds."""
    loop = asyncio.get_running_loop()
    # What thousands of tests left behind takes the collector a tenth of a second to go through: no daemon has that.
    gc.freeze()
    try:
        end, longest = loop.time() + seconds, 0.0
        while loop.time() < end:
            began = time.process_time()
            await asyncio.sleep(0)
            longest = max(longest, time.process_time() - began)
    finally:
        gc.unfreeze()
    return longest


class TestFloods:
    """A server that is taken over talks all the time; nobody else notices."""

    async def test_of_changes_without_end_few_are_taken_over(self, streams, heard):
        with flood(FLOOD, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n") as (port, told):
            streams.follow(port)
            assert await longest_turn(2.0) < 0.05
            streams.unfollow(port)
            assert int(await asyncio.to_thread(told.readline)) < 8 << 20, (
                "it is read although nobody looks at it"
            )
        assert 3 <= heard.queue.qsize() <= 31

    async def test_of_what_is_said_meanwhile_the_newest_counts(self, server, streams, heard):
        server.greeting = event(attempt=0)
        streams.follow(server.port)
        attempts = [(await heard.next()).attempt]
        for number in range(1, 31):
            server.say(event(attempt=number))
            await asyncio.sleep(0.01)
        while attempts[-1] < 30:
            attempts.append((await heard.next()).attempt)
        assert attempts == sorted(attempts)
        assert 10 <= len(attempts) < 25

    async def test_interim_answers_without_end_hold_up_nobody(self, streams, heard, monkeypatch):
        monkeypatch.setattr(event_streams, "ANSWER_TIMEOUT_S", 0.5)
        monkeypatch.setattr("waportd.first_answers.ANSWER_TIMEOUT_S", 0.5)
        with flood(b"HTTP/1.1 100 Continue\r\n\r\n") as (port, _):
            streams.follow(port)
            assert await longest_turn(1.0) < 0.05
            assert (
                await heard.next()
                == "the server's event stream makes no sense: it has not begun within 0.5 s"
            )
            streams.unfollow(port)
            with pytest.raises(ServerFailed):
                await open_first_stream(streams, port, ask_for_code=True)
