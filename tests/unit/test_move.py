"""The step that runs as root: folders are renamed, and nothing but those of the two ports."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "whatsapp_move.py"
SPEC = importlib.util.spec_from_file_location("whatsapp_move", SCRIPT)
module = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(module)

SYSTEMCTL = """\
#!/bin/sh
echo "$@" >> "{calls}"
[ "$2" = show ] && cat "{states}"
exit 0
"""


class Disk:
    """What lies where on a host, as systemd lays it out."""

    def __init__(self, root):
        self.root = root
        self.state, self.cache = root / "lib", root / "cache"
        self.private = self.state / "private/whatsapp"
        self.units, self.runtime = root / "etc/systemd/system", root / "run/systemd/system"
        for folder in (self.private, self.state / "whatsapp", self.units, self.runtime):
            folder.mkdir(parents=True)
        (self.cache / "private/whatsapp").mkdir(parents=True)
        self.control = root / "etc/systemd/system.control"
        self.control.mkdir()

    def fill(self, port):
        """Put a session there."""
        profile = self.private / port / f".wwebjs_auth_{port}" / f"session-app_{port}"
        profile.mkdir(parents=True)
        (profile / "login").write_text("a login")
        (profile.parent / "login.json").write_text("{}")
        (profile.parent / "messages").mkdir()
        (profile.parent / "messages/00000001-series.log").write_text("a message")
        (self.state / "whatsapp" / port).symlink_to(f"../private/whatsapp/{port}")
        cache = self.cache / "private/whatsapp" / port / f".wwebjs_cache_{port}"
        cache.mkdir(parents=True)
        (cache / "page").write_text("a page")
        for folder, kind in ((self.units, "service"), (self.control, "service"), (self.runtime, "socket")):
            drop_in = folder / f"whatsapp@{port}.{kind}.d"
            drop_in.mkdir()
            (drop_in / "some.conf").write_text("[Unit]\n")

    def files(self):
        """Return every file by its path."""
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}

    def move(self, source, target):
        kept = [
            base / inner for base in (self.state, self.cache) for inner in ("private/whatsapp", "whatsapp")
        ]
        return module.Move(source, target, kept, [self.units, self.control, self.runtime])


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path / "disk")


def renamed(files, source, target):
    return {name.replace(source, target) for name in files}


def test_login_cache_and_drop_ins_have_the_names_of_the_other_port(disk):
    disk.fill("5001")
    disk.fill("5003")
    before = disk.files()
    move = disk.move("5001", "5002")
    move.check()
    move.run(back=False)
    assert disk.files() == renamed(before, "5001", "5002") | {name for name in before if "5003" in name}
    assert move.has_drop_ins()
    # systemd makes it, and refuses to where there is another one.
    assert not os.path.lexists(disk.state / "whatsapp/5001")
    # Another run finds nothing to do, and the way back leads back.
    after = disk.files()
    move.run(back=False)
    assert disk.files() == after
    disk.move("5002", "5001").run(back=True)
    assert disk.files() == before


def test_nothing_is_made_where_there_is_nothing(disk):
    move = disk.move("5001", "5002")
    move.check()
    move.run(back=False)
    assert disk.files() == set()
    assert not move.has_drop_ins()


def interrupted(monkeypatch, calls):
    """Let so many renames and syncs through, and then a crash."""
    left = [calls]

    def counted(real):
        def call(*arguments, **more):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return real(*arguments, **more)

        return call

    for name in ("rename", "fsync", "unlink"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


@pytest.mark.parametrize("back", [False, True])
def test_a_crash_at_any_step_can_be_continued_from_and_undone(tmp_path, back):
    for calls in range(100):
        disk = Disk(tmp_path / f"{calls}")
        disk.fill("5001")
        before = disk.files()
        done = True
        with pytest.MonkeyPatch.context() as patch:
            interrupted(patch, calls)
            try:
                disk.move("5001", "5002").run(back=False)
            except KeyboardInterrupt:
                done = False
        if back:
            disk.move("5002", "5001").run(back=True)
            assert disk.files() == before
        else:
            disk.move("5001", "5002").run(back=False)
            assert disk.files() == renamed(before, "5001", "5002")
        if done:
            break
    assert calls > 10


@pytest.mark.parametrize(
    "name",
    [
        "lib/private/whatsapp/5002",
        "cache/private/whatsapp/5002",
        "etc/systemd/system/whatsapp@5002.service.d",
        "etc/systemd/system.control/whatsapp@5002.socket.d",
        "run/systemd/system/whatsapp@5002.socket.d",
    ],
)
@pytest.mark.parametrize("kind", ["folder", "link"])
def test_nothing_of_the_target_is_lost(disk, name, kind):
    disk.fill("5001")
    there = disk.root / name
    if kind == "folder":
        there.mkdir()
        (there / "of another").write_text("kept")
    else:
        there.symlink_to("/nowhere")
    # What both ports have.
    other = Path(str(there).replace("5002", "5001"))
    other.mkdir(exist_ok=True)
    before = disk.files()
    move = disk.move("5001", "5002")
    with pytest.raises(module.Refused, match="in the way"):
        move.check()
    with pytest.raises(module.Refused, match="in the way"):
        move.run(back=False)
    assert disk.files() == before
    move.run(back=True)
    assert {path for path in before if "of another" in path} <= disk.files()
    assert os.path.lexists(there)
    assert os.path.lexists(other)


def test_a_link_that_a_session_made_leads_nowhere(disk, tmp_path):
    victim = tmp_path / "victim/.wwebjs_auth_5001"
    victim.mkdir(parents=True)
    (victim / "session-app_5001").mkdir()
    (disk.private / "5001").mkdir()
    (disk.private / "5001/.wwebjs_auth_5001").symlink_to(victim)
    disk.move("5001", "5002").run(back=False)
    assert (victim / "session-app_5001").is_dir()
    assert (disk.private / "5002/.wwebjs_auth_5001").readlink() == victim
    # Nor does one of a name that is looked into.
    (disk.private / "5002/.wwebjs_auth_5002").symlink_to(victim)
    disk.move("5001", "5002").run(back=False)
    assert (victim / "session-app_5001").is_dir()


@pytest.mark.parametrize(
    "name", [".wwebjs_auth_5002", ".wwebjs_cache_5002", ".wwebjs_auth_5001/session-app_5002"]
)
def test_a_session_cannot_keep_its_user_between_two_ports(disk, name):
    disk.fill("5001")
    folder = disk.cache if "cache" in name else disk.state
    (folder / "private/whatsapp/5001" / name).mkdir()
    before = disk.files()
    with pytest.raises(module.Refused, match="in the way"):
        disk.move("5001", "5002").run(back=False)
    disk.move("5002", "5001").run(back=True)
    assert disk.files() == before


def test_a_folder_full_of_names_is_no_login(disk):
    auth = disk.private / "5001/.wwebjs_auth_5001"
    auth.mkdir(parents=True)
    for number in range(1001):
        (auth / f"{number}").touch()
    with pytest.raises(module.Refused, match="more than 1000 files"):
        disk.move("5001", "5002").run(back=False)
    disk.move("5002", "5001").run(back=True)
    assert len(list(auth.iterdir())) == 1001


def test_what_an_administrator_keeps_elsewhere_stays_there(disk):
    """A fixed user's folder may be a link to another disk: the link gets the other name."""
    elsewhere = disk.root / "big"
    (elsewhere / ".wwebjs_auth_5001").mkdir(parents=True)
    (disk.state / "whatsapp/5001").symlink_to(elsewhere)
    disk.move("5001", "5002").run(back=False)
    assert (disk.state / "whatsapp/5002").readlink() == elsewhere


@pytest.fixture
def run(disk, tmp_path):
    """Run the program, with a systemctl that says what the test wants."""
    calls, states = tmp_path / "calls", tmp_path / "states"
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(SYSTEMCTL.format(calls=calls, states=states))
    systemctl.chmod(0o755)
    script = tmp_path / "move.py"
    script.write_text(SCRIPT.read_text().replace("/usr/bin/systemctl", str(systemctl)))

    def run(task, up="", expected=0):
        units = [f"whatsapp@{port}.{kind}" for port in ("5001", "5002") for kind in ("service", "socket")]
        states.write_text(
            "\n\n".join(f"Id={unit}\nActiveState={'active' if unit == up else 'inactive'}" for unit in units)
        )
        calls.write_text("")
        folders = [disk.state, disk.cache, disk.root / "etc", disk.root / "run"]
        done = subprocess.run(
            [sys.executable, "-I", script, "system", task, *folders],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expected, done.stderr
        return calls.read_text(), done.stderr

    return run


def test_systemd_reads_moved_drop_ins(disk, run):
    disk.fill("5001")
    assert run("5001:5002:check")[0] == ""
    assert (disk.private / "5001").is_dir()
    assert "--system daemon-reload" in run("5001:5002")[0]
    assert (disk.private / "5002").is_dir()
    assert "--system daemon-reload" in run("5002:5001:back")[0]


@pytest.mark.parametrize(
    "up", [f"whatsapp@{port}.{kind}" for port in (5001, 5002) for kind in ("service", "socket")]
)
def test_nothing_is_moved_that_a_server_may_be_writing(disk, run, up):
    disk.fill("5001")
    before = disk.files()
    for task in ("5001:5002", "5001:5002:back"):
        assert f"{up} is active: stop it first" in run(task, up, expected=1)[1]
    assert disk.files() == before


@pytest.mark.parametrize(
    "task",
    ["5001", "5001:5001", "5001:80", "5001:5002:now", "../5001:5002", "5001:5002\n", "5001:/etc", "-h:5001"],
)
def test_other_words_are_no_move(run, task):
    assert run(task, expected=2)[0] == ""
