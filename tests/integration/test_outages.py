"""Those who a session depends on come and go: the web app that takes its messages, and WhatsApp."""

import contextlib
import http.server
import json
import socket
import threading
import time

import pytest
from harness import PATIENCE, Poller, ask_server, note_row, until
from rows import EVERYTHING

PHONE = "5511999990001"
MESSAGES = 500 if EVERYTHING else 50
NEXT_TRY = 60.0 + PATIENCE
"""Seconds within which a web app that failed is tried again: the pauses grow to a minute, however long a busy host takes."""


class Unreliable(http.server.BaseHTTPRequestHandler):
    """A web app that answers, and what it took."""

    taken: list[str]

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.taken.append(body["body"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def sick_web_app(port, answer):
    """Listen on the web app's port, and answer each connection with these bytes; None: with nothing, ever."""
    calls = []
    with socket.create_server(("127.0.0.1", port)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    calls.append(connection)
                    if answer is not None:
                        connection.recv(65536)
                        connection.sendall(answer)
                        connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield calls
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in calls:
                connection.close()


@contextlib.contextmanager
def web_app(port):
    """The web app as it should be; gives what it takes."""
    handler = type("Handler", (Unreliable,), {"taken": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield handler.taken
        finally:
            server.shutdown()
            thread.join()


def link(waportd, standin, **options):
    waportd.call("PUT", "/v1/users/1?wait=none", 201, options)
    standin.tell("scan", qr=waportd.show_code("1"), phone=PHONE, name="Ana")
    return waportd.until_session("1", "ready")["process"]["pid"]


def webhook():
    return ask_server(5001, "/session").json["webhook"]


def test_messages_wait_for_a_web_app_that_is_down_talks_nonsense_or_hangs(waportd, standin, port):
    pid = link(waportd, standin, webhook_url=f"http://127.0.0.1:{port}/webhook")
    sent = [f"message {number}" for number in range(MESSAGES)]
    with (
        Poller(lambda: ask_server(5001, "/health")) as health,
        Poller(lambda: waportd.ask("GET", "/api/qr?user_id=1")) as page,
    ):
        for body in sent:
            standin.tell("message", **{"phone": PHONE, "from": "5511999990009", "body": body})
        until(lambda: webhook()["queued"] == MESSAGES, "the messages to wait")
        down = until(lambda: webhook()["failed"], "the first try in vain")
        with sick_web_app(port, b"\0 no HTTP\r\n\r\n") as calls:
            until(lambda: webhook()["failed"] > down and calls, "a try in vain", NEXT_TRY)
        if EVERYTHING:
            nonsense = webhook()["failed"]
            with sick_web_app(port, None) as calls:
                until(lambda: webhook()["failed"] > nonsense and calls, "a try without an answer", NEXT_TRY)
        assert webhook()["queued"] == MESSAGES
        assert webhook()["dropped"] == 0
        back_at = time.monotonic()
        with web_app(port) as taken:
            until(lambda: len(taken) >= MESSAGES, "all messages", NEXT_TRY)
            until(lambda: webhook()["queued"] == 0, "an empty queue")
        seconds = time.monotonic() - back_at
        assert taken == sent
        shown = waportd.user("1")
        assert (shown["session"]["state"], shown["process"]["pid"]) == ("ready", pid)
        assert shown["process"]["restarts"] == 0
    assert set(health.statuses) == set(page.statuses) == {200}
    # The daemon reads a server's picture ten times a second at most.
    delivered = f'waportd_webhook_messages_total{{outcome="delivered"}} {MESSAGES}'
    until(lambda: delivered in waportd.ask("GET", "/metrics").body.decode(), "the metric")
    note_row(
        f"the web app's webhook is down, answers nonsense{', hangs' if EVERYTHING else ''}, and comes back, while {MESSAGES} messages wait",
        f"each message once and in order; session ready all the time; port: longest wait {health.longest:.1f} s",
        seconds,
    )


@pytest.mark.thorough
def test_an_upstream_that_comes_and_goes_costs_a_linked_session_nothing(waportd, standin):
    pid = link(waportd, standin)
    seen = set()
    with Poller(lambda: ask_server(5001, "/health")) as health:
        for _ in range(10):
            for on in (True, False):
                standin.tell("unreachable", on=on)
                time.sleep(0.7)
                seen.add(waportd.user("1")["session"]["state"])
        back_at = time.monotonic()
        shown = waportd.until_session("1", "ready")
        seconds = time.monotonic() - back_at
    assert seen <= {"ready", "disconnected"}
    assert (shown["process"]["pid"], shown["process"]["restarts"]) == (pid, 0)
    assert set(health.statuses) == {200}
    note_row(
        "WhatsApp is out of reach and back again, ten times in 14 s",
        f"session {' or '.join(sorted(seen))}, its server untouched; port: all answered, longest wait {health.longest:.1f} s",
        seconds,
    )


@pytest.mark.thorough
def test_an_upstream_that_is_slow_is_waited_for(waportd, standin):
    standin.tell("silent")
    began = time.monotonic()
    threading.Timer(15, standin.tell, ("silent",), {"on": False}).start()
    assert len(waportd.show_code("1").split(",")) == 5
    seconds = time.monotonic() - began
    assert seconds >= 15
    assert waportd.user("1")["process"]["restarts"] == 0
    note_row("WhatsApp gives its first code after 15 s", "the caller waits, and gets the code", seconds)
