"""The files for systemd that a fleet has beside those of a single host.

They bind the sessions to the lease: waportd-lease.service, and a drop-in for each unit that is concerned. Two more carry
the logins. The templates are ``units/fleet/*.in``, read as `waportd.units` reads its own.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from waportd.config import Bus, Config, installed_below, shipped
from waportd.contract import EXIT_CODES
from waportd.errors import ConfigError
from waportd.fleet.timing import Timing
from waportd.model import Port
from waportd.units import remove_units, render, unit_path, write_units

LEASE_UNIT: Final = "waportd-lease.service"
_LOGIN_UNITS: Final = ("whatsapp-export@.service", "whatsapp-import@.service")
_LOGINS: Final = "logins"

DROP_IN: Final = "50-fleet.conf"
"""The name of the drop-in of each other unit: those of `systemctl edit` come after it."""

SESSIONS: Final = Path("/sys/fs/cgroup/whatsapp.slice")
"""The control group of all sessions, on the system bus."""


def runtime_folder(*, system: bool) -> Path:
    """Return the folder of the lease unit (`waportd.fleet.lease`)."""
    runtime = Path("/run" if system else os.environ["XDG_RUNTIME_DIR"])
    return runtime / "waportd/instances"


def logins_folder(config: Config) -> Path:
    """Return the daemon's folder for logins that come or go."""
    return config.store.database.parent / _LOGINS


def export_unit(port: Port) -> str:
    """Name the unit that copies the login of the server on a port to the daemon's folder."""
    return f"whatsapp-export@{port}.service"


def import_unit(port: Port) -> str:
    """Name the unit that puts a login of the daemon's folder where the server on a port finds it."""
    return f"whatsapp-import@{port}.service"


_BOUND: Final = ("whatsapp@.service", "whatsapp@.socket")
_SYSTEM_ONLY: Final = ("waportd.service",)


def render_units(
    *,
    bus: Bus,
    timing: Timing,
    programs: Path | None = None,
    sessions: Path = SESSIONS,
    logins: Path | None = None,
    store: Path | None = None,
) -> dict[str, str]:
    """Return the text of each file by its path below a folder of units.

    ``programs`` is the folder of the programs of the units, if it is not the installed one. ``sessions`` is the control
    group of whatsapp.slice: that of a user's own systemd lies elsewhere. ``logins`` is the daemon's folder of logins,
    and ``store`` the one in which they are kept for all hosts. Raises ConfigError when a path cannot stand in a unit
    file, or when the times are not safe.
    """
    if faults := timing.faults():
        raise ConfigError(f"the times of the lease are not safe: {'; '.join(faults)}")
    logins = logins or logins_folder(Config())
    programs = programs or installed_below() / "libexec/waportd"
    values = {
        "lease": unit_path(programs / "lease"),
        "login": unit_path(programs / "login"),
        "logins": unit_path(logins),
        "logins_above": unit_path(logins.parent),
        "store": f"ReadWritePaths=-{unit_path(store)}" if store else "",
        "manager": "system" if bus is Bus.SYSTEM else "user",
        # For units with DynamicUser=, systemd keeps the state in "private".
        "state": "%S/private/whatsapp" if bus is Bus.SYSTEM else "%S/whatsapp",
        "sessions": unit_path(sessions),
        # As root, outside of the unit's sandbox.
        "privileged": "+" if bus is Bus.SYSTEM else "",
        "watchdog_s": f"{timing.watchdog_s:g}",
        "abort_s": f"{timing.abort_s:g}",
        "stop_s": f"{timing.stop_s:g}",
        "timing": "\n".join(f"Environment={name}={value}" for name, value in timing.changed()),
        "disconnected": str(EXIT_CODES["disconnected"]),
    }
    drop_ins = [f"{unit}.d" for unit in _BOUND + (_SYSTEM_ONLY if bus is Bus.SYSTEM else ())]
    sources = {name: name for name in (LEASE_UNIT, *_LOGIN_UNITS)} | {
        f"{folder}/{DROP_IN}": folder for folder in drop_ins
    }
    templates = shipped("units") / "fleet"
    try:
        texts = {target: (templates / f"{name}.in").read_text("utf-8") for target, name in sources.items()}
    except OSError as error:
        raise ConfigError(
            f"{error.filename} cannot be read: {error.strerror}",
            hint="it comes with waportd: reinstall waportd",
        ) from error
    return {target: render(sources[target], text, bus, values) for target, text in texts.items()}


def write(output: Path, units: dict[str, str]) -> bool:
    """Write the files of `render_units` below a folder of units; return whether systemd must read them again.

    Raises ConfigError when one cannot be written, or is not ours to replace.
    """
    changed = [write_units((output / name).parent, {Path(name).name: text}) for name, text in units.items()]
    return any(changed)


def remove(output: Path, names: Iterable[str]) -> None:
    """Remove files that `write` wrote below a folder of units, and the folders of drop-ins that are empty then.

    Those that are missing, or not ours, are left alone. Raises ConfigError.
    """
    for path in (output / name for name in names):
        remove_units(path.parent, [path.name])
        if path.parent != output:
            with contextlib.suppress(OSError):  # it holds others, or is missing
                path.parent.rmdir()
