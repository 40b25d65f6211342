"""The program itself: its command line, its exit statuses, what it says when nobody answers."""

import argparse
import asyncio
import importlib
import json
import os
import resource
import socket
import subprocess
import sys
import threading

import pytest

from waportd.cli import caller, exits, settings
from waportd.cli.exits import MEANINGS, Exit
from waportd.cli.main import main
from waportd.cli.parser import parser
from waportd.client import SOCKET, UnixConnection


def _parsers(top, name="waportctl"):
    yield name, top
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, sub in action.choices.items():
                yield from _parsers(sub, f"{name} {command}")


COMMANDS = dict(_parsers(parser()))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_explained(name):
    command = COMMANDS[name]
    assert command.description
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert {choice.dest for choice in action._choices_actions} == set(action.choices)
            assert all(choice.help for choice in action._choices_actions)
        else:
            assert action.help, action.dest


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.get_default("run")])
def test_every_command_is_there(name):
    module, _, function = COMMANDS[name].get_default("run").partition(":")
    assert callable(getattr(importlib.import_module(f"waportd.cli.{module}"), function))


def test_all_exit_statuses_are_in_the_help():
    assert set(MEANINGS) == set(Exit)
    text = parser().format_help()
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
def test_a_wrong_command_line_is_told(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == Exit.USAGE
    assert capsys.readouterr().err


@pytest.mark.parametrize("command", [["list"], ["qr", "1"], ["logs", "1", "-f"], ["web", "--no-browser"]])
def test_a_daemon_that_is_away_is_an_exit_status_of_its_own(tmp_path, capsys, command):
    assert main(["--socket", str(tmp_path / "none"), *command]) == Exit.UNREACHABLE
    said = capsys.readouterr()
    assert said.out == ""
    assert "there is no socket" in said.err
    assert "systemctl start waportd.socket" in said.err


def test_who_may_not_call_is_told_the_group(tmp_path, capsys, monkeypatch):
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
    assert settings.find_socket(None, file) == SOCKET
    file.write_text("api:\n  #socket: /commented/out\n")
    assert settings.find_socket(None, file) == SOCKET
    file.write_text("api:\n  socket: /from/the/configuration\n")
    assert settings.find_socket(None, file) == "/from/the/configuration"
    file.write_text("api: {socket: /in/one/line}\n")
    assert settings.find_socket(None, file) == "/in/one/line"
    file.write_text("api:\n  socket: [not, a, path]\n")
    assert settings.find_socket(None, file) == SOCKET
    monkeypatch.setenv("WAPORTD_SOCKET", "/from/the/environment")
    assert settings.find_socket(None, file) == "/from/the/environment"
    assert settings.find_socket("/named", file) == "/named"


def test_every_error_of_the_client_has_an_exit_status():
    unavailable = exits.WaportdUnavailable
    assert exits.of_client(unavailable("timeout", "x")).exit_status == Exit.UNREACHABLE
    assert exits.of_client(unavailable("permission_denied", "x")).exit_status == Exit.NOT_PERMITTED
    denied = exits.NotAllowed(403, "forbidden", "x", "add the user")
    assert exits.of_client(denied).exit_status == Exit.NOT_PERMITTED
    assert exits.of_client(denied).hint == "add the user"
    assert exits.of_client(exits.WaportdClientError("x")).exit_status == Exit.FAILED


def test_nothing_heavy_is_imported_before_it_is_needed():
    program = "import sys, waportd.cli.main as m; m.parser(); import waportd.cli.users; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"rich", "aiohttp", "asyncio", "yaml", "segno", "psutil", "pydbus", "gi", "waportd.config"}
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


async def test_who_waits_for_long_is_told_what_for(ctl, socket_path, monkeypatch):
    """As while the daemon starts: systemd holds the socket, and nobody answers yet."""
    told, notice = threading.Event(), caller._notice

    def tell(*arguments):
        notice(*arguments)
        told.set()

    monkeypatch.setattr(caller, "NOTICE", 0.05)
    monkeypatch.setattr(caller, "_notice", tell)
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
