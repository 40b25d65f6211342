"""Folders of another user's that root copies: what their owner may do meanwhile, and put there."""

import io
import os
import tarfile
import time
from pathlib import Path

import pytest

from waportd import files
from waportd.cli import copying
from waportd.cli.exit_status import Problem


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "Default/deep").mkdir(parents=True)
    (folder / "Default/deep/log").write_bytes(b"x" * 100_000)
    (folder / "Default/again").hardlink_to(folder / "Default/deep/log")
    (folder / "link").symlink_to("/etc/hostname")
    (folder / "run").touch(0o755)
    (folder / "SingletonLock").symlink_to("host-1")
    return folder


@pytest.fixture
def tar(tmp_path, monkeypatch):
    """Put a script in the place of tar."""

    def put(script: str) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/tar").write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\n{script}\n")
        (tmp_path / "bin/tar").chmod(0o755)
        monkeypatch.setattr(os, "defpath", str(tmp_path / "bin"))

    return put


def _copy(source: Path, target: Path) -> None:
    with files.opened(source) as opened:
        copying.copy(opened, target, ["SingletonLock"])


def test_files_folders_and_links_are_copied_for_the_caller_alone(source, target, monkeypatch):
    monkeypatch.setenv("TAR_OPTIONS", "--exclude=Default")
    _copy(source, target)
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == [
        *("Default", "Default/again", "Default/deep", "Default/deep/log", "link", "run"),
    ]
    assert (target / "Default/again").read_bytes() == b"x" * 100_000
    assert (target / "Default/again").samefile(target / "Default/deep/log")
    assert (target / "link").readlink() == Path("/etc/hostname")
    modes = {path.name: path.lstat().st_mode & 0o777 for path in target.rglob("*") if path.name != "link"}
    assert modes == {"Default": 0o700, "deep": 0o700, "log": 0o600, "again": 0o600, "run": 0o700}


def test_what_was_opened_is_copied_whatever_has_its_name_by_now(source, target, tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/secret").touch()
    with files.opened(source) as opened:
        source.rename(tmp_path / "moved")
        source.symlink_to(tmp_path / "secrets")
        copying.copy(opened, target, [])
    assert (target / "Default").is_dir()
    assert not (target / "secret").exists()


def test_a_pipe_in_the_folder_is_refused(source, target):
    os.mkfifo(source / "pipe")
    with pytest.raises(Problem, match=r"'\./pipe' is neither a file, a folder nor a link"):
        _copy(source, target)


def test_the_first_error_is_shown_and_its_many_others_block_nothing(source, target, tar):
    tar("echo 'tar: ./Secret: Permission denied' >&2; yes 'exiting now' | head -c 1000000 >&2; exit 2")
    with pytest.raises(Problem, match=r"copied: tar: ./Secret: Permission denied$"):
        _copy(source, target)


def test_the_reader_has_neither_the_callers_terminal_nor_its_session(source, target, tar):
    tar('echo "$(readlink /proc/$$/fd/0) $(cut -d" " -f6 /proc/$$/stat) $$" >&2; exit 2')
    with pytest.raises(Problem) as refused:
        _copy(source, target)
    stdin, session, process = refused.value.message.split(": ")[1].split()
    assert (stdin, session) == ("/dev/null", process)


@pytest.mark.parametrize("script", ["kill -STOP $$", "exec >&-; sleep 60", "sleep 60 & exit 0"])
def test_a_reader_that_does_not_end_is_ended(source, target, tar, monkeypatch, script):
    monkeypatch.setattr(copying, "LIMIT", 0.5)
    tar(script)
    started = time.monotonic()
    with pytest.raises(Problem, match=r"not read in 0 s|tar ended|empty file"):
        _copy(source, target)
    assert time.monotonic() - started < 10


def test_a_reader_without_end_is_ended(source, target, tar, monkeypatch):
    monkeypatch.setattr(copying, "MAX_BYTES", 1 << 20)
    tar("/usr/bin/tar -c -f - Default; cat /dev/zero")
    with pytest.raises(Problem, match=r"holds more than 1"):
        _copy(source, target)


def test_a_folder_of_roots_that_others_can_reach_is_not_read_with_roots_rights(source, target, monkeypatch):
    seen = os.fstat

    def fstat(descriptor):
        found = seen(descriptor)
        return os.stat_result((*found[:4], 0, *found[5:]))

    source.parent.chmod(0o777)
    monkeypatch.setattr(os, "fstat", fstat)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(Problem, match="belongs to root, and others may write in"):
        _copy(source, target)
    assert list(target.iterdir()) == []


def _member(name: str, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    for key, value in more.items():
        setattr(member, key, value)
    return member


class _Stream(io.BytesIO):
    left = 1 << 20


def _archive(*members: tarfile.TarInfo) -> _Stream:
    """Give an archive, of which a file's content may be missing."""
    return _Stream(b"".join(member.tobuf(tarfile.GNU_FORMAT) for member in members) + bytes(1024))


@pytest.mark.parametrize(
    "member",
    [
        _member("a", tarfile.CHRTYPE, devmajor=1, devminor=1),
        _member("a", tarfile.BLKTYPE, devmajor=8, devminor=0),
        _member("a", tarfile.FIFOTYPE),
        _member("a", tarfile.CONTTYPE),
        _member("a", tarfile.GNUTYPE_SPARSE),
        _member("a", b"Z"),
        _member("../a"),
        _member("/a"),
        _member("a/../../b"),
        _member("a//b"),
        _member("."),
        _member("a" * 256),
        _member("/".join("a" * 33)),
        _member("a", size=1 << 40),
        _member("a", size=-1),
        _member("a", tarfile.LNKTYPE, linkname="../../secret"),
        _member("a", tarfile.LNKTYPE, linkname="/etc/hostname"),
    ],
    ids=lambda member: f"{member.type!r} {member.name:.12} {member.linkname} {member.size}",
)
def test_what_is_no_part_of_a_session_is_refused(target, member):
    with pytest.raises((Problem, tarfile.TarError)):
        copying.unpack(_archive(_member("first"), member), target, Path("/srv/x"))
    assert [path.name for path in target.rglob("*")] == ["first"]


@pytest.mark.parametrize(
    "members",
    [
        [_member("a", tarfile.SYMTYPE, linkname=".."), _member("a/b")],
        [
            _member("a", tarfile.SYMTYPE, linkname="/etc"),
            _member("b", tarfile.LNKTYPE, linkname="a/hostname"),
        ],
        [
            _member("a", tarfile.SYMTYPE, linkname="/etc/hostname"),
            _member("b", tarfile.LNKTYPE, linkname="a"),
        ],
        [_member("a", tarfile.SYMTYPE, linkname="/etc/hostname"), _member("a")],
        [_member("a"), _member("a")],
        [_member("b", tarfile.LNKTYPE, linkname="missing")],
        [_member("b", tarfile.LNKTYPE, linkname=".")],
    ],
)
def test_nothing_is_made_through_a_link_or_twice(target, members):
    with pytest.raises(OSError):  # noqa: PT011  # each has another number
        copying.unpack(_archive(*members), target, Path("/srv/x"))
    assert {path.name for path in target.parent.iterdir()} == {"target"}


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE])
def test_a_header_that_would_fill_the_memory_is_refused(target, kind):
    with pytest.raises((Problem, tarfile.TarError)):
        copying.unpack(_archive(_member("first"), _member("a", kind, size=1 << 30)), target, Path("/srv/x"))


def test_headers_without_end_are_refused(target):
    header = _member("a", tarfile.GNUTYPE_LONGNAME, size=1).tobuf() + b"x".ljust(512, b"\0")
    with pytest.raises((Problem, tarfile.TarError)):
        copying.unpack(_Stream(header * 5000), target, Path("/srv/x"))


def test_too_many_members_are_refused(target, monkeypatch):
    monkeypatch.setattr(copying, "MAX_MEMBERS", 2)
    with pytest.raises(Problem, match="more than 2 files"):
        copying.unpack(_archive(*map(_member, "abc")), target, Path("/srv/x"))
