"""The files for systemd that a fleet has beside those of a single host.

They bind the sessions to the lease: waportd-lease.service, and a drop-in for each unit that is concerned. The
templates are ``units/fleet/*.in``, read as `waportd.units` reads its own.
"""

import os
from pathlib import Path
from typing import Final

from waportd.config import Bus, installed_below, shipped
from waportd.contract import EXIT_CODES
from waportd.errors import ConfigError
from waportd.fleet.timing import Timing
from waportd.units import render, unit_path, write_units

LEASE_UNIT: Final = "waportd-lease.service"

DROP_IN: Final = "50-fleet.conf"
"""The name of the drop-in of each other unit: those of `systemctl edit` come after it."""

SESSIONS: Final = Path("/sys/fs/cgroup/whatsapp.slice")
"""The control group of all sessions, on the system bus."""


def runtime_folder(*, system: bool) -> Path:
    """Return the folder of the lease unit (`waportd.fleet.lease`)."""
    runtime = Path("/run" if system else os.environ["XDG_RUNTIME_DIR"])
    return runtime / "waportd/instances"


_BOUND: Final = ("whatsapp@.service", "whatsapp@.socket")
_SYSTEM_ONLY: Final = ("waportd.service",)


def render_units(
    *, bus: Bus, timing: Timing, lease: Path | None = None, sessions: Path = SESSIONS
) -> dict[str, str]:
    """Return the text of each file by its path below a folder of units.

    ``lease`` is the program of the lease unit, if it is not the installed one. ``sessions`` is the control group of
    whatsapp.slice: that of a user's own systemd lies elsewhere. Raises ConfigError when a path cannot stand in a unit
    file, or when the times are not safe.
    """
    if faults := timing.faults():
        raise ConfigError(f"the times of the lease are not safe: {'; '.join(faults)}")
    values = {
        "lease": unit_path(lease or installed_below() / "libexec/waportd/lease"),
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
    sources = {LEASE_UNIT: LEASE_UNIT} | {f"{folder}/{DROP_IN}": folder for folder in drop_ins}
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
