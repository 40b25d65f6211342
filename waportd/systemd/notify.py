"""Notifies the service manager of the daemon's state (sd_notify(3)). Without one, nothing is sent."""

import logging
import os
import time

from systemd import daemon

log = logging.getLogger(__name__)


def ready(status: str) -> None:
    """Say that start-up, or a reload, is done."""
    _notify("READY=1", _status(status))


def status(text: str) -> None:
    """Show in `systemctl status` what the program does; its state stays."""
    _notify(_status(text))


def reloading() -> None:
    """Say that the configuration is being read again; `ready` ends it."""
    _notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def stopping() -> None:
    """Say that the daemon is about to end."""
    _notify("STOPPING=1")


def alive() -> None:
    """Feed the watchdog; due more often than `watchdog_interval`."""
    _notify("WATCHDOG=1")


def watchdog_interval() -> float | None:
    """Return the seconds after which systemd takes a silent daemon for hung; None where it does not watch.

    The manual advises to call `alive` in half that time (sd_watchdog_enabled(3)).
    """
    try:
        microseconds = int(os.environ["WATCHDOG_USEC"])
        watched = int(os.environ.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return microseconds / 1e6 if microseconds > 0 and watched == os.getpid() else None


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())  # a line break would begin another assignment


def _notify(*assignments: str) -> None:
    try:
        daemon.notify("\n".join(assignments))
    except OSError as error:
        log.warning("Cannot notify systemd: %s", error)
