"""What a command works with: its options, the terminal, and the daemon."""

import argparse
import dataclasses
import functools

from waportd.cli import terminal
from waportd.cli.caller import Caller
from waportd.cli.exit_status import Exit, Problem
from waportd.cli.locate import CONFIG, find_socket
from waportd.cli.terminal import Screen
from waportd.client import Client


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
        """Ask the person on the terminal, unless ``--yes`` was given.

        Without a terminal, what ``loses`` something is not done: raises Problem.
        """
        if loses and not self.options.yes and not self.screen.interactive:
            raise Problem(
                f"there is no terminal to ask this on: {question}",
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
