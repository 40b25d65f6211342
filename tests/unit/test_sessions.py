"""Event streams of the users' servers, and calls to them, against real servers on real ports."""

import asyncio
import contextlib
import gzip
import json
import random
import socket
import subprocess
import sys
import time

import pytest
from aiohttp import web

from waportd import sessions as module
from waportd.errors import AlreadyLinked, BadRequest, ServerFailed, StartTimeout
from waportd.model import Missing, PairingCode, Port, Session, SessionState, Upstream
from waportd.sessions import BadEvent, Sessions, parse_events, parse_session
from waportd.systemd.manager import BusTimeout

MISSING = {
    "feature": "media_out",
    "module": "WAWebPrepRawMedia",
    "member": "prepRawMedia",
    "found": "undefined",
}
PICTURE = {
    "port": 5002,
    "user": "2",
    "state": "qr",
    "since": "2026-01-01T00:00:00.000Z",
    "message": "scan the code",
    "cause": None,
    "hint": None,
    "qr": "ref,noise,identity,secret,1",
    "expires_at": "2026-01-01T00:01:00.500Z",
    "attempt": 3,
    "attempts": 5,
    "pairing": {"code": "ABCD-EFGH", "phone": "5511…", "expires_at": "2026-01-01T00:03:00Z"},
    "ready": False,
    "linked": False,
    "phone_number": None,
    "pushname": None,
    "platform": None,
    "progress": None,
    "browser": {"path": "/usr/bin/chromium", "running": True},
    "webhook": {"queued": 0, "delivered": 0, "failed": 0, "dropped": 0},
    "upstream": {
        "build": "2.3000.1049833609",
        "library": "1.34.7",
        "engine": "bundled",
        "pinned": None,
        "ok": False,
        "checked": ["boot"],
        "missing": [MISSING],
        "shims": {"message_keys": "applied", "new_codes": "not needed"},
    },
}
NEW_YEAR = 1767225600.0
UPSTREAM = Upstream(
    build="2.3000.1049833609",
    library="1.34.7",
    engine="bundled",
    checked=("boot",),
    missing=(Missing("media_out", "WAWebPrepRawMedia", "prepRawMedia", "undefined"),),
    shims=(("message_keys", "applied"), ("new_codes", "not needed")),
)


def event(**members) -> bytes:
    return f"event: session\nid: 1\ndata: {json.dumps(PICTURE | members)}\n\n".encode()


async def chunked(*chunks: bytes):
    for chunk in chunks:
        yield chunk


async def events(*chunks: bytes) -> list[str]:
    return [data async for data in parse_events(chunked(*chunks))]


class TestStream:
    async def test_the_data_of_each_event_is_given(self):
        assert await events(b"event: session\nid: 1\ndata: one\n\ndata: two\n\n") == ["one", "two"]

    async def test_comments_and_other_fields_are_passed_over(self):
        assert await events(b": heartbeat\n\nretry: 10\n\nid: 7\ndata: x\nfoo: bar\n\n") == ["x"]

    async def test_lines_of_data_are_joined(self):
        assert await events(b"data: one\ndata:two\ndata:  three\ndata:\n\n") == ["one\ntwo\n three\n"]

    async def test_an_event_without_its_end_is_dropped(self):
        assert await events(b"data: one\n\ndata: two\n") == ["one"]

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    async def test_it_does_not_matter_where_the_network_cuts(self, end):
        stream = end.join(["data: {é}", "data: b", "", ": heartbeat", "", "data: c", "", ""]).encode()
        for first in range(len(stream) + 1):
            for second in range(first, len(stream) + 1):
                cut = stream[:first], stream[first:second], stream[second:]
                assert await events(*cut) == ["{é}\nb", "c"]

    async def test_what_is_no_utf_8_is_replaced(self):
        assert await events(b"data: a\xffb\n\n") == ["a\ufffdb"]

    @pytest.mark.parametrize(
        "chunk",
        [b"data: " + b"x" * 1000 + b"\n", b"data:\n" * 1000, b"x" * 1000],
        ids=["lines", "empty lines", "one line"],
    )
    async def test_an_event_that_does_not_end_is_refused(self, chunk):
        sent = 0

        async def long():
            nonlocal sent
            for _ in range(10_000_000 // len(chunk)):
                sent += len(chunk)
                yield chunk

        async with contextlib.aclosing(long()) as chunks:
            with pytest.raises(BadEvent, match="256 KiB"):
                assert [data async for data in parse_events(chunks)] == []
        assert sent < 10 * 256 * 1024

    async def test_many_small_events_are_no_large_one(self):
        assert len(await events(*[b"data: " + b"x" * 1000 + b"\n\n"] * 1000)) == 1000


class TestPicture:
    def test_a_whole_picture_is_read(self):
        assert parse_session(json.dumps(PICTURE)) == Session(
            state=SessionState.QR,
            since=NEW_YEAR,
            message="scan the code",
            qr="ref,noise,identity,secret,1",
            expires_at=NEW_YEAR + 60.5,
            attempt=3,
            attempts=5,
            pairing=PairingCode("ABCD-EFGH", NEW_YEAR + 180),
            browser_running=True,
            upstream=UPSTREAM,
        )

    def test_a_linked_session_is_read(self):
        linked = {
            "state": "ready",
            "linked": True,
            "phone_number": "5511",
            "pushname": "Ana",
            "platform": "android",
        }
        session = parse_session(json.dumps(PICTURE | linked))
        assert (session.linked, session.phone_number, session.pushname) == (True, "5511", "Ana")

    @pytest.mark.parametrize("state", SessionState)
    def test_a_state_is_all_that_it_takes(self, state):
        assert parse_session(json.dumps({"state": state})) == Session(state=state)

    @pytest.mark.parametrize(
        "text",
        ["", "{", "null", "[]", '"qr"', "1", "[" * 100_000, '{"state": 1' + "0" * 5000 + "}"],
        ids=lambda text: text[:10],
    )
    def test_what_is_no_json_object_is_refused(self, text):
        with pytest.raises(BadEvent):
            parse_session(text)

    @pytest.mark.parametrize("state", [None, "", "QR", "running", 1, [], {}, True])
    def test_an_unknown_state_is_refused(self, state):
        with pytest.raises(BadEvent, match="state"):
            parse_session(json.dumps({"state": state}))

    @pytest.mark.parametrize(
        ("member", "values"),
        [
            *(
                (name, [1, True, [], {}])
                for name in ("message", "cause", "hint", "qr", "phone_number", "pushname")
            ),
            *(
                (name, ["1", True, [], float("nan"), float("inf"), 10**30])
                for name in ("attempt", "attempts", "progress")
            ),
            *(
                (
                    name,
                    [
                        1,
                        "",
                        "now",
                        "2026-01-01T00:00:00",
                        "0001-01-01T00:00:00+10:00",
                        "9999-12-31T23:59:59-10:00",
                    ],
                )
                for name in ("since", "expires_at")
            ),
        ],
    )
    def test_a_member_of_the_wrong_kind_is_named(self, member, values):
        for value in values:
            with pytest.raises(BadEvent, match=member):
                parse_session(json.dumps(PICTURE | {member: value}))

    def test_a_code_without_an_end_is_no_pairing_code(self):
        assert parse_session(json.dumps(PICTURE | {"pairing": {"code": "ABCD-EFGH"}})).pairing is None

    @pytest.mark.parametrize("linked", [1, "true", None, "false"])
    def test_only_true_is_linked(self, linked):
        assert parse_session(json.dumps(PICTURE | {"linked": linked})).linked is False

    def test_what_a_server_found_in_the_page_is_read(self):
        upstream = parse_session(json.dumps(PICTURE)).upstream
        assert upstream == UPSTREAM
        assert (upstream.ok, upstream.features) == (False, ("media_out",))

    def test_whether_something_is_missing_is_not_taken_on_trust(self):
        said = {**PICTURE["upstream"], "ok": True}
        assert not parse_session(json.dumps(PICTURE | {"upstream": said})).upstream.ok

    @pytest.mark.parametrize("upstream", [None, [], "1.34.7"])
    def test_a_server_need_not_tell_of_the_page(self, upstream):
        assert parse_session(json.dumps(PICTURE | {"upstream": upstream})).upstream is None

    @pytest.mark.parametrize(
        "wrong",
        [
            {"build": 2.3},
            {"library": []},
            {"checked": "boot"},
            {"checked": [1]},
            {"missing": {"feature": "link"}},
            {"missing": ["link"]},
            {"missing": [{**MISSING, "member": 7}]},
            {"shims": ["message_keys"]},
            {"shims": {"message_keys": True}},
        ],
        ids=str,
    )
    def test_what_was_found_in_the_page_is_refused_where_it_makes_no_sense(self, wrong):
        with pytest.raises(BadEvent):
            parse_session(json.dumps(PICTURE | {"upstream": {**PICTURE["upstream"], **wrong}}))

    def test_of_a_flood_of_findings_little_is_kept(self):
        flood = {
            "build": "2" * 50_000,
            "checked": ["boot" * 1000] * 1000,
            "missing": [{name: text * 500 for name, text in MISSING.items()}] * 100,
            "shims": {f"shim{number}": "applied" * 100 for number in range(1000)},
        }
        upstream = parse_session(json.dumps(PICTURE | {"upstream": flood})).upstream
        assert len(repr(upstream)) < 100_000
        assert max(map(len, (upstream.checked, upstream.missing, upstream.shims))) == 200

    def test_a_long_text_is_cut(self):
        assert parse_session(json.dumps(PICTURE | {"message": "é" * 5000})).message == "é" * 1000

    def test_half_a_character_is_replaced(self):
        session = parse_session(r'{"state": "ready", "pushname": "Ana \ud83d"}')
        assert session.pushname == "Ana "

    def test_no_error_repeats_what_was_sent(self):
        with pytest.raises(BadEvent) as caught:
            parse_session(json.dumps(PICTURE | {"qr": ["SECRET"]}))
        assert "SECRET" not in str(caught.value)

    def test_whatever_is_sent_is_a_session_or_refused(self):
        dice = random.Random(1)
        values = [
            None,
            0,
            -1,
            1.5,
            1e308,
            True,
            "",
            "x",
            "ready",
            "2026-01-01T00:00:00Z",
            [],
            {},
            {"code": 1},
            "\ud800",
        ]
        for _ in range(3000):
            picture = {name: dice.choice([value, *values]) for name, value in PICTURE.items()}
            with contextlib.suppress(BadEvent):
                assert isinstance(parse_session(json.dumps(picture)), Session)


class Server:
    """Answers as a test says: each stream begins with ``greeting``, and ``answer`` is for calls."""

    def __init__(self) -> None:
        self.greeting = b""
        self.headers: dict[str, str] = {}
        self.status = 200
        self.answer = lambda: web.json_response({}, status=202)
        self.calls: list[str] = []
        self.answers_otherwise = False
        """Whether it is a script that knows no event streams."""
        self.open_streams = 0
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._stopping = False

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = Port(site._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._stopping = True
        await self.until_open(0)
        await self._runner.cleanup()

    def say(self, *chunks: bytes | None) -> None:
        """Send chunks on the newest stream; None ends it."""
        for chunk in chunks:
            self._chunks.put_nowait(chunk)

    async def until_open(self, count: int) -> None:
        """Return when so many streams are open."""
        async with asyncio.timeout(10):
            while self.open_streams != count:
                self._changed.clear()
                await self._changed.wait()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(f"{request.method} {request.path}")
        if request.path != "/events" and request.headers["Accept"] != "text/event-stream":
            return self.answer()
        if self.answers_otherwise:
            return self.answer()
        chunks = self._chunks = asyncio.Queue()
        chunks.put_nowait(self.greeting)
        response = web.StreamResponse(status=self.status, headers=self.headers)
        await response.prepare(request)
        self._count(1)
        try:
            # aiohttp does not tell a handler that its client is gone.
            while not self._stopping and request.transport and not request.transport.is_closing():
                try:
                    chunk = await asyncio.wait_for(chunks.get(), 0.02)
                except TimeoutError:
                    continue
                if chunk is None:
                    break
                await response.write(chunk)
        except ConnectionError:
            pass
        finally:
            self._count(-1)
        return response

    def _count(self, change: int) -> None:
        self.open_streams += change
        self._changed.set()


class Heard:
    """What the supervisor would be told."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Session | str] = asyncio.Queue()
        self.running = True
        self.asked = 0

    def session(self, port: Port, session: Session) -> None:
        self.queue.put_nowait(session)

    def silence(self, port: Port, reason: str) -> None:
        self.queue.put_nowait(reason)

    async def runs(self, port: Port) -> bool:
        self.asked += 1
        return self.running

    async def next(self) -> Session | str:
        return await asyncio.wait_for(self.queue.get(), 10)

    async def picture(self) -> Session:
        """Return the next picture of a session."""
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
    server = Server()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
async def sessions(heard, monkeypatch):
    monkeypatch.setattr(module, "_RETRY", (0.01,))
    sessions = Sessions(heard.session, heard.silence, heard.runs)
    yield sessions
    await sessions.close()


@pytest.fixture
async def raw_server():
    """Serve the bytes that a test sets, whatever is asked, and close."""
    server = type("Raw", (), {"answer": b""})

    async def handle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(server.answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    server.port = Port(listener.sockets[0].getsockname()[1])
    yield server
    listener.close()
    await listener.wait_closed()


@pytest.fixture
def closed_port():
    """Give a port on which nobody listens, and nobody else will."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield Port(holder.getsockname()[1])


class TestGreeting:
    @pytest.fixture
    def server(self, server):
        server.headers = {"Content-Type": "text/event-stream"}
        server.greeting = event()
        return server

    @pytest.mark.parametrize(("ask", "call"), [(True, "POST /qr/new"), (False, "GET /events")])
    async def test_a_server_is_followed_by_what_it_answered_with(self, server, sessions, heard, ask, call):
        await sessions.greet(server.port, ask=ask)
        assert heard.queue.empty()
        sessions.follow(server.port)
        assert (await heard.next()).qr == PICTURE["qr"]
        server.say(event(state="ready"))
        assert (await heard.next()).state is SessionState.READY
        assert server.calls == [call]
        server.say(None)
        await heard.reason()
        await heard.picture()
        assert server.calls == [call, "GET /events"]

    async def test_who_is_not_followed_after_all_is_hung_up_on(self, server, sessions):
        await sessions.greet(server.port, ask=True)
        await server.until_open(1)
        sessions.unfollow(server.port)
        await server.until_open(0)

    async def test_at_the_end_nothing_stays_open(self, server, sessions):
        await sessions.greet(server.port, ask=False)
        await server.until_open(1)
        await sessions.close()
        await server.until_open(0)

    async def test_of_two_answers_the_newer_one_counts(self, server, sessions):
        await sessions.greet(server.port, ask=True)
        await sessions.greet(server.port, ask=True)
        await server.until_open(1)

    async def test_a_script_that_answers_with_something_else_has_answered(self, server, sessions, heard):
        server.answers_otherwise = True
        await sessions.greet(server.port, ask=True)
        server.answers_otherwise = False
        sessions.follow(server.port)
        await heard.picture()
        assert server.calls == ["POST /qr/new", "GET /events"]

    async def test_a_refusal_is_no_answer(self, server, sessions):
        server.answers_otherwise = True
        server.answer = lambda: web.json_response({}, status=403)
        with pytest.raises(ServerFailed, match="refused: HTTP status 403"):
            await sessions.greet(server.port, ask=True)

    async def test_nobody_there_is_no_answer(self, closed_port, sessions):
        with pytest.raises(ServerFailed, match="does not answer"):
            await sessions.greet(closed_port, ask=True)

    async def test_a_server_that_hangs_is_no_answer(self, sessions, monkeypatch):
        monkeypatch.setattr(module, "_CALL_TIMEOUT", 0.1)
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            pytest.raises(ServerFailed, match="no answer within"),
        ):
            await sessions.greet(Port(listener.getsockname()[1]), ask=True)


class TestFollowing:
    async def test_the_picture_comes_first_and_then_each_change(self, server, sessions, heard):
        server.greeting = event()
        sessions.follow(server.port)
        assert (await heard.next()).qr == PICTURE["qr"]
        server.say(b": heartbeat\n\n", event(state="ready"))
        assert (await heard.next()).state is SessionState.READY

    async def test_a_server_that_ends_its_stream_is_asked_again(self, server, sessions, heard):
        server.greeting = event()
        sessions.follow(server.port)
        await heard.next()
        server.say(None)
        assert await heard.next() == "the server closed its event stream"
        assert (await heard.next()).state is SessionState.QR
        assert server.calls == ["GET /events"] * 2

    async def test_a_server_that_runs_no_more_is_not_woken_and_followed_once_it_runs(
        self, server, sessions, heard
    ):
        server.greeting = event()
        sessions.follow(server.port)
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
        self, server, sessions, heard, monkeypatch
    ):
        monkeypatch.setattr(module, "_SILENCE", 0.05)
        sessions.follow(server.port)
        assert "said nothing" in await heard.reason()
        server.greeting = event()
        assert (await heard.picture()).state is SessionState.QR

    async def test_heartbeats_keep_a_stream_open(self, server, sessions, heard, monkeypatch):
        monkeypatch.setattr(module, "_SILENCE", 0.5)
        sessions.follow(server.port)
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
        self, server, sessions, heard, nonsense
    ):
        server.greeting = nonsense
        sessions.follow(server.port)
        assert "makes no sense" in await heard.reason()
        server.greeting = event()
        assert (await heard.picture()).state is SessionState.QR

    async def test_a_server_without_events_is_reported(self, server, sessions, heard):
        server.status = 404
        sessions.follow(server.port)
        assert "status 404" in await heard.reason()

    async def test_a_port_that_refuses_is_reported(self, closed_port, sessions, heard):
        sessions.follow(closed_port)
        assert "broke" in await heard.reason()

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ndata: {",
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
            b"HTTP/1.1 \xff\xfe\r\n\r\n",
            b"\0" * 1000,
        ],
        ids=["none", "SSH", "bad length", "bad chunk", "cut off", "long header", "bad status", "zeros"],
    )
    async def test_a_server_that_speaks_no_http_is_reported_and_asked_again(
        self, raw_server, sessions, heard, answer
    ):
        raw_server.answer = answer
        sessions.follow(raw_server.port)
        assert await heard.reason()
        assert await heard.reason()

    async def test_a_redirect_is_not_followed(self, server, sessions, heard):
        other = Server()
        await other.start()
        server.status, server.headers = 302, {"Location": f"http://127.0.0.1:{other.port}/events"}
        sessions.follow(server.port)
        assert "status 302" in await heard.reason()
        assert other.calls == []
        await other.stop()

    async def test_a_compressed_stream_is_not_unpacked(self, server, sessions, heard):
        server.headers = {"Content-Encoding": "gzip"}
        server.greeting = gzip.compress(event())
        sessions.follow(server.port)
        await server.until_open(1)
        server.say(None)
        assert await heard.next() == "the server closed its event stream"

    async def test_following_twice_opens_one_stream(self, server, sessions, heard):
        server.greeting = event()
        sessions.follow(server.port)
        sessions.follow(server.port)
        await heard.next()
        assert server.calls == ["GET /events"]

    async def test_a_systemd_that_does_not_answer_ends_no_following(self, server, sessions, heard):
        server.greeting = event()
        runs = heard.runs

        async def late(port):
            sessions._runs = runs
            raise BusTimeout("systemd did not answer in time")

        sessions._runs = late
        sessions.follow(server.port)
        await heard.next()
        server.say(None)
        assert await heard.next() == "the server closed its event stream"
        assert await heard.next() == "cannot tell whether the server runs: systemd did not answer in time"
        assert (await heard.picture()).state is SessionState.QR

    async def test_who_is_not_followed_any_more_is_left_alone(self, server, sessions, heard):
        server.greeting = event()
        sessions.follow(server.port)
        await heard.next()
        sessions.unfollow(server.port)
        sessions.unfollow(server.port)
        await server.until_open(0)
        assert server.calls == ["GET /events"]
        assert heard.queue.empty()

    async def test_who_is_followed_anew_at_once_is_heard(self, server, sessions, heard):
        server.greeting = event()
        sessions.follow(server.port)
        await heard.next()
        server.greeting = event(state="ready")
        sessions.unfollow(server.port)
        sessions.follow(server.port)
        assert (await heard.next()).state is SessionState.READY
        await server.until_open(1)

    async def test_a_listener_that_fails_is_logged_and_can_follow_again(self, server, heard, caplog):
        def fail(port, session):
            raise RuntimeError("broken listener")

        sessions = Sessions(fail, heard.silence, heard.runs)
        server.greeting = event()
        for times in (1, 2):
            sessions.follow(server.port)
            async with asyncio.timeout(10):
                while caplog.text.count("broken listener") < times:
                    await asyncio.sleep(0.01)
        await sessions.close()

    async def test_nothing_is_left_after_the_end(self, server, sessions, heard):
        before = asyncio.all_tasks()
        server.greeting = event()
        sessions.follow(server.port)
        await heard.next()
        sessions.unfollow(server.port)
        sessions.follow(server.port)
        await sessions.close()
        assert not [task for task in asyncio.all_tasks() - before if task.get_name().startswith("follow")]
        await server.until_open(0)

    async def test_a_hundred_servers_are_followed_at_once(self, server, sessions, heard):
        others = [Server() for _ in range(99)]
        await asyncio.gather(*(other.start() for other in others))
        for number, other in enumerate([server, *others]):
            other.greeting = event(attempt=number)
            sessions.follow(other.port)
        assert sorted([(await heard.next()).attempt for _ in range(100)]) == list(range(100))
        await sessions.close()
        await asyncio.gather(*(other.stop() for other in others))


FLOOD = b"data: " + json.dumps({**PICTURE, "message": "x" * 200}).encode() + b"\n\n"


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
    end, longest = loop.time() + seconds, 0.0
    while loop.time() < end:
        began = time.process_time()
        await asyncio.sleep(0)
        longest = max(longest, time.process_time() - began)
    return longest


class TestFloods:
    """A server that is taken over talks all the time; nobody else notices."""

    async def test_of_changes_without_end_few_are_taken_over(self, sessions, heard):
        with flood(FLOOD, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n") as (port, told):
            sessions.follow(port)
            assert await longest_turn(2.0) < 0.05
            sessions.unfollow(port)
            assert int(await asyncio.to_thread(told.readline)) < 8 << 20, (
                "it is read although nobody looks at it"
            )
        assert 3 <= heard.queue.qsize() <= 31

    async def test_of_what_is_said_meanwhile_the_newest_counts(self, server, sessions, heard):
        server.greeting = event(attempt=0)
        sessions.follow(server.port)
        attempts = [(await heard.next()).attempt]
        for number in range(1, 31):
            server.say(event(attempt=number))
            await asyncio.sleep(0.01)
        while attempts[-1] < 30:
            attempts.append((await heard.next()).attempt)
        assert attempts == sorted(attempts)
        assert 10 <= len(attempts) < 25

    async def test_interim_answers_without_end_hold_up_nobody(self, sessions, heard, monkeypatch):
        monkeypatch.setattr(module, "_CALL_TIMEOUT", 0.5)
        with flood(b"HTTP/1.1 100 Continue\r\n\r\n") as (port, _):
            sessions.follow(port)
            assert await longest_turn(1.0) < 0.05
            assert (
                await heard.next()
                == "the server's event stream makes no sense: it has not begun within 0.5 s"
            )
            sessions.unfollow(port)
            with pytest.raises(ServerFailed):
                await sessions.greet(port, ask=True)


class TestCalling:
    @pytest.mark.parametrize(
        ("name", "call"),
        [("ask_for_code", "POST /qr/new"), ("relay_poll", "GET /qr"), ("log_out", "POST /disconnect")],
    )
    async def test_each_call_has_its_address(self, server, sessions, name, call):
        await getattr(sessions, name)(server.port)
        assert server.calls == [call]

    async def test_a_refusal_passes_on_what_the_server_says(self, server, sessions):
        body = {
            "error": "no browser is installed",
            "cause": "browser_missing",
            "hint": "apt install chromium",
        }
        server.answer = lambda: web.json_response(body, status=503)
        with pytest.raises(ServerFailed) as caught:
            await sessions.ask_for_code(server.port)
        assert caught.value.message == f"the server on port {server.port} refused: no browser is installed"
        assert (caught.value.cause, caught.value.hint) == ("browser_missing", "apt install chromium")

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "<html>",
            "[]",
            "null",
            '{"error": 1}',
            '{"error": "\\ud800"',
            "{}",
            "[" * 10_000,
            "x" * 1_000_000,
        ],
        ids=lambda body: body[:10],
    )
    async def test_a_refusal_that_makes_no_sense_gives_its_status(self, server, sessions, body):
        server.answer = lambda: web.Response(text=body, status=500)
        with pytest.raises(ServerFailed, match="HTTP status 500") as caught:
            await sessions.log_out(server.port)
        assert len(caught.value.message) < 200

    async def test_half_a_character_in_a_refusal_is_replaced(self, server, sessions):
        server.answer = lambda: web.Response(text=r'{"error": "Ana \ud83d"}', status=500)
        with pytest.raises(ServerFailed, match=r"refused: Ana $"):
            await sessions.log_out(server.port)

    async def test_a_redirect_is_a_refusal(self, server, sessions):
        server.answer = lambda: web.Response(status=307, headers={"Location": "/elsewhere"})
        with pytest.raises(ServerFailed, match="307"):
            await sessions.ask_for_code(server.port)
        assert server.calls == ["POST /qr/new"]

    async def test_a_port_that_refuses_is_a_server_that_does_not_answer(self, closed_port, sessions):
        with pytest.raises(ServerFailed, match=f"port {closed_port} does not answer") as caught:
            await sessions.ask_for_code(closed_port)
        assert caught.value.cause == "not_answering"
        assert caught.value.hint

    async def test_a_code_is_asked_for_again_where_the_server_ends_under_the_question(self, sessions):
        asked = []

        async def handle(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            asked.append(1)
            if len(asked) > 1:
                writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")
                await writer.drain()
            writer.close()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as listener:
            await sessions.ask_for_code(Port(listener.sockets[0].getsockname()[1]))
        assert len(asked) == 2

    async def test_a_server_that_speaks_no_http_does_not_answer(self, raw_server, sessions):
        raw_server.answer = b"SSH-2.0-OpenSSH_9.2\r\n"
        with pytest.raises(ServerFailed) as caught:
            await sessions.ask_for_code(raw_server.port)
        assert caught.value.cause == "not_answering"

    async def test_a_pairing_code_is_asked_for_and_read(self, server, sessions):
        server.answer = lambda: web.json_response({"code": "ABCD-EFGH", "expires_at": "2026-01-01T00:03:00Z"})
        code = await sessions.pairing_code(server.port, "5511999990000")
        assert code == PairingCode("ABCD-EFGH", NEW_YEAR + 180)
        assert "ABCD" not in repr(code)
        assert server.calls == ["POST /pairing-code"]

    @pytest.mark.parametrize(
        ("status", "body", "error"),
        [
            (400, {"error": "no phone", "code": "bad_phone"}, BadRequest),
            (409, {"error": "linked", "code": "already_linked", "cause": "already_linked"}, AlreadyLinked),
            (503, {"error": "no", "code": "pairing_refused", "cause": "pairing_refused"}, ServerFailed),
            (504, {"error": "late", "code": "pairing_timeout"}, StartTimeout),
            (400, {"error": "what"}, ServerFailed),
        ],
    )
    async def test_a_refused_pairing_code_is_told_as_what_it_is(self, server, sessions, status, body, error):
        server.answer = lambda: web.json_response(body, status=status)
        with pytest.raises(error, match=body["error"]) as caught:
            await sessions.pairing_code(server.port, "5511999990000")
        assert caught.value.cause == body.get("code")

    @pytest.mark.parametrize(
        "body", ["", "[]", "null", "{}", '{"code": 1}', '{"code": "A", "expires_at": "soon"}', "[" * 10_000]
    )
    async def test_what_is_no_pairing_code_is_not_passed_on(self, server, sessions, body):
        server.answer = lambda: web.Response(text=body)
        with pytest.raises(ServerFailed, match="no pairing code") as caught:
            await sessions.pairing_code(server.port, "5511999990000")
        assert caught.value.cause == "bad_answer"

    async def test_a_server_that_hangs_is_given_up(self, heard, monkeypatch):
        monkeypatch.setattr(module, "_CALL_TIMEOUT", 0.05)
        sessions = Sessions(heard.session, heard.silence, heard.runs)
        with socket.create_server(("127.0.0.1", 0)) as hung:
            with pytest.raises(ServerFailed, match="no answer within") as caught:
                await sessions.ask_for_code(Port(hung.getsockname()[1]))
            assert caught.value.cause == "not_answering"
        await sessions.close()
