"""``fleet`` and ``host``: several hosts that share their users. The work is done in modules that need waportd-fleet."""

from collections.abc import Callable
from pathlib import Path

from waportd.cli.arguments import CONFIG_FILE, YES
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.command_line import Command, argument, flag

COMMANDS = Commands()
HOST_COMMANDS = Commands()

_ADDRESS = "IP:PORT at which the other hosts reach this one, on the port after it, too; not from the internet"
_ETCD = flag(
    "--etcd",
    help="have this host's own etcd (package etcd-server) be a member of the fleet's: for the first three hosts",
)
_FORWARD_PORTS = flag(
    "--forward-ports",
    help="have localhost:PORT of users of other hosts answer on this one, too: for a web app here that calls the servers "
    "themselves",
)


def in_a_fleet(run: Callable[[Context], Exit]) -> Callable[[Context], Exit]:
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
    that run continue. etcd is there already (--engine), or on the first three hosts themselves (--etcd); of three members,
    one may fail.
    """,
    argument("name", metavar="NAME", help="the name of this host in the fleet, such as a"),
    argument("--address", metavar="IP:PORT", required=True, help=_ADDRESS),
    argument(
        "--engine",
        metavar="URL",
        action="append",
        help="where a member of etcd is, such as https://192.0.2.1:2379; repeat it for each member",
    ),
    _ETCD,
    argument(
        "--snapshots",
        metavar="WHERE",
        default="peers",
        help="where logins lie, encrypted, so that they move with their users: peers, which are two other hosts for each "
        "user (the default); or a folder that all hosts have, such as a mount of NFS; or a bucket, such as "
        "s3:https://s3.example.org/bucket/prefix; none has them stay where they are",
    ),
    argument(
        "--bucket-key",
        metavar="FILE",
        type=Path,
        help="the key of the bucket: a file of credentials as the tools of AWS have it, with a section [default]",
    ),
    argument(
        "--fleet", metavar="FLEET", default="waportd", help="the name of the fleet (default: %(default)s)"
    ),
    _FORWARD_PORTS,
    CONFIG_FILE,
    examples={
        "begin a fleet, with etcd on its hosts": "sudo waportctl fleet init a --address 192.0.2.1:7467 --etcd",
        "begin a fleet, with an etcd that is there": (
            "sudo waportctl fleet init a --address 192.0.2.1:7467 --engine https://192.0.2.9:2379"
        ),
    },
)
@in_a_fleet
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
        "--address",
        metavar="IP:PORT",
        required=True,
        help="IP:PORT at which the fleet reaches that host, on the port after it, too",
    ),
    CONFIG_FILE,
    examples={"invite a host": "sudo waportctl fleet invite b b.bundle --address 192.0.2.2:7467"},
)
@in_a_fleet
def invite(context: Context) -> Exit:
    """Make the file with which another host joins."""
    from waportd.cli import fleets

    return fleets.invite(context)


@COMMANDS.add(
    "join",
    "make this host one of a fleet (needs root)",
    """
    Takes a file of `fleet invite`. Users who are on this host stay here, with their ports and logins; a user or a port
    that the fleet has already is refused before anything is changed. A host that has joined before gets its next
    certificate: each lasts two years, and `doctor` warns 30 days before. The first host gets it in the same way.
    """,
    argument("file", metavar="FILE", type=Path, help="the file that `fleet invite` made for this host"),
    _ETCD,
    _FORWARD_PORTS,
    CONFIG_FILE,
    examples={"join a fleet": "sudo waportctl fleet join b.bundle"},
)
@in_a_fleet
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
@in_a_fleet
def status(context: Context) -> Exit:
    """Show the hosts of the fleet."""
    from waportd.cli import fleets

    return fleets.status(context)


@COMMANDS.add(
    "doctor",
    "check what the fleet needs on this host, and say how to fix it (needs root)",
    """
    Checks the certificate, each member of etcd, the lease of this host, the way to the other hosts, how many of them have
    the logins of this host's users, and whether webhooks lead somewhere. `waportctl doctor` has it, too. Exit status 1:
    something failed.
    """,
    CONFIG_FILE,
    examples={"check the fleet from this host": "sudo waportctl fleet doctor"},
)
def doctor(context: Context) -> Exit:
    """Check what the fleet needs on this host."""
    from waportd.cli import checks
    from waportd.cli.doctor import report

    found = checks.examine(checks.Host(context.socket, context.options.config), ["fleet"])
    if not found:
        raise Problem("this host belongs to no fleet", "`waportctl fleet init` begins one", code="no_fleet")
    return report(context, found)


@COMMANDS.add(
    "rebalance",
    "share the users out again among the hosts (needs root)",
    """
    Orders as many users to other hosts as it takes for each host to have its share, by the number of users it may have
    (limits.max_sockets). Users who run nothing go first; a linked session is down for some seconds. Their hosts do it
    one after the other; `waportctl fleet status` shows how far they are.
    """,
    flag("--dry-run", help="only show who would go where"),
    YES,
    CONFIG_FILE,
    examples={
        "see who would go where": "sudo waportctl fleet rebalance --dry-run",
        "do it": "sudo waportctl fleet rebalance",
    },
)
@in_a_fleet
def rebalance(context: Context) -> Exit:
    """Share the users out again among the hosts."""
    from waportd.cli import moving

    return moving.rebalance(context)


@COMMANDS.add(
    "leave",
    "take this host out of its fleet (needs root)",
    """
    First all its users go to the other hosts, as with `host drain`. Then the units, keys and settings of the fleet are
    removed, and waportd runs on its own. The last host of a fleet keeps its users; sessions that run continue. It can
    join again, or begin another fleet.

    Exit status 1: some users do not leave, each with the reason; the host is still one of the fleet, and drains. After
    an interruption, the same command continues.
    """,
    YES,
    CONFIG_FILE,
    examples={"take this host out of its fleet": "sudo waportctl fleet leave"},
)
@in_a_fleet
def leave(context: Context) -> Exit:
    """Take this host out of its fleet."""
    from waportd.cli import leaving

    return leaving.leave(context)


@HOST_COMMANDS.add(
    "drain",
    "have all users of a host go to others, before it is shut down (needs root)",
    """
    No other host's users come there, and its own go to the other hosts, few at a time: those who run nothing first,
    linked ones last. A linked session is down for some seconds. It says how many go, and asks first if there is a
    terminal. Who is new there goes, too.
    It continues without this command, and after a restart of the daemon, until `waportctl host activate`.

    With --wait, exit status 1: some users do not leave, each with the reason.
    """,
    argument("name", metavar="NAME", help="the name of the host"),
    flag("--wait", help="show how many are left until none is, or only such as do not leave"),
    YES,
    CONFIG_FILE,
    examples={
        "empty host b before its maintenance": "sudo waportctl host drain b --wait",
        "in a script": "sudo waportctl host drain b --wait --yes",
    },
)
@in_a_fleet
def drain(context: Context) -> Exit:
    """Have all users of a host go to others."""
    from waportd.cli import moving

    return moving.drain(context)


@HOST_COMMANDS.add(
    "activate",
    "have a host take users again (needs root)",
    """
    Ends `host drain`: users who are still there stay. Those who have gone do not come back until
    `waportctl fleet rebalance` shares the users out again.
    """,
    argument("name", metavar="NAME", help="the name of the host"),
    CONFIG_FILE,
    examples={"take host b into use again": "sudo waportctl host activate b"},
)
@in_a_fleet
def activate(context: Context) -> Exit:
    """Have a host take users again."""
    from waportd.cli import moving

    return moving.activate(context)


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
@in_a_fleet
def evict(context: Context) -> Exit:
    """Remove a host that does not come back."""
    from waportd.cli import fleets

    return fleets.evict(context)


@in_a_fleet
def move_to_host(context: Context) -> Exit:
    """Have a user go to another host of the fleet."""
    from waportd.cli import moving

    return moving.order(context)


GROUP = Command(
    "fleet",
    "share the users among several hosts",
    """
    Several hosts with waportd are one fleet: the users of a dead host are on others after a minute. It needs the
    package waportd-fleet on each host, and etcd, on three of them or on three others. Any host answers calls for the
    users of all. The hosts reach one another on two ports: the one that is given, such as 7467, and the one after it.
    Logins move with their users: other hosts keep them, encrypted, or a folder that all have (fleet init --snapshots).
    """,
    commands=tuple(COMMANDS),
)
HOST_GROUP = Command(
    "host",
    "manage the hosts of a fleet",
    "What is done with a single host of a fleet. `waportctl fleet status` lists them.",
    commands=tuple(HOST_COMMANDS),
)
