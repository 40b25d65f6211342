"""Accounts of this host, by name and number."""

import os
import pwd

from waportd.accounts import name_of, uid_of

ME = pwd.getpwuid(os.getuid()).pw_name


def test_an_account_has_a_name_and_a_number():
    assert uid_of(ME) == os.getuid()
    assert name_of(os.getuid()) == ME


def test_a_number_needs_no_account():
    assert uid_of(4_000_000_000) == 4_000_000_000
    assert name_of(4_000_000_000) == "4000000000"


def test_a_name_without_an_account_belongs_to_nobody():
    assert uid_of("no-such-account") is None
