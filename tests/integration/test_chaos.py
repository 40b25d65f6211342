"""Faults of every kind, one after the other, on linked sessions: `make chaos` does it for fifteen minutes.

The rule is the same at every size: whatever is killed, reloaded or held up, each session is back within 30 s, none
is taken for logged out, no document is injected into twice, and anyone who asks for a code gets one. Meanwhile people
write and are written to, and the web app fails as web apps do: no message is lost, and none is sent twice.
"""

import contextlib
import itertools
import json
import os
import random
import signal
import statistics
import threading
import time
from dataclasses import dataclass, field

import psutil
import pytest
from correspondence import Correspondence, WebApp
from harness import (
    PATIENCE,
    ROOT,
    StandIn,
    Waportd,
    ask_server,
    browser_of,
    processes,
    systemctl,
    until,
)

FULL = os.environ.get("WAPORTD_CHAOS") == "full"
SEED = int(os.environ.get("WAPORTD_CHAOS_SEED", "1"))
"""What the order of faults and victims is drawn from."""
REPORT = ROOT / ".run/test/chaos.json"

LONGEST_DOWN = 30.0
"""Seconds for which a session may be anything but ready."""
HANG = 13_000
"""Milliseconds for which a page is busy: more than one probe of the server waits, less than a dead page."""
LOOK = 0.25
"""Seconds between two looks at a session."""
DRAINED = 120.0
"""Seconds in which the web app has every message once nothing happens any more."""


@dataclass(frozen=True)
class Size:
    """How many linked sessions there are, how often something happens to one, and for how long.

    Every kind of fault happens once in any case.
    """

    sessions: int
    pause: float
    seconds: float
    well: float
    """Seconds for which the web app works."""
    failing: float
    """Seconds for which it then fails."""


SIZE = Size(8, 10, 900, well=40, failing=10) if FULL else Size(3, 4, 0, well=5, failing=7)


@pytest.fixture
def standin(tmp_path):
    """A stand-in of this test's own: its list of devices says at the end who was logged out."""
    standin = StandIn(tmp_path)
    yield standin
    standin.close()


@pytest.fixture
def app():
    app = WebApp(SIZE.well, SIZE.failing)
    yield app
    app.close()


@pytest.fixture
def waportd(tmp_path, standin, app):
    waportd = Waportd(tmp_path, standin)
    # A code that nobody scans is asked for all the time.
    waportd.configure(instances={"qr_max_retries": 100, "webhook_url": app.url}, log={"level": "info"})
    waportd.start()
    yield waportd
    waportd.stop()


@dataclass
class Witness:
    """Looks at one linked session all the time, by its own port."""

    user: str
    port: int
    phone: str
    down: list[float] = field(default_factory=list)
    """Seconds of each time for which it was not ready."""
    longest_look: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def start(self, done):
        self._done = done
        self._thread = threading.Thread(target=self._watch, name=f"witness of {self.user}")
        self._thread.start()

    def join(self):
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive(), f"nobody answers about user {self.user}"

    def _watch(self):
        well = time.monotonic()
        while not self._done.wait(LOOK):
            began = time.monotonic()
            shown = None
            # A killed server takes the call along that it was just answering.
            with contextlib.suppress(OSError, ValueError, psutil.Error):
                shown = self._look()
            self.longest_look = max(self.longest_look, time.monotonic() - began)
            if shown is None or not shown["ready"]:
                continue
            if (away := time.monotonic() - well) > LOOK + 1:
                self.down.append(away)
            well = time.monotonic()
        self.down.append(time.monotonic() - well)

    def _look(self):
        shown = ask_server(self.port, "/session").json
        # A server that has just started knows its login before it has a page.
        if not shown["linked"]:
            self.wrong.append(f"user {self.user} counts as unlinked: {shown['state']} ({shown['message']})")
        if shown["state"] in {"qr", "logged_out", "passkey_required", "qr_timeout"}:
            self.wrong.append(f"user {self.user} is {shown['state']} ({shown['message']})")
        return shown


@dataclass
class Asker:
    """A person who asks for a code, leaves, and comes again."""

    waportd: Waportd
    asked: int = 0
    took: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def start(self, done):
        self._done = done
        self._thread = threading.Thread(target=self._ask, name="asker")
        self._thread.start()

    def join(self):
        self._thread.join(3 * PATIENCE)
        assert not self._thread.is_alive(), "whoever asks for a code waits for ever"

    def _again(self, method, path):
        """Ask, and once more where the daemon ends: what it was just answering dies with it, or has to be asked again."""
        with contextlib.suppress(OSError):
            answer = self.waportd.ask(method, path, timeout=90)
            if answer.status != 503 or answer.json["code"] != "restarting":
                return answer
        return self.waportd.ask(method, path, timeout=90)

    def _show_code(self, user):
        shown = self._again("PUT", f"/v1/users/{user}?wait=qr&timeout=60")
        assert shown.status in {200, 201}, shown.body
        seen = self._again("GET", f"/v1/users/{user}/qr")
        assert seen.status == 200, seen.body
        return seen.json["qr"]

    def _ask(self):
        for number in itertools.count(1):
            if self._done.wait(1):
                return
            user = f"guest_{number}"
            self.asked += 1
            began = time.monotonic()
            try:
                code = self._show_code(user)
                assert code.count(",") >= 4, f"not a code: {len(code)} characters"
                self.took.append(time.monotonic() - began)
                deleted = self._again("DELETE", f"/v1/users/{user}")
                assert deleted.status in {204, 404}, deleted.body
            except (AssertionError, OSError, AttributeError) as error:
                self.failures.append(f"{user}, after {time.monotonic() - began:.1f} s: {error}")


def child_of_browser(port, kind):
    """Return a process of a user's browser of that kind; None while there is none."""
    for process in processes(port):
        with contextlib.suppress(psutil.NoSuchProcess):
            if f"--type={kind}" in " ".join(process.cmdline()):
                return process
    return None


class Chaos:
    """Everything that is done to sessions, one method for each."""

    def __init__(self, waportd, standin):
        self._waportd = waportd
        self._standin = standin

    @staticmethod
    def kill_node(witness):
        os.kill(processes(witness.port)[0].pid, signal.SIGKILL)

    @staticmethod
    def kill_browser(witness):
        browser_of(witness.port).kill()

    @staticmethod
    def kill_renderer(witness):
        until(lambda: child_of_browser(witness.port, "renderer"), "a renderer").kill()

    @staticmethod
    def kill_zygote(witness):
        until(lambda: child_of_browser(witness.port, "zygote"), "a zygote").kill()

    def restart_by_api(self, witness):
        self._waportd.call("POST", f"/v1/users/{witness.user}/restart")

    @staticmethod
    def restart_by_systemctl(witness):
        systemctl("restart", f"whatsapp@{witness.port}.service")

    def kill_daemon(self, _):
        self._waportd.kill()

    def restart_daemon(self, _):
        self._waportd.restart()

    def reload_page(self, witness):
        self._standin.tell("reload-after", phone=witness.phone, ms=0)

    def open_frames(self, witness):
        self._standin.tell("frames", phone=witness.phone, count=3, every=200)

    def change_address(self, witness):
        self._standin.tell("push-state", phone=witness.phone)

    def hang(self, witness):
        self._standin.tell("hang", phone=witness.phone, ms=HANG)


FAULTS = [name for name in vars(Chaos) if not name.startswith("_")]


def faults(draw):
    """Yield names of faults for ever: each kind once, in some order, then each again."""
    while True:
        yield from draw.sample(FAULTS, len(FAULTS))


def is_ready(witness):
    """Return whether a session is ready; one whose port refuses is not."""
    with contextlib.suppress(OSError):
        return ask_server(witness.port, "/session").json["ready"]
    return False


def has_page(standin, phone):
    """Return whether a page of this phone is open: what is done to pages needs one."""
    return any(page["phone"] == phone for page in standin.see("pages"))


def test_nothing_that_happens_takes_a_linked_session_down_for_long(waportd, standin, app):
    draw = random.Random(SEED)
    witnesses = []
    for number in range(1, SIZE.sessions + 1):
        phone = f"55119999900{number:02}"
        standin.tell("scan", qr=waportd.show_code(str(number)), phone=phone, name="Ana")
        shown = waportd.until_session(str(number), "ready")
        witnesses.append(Witness(str(number), shown["port"], phone))
    sessions = [(witness.user, witness.phone) for witness in witnesses]
    correspondence = Correspondence(waportd, standin, app, sessions)
    asker = Asker(waportd)
    done = threading.Event()
    chaos = Chaos(waportd, standin)
    happened = []
    watchers = (*witnesses, asker, correspondence)
    try:
        for watcher in watchers:
            watcher.start(done)
        ends = time.monotonic() + SIZE.seconds
        for name in faults(draw):
            if time.monotonic() > ends and len(happened) >= len(FAULTS):
                break
            witness = draw.choice(witnesses)
            # A fault hits what is there: a session that comes back from the one before has no page.
            until(lambda phone=witness.phone: has_page(standin, phone), f"a page of user {witness.user}")
            getattr(chaos, name)(witness)
            happened.append(name)
            time.sleep(SIZE.pause)
        until(
            lambda: all(map(is_ready, witnesses)),
            "the return of all sessions",
            LONGEST_DOWN,
        )
        time.sleep(2 * LOOK)
    finally:
        done.set()
        for watcher in watchers:
            watcher.join()
    correspondence.drain(DRAINED)
    down = [seconds for witness in witnesses for seconds in witness.down]
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(
        json.dumps(
            {
                "sessions": SIZE.sessions,
                "seconds": SIZE.seconds,
                "pause": SIZE.pause,
                "seed": SEED,
                "faults": {name: happened.count(name) for name in FAULTS},
                "down": max(down),
                "down_median": statistics.median([seconds for seconds in down if seconds > 1] or [0]),
                "codes": asker.asked,
                "code": max(asker.took),
                "failing": SIZE.failing,
                "messages": correspondence.figures(),
            },
            indent=1,
        )
    )
    assert [text for witness in witnesses for text in witness.wrong] == []
    assert max(down) < LONGEST_DOWN
    assert asker.failures == []
    assert asker.asked == len(asker.took)
    linked = {page["phone"] for page in standin.see("pages")}
    assert linked >= {witness.phone for witness in witnesses}
    assert [page for page in standin.see("pages") if page["injections"] > 1] == []
    # Each kind happened: the short run is as varied as the long one.
    assert set(happened) == set(FAULTS)
    correspondence.check()
