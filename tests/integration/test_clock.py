"""The clock is set: by an hour or a day, forwards and backwards, under a daemon and servers that run.

What they take for the time is shifted by libfaketime, as `date --set` would for all; their monotonic clock continues.
"""

import datetime as dt
import time
from pathlib import Path

import psutil
import pytest
from harness import LIGHT_SERVER, Caller, NoBrowser, Waportd, note_row, systemctl, until
from rows import EVERYTHING

HOUR, DAY = 3600, 86400
DROP_IN = """\
[Service]
Environment=LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE={file}
Environment=FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1
"""


class Clock:
    """What the daemon and its servers take for the time."""

    def __init__(self, waportd):
        [library] = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        self._file = waportd.directory / "clock"
        self.set(0)
        for unit in ("waportd.service.d", "whatsapp@.service.d"):
            (waportd.units / unit).mkdir(parents=True)
            text = DROP_IN.format(library=library, file=self._file)
            (waportd.units / unit / "clock.conf").write_text(text)

    def set(self, ahead):
        """Set it, by seconds from the true time."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead:+d}s")
        new.rename(self._file)
        self._ahead = ahead

    def now(self):
        return time.time() + self._ahead


@pytest.fixture
def shifted(tmp_path, port):
    """A daemon, servers without browsers, and their clock."""
    waportd = Waportd(tmp_path, NoBrowser())
    waportd.configure(instances={"script": str(LIGHT_SERVER)}, api={"listen": [f"127.0.0.1:{port}"]})
    clock = Clock(waportd)
    waportd.start()
    yield waportd, clock
    waportd.stop()


def phone(port):
    """Scan the code of the server on that port."""
    systemctl("kill", "--kill-who=main", "--signal=USR2", f"whatsapp@{port}.service")


def busy(*pids):
    """Return the seconds of processor time that processes have had."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def codes_on_show(waportd, clock):
    """Ask for user 2's code as everybody does; return those that were shown, none of them after its end."""
    codes = set()
    for path in ("/v1/users/2/qr", "/api/qr?user_id=2"):
        document = waportd.call("GET", path)
        if document["qr"]:
            codes.add(document["qr"])
            if "expires_at" in document:
                assert dt.datetime.fromisoformat(document["expires_at"]).timestamp() > clock.now() - 0.1
    return codes


@pytest.mark.parametrize(
    "ahead",
    [
        HOUR,
        -HOUR,
        pytest.param(DAY, marks=pytest.mark.thorough),
        pytest.param(-DAY, marks=pytest.mark.thorough),
    ],
)
def test_when_the_clock_is_set_nothing_is_lost_and_no_code_outlives_its_end(shifted, port, ahead):
    waportd, clock = shifted
    waportd.show_code("1")
    phone(5001)
    server = waportd.until_session("1", "ready")["process"]["pid"]
    before = waportd.show_code("2")
    token = waportd.call("POST", "/v1/tokens", 201, {"name": "web app", "scope": "admin"})["token"]
    link = waportd.call("POST", "/v1/users/2/connect-link", 201)["path"].partition("?")[2].partition("&")[2]
    Caller(port).call("PUT", f"/v1/users/2?wait=none&{link}")

    clock.set(ahead)
    set_at = time.monotonic()
    # Forwards it has ended for anyone who goes by the clock; backwards it lives on, and no longer than it did.
    assert codes_on_show(waportd, clock) == (set() if ahead > 0 else {before})
    code = waportd.call("GET", f"/v1/users/2/qr?{link}" if ahead < 0 else "/v1/users/2/qr")
    assert (code["qr"] is None) == (ahead > 0)
    pids = waportd.pid, server, waportd.user("2")["process"]["pid"]
    idle_at, idle = time.monotonic(), busy(*pids)
    time.sleep(2)
    assert busy(*pids) - idle < 0.5 * (time.monotonic() - idle_at)
    if EVERYTHING:
        until(lambda: codes_on_show(waportd, clock) - {before}, "the next code", patience=90)
        assert time.monotonic() - set_at < 65
    # Who cannot wait for that starts the user again; and who is new is served as ever.
    waportd.call("POST", "/v1/users/2/restart")
    assert waportd.show_code("2") != before
    waportd.show_code("3")

    Caller(port).call("PUT", f"/v1/users/2?wait=none&{link}", 403 if ahead > 0 else 200)
    Caller(port, token).call("GET", "/v1/users")
    waportd.restart()
    clock.set(0)
    Caller(port).call("PUT", f"/v1/users/2?wait=none&{link}")
    Caller(port, token).call("GET", "/v1/users")
    assert waportd.until_session("1", "ready")["process"]["pid"] == server
    assert waportd.user("1")["process"]["restarts"] == 0
    assert waportd.user("3")["process"]["restarts"] == 0
    assert "Traceback" not in waportd.journal("waportd.service")
    note_row(
        f"the clock is set {'forwards' if ahead > 0 else 'backwards'} by {'a day' if abs(ahead) == DAY else 'an hour'}, and right again",
        "no code after its end, "
        + ("none until the next one" if ahead > 0 else "the code that was shown")
        + "; keys and connect links as their end says; the linked session ready all the time",
    )


def test_when_the_clock_is_set_the_last_hours_move_with_it(shifted):
    waportd, clock = shifted

    def history():
        return waportd.call("GET", "/v1/history")

    until(lambda: history()["times"], "the first sample")
    for ahead in (HOUR, -DAY, 400 * DAY, 0):
        clock.set(ahead)
        found = history()
        age = clock.now() - dt.datetime.fromisoformat(found["times"][-1]).timestamp()
        assert -1 < age < 61, ahead
        assert found["times"][0] == found["since"]
        # No gap of an hour, or of a year.
        assert len(found["times"]) <= 2, ahead
        assert None not in found["load"]
