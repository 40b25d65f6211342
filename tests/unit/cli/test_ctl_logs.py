"""``logs``: what the journal has about a user's server."""

import asyncio
import json
import time

import pytest
from fake_journal import FakeJournal
from support import BASE

from waportd.cli.exit_status import Exit
from waportd.model import Assignment, Port, User
from waportd.registry import Instance
from waportd.systemd import server_log

SERVICE = f"whatsapp@{BASE}.service"


@pytest.fixture
async def journal(monkeypatch, supervisor):
    journal = FakeJournal()
    monkeypatch.setattr(server_log.journal, "Reader", journal.open)
    supervisor.registry.put(Instance(Assignment(User("1"), Port(BASE), created_at=time.time() - 100)))
    yield journal
    deadline = time.monotonic() + 10
    while journal.readers:  # closed in their thread, when the next line finds nobody who reads it
        assert time.monotonic() < deadline
        write(journal, "one more", PRIORITY=3)
        write_of(journal, BASE + 1, "one more")
        await asyncio.sleep(0.05)


def write(journal, message, **fields):
    journal.write(message, **{"_SYSTEMD_UNIT": SERVICE, "SYSLOG_IDENTIFIER": f"whatsapp@{BASE}", **fields})


async def test_the_last_lines_are_shown(api, ctl, journal):
    for message in ("one", "two", "three\x1b[31m red"):
        write(journal, message)
    said = await ctl("logs", "1", "-n", "2")
    assert said.status == Exit.OK
    assert [line.split(maxsplit=3)[3] for line in said.out.splitlines()] == [
        "two",
        "three\N{REPLACEMENT CHARACTER}[31m red",
    ]
    document = [json.loads(line) for line in (await ctl("logs", "1", "--json")).out.splitlines()]
    assert [line["message"] for line in document][:2] == ["one", "two"]


async def test_a_long_line_is_not_cut_and_not_broken(api, ctl, journal):
    write(journal, "x" * 300)
    assert "x" * 300 in (await ctl("logs", "1")).out


def write_of(journal, port, message, ago=0):
    unit = {"_SYSTEMD_UNIT": f"whatsapp@{port}.service", "SYSLOG_IDENTIFIER": f"whatsapp@{port}"}
    journal.write(message, time.time() - ago, **unit)


@pytest.fixture
async def of_two(journal, supervisor):
    """Lines of users 1 and 2, by turns."""
    supervisor.registry.put(Instance(Assignment(User("2"), Port(BASE + 1), created_at=time.time() - 100)))
    for port, message, ago in ((BASE, "one", 9), (BASE + 1, "two", 8), (BASE, "three", 7)):
        write_of(journal, port, message, ago)
    return journal


async def test_lines_of_several_users_are_shown_by_time_with_whose_they_are(api, ctl, of_two):
    said = await ctl("logs", "2", "1", "2")
    assert said.status == Exit.OK
    assert [line.split(maxsplit=3)[3] for line in said.out.splitlines()] == ["1: one", "2: two", "1: three"]
    lines = [json.loads(line) for line in (await ctl("logs", "1", "2", "--json")).out.splitlines()]
    assert [(line["user"], line["message"]) for line in lines] == [("1", "one"), ("2", "two"), ("1", "three")]
    assert (await ctl("logs", "1", "99")).status == Exit.UNKNOWN_USER


async def test_several_users_are_followed_together(api, terminal, of_two):
    screen = await terminal("logs", "1", "2", "-f")
    await screen.until("1: three")
    await screen.until("2: two")
    for port, message in ((BASE, "four"), (BASE + 1, "five")):
        write_of(of_two, port, message)
    await screen.until("1: four")
    await screen.until("2: five")
    screen.interrupt()
    assert await screen.end() == Exit.INTERRUPTED


async def test_what_comes_is_followed_until_ctrl_c(api, terminal, journal):
    write(journal, "before")
    screen = await terminal("logs", "1", "-f")
    await screen.until("before")
    write(journal, "an error", PRIORITY=3)
    await screen.until("an error")
    assert "\x1b[31m" in screen.seen
    screen.interrupt()
    assert await screen.end() == Exit.INTERRUPTED


async def test_only_what_went_wrong_is_shown(api, ctl, terminal, journal):
    for message, priority in (("fine", 6), ("slow", 4), ("broken", 3)):
        write(journal, message, PRIORITY=priority)
    for level, shown in (("warning", ["slow", "broken"]), ("error", ["broken"])):
        said = await ctl("logs", "1", "--level", level)
        assert [line.split(maxsplit=3)[3] for line in said.out.splitlines()] == shown
    screen = await terminal("logs", "1", "-f", "--level", "error")
    await screen.until("broken")
    write(journal, "slow again", PRIORITY=4)
    write(journal, "broken again", PRIORITY=3)
    await screen.until("broken again")
    assert "slow" not in screen.seen
    screen.interrupt()
    assert await screen.end() == Exit.INTERRUPTED
