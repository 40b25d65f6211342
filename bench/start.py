"""Servers that start: one, a new one, after a crash, 200 at once; beside what else starts them."""

import contextlib
import dataclasses
import functools
import itertools
import os
import select
import signal
import socket
import sqlite3
import time

from bench import others, place, raw, traffic
from bench.measure import Row, at_most, interleave, less_than, rest, row, timed

MANY = 200


def rows(*, quick: bool) -> list[Row]:
    """Measure every way to a running server."""
    with place.daemon(limits={"max_sockets": 1000}) as waportd, raw.raw_units(waportd) as units:
        return [
            *_cold(waportd, units, 3 if quick else 41),
            *_first(waportd, units, 3 if quick else 41),
            *_recovery(waportd, units, 3 if quick else 25),
            *_one_more(waportd, units, 2 if quick else 21),
            *_many(waportd, units, count=5 if quick else MANY, rounds=1 if quick else 2),
        ]


@dataclasses.dataclass(frozen=True)
class _Put:
    """Milliseconds from a PUT until the server answers ``/health``, and until the PUT itself is answered."""

    health: float
    answer: float


def _put(waportd: place.Waportd, user: str, port: int) -> _Put:
    """Time a PUT. As after StartUnit, ``/health`` is asked from the first moment on."""
    rest()
    with contextlib.closing(traffic.connect(str(waportd.socket))) as connection:
        began = time.perf_counter()
        connection.sendall(traffic.request_bytes(f"/v1/users/{user}", "PUT"))
        raw.answer_by_and_by(port)
        health = time.perf_counter()
        answer = traffic.receive(connection)
        assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 201 ")), answer
        return _Put((health - began) * 1000, (time.perf_counter() - began) * 1000)


def _cold(waportd: place.Waportd, units: raw.RawUnits, rounds: int) -> list[Row]:
    waportd.call("PUT", "/v1/users/2", 201)
    units.allow([5003, 5004])

    def ours() -> _Put:
        waportd.call("POST", "/v1/users/2/stop")
        return _put(waportd, "2", 5002)

    def theirs() -> float:
        units.stop(5003)
        return timed(lambda: units.run(5003))

    def spawned() -> float:
        with contextlib.ExitStack() as stack:
            return timed(
                lambda: (
                    stack.enter_context(raw.spawned(place.LIGHT_SERVER, 5004, waportd.directory)),
                    raw.answer_by_and_by(5004),
                )
            )

    ours()
    theirs()
    measured = interleave(rounds, {"ours": ours, "theirs": theirs, "spawned": spawned})
    health = [each.health for each in measured["ours"]]
    waportd.call("DELETE", "/v1/users/2", 204)
    units.stop(5003)
    return [
        row(
            "cold PUT until /health answers",
            "raw StartUnit until /health answers",
            "ms",
            health,
            measured["theirs"],
            at_most(1.1),
        ),
        row(
            "cold PUT until it is answered",
            "raw StartUnit until /health answers",
            "ms",
            [each.answer for each in measured["ours"]],
            measured["theirs"],
        ),
        row(
            "cold PUT until /health answers",
            "script spawned directly",
            "ms",
            health,
            measured["spawned"],
        ),
    ]


def _first(waportd: place.Waportd, units: raw.RawUnits, rounds: int) -> list[Row]:
    users = itertools.count(100)
    ports = itertools.count(5200)
    units.allow(range(5200, 5200 + 2 * rounds + 2))
    database = sqlite3.connect(waportd.directory / "bench.db", isolation_level=None)
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE assignment (user TEXT PRIMARY KEY, port INTEGER)")

    def ours() -> _Put:
        number = next(users)
        took = _put(waportd, str(number), 5000 + number)
        waportd.call("DELETE", f"/v1/users/{number}", 204)
        return took

    def theirs(*, clean: bool = False) -> float:
        port = next(ports)

        def do() -> None:
            if clean:
                units.clean(port)
            database.execute("INSERT INTO assignment VALUES (?, ?)", (str(port), port))
            units.run(port)

        took = timed(do)
        units.stop(port)
        return took

    ours()
    theirs()
    measured = interleave(
        rounds, {"ours": ours, "theirs": theirs, "cleaned": functools.partial(theirs, clean=True)}
    )
    database.close()
    health = [each.health for each in measured["ours"]]
    return [
        row(
            "first PUT of a new user until /health answers",
            "SQLite commit with fsync, raw StartUnit, node start",
            "ms",
            health,
            measured["theirs"],
            at_most(1.1),
        ),
        row(
            "first PUT of a new user until it is answered",
            "SQLite commit with fsync, raw StartUnit, node start",
            "ms",
            [each.answer for each in measured["ours"]],
            measured["theirs"],
        ),
        # No new owner finds an earlier owner's session: systemd deletes it first, in a process that it starts.
        row(
            "first PUT of a new user until /health answers",
            "the same sum with CleanUnit before the start",
            "ms",
            health,
            measured["cleaned"],
        ),
    ]


def _recovery(waportd: place.Waportd, units: raw.RawUnits, rounds: int) -> list[Row]:
    waportd.call("PUT", "/v1/users/2", 201)
    units.allow([5003])

    def ours() -> float:
        place.systemctl("reset-failed", "whatsapp@5002.service", check=False)
        pid = int(place.unit_property("whatsapp@5002.service", "MainPID"))
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        # It takes no connection any more; what connects now waits in the socket for the successor.
        raw.answer_of(5002)
        took = (time.perf_counter() - began) * 1000
        place.until(lambda: waportd.user("2")["process"]["state"] == "running", "its return")
        return took

    def theirs() -> float:
        units.stop(5003)
        # RestartSec=0 of the unit adds nothing.
        return timed(lambda: units.run(5003))

    def killed() -> float:
        place.systemctl("reset-failed", "bench@5003.service", check=False)
        units.run(5003)
        pid = int(place.unit_property("bench@5003.service", "MainPID"))
        return timed(lambda: (os.kill(pid, signal.SIGKILL), raw.answer_of(5003)))

    measured = interleave(rounds, {"ours": ours, "theirs": theirs, "killed": killed})
    units.stop(5003)
    waportd.call("DELETE", "/v1/users/2", 204)
    return [
        row(
            "kill -9 of a server until its port answers",
            "the same of the same unit without waportd",
            "ms",
            measured["ours"],
            measured["killed"],
        ),
        row(
            "kill -9 of a server until its port answers",
            "RestartSec and raw StartUnit until /health answers",
            "ms",
            measured["ours"],
            measured["theirs"],
            at_most(1.1),
        ),
    ]


def _one_more(waportd: place.Waportd, units: raw.RawUnits, rounds: int) -> list[Row]:
    users = itertools.count(150)
    ports = itertools.count(5300)
    units.allow(range(5300, 5300 + rounds))

    def ours() -> _Put:
        number = next(users)
        took = _put(waportd, str(number), 5000 + number)
        waportd.call("DELETE", f"/v1/users/{number}", 204)
        return took

    def raw_start() -> float:
        port = next(ports)
        took = timed(lambda: units.run(port))
        units.stop(port)
        return took

    with others.pm2(waportd.directory) as pm2, others.supervisord(waportd.directory) as supervisord:
        measured = interleave(
            rounds, {"ours": ours, "pm2": pm2, "supervisord": supervisord, "raw": raw_start}
        )
    return [
        *(
            row(
                "one more server, until /health answers",
                against,
                "ms",
                [each.health for each in measured["ours"]],
                measured[name],
                less_than(1),
            )
            for name, against in (
                ("pm2", "PM2 start"),
                ("supervisord", "supervisord, addProcessGroup over XML-RPC"),
            )
        ),
        # What of it is systemd's, and what no daemon could spare.
        row(
            "one more server without waportd: raw StartUnit until /health answers",
            "supervisord, addProcessGroup over XML-RPC",
            "ms",
            measured["raw"],
            measured["supervisord"],
        ),
    ]


def _many(waportd: place.Waportd, units: raw.RawUnits, count: int, rounds: int) -> list[Row]:
    ports = range(5200, 5200 + count)
    units.allow(ports)
    users = range(1, count + 1)
    put_all(waportd, users)
    _stop_all(waportd, users)

    def ours() -> float:
        took = timed(lambda: put_all(waportd, users))
        _stop_all(waportd, users)
        return took

    def theirs() -> float:
        took = timed(lambda: _start_all(units, ports))
        place.systemctl("stop", *(f"bench@{port}.{kind}" for port in ports for kind in ("socket", "service")))
        return took

    measured = interleave(rounds, {"ours": ours, "theirs": theirs})
    return [
        row(
            f"{count} users ensured at once, until all answer",
            f"{count} raw StartUnit calls and the same first request",
            "ms",
            measured["ours"],
            measured["theirs"],
            at_most(1.3),
        )
    ]


def put_all(waportd: place.Waportd, users: range, query: str = "?timeout=300") -> None:
    """Send all at once, and return when the last answer is there."""
    requests = {user: traffic.request_bytes(f"/v1/users/{user}{query}", "PUT") for user in users}
    _all_at_once({user: (str(waportd.socket), request) for user, request in requests.items()})


def _stop_all(waportd: place.Waportd, users: range) -> None:
    requests = {user: traffic.request_bytes(f"/v1/users/{user}/stop", "POST") for user in users}
    _all_at_once({user: (str(waportd.socket), request) for user, request in requests.items()})


def _start_all(units: raw.RawUnits, ports: range) -> None:
    for port in ports:
        units.start(port)
    # What a PUT asks of a server that starts: to begin with a code is work, too.
    request = traffic.request_bytes("/qr/new", "POST")
    _all_at_once({port: (("127.0.0.1", port), request) for port in ports})


def _patiently(address: traffic.Address) -> socket.socket:
    """Connect as soon as somebody listens."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return traffic.connect(address)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)


def _all_at_once(requests: dict[int, tuple[traffic.Address, bytes]]) -> None:
    with contextlib.ExitStack() as stack:
        poll = stack.enter_context(contextlib.closing(select.epoll()))
        open_ = {}
        for address, request in requests.values():
            connection = stack.enter_context(contextlib.closing(_patiently(address)))
            connection.sendall(request)
            poll.register(connection, select.EPOLLIN)
            open_[connection.fileno()] = [connection, b""]
        while open_:
            events = poll.poll(300)
            if not events:
                raise TimeoutError(f"{len(open_)} requests are not answered")
            for descriptor, _ in events:
                entry = open_[descriptor]
                entry[1] += entry[0].recv(65536)
                if traffic.is_whole(entry[1]):
                    assert entry[1].startswith(b"HTTP/1.1 20"), entry[1]
                    poll.unregister(descriptor)
                    del open_[descriptor]
