"""``config check``: every fault of a configuration file at once."""

import dataclasses
from pathlib import Path

from waportd.cli import terminal
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.cli.locate import CONFIG, need_readable
from waportd.command_line import Command, argument

COMMANDS = Commands()


@COMMANDS.add(
    "check",
    "check a configuration file",
    """
    Shows every fault with its line and a suggestion, and warns of settings that do not go together. It needs no
    daemon, and changes nothing. Exit status 1: the file has faults.
    """,
    argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=Path,
        default=CONFIG,
        help=f"the file (default: {CONFIG})",
    ),
    examples={
        "check the configuration before a reload": "waportctl config check && sudo systemctl reload waportd",
        "check another file": "waportctl config check ./config.yaml",
    },
)
def check(context: Context) -> Exit:
    """Check a file; needs no daemon."""
    from waportd.advice import advise_here, check_readable
    from waportd.config import InvalidConfig, load
    from waportd.errors import ConfigError

    path = context.options.file
    need_readable(path)
    try:
        if path == CONFIG:
            check_readable(path)
        config = load(path)
    except InvalidConfig as error:
        if context.screen.as_json:
            faults = [dataclasses.asdict(fault) for fault in error.faults]
            context.screen.document({"file": str(path), "ok": False, "faults": faults, "warnings": []})
        else:
            context.screen.text(str(error))
            terminal.complain(error.hint or "")
        return Exit.FAILED
    except ConfigError as error:
        raise Problem(error.message, error.hint, code=error.code) from error
    found = advise_here(config)
    if context.screen.as_json:
        warnings = [advice._asdict() for advice in found]
        context.screen.document({"file": str(path), "ok": True, "faults": [], "warnings": warnings})
    else:
        context.screen.text(f"{path}: ok")
        for advice in found:
            terminal.complain(f"warning: {advice}")
    return Exit.OK


GROUP = Command(
    "config",
    "check the configuration",
    "",
    commands=tuple(COMMANDS),
)
