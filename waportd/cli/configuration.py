"""``config check``: every fault of a configuration file at once."""

import dataclasses
import os

from waportd.cli import terminal
from waportd.cli.exits import Exit, Problem
from waportd.cli.main import Context
from waportd.config import InvalidConfig, load
from waportd.errors import ConfigError


def check(context: Context) -> Exit:
    """Check a file; needs no daemon."""
    path = context.options.file
    if path.exists() and not os.access(path, os.R_OK):
        raise Problem(
            f"{path} cannot be read by this user", "run it with sudo", Exit.NOT_PERMITTED, "permission_denied"
        )
    try:
        load(path)
    except InvalidConfig as error:
        if context.screen.as_json:
            faults = [dataclasses.asdict(fault) for fault in error.faults]
            context.screen.document({"file": str(path), "ok": False, "faults": faults})
        else:
            context.screen.text(str(error))
            terminal.complain(error.hint or "")
        return Exit.FAILED
    except ConfigError as error:
        raise Problem(error.message, error.hint, code=error.code) from error
    if context.screen.as_json:
        context.screen.document({"file": str(path), "ok": True, "faults": []})
    else:
        context.screen.text(f"{path}: ok")
    return Exit.OK
