"""Arguments that several commands take, and how their values are read."""

import argparse
import re
from pathlib import Path

from waportd.cli.locate import CONFIG
from waportd.command_line import Argument, argument, flag
from waportd.model import BUNDLED, ENGINE_PATTERN

_MAX_PORT = 65535
_MAX_HOURS = 24

USER = argument("user", metavar="USER", help="the user's number or name, as in the web app: 2, 2_1")
USERS = argument(
    "users", metavar="USER", nargs="+", help="the users' numbers or names, as in the web app: 2 3 2_1"
)
YES = flag(
    "-y", "--yes", help="do not ask for confirmation; without a terminal, destructive commands need this"
)
CONFIG_FILE = argument(
    "--config",
    metavar="FILE",
    type=Path,
    default=CONFIG,
    help=f"the configuration of the daemon (default: {CONFIG})",
)


def users_or_all(concerned: str) -> tuple[Argument, ...]:
    """Return the arguments of a command for some users or for all of a kind."""
    return (
        argument(
            "users", metavar="USER", nargs="*", help="the users' numbers or names, as in the web app: 2 3 2_1"
        ),
        flag("--all", help=f"instead of USER: {concerned}; shows them, and asks first"),
        flag("--dry-run", help="only show which users are affected"),
        YES,
    )


def version(text: str) -> str:
    """Read an exact version of whatsapp-web.js."""
    if not re.fullmatch(ENGINE_PATTERN, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not one exact version, such as 1.34.7")
    return text


def engine(text: str) -> str:
    """Read the name of an engine."""
    return text if text == BUNDLED else version(text)


def port(text: str) -> int:
    """Read a port."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number from 1 to 65535")
    return int(text)


def count(text: str) -> int:
    """Read a number of one or more."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def seconds(text: str) -> float:
    """Read a time in seconds."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e6:  # noqa: PLR2004  # also refuses nan
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number


def hours(text: str) -> int:
    """Read how many hours of the history to show."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MAX_HOURS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours from 1 to {_MAX_HOURS}")
    return int(text)
