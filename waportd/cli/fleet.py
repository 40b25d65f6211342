"""``fleet`` and ``host``: several hosts that share their users. The work is done in `fleets`, which needs waportd-fleet."""

from collections.abc import Callable
from pathlib import Path

from waportd.cli.arguments import CONFIG_FILE, YES
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.command_line import Command, argument

COMMANDS = Commands()
HOST_COMMANDS = Commands()

_ADDRESS = "IP:PORT at which the other hosts reach this one; not from the internet"


def _in_a_fleet(run: Callable[[Context], Exit]) -> Callable[[Context], Exit]:
    """Say how to get what a command needs, where it is missing."""

    def checked(context: Context) -> Exit:
        try:
            return run(context)
        except ModuleNotFoundError as error:
            raise Problem(
                f"this needs {error.name}, which is not installed",
                "`apt install waportd-fleet`",
                code="not_installed",
            ) from error

    checked.__doc__ = run.__doc__
    return checked


@COMMANDS.add(
    "init",
    "begin a fleet with this host (needs root)",
    """
    Makes the fleet's own CA on this host, puts this host on the list in etcd, and makes its users known there. Sessions
    that run continue. etcd must be there; of three members, one may fail.
    """,
    argument("name", metavar="NAME", help="the name of this host in the fleet, such as a"),
    argument("--address", metavar="IP:PORT", required=True, help=_ADDRESS),
    argument(
        "--engine",
        metavar="URL",
        action="append",
        required=True,
        help="where a member of etcd is, such as https://192.0.2.1:2379; repeat it for each member",
    ),
    argument(
        "--snapshots",
        metavar="FOLDER",
        type=Path,
        help="a folder that all hosts have, such as a mount of NFS: logins lie there, encrypted, and move with their users",
    ),
    argument(
        "--fleet", metavar="FLEET", default="waportd", help="the name of the fleet (default: %(default)s)"
    ),
    CONFIG_FILE,
    examples={
        "begin a fleet": (
            "sudo waportctl fleet init a --address 192.0.2.1:7467 --engine https://192.0.2.1:2379 "
            "--snapshots /mnt/waportd"
        )
    },
)
@_in_a_fleet
def init(context: Context) -> Exit:
    """Begin a fleet with this host."""
    from waportd.cli import fleets

    return fleets.init(context)


@COMMANDS.add(
    "invite",
    "make the file with which another host joins (needs root, on the host that began the fleet)",
    """
    The file holds the key and the certificate of the other host, for two years. Copy it there with scp, and delete it
    when that host has joined. The same command makes the next one before it ends.
    """,
    argument("name", metavar="NAME", help="the name of the other host"),
    argument("file", metavar="FILE", type=Path, help="the file to write"),
    argument(
        "--address", metavar="IP:PORT", required=True, help="IP:PORT at which the fleet reaches that host"
    ),
    CONFIG_FILE,
    examples={"invite a host": "sudo waportctl fleet invite b b.bundle --address 192.0.2.2:7467"},
)
@_in_a_fleet
def invite(context: Context) -> Exit:
    """Make the file with which another host joins."""
    from waportd.cli import fleets

    return fleets.invite(context)


@COMMANDS.add(
    "join",
    "make this host one of a fleet (needs root)",
    """
    Takes a file of `fleet invite`. Users who are on this host stay here, with their ports and logins; a user or a port
    that the fleet has already is refused before anything is changed.
    """,
    argument("file", metavar="FILE", type=Path, help="the file that `fleet invite` made for this host"),
    CONFIG_FILE,
    examples={"join a fleet": "sudo waportctl fleet join b.bundle"},
)
@_in_a_fleet
def join(context: Context) -> Exit:
    """Make this host one of a fleet."""
    from waportd.cli import fleets

    return fleets.join(context)


@COMMANDS.add(
    "status",
    "show the hosts of the fleet (needs root)",
    """
    Shows each host with its address, how many users it has, and whether it holds its lease. A host without a lease is
    silent: its users are on others a minute later. Exit status 1: a host is silent, or the fleet is not settled.
    """,
    CONFIG_FILE,
    examples={"see how the hosts are": "sudo waportctl fleet status"},
)
@_in_a_fleet
def status(context: Context) -> Exit:
    """Show the hosts of the fleet."""
    from waportd.cli import fleets

    return fleets.status(context)


@HOST_COMMANDS.add(
    "evict",
    "remove a host that does not come back (needs root)",
    """
    For a host that is dead for good. Its users go to other hosts, and it is no longer waited for. Be sure that it is
    off: after this nobody asks any more whether it still runs sessions. It comes back with `fleet join`.
    """,
    argument("name", metavar="NAME", help="the name of the host"),
    YES,
    CONFIG_FILE,
    examples={"remove a dead host": "sudo waportctl host evict c"},
)
@_in_a_fleet
def evict(context: Context) -> Exit:
    """Remove a host that does not come back."""
    from waportd.cli import fleets

    return fleets.evict(context)


GROUP = Command(
    "fleet",
    "share the users among several hosts",
    """
    Several hosts with waportd are one fleet: the users of a dead host are on others after a minute. It needs the
    package waportd-fleet on each host, and etcd, on three of them or on three others. Logins move with their users
    where all hosts have a folder in common (fleet init --snapshots). Not complete yet: a host answers for its own users
    only.
    """,
    commands=tuple(COMMANDS),
)
HOST_GROUP = Command(
    "host",
    "manage the hosts of a fleet",
    "What is done with a single host of a fleet. `waportctl fleet status` lists them.",
    commands=tuple(HOST_COMMANDS),
)
