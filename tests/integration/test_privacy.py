"""Twenty users at once, who do what they like: nobody learns, gets or keeps anything of another's."""

import contextlib
import http.client
import http.server
import json
import os
import random
import re
import signal
import string
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from harness import (
    LIGHT_SERVER,
    PATIENCE,
    SESSIONS,
    NoBrowser,
    UnixConnection,
    Waportd,
    ask_server,
)
from testbed.ports import free_port

USERS = 20
STEPS = 6
PROPER = {200, 201, 204, 400, 404, 409, 429}
"""What may be answered: who acts at random also asks for what is not there."""


@dataclass
class Secrets:
    """What is one user's."""

    open: set[str] = field(default_factory=set)
    """May stand in the journal."""
    closed: set[str] = field(default_factory=set)
    """May not."""

    @property
    def all(self):
        return self.open | self.closed


class Inbox(http.server.ThreadingHTTPServer):
    """The web app's end of all webhooks: keeps what comes, by path."""

    def __init__(self):
        self.received = []
        super().__init__(("127.0.0.1", 0), _Delivery)


class _Delivery(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.received.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


class Person:
    """A user who does things at random, and keeps all that is answered."""

    def __init__(self, waportd, tcp, inbox, chance):
        mark = "".join(chance.choices(string.ascii_lowercase, k=10))
        self.waportd, self._tcp, self._chance = waportd, tcp, chance
        self.user = f"user_{mark}"
        self._phone = f"55{chance.randrange(10**10, 10**11)}"
        self._contact = f"55119{chance.randrange(10**7, 10**8)}"
        self._webhook = f"http://127.0.0.1:{inbox.server_port}/{mark}"
        self._text = f"text {mark[::-1]}"
        self.secrets = Secrets({mark, f"Ana of {self._phone[-6:]}"}, {self._phone, self._contact, mark[::-1]})
        self.told = []
        self._token = self._link = ""
        self._steps = (
            self._ensure, self._show_code, self._link_phone, self._send, self._look_into, self._stop, self._start,
            self._log_out, self._delete, self._renew_link,
        )  # fmt: skip

    def live(self):
        """Do one thing after the other."""
        self._ensure()
        token = self._ask("POST", "/v1/tokens", {"name": self.user, "scope": f"user:{self.user}"})
        self._keep(token["token"])
        self._token = token["token"]
        self._renew_link()
        for step in [
            self._show_code,
            self._link_phone,
            self._send,
            *self._chance.choices(self._steps, k=STEPS),
        ]:
            step()
        self._ensure()
        self._look_into()

    def _keep(self, *secrets):
        self.secrets.closed.update(secrets)

    def _hear(self, status, text):
        assert status in PROPER, text
        self.told.append(text)
        for code in re.findall(r'"qr": ?"([^"]+)"', text):
            self._keep(*(part for part in code.split(",") if len(part) > 8))
        return json.loads(text) if text.startswith("{") else {}

    def _ask(self, method, path, body=None, linkable=False):
        """Call over the unix socket, with the token, or with the link."""
        ways = ["socket", *(["token"] if self._token and "/tokens" not in path else [])]
        way = self._chance.choice([*ways, *(["link"] if linkable and self._link and body is None else [])])
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection = UnixConnection(self.waportd.socket)
        if way != "socket":
            connection = http.client.HTTPConnection("127.0.0.1", self._tcp, timeout=PATIENCE)
        if way == "token":
            headers["Authorization"] = f"Bearer {self._token}"
        if way == "link":
            path += ("&" if "?" in path else "?") + self._link
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        if answer.status == 401:  # a deletion takes the tokens along
            assert way == "token"
            self._token = ""
        return self._hear(200 if answer.status == 401 else answer.status, text)

    def _ask_server(self, path, method="GET", body=None):
        port = self._ask("GET", f"/v1/users/{self.user}").get("port")
        if port is None:
            return {}
        try:
            answer = ask_server(port, path, method, body)
        except ConnectionRefusedError:
            return {}  # it is stopped
        return self._hear(answer.status, answer.body.decode())

    def _ensure(self):
        self._ask("PUT", f"/v1/users/{self.user}?wait=listening", {"webhook_url": self._webhook})

    def _show_code(self):
        self._ask("PUT", f"/v1/users/{self.user}?wait=qr", linkable=True)
        self._ask("GET", f"/v1/users/{self.user}/qr", linkable=True)
        self._ask("GET", f"/api/qr?user_id={self.user}")
        self._ask("GET", f"/v1/users/{self.user}/qr?format=svg")

    def _link_phone(self):
        answer = self._ask(
            "POST", f"/v1/users/{self.user}/pairing-code", {"phone": self._phone}, linkable=True
        )
        if "code" not in answer or "hint" in answer:
            return  # it is linked, or had one a moment ago
        self._keep(answer["code"], answer["code"].replace("-", ""))
        os.kill(self._ask("GET", f"/v1/users/{self.user}")["process"]["pid"], signal.SIGUSR2)
        self.waportd.until_session(self.user, "ready")

    def _send(self):
        self._ask_server("/send", "POST", {"phone": self._contact, "message": self._text})

    def _look_into(self):
        for path in ("/session", "/chats", f"/chats/{self._contact}@c.us/messages"):
            self._ask_server(path)
        self._ask("GET", f"/v1/users/{self.user}/logs?lines=1000")

    def _stop(self):
        self._ask("POST", f"/v1/users/{self.user}/stop")

    def _start(self):
        self._ask("POST", f"/v1/users/{self.user}/start")

    def _log_out(self):
        self._ask("POST", f"/v1/users/{self.user}/logout")

    def _delete(self):
        self._ask("DELETE", f"/v1/users/{self.user}")
        self._ensure()

    def _renew_link(self):
        link = self._ask("POST", f"/v1/users/{self.user}/connect-link", {"ttl": 600})
        self._link = link["path"].partition("&")[2]
        self._keep(self._link.partition("signature=")[2])

    def listen(self, done):
        """Keep what the user's event stream says, for as long as there is a user."""
        while not done.is_set():
            connection = UnixConnection(self.waportd.socket)
            with contextlib.closing(connection):
                connection.request("GET", f"/v1/users/{self.user}/events")
                answer = connection.getresponse()
                while line := answer.readline():
                    self._hear(answer.status, line.decode().removeprefix("data: "))
                    if done.is_set():
                        break
            time.sleep(0.05)


@pytest.fixture
def inbox():
    with Inbox() as inbox:
        threading.Thread(target=inbox.serve_forever, daemon=True).start()
        yield inbox
        inbox.shutdown()


@pytest.fixture
def people(tmp_path, inbox):
    seed = os.environ.get("WAPORTD_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"WAPORTD_SEED={seed} does the same again")  # noqa: T201  # shown with a failure
    tcp = free_port()
    waportd = Waportd(tmp_path, NoBrowser())
    waportd.configure(
        instances={"script": str(LIGHT_SERVER)},
        limits={"start_concurrency": 8},
        api={"listen": [f"127.0.0.1:{tcp}"]},
    )
    waportd.start()
    yield [Person(waportd, tcp, inbox, random.Random(f"{seed}/{number}")) for number in range(USERS)]
    waportd.stop()


def files_of(waportd, port):
    """Return what lies on the disk for a port: session, cache, environment."""
    folders = [folder / str(port) for folder in SESSIONS]
    kept = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return b"\n".join(
        path.read_bytes() for path in [*kept, waportd.directory / f"state/instances/{port}.env"]
    )


def test_nobody_learns_anything_about_another_and_the_journal_keeps_every_secret(people, inbox):
    waportd, done = people[0].waportd, threading.Event()
    with ThreadPoolExecutor(2 * USERS) as pool:
        listeners = [pool.submit(person.listen, done) for person in people]
        lives = [pool.submit(person.live) for person in people]
        try:
            for life in lives:
                life.result()
        finally:
            done.set()
            waportd.call("GET", "/v1/users")
            # Each stream reports its end.
            for person in people:
                waportd.ask("POST", f"/v1/users/{person.user}/stop")
        for listener in listeners:
            listener.result()

    for person in people:
        port = waportd.user(person.user)["port"]
        files = files_of(waportd, port).decode(errors="replace")
        assert person.user in files
        delivered = [body for path, body in inbox.received if path.strip("/") in person.user]
        holdings = {
            "answers": "\n".join(person.told),
            "files": files,
            "deliveries": "\n".join(delivered),
        }
        for what, text in holdings.items():
            for other in people:
                found = [secret for secret in other.secrets.all if secret in text]
                assert other is person or not found, f"{what} of {person.user} hold {found} of {other.user}"

    journal = subprocess.run(
        ["journalctl", "--user", "--output=export"], capture_output=True, timeout=PATIENCE, check=True
    ).stdout.decode(errors="replace")
    metrics = waportd.ask("GET", "/metrics").body.decode()
    for person in people:
        assert person.user in journal
        assert not [secret for secret in person.secrets.closed if secret in journal]
        assert not [secret for secret in person.secrets.closed if secret in metrics]
    # That there was something to be found.
    assert sum(len(person.secrets.closed) for person in people) > 10 * USERS
    assert len({path for path, _ in inbox.received}) > USERS / 2
