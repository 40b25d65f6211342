"""Where the program's own files lie, installed or in a checkout."""

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parent.parent

ENGINES: Final = Path("/var/lib/waportd-engines")
"""Not below the store's folder, where the daemon's user may write, nor below /usr/local, where other users may."""


def installed_below() -> Path:
    """Return what the daemon is installed below: ``/usr/local`` of ``/usr/local/lib/…/waportd``."""
    return next((folder.parent for folder in _PACKAGE.parents if folder.name == "lib"), Path("/usr"))


def shipped(name: str) -> Path:
    """Return where a file that comes with the daemon lies: beside the package in a checkout, or installed."""
    in_checkout = _PACKAGE.parent / name
    return in_checkout if in_checkout.exists() else installed_below() / "lib/waportd" / name
