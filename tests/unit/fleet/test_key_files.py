"""A file with a key is written in one step, and is nobody else's to read at any moment."""

import errno
import os
import stat

import pytest
from certified import watched_files

from waportd.fleet import key_files


def test_a_key_is_private_from_the_moment_its_file_exists(tmp_path, monkeypatch):
    with watched_files(monkeypatch) as seen:
        key_files.write(tmp_path / "host.pem", b"key")
    assert [mode for _, mode in seen] == [0o600, 0o600]
    assert (tmp_path / "host.pem").read_bytes() == b"key"


def test_a_file_for_all_is_narrow_until_it_is_complete(tmp_path, monkeypatch):
    with watched_files(monkeypatch) as seen:
        key_files.write(tmp_path / "ca.pem", b"certificate", mode=0o644)
    assert seen == [(".ca.pem.new", 0o600), ("ca.pem", 0o644)]


def test_a_key_belongs_to_the_account_that_reads_it(tmp_path):
    key_files.write(tmp_path / "host.pem", b"key", owner=(12345, 54321))
    found = (tmp_path / "host.pem").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 54321, 0o600)


def test_a_full_disk_leaves_the_file_before_and_nothing_else(tmp_path, monkeypatch):
    key_files.write(tmp_path / "host.pem", b"before")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        key_files.write(tmp_path / "host.pem", b"after")
    assert [path.name for path in tmp_path.iterdir()] == ["host.pem"]
    assert (tmp_path / "host.pem").read_bytes() == b"before"


def test_what_a_crash_left_is_no_obstacle_and_no_way_elsewhere(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"untouched")
    (tmp_path / ".host.pem.new").symlink_to(elsewhere)
    (tmp_path / "host.pem").symlink_to(elsewhere)
    key_files.write(tmp_path / "host.pem", b"key")
    assert elsewhere.read_bytes() == b"untouched"
    assert not (tmp_path / "host.pem").is_symlink()
