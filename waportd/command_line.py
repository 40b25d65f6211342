"""A program's command line as data: its commands, each with its help, its arguments and examples.

One description serves the parser, the manual page and the completions of the shells. Named tuples, since waportctl
reads all of it at each start: dataclasses take 3 ms longer.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple, NoReturn

_USAGE = 2
"""The exit status of a wrong command line, as argparse has it."""
_WIDEST = 100
"""Columns of help: longer lines are hard to read."""


class Argument(NamedTuple):
    """An option or an operand: its names, and what `argparse.ArgumentParser.add_argument` takes."""

    names: tuple[str, ...]
    help: str
    options: dict[str, Any]

    @property
    def is_option(self) -> bool:
        """Whether it is named on the command line; an operand is known by its place."""
        return self.names[0].startswith("-")

    @property
    def takes_value(self) -> bool:
        """Whether a value belongs to it; a flag stands alone."""
        return self.options.get("action") not in {"store_true", "version"}

    @property
    def value(self) -> str:
        """The placeholder of its value in help: ``USER``, or the possible values, with ``|`` between."""
        if metavar := self.options.get("metavar"):
            return str(metavar)
        return "|".join(map(str, self.options.get("choices", ()))) or self.names[0].lstrip("-").upper()

    @property
    def is_required(self) -> bool:
        """Whether the command does nothing without it."""
        if self.is_option:
            return bool(self.options.get("required"))
        return self.options.get("nargs") not in {"?", "*"}


def argument(*names: str, help: str, **options: Any) -> Argument:  # noqa: A002  # as argparse names it
    """Describe an option or an operand, as for `argparse.ArgumentParser.add_argument`."""
    return Argument(names, help, options)


def flag(*names: str, help: str) -> Argument:  # noqa: A002  # as argparse names it
    """Describe an option without a value."""
    return Argument(names, help, {"action": "store_true"})


class OneOf(NamedTuple):
    """Arguments of which at most one may be given."""

    arguments: tuple[Argument, ...]


class Example(NamedTuple):
    """A call of the program, and what it is for."""

    purpose: str
    command: str


class Command(NamedTuple):
    """A program, a group of commands, or one command."""

    name: str
    summary: str
    """One line, without a capital letter and a full stop: it stands in the list of commands."""
    details: str = ""
    """What it does and changes, and any special exit statuses. Empty lines separate paragraphs."""
    arguments: tuple[Argument | OneOf, ...] = ()
    examples: tuple[Example, ...] = ()
    commands: tuple["Command", ...] = ()
    run: Callable[[Any], int] | None = None
    needs_command: bool = True
    """Whether one of its commands must be named, if it has any."""
    everywhere: tuple[Argument, ...] = ()
    """Options that it takes before a command and after it."""
    notes: str = ""
    """Lines below the help, as they are."""
    also: tuple[str, ...] = ()
    """Words by which people look for it, as other programs call the like."""

    @property
    def every_argument(self) -> Iterator[Argument]:
        """Its arguments, one by one."""
        for each in self.arguments:
            yield from each.arguments if isinstance(each, OneOf) else (each,)


class _Parser(argparse.ArgumentParser):
    """A parser that builds its help text on demand."""

    command: Command

    def format_help(self) -> str:
        command, width = self.command, min(shutil.get_terminal_size().columns, _WIDEST) - 2
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        self.description = "\n\n".join(_wrapped(text, width) for text in paragraphs(command))
        self.epilog = "\n\n".join(filter(None, (_examples(command, width), command.notes)))
        return super().format_help()

    def show_help(self, _: Any) -> NoReturn:
        """Show what there is to choose from, where a command is missing."""
        self.print_help(sys.stderr)
        self.exit(_USAGE)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:  # noqa: SLF001  # it has no other name
            found = [f"`{self.prog} {name}`" for name in similar(value, self.command.commands)]
            if not self.command.needs_command:
                self.print_usage(sys.stderr)  # the word may be the value of an option that was mistyped
            meant = f" Did you mean {' or '.join(found)}?" if found else ""
            self.exit(
                _USAGE,
                f"{self.prog}: there is no command {value!r}.{meant}\n`{self.prog} --help` lists the commands\n",
            )
        super()._check_value(action, value)


def similar(word: str, commands: Collection[Command]) -> list[str]:
    """Return the names of the commands that a word may mean, the likeliest first."""
    import difflib  # noqa: PLC0415  # takes 2 ms, and is for a typo only

    meant = {other: command.name for command in commands for other in (*command.also, command.name)}
    if word.lower() in meant:
        return [meant[word.lower()]]
    return list(dict.fromkeys(meant[found] for found in difflib.get_close_matches(word.lower(), meant)))


def parser(
    program: Command,
    words: Collection[str] | None = None,
    defined: Callable[[Argument, argparse.Action], None] = lambda *_: None,
) -> argparse.ArgumentParser:
    """Return the parser of a program. The result has the command's function as ``run``.

    Of ``words``, the command line if it is known, only the commands that it may mean are defined in full: all of
    waportctl's take 10 ms. ``defined`` is called with each argument and what argparse made of it.
    """
    top = _Parser(prog=program.name)
    for each in program.everywhere:
        defined(each, top.add_argument(*each.names, help=each.help, **each.options))
    _Definition(program, words, defined).add(top, program)
    return top


class _Definition:
    """Describes a program to argparse."""

    def __init__(
        self,
        program: Command,
        words: Collection[str] | None,
        defined: Callable[[Argument, argparse.Action], None],
    ) -> None:
        self._program, self._words, self._defined = program, words, defined

    def add(self, target: _Parser, command: Command) -> None:
        """Define the arguments of a command, and the commands below it."""
        target.command = command
        for each in command.arguments:
            group = target.add_mutually_exclusive_group() if isinstance(each, OneOf) else target
            for one in each.arguments if isinstance(each, OneOf) else (each,):
                self._defined(one, group.add_argument(*one.names, help=one.help, **one.options))
        if command.run or command.needs_command:
            target.set_defaults(run=command.run or target.show_help)
        if command.commands:
            self._add_commands(target, command)
        elif command is not self._program:
            for each in self._program.everywhere:
                # An option that is missing after the command does not overwrite one before it.
                options = {**each.options, "default": argparse.SUPPRESS}
                self._defined(each, target.add_argument(*each.names, help=each.help, **options))

    def _add_commands(self, target: _Parser, command: Command) -> None:
        dest = "command" if command is self._program else "action"
        below = target.add_subparsers(dest=dest, metavar=dest.upper())
        for each in command.commands:
            is_meant = self._words is None or each.name in self._words
            # The completions show the description; the help makes its own.
            new = below.add_parser(each.name, help=each.summary, description=each.summary, add_help=is_meant)
            if is_meant:
                self.add(new, each)


def paragraphs(command: Command) -> list[str]:
    """Return the summary and the details of a command, each paragraph on one line."""
    texts = [sentence(command.summary), *command.details.split("\n\n")]
    return [" ".join(text.split()) for text in texts if text.strip()]


def sentence(words: str) -> str:
    """Return a summary or a help text as a sentence; a program's name stays as it is."""
    first = words if words.startswith("waport") else words[:1].upper() + words[1:]
    return first + ("" if first.endswith((".", "?", "!")) else ".")


def _examples(command: Command, width: int) -> str:
    lines = ["examples:"] if command.examples else []
    for example in command.examples:
        lines += [_wrapped(f"{sentence(example.purpose)[:-1]}:", width, "  "), f"      {example.command}"]
    return "\n".join(lines)


def _wrapped(text: str, width: int, indent: str = "") -> str:
    import textwrap  # noqa: PLC0415  # takes 1 ms, and is for help only

    return textwrap.fill(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
