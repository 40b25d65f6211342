"""Errors as answers: one document, of the members of RFC 9457 and ours."""

import json

from waportd.api.problems import problem
from waportd.errors import ServerFailed


def test_a_problem_document_has_every_member_of_rfc_9457_and_ours():
    answer = problem(
        ServerFailed("the browser ended", cause="browser_lost", hint="start it again", retry_after=5)
    )
    assert (answer.status, answer.content_type) == (502, "application/problem+json")
    assert (answer.headers["Cache-Control"], answer.headers["Retry-After"]) == ("no-store", "5")
    assert json.loads(answer.body) == {
        "type": "urn:waportd:error:server_failed",
        "title": "The user's server does not run",
        "status": 502,
        "detail": "the browser ended",
        "code": "server_failed",
        "hint": "start it again",
        "cause": "browser_lost",
    }


def test_a_cause_that_is_not_known_is_left_out_and_a_missing_hint_is_null():
    document = json.loads(problem(ServerFailed("it failed")).body)
    assert "cause" not in document
    assert document["hint"] is None


def test_whatever_an_error_repeats_can_be_printed():
    assert json.loads(problem(ServerFailed("half a character: \ud83d")).body)["detail"].endswith("\ud83d")
