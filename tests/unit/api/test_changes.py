"""``GET /v1/audit``: what the journal vouches for, bounded, and for who may do everything only."""

import time

import pytest
from fake_journal import FakeJournal

from waportd.systemd import changes


@pytest.fixture(autouse=True)
def journal(monkeypatch):
    journal = FakeJournal()
    monkeypatch.setattr(changes.journal, "Reader", journal.open)
    return journal


def change(journal, status, user="2", hours=1, **fields):
    ours = {"LOGGER": "waportd.audit", "_SYSTEMD_UNIT": "waportd.service", "WAPORTD_CALLER": "web\u202eapp"}
    more = {"WAPORTD_USER": user, "WAPORTD_STATUS": status}
    journal.write("a change", at=time.time() - hours * 3600, **{**ours, **more, **fields})


async def statuses(api, query=""):
    async with api.get(f"/v1/audit{query}") as answer:
        assert answer.status == 200, await answer.text()
        return [one["status"] for one in (await answer.json())["changes"]]


async def test_of_one_user_since_a_while_and_so_many(api, journal):
    change(journal, "200", hours=30)
    change(journal, "201", user="3", hours=5)
    change(journal, "202")
    assert await statuses(api) == ["200", "201", "202"]
    assert await statuses(api, "?user=2") == ["200", "202"]
    assert await statuses(api, "?since=7200") == ["202"]
    assert await statuses(api, "?limit=2") == ["201", "202"]
    assert journal.readers == []


async def test_nobody_else_can_write_one_or_more_than_text(api, journal):
    change(journal, "200", _SYSTEMD_UNIT="evil.service")
    change(journal, "201", _SYSTEMD_UNIT=None, _SYSTEMD_USER_UNIT="waportd.service", _UID="1")
    change(journal, "204")
    async with api.get("/v1/audit") as answer:
        [only] = (await answer.json())["changes"]
    assert (only["status"], only["caller"], only["token"]) == ("204", "web?app", None)


@pytest.mark.parametrize("query", ["?limit=0", "?limit=1001", "?since=0", "?user=../x"])
async def test_what_is_not_allowed_is_refused(api, query):
    async with api.get(f"/v1/audit{query}") as answer:
        assert answer.status == 400


async def test_a_journal_that_cannot_be_read_is_not_taken_for_nothing_changed(api, journal):
    change(journal, "200")
    journal.readable = False
    async with api.get("/v1/audit") as answer:
        assert answer.status == 503
    assert journal.readers == []
