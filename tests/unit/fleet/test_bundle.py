"""The bundle by which a host joins: whole, or refused."""

import hashlib
import json
import os
import time

import pytest
from certified import FLEET, LONG_AGO, STRANGER
from hypothesis import given, settings
from hypothesis import strategies as st

from waportd.fleet import bundle, certificates, enrolment
from waportd.fleet.bundle import Bundle, BundleUnusable

ENGINE = ("https://10.0.0.1:2379", "https://10.0.0.2:2379")
HOST = FLEET.issue("b").decode()
ADDRESS = "10.0.0.2:7467"
SECRETS = {"snapshots-1.key": bytes(range(32))}


def made(pem=None):
    pem = pem or FLEET.issue("b", ["10.0.0.2"])
    return Bundle(certificates.read(FLEET.pem, pem), FLEET.pem, pem, ENGINE, SECRETS, ADDRESS, "peers", 3)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "b.bundle"
    bundle.write(path, made())
    return path


@pytest.fixture
def folder(tmp_path):
    """Where the files of the host are to be; it is empty, and stays so."""
    folder = tmp_path / "fleet"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


def sealed(document):
    """Return a document as a bundle whose digest is right."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return b"waportd fleet bundle 1 %s\n" % hashlib.sha256(body).hexdigest().encode() + body


def document():
    return {
        "ca": FLEET.pem.decode(),
        "host": HOST,
        "engine": [],
        "address": ADDRESS,
        "snapshots": "",
        "copies": 2,
        "secrets": {},
    }


def put(path, content):
    path.write_bytes(content)
    return path


def refused(path, folder):
    """Return why a host cannot join with a bundle."""
    with pytest.raises(BundleUnusable) as caught:
        enrolment.join(folder, bundle.read(path))
    assert "fleet invite" in caught.value.hint
    assert "PRIVATE KEY" not in str(caught.value)
    return caught.value.message


def test_it_holds_all_that_a_joining_host_needs(path):
    found = bundle.read(path)
    assert (found.certificate.fleet, found.certificate.host) == ("shop", "b")
    assert (found.ca, found.engine, dict(found.secrets)) == (FLEET.pem, ENGINE, SECRETS)
    assert (found.address, found.snapshots, found.copies) == (ADDRESS, "peers", 3)
    assert certificates.read(found.ca, found.pem) == found.certificate


def test_only_its_owner_can_read_it(path):
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_shows_no_key(path):
    shown = repr(bundle.read(path))
    assert "PRIVATE KEY" not in shown
    assert repr(SECRETS["snapshots-1.key"]) not in shown


def test_one_that_was_changed_anywhere_is_refused(path, folder):
    content = path.read_bytes()
    first_line = content.index(b"\n") + 1
    for at in range(0, len(content), 53):
        changed = bytearray(content)
        changed[at] ^= 1
        why = refused(put(path, changed), folder)
        assert "changed on the way" in why or (at < first_line and "not a bundle" in why)


def test_one_that_was_cut_off_anywhere_is_refused(path, folder):
    content = path.read_bytes()
    for end in range(0, len(content), 53):
        assert refused(put(path, content[:end]), folder)


def test_one_with_something_behind_it_is_refused(path, folder):
    assert "changed" in refused(put(path, path.read_bytes() + b"\n"), folder)


def test_one_that_others_can_read_is_refused(path, folder):
    path.chmod(0o640)
    assert "others than its owner may read it" in refused(path, folder)


def test_one_that_has_expired_is_refused(path, folder):
    bundle.write(path, made(FLEET.issue("b", now=LONG_AGO)))
    assert "has expired" in refused(path, folder)


def test_it_is_good_as_long_as_its_certificate(path):
    bundle.read(path, now=time.time() + 729 * 86400)
    with pytest.raises(BundleUnusable, match="has expired"):
        bundle.read(path, now=time.time() + 731 * 86400)


def test_a_missing_one_is_named(tmp_path, folder):
    assert refused(tmp_path / "b.bundle", folder) == f"{tmp_path}/b.bundle: No such file or directory"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_refused_at_once(path, folder, kind):
    there = path.with_name(kind)
    {"link": lambda: there.symlink_to(path), "pipe": lambda: os.mkfifo(there, 0o600), "folder": there.mkdir}[
        kind
    ]()
    assert refused(there, folder)


def test_an_endless_one_is_not_read_to_its_end(path, folder):
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    assert "changed" in refused(path, folder)


def test_a_certificate_of_another_ca_is_refused_though_the_digest_is_right(path, folder):
    content = document() | {"host": STRANGER.issue("b").decode()}
    assert "not of this fleet's CA" in refused(put(path, sealed(content)), folder)


@pytest.mark.parametrize(
    "name", ["host.pem", "../x.key", "/etc/x.key", ".x.key", "x.key/../../y.key", "x.key\n", ""]
)
def test_a_secret_is_none_of_the_hosts_other_files_and_stays_in_their_folder(path, folder, name):
    content = document() | {"secrets": {name: "AAAA"}}
    assert "not valid" in refused(put(path, sealed(content)), folder)


EACH_TIME_THE_SAME = settings(derandomize=True, database=None, deadline=None, max_examples=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@EACH_TIME_THE_SAME
@given(st.sampled_from(["ca", "host", "engine", "secrets"]), JSON)
def test_any_content_is_taken_or_refused(tmp_path_factory, name, value):
    path = put(tmp_path_factory.mktemp("any") / "b.bundle", sealed(document() | {name: value}))
    path.chmod(0o600)
    try:
        found = bundle.read(path)
    except BundleUnusable:
        return
    assert all(isinstance(url, str) for url in found.engine)
    assert all(isinstance(secret, bytes) for secret in found.secrets.values())


@EACH_TIME_THE_SAME
@given(st.binary(max_size=60))
def test_any_bytes_are_refused(tmp_path_factory, body):
    path = put(tmp_path_factory.mktemp("any") / "b.bundle", sealed(body))
    path.chmod(0o600)
    with pytest.raises(BundleUnusable):
        bundle.read(path)
