"""The command line of waportctl: help, manual page and completion are all made from it."""

import argparse
import re
from pathlib import Path

from waportd import __version__
from waportd.cli.exits import MEANINGS
from waportd.cli.settings import CONFIG
from waportd.client import SOCKET
from waportd.model import BUNDLED, ENGINE_PATTERN

_DESCRIPTION = "Shows and steers the WhatsApp servers that waportd runs for the users of a web app."

_MAX_PORT = 65535


def parser() -> argparse.ArgumentParser:
    """Return the parser. Each command's ``run`` is the ``module:function`` of this package that does it."""
    top = argparse.ArgumentParser(
        prog="waportctl",
        description=_DESCRIPTION,
        epilog="exit status:\n"
        + "\n".join(f"  {status:<4} {meaning}" for status, meaning in MEANINGS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"waportctl {__version__}")
    _add_common(top, default=None)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_users(commands)
    _add_linking(commands)
    _add_administration(commands)
    return top


def _add_common(target: argparse.ArgumentParser, default: str | None) -> None:
    target.add_argument(
        "--json",
        action="store_true",
        default=False if default is None else default,
        help="print JSON: documents of the API, one per line for logs",
    )
    target.add_argument(
        "--socket",
        metavar="PATH",
        default=default,
        help=f"the API socket (default: $WAPORTD_SOCKET, else api.socket of {CONFIG}, else {SOCKET})",
    )


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, run: str, text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    # Accepted before and after the command; what is missing there leaves what stands before.
    _add_common(command, default=argparse.SUPPRESS)
    command.set_defaults(run=run)
    return command


def _add_user(command: argparse.ArgumentParser) -> None:
    command.add_argument("user", metavar="USER", help="the user's number or name, as in the web app: 2, 2_1")


def _add_users_or_all(command: argparse.ArgumentParser, concerned: str) -> None:
    command.add_argument(
        "users", metavar="USER", nargs="*", help="the users' numbers or names, as in the web app: 2 3 2_1"
    )
    command.add_argument(
        "--all", action="store_true", help=f"in place of USER: {concerned}; asks first, and shows whom"
    )
    command.add_argument("--dry-run", action="store_true", help="only show whom it concerns")
    _add_yes(command)


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=CONFIG,
        help=f"the configuration of the daemon (default: {CONFIG})",
    )


def _add_yes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-y",
        "--yes",
        action="store_true",
        help="do not ask; needed for what is asked where there is no terminal",
    )


def _add_users(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _command(commands, "list", "users:list_users", "list all users with the state of their servers")
    command.add_argument("--memory", action="store_true", help="measure memory and CPU, too; takes longer")
    _add_user(_command(commands, "show", "users:show", "show everything about one user"))
    command = _command(commands, "start", "users:start", "start the servers of users")
    _add_users_or_all(command, "everybody whose phone is linked and whose server does not run")
    command.add_argument(
        "--wait",
        choices=("none", "listening", "qr", "ready"),
        default="listening",
        help="how far the server must have come before the command ends (default: listening)",
    )
    command.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="how long to wait (default: depends on --wait)"
    )
    command = _command(commands, "stop", "users:stop", "stop the servers of users and keep their logins")
    _add_users_or_all(command, "everybody who is not stopped")
    command = _command(commands, "restart", "users:restart", "start the servers of users anew")
    _add_users_or_all(command, "everybody whose server runs")
    command = _command(commands, "logout", "users:logout", "unlink users' phones and delete their sessions")
    _add_users_or_all(command, "everybody whose phone is linked")
    command = _command(
        commands, "delete", "users:delete", "stop the user's server, delete the session, free the port"
    )
    _add_user(command)
    _add_yes(command)
    command = _command(commands, "logs", "logs:show", "show the journal of the user's server")
    _add_user(command)
    command.add_argument(
        "-n", "--lines", type=_count, default=100, metavar="N", help="so many lines (default: 100)"
    )
    command.add_argument("-f", "--follow", action="store_true", help="go on with what comes, until Ctrl-C")


def _add_audit(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _command(
        commands, "audit", "audit:show", "show who changed what through the API, from the journal"
    )
    command.add_argument("--user", metavar="USER", help="what concerns this user only")
    command.add_argument(
        "--since",
        metavar="WHEN",
        default="7d",
        help="how far to look back: 30m, 12h, 7d, or a day (default: 7d)",
    )


def _add_linking(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _command(
        commands,
        "qr",
        "linking:qr",
        "draw the user's QR code until a phone is linked; a new user gets a server",
    )
    _add_user(command)
    command.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="give up after so long (default: never on a terminal, else 90)",
    )
    command = _command(
        commands, "pair", "linking:pair", "get a code to type on the user's phone, in place of scanning"
    )
    _add_user(command)
    command.add_argument(
        "phone", metavar="PHONE", help="the phone's number with country code: +55 11 99999-8888"
    )
    command = _command(
        commands, "connect-link", "linking:connect_link", "make a link to the connect page of one user"
    )
    _add_user(command)
    command.add_argument(
        "--ttl", type=_count, default=600, metavar="SECONDS", help="how long the link holds (default: 600)"
    )


def _add_administration(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _command(commands, "port", "ports:port", "show whose port that is, and which process holds it")
    command.add_argument("port", type=_port, metavar="PORT", help="the port")
    command.add_argument(
        "--end-stale",
        action="store_true",
        help="end a left-over whatsapp_server.js of an earlier setup that holds the port; nothing else is ever "
        "ended (needs root)",
    )
    command = _command(commands, "web", "web:serve", "open the dashboard in a browser, until Ctrl-C")
    command.add_argument("--no-browser", action="store_true", help="only print the link")
    command.add_argument(
        "--listen",
        type=_port,
        default=0,
        metavar="PORT",
        help="the port on 127.0.0.1 to serve it on, e.g. for ssh -L (default: any free one)",
    )
    command = _command(
        commands, "doctor", "doctor:run", "check everything that waportd needs, and say what mends it"
    )
    _add_config(command)
    command.add_argument("--offline", action="store_true", help="do not try to reach WhatsApp")
    command.add_argument(
        "--upstream",
        action="store_true",
        help="only look whether WhatsApp's page is as it is known, in a browser of its own without a login, up to a "
        "code that nobody scans: exit status 0 it is, 1 some features are affected, 2 no code or no session, 3 the "
        "page was not reached or refused",
    )
    command.add_argument(
        "--user", metavar="USER", help="with --upstream: what the user's server has found, logged in"
    )
    command.add_argument(
        "--engine",
        metavar="ENGINE",
        type=_engine,
        help="with --upstream: look with this version of whatsapp-web.js (default: that of the configuration)",
    )
    config = commands.add_parser(
        "config", help="check the configuration", description="Check the configuration."
    )
    actions = config.add_subparsers(dest="action", metavar="ACTION", required=True)
    command = _command(actions, "check", "configuration:check", "check a configuration file")
    command.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=Path,
        default=CONFIG,
        help=f"the file (default: {CONFIG})",
    )
    command = _command(
        commands,
        "import-session",
        "adoption:import_session",
        "take over a linked session of an earlier setup",
    )
    command.add_argument(
        "target",
        metavar="PORT|USER",
        help="the port that the session had (a number of 1024 and more), or the user whom it belongs to",
    )
    command.add_argument(
        "--from",
        dest="folder",
        metavar="DIR",
        type=Path,
        required=True,
        help="the folder .wwebjs_auth_PORT, or the one that holds it; it is copied and stays as it is",
    )
    command.add_argument(
        "--user",
        metavar="USER",
        help="whom it belongs to, where PORT does not tell (default: who prefers PORT)",
    )
    _add_config(command)
    command.add_argument(
        "--no-start", action="store_true", help="do not start the server and wait until it is linked"
    )
    _add_engines(commands)
    _add_tokens(commands)
    _add_audit(commands)


def _add_engines(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    engine = commands.add_parser(
        "engine",
        help="manage the versions of whatsapp-web.js",
        description="Manage the versions of whatsapp-web.js that servers run, beside the bundled one.",
    )
    actions = engine.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_config(_command(actions, "list", "engines:list_engines", "list the versions, and who uses them"))
    command = _command(
        actions, "install", "engines:install", "put a version beside the others, for nobody yet (needs root)"
    )
    command.add_argument(
        "version",
        metavar="VERSION",
        nargs="?",
        type=_version,
        help="the version, from the npm registry: 1.34.7",
    )
    command.add_argument(
        "--file",
        metavar="FILE",
        type=Path,
        help="take it from a file that `engine pack` made, without a registry",
    )
    _add_integrity(
        command, "what the package, or the file, must be (default: what the registry says, or any file)"
    )
    _add_config(command)
    command = _command(
        actions, "pack", "engines:pack", "write a version into a file, for hosts that reach no registry"
    )
    command.add_argument(
        "version", metavar="VERSION", type=_version, help="the version, installed here or not"
    )
    command.add_argument(
        "--output", metavar="FILE", type=Path, help="where to (default: waportd-engine-VERSION.tgz)"
    )
    _add_integrity(command, "what the package of the registry must be")
    _add_config(command)
    command = _command(
        actions,
        "use",
        "engines:use",
        "have servers start with a version from now on; those that run keep theirs (needs root, but for --user)",
    )
    command.add_argument(
        "engine",
        metavar="ENGINE",
        type=_engine_or_default,
        help="the version, or bundled; with --user also default: that of the configuration",
    )
    command.add_argument(
        "--user", metavar="USER", action="append", help="for this user only; may be given several times"
    )
    command.add_argument(
        "--canary",
        metavar="N",
        type=_count,
        help="first try it on N users whose servers run, and start these anew one by one; for all only if each gets "
        "connected (or shows a code, where no phone is linked), else everything is taken back",
    )
    command.add_argument(
        "--limit",
        metavar="SECONDS",
        type=_seconds,
        help="how long such a user may take (default: three times the last start, from 60 to 600)",
    )
    command.add_argument(
        "--watch",
        metavar="SECONDS",
        type=_seconds,
        default=20.0,
        help="how long each must stay so before the next one (default: 20)",
    )
    _add_restart(command)
    _add_yes(command)
    _add_config(command)
    command = _command(
        actions,
        "rollback",
        "engines:rollback",
        "go back to the version before, or take back a trial that was cut short (needs root)",
    )
    _add_restart(command)
    _add_yes(command)
    _add_config(command)
    command = _command(actions, "remove", "engines:remove", "remove a version that nobody uses (needs root)")
    command.add_argument("version", metavar="VERSION", type=_version, help="the version")
    _add_config(command)


def _add_integrity(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("--integrity", metavar="SHA512", type=_integrity, help=f"{text}: sha512-…")


def _add_restart(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--restart",
        action="store_true",
        help="start the servers anew that run another version than they are to, one by one",
    )


def _add_tokens(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    token = commands.add_parser(
        "token", help="manage keys to the API over TCP", description="Manage keys to the API over TCP."
    )
    actions = token.add_subparsers(dest="action", metavar="ACTION", required=True)
    _command(actions, "list", "tokens:list_tokens", "list the keys, without their secrets")
    command = _command(actions, "create", "tokens:create", "make a key and print it, once")
    command.add_argument("name", metavar="NAME", help="what it is for, as the list shows it")
    what = command.add_mutually_exclusive_group()
    what.add_argument("--user", metavar="USER", help="for this user only (default: for everything)")
    what.add_argument(
        "--scope",
        choices=("admin", "read", "metrics"),
        default="admin",
        help="everything, all documents without codes and changes, or metrics and health",
    )
    command.add_argument("--days", metavar="N", type=_count, help="days after which it ends (default: never)")
    command = _command(actions, "revoke", "tokens:revoke", "take a key back")
    command.add_argument("id", metavar="ID", help="the key's id, as the list shows it")
    _command(actions, "revoke-links", "tokens:revoke_links", "take all connect links back, of all users")


def _version(text: str) -> str:
    if not re.fullmatch(ENGINE_PATTERN, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not one exact version, such as 1.34.7")
    return text


def _engine(text: str) -> str:
    return text if text == BUNDLED else _version(text)


def _engine_or_default(text: str) -> str:
    return text if text == "default" else _engine(text)


def _integrity(text: str) -> str:
    if not re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a SHA-512 as npm writes it: sha512-…==")
    return text


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number from 1 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:  # noqa: PLR2004  # also refuses nan
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds
