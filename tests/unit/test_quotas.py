"""How often somebody may do something, and what is written about it."""

import re
from pathlib import Path

import pytest

from waportd import pairing, quotas
from waportd.quotas import Pace, retry_after

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/security.md"


@pytest.fixture
def pace():
    return Pace(2, 10.0)


def test_so_often_within_a_window_and_then_wait_for_its_end(pace):
    assert [pace.count("a", now) for now in (0.0, 3.0, 4.0, 9.5)] == [0.0, 0.0, 6.0, 0.5]
    assert pace.count("a", 10.0) == 0.0
    assert pace.counted("a") == 1


def test_callers_do_not_count_for_each_other(pace):
    assert [pace.count(caller, 0.0) for caller in "aabb"] == [0.0] * 4


def test_a_wait_is_told_in_whole_seconds_and_never_as_none():
    assert [retry_after(wait) for wait in (0.01, 1.0, 1.2)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("what", "number"),
    [
        ("connections over TCP | all together", quotas.TCP_CONNECTIONS),
        ("connections over TCP | who has shown nothing, all together", quotas.NOBODY.connections),
        ("connections over TCP | a token of scope `admin`", quotas.TOKEN.connections),
        ("connections over TCP | another token", quotas.USER_TOKEN.connections),
        ("connections over TCP | all connect links of a user", quotas.LINK.connections),
        ("connections over TCP that say nothing | all together", quotas.SILENT),
        ("connections on the unix socket | all together", quotas.UNIX_CONNECTIONS),
        ("connections on the unix socket | a user id", quotas.UID.connections),
        ("requests, and new connections | a user's token; who has shown nothing", quotas.NOBODY.turns),
        ("requests, and new connections | a user's token; who has shown nothing", quotas.USER_TOKEN.turns),
        ("requests, and new connections | all connect links of a user", quotas.LINK.turns),
        ("new connections | any other caller", quotas.ARRIVALS),
        ("sent ahead of an answer | a connection", quotas.READ >> 10),
        ("time for a first request | a connection", quotas.FIRST_REQUEST),
        ("time for a body | a request", quotas.BODY),
        ("time to read some of an answer | a connection", quotas.UNREAD),
        ("logs that are followed | a caller", quotas.OF_LOGS),
        ("logs that are followed | all together", quotas.LOGS),
        ("pairing codes | a phone number", pairing.PER_HOUR),
        ("pairing codes | all together", pairing.PER_HOST),
        ("what a server says of its session | a server", quotas.PICTURES[0]),
        ("lines in the journal about a session's changes | a server", quotas.SESSION_LINES[0]),
        (
            "lines in the journal about requests that are no HTTP | an address, a user id",
            quotas.BAD_REQUEST_LINES[0],
        ),
    ],
)
def test_the_table_tells_what_holds(what, number):
    [row] = re.findall(rf"^\| {re.escape(what)} \| (\d+)", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert int(row) == number
