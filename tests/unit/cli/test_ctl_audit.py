"""``audit``: who changed what, as the journal has it."""

import contextlib
import datetime as dt
import json
import os
import types

import pytest
from systemd import journal

from waportd.cli.exit_status import Exit

ENTRY = {
    "LOGGER": "waportd.audit",
    "_SYSTEMD_UNIT": "waportd.service",
    "WAPORTD_CALLER": "web\u202eapp",
    "WAPORTD_ADDRESS": "127.0.0.1",
    "WAPORTD_TOKEN": "0123456789ab",
    "WAPORTD_USER": "2",
    "WAPORTD_ACTION": "DELETE /v1/users/2",
    "WAPORTD_STATUS": "204",
}


@pytest.fixture
def entries(monkeypatch):
    """What the journal holds, oldest first: fields, and how many hours ago."""
    held = []

    class Reader:
        def __init__(self):
            self.groups, self.begin = [{}], None

        def seek_tail(self):
            pass

        def get_previous(self):
            return held

        def add_match(self, *texts, **fields):
            self.groups[-1].update(fields, **dict(text.split("=") for text in texts))

        def add_disjunction(self):
            self.groups.append({})

        def seek_realtime(self, begin):
            self.begin = begin

        def __iter__(self):
            for fields, hours in held:
                moment = dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours)
                fits = any(all(fields.get(k) == v for k, v in group.items()) for group in self.groups)
                if fits and moment >= self.begin:
                    yield {**fields, "__REALTIME_TIMESTAMP": moment}

    monkeypatch.setattr(journal, "Reader", lambda: contextlib.nullcontext(Reader()))
    return types.SimpleNamespace(add=lambda hours=1, **fields: held.append(({**ENTRY, **fields}, hours)))


async def test_changes_are_shown_with_who_made_them(ctl, entries):
    entries.add()
    shown = (await ctl("audit")).out
    assert shown.splitlines()[1].split()[2:] == ["web?app", "127.0.0.1", "204", "DELETE", "/v1/users/2"]
    [change] = json.loads((await ctl("audit", "--json")).out)["changes"]
    assert (change["token"], change["user"], change["uid"]) == ("0123456789ab", "2", None)


async def test_of_one_user_and_since_a_while(ctl, entries):
    entries.add(hours=30, WAPORTD_STATUS="200")
    entries.add(hours=5, WAPORTD_USER="3", WAPORTD_STATUS="201")
    entries.add(hours=1, WAPORTD_STATUS="202")

    async def statuses(*arguments):
        changes = json.loads((await ctl("audit", "--json", *arguments)).out)["changes"]
        return [change["status"] for change in changes]

    assert await statuses() == ["200", "201", "202"]
    assert await statuses("--user", "2") == ["200", "202"]
    assert await statuses("--since", "24h") == ["201", "202"]
    assert await statuses("--since", "90m") == ["202"]
    assert await statuses("--since", "2020-01-01") == ["200", "201", "202"]


async def test_nobody_else_can_write_one(ctl, entries):
    entries.add(_SYSTEMD_UNIT="evil.service")
    entries.add(_SYSTEMD_UNIT=None, _SYSTEMD_USER_UNIT="waportd.service", _UID=str(os.getuid() + 1))
    assert "Nobody has changed anything" in (await ctl("audit")).out


async def test_who_may_not_read_the_journal_learns_why(ctl, entries):
    answer = await ctl("audit")
    assert answer.status == Exit.NOT_PERMITTED
    assert "systemd-journal" in answer.err


async def test_a_time_that_is_none_is_refused(ctl, entries):
    entries.add()
    for text in ("yesterday", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"):
        assert (await ctl("audit", "--since", text)).status == Exit.USAGE
