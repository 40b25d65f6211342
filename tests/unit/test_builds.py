"""What is said of each version of WhatsApp's page."""

import dataclasses
import logging

from waportd.builds import Builds
from waportd.model import Missing, Upstream

FINE = Upstream("2.3000.1", "1.34.7", "bundled", checked=("boot",), shims=(("wids", "not needed"),))
NO_MEDIA = Missing("media_out", "WAWebPrepRawMedia", "prepRawMedia", "undefined")
NO_GROUPS = Missing("groups", "WAWebGroupCreateJob", "createGroup", "no such module")


def but(**members):
    return dataclasses.replace(FINE, **members)


def test_a_version_is_reported_once_however_many_users_have_it():
    builds = Builds()
    assert builds.news(FINE) == (
        logging.INFO,
        "WhatsApp Web 2.3000.1 (whatsapp-web.js 1.34.7, engine bundled): all that was checked is there",
    )
    assert builds.news(FINE) is None
    assert builds.news(but(checked=("boot", "main"))) is None


def test_another_build_library_engine_or_page_is_another_version():
    builds = Builds()
    builds.news(FINE)
    for version in (
        {"build": "2.3000.2"},
        {"library": "1.34.8"},
        {"engine": "1.34.7"},
        {"pinned": "/a.html"},
    ):
        assert builds.news(but(**version)), version


def test_what_is_missing_is_reported_when_it_is_found():
    builds = Builds()
    builds.news(FINE)
    level, text = builds.news(but(missing=(NO_MEDIA,)))
    assert level == logging.WARNING
    assert text.endswith("bundled): changed for media_out: WAWebPrepRawMedia.prepRawMedia (undefined)")
    _, text = builds.news(but(missing=(NO_MEDIA, NO_GROUPS)))
    assert "createGroup (no such module)" in text
    assert "prepRawMedia" not in text
    assert builds.news(but(missing=(NO_GROUPS,))) is None


def test_of_many_some_are_named_and_every_feature():
    missing = [Missing("chats", "WAWebChat", f"member{number}", "undefined") for number in range(20)]
    _, text = Builds().news(but(missing=(*missing, NO_MEDIA)))
    assert text.endswith("member4 (undefined) and 16 more")
    assert "changed for chats, media_out" in text


def test_a_shim_that_failed_is_reported():
    builds = Builds()
    level, text = builds.news(but(shims=(("message_keys", "failed"), ("wids", "applied"))))
    assert (level, text.endswith("for the library failed: message_keys")) == (logging.WARNING, True)
    assert builds.news(but(shims=(("message_keys", "failed"),))) is None


def test_nothing_is_said_before_the_page_was_looked_at():
    builds = Builds()
    assert [builds.news(each) for each in (None, but(build=None), but(checked=()))] == [None] * 3
    assert builds.news(FINE)


def test_a_server_that_makes_versions_up_is_not_listened_to_for_ever():
    builds = Builds()
    said = [builds.news(but(build=f"2.3000.{number}")) for number in range(1000)]
    assert len(list(filter(None, said))) == 200
