import asyncio
import io
import logging
import os
import sys
import threading

import pytest

from waportd.model import Port
from waportd.systemd import journal
from waportd.systemd.journal import last_lines, log_fields, set_up_logging

log = logging.getLogger("test")


@pytest.fixture(autouse=True)
def root_logger():
    """Give the root logger back its handlers."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_fields_of_a_user_and_a_port():
    assert log_fields("2_1", Port(5002)) == {
        "WAPORTD_USER": "2_1", "WAPORTD_PORT": "5002", "UNIT": "whatsapp@5002.service",
    }  # fmt: skip
    assert log_fields(user="2") == {"WAPORTD_USER": "2"}
    assert log_fields() == {}


def test_lines_on_a_terminal_carry_time_and_fields(capsys, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1767225600.0421)
    monkeypatch.setattr("time.time_ns", lambda: 1767225600042100000)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    set_up_logging("info")
    log.info("started %s", "it", extra=log_fields(user="2", port=Port(5002)))
    log.warning("odd", extra={"WAPORTD_USER": "a b"})
    log.debug("not shown")
    assert capsys.readouterr().err == (
        "2026-01-01T00:00:00.042Z info started it user=2 port=5002 unit=whatsapp@5002.service\n"
        '2026-01-01T00:00:00.042Z warning odd user="a b"\n'
    )


def test_a_traceback_follows_the_line(capsys, monkeypatch):
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    set_up_logging("info")
    try:
        int("of the test")
    except ValueError:
        log.exception("failed", extra=log_fields(user="2"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("Z error failed user=2")
    assert lines[1].startswith("Traceback")
    assert lines[-1].startswith("ValueError: ")


def test_the_journal_is_where_systemd_connected_standard_error_to_it(monkeypatch):
    status = os.fstat(sys.stderr.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    assert journal.stderr_is_the_journal()
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
    assert not journal.stderr_is_the_journal()
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert not journal.stderr_is_the_journal()


@pytest.fixture
def sent(monkeypatch):
    """Return what is sent to the journal."""
    entries = []
    monkeypatch.setattr(journal.journal, "send", lambda message, **fields: entries.append((message, fields)))
    monkeypatch.setattr(journal, "stderr_is_the_journal", lambda: True)
    return entries


def test_the_journal_gets_message_priority_and_fields(sent):
    set_up_logging("debug")
    log.warning("slow: %d s", 3, extra=log_fields(user="2", port=Port(5002)))
    [(message, fields)] = sent
    assert message == "slow: 3 s"
    assert fields["PRIORITY"] == "4"
    assert fields["SYSLOG_IDENTIFIER"] == "waportd"
    assert fields["LOGGER"] == "test"
    assert fields["CODE_FUNC"] == "test_the_journal_gets_message_priority_and_fields"
    assert (fields["WAPORTD_USER"], fields["WAPORTD_PORT"], fields["UNIT"]) == (
        "2",
        "5002",
        "whatsapp@5002.service",
    )


def test_the_journal_gets_nothing_but_the_text_of_an_argument(sent):
    class Secretive:
        def __str__(self):
            return "harmless"

        def __repr__(self):
            return "a secret"

    set_up_logging("info")
    log.info("got %s", Secretive())
    assert "a secret" not in repr(sent)


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")],
)
def test_priorities_are_those_of_syslog(sent, level, priority):
    set_up_logging("debug")
    getattr(log, level)("text")
    assert sent[-1][1]["PRIORITY"] == priority


async def test_there_are_no_last_lines_where_the_journal_cannot_be_read(monkeypatch):
    def refuse():
        raise PermissionError("of the test")

    monkeypatch.setattr(journal.journal, "Reader", refuse)
    assert await last_lines("whatsapp@5002.service", 5) == []


async def test_a_journal_that_hangs_is_given_up_and_holds_up_nothing(monkeypatch):
    released = threading.Event()

    def hang():
        released.wait(10)
        raise OSError("of the test")

    monkeypatch.setattr(journal.journal, "Reader", hang)
    monkeypatch.setattr(journal, "READ_TIMEOUT_S", 0.2)
    try:
        assert await asyncio.wait_for(last_lines("whatsapp@5002.service", 5), 5) == []
    finally:
        released.set()
