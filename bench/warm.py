"""Requests that are answered from memory: over the API socket, through the client, on a user's own port."""

import http.client
import json
import socket

from bench import place, traffic
from bench.measure import Row, at_least, at_most, interleave, row

PATHS = ("/v1/users/2/qr", "/api/qr?user_id=2")


class UnixHTTPConnection(http.client.HTTPConnection):
    """http.client on a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


def rows(*, quick: bool) -> list[Row]:
    """Measure the warm path of API, client and server."""
    with place.daemon() as waportd:
        waportd.show_code("2")
        return _api(waportd, quick=quick) + _client(waportd, quick=quick) + _node(waportd, quick=quick)


def _api(waportd: place.Waportd, *, quick: bool) -> list[Row]:
    rounds, count, seconds = (3, 300, 0.1) if quick else (31, 500, 0.4)
    result = []
    daemon, ours = waportd.pid, str(waportd.socket)
    for path in PATHS:
        size = len(traffic.body_of(ours, path))
        bare = waportd.directory / f"bare-{size}.sock"
        command = (place.PYTHON, place.ROOT / "bench/bare_aiohttp.py", bare, str(size))
        with place.program(*command) as program:
            place.until_path(bare)
            measured = interleave(
                rounds,
                {
                    "ours": lambda path=path: traffic.load(daemon, ours, path, count, seconds),
                    "theirs": lambda bare=bare, pid=program.pid: traffic.load(
                        pid, str(bare), "/constant", count, seconds
                    ),
                },
            )
        for key, unit, target in (
            ("p50", "µs", at_most(1.25)),
            ("p99", "µs", None),
            ("rps", "requests/s", at_least(0.8)),
        ):
            result.append(
                row(
                    f"GET {path}, {key}" if key != "rps" else f"GET {path}, throughput",
                    "bare aiohttp handler",
                    unit,
                    [each[key] for each in measured["ours"]],
                    [each[key] for each in measured["theirs"]],
                    target,
                )
            )
    return result


def _client(waportd: place.Waportd, *, quick: bool) -> list[Row]:
    try:
        from waportd.client import Client
    except ImportError:
        return []
    rounds, count = (3, 200) if quick else (31, 300)
    size = len(traffic.body_of(str(waportd.socket), PATHS[0]))
    bare = waportd.directory / "bare-client.sock"
    command = (place.PYTHON, place.ROOT / "bench/bare_aiohttp.py", bare, str(size))
    with place.program(*command) as program:
        place.until_path(bare)
        connection = UnixHTTPConnection(str(bare))

        def plain() -> object:
            connection.request("GET", "/constant")
            return json.loads(connection.getresponse().read())

        client, daemon = Client(waportd.socket), waportd.pid
        measured = interleave(
            rounds,
            {
                "ours": lambda: traffic.per_call(daemon, lambda: client.qr("2"), count),
                "theirs": lambda: traffic.per_call(program.pid, plain, count),
            },
        )
        connection.close()
    return [
        row(
            "waportd.client, qr()",
            "http.client to the bare handler",
            "µs",
            measured["ours"],
            measured["theirs"],
            at_most(1.2),
        )
    ]


def _node(waportd: place.Waportd, *, quick: bool) -> list[Row]:
    rounds, count, seconds = (3, 300, 0.1) if quick else (31, 500, 0.4)
    user = waportd.user("2")
    server, ours = user["process"]["pid"], ("127.0.0.1", user["port"])
    size = len(traffic.body_of(ours, "/qr"))
    bare = ("127.0.0.1", 4999)
    with place.program("node", place.ROOT / "bench/bare_http.js", str(bare[1]), str(size)) as program:
        place.until(lambda: _answers(bare), "the bare node server")
        measured = interleave(
            rounds,
            {
                "ours": lambda: traffic.load(server, ours, "/qr", count, seconds),
                "theirs": lambda: traffic.load(program.pid, bare, "/", count, seconds),
            },
        )
        fresh = interleave(
            rounds,
            {
                "ours": lambda: (
                    traffic.percentile(traffic.new_connections(ours, "/qr", count // 2), 0.5) * 1e6
                ),
                "theirs": lambda: (
                    traffic.percentile(traffic.new_connections(bare, "/", count // 2), 0.5) * 1e6
                ),
            },
        )
    result = [
        row(
            f"server of one user, GET /qr, {name}",
            "bare node http",
            unit,
            [each[key] for each in measured["ours"]],
            [each[key] for each in measured["theirs"]],
            target,
        )
        for key, name, unit, target in (
            ("p50", "p50", "µs", at_most(1.3)),
            ("rps", "throughput", "requests/s", at_least(1 / 1.3)),
        )
    ]
    result.append(
        row(
            "server of one user, GET /qr, new connection with caller check",
            "bare node http, new connection",
            "µs",
            fresh["ours"],
            fresh["theirs"],
        )
    )
    return result


def _answers(address: tuple[str, int]) -> bool:
    try:
        return bool(traffic.body_of(address, "/"))
    except OSError:
        return False
