"""The program itself: its command line, its exit statuses, what it says when nobody answers."""

import ast
import asyncio
import json
import os
import re
import resource
import shlex
import socket
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from waportd.cli import caller, exit_status, locate, program, terminal
from waportd.cli.exit_status import MEANINGS, Exit
from waportd.cli.main import main
from waportd.cli.program import PROGRAM
from waportd.client import SOCKET, UnixConnection
from waportd.command_line import paragraphs, parser
from waportd.model import User
from waportd.quotas import Share


def _commands(command, name=""):
    yield f"{name} {command.name}".strip(), command
    for below in command.commands:
        yield from _commands(below, f"{name} {command.name}".strip())


COMMANDS = dict(_commands(PROGRAM))
EXAMPLES = [(name, example.command) for name, command in COMMANDS.items() for example in command.examples]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_explained(name):
    command = COMMANDS[name]
    assert command.summary[0].islower() or command.summary.startswith("WhatsApp")
    assert not command.summary.endswith(".")
    assert all(argument.help for argument in command.every_argument)
    assert bool(command.run) is not bool(command.commands)
    if command.run:
        assert len(paragraphs(command)) > 1
        assert command.examples


def test_the_help_of_a_command_has_all_that_is_known_of_it(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["engine", "use", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert exit_.value.code == 0
    use = COMMANDS["waportctl engine use"]
    shown = [*paragraphs(use), *(argument.help for argument in use.every_argument)]
    shown += [example.command for example in use.examples]
    for text in shown:
        # argparse breaks lines behind hyphens.
        assert text.replace(" ", "") in said.replace(" ", "")


def _calls(line):
    """Yield what waportctl gets in a line for the shell."""
    words = shlex.split(line)
    while words:
        end = next((at for at, word in enumerate(words) if word in {"|", "&&"}), len(words))
        call, words = words[:end], words[end + 1 :]
        call = call[1:] if call[0] == "sudo" else call
        if call[0] == "waportctl":
            yield call[1:]


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_every_example_is_a_call_of_its_command(name, line):
    calls = list(_calls(line))
    assert calls
    if name == "waportctl":
        return  # of the program's own examples each is that of some command
    for call in calls:
        assert parser(PROGRAM).parse_args(call).run is COMMANDS[name].run


def _texts(tree):
    """Yield each text in a module, without what documents it."""
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.value


@pytest.mark.parametrize(
    "path", sorted(Path(program.__file__).parent.rglob("*.py")), ids=lambda path: path.stem
)
def test_people_read_it_in_common_words(path):
    """Fix, restart, again, retry, say, user; and a token is no key."""
    uncommon = re.compile(r"\b(mend\w*|anew|meanwhile|told|whoever|whom|keys? to the API)\b", re.IGNORECASE)
    assert [text for text in _texts(ast.parse(path.read_text("utf-8"))) if uncommon.search(text)] == []


def test_only_the_command_that_is_called_is_defined():
    options = parser(PROGRAM, ["token", "create", "shop"]).parse_args(["token", "create", "shop"])
    assert options.run is COMMANDS["waportctl token create"].run
    with pytest.raises(SystemExit):
        parser(PROGRAM, ["list"]).parse_args(["start", "1"])


def test_all_exit_statuses_are_in_the_help():
    assert set(MEANINGS) == set(Exit)
    text = parser(PROGRAM).format_help()
    for status, meaning in MEANINGS.items():
        assert f"  {status:<4} {meaning}" in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["show"],
        ["port", "0"],
        ["port", "65536"],
        ["port", "x"],
        ["logs", "1", "-n", "0"],
        ["start", "1", "--timeout", "nan"],
        ["start", "1", "--timeout", "-1"],
        ["token"],
    ],
)
def test_a_wrong_command_line_is_reported(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == Exit.USAGE
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "shown"), [([], "waportctl list"), (["token"], "create"), (["--json", "engine"], "rollback")]
)
def test_without_a_command_there_is_help(words, shown, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == Exit.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("usage: waportctl ")
    assert shown in said.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lsit"], "waportctl: there is no command 'lsit'. Did you mean `waportctl list`?"),
        (["conect-link", "2"], "Did you mean `waportctl connect-link`?"),
        (["status", "2"], "Did you mean `waportctl show`?"),
        (["rm", "2"], "Did you mean `waportctl delete`?"),
        (
            ["engine", "instal"],
            "waportctl engine: there is no command 'instal'. Did you mean `waportctl engine install`",
        ),
        (["zzzz"], "waportctl: there is no command 'zzzz'.\n`waportctl --help` lists the commands\n"),
    ],
)
def test_an_unknown_command_is_answered_with_the_one_that_is_like_it(words, told, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == Exit.USAGE
    said = capsys.readouterr().err
    assert told in said
    assert "usage:" not in said


@pytest.mark.parametrize("command", [["list"], ["qr", "1"], ["logs", "1", "-f"], ["web", "--no-browser"]])
def test_a_daemon_that_is_away_is_an_exit_status_of_its_own(tmp_path, capsys, command):
    assert main(["--socket", str(tmp_path / "none"), *command]) == Exit.UNREACHABLE
    said = capsys.readouterr()
    assert said.out == ""
    assert "there is no socket" in said.err
    assert "systemctl start waportd.socket" in said.err


def test_who_may_not_call_learns_of_the_group(tmp_path, capsys, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(UnixConnection, "connect", refuse)
    assert main(["--socket", str(tmp_path), "list"]) == Exit.NOT_PERMITTED
    assert "to group waportd" in capsys.readouterr().err
    assert main(["--socket", str(tmp_path), "--json", "list"]) == Exit.NOT_PERMITTED
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "permission_denied"


@pytest.mark.parametrize(
    "command", [["port", "5001", "--end-stale"], ["import-session", "5001", "--from", "/nowhere"]]
)
def test_what_needs_root_says_so(command, capsys, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(command) == Exit.NOT_PERMITTED
    assert "only root can" in capsys.readouterr().err


def test_the_socket_is_named_or_found(tmp_path, monkeypatch):
    file = tmp_path / "config.yaml"
    assert locate.find_socket(None, file) == SOCKET
    file.write_text("api:\n  #socket: /commented/out\n")
    assert locate.find_socket(None, file) == SOCKET
    file.write_text("api:\n  socket: /from/the/configuration\n")
    assert locate.find_socket(None, file) == "/from/the/configuration"
    file.write_text("api: {socket: /in/one/line}\n")
    assert locate.find_socket(None, file) == "/in/one/line"
    file.write_text("api:\n  socket: [not, a, path]\n")
    assert locate.find_socket(None, file) == SOCKET
    monkeypatch.setenv("WAPORTD_SOCKET", "/from/the/environment")
    assert locate.find_socket(None, file) == "/from/the/environment"
    assert locate.find_socket("/named", file) == "/named"


def test_every_error_of_the_client_has_an_exit_status():
    unavailable = exit_status.WaportdUnavailable
    assert exit_status.of_client(unavailable("timeout", "x")).exit_status == Exit.UNREACHABLE
    assert exit_status.of_client(unavailable("permission_denied", "x")).exit_status == Exit.NOT_PERMITTED
    denied = exit_status.NotAllowed(403, "forbidden", "x", "add the user")
    assert exit_status.of_client(denied).exit_status == Exit.NOT_PERMITTED
    assert exit_status.of_client(denied).hint == "add the user"
    assert exit_status.of_client(exit_status.WaportdClientError("x")).exit_status == Exit.FAILED


def test_nothing_heavy_is_imported_before_it_is_needed():
    program = "import sys, waportd.cli.main as m; m.parser(m.PROGRAM); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"rich", "aiohttp", "asyncio", "yaml", "segno", "psutil", "pydbus", "gi", "waportd.config"}
    heavy |= {"http.server", "tarfile"}
    assert heavy.isdisjoint(done.stdout.split())


def test_it_starts_at_once():
    """150 ms beyond the start of Python itself. Of the processor: how long a loaded machine lets it wait says nothing."""

    def least(*command):
        def once():
            before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
            subprocess.run([sys.executable, *command], capture_output=True, check=False)
            return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before

        return min(once() for _ in range(5))

    assert least("-m", "waportd.cli", "--socket", "/none", "list") - least("-c", "") < 0.4


async def test_who_waits_for_long_learns_what_for(ctl, socket_path, monkeypatch):
    """As while the daemon starts: systemd holds the socket, and nobody answers yet."""
    told, complain = threading.Event(), terminal.complain

    def tell(*arguments):
        complain(*arguments)
        told.set()

    monkeypatch.setattr(caller, "NOTICE", 0.05)
    monkeypatch.setattr(terminal, "complain", tell)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        waiting = asyncio.ensure_future(ctl("list"))
        connection, _ = await asyncio.to_thread(listener.accept)
        with connection:
            assert await asyncio.to_thread(told.wait, 9)
        said = await waiting
    assert "waportd has not answered yet" in said.err
    assert said.status == Exit.UNREACHABLE


async def test_who_changes_too_much_learns_of_the_wait_and_continues(ctl, api, supervisor, monkeypatch):
    def sleep(seconds):
        waits.append(seconds)
        monkeypatch.setattr("waportd.api.access.UID", Share(1024, None, (3, 100)))

    waits = []
    monkeypatch.setattr("waportd.api.access.UID", Share(1024, None, (1, 100)))
    monkeypatch.setattr(caller, "time", types.SimpleNamespace(sleep=sleep))
    await supervisor.ensure(User("1"))
    assert (await ctl("stop", "1")).err == ""
    said = await ctl("stop", "1")
    assert said.status == Exit.OK
    [wait] = waits
    assert 0 < wait <= 60
    assert said.err == f"waportd accepts no more changes by this account for {wait:g} s; waiting\n"


@pytest.mark.parametrize(
    "command",
    [
        ["engine", "list"],
        ["import-session", "5001", "--from", "/nowhere"],
        ["backup", "--all", "x", "--unencrypted"],
        ["restore", "x", "--all"],
        ["config", "check"],
        ["doctor", "--upstream"],
    ],
)
def test_a_configuration_that_may_not_be_read_is_the_same_for_all(command, tmp_path, capsys, monkeypatch):
    file = tmp_path / "config.yaml"
    file.write_text("instances: {}\n")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda *_: False)
    named = [file] if command[0] == "config" else ["--config", file]
    assert main(["--socket", str(tmp_path / "none"), *command, *map(str, named)]) == Exit.NOT_PERMITTED
    said = capsys.readouterr().err
    assert "cannot be read by this user" in said or "only root can" in said
    assert "run it with sudo" in said


@pytest.mark.parametrize("command", [["engine", "list"], ["import-session", "5001", "--from", "/nowhere"]])
def test_a_fault_of_the_configuration_is_the_same_for_all(command, tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text("instances: {nonsense: 1}\n")
    assert main(["--json", *command, "--config", str(file)]) == Exit.FAILED
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["code"] == "config_error"
    assert "nonsense" in error["detail"]
