"""People who write to linked sessions and are written to, and the web app that takes what they write: all counted."""

import contextlib
import http.client
import itertools
import json
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness import PATIENCE, UnixConnection, ask, until

PEOPLE = [f"552198888000{number}" for number in (2, 3, 4)]
"""Who writes to each session, in turn: each has a chat of its own."""
PACE = 1.0
"""Seconds between two messages of a session, in and out alike."""
SLOW = 6.0
"""Seconds for which a slow web app works before it answers."""
RETRY = 0.5
"""Seconds until a send that was not answered is repeated."""
PORT = 4900
"""Where the web app listens: no port that a connection takes by chance while the web app refuses them."""
WAYS = ("refuses", "answers 503", "hangs", f"answers after {SLOW:g} s", "answers 429 or a redirect")
"""How the web app fails."""


@dataclass
class Copy:
    """A message as the web app got it, at one of the tries."""

    header: str | None
    event: dict
    is_taken: bool = False
    """Whether the web app has done its work: from then on it has the message."""


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with contextlib.suppress(OSError):
            self.server.app.take(self, Copy(self.headers["webhook-id"], json.loads(body)))

    def answer(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, *_):
        """A server that was killed closes its connections."""


class WebApp:
    """Takes messages, and fails in each way in turn, time and again."""

    def __init__(self, well, failing):
        """Work for ``well`` seconds, then fail for ``failing`` seconds, and so on."""
        self.url = f"http://127.0.0.1:{PORT}/webhook"
        self.failures = Counter()
        self.copies = []
        """All tries, in the order in which they came."""
        self._pauses = (well, failing)
        self._way = None
        self._works = threading.Event()
        self._busy = itertools.cycle([429, 302])
        self._server = None
        self._open()
        self._works.set()

    def _open(self):
        self._server = _Server(("127.0.0.1", PORT), _Handler)
        self._server.app = self
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="web app").start()

    def close(self):
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def start(self, done):
        self._done = done
        self._thread = threading.Thread(target=self._fail, name="failures of the web app")
        self._thread.start()

    def join(self):
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the web app fails for ever"

    def _fail(self):
        well, failing = self._pauses
        for way in itertools.cycle(WAYS):
            if self._done.wait(well):
                return
            self.failures[way] += 1
            self._way = way
            self._works.clear()
            if way == "refuses":
                self.close()
            self._done.wait(failing)
            self._way = None
            if way == "refuses":
                self._open()
            self._works.set()

    def take(self, handler, copy):
        self.copies.append(copy)
        match self._way:
            case "answers 503":
                return handler.answer(503)
            case "hangs":
                # It is started again, and forgets what it was at.
                self._works.wait(PATIENCE)
                handler.close_connection = True
                return None
            case "answers 429 or a redirect" if next(self._busy) == 429:
                return handler.answer(429, Retry_After="2")
            case "answers 429 or a redirect":
                return handler.answer(302, Location="http://elsewhere.invalid/login")
            case way if way == WAYS[3]:
                time.sleep(SLOW)
        copy.is_taken = True
        return handler.answer(200)


class _Clock:
    """Somebody who does something each second, and catches up on what took longer."""

    def start(self, done):
        self._done = done
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)
        self._thread.start()

    def join(self):
        self._thread.join(3 * PATIENCE)
        assert not self._thread.is_alive(), f"{type(self).__name__} of user {self.user} waits for ever"

    def _run(self):
        began = time.monotonic()
        for number in itertools.count():
            if self._done.wait(max(0, began + number * PACE - time.monotonic())):
                return
            self.do(number, PEOPLE[number % len(PEOPLE)])


@dataclass
class Writer(_Clock):
    """Writes to a session."""

    standin: object
    user: str
    phone: str
    written: list = field(default_factory=list)
    """``(person, text, whether an open page took it)``."""

    def do(self, number, person):
        text = f"in {self.user}/{number}"
        told = self.standin.tell(
            "message", phone=self.phone, **{"from": person}, name=f"Bia of {person[-4:]}", body=text
        )
        self.written.append((person, text, told["taken"]))


@dataclass
class Sender(_Clock):
    """Has a session send, each message with a key of its own, and repeats the call until the answer is: sent."""

    waportd: object
    user: str
    sent: list = field(default_factory=list)
    """Texts."""
    repeated: int = 0
    failures: list = field(default_factory=list)

    def do(self, number, person):
        text = f"out {self.user}/{number}"
        self.sent.append(text)
        ends = time.monotonic() + 2 * PATIENCE
        while (said := self._try(text, person)) is not None:
            if time.monotonic() > ends:
                self.failures.append(f"{text}: {said}")
                return
            self.repeated += 1
            time.sleep(RETRY)

    def _try(self, text, person):
        """Return what was said in place of "sent"."""
        headers = {"Idempotency-Key": text.replace(" ", "-")}
        try:
            answer = ask(
                UnixConnection(self.waportd.socket),
                "POST",
                f"/v1/users/{self.user}/messages",
                {"to": person, "text": text},
                headers,
            )
            return None if answer.json.get("outcome") == "sent" else f"{answer.status} {answer.json}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            return repr(error)


def journal_of(waportd, user):
    """Return the messages of a user's journal, in the order of their cursors."""
    entries, after = [], ""
    while True:
        path = f"/v1/users/{user}/messages?events=message&limit=500"
        page = waportd.call("GET", f"{path}&after={after}" if after else path)
        entries += page["messages"]
        after = page["next"]
        if not page["more"]:
            return entries


class Correspondence:
    """All that is written to linked sessions and by them, and what happens to it."""

    def __init__(self, waportd, standin, app, sessions):
        """``sessions``: user and phone of each."""
        self._waportd = waportd
        self._standin = standin
        self._app = app
        self._writers = [Writer(standin, user, phone) for user, phone in sessions]
        self._senders = [Sender(waportd, user) for user, _ in sessions]
        self._users = [user for user, _ in sessions]
        self._drained = 0.0

    @property
    def _watchers(self):
        return (*self._writers, *self._senders, self._app)

    def start(self, done):
        for watcher in self._watchers:
            watcher.start(done)

    def join(self):
        """Return when nobody writes any more, and each send is answered."""
        for watcher in self._watchers:
            watcher.join()

    def drain(self, patience):
        """Wait until the web app has all that it can get, for so many seconds at most."""
        began = time.monotonic()
        with contextlib.suppress(AssertionError):
            until(lambda: not any(self.lost()) and self._queued() == 0, "all messages", patience)
        self._drained = time.monotonic() - began

    def _queued(self):
        return sum(self._waportd.user(user)["session"]["webhook"]["queued"] for user in self._users)

    def lost(self):
        """Return what people wrote and the web app does not have.

        In two lists: of what a page took, and of what it found when it came back.
        """
        there = {copy.event["body"] for copy in list(self._app.copies) if copy.is_taken}
        texts = [(text, taken) for writer in self._writers for _, text, taken in writer.written]
        return tuple(
            [text for text, taken in texts if taken is which and text not in there] for which in (True, False)
        )

    def _without_id(self):
        """Return messages with a copy whose id, in header and body, is none, or not the same in each copy."""
        ids = defaultdict(set)
        for copy in self._app.copies:
            ids[copy.event["body"]] |= {copy.event.get("event_id"), copy.header}
        return {text: sorted(map(str, each)) for text, each in ids.items() if len(each) != 1 or None in each}

    def _first_copies(self):
        """Return the texts of each chat by their ids, in the order in which the first copy of each came."""
        chats = defaultdict(dict)
        for copy in self._app.copies:
            event = copy.event
            chats[event["user_id"], event["chat"]["id"]].setdefault(event["event_id"], event["body"])
        return chats

    def _out_of_order(self):
        """Return chats whose messages came first in another order than that of the journal, or twice in it."""
        first = self._first_copies()
        journaled = defaultdict(list)
        for user in self._users:
            for entry in journal_of(self._waportd, user):
                journaled[user, entry["chat"]["id"]].append(entry["event_id"])
        return {
            chat: [first[chat].get(each, each) for each in ids]
            for chat, ids in journaled.items()
            if list(first[chat]) != ids
        }

    def _not_as_written(self):
        """Return how many messages came first after one of the same chat that was written later."""
        place = {
            text: number for writer in self._writers for number, (_, text, _) in enumerate(writer.written)
        }
        count = 0
        for texts in self._first_copies().values():
            places = [place[text] for text in texts.values()]
            count += sum(
                each < latest for each, latest in zip(places, itertools.accumulate(places, max), strict=True)
            )
        return count

    def _sends(self):
        """Return the texts that were not sent, and those that were sent more than once."""
        seen = Counter(record.get("body") for record in self._standin.see("sent"))
        texts = [text for sender in self._senders for text in sender.sent]
        return [text for text in texts if seen[text] == 0], [text for text in texts if seen[text] > 1]

    def figures(self):
        """Return what docs/reliability.md says of it."""
        written = [taken for writer in self._writers for *_, taken in writer.written]
        taken = Counter(copy.event["body"] for copy in self._app.copies if copy.is_taken)
        lost, not_found = self.lost()
        missing, twice = self._sends()
        return {
            "taken": written.count(True),
            "lost": len(lost),
            "found": written.count(False),
            "not_found": len(not_found),
            "tries": len(self._app.copies),
            "more_than_once": sum(count > 1 for count in taken.values()),
            "not_as_written": self._not_as_written(),
            "sends": sum(len(sender.sent) for sender in self._senders),
            "repeated": sum(sender.repeated for sender in self._senders),
            "missing": len(missing),
            "twice": len(twice),
            "failures": dict(self._app.failures),
            "drained": self._drained,
        }

    def check(self):
        """Fail where a message is lost, has no id, or comes out of order, or one is sent twice or never."""
        assert set(self._app.failures) == set(WAYS)
        assert self.lost() == ([], [])
        assert self._queued() == 0
        assert self._without_id() == {}
        assert self._out_of_order() == {}
        assert [text for sender in self._senders for text in sender.failures] == []
        assert self._sends() == ([], [])
