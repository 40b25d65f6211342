"""How often somebody may do something, and what is written about it."""

import re
from pathlib import Path

import pytest

from waportd import pairing, quotas
from waportd.api.server import MAX_BODY_BYTES
from waportd.quotas import Changes, Pace, Share, retry_after

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


def test_who_is_refused_within_the_minute_uses_up_nothing_of_the_hour():
    changes, share = Changes(), Share(1, 1, (2, 3))
    counted = [changes.count("a", share, now) for now in (0.0, 0.0, 1.0, 1.0, 61.0, 62.0, 3600.0)]
    assert counted == [0.0, 0.0, 59.0, 59.0, 0.0, 3538.0, 0.0]
    assert changes.count("b", share, 62.0) == 0.0


def test_a_wait_is_named_in_whole_seconds_and_never_as_none():
    assert [retry_after(wait) for wait in (0.01, 1.0, 1.2)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("what", "number"),
    [
        ("connections over TCP | all together", quotas.TCP_CONNECTIONS),
        ("connections over TCP | who has shown nothing, all together", quotas.NOBODY.connections),
        ("connections over TCP | a token of scope `admin`", quotas.TOKEN.connections),
        ("connections over TCP | another token", quotas.USER_TOKEN.connections),
        ("connections over TCP | all connect links of a user", quotas.LINK.connections),
        ("connections over TCP that say nothing | all together", quotas.SILENT_CONNECTIONS),
        ("connections on the unix socket | all together", quotas.UNIX_CONNECTIONS),
        ("connections on the unix socket | a user id", quotas.UID.connections),
        (
            "connections on the unix socket | a user id that `api.allow_users` does not name",
            quotas.REFUSED.connections,
        ),
        (
            "requests, and new connections | a user id on the unix socket that `api.allow_users` does not name",
            quotas.REFUSED.turns,
        ),
        ("requests, and new connections | a user's token; who has shown nothing", quotas.NOBODY.turns),
        ("requests, and new connections | a user's token; who has shown nothing", quotas.USER_TOKEN.turns),
        ("requests, and new connections | all connect links of a user", quotas.LINK.turns),
        ("new connections | any other caller", quotas.ARRIVALS_PER_TURN),
        ("sent ahead of an answer | a connection", quotas.READ_BYTES >> 10),
        ("time for a first request | a connection", quotas.FIRST_REQUEST_S),
        ("time for a body | a request", quotas.BODY_S),
        ("time to read some of an answer | a connection", quotas.UNREAD_S),
        ("calls that are passed on to users' servers | a caller", quotas.PASSAGES_PER_CALLER),
        ("calls that are passed on to users' servers | all together", quotas.PASSAGES),
        (
            "pieces of files, of 16 KiB and more, on their way to or from users' servers | a caller",
            quotas.PIECES_PER_TURN,
        ),
        (
            "streams and long polls that are notified of a change | those on one user; those on all users",
            quotas.WOKEN_PER_TURN,
        ),
        ("logs that are followed | a caller", quotas.LOGS_PER_CALLER),
        ("logs that are followed | all together", quotas.LOGS),
        ("pairing codes | a phone number", pairing.PER_HOUR),
        ("pairing codes | all together", pairing.PER_HOST),
        ("answers about a passkey | a user", quotas.PASSKEYS[0]),
        ("sizes on disk that are written down | a server", quotas.STORAGE_NOTES[0]),
        ("what a server says of its session | a server", quotas.SESSION_UPDATES[0]),
        ("lines in the journal about a session's changes | a server", quotas.SESSION_LINES[0]),
        (
            "lines in the journal about requests that are no HTTP | an address, a user id",
            quotas.BAD_REQUEST_LINES[0],
        ),
    ],
)
def test_the_table_shows_what_holds(what, number):
    [row] = re.findall(rf"^\| {re.escape(what)} \| (\d+)", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert int(row) == number


@pytest.mark.parametrize(
    ("whose", "share"),
    [
        ("a token of scope `admin`", quotas.TOKEN),
        ("a user id on the unix socket", quotas.UID),
        ("another token", quotas.USER_TOKEN),
        ("all connect links of a user", quotas.LINK),
    ],
)
def test_the_table_shows_how_often_something_may_be_changed(whose, share):
    often = f"| changes | {whose} | {share.changes[0]} a minute, {share.changes[1]} an hour | 429 |"
    assert often in DOCUMENT.read_text("utf-8").splitlines()


def setting(file, pattern):
    """Return the number that a file of the project gives where the pattern fits."""
    [number] = re.findall(pattern, (DOCUMENT.parents[1] / file).read_text("utf-8"), re.MULTILINE)
    return int(number)


@pytest.mark.parametrize(
    ("row", "number"),
    [
        (r"a body \| a request \| {} KiB", MAX_BODY_BYTES >> 10),
        (r"a body that goes through to a user's server \|.*, {} s from one piece", int(quotas.PIECE_S)),
        (r"pairing codes \| a user, also one who was deleted and made again \| {} an hour", pairing.PER_HOUR),
        (r"pairing codes \| a user, also .* an hour, one in {} s", int(pairing.INTERVAL_S)),
        (
            r"connections \| each of the two addresses of a user's server \| {} ",
            setting("server/http.js", r"^const MAX_CONNECTIONS = (\d+);"),
        ),
        (
            r"connections \| a user id, at each of the two addresses of a user's server \| {} ",
            setting("server/http.js", r"^const MAX_CONNECTIONS_OF_ONE = (\d+);"),
        ),
        (
            r"connections \| who may not call a user's server, all together \| {}, for 1 s",
            setting("server/http.js", r"^const MAX_REFUSED = (\d+);"),
        ),
        (
            r"event streams \| a user's server \| {} ",
            setting("server/events.js", r"^const MAX_STREAMS = (\d+);"),
        ),
        (
            r"event streams \| a user id, at a user's server \| {} ",
            setting("server/events.js", r"^const MAX_STREAMS_OF_ONE = (\d+);"),
        ),
        (
            r"messages with more than 1 MiB of JSON \| a user's server \| {} at a time",
            setting("server/send_routes.js", r"^const LARGE_AT_ONCE = (\d+);"),
        ),
        (
            r"the daemon's memory \| the daemon \| {} MiB",
            setting("units/waportd.service.in", r"^MemoryMax=(\d+)M$"),
        ),
        (
            r"the daemon's threads and processes \| the daemon \| {} ",
            setting("units/waportd.service.in", r"^TasksMax=(\d+)$"),
        ),
    ],
)
def test_the_table_shows_what_holds_elsewhere(row, number):
    pattern = rf"^\| {row.replace('{}', str(number))}"
    assert len(re.findall(pattern, DOCUMENT.read_text("utf-8"), re.MULTILINE)) == 1
