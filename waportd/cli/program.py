"""waportctl as a whole: all its commands, in the order of its help."""

from waportd import __version__
from waportd.cli import (
    audit,
    backup,
    configuration,
    doctor,
    engine,
    fleet,
    history,
    import_session,
    linking,
    logs,
    messages,
    passkey,
    ports,
    proxy,
    settings,
    tokens,
    users,
    web,
)
from waportd.cli.exit_status import MEANINGS
from waportd.cli.locate import CONFIG
from waportd.client import SOCKET
from waportd.command_line import Command, Example, argument, flag

PROGRAM = Command(
    "waportctl",
    "manage the WhatsApp servers that waportd runs for the users of a web app",
    arguments=(
        argument("--version", action="version", version=f"waportctl {__version__}", help="show the version"),
    ),
    examples=(
        Example("see how all users are", "waportctl list"),
        Example("link a phone to user 2", "waportctl qr 2"),
        Example("see the long help of a command", "waportctl start --help"),
    ),
    commands=(
        *users.COMMANDS,
        *settings.COMMANDS,
        *proxy.COMMANDS,
        *logs.COMMANDS,
        *history.COMMANDS,
        *linking.COMMANDS,
        *passkey.COMMANDS,
        *messages.COMMANDS,
        *ports.COMMANDS,
        *web.COMMANDS,
        *doctor.COMMANDS,
        configuration.GROUP,
        *backup.COMMANDS,
        *import_session.COMMANDS,
        engine.GROUP,
        fleet.GROUP,
        fleet.HOST_GROUP,
        tokens.GROUP,
        *audit.COMMANDS,
    ),
    everywhere=(
        flag("--json", help="print JSON: documents of the API, one per line for logs"),
        argument(
            "--socket",
            metavar="PATH",
            help=f"the API socket (default: $WAPORTD_SOCKET, else api.socket of {CONFIG}, else {SOCKET})",
        ),
    ),
    notes="\n".join(["exit status:", *(f"  {status:<4} {meaning}" for status, meaning in MEANINGS.items())]),
)
