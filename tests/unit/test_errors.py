"""Errors: every kind can be distinguished from the others by programs, and read by people."""

import http

import pytest

# So that their errors are known too.
import waportd.daemon
import waportd.supervisor  # noqa: F401
from waportd import errors
from waportd.errors import MethodNotAllowed, WaportdError


def kinds(base: type[WaportdError] = WaportdError) -> list[type[WaportdError]]:
    return [base, *(kind for child in base.__subclasses__() for kind in kinds(child))]


def test_all_errors_of_the_product_are_found():
    assert {errors.UnknownUser, errors.StoreError, errors.ConfigError} < set(kinds())


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_kind_has_a_word_a_title_and_a_status_of_http(kind):
    assert kind.code.replace("_", "").isalpha()
    assert kind.code == kind.code.lower()
    assert kind.title
    assert http.HTTPStatus(kind.status) >= 400


def test_no_two_kinds_of_this_module_share_a_code():
    codes = [kind.code for kind in kinds() if kind.__module__ == errors.__name__]
    assert len(codes) == len(set(codes))


def test_the_text_of_an_error_is_its_message():
    assert str(WaportdError("the disk is full", hint="free some space")) == "the disk is full"


def test_a_method_that_is_not_allowed_names_those_that_are():
    error = MethodNotAllowed("no PATCH here", allowed={"PUT", "GET"})
    assert error.hint == "allowed: GET, PUT"
    assert error.allowed == {"PUT", "GET"}
