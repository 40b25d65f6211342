"""A user's log: everything about their server, nothing about anybody else's, and new lines as they come."""

import asyncio
import contextlib
import dataclasses
import os
import threading
import time

import pytest
from fake_journal import FakeJournal
from support import BASE, Events

from waportd.api import logs as module
from waportd.config import Bus, Systemd
from waportd.model import Assignment, Port, User
from waportd.registry import Instance
from waportd.systemd import server_log

ONE, PORT = User("1"), Port(BASE)
SERVICE, SOCKET = f"whatsapp@{BASE}.service", f"whatsapp@{BASE}.socket"
ME = str(os.getuid())
PATH = "/v1/users/1/logs"


@pytest.fixture(autouse=True)
def journal(monkeypatch):
    journal = FakeJournal()
    monkeypatch.setattr(server_log.journal, "Reader", journal.open)
    journal.write("some line of some program")
    yield journal
    # Readers are closed in their thread.
    deadline = time.monotonic() + 10
    while journal.readers:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def user(journal, supervisor):
    supervisor.registry.put(Instance(Assignment(ONE, PORT, created_at=time.time() - 100)))


def server(journal, message, **fields):
    journal.write(message, **{"_SYSTEMD_UNIT": SERVICE, "SYSLOG_IDENTIFIER": f"whatsapp@{BASE}", **fields})


async def read(api, path=PATH, expected=200):
    async with api.get(path) as answer:
        assert answer.status == expected, await answer.text()
        return await answer.json(content_type=None)


async def messages(api, path=PATH):
    return [line["message"] for line in (await read(api, path))["lines"]]


@contextlib.asynccontextmanager
async def following(api, query="", **headers):
    async with api.get(f"{PATH}?follow=true{query}", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        yield Events(answer)


async def test_the_servers_systemds_and_the_daemons_lines_are_shown(api, journal):
    server(journal, "listening")
    journal.write("Started it.", _PID=1, UNIT=SERVICE, SYSLOG_IDENTIFIER="systemd", PRIORITY=5)
    journal.write("Closed it.", _PID=1, UNIT=SOCKET, SYSLOG_IDENTIFIER="systemd")
    journal.write("session ready", _UID=ME, WAPORTD_PORT=PORT, SYSLOG_IDENTIFIER="waportd")
    journal.write("Cannot start", _UID=ME, WAPORTD_USER="1", SYSLOG_IDENTIFIER="waportd", PRIORITY=4)
    shown = await read(api)
    assert (shown["user"], shown["unit"]) == ("1", SERVICE)
    assert [(line["source"], line["message"], line["priority"]) for line in shown["lines"]] == [
        ("server", "listening", 6),
        ("systemd", "Started it.", 5),
        ("systemd", "Closed it.", 6),
        ("waportd", "session ready", 6),
        ("waportd", "Cannot start", 4),
    ]
    assert all(line["time"].endswith("Z") for line in shown["lines"])


async def test_nothing_of_anybody_else_is_shown_and_nobody_can_put_lines_in(api, journal):
    journal.write("another user's", _SYSTEMD_UNIT=f"whatsapp@{BASE + 1}.service")
    journal.write("forged by a program", UNIT=SERVICE, _PID=4711)
    journal.write("forged by another user", WAPORTD_PORT=PORT, _UID="12345")
    journal.write("forged by another user", WAPORTD_USER="1", _UID="12345")
    journal.write("a user's own unit", _SYSTEMD_USER_UNIT=SERVICE, _UID="12345")
    journal.write("the daemon about another", _UID=ME, WAPORTD_USER="2", WAPORTD_PORT=PORT + 1)
    assert await messages(api) == []


async def test_what_an_earlier_owner_of_the_port_did_is_not_shown(api, journal, supervisor):
    server(journal, "the secret of an earlier owner")
    now = time.time() + 1
    supervisor.registry.put(Instance(Assignment(ONE, PORT, created_at=now)))
    server(journal, "mine", at=now)
    assert await messages(api) == ["mine"]


async def test_the_newest_lines_are_shown_and_not_more_than_asked_for(api, journal):
    for number in range(150):
        server(journal, f"line {number}")
    assert await messages(api) == [f"line {number}" for number in range(50, 150)]
    assert await messages(api, f"{PATH}?lines=2") == ["line 148", "line 149"]


async def test_on_the_session_bus_the_units_are_those_of_the_session(api, journal, config, supervisor):
    await supervisor.reconfigure(dataclasses.replace(config, systemd=Systemd(bus=Bus.SESSION)))
    server(journal, "of the host")
    journal.write("of the session", _UID=ME, _SYSTEMD_USER_UNIT=SERVICE)
    journal.write("Started.", _UID=ME, USER_UNIT=SERVICE)
    journal.write("Closed.", _UID=ME, USER_UNIT=SOCKET)
    journal.write("of another user's session", _UID="12345", _SYSTEMD_USER_UNIT=SERVICE)
    assert await messages(api) == ["of the session", "Started.", "Closed."]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("plain", "plain"),
        (b"caf\xe9", "caf�"),
        (["first", "second"], "first"),
        ("\x1b[2Jcleared\x07\u2028", "�[2Jcleared��"),
        ("two\nlines\tand tab", "two\nlines\tand tab"),
        ("x" * 10_000, "x" * 2000),
    ],
)
async def test_a_line_is_short_text_that_commands_no_terminal(api, journal, message, shown):
    server(journal, message)
    assert await messages(api) == [shown]


async def test_a_priority_that_is_none_is_that_of_information(api, journal):
    server(journal, "odd", PRIORITY="high")
    assert (await read(api))["lines"][0]["priority"] == 6


async def test_a_user_who_has_no_port_has_no_log(api, journal):
    assert (await read(api, "/v1/users/9/logs", 404))["code"] == "unknown_user"


@pytest.mark.parametrize("query", ["lines=0", "lines=1001", "lines=x", "follow=maybe"])
async def test_what_cannot_be_is_refused(api, journal, query):
    assert (await read(api, f"{PATH}?{query}", 400))["code"] == "bad_request"


@pytest.mark.parametrize("query", ["", "?follow=true"])
async def test_a_journal_that_may_not_be_read_is_a_503_that_says_what_to_do(api, journal, query):
    journal.readable = False
    refused = await read(api, PATH + query, 503)
    assert refused["code"] == "journal_unavailable"
    assert "systemd-journal" in refused["hint"]


async def test_a_journal_that_fails_is_a_503(api, journal, monkeypatch):
    def fail(**_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(server_log.journal, "Reader", fail)
    refused = await read(api, PATH, 503)
    assert "Input/output error" in refused["detail"]


async def test_a_journal_that_hangs_holds_up_nothing(api, journal, monkeypatch):
    done = threading.Event()

    def hang(**_):
        done.wait(20)
        return journal.open({"__REALTIME_TIMESTAMP": int})

    monkeypatch.setattr(server_log.journal, "Reader", hang)
    monkeypatch.setattr(server_log, "TIMEOUT_S", 0.2)
    try:
        hanging = asyncio.create_task(read(api, PATH, 503))
        async with api.get("/v1/health") as answer:
            assert answer.status == 200
        assert (await hanging)["code"] == "journal_unavailable"
    finally:
        done.set()


class TestFollowing:
    async def test_lines_come_as_they_are_written(self, api, journal):
        server(journal, "before")
        async with following(api) as events:
            first = await events.next()
            assert (first.name, first.data["message"]) == ("log", "before")
            for number in range(3):
                server(journal, f"line {number}")
                assert (await events.next()).data["message"] == f"line {number}"
            journal.write("another user's", _SYSTEMD_UNIT=f"whatsapp@{BASE + 1}.service")
            server(journal, "last")
            assert (await events.next()).data["message"] == "last"

    async def test_a_log_without_a_line_can_be_followed(self, api, journal):
        async with following(api) as events:
            await asyncio.sleep(0.3)
            server(journal, "the first")
            assert (await events.next()).data["message"] == "the first"

    async def test_many_lines_at_once_all_come(self, api, journal):
        async with following(api, "&lines=1") as events:
            server(journal, "start")
            await events.next()
            for number in range(server_log.LINES_AT_ONCE * 2 + 1):
                server(journal, str(number))
            told = [(await events.next()).data["message"] for _ in range(server_log.LINES_AT_ONCE * 2 + 1)]
            assert told == [str(number) for number in range(server_log.LINES_AT_ONCE * 2 + 1)]

    async def test_who_was_away_continues_from_there(self, api, journal):
        server(journal, "one")
        async with following(api) as events:
            last = (await events.next()).id
        server(journal, "two")
        async with following(api, **{"Last-Event-ID": last}) as events:
            assert (await events.next()).data["message"] == "two"

    async def test_an_id_that_is_unknown_is_passed_over(self, api, journal):
        server(journal, "one")
        async with following(api, **{"Last-Event-ID": "abcd-1"}) as events:
            assert (await events.next()).data["message"] == "one"

    async def test_it_ends_with_the_user(self, api, journal, supervisor):
        async with following(api) as events:
            supervisor.registry.remove(ONE)
            assert await events.next() is None

    async def test_it_ends_with_the_daemon(self, api, journal, supervisor):
        async with following(api) as events:
            supervisor.registry.release()
            async with asyncio.timeout(3):
                assert await events.next() is None

    async def test_silence_is_broken_by_heartbeats(self, api, journal, monkeypatch):
        monkeypatch.setattr(module, "HEARTBEAT_S", 0.05)
        async with following(api) as events:
            for expected in (b"retry: 2000\n", b"\n", b":\n", b"\n", b":\n"):
                assert await events.answer.content.readline() == expected

    async def test_there_are_only_so_many(self, api, journal, monkeypatch):
        monkeypatch.setattr(module, "LOGS", 2)
        monkeypatch.setattr(module, "HEARTBEAT_S", 0.05)
        async with following(api), following(api):
            assert (await read(api, f"{PATH}?follow=true", 429))["code"] == "too_many_requests"
        async with asyncio.timeout(10):
            while journal.readers:
                await asyncio.sleep(0.02)
        async with following(api):
            pass

    async def test_one_caller_gets_a_part_of_them(self, api, tcp, access, journal, monkeypatch):
        monkeypatch.setattr(module, "LOGS_PER_CALLER", 2)
        _, token = await access.tokens.create("of user 1", User("1"))
        tcp.headers["Authorization"] = f"Bearer {token}"
        async with following(tcp), following(tcp):
            problem = await read(tcp, f"{PATH}?follow=true", 429)
            assert problem["detail"] == "you follow 2 logs, which is the limit"
            async with following(api):
                pass

    async def test_an_idle_follower_costs_nothing(self, api, journal):
        server(journal, "one")
        async with following(api) as events:
            await events.next()
            began = time.process_time()
            await asyncio.sleep(1)
            assert time.process_time() - began < 0.1


class TestLevels:
    @pytest.fixture(autouse=True)
    def lines(self, journal):
        server(journal, "detail", PRIORITY=7)
        server(journal, "listening")
        server(journal, "slow", PRIORITY=4)
        server(journal, "broken", PRIORITY=3)
        journal.write("Main process exited", _PID=1, UNIT=SERVICE, SYSLOG_IDENTIFIER="systemd", PRIORITY=4)
        journal.write("Cannot start", _UID=ME, WAPORTD_USER="1", SYSLOG_IDENTIFIER="waportd", PRIORITY=2)
        journal.write("another user's error", _SYSTEMD_UNIT=f"whatsapp@{BASE + 1}.service", PRIORITY=3)

    @pytest.mark.parametrize(
        ("level", "shown"),
        [
            ("all", ["detail", "listening", "slow", "broken", "Main process exited", "Cannot start"]),
            ("warning", ["slow", "broken", "Main process exited", "Cannot start"]),
            ("error", ["broken", "Cannot start"]),
        ],
    )
    async def test_only_lines_of_a_level_are_shown(self, api, level, shown):
        assert await messages(api, f"{PATH}?level={level}") == shown
        # As many as are asked for, however many others are between them.
        assert await messages(api, f"{PATH}?level={level}&lines=2") == shown[-2:]

    async def test_only_lines_of_a_level_are_followed(self, api, journal):
        async with following(api, "&level=error") as events:
            assert [(await events.next()).data["message"] for _ in range(2)] == ["broken", "Cannot start"]
            server(journal, "a warning", PRIORITY=4)
            server(journal, "again", PRIORITY=3)
            assert (await events.next()).data["message"] == "again"

    async def test_another_level_is_refused(self, api):
        assert (await read(api, f"{PATH}?level=debug", 400))["code"] == "bad_request"
