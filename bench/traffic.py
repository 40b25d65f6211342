"""An HTTP client that costs next to nothing, so that what is measured is the server."""

import contextlib
import os
import re
import select
import socket
import time
from collections.abc import Callable, Iterator

from bench.measure import percentile

_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"

Address = str | tuple[str, int]


def connect(address: Address) -> socket.socket:
    """Connect to a unix socket's path, or to host and port."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(60)
    connection.connect(address)
    if family == socket.AF_INET:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def request_bytes(path: str, method: str = "GET") -> bytes:
    """Write a request as a small client does."""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".encode()


def is_whole(answer: bytes) -> bool:
    """Return whether an answer with a Content-Length has arrived in full."""
    head = answer.find(_END)
    if head < 0:
        return False
    length = _LENGTH.search(answer, 0, head)
    return len(answer) >= head + len(_END) + (int(length[1]) if length else 0)


def exchange(connection: socket.socket, request: bytes) -> bytes:
    """Send one request and return the whole answer. Raises OSError where it is no 200."""
    connection.sendall(request)
    return receive(connection)


def receive(connection: socket.socket) -> bytes:
    """Return the whole answer to a request that was sent. Raises OSError where it is no 200."""
    answer = connection.recv(65536)
    while not is_whole(answer):
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError(f"the answer ends early: {answer[:200]!r}")
        answer += chunk
    if not answer.startswith(b"HTTP/1.1 20"):
        raise ConnectionError(f"not answered: {answer[:200]!r}")
    return answer


def body_of(address: Address, path: str) -> bytes:
    """Return the body of one answer."""
    with contextlib.closing(connect(address)) as connection:
        return exchange(connection, request_bytes(path)).partition(_END)[2]


@contextlib.contextmanager
def placed(server: int, *, together: bool) -> Iterator[None]:
    """Keep a server, by its process, and this program on one core, or on a core each.

    Left to the kernel they are now on one and now on two, which doubles the time of a request or halves it.
    """
    before = {pid: os.sched_getaffinity(pid) for pid in (0, server)}
    first, *others = sorted(before[0])
    os.sched_setaffinity(0, {first})
    os.sched_setaffinity(server, {first} if together else {*others[:1]} or {first})
    try:
        yield
    finally:
        for pid, cores in before.items():
            os.sched_setaffinity(pid, cores)


def latencies(address: Address, path: str, count: int) -> list[float]:
    """Return the seconds that each of ``count`` requests took, one after the other on one connection."""
    request = request_bytes(path)
    took = []
    with contextlib.closing(connect(address)) as connection:
        for _ in range(count):
            began = time.perf_counter()
            exchange(connection, request)
            took.append(time.perf_counter() - began)
    return took


def new_connections(address: Address, path: str, count: int) -> list[float]:
    """Return the seconds that each of ``count`` requests took, each on a connection of its own."""
    request = request_bytes(path)
    took = []
    for _ in range(count):
        began = time.perf_counter()
        with contextlib.closing(connect(address)) as connection:
            exchange(connection, request)
        took.append(time.perf_counter() - began)
    return took


def throughput(address: Address, path: str, seconds: float, connections: int = 16) -> float:
    """Return how many requests a second are answered when so many connections never pause."""
    request = request_bytes(path)
    poll = select.epoll()
    answers = {}
    with contextlib.ExitStack() as stack:
        stack.callback(poll.close)
        for _ in range(connections):
            connection = stack.enter_context(contextlib.closing(connect(address)))
            answers[connection.fileno()] = [connection, b""]
            poll.register(connection, select.EPOLLIN)
            connection.sendall(request)
        done = 0
        began = time.perf_counter()
        while (now := time.perf_counter()) < began + seconds:
            for descriptor, _ in poll.poll(1):
                entry = answers[descriptor]
                entry[1] += entry[0].recv(65536)
                if is_whole(entry[1]):
                    done += 1
                    entry[1] = b""
                    entry[0].sendall(request)
    return done / (now - began)


def load(server: int, address: Address, path: str, count: int, seconds: float) -> dict[str, float]:
    """Return p50 and p99 in microseconds, and requests a second, of the server with that process."""
    with placed(server, together=True):
        took = latencies(address, path, count)
    with placed(server, together=False):
        rps = throughput(address, path, seconds)
    return {"p50": percentile(took, 0.5) * 1e6, "p99": percentile(took, 0.99) * 1e6, "rps": rps}


def per_call(server: int, call: Callable[[], object], count: int) -> float:
    """Return the median of the microseconds that a call to the server with that process takes."""
    took = []
    with placed(server, together=True):
        for _ in range(count):
            began = time.perf_counter()
            call()
            took.append(time.perf_counter() - began)
    return percentile(took, 0.5) * 1e6


def waiting(condition: Callable[[], object], seconds: float = 60, pause: float = 0.002) -> Iterator[None]:
    """Loop until the condition holds; raise TimeoutError when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what is waited for does not come")
        time.sleep(pause)
        yield
