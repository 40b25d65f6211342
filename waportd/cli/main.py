"""Runs one command and turns what goes wrong into a message and an exit status."""

import os
import sys

from waportd.cli import exit_status, terminal
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.cli.program import PROGRAM
from waportd.cli.terminal import Screen
from waportd.client import WaportdClientError
from waportd.command_line import parser


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit status, see `waportd.cli.exit_status.MEANINGS`."""
    words = sys.argv[1:] if arguments is None else arguments
    options = parser(PROGRAM, words).parse_args(words)
    context = Context(options, Screen(as_json=options.json))
    try:
        status: int = options.run(context)
        sys.stdout.flush()
    except WaportdClientError as error:
        return _fail(exit_status.of_client(error), as_json=options.json)
    except Problem as problem:
        return _fail(problem, as_json=options.json)
    except KeyboardInterrupt:
        terminal.complain("")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe. Python would complain again when it closes standard output.
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
        print(terminal.in_json({"error": document}), file=sys.stderr)
    else:
        terminal.complain(f"waportctl: {problem.message}")
        if problem.hint:
            terminal.complain(problem.hint)
    return problem.exit_status
