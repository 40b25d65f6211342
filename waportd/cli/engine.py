"""``engine``: which whatsapp-web.js the servers run. The work is done in `engines`, which is slow to import."""

import argparse
from pathlib import Path

from waportd.cli.arguments import CONFIG_FILE, YES, count, engine, seconds, version
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit
from waportd.command_line import Argument, Command, argument, flag

COMMANDS = Commands()

_RESTART = flag(
    "--restart", help="restart, one by one, the servers that run another version than they should"
)


def _integrity(text: str) -> str:
    from waportd.cli.engine_files import INTEGRITY

    if not INTEGRITY.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a SHA-512 as npm writes it: sha512-…==")
    return text


def _engine_or_default(text: str) -> str:
    return text if text == "default" else engine(text)


def _checked(text: str) -> Argument:
    return argument("--integrity", metavar="SHA512", type=_integrity, help=f"{text}: sha512-…")


@COMMANDS.add(
    "list",
    "list the versions, and how many users have each",
    """
    Shows each version of whatsapp-web.js on this host, where it came from, how many users are to run it, and how many
    servers run it now. The default of the configuration has a *.
    """,
    CONFIG_FILE,
    examples={"list the versions": "waportctl engine list"},
)
def list_engines(context: Context) -> Exit:
    """List what there is, and who uses it."""
    from waportd.cli import engines

    return engines.list_engines(context)


@COMMANDS.add(
    "install",
    "install a version beside the others, without using it (needs root)",
    """
    Gets a version from the npm registry, or from a file of `engine pack`, checks it, and puts it below
    /var/lib/waportd-engines. No server runs it until `engine use` says so.
    """,
    argument(
        "version",
        metavar="VERSION",
        nargs="?",
        type=version,
        help="the version, from the npm registry: 1.34.7",
    ),
    argument(
        "--file",
        metavar="FILE",
        type=Path,
        help="take it from a file that `engine pack` made, without a registry",
    ),
    _checked("the checksum of the package or file (default: what the registry says, or any file)"),
    CONFIG_FILE,
    examples={
        "install a version from the registry": "sudo waportctl engine install 1.34.8",
        "install it from a file": "sudo waportctl engine install --file waportd-engine-1.34.8.tgz",
    },
)
def install(context: Context) -> Exit:
    """Install another version beside the others."""
    from waportd.cli import engines

    return engines.install(context)


@COMMANDS.add(
    "compile",
    "compile versions for this host's node, so that servers start faster (needs root)",
    """
    A server loads a compiled version in half the time. `engine install` and the installation of the package do this, and
    so does an upgrade of node; it has to be done by hand only where node comes from elsewhere.
    """,
    argument(
        "engine",
        metavar="ENGINE",
        nargs="*",
        type=engine,
        help="the version, or bundled (default: all that there are)",
    ),
    CONFIG_FILE,
    examples={"compile all versions": "sudo waportctl engine compile"},
)
def compile_engines(context: Context) -> Exit:
    """Compile versions for this host's node."""
    from waportd.cli import engines

    return engines.compile_all(context)


@COMMANDS.add(
    "pack",
    "write a version into a file, for hosts that cannot reach a registry",
    """
    Gets the version from the npm registry if it is not installed here, and prints the checksum for --integrity on the
    other host. It needs no daemon.
    """,
    argument("version", metavar="VERSION", type=version, help="the version, installed here or not"),
    argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="the file to write (default: waportd-engine-VERSION.tgz)",
    ),
    _checked("the checksum of the registry's package"),
    CONFIG_FILE,
    examples={"write a version into a file": "waportctl engine pack 1.34.8 --output engine.tgz"},
)
def pack(context: Context) -> Exit:
    """Write an engine into a file."""
    from waportd.cli import engines

    return engines.pack(context)


@COMMANDS.add(
    "use",
    "choose the version that servers start with (needs root, except with --user)",
    """
    Writes instances.engine into the configuration and reloads the daemon; with --user, it sets the option of these
    users instead. Servers that run keep their version until they restart: --restart restarts them one by one.

    With --canary N, it first restarts the servers of N users with the version, one by one, and checks that each gets
    connected in time, or shows a code if no phone is linked. Only then it is used for all. Exit status 7: a user did
    not get there, and everything was undone.
    """,
    argument(
        "engine",
        metavar="ENGINE",
        type=_engine_or_default,
        help="the version, or bundled; with --user also default: that of the configuration",
    ),
    argument(
        "--user", metavar="USER", action="append", help="for this user only; may be given several times"
    ),
    argument("--canary", metavar="N", type=count, help="first try it on N users whose servers run"),
    argument(
        "--limit",
        metavar="SECONDS",
        type=seconds,
        help="with --canary: how long a user may take (default: three times the last start, from 60 to 600)",
    ),
    argument(
        "--watch",
        metavar="SECONDS",
        type=seconds,
        default=20.0,
        help="with --canary: how long each must stay connected before the next one (default: 20)",
    ),
    _RESTART,
    YES,
    CONFIG_FILE,
    examples={
        "try a version on three users, then use it for all": "sudo waportctl engine use 1.34.8 --canary 3",
        "use a version for user 2 only": "waportctl engine use 1.34.8 --user 2 --restart",
        "let user 2 follow the configuration again": "waportctl engine use default --user 2",
    },
)
def use(context: Context) -> Exit:
    """Make an engine the one that servers start with."""
    from waportd.cli import engines

    return engines.use(context)


@COMMANDS.add(
    "rollback",
    "go back to the version before, or end a trial that was interrupted (needs root)",
    """
    Writes the version that was the default before into the configuration, and reloads the daemon. If a trial of
    `engine use --canary` was interrupted, it gives its users the configured version again instead.
    """,
    _RESTART,
    YES,
    CONFIG_FILE,
    examples={"go back and restart the servers": "sudo waportctl engine rollback --restart"},
)
def rollback(context: Context) -> Exit:
    """Go back to the engine before, or end a trial that was cut short."""
    from waportd.cli import engines

    return engines.rollback(context)


@COMMANDS.add(
    "remove",
    "remove a version that nobody uses (needs root)",
    """
    Deletes the folder of the version. It refuses if the configuration or a user names the version, or if a server
    runs it; the message says how to change that.
    """,
    argument("version", metavar="VERSION", type=version, help="the version"),
    CONFIG_FILE,
    examples={"remove a version": "sudo waportctl engine remove 1.34.6"},
    also=("rm", "delete", "uninstall"),
)
def remove(context: Context) -> Exit:
    """Remove an engine that nobody uses."""
    from waportd.cli import engines

    return engines.remove(context)


GROUP = Command(
    "engine",
    "manage the versions of whatsapp-web.js",
    """
    Servers run the bundled version of whatsapp-web.js, or another one that was installed beside it. A version is
    called an engine.
    """,
    commands=tuple(COMMANDS),
)
