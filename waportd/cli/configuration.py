"""``config check``: every fault of a configuration file at once."""

import dataclasses
import os

from waportd.advice import advise, check_readable
from waportd.cli import terminal
from waportd.cli.exits import Exit, Problem
from waportd.cli.main import Context
from waportd.cli.settings import CONFIG
from waportd.config import InvalidConfig, load
from waportd.errors import ConfigError
from waportd.units import environment_owners


def check(context: Context) -> Exit:
    """Check a file; needs no daemon."""
    path = context.options.file
    if path.exists() and not os.access(path, os.R_OK):
        raise Problem(
            f"{path} cannot be read by this user", "run it with sudo", Exit.NOT_PERMITTED, "permission_denied"
        )
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
    found = advise(config, environment_owners(config.store.instances))
    if context.screen.as_json:
        warnings = [advice._asdict() for advice in found]
        context.screen.document({"file": str(path), "ok": True, "faults": [], "warnings": warnings})
    else:
        context.screen.text(f"{path}: ok")
        for advice in found:
            terminal.complain(f"warning: {advice}")
    return Exit.OK
