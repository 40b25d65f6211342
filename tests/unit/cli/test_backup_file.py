"""The file of a backup: what goes in comes out, and nothing else is taken for one."""

import io
import json
import subprocess
import tarfile

import pytest

from waportd.cli import backup_file
from waportd.cli.backup_file import Entry, Origin
from waportd.cli.exit_status import Problem
from waportd.model import User

ORIGIN = Origin(1_767_225_600.0, "one", "0123", final=False)
ENTRIES = [
    Entry(User("2"), 5002, 1_767_225_000.0, {"send_rate": 7}),
    Entry(User("ana@example.com"), 20000, 1_767_225_100.0, {}),
]


@pytest.fixture
def folders(tmp_path):
    """What belongs to each user."""
    made = []
    for entry in ENTRIES:
        folder = tmp_path / f"of {entry.user}"
        (folder / "login/Default").mkdir(parents=True)
        (folder / "login/Default/log").write_text(f"login of {entry.user}")
        made.append(folder)
    return made


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Secret keys of age with their public ones."""

    def made(name):
        secret = tmp_path_factory.mktemp("keys") / name
        subprocess.run(["age-keygen", "--output", secret], check=True, capture_output=True)
        public = subprocess.run(["age-keygen", "-y", secret], check=True, capture_output=True, text=True)
        return secret, public.stdout.strip()

    return made("one"), made("two")


def written(folders):
    file = io.BytesIO()
    with backup_file.encrypted(file, None) as stream, backup_file.writer(stream, ORIGIN) as archive:
        for entry, folder in zip(ENTRIES, folders, strict=True):
            archive.add(entry, folder)
    return file.getvalue()


def encrypted(path, folders, recipients):
    with (
        path.open("wb") as file,
        backup_file.encrypted(file, recipients) as stream,
        backup_file.writer(stream, ORIGIN) as archive,
    ):
        for entry, folder in zip(ENTRIES, folders, strict=True):
            archive.add(entry, folder)


def unpacked(path, target, identity=None):
    target.mkdir()
    with backup_file.decrypted(path, identity) as stream:
        return backup_file.unpack(stream, target, path)


def test_what_goes_in_comes_out(tmp_path, folders):
    file = tmp_path / "backup.tar"
    file.write_bytes(written(folders))
    origin, held = unpacked(file, tmp_path / "out")
    assert origin == ORIGIN
    assert [(each.user, each.port, each.at, each.options) for each in held] == [
        (each.user, each.port, each.at, each.options) for each in ENTRIES
    ]
    for each in held:
        text = (tmp_path / "out" / each.folder / "login/Default/log").read_text()
        assert text == f"login of {each.user}"


def test_nobody_of_this_host_is_named_in_it(folders):
    with tarfile.open(fileobj=io.BytesIO(written(folders))) as archive:
        assert {(member.uid, member.gid, member.uname, member.gname) for member in archive} == {
            (0, 0, "", "")
        }


def test_each_who_was_named_reads_it_and_nobody_else(tmp_path, folders, keys):
    (secret, public), (other, _) = keys
    file = tmp_path / "backup.age"
    encrypted(file, folders, ["--recipient", public])
    assert b"login of" not in file.read_bytes()
    assert unpacked(file, tmp_path / "out", secret)[0] == ORIGIN
    with pytest.raises(Problem, match="cannot be decrypted: no identity matched"):
        unpacked(file, tmp_path / "none", other)
    with pytest.raises(Problem, match="is encrypted") as refused:
        unpacked(file, tmp_path / "nothing")
    assert refused.value.hint == "name the secret key: --identity KEY"


@pytest.mark.parametrize("cut", [1, 20, 300])
def test_one_that_is_cut_off_is_known_to_be(tmp_path, folders, keys, cut):
    (secret, public), _ = keys
    file = tmp_path / "backup.age"
    encrypted(file, folders, ["--recipient", public])
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(Problem, match="cannot be decrypted"):
        unpacked(file, tmp_path / "out", secret)


def test_a_key_that_is_none_is_named(tmp_path, folders):
    with pytest.raises(Problem, match=r"cannot be encrypted: .*malformed recipient"):
        encrypted(tmp_path / "backup.age", folders, ["--recipient", "age1nonsense"])


def test_without_age_its_package_is_named(tmp_path, folders, monkeypatch):
    monkeypatch.setattr("os.defpath", str(tmp_path))
    with pytest.raises(Problem, match="age, which is not installed") as refused:
        encrypted(tmp_path / "backup.age", folders, ["--recipient", "age1"])
    assert refused.value.hint == "apt install age"


def tar(**members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return file.getvalue()


INDEX = json.dumps({"version": 1, "created_at": 1, "host": "one", "machine": "", "final": False}).encode()
BAD = {
    "text": b"no archive",
    "nothing": b"",
    "an archive of another kind": tar(readme=b"x"),
    "no JSON": tar(**{"waportd-backup.json": b"{"}),
    "another version": tar(**{"waportd-backup.json": INDEX.replace(b'"version": 1', b'"version": 9')}),
    "a user without a file": tar(**{"waportd-backup.json": INDEX, "0__login": b"x"}),
    "a name that no user has": tar(
        **{
            "waportd-backup.json": INDEX,
            "0__user.json": b'{"user": "../x", "port": 1, "at": 1, "options": {}}',
        }
    ),
    "a file outside of it": tar(**{"waportd-backup.json": INDEX, "..__..__x": b"x"}),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_backup_is_refused(tmp_path, what):
    file = tmp_path / "backup"
    file.write_bytes(BAD[what])
    with pytest.raises(Problem):
        unpacked(file, tmp_path / "out")
    assert not (tmp_path / "x").exists()


def test_the_host_of_a_backup_types_nothing_into_a_terminal(tmp_path):
    file = tmp_path / "backup"
    file.write_bytes(tar(**{"waportd-backup.json": INDEX.replace(b'"one"', b'"\\u001b[2Jone"')}))
    origin, _ = unpacked(file, tmp_path / "out")
    assert "\x1b" not in origin.host
