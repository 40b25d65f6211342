"""What ``import-session`` asks of the daemon."""

import asyncio
import contextlib
import os
import types
from pathlib import Path

import pytest

from waportd.cli import import_session, old_session
from waportd.cli.exit_status import Problem
from waportd.client import Client
from waportd.model import User


async def test_who_is_new_who_runs_and_who_was_stopped_are_stopped_for_an_import(api, supervisor, server):
    await supervisor.ensure(User("running"))
    await supervisor.ensure(User("stopped"))
    await supervisor.stop(User("stopped"))
    with Client(str(server.path)) as client:
        for user in ("new", "running", "stopped"):
            shown = await asyncio.to_thread(import_session.assign, types.SimpleNamespace(client=client), user)
            assert (shown.user, shown.desired, shown.process.state) == (user, "stopped", "stopped")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Give the folder of an earlier setup with one session."""
    profile = tmp_path / "old/.wwebjs_auth_5002/session-ylada_bot_5002"
    profile.mkdir(parents=True)
    return tmp_path / "old"


@pytest.mark.parametrize("named", ["", ".wwebjs_auth_5002"])
def test_the_session_is_found_and_stays_the_one_that_was_found(old, named):
    profile = old / ".wwebjs_auth_5002/session-ylada_bot_5002"
    inode = profile.stat().st_ino
    with contextlib.ExitStack() as stack:
        source = old_session.find(stack, old / named, 5002, "ylada_bot")
        assert (source.folder, source.profile, source.port) == (profile.parent, profile, 5002)
        profile.rename(old / "moved")
        profile.symlink_to("/etc")
        assert os.fstat(source.opened).st_ino == inode


def test_a_link_is_no_profile(old):
    profile = old / ".wwebjs_auth_5002/session-ylada_bot_5002"
    profile.rename(old / "moved")
    profile.symlink_to(old / "moved")
    with contextlib.ExitStack() as stack, pytest.raises(Problem, match="holds not exactly one profile"):
        old_session.find(stack, old, 5002, "ylada_bot")


@pytest.mark.parametrize(("named", "part"), [("missing/x", "missing"), ("file", "file")])
def test_what_cannot_be_opened_is_named(old, named, part):
    (old / "file").touch()
    with contextlib.ExitStack() as stack, pytest.raises(Problem, match=f"{old / part} cannot be opened: N"):
        old_session.find(stack, old / named, 5002, "ylada_bot")


@pytest.mark.parametrize(
    ("note", "may_be"),
    [
        ('{"linked": true}', True),
        ('{"linked":false}', False),
        ('{"linked":"unknown"}', True),
        ("{}", True),
        ("nonsense", True),
        ("[" * 4000, True),
        (None, False),
    ],
)
def test_only_a_note_that_says_so_means_that_there_is_no_login(tmp_path, note, may_be):
    if note is not None:
        (tmp_path / "login.json").write_text(note)
        (tmp_path / "session-x_5002").mkdir()
    assert old_session.may_be_linked(tmp_path) is may_be


def test_a_profile_without_a_note_may_be_linked_and_no_folder_is_not(tmp_path):
    assert old_session.may_be_linked(tmp_path / "missing") is False
    (tmp_path / "session-x_5002").mkdir()
    assert old_session.may_be_linked(tmp_path) is True


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path.with_name("unlinked"))]
)
def test_a_note_that_is_no_file_counts_as_a_login_and_is_not_waited_for(tmp_path, make):
    (tmp_path / "unlinked").write_text('{"linked":false}')
    make(tmp_path / "login.json")
    assert old_session.may_be_linked(tmp_path) is True


def test_a_link_that_is_not_followed_is_named_with_the_way_out(old):
    (old / "round").symlink_to("round")
    with (
        contextlib.ExitStack() as stack,
        pytest.raises(Problem, match=f"{old / 'round'} cannot be") as refused,
    ):
        old_session.find(stack, old / "round/x", 5002, "ylada_bot")
    assert refused.value.hint == "name the folder by a path without that link"


def _imported(old: Path, sessions: Path) -> Path:
    """Import the session of port 5002 as that of port 5003; return its new folder."""
    with contextlib.ExitStack() as stack:
        source = old_session.find(stack, old, 5002, "ylada_bot")
        with old_session.copied(source, sessions) as copy:
            old_session.put(copy, sessions / "5003", 5003, "bot")
    assert [path.name for path in sessions.iterdir()] == ["5003"]
    return sessions / "5003/.wwebjs_auth_5003"


def test_the_journal_of_messages_comes_along_and_nothing_else_does(old, tmp_path):
    folder = old / ".wwebjs_auth_5002"
    (folder / "session-ylada_bot_5002/Default").write_text("profile")
    (folder / "login.json").write_text("{}")
    messages = folder / "messages"
    messages.mkdir()
    (messages / "00000001-0123456789abcdef.log").write_text("journal")
    (messages / "sends").write_text("keys")
    new = _imported(old, tmp_path / "new")
    files = {str(path.relative_to(new)): path.read_text() for path in new.rglob("*") if path.is_file()}
    assert files == {
        "session-bot_5003/Default": "profile",
        "messages/00000001-0123456789abcdef.log": "journal",
        "messages/sends": "keys",
    }
    assert (new / "messages").stat().st_mode & 0o077 == 0


def test_without_a_journal_the_session_is_all_there_is(old, tmp_path):
    (old / ".wwebjs_auth_5002/messages").symlink_to("/etc")
    new = _imported(old, tmp_path / "new")
    assert [path.name for path in new.iterdir()] == ["session-bot_5003"]
