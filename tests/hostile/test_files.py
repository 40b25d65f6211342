"""Files that root reads though others wrote them: archives, notes, names of servers and of folders, in any shape."""

import contextlib
import io
import ipaddress
import json
import os
import re
import stat
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from waportd import engines, networks
from waportd.cli import backup_file, copying, engine_files, login_copies, old_session
from waportd.cli.exit_status import Problem
from waportd.config import Config
from waportd.login_copies import DESCRIPTION
from waportd.model import is_user

sys.path.append(str(Path(__file__).resolve().parents[2]))
import whatsapp_move

NAMES = st.sampled_from(
    [
        "engine", "engine/a", "engine/a/b", "engine/../x", "../x", "/x", "engine//a", "./a", ".", "", "..", "a", "a/b", "a/b/../c",
        "engine/\0", "engine/\x1b[2J", "engine/" + "a" * 300, "d/" * 40 + "x", "package/x", "engine/.", "engine/a/", "\udcff", "victim",
    ]
) | st.text(max_size=8)  # fmt: skip
TYPES = st.sampled_from(
    [
        tarfile.REGTYPE, tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE,
        tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"V", b"\xff", b"x",
    ]
)  # fmt: skip
LINKS = st.sampled_from(["a", "engine/a", "../victim", "/etc/passwd", "..", "", "a/b"])
MODES = st.sampled_from([0o644, 0o777, 0o4755, 0o2755, 0, 0o7777])
MEMBER = st.tuples(NAMES, TYPES, LINKS, MODES, st.binary(max_size=600))
DAMAGE = st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(max_size=12)), max_size=3)
"""What stands where else in an archive."""


def archive(members, damage, form):
    """Return an archive of these members, some bytes of which are others."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as packed:
        for name, kind, link, mode, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, link, mode
            member.size = len(content) if member.isreg() or kind in {b"V", b"x"} else 0
            with contextlib.suppress(ValueError, UnicodeError):
                packed.addfile(member, io.BytesIO(content))
    made = bytearray(file.getvalue())
    for place, others in damage:
        at = place % (len(made) + 1)
        made[at : at + len(others)] = others
    return bytes(made)


class Source(io.BytesIO):
    """As `copying._Reader`, of what is there already."""

    left = 1 << 20

    def read(self, size=-1):
        chunk = super().read(size)
        self.left -= len(chunk)
        return chunk


def unpack_session(content, target):
    with contextlib.suppress(tarfile.TarError, OSError):  # `copy` makes a Problem of them, and its caller
        copying.unpack(Source(content), target, target)


def unpack_engine(content, target):
    packed = io.BytesIO()
    with engine_files.gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        file.write(content)
    packed.seek(0)
    engine_files.unpack(packed, target, target)


def unpack_no_gzip(content, target):
    engine_files.unpack(io.BytesIO(b"\x1f\x8b\x08\0" + content), target, target)


@pytest.mark.parametrize("unpack", [unpack_session, unpack_engine, unpack_no_gzip])
@given(
    members=st.lists(MEMBER, max_size=6),
    damage=DAMAGE,
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
@example(
    members=[("a", tarfile.SYMTYPE, "..", 0o777, b""), ("a/victim", tarfile.REGTYPE, "", 0o644, b"x")],
    damage=[],
    form=tarfile.GNU_FORMAT,
)
@example(members=[("victim", tarfile.LNKTYPE, "../victim", 0o644, b"")], damage=[], form=tarfile.GNU_FORMAT)
def test_no_archive_puts_anything_outside_of_its_folder_or_more_than_files_and_links(
    unpack, members, damage, form
):
    content = archive(members, damage, form)
    with tempfile.TemporaryDirectory() as folder:
        around = Path(folder)
        target = around / "target"
        target.mkdir()
        (around / "victim").write_text("mine")
        with contextlib.suppress(Problem):
            unpack(content, target)
        assert sorted(os.listdir(around)) == ["target", "victim"]  # noqa: PTH208
        assert (around / "victim").read_text() == "mine"
        assert (around / "victim").stat().st_nlink == 1
        links = {stat.S_IFLNK} if unpack is unpack_session else set()
        for path in target.rglob("*"):
            found = path.lstat()
            assert stat.S_IFMT(found.st_mode) in {stat.S_IFREG, stat.S_IFDIR, *links}
            if not path.is_symlink():
                assert not found.st_mode & 0o7077, "nobody else's, and nobody's rights"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NOTE = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({}, optional={"linked": JSON, "previous": JSON, "canaries": JSON}).map(
        lambda value: json.dumps(value).encode()
    ),
    st.sampled_from([b"[" * 100_000, b"\xff\xfe", b'{"linked": fal', b"1" * 5000]),
)


@given(NOTE)
@example(b'{"linked": false}')
@example(b"[" * 4000)
@example(b"[" * 100_000)
@example(b"1" * 5000)
@example(b'{"version": {}, "library": 1, "integrity": 1, "source": 1, "installed_at": 1%s}' % (b"0" * 400))
def test_any_note_is_read_or_taken_for_none(note):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "session-x").mkdir()
        for file in ("login.json", "history.json", engines.MANIFEST):
            (folder / file).write_bytes(note)
        assert old_session.may_be_linked(folder) is (b'"linked": false' not in note)
        history = engine_files.read_history(SimpleNamespace(engines=folder))
        assert all(isinstance(user, str) for user in history.canaries)
        (folder / "1.34.6").mkdir()
        (folder / "1.34.6" / engines.MANIFEST).write_bytes(note)
        assert engines.read(folder / "1.34.6") is None or b"installed_at" in note
        library = folder / "node_modules" / "whatsapp-web.js"
        library.mkdir(parents=True)
        (library / "package.json").write_bytes(note)
        with pytest.raises(Problem, match="is not an engine"):
            engine_files.version_in(folder, folder)


LINE = st.one_of(
    st.sampled_from(
        [
            "nameserver 10.0.0.2", "nameserver\t169.254.169.253", "nameserver fe80::1%eth0", "nameserver ::ffff:169.254.169.254",
            "nameserver", "nameserver 0.0.0.0/0", "nameserver 1", "nameserver x", "nameservers 1.1.1.1", "# nameserver 9.9.9.9",
            "nameserver 169.254.1.1 10.0.0.0/8", "nameserver 169.254.1.1\r", "search \u202e",
        ]
    ),
    st.text(max_size=30),
    st.text(max_size=20).map(lambda text: f"nameserver {text}"),
)  # fmt: skip


@given(st.lists(LINE, max_size=8).map("\n".join))
def test_any_resolv_conf_opens_single_addresses_of_denied_networks_and_nothing_else(text):
    config = Config()
    found = networks.wanted(config, text)
    denied = [ipaddress.ip_network(one) for one in config.instances.deny_networks]
    for one in map(ipaddress.ip_network, found.allowed):
        assert any(one.version == other.version and one.subnet_of(other) for other in denied)
    count = sum(ipaddress.ip_network(one).num_addresses for one in found.allowed)
    assert count <= text.count("nameserver"), "no more than are named"
    assert networks.wanted(config, "").denied == found.denied
    assert re.fullmatch(r"[0-9a-f:./ ]*", " ".join(found.allowed)), "nothing but addresses is told to systemd"


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["IPAddressDeny=", "x", "=", "\n", "10.0.0.0/8 "])).map("".join)
)
def test_whatever_systemctl_shows_is_a_filter(shown):
    assert all(isinstance(one, str) for part in networks.in_force(shown) for one in part)


PORTS = st.sampled_from(["5001", "5002", "05002", "80", "65536", "5002\n", "", "٥٠٠٢", "../5002"]) | st.text(
    max_size=8
)
FOLDERS = st.lists(
    st.tuples(
        st.sampled_from(["state", "cache"]),
        st.sampled_from(["5001", "5002"]),
        st.sampled_from(
            [
                ".wwebjs_auth_5001", ".wwebjs_auth_5002", ".wwebjs_cache_5001", "session-x_5001", ".wwebjs_auth_5001/session-x_5001",
                ".wwebjs_auth_5002/session-x_5002", ".wwebjs_auth_5001/session-\n_5001", "x",
            ]
        ),
        st.sampled_from(["folder", "file", "link", "dangling", "pipe"]),
    ),
    max_size=6,
)  # fmt: skip


@given(FOLDERS, st.booleans())
@example([("state", "5001", ".wwebjs_auth_5001", "link")], False)
@example([("state", "5001", ".wwebjs_auth_5001", "pipe")], True)
def test_whatever_a_session_has_in_its_folder_a_move_changes_nothing_outside_and_can_be_undone(found, back):
    with tempfile.TemporaryDirectory() as name:
        around = Path(name)
        outside = around / "outside"
        (outside / "session-x_5001").mkdir(parents=True)
        kept = [around / "state", around / "cache"]
        for base, port, inside, kind in found:
            path = around / base / port / inside
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                if kind == "folder":
                    path.mkdir()
                elif kind == "file":
                    path.touch(
                        exist_ok=False
                    )  # to open a pipe that is there already would wait for its other end
                elif kind == "pipe":
                    os.mkfifo(path)
                else:
                    path.symlink_to(outside if kind == "link" else around / "missing")
        names = sorted(str(path.relative_to(around)) for path in outside.rglob("*"))
        count = sum(1 for _ in around.rglob("*"))
        move = whatsapp_move.Move("5001", "5002", kept, [])
        with contextlib.suppress(whatsapp_move.Refused, OSError):
            move.run(back=back)
        assert sorted(str(path.relative_to(around)) for path in outside.rglob("*")) == names
        assert sum(1 for _ in around.rglob("*")) == count, "nothing is lost, and nothing is new"


@given(PORTS, PORTS, st.sampled_from(["", ":back", ":check", ":x", "\n", ":back\n"]))
@example("5001", "5002", "\n")
def test_what_names_no_move_is_none(source, target, how):
    match = whatsapp_move.TASK.fullmatch(f"{source}:{target}{how}")
    if match:
        assert all(re.fullmatch(r"[1-9][0-9]{3,4}", port, re.ASCII) for port in match.groups()[:2])


DESCRIBED = st.fixed_dictionaries(
    {
        "version": st.just(1) | JSON,
        "at": st.integers(0, 2_000_000_000_000) | JSON,
        "files": st.dictionaries(
            st.sampled_from(["Default/log", "../victim", "/etc/passwd", "Default/../../victim", "", "."])
            | st.text(max_size=8),
            st.fixed_dictionaries({"size": st.integers() | JSON, "sha256": st.just("0" * 64) | JSON}) | JSON,
            max_size=3,
        )
        | JSON,
    }
)


@given(DESCRIBED.map(json.dumps) | st.text(max_size=40), st.booleans())
@example('{"version": 1, "at": 0, "files": {"../victim": {"size": 6, "sha256": "x"}}}', True)
@example("[" * 5000, False)
@example('{"version": 1, "at": 1e999, "files": {}}', False)
def test_a_copy_of_a_login_is_what_it_says_or_refused(text, has_log):
    """A session writes its own description: it may name what it likes, and nothing outside of the copy is read."""
    with tempfile.TemporaryDirectory() as name:
        Path(name, "victim").write_text("secret")
        folder = Path(name, "copy")
        (folder / "Default").mkdir(parents=True)
        if has_log:
            (folder / "Default/log").write_text("log")
        (folder / DESCRIPTION).write_text(text, encoding="utf-8", errors="replace")
        with contextlib.suppress(Problem):
            copy = login_copies.verify(folder)
            assert copy.bytes == 0
            assert not has_log
            time.gmtime(copy.at)


ORIGIN = st.fixed_dictionaries(
    {
        "version": st.just(1) | JSON,
        "created_at": st.floats() | JSON,
        "host": st.text(max_size=8) | JSON,
        "machine": st.text(max_size=8) | JSON,
        "final": st.booleans() | JSON,
    }
)
ENTRY = st.fixed_dictionaries(
    {
        "user": st.sampled_from(["2", "../x", "ana@example.com", "a b"]) | JSON,
        "port": st.integers(0, 70_000) | JSON,
        "at": st.floats() | JSON,
        "options": st.dictionaries(st.text(max_size=8), JSON, max_size=2) | JSON,
    }
)


@given(ORIGIN | JSON, ENTRY | JSON, st.sampled_from(["0", "7", "x", "00"]))
def test_whatever_a_backup_says_is_read_or_refused(origin, entry, folder):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as packed:
        for name, document in ((backup_file.INDEX, origin), (f"{folder}/{backup_file.USER}", entry)):
            text = json.dumps(document).encode()
            member = tarfile.TarInfo(name)
            member.size = len(text)
            packed.addfile(member, io.BytesIO(text))
    with tempfile.TemporaryDirectory() as name:
        file.seek(0)
        try:
            _, held = backup_file.unpack(file, Path(name), Path("backup"))
        except Problem:
            return
        for each in held:
            assert is_user(each.user)
            assert isinstance(each.options, dict)
            time.gmtime(each.at)
