"""Runs one command and turns what goes wrong into a message and an exit status."""

import argparse
import dataclasses
import functools
import importlib
import json
import os
import sys

from waportd.cli import exits, terminal
from waportd.cli.caller import Caller
from waportd.cli.exits import Exit, Problem
from waportd.cli.parser import parser
from waportd.cli.settings import CONFIG, find_socket
from waportd.cli.terminal import Screen
from waportd.client import Client, WaportdClientError


@dataclasses.dataclass(frozen=True)
class Context:
    """What a command works with."""

    options: argparse.Namespace
    screen: Screen

    @functools.cached_property
    def client(self) -> Client:
        """The daemon."""
        return Caller(self.socket)

    def close(self) -> None:
        """Hang up, if there was a call."""
        if "client" in self.__dict__:
            self.client.close()

    def agreed(self, question: str, *, loses: bool = False) -> bool:
        """Ask the person, where one sits there and has not said yes beforehand (``--yes``).

        Where nobody sits there, what ``loses`` something is not done: raises Problem.
        """
        if loses and not self.options.yes and not self.screen.interactive:
            raise Problem(
                f"there is no terminal to ask on: {question}",
                "--yes does it without asking",
                Exit.USAGE,
                "not_confirmed",
            )
        if self.options.yes or not self.screen.interactive or terminal.confirmed(question):
            return True
        terminal.complain("Nothing was changed.")
        return False

    @property
    def socket(self) -> str:
        """Where the daemon answers."""
        return find_socket(self.options.socket, getattr(self.options, "config", CONFIG))


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit status, see `waportd.cli.exits.MEANINGS`."""
    options = parser().parse_args(arguments)
    module, _, function = options.run.partition(":")
    command = getattr(importlib.import_module(f"waportd.cli.{module}"), function)
    context = Context(options, Screen(as_json=options.json))
    try:
        status: int = command(context)
        sys.stdout.flush()
    except WaportdClientError as error:
        return _fail(exits.of_client(error), as_json=options.json)
    except Problem as problem:
        return _fail(problem, as_json=options.json)
    except KeyboardInterrupt:
        terminal.complain("")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read has seen enough. Python would complain again when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    finally:
        context.close()
    return status


def _fail(problem: Problem, *, as_json: bool) -> Exit:
    if as_json:
        document = {
            "code": problem.code,
            "detail": problem.message,
            "hint": problem.hint,
            "exit_status": int(problem.exit_status),
        }
        print(json.dumps({"error": document}, ensure_ascii=False), file=sys.stderr)
    else:
        terminal.complain(f"waportctl: {problem.message}")
        if problem.hint:
            terminal.complain(problem.hint)
    return problem.exit_status
