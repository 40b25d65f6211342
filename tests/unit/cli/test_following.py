"""Following how a phone gets linked, over a restart of the daemon."""

import pytest

from waportd.cli import following
from waportd.cli.following import Follower
from waportd.client import QR, WaportdUnavailable


class Daemon:
    """Answers with what it is given, one after the other; an error is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def qr(self, *_):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def clock(monkeypatch):
    """A clock that only waiting moves."""
    now = [1000.0]
    monkeypatch.setattr(following.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(following.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def gone():
    return WaportdUnavailable("no_socket", "there is no socket")


def test_a_daemon_that_is_restarted_is_waited_for(clock):
    known, news = QR(status="qr", qr="a"), QR(status="ready")
    follower = Follower(Daemon(known, gone(), gone(), news), "1", None)
    assert follower.now() is known
    for _ in range(2):
        assert follower.next(25.0) is known
        assert follower.trouble == "there is no socket; retrying …"
    assert follower.next(25.0) is news
    assert follower.trouble is None


def test_a_daemon_that_stays_away_is_given_up(clock):
    follower = Follower(Daemon(*(gone() for _ in range(100))), "1", None)
    while clock[0] - 1000 <= 25:
        follower.next(25.0)
    with pytest.raises(WaportdUnavailable):
        follower.next(25.0)


def test_no_time_is_left_when_it_is_up(clock):
    follower = Follower(Daemon(*(gone() for _ in range(100))), "1", 2.0)
    while follower.has_time:
        follower.next(25.0)
    assert clock[0] == pytest.approx(1002.0)
