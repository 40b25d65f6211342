"""The file that makes a host one of a fleet: whole and valid, or refused with the cause."""

from pathlib import Path

import pytest

from waportd.errors import ConfigError
from waportd.fleet.settings import FILE, Settings

GOOD = {"name": "a", "address": "192.0.2.1:7467", "engine": ("https://192.0.2.1:2379",)}


def test_what_is_saved_is_loaded(tmp_path):
    saved = Settings(**GOOD, prefix="/other", failover_after_s=20.0, folder=tmp_path)
    saved.check()
    saved.save()
    assert Settings.load(tmp_path) == saved
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("snapshots", "mount"), [("", None), ("peers", None), ("/mnt/logins", Path("/mnt/logins"))]
)
def test_logins_lie_on_the_hosts_in_a_folder_or_nowhere(tmp_path, snapshots, mount):
    saved = Settings(**GOOD, snapshots=snapshots, copies=3, folder=tmp_path)
    saved.save()
    assert Settings.load(tmp_path) == saved
    assert saved.mount == mount


def test_a_host_on_its_own_has_none(tmp_path):
    assert Settings.load(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a list of keys and values"),
        ("- a", "not a list of keys and values"),
        ("{", "while parsing"),
        ("name: a\naddress: 192.0.2.1:7467\nengine: []", "engine: it has to be a list of URLs"),
        ("name: a\naddress: 192.0.2.1:7467\nengine: [192.0.2.1]", "engine: it has to be a list of URLs"),
        ("name: a\naddress: 192.0.2.1\nengine: ['http://e:1']", "address: it has to be IP:PORT"),
        ("name: a\naddress: 192.0.2.1:65535\nengine: ['http://e:1']", "with a port below 65535"),
        ("name: a\naddress: b:7467\nengine: ['http://e:1']", "'b' does not appear to be an IPv4 or IPv6"),
        ("name: A_b\naddress: 192.0.2.1:1\nengine: ['http://e:1']", "cannot be the name of a host"),
        ("name: a\naddress: 192.0.2.1:1\nengine: ['http://e:1']\ncolour: red", "colour: no such key"),
        ("name: a\naddress: 192.0.2.1:1\nengine: ['http://e:1']\nfailover_after_s: 0", "more than 0"),
        (
            "name: a\naddress: 192.0.2.1:1\nengine: ['http://e:1']\nforward_ports: 1",
            "forward_ports: it has to be true or false",
        ),
        (
            "name: a\naddress: 192.0.2.1:1\nengine: ['http://e:1']\nsnapshots: some/folder",
            "an absolute path, or the URL of a bucket",
        ),
        ("name: a\naddress: 192.0.2.1:1\nengine: ['http://e:1']\ncopies: 0", "a number from 1 to 10"),
        ("name: a\naddress: 192.0.2.1:1\nengine: ['http://e:1']\ncopies: 'two'", "a number from 1 to 10"),
    ],
)
def test_anything_else_is_refused(tmp_path, text, words):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        Settings.load(tmp_path)
    assert "fleet join" in caught.value.hint


def test_tls_is_for_https_alone(tmp_path):
    assert Settings(**GOOD | {"engine": ("http://192.0.2.1:2379",)}, folder=tmp_path).tls() is None
