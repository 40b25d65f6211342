"""What matters of a user's server now."""

import dataclasses

import pytest

from waportd import summary
from waportd.model import (
    UNDELIVERED_S,
    Assignment,
    Passkey,
    PasskeyStage,
    Port,
    Process,
    ProcessState,
    Session,
    SessionState,
    User,
    Webhook,
)
from waportd.registry import Instance

NOW = 1767225600.0

RUNNING = Instance(
    Assignment(User("2"), Port(5002)),
    Process(ProcessState.RUNNING, NOW - 60, "running on port 5002"),
    Session(SessionState.READY, NOW - 50, "ready", linked=True),
    answering=True,
)
OTHERS = sorted(set(ProcessState) - {ProcessState.RUNNING, ProcessState.STOPPED})


def but(process: ProcessState = ProcessState.RUNNING, hint: str | None = None, **members) -> Instance:
    return dataclasses.replace(
        RUNNING, process=Process(process, NOW - 9, "of systemd", "crashed", hint), **members
    )


def saying(state: SessionState, **members) -> Instance:
    return dataclasses.replace(RUNNING, session=Session(state, NOW - 40, "said", **members))


def waiting(queued: int, seconds: float, error: str | None = None) -> Instance:
    webhook = Webhook(queued=queued, oldest_at=NOW - seconds, error=error)
    return saying(SessionState.READY, webhook=webhook)


def in_words(shown):
    return shown.state, shown.message, shown.cause, shown.hint


class TestOfCode:
    def test_of_a_server_that_runs_the_session_matters(self):
        assert summary.of_code(RUNNING) == summary.Summary(SessionState.READY, "ready", None, None, NOW - 50)

    def test_a_server_that_has_said_nothing_is_starting(self):
        shown = summary.of_code(but(session=None, answering=False))
        assert (shown.state, shown.since) == ("starting", NOW - 9)

    def test_a_server_that_is_not_heard_any_more_is_not_reported_by_its_last_word(self):
        shown = summary.of_code(but(answering=False))
        assert in_words(shown)[:3] == ("error", "the server does not answer", "not_answering")
        assert shown.hint

    @pytest.mark.parametrize("process", OTHERS)
    def test_of_a_server_that_does_not_run_the_process_matters(self, process):
        shown = summary.of_code(but(process, answering=False))
        assert (*in_words(shown), shown.since) == (process, "of systemd", "crashed", None, NOW - 9)

    def test_of_a_server_that_stopped_its_last_word_matters(self):
        last_word = Session(SessionState.LOGGED_OUT, NOW - 30, "unlinked from the phone")
        shown = summary.of_code(but(ProcessState.STOPPED, session=last_word, answering=False))
        assert (*in_words(shown), shown.since) == (
            *("logged_out", "unlinked from the phone", None, None),
            NOW - 30,
        )

    def test_of_a_server_that_somebody_stopped_that_matters(self):
        shown = summary.of_code(but(ProcessState.STOPPED, "start it", answering=False))
        assert in_words(shown) == ("stopped", "of systemd", "crashed", "start it")

    def test_of_a_server_that_stopped_without_a_word_the_process_matters(self):
        shown = summary.of_code(but(ProcessState.STOPPED, session=None, answering=False))
        assert in_words(shown)[:2] == ("stopped", "of systemd")

    def test_messages_that_wait_are_no_matter_of_who_links_a_phone(self):
        assert summary.of_code(waiting(3, UNDELIVERED_S + 10)).cause is None


class TestOfServer:
    def test_all_else_is_as_for_who_links_a_phone(self):
        for instance in (RUNNING, but(session=None, answering=False), *map(but, OTHERS)):
            assert summary.of_server(instance, NOW) == summary.of_code(instance)

    @pytest.mark.parametrize("instance", [waiting(0, UNDELIVERED_S + 10), waiting(3, UNDELIVERED_S - 10)])
    def test_messages_may_wait_for_five_minutes(self, instance):
        assert summary.of_server(instance, NOW).cause is None

    @pytest.mark.parametrize(
        ("queued", "error", "message"),
        [
            (3, "HTTP 503", "3 messages wait for the web app: HTTP 503"),
            (1, None, "1 message waits for the web app: it does not answer in time"),
        ],
    )
    def test_messages_that_wait_for_longer_are_what_matters(self, queued, error, message):
        shown = summary.of_server(waiting(queued, UNDELIVERED_S + 10, error), NOW)
        assert (shown.state, shown.message, shown.cause) == ("ready", message, "undelivered")
        assert shown.since == NOW - UNDELIVERED_S - 10
        assert shown.hint

    def test_messages_of_a_server_that_is_not_heard_are_not(self):
        lost = dataclasses.replace(waiting(3, UNDELIVERED_S + 10), answering=False)
        assert summary.of_server(lost, NOW).cause == "not_answering"

    def test_the_way_to_a_passkey_is_the_connect_page(self):
        wanted = saying(
            SessionState.PASSKEY_REQUIRED, hint="of the server", passkey=Passkey(PasskeyStage.ASKED)
        )
        assert "connect page" in summary.of_server(wanted, NOW).hint
        assert "connect-link" in summary.of_code(wanted).hint

    def test_a_passkey_that_cannot_be_used_has_the_way_out_of_its_cause(self):
        stuck = saying(SessionState.PASSKEY_REQUIRED, cause="passkey_button_missing", hint="update")
        assert summary.of_server(stuck, NOW).hint == "update"


class TestGroup:
    @pytest.mark.parametrize(
        ("instance", "group"),
        [
            (RUNNING, "linked"),
            (saying(SessionState.QR), "waiting"),
            (saying(SessionState.PASSKEY_REQUIRED, passkey=Passkey(PasskeyStage.ASKED)), "waiting"),
            (saying(SessionState.PASSKEY_REQUIRED, cause="passkey_button_missing"), "trouble"),
            (waiting(3, UNDELIVERED_S + 10), "trouble"),
            (but(answering=False), "trouble"),
            (but(ProcessState.FAILED), "trouble"),
        ],
    )
    def test_who_has_to_act_decides(self, instance, group):
        for linked in (True, False):
            assert summary.group_of(summary.of_server(instance, NOW), linked=linked) == group

    @pytest.mark.parametrize(("linked", "group"), [(True, "asleep"), (False, "idle")])
    def test_who_has_a_login_and_no_server_is_asleep(self, linked, group):
        stopped = summary.of_server(but(ProcessState.STOPPED, "start it", answering=False), NOW)
        assert summary.group_of(stopped, linked=linked) == group
