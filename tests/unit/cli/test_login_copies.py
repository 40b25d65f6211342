"""Copies of logins: the newest is taken, and only if each byte of it is what it was."""

import hashlib
import json
import os

import pytest

from waportd.cli import login_copies
from waportd.cli.exit_status import Problem

NAME = "Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb/000003.log"


def make(auth, number, text, at=1_767_225_600_000):
    """Make a copy as a server does."""
    folder = auth / "snapshots" / str(number)
    (folder / NAME).parent.mkdir(parents=True)
    (folder / NAME).write_bytes(text)
    described = {"size": len(text), "sha256": hashlib.sha256(text).hexdigest(), "mtimeMs": 1.5, "ino": 7}
    description = {"version": 1, "at": at, "files": {NAME: described}}
    (folder / "snapshot.json").write_text(json.dumps(description))
    return folder


def test_the_newest_is_copied(tmp_path):
    for number in (9, 10):
        make(tmp_path, number, b"login %d" % number, 1_767_225_600_000 + number)
    (tmp_path / "snapshots/new").mkdir()
    (tmp_path / "snapshots/restored.json").write_text("{}")
    copy = login_copies.copy_newest(tmp_path, tmp_path / "copy")
    assert (copy.bytes, copy.at) == (8, 1_767_225_600.01)
    assert (copy.folder / NAME).read_bytes() == b"login 10"


def test_one_without_a_description_is_none(tmp_path):
    make(tmp_path, 1, b"first")
    (make(tmp_path, 2, b"second") / "snapshot.json").unlink()
    copy = login_copies.copy_newest(tmp_path, tmp_path / "copy")
    assert (copy.folder / NAME).read_bytes() == b"first"


@pytest.mark.parametrize("make_empty", [True, False])
def test_where_there_is_none_none_is_copied(tmp_path, make_empty):
    if make_empty:
        (tmp_path / "snapshots").mkdir()
    assert login_copies.copy_newest(tmp_path, tmp_path / "copy") is None


def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path):
    make(tmp_path / "else", 1, b"login")
    (tmp_path / "auth").mkdir()
    link = tmp_path / "auth/snapshots"
    link.symlink_to(tmp_path / "else/snapshots")
    if os.geteuid() == 0:
        os.chown(link, 1234, 1234, follow_symlinks=False)
        with pytest.raises(Problem, match="cannot be opened"):
            login_copies.copy_newest(tmp_path / "auth", tmp_path / "copy")
    else:
        assert login_copies.copy_newest(tmp_path / "auth", tmp_path / "copy") is not None, "one's own link"


HARM = {
    "another byte": lambda folder: (folder / NAME).write_bytes(b"logim"),
    "one byte less": lambda folder: (folder / NAME).write_bytes(b"logi"),
    "a missing file": lambda folder: (folder / NAME).unlink(),
    "a further file": lambda folder: (folder / "Default/more").write_bytes(b""),
    "a link": lambda folder: ((folder / NAME).unlink(), (folder / NAME).symlink_to("/etc/passwd")),
    "half a description": lambda folder: (folder / "snapshot.json").write_text('{"version": 1, "at"'),
    "no numbers in it": lambda folder: (folder / "snapshot.json").write_text(
        '{"version": 1, "at": 0, "files": {"x": {"size": null, "sha256": ""}}}'
    ),
    "no object in it": lambda folder: (folder / "snapshot.json").write_text("[]"),
    "another version": lambda folder: (folder / "snapshot.json").write_text('{"version": 2}'),
    "a name outside of it": lambda folder: (folder / "snapshot.json").write_text(
        '{"version": 1, "at": 0, "files": {"../../x": {"size": 0, "sha256": ""}}}'
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_one_that_is_not_what_it_was_is_refused(tmp_path, harm):
    HARM[harm](make(tmp_path, 1, b"login"))
    with pytest.raises(Problem, match="cannot be used"):
        login_copies.copy_newest(tmp_path, tmp_path / "copy")


def test_one_that_is_whole_is_reported_with_its_size(tmp_path):
    assert login_copies.verify(make(tmp_path, 1, b"login")).bytes == 5
