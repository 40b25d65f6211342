"""Callers who take all they can get of an API, and others who call it meanwhile. Needs no more than Python.

    attackers.py TARGET

tries those that are in `ATTACKS` on an API of this machine, and prints the result of each as JSON. TARGET is a JSON object
with the members of `Target`.
"""

import contextlib
import functools
import itertools
import json
import multiprocessing
import os
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

PATIENCE = 30.0
QUICK = 0.050
"""Seconds: the 99th percentile of what another caller waits for, without the time in which there is no processor."""
ROOM = 64 << 20
"""Bytes that the daemon may grow by, whatever one caller does."""
ROUNDS = 3
"""Tries that an attack has to do no harm: a moment of this machine may be a bad one."""
ENOUGH = 200
"""Calls of others without which there is no 99th percentile: of fewer, one that waits is too many."""
AGAIN = 120.0
"""Seconds for which an attack is made again in one try, to have so many calls: a busy machine answers few."""
PUSH = 3.0
"""Seconds for which more is sent than is read: megabytes, of which the first would show in memory and in others' waits."""
NOBODY = 65534


def delayed(thread):
    """Return the seconds that a thread of /proc waited for a processor so far."""
    return int(Path(f"/proc/{thread}/schedstat").read_text().split()[1]) / 1e9


class Target:
    """A daemon, and what opens it: a token for all, one of user 2, and the query of a connect link of theirs."""

    def __init__(
        self, *, pid, socket, port, admin, token, link, stranger=(NOBODY, ()), third=None, session=None
    ):
        self.pid, self.socket, self.port = pid, socket, port
        self.admin, self.token, self.link = admin, token, link
        self.third, self.session = third, session
        """A token of user 3, and the port of their server, which is who listens there; or None."""
        self.stranger = stranger
        """The user id, and the groups, of another caller than those who keep calling: root nowhere."""

    @property
    def memory(self):
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def delayed(self):
        """Seconds that it could have run and had no processor (proc_pid_schedstat): others had it, or an attacker."""
        return delayed(f"{self.pid}/task/{self.pid}")

    def connect(self, *, tcp=True):
        if tcp:
            return socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        try:
            connection.connect(self.socket)
        except OSError:
            connection.close()
            raise
        return connection


def head(path, *lines, method="GET"):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def shown(token):
    return f"Authorization: Bearer {token}"


class Others:
    """Callers who keep calling, over TCP with a token and over the unix socket; each call on a connection of its own.

    They look most of the time, and change something now and then.
    """

    def __init__(self, daemon):
        self.daemon = daemon
        self.waits = []
        self.refused = []
        self._ends = threading.Event()
        self._threads = []

    def __enter__(self):
        self._ends.clear()
        self._threads = [threading.Thread(target=self._call, args=(tcp,)) for tcp in (True, False)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _call(self, tcp):
        lines = ["Connection: close", *([shown(self.daemon.admin)] if tcp else [])]
        looks = [head(path, *lines) for path in ("/v1/users/1/qr", "/v1/users", "/v1/users/1", "/v1/health")]
        change = head("/v1/users/1?wait=none", "Content-Length: 0", *lines, method="PUT")
        for request in itertools.cycle([*looks * 4, change]):
            if self._ends.wait(0.005):
                break
            began = time.perf_counter() - self._delayed
            try:
                with contextlib.closing(self.daemon.connect(tcp=tcp)) as connection:
                    connection.sendall(request)
                    answer = b"".join(iter(lambda: connection.recv(65536), b""))
            except OSError as error:
                self.refused.append(repr(error))
                continue
            self.waits.append(time.perf_counter() - self._delayed - began)
            if not answer.startswith(b"HTTP/1.1 200"):
                self.refused.append(answer[:100])

    @property
    def _delayed(self):
        """What is no one's fault: on a busy machine both ends of a call wait for a processor."""
        return self.daemon.delayed + delayed("thread-self")

    @property
    def p99(self):
        return statistics.quantiles(self.waits, n=100)[-1]


def tried(target, attack):
    """Attack, while others call, until that does no harm; return the result of each try."""
    tries = []
    while not tries or (len(tries) < ROUNDS and tries[-1]["p99"] >= QUICK):
        before = target.memory
        others = Others(target)
        ended = []
        end = time.monotonic() + AGAIN
        while not ended or (len(others.waits) < ENOUGH and time.monotonic() < end):
            # A process of its own, or those who measure would wait for the interpreter.
            attacker = multiprocessing.get_context("fork").Process(target=attack)
            attacker.start()
            with others:
                attacker.join(180)
            attacker.kill()
            attacker.join()
            ended.append(attacker.exitcode)
        tries.append(
            {
                "ended": max(ended, key=abs),
                "calls": len(others.waits),
                "refused": others.refused,
                "grew": target.memory - before,
                "p99": others.p99,
            }
        )
    return tries


def is_withstood(tries):
    """Return whether no other caller was refused, and those of the last try hardly noticed."""
    fine = all(one["ended"] == 0 and one["refused"] == [] and one["grew"] < ROOM for one in tries)
    return fine and tries[-1]["p99"] < QUICK


def pour(connection, content, seconds, pause=0.0):
    """Send again and again what the other side takes, and read nothing; return how much that was."""
    connection.setblocking(False)
    sent = 0
    end = time.monotonic() + seconds
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < end:
            if select.select([], [connection], [], 0.05)[1]:
                sent += connection.send(content)
            time.sleep(pause)
    return sent


def crowd(target, count, content, *, tcp=True, each=None):
    """Open connections and send each the same; return them all, also those that were hung up on."""
    connections = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            connection = target.connect(tcp=tcp)
            connections.append(connection)
            if content:
                connection.sendall(content)
            if each:
                each(connection)
    return connections


def dismiss(connections):
    for connection in connections:
        connection.close()


def as_stranger(target, script, *arguments):
    """Run a program as another user."""
    uid, groups = target.stranger
    user = {"user": uid, "extra_groups": groups} if os.geteuid() == 0 else {}
    subprocess.run([sys.executable, "-c", script, repr(arguments)], check=True, timeout=120, **user)


# What they do


def pile_up(target, *, tcp=True, blank=b"\r\n"):
    """Send requests on one connection, and read no answer."""
    request = b"GET /openapi.json HTTP/1.1" + blank + b"Host: x" + blank + blank
    with target.connect(tcp=tcp) as connection:
        pour(connection, request * 2000, PUSH)


def pile_up_behind(target, lines, more):
    """Send whatever there is behind a request that waits."""
    with target.connect() as connection:
        connection.sendall(head("/v1/users/2/qr?timeout=60", shown(target.token), *lines))
        pour(connection, more, PUSH)


def pile_up_on_many(target):
    """Send on each of many connections as much as fits into the kernel at once, and read nothing."""
    request = b"GET / HTTP/1.1\r\n\r\n" * 3000
    connections = crowd(target, 400, request, each=lambda c: c.setblocking(False))
    time.sleep(1)
    dismiss(connections)


def connect_without_end(target, *, tcp=True):
    """Open more connections than there are descriptors."""
    address = ("127.0.0.1", target.port) if tcp else target.socket
    as_stranger(target, CONNECT, int(socket.AF_INET if tcp else socket.AF_UNIX), address, 17000)


def talk_nonsense(target, *, tcp=True):
    """Send what is no HTTP, on one connection after another."""
    end = time.monotonic() + 3
    while time.monotonic() < end:
        with target.connect(tcp=tcp) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(b"nonsense\r\n\r\n")
            connection.recv(100)


def open_by_link(target, path):
    """Open all that a link opens."""
    connections = crowd(target, 2000, head(path + target.link))
    time.sleep(1)
    dismiss(connections)


def open_by_token(target, path):
    """Open all that a token of one user opens."""
    connections = crowd(target, 500, head(path, shown(target.token)))
    time.sleep(1)
    dismiss(connections)


def ask_for_codes(target):
    """Ask for pairing codes all the time, by a link, for one phone after another."""
    end = time.monotonic() + 3
    number = 0
    while time.monotonic() < end:
        number += 1
        body = json.dumps({"phone": f"55119{number:08}"}).encode()
        lines = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close")
        request = head(f"/v1/users/2/pairing-code?{target.link}", *lines, method="POST") + body
        with target.connect() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(request)
            connection.recv(65536)


def drip_bodies(target):
    """Send bodies that never end."""
    connections = crowd(
        target, 500, head(f"/v1/users/2?{target.link}", "Content-Length: 60000", method="PUT")
    )
    for _ in range(20):
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.send(b" " * 100)
    dismiss(connections)


def ask_without_end(target):
    """Have one token ask all the time."""
    connections = crowd(target, 200, head("/v1/users/2", shown(target.token)) * 100)
    time.sleep(2)
    dismiss(connections)


def change_without_end(target):
    """Have one link change something all the time."""
    end = time.monotonic() + 3
    request = head(f"/v1/users/2?wait=none&{target.link}", "Content-Length: 0", method="PUT")
    with target.connect() as connection:
        while time.monotonic() < end:
            connection.sendall(request)
            connection.recv(65536)


def follow_logs(target):
    """Follow all logs that a token lets follow, which continue all the time, and read none of them."""
    connections = crowd(target, 60, head("/v1/users/2/logs?follow=true", shown(target.token)))
    # The first ones are refused while those of a try before are still being let go.
    assert any(connection.recv(12) == b"HTTP/1.1 200" for connection in connections)
    time.sleep(3)
    dismiss(connections)


def open_streams(target):
    """Open as many streams of all users as a user id may, on the unix socket, and read none of them."""
    as_stranger(target, OPEN_STREAMS, target.socket, 1100)


class Session:
    """A session that was taken over: it says what it likes to anyone who connects to the port of user 3."""

    def __init__(self, target, answer):
        """``answer`` is called with each connection and the path that was asked for, on a thread of its own."""
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", target.session), backlog=256)
        self.called = threading.Event()
        """Whether the daemon has connected: it looks for the server again every few seconds."""
        self.asked = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        # What an earlier one has said is read first, at its own pace.
        if not self.called.wait(3 * PATIENCE):
            raise TimeoutError("the daemon does not call")
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=self._listener.accept()[:1], daemon=True).start()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError):
            self.asked.append(connection.recv(65536).split(b" ")[1])
            self.called.set()
            self._answer(connection, self.asked[-1])


EVENT_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def flip(target):
    """Change the state of a session as fast as the daemon reads."""
    flips = b"".join(
        b'event: session\ndata: {"port": %d, "state": "%s", "qr": "code %d"}\n\n'
        % (target.session, (b"qr", b"generating", b"error")[number % 3], number)
        for number in range(300)
    )

    def answer(connection, _):
        connection.sendall(EVENT_STREAM)
        while True:
            connection.sendall(flips)

    with Session(target, answer):
        time.sleep(3)


def go_on_without_end(target):
    """Answer with 100 Continue, again and again."""

    def answer(connection, _):
        while True:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    with Session(target, answer):
        time.sleep(3)


def leave_media_unread(target):
    """Fetch media without end by a token, from a session that sends whatever is taken, and read none of it."""

    def answer(connection, path):
        if not path.startswith(b"/media/"):
            connection.sendall(EVENT_STREAM)
            time.sleep(PATIENCE)
            return
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 1000000000\r\n\r\n"
        )
        while True:
            connection.sendall(bytes(1 << 16))

    with Session(target, answer):
        connections = crowd(target, 64, head("/v1/users/3/media/true_1%40c.us_A", shown(target.third)))
        assert connections[0].recv(12) == b"HTTP/1.1 200"
        time.sleep(3)
        dismiss(connections)


def send_media_slowly(target):
    """Send files without end by a token, piece by piece, to a session that reads none of them."""
    lines = ("Content-Type: multipart/form-data; boundary=x", "Content-Length: 1000000000")
    request = head("/v1/users/3/messages", *lines, shown(target.third), method="POST")
    start = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'

    def answer(connection, path):
        connection.sendall(EVENT_STREAM if path == b"/events" else b"")
        time.sleep(PATIENCE)

    with Session(target, answer) as session:
        connections = crowd(target, 64, request + start, each=lambda c: c.setblocking(False))
        end = time.monotonic() + 3
        while time.monotonic() < end:
            for number, connection in enumerate(connections):
                with contextlib.suppress(OSError):
                    # Some as fast as it is taken, the others byte by byte.
                    connection.send(bytes(1 << 16 if number % 2 else 1))
            time.sleep(0.05)
        assert session.asked.count(b"/messages") == 64
        dismiss(connections)


def be_refused_without_end(target, *, reads):
    """Ask all the time as somebody who may open the socket, and may not call."""
    as_stranger(target, BE_REFUSED, target.socket, reads)


CONNECT = """
import resource, socket, sys, time
family, address, count = eval(sys.argv[1])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
kept = []
for _ in range(count):
    one = socket.socket(family)
    one.settimeout(5)
    try:
        one.connect(address)
        one.sendall(b'GET /assets/icon.svg HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
    except OSError:
        one.close()
        continue
    kept.append(one)
    time.sleep(0.0002)
time.sleep(1)
"""
OPEN_STREAMS = """
import socket, sys, time
address, count = eval(sys.argv[1])
kept = []
for _ in range(count):
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(5)
    try:
        one.connect(address)
        one.sendall(b'GET /v1/events HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
    except OSError:
        one.close()
        continue
    kept.append(one)
    time.sleep(0.001)
def answered(one):
    try:
        return one.recv(15) == b'HTTP/1.1 200 OK'
    except OSError:
        return False  # hung up on: one too many
assert any(map(answered, kept))
time.sleep(2)
"""
BE_REFUSED = """
import select, socket, sys, time
address, reads = eval(sys.argv[1])
request = b'GET /v1/users HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' * 50
kept = [socket.socket(socket.AF_UNIX) for _ in range(200)]
for one in kept:
    one.connect(address)
kept[0].sendall(request)
assert b' 403 ' in kept[0].recv(100)
for one in kept:
    one.setblocking(False)
end = time.monotonic() + 3
while time.monotonic() < end:
    readable, writable, _ = select.select(kept if reads else [], kept, [], 0.1)
    for one in list(kept):
        try:
            if one in readable and not one.recv(1 << 20):
                raise ConnectionError
            if one in writable:
                one.send(request)
        except BlockingIOError:
            pass
        except ConnectionError:
            kept.remove(one)
            one.close()
    time.sleep(0.001)
"""

ATTACKS = {
    "requests piled up on one connection": pile_up,
    "requests piled up on many connections": pile_up_on_many,
    "what is no HTTP": talk_nonsense,
    "streams by a link": functools.partial(open_by_link, path="/v1/users/2/events?"),
    "bodies that never end": drip_bodies,
    "a token that asks all the time": ask_without_end,
    "a link that changes all the time": change_without_end,
    "who may not call": functools.partial(be_refused_without_end, reads=True),
}
"""A selection, which takes less than a minute."""

if __name__ == "__main__":
    target = Target(**json.loads(sys.argv[1]))
    outcomes = {}
    for name, attack in ATTACKS.items():
        tries = tried(target, functools.partial(attack, target))
        outcomes[name] = {"withstood": is_withstood(tries), "tries": tries}
    sys.stdout.write(json.dumps(outcomes))
