"""What is opened in places that others may write to."""

import errno
import os
from pathlib import Path

import pytest

from waportd import files


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "real/inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "absolute").symlink_to(tmp_path / "link")
    (tmp_path / "round").symlink_to("round")
    return tmp_path


@pytest.mark.parametrize(
    "way", ["real/inner", "link/inner", "absolute/inner", "link/../real/inner", "real/./inner"]
)
def test_a_folder_is_found_through_links_of_ones_own(place, way):
    with files.opened(place / way) as folder:
        assert files.path_of(folder) == place / "real/inner"
    with files.opened(place) as above, files.opened(Path(way), above) as folder:
        assert files.path_of(folder) == place / "real/inner"


def test_a_relative_path_begins_in_the_working_directory(place, monkeypatch):
    monkeypatch.chdir(place)
    for way, found in ((".", place), ("link", place / "real"), ("real/..", place)):
        with files.opened(Path(way)) as folder:
            assert files.path_of(folder) == found


def test_a_link_of_another_user_is_not_followed(place, monkeypatch):
    mine = os.getuid()
    owners = {"link": mine + 1}
    seen = os.fstat

    def fstat(descriptor):
        found = seen(descriptor)
        name = files.path_of(descriptor).name
        return os.stat_result((*found[:4], owners.get(name, found.st_uid), *found[5:]))

    monkeypatch.setattr(os, "fstat", fstat)
    monkeypatch.setattr(os, "geteuid", lambda: mine)
    with pytest.raises(OSError, match="is not followed") as refused, files.opened(place / "absolute/inner"):
        pass
    assert refused.value.filename == str(place / "link")


@pytest.mark.parametrize(
    ("way", "part", "why"),
    [
        ("real/missing/inner", "real/missing", errno.ENOENT),
        ("file/inner", "file/inner", errno.ENOTDIR),
        ("file", "file", errno.ENOTDIR),
        ("round/inner", "round", errno.ELOOP),
    ],
)
def test_the_part_that_cannot_be_opened_is_named(place, way, part, why):
    (place / "file").touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError) as refused, files.opened(place / way):  # noqa: PT011  # the number is compared
        pass
    assert (refused.value.errno, refused.value.filename) == (why, str(place / part))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_only_a_regular_file_is_read_and_nothing_is_waited_for(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    with files.opened(tmp_path) as folder:
        assert files.read("file", 3, folder) == b"123"
        for name in ("link", "pipe", ".", "missing"):
            with pytest.raises(OSError):  # noqa: PT011  # each has another number
                files.read(name, 3, folder)


def test_a_file_or_folder_outlives_a_power_cut_once_it_is_synchronized(tmp_path, monkeypatch):
    synchronized = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synchronized.append(files.path_of(descriptor)))
    before = len(list(Path("/proc/self/fd").iterdir()))
    file = tmp_path / "file"
    file.write_text("text")
    files.sync(file)
    files.sync(tmp_path)
    assert synchronized == [file, tmp_path]
    with pytest.raises(FileNotFoundError):
        files.sync(tmp_path / "another")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
