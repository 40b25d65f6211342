"""What carries a login between its session's folder and the daemon's."""

import hashlib
import json
import os

import pytest

from waportd import login_copies
from waportd.fleet import login_files
from waportd.fleet.tree import FolderRefused

PORT = "5002"
CONTENT = {
    "Default/IndexedDB/000003.log": b"a" * 300_000,
    "Default/Local Storage/leveldb/CURRENT": b"",
}


@pytest.fixture
def auth(tmp_path):
    return tmp_path / f"sessions/{PORT}/.wwebjs_auth_{PORT}"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def make_copy(auth, number, at=1_700_000_000.0):
    """Make a copy of a login as a server makes it."""
    folder = auth / f"snapshots/{number}"
    described = {}
    for name, content in CONTENT.items():
        write(folder / name, content)
        described[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    document = {"version": 1, "at": at * 1000, "files": described}
    (folder / "snapshot.json").write_text(json.dumps(document))
    return folder


def run(what, tmp_path):
    return login_files.main([what, "system", PORT, str(tmp_path / "sessions"), str(tmp_path / "logins")])


def test_the_newest_copy_is_exported_with_the_journal(auth, tmp_path):
    make_copy(auth, 9, at=1.0)
    make_copy(auth, 10, at=2.0)
    (auth / "snapshots/11").mkdir()
    write(auth / "messages/2026-11.jsonl", b"{}\n")
    assert run("export", tmp_path) == 0
    exported = tmp_path / "logins" / PORT
    assert login_copies.verify(exported / login_files.LOGIN).at == 2.0
    assert (exported / "messages/2026-11.jsonl").read_bytes() == b"{}\n"


def test_an_export_takes_the_place_of_the_one_before(auth, tmp_path):
    make_copy(auth, 1)
    write(tmp_path / "logins" / PORT / "old", b"")
    (tmp_path / "logins" / f".{PORT}.new").mkdir()
    assert run("export", tmp_path) == 0
    assert sorted(path.name for path in (tmp_path / "logins").rglob("*") if path.parent.name == PORT) == [
        "login"
    ]


def test_without_a_copy_nothing_is_exported(auth, tmp_path):
    write(tmp_path / "logins" / PORT / "old", b"")
    assert run("export", tmp_path) == 0
    (auth / "snapshots").mkdir(parents=True)
    assert run("export", tmp_path) == 0
    assert not (tmp_path / "logins" / PORT).exists()


def test_a_copy_that_is_damaged_is_not_exported(auth, tmp_path, capsys):
    write(make_copy(auth, 1) / "Default/IndexedDB/000003.log", b"b" * 300_000)
    assert run("export", tmp_path) == 1
    assert "000003.log' has changed" in capsys.readouterr().err
    assert not (tmp_path / "logins" / PORT).exists()


@pytest.mark.parametrize("where", ["snapshots/1/Default/IndexedDB/000003.log", "messages"])
def test_a_link_leads_out_of_no_session(auth, tmp_path, where, capsys):
    make_copy(auth, 1)
    secret = tmp_path / "secret"
    write(secret / "key", b"of another user")
    (auth / where).unlink(missing_ok=True)
    (auth / where).symlink_to(secret)
    # As one of the session's own: what another user has made is never followed.
    if where == "messages" and os.geteuid() == 0:
        os.lchown(auth / where, 12345, 12345)
    assert run("export", tmp_path) == 1
    assert "Cannot export the login of port 5002" in capsys.readouterr().err
    assert not list((tmp_path / "logins").rglob("key"))


def test_a_journal_that_grows_is_exported_as_it_was(auth, tmp_path, monkeypatch):
    make_copy(auth, 1)
    write(auth / "messages/journal", b"1\n")
    real = os.pread

    def pread(descriptor, size, offset):
        with (auth / "messages/journal").open("ab") as journal:
            journal.write(b"2\n")
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    assert login_files.export(auth, tmp_path / "export")
    exported, now = (
        path.read_bytes() for path in (tmp_path / "export/messages/journal", auth / "messages/journal")
    )
    assert b"1\n" <= exported < now
    assert now.startswith(exported)


def test_what_is_imported_takes_the_place_of_what_an_earlier_owner_left(tmp_path):
    place = tmp_path / "sessions" / PORT
    write(place / "stale", b"")
    write(tmp_path / "logins" / PORT / ".wwebjs_auth_5002/session-x_5002/Default/a", b"login")
    login_files.put(tmp_path / "logins" / PORT, place)
    found = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert found == {".wwebjs_auth_5002/session-x_5002/Default/a": b"login"}


def test_a_daemon_that_is_broken_has_root_put_no_link_in_place(tmp_path):
    source, place = tmp_path / "logins" / PORT, tmp_path / "sessions" / PORT
    write(source / "a", b"")
    (source / "b").symlink_to("/etc/shadow")
    place.parent.mkdir()
    with pytest.raises(FolderRefused):
        login_files.put(source, place)
    assert not place.exists()


def test_a_port_is_a_number(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        login_files.main(["export", "system", "../5002", str(tmp_path), str(tmp_path)])
    assert ended.value.code == 2
    assert "is no port" in capsys.readouterr().err
