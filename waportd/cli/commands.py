"""The list of commands that a module of waportctl has."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from waportd.cli.context import Context
from waportd.command_line import Argument, Command, Example, OneOf

_Run = TypeVar("_Run", bound=Callable[[Context], int])


class Commands(list[Command]):
    """Commands in the order of their definition."""

    def add(
        self,
        name: str,
        summary: str,
        details: str,
        *arguments: Argument | OneOf,
        examples: Mapping[str, str],
        also: tuple[str, ...] = (),
    ) -> Callable[[_Run], _Run]:
        """Make a function a command. ``examples`` are calls by their purpose; the rest is as in `Command`."""
        shown = tuple(Example(purpose, command) for purpose, command in examples.items())

        def register(run: _Run) -> _Run:
            self.append(Command(name, summary, details, arguments, shown, run=run, also=also))
            return run

        return register
