"""Messages on their way from a page through the journal to the web app, and what a large journal costs."""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import place, raw, traffic
from bench.measure import Row, at_most, interleave, row, timed, value_at_least, value_at_most

MIB = 1 << 20
PORT = 4998
APP_PORT = 4997
LARGE = 101_500
"""Messages in a large journal: the part to which is added has nearly its full size. It is read as a whole."""
RATE = 25
"""Messages a second of a session that has much to do."""
CHATS = 20


def rows(*, quick: bool) -> list[Row]:
    """Measure messages of one session."""
    return [*_on_their_way(quick=quick), *_large_journal(quick=quick)]


class Session:
    """A linked session without a browser, and a web app that takes its messages."""

    def __init__(self, server: "subprocess.Popen[bytes]") -> None:
        self._server = server
        self._link()

    def _link(self) -> None:
        place.until(lambda: _answers(PORT, "/health"), "a server")
        traffic.body_of(("127.0.0.1", PORT), "/qr")
        place.until(lambda: self.seen()["state"] == "qr", "a code")
        os.kill(self._server.pid, signal.SIGUSR2)
        place.until(lambda: self.seen()["ready"], "a linked session")
        # What a page has when it becomes ready is looked for first.
        time.sleep(1)

    def seen(self) -> dict[str, Any]:
        """Return the session's document."""
        seen: dict[str, Any] = json.loads(traffic.body_of(("127.0.0.1", PORT), "/session"))
        return seen

    def want(self, messages: int, **how: float) -> None:
        """Have messages come: see page_traffic.js."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({"messages": messages, "chats": CHATS, **how}).encode() + b"\n")
        self._server.stdin.flush()

    def until_told(self, messages: int) -> dict[str, Any]:
        """Wait until the web app has that many, and return its report on them."""
        place.until(lambda: len(_told()["took"]) >= messages, f"{messages} messages", 300)
        return _told("/forget")

    def memory(self) -> float:
        """Return what the server has of memory, in MiB."""
        return place.memory(self._server.pid) / MIB


def _told(path: str = "/") -> dict[str, Any]:
    report: dict[str, Any] = json.loads(traffic.body_of(("127.0.0.1", APP_PORT), path))
    return report


def _answers(port: int, path: str) -> bool:
    try:
        return bool(traffic.body_of(("127.0.0.1", port), path))
    except OSError:
        return False


@contextlib.contextmanager
def _session() -> Iterator[Session]:
    with (
        place.disk() as folder,
        place.program("node", place.ROOT / "bench/web_app.js", str(APP_PORT)),
        place.program(
            "node",
            place.ROOT / "bench/page_traffic.js",
            cwd=folder,
            env={
                **os.environ,
                "PORT": str(PORT),
                "HOME": str(folder),
                "WAPORTD_WEBHOOK_URL": f"http://127.0.0.1:{APP_PORT}/webhook",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as server,
    ):
        place.until(lambda: _answers(APP_PORT, "/"), "the web app")
        yield Session(server)


def _on_their_way(*, quick: bool) -> list[Row]:
    rounds, seconds = (1, 2) if quick else (7, 10)
    with _session() as session:

        def under_way(*, journal: bool) -> list[float]:
            session.want(RATE * seconds, rate=RATE, journal=journal)
            took: list[float] = session.until_told(RATE * seconds)["took"]
            return took

        under_way(journal=True)
        measured = interleave(
            rounds, {"ours": lambda: under_way(journal=True), "theirs": lambda: under_way(journal=False)}
        )
        slow = [_beside_a_slow_chat(session, 3 if quick else 35) for _ in range(1 if quick else 3)]
        speeds = [_speed(session, 1000 if quick else 5000) for _ in range(1 if quick else 5)]
    ours, theirs = ([statistics.median(took) for took in measured[name]] for name in ("ours", "theirs"))
    return [
        row("from the page to the web app, median", "without a journal", "ms", ours, theirs),
        row(
            "what the journal adds to that",
            "–",
            "ms",
            [one - other for one, other in zip(ours, theirs, strict=True)],
            None,
            value_at_most(10, "ms"),
        ),
        row(
            f"from the page to the web app, p99 at {RATE} messages/s",
            "–",
            "ms",
            [traffic.percentile(took, 0.99) for took in measured["ours"]],
            None,
            value_at_most(100, "ms"),
        ),
        row(
            f"the same of {CHATS} chats while the web app works 30 s for each message of another one",
            "–",
            "ms",
            slow,
            None,
            value_at_most(200, "ms"),
        ),
        row(
            "events through the journal and the webhook of one session",
            "–",
            "events/s",
            speeds,
            None,
            value_at_least(300, "events/s"),
        ),
        *_memory(10 if quick else 240),
    ]


def _beside_a_slow_chat(session: Session, seconds: int) -> float:
    session.want(RATE * seconds, rate=RATE, slow=0.5)
    return traffic.percentile(session.until_told(RATE * seconds)["took"], 0.99)


def _speed(session: Session, messages: int) -> float:
    session.want(messages, rate=0)
    report = session.until_told(messages)
    return float((messages - 1) / report["seconds"])


def _memory(seconds: int) -> list[Row]:
    """Have many events for a long time, in a server of its own that has had some before."""
    rate, part = 150, max(1, seconds // 10)
    with _session() as session:
        session.want(rate * seconds, rate=rate)
        time.sleep(2 * part)
        samples = []
        for _ in range(8 * part):
            time.sleep(1)
            samples.append(session.memory())
        session.until_told(rate * seconds)
    half = len(samples) // 2
    first, second = statistics.median(samples[:half]), statistics.median(samples[half:])
    return [
        row(f"memory of node while {rate} events/s go through it (PSS)", "–", "MiB", [second]),
        row(
            f"growth of that memory over {seconds} s: second half against first",
            "–",
            "%",
            [(second / first - 1) * 100],
            None,
            value_at_most(10, "%"),
        ),
    ]


def _large_journal(*, quick: bool) -> list[Row]:
    count = 10_000 if quick else LARGE
    rounds = 3 if quick else 15
    script = place.ROOT / "bench/journal_open.js"
    with place.disk() as large, place.disk() as small:
        journal = large / f".wwebjs_auth_{PORT}/messages"
        journal.parent.mkdir()
        subprocess.run(["node", script, "make", journal, str(count)], check=True)

        def opened() -> dict[str, float]:
            output = subprocess.run(["node", script, "open", journal], check=True, capture_output=True).stdout
            costs: dict[str, float] = json.loads(output)
            assert costs["entries"] == count, costs
            return costs

        def started(folder: Path) -> float:
            with contextlib.ExitStack() as stack:
                return timed(
                    lambda: (
                        stack.enter_context(raw.spawned(place.LIGHT_SERVER, PORT, folder)),
                        raw.answer_by_and_by(PORT),
                    )
                )

        opens = [opened() for _ in range(rounds)]
        starts = interleave(rounds, {"ours": lambda: started(large), "theirs": lambda: started(small)})
    return [
        row(
            f"a journal of {count:,} messages is opened",
            "–",
            "ms",
            [each["ms"] for each in opens],
            None,
            value_at_most(200, "ms"),
        ),
        row("memory that it takes then (RSS)", "–", "MiB", [each["memory"] / MIB for each in opens]),
        row(
            "start of a server with that journal, until /health answers",
            "without messages",
            "ms",
            starts["ours"],
            starts["theirs"],
            at_most(1.1),
        ),
    ]
