"""How things look in JSON."""

import contextlib
import dataclasses
import json
import random
import time

import pytest

from waportd.api import documents
from waportd.api.documents import respond, timestamp, written
from waportd.model import (
    Assignment,
    Desired,
    Event,
    Missing,
    PairingCode,
    Port,
    Process,
    ProcessState,
    Session,
    SessionState,
    Storage,
    Upstream,
    Usage,
    User,
    Webhook,
)
from waportd.registry import Instance
from waportd.session_reader import BadEvent, parse_session

NEW_YEAR = 1767225600.0

RUNNING = Instance(
    Assignment(
        User("2"),
        Port(20000),
        desired=Desired.RUNNING,
        linked=True,
        webhook_url="http://localhost:5002/webhook",
        webhook_secret=("whsec_c2VjcmV0",),
        webhook_events=(Event.MESSAGE, Event.CALL),
        ignore=(),
        default_country="55",
        send_rate=20,
        proxy="http://ana:secret@proxy:3128",
        memory_max=512 << 20,
        created_at=NEW_YEAR,
        note="port 5002 is held by python3 (pid 7, user www-data)",
        storage=Storage(5, 6, 7, NEW_YEAR),
        linked_at=NEW_YEAR + 3,
    ),
    Process(ProcessState.RUNNING, NEW_YEAR + 1, "running on port 20000", pid=77, restarts=1),
    Session(
        SessionState.READY,
        NEW_YEAR + 2,
        "ready",
        linked=True,
        phone_number="5511",
        pushname="Ana",
        last_message_at=NEW_YEAR + 4,
        upstream=Upstream(
            build="2.3000.1",
            library="1.34.7",
            engine="bundled",
            checked=("boot", "main"),
            missing=(Missing("groups", "WAWebGroupCreateJob", "createGroup", "undefined"),),
            shims=(("wids", "not needed"),),
        ),
        webhook=Webhook(2, 7, 1, 1, "HTTP 403", NEW_YEAR, 3, NEW_YEAR + 1),
    ),
    answering=True,
    engine="1.34.6",
    proxy="http://ana:***@proxy:3128",
    held=True,
)


def showing_code(lifetime: float = 60.0) -> Instance:
    session = Session(
        SessionState.QR,
        message="scan the code",
        qr="SECRET",
        expires_at=time.time() + lifetime,
        attempt=3,
        attempts=5,
        pairing=PairingCode("SECRET", time.time() + lifetime),
    )
    return dataclasses.replace(RUNNING, session=session)


def but(process: ProcessState = ProcessState.RUNNING, **members) -> Instance:
    return dataclasses.replace(
        RUNNING, process=Process(process, message="of systemd", cause="crashed"), **members
    )


class TestTimestamp:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (NEW_YEAR, "2026-01-01T00:00:00.000Z"),
            (NEW_YEAR + 0.1234, "2026-01-01T00:00:00.123Z"),
            (0.0, None),
            (None, None),
        ],
    )
    def test_a_time_is_written_in_utc_to_the_millisecond(self, seconds, text):
        assert timestamp(seconds) == text

    def test_the_time_zone_of_the_host_does_not_matter(self, monkeypatch):
        monkeypatch.setenv("TZ", "America/Sao_Paulo")
        time.tzset()
        try:
            assert timestamp(NEW_YEAR) == "2026-01-01T00:00:00.000Z"
        finally:
            monkeypatch.undo()
            time.tzset()


def user(instance: Instance, usage: Usage | None = None) -> dict:
    """Return a user's server as callers get it."""
    return json.loads(written(documents.user(instance, usage)))


def qr(instance: Instance) -> dict:
    """Return a code as callers get it."""
    return json.loads(written(documents.qr(instance)))


class TestRespond:
    def test_an_answer_is_json_that_nobody_may_keep(self):
        response = respond({"name": "Zoë"}, 201, Location="/v1/users/1")
        assert (response.status, response.content_type, response.charset) == (
            201,
            "application/json",
            "utf-8",
        )
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Location"] == "/v1/users/1"
        assert response.body == '{"name": "Zoë"}'.encode()


class TestUser:
    def test_a_user_is_shown_in_full(self):
        assert user(RUNNING, Usage(5, "pss", 1.5, "processes")) == {
            "user": "2",
            "host": None,
            "port": 20000,
            "url": "http://localhost:20000",
            "unit": "whatsapp@20000.service",
            "desired": "running",
            "linked": True,
            "linked_at": "2026-01-01T00:00:03.000Z",
            "note": "port 5002 is held by python3 (pid 7, user www-data)",
            "own_webhook": True,
            "own_webhook_secret": True,
            "webhook_events": ["message", "call"],
            "ignore": [],
            "default_country": "55",
            "send_rate": 20,
            "memory_max": 512 << 20,
            "autostart": True,
            "engine": "1.34.6",
            "own_engine": False,
            "proxy": "http://ana:***@proxy:3128",
            "own_proxy": True,
            "created_at": "2026-01-01T00:00:00.000Z",
            "storage": {
                "login": 5,
                "cache": 6,
                "journal": 7,
                "snapshots": 0,
                "snapshot_at": None,
                "restored_at": None,
                "measured_at": "2026-01-01T00:00:00.000Z",
            },
            "summary": {
                "state": "ready",
                "group": "trouble",
                "message": "2 messages wait for the web app: HTTP 403",
                "cause": "undelivered",
                "hint": "check its webhook, and what answers there",
                "since": "2026-01-01T00:00:01.000Z",
            },
            "process": {
                "state": "running",
                "since": "2026-01-01T00:00:01.000Z",
                "message": "running on port 20000",
                "cause": None,
                "hint": None,
                "pid": 77,
                "restarts": 1,
                "next_start": None,
            },
            "session": {
                "state": "ready",
                "since": "2026-01-01T00:00:02.000Z",
                "message": "ready",
                "cause": None,
                "hint": None,
                "attempt": 0,
                "attempts": 0,
                "progress": None,
                "phone_number": "5511",
                "name": "Ana",
                "answering": True,
                "upstream": {
                    "build": "2.3000.1",
                    "library": "1.34.7",
                    "engine": "bundled",
                    "pinned": None,
                    "ok": False,
                    "checked": ["boot", "main"],
                    "missing": [
                        {
                            "feature": "groups",
                            "module": "WAWebGroupCreateJob",
                            "member": "createGroup",
                            "found": "undefined",
                        }
                    ],
                    "shims": {"wids": "not needed"},
                },
                "webhook": {
                    "queued": 2,
                    "delivered": 7,
                    "failed": 1,
                    "dropped": 1,
                    "undelivered": 3,
                    "oldest_at": "2026-01-01T00:00:01.000Z",
                    "error": "HTTP 403",
                    "error_at": "2026-01-01T00:00:00.000Z",
                },
                "last_message_at": "2026-01-01T00:00:04.000Z",
            },
            "memory": {"bytes": 5, "source": "pss"},
            "cpu": {"seconds": 1.5, "source": "processes"},
        }

    def test_an_engine_of_the_users_own_is_distinguished_from_that_of_the_configuration(self):
        assignment = dataclasses.replace(RUNNING.assignment, engine="1.35.0")
        shown = user(but(assignment=assignment, engine="1.35.0"))
        assert (shown["engine"], shown["own_engine"]) == ("1.35.0", True)

    def test_the_size_that_the_server_reports_is_newer_than_the_stored_one(self):
        session = dataclasses.replace(RUNNING.session, storage=Storage(7, 8, 9, NEW_YEAR + 3600))
        told = {
            "login": 7,
            "cache": 8,
            "journal": 9,
            "snapshots": 0,
            "snapshot_at": None,
            "restored_at": None,
        }
        told["measured_at"] = "2026-01-01T01:00:00.000Z"
        assert user(but(session=session))["storage"] == told
        assert user(documents.veiled(but(session=session)))["storage"] is None

    def test_a_server_that_has_said_nothing_has_no_session(self):
        assert user(but(session=None))["session"] is None

    def test_what_was_not_measured_is_not_reported(self):
        assert {"memory", "cpu"}.isdisjoint(user(RUNNING))

    def test_no_code_is_in_it(self):
        assert "SECRET" not in str(user(showing_code()))


class TestQr:
    def test_a_code_that_is_valid_is_shown_with_its_end(self):
        shown = showing_code()
        assert qr(shown) == {
            "user": "2",
            "port": 20000,
            "status": "qr",
            "qr": "SECRET",
            "expires_at": timestamp(shown.session.expires_at),
            "attempt": 3,
            "attempts": 5,
            "message": "scan the code",
            "cause": None,
            "hint": None,
            "passkey": None,
        }

    def test_an_expired_code_is_not_shown_and_the_state_says_so(self):
        document = qr(showing_code(lifetime=-1))
        assert (document["status"], document["qr"], document["expires_at"]) == ("generating", None, None)
        assert "expired" in document["message"]

    def test_a_code_is_in_no_repr(self):
        assert "SECRET" not in repr(documents.qr(showing_code()))

    def test_no_code_of_a_server_that_is_not_heard_is_shown(self):
        document = qr(dataclasses.replace(showing_code(), answering=False))
        assert (document["status"], document["qr"]) == ("error", None)

    def test_a_linked_session_shows_none(self):
        document = qr(RUNNING)
        assert (document["status"], document["qr"], document["expires_at"]) == ("ready", None, None)

    def test_a_server_that_failed_says_why_there_is_none(self):
        document = qr(but(ProcessState.FAILED, session=None, answering=False))
        assert (document["status"], document["message"], document["cause"]) == (
            "failed",
            "of systemd",
            "crashed",
        )

    @pytest.mark.parametrize("state", SessionState)
    @pytest.mark.parametrize(
        ("process", "answering"),
        [(ProcessState.RUNNING, True), *((process, False) for process in ProcessState)],
    )
    def test_a_code_comes_with_the_status_that_promises_one_and_never_else(self, state, process, answering):
        session = dataclasses.replace(showing_code().session, state=state)
        document = qr(but(process, session=session, answering=answering))
        assert (document["qr"] is not None) is (document["status"] == "qr" and answering)


def test_whatever_a_server_says_can_be_shown():
    dice = random.Random(1)
    texts = ["", "x" * 2000, "\ud83d", "\0\x1b[31m\n", "Zoë 🎉"]
    times = [
        "1970-01-01T00:00:00Z",
        "2026-01-01T00:00:00.5+14:00",
        "2242-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ]
    shown = 0
    for _ in range(500):
        said = {
            "state": dice.choice(list(SessionState)),
            **{
                name: dice.choice(texts)
                for name in ("message", "cause", "hint", "qr", "phone_number", "pushname")
            },
            **{name: dice.choice(times) for name in ("since", "expires_at")},
            **{name: dice.choice([0, -5, 1.5, 999_999_999]) for name in ("attempt", "attempts", "progress")},
            "passkey": dice.choice(
                [
                    None,
                    {"stage": "asked", "options": {"challenge": dice.choice(texts)}},
                    {"stage": "code", "code": dice.choice(texts), "expires_at": dice.choice(times)},
                ]
            ),
        }
        with contextlib.suppress(BadEvent):
            instance = dataclasses.replace(RUNNING, session=parse_session(json.dumps(said)))
            assert json.loads(respond(documents.user(instance)).body)
            assert json.loads(respond(documents.qr(instance)).body)
            shown += 1
    assert shown > 100
