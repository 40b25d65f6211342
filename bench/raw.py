"""The same units without waportd: copies under a name that it does not watch, started over D-Bus."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pydbus
from gi.repository import GLib

from bench import place, traffic

HEALTH = traffic.request_bytes("/health")


class RawUnits:
    """Units ``bench@PORT.service`` and ``.socket`` with the very text of ``whatsapp@``, and pydbus to start them."""

    def __init__(self, waportd: place.Waportd) -> None:
        self._folder = waportd.units
        self._environments = waportd.directory / "state/instances"
        self._bus: Any = pydbus.SessionBus()
        self.systemd: Any = self._bus.get(".systemd1")
        for kind in ("service", "socket"):
            text = (self._folder / f"whatsapp@.{kind}").read_text("utf-8").replace("whatsapp@%i", "bench@%i")
            (self._folder / f"bench@.{kind}").write_text(text, "utf-8")
        self.systemd.Reload()

    def allow(self, ports: Iterable[int]) -> None:
        """Write the environment files without which the units refuse to start."""
        for port in ports:
            file = self._environments / f"{port}.env"
            if not file.exists():
                file.write_text(f'PORT="{port}"\nWAPORTD_WEBHOOK_URL=""\n', "utf-8")

    def start(self, port: int) -> None:
        """Ask systemd to start the server; do not wait for it."""
        self.systemd.StartUnit(f"bench@{port}.service", "replace")

    def run(self, port: int) -> None:
        """Start the server, and return when it has answered ``/health``: the job starts its socket first."""
        self.start(port)
        answer_by_and_by(port)

    def stop(self, port: int) -> None:
        """Stop server and socket, and wait until they are down."""
        place.systemctl("stop", f"bench@{port}.socket", f"bench@{port}.service")

    def clean(self, port: int) -> None:
        """Have systemd delete what a server that does not run has kept; return when that is done."""
        unit = f"bench@{port}.service"
        self.systemd.RefUnit(unit)
        self.systemd.CleanUnit(unit, ["state", "cache"])
        question = GLib.Variant("(ss)", ("org.freedesktop.systemd1.Unit", "ActiveState"))
        path = self.systemd.LoadUnit(unit)
        while self._bus.con.call_sync(
            "org.freedesktop.systemd1", path, "org.freedesktop.DBus.Properties", "Get", question, None, 0, 10_000, None
        ).unpack() == ("maintenance",):  # fmt: skip
            time.sleep(0.001)
        self.systemd.UnrefUnit(unit)

    def close(self) -> None:
        """Stop all, and remove the units."""
        place.systemctl("stop", "bench@*", check=False)
        place.systemctl("reset-failed", check=False)
        for unit in self._folder.glob("bench@*"):
            unit.unlink()
        self.systemd.Reload()


@contextlib.contextmanager
def raw_units(waportd: place.Waportd) -> Iterator[RawUnits]:
    """Give raw units for as long as the block lasts."""
    units = RawUnits(waportd)
    try:
        yield units
    finally:
        units.close()


def answer_of(port: int) -> None:
    """Return when the server on that port has answered ``/health``. Its socket must listen already."""
    with contextlib.closing(traffic.connect(("127.0.0.1", port))) as connection:
        traffic.exchange(connection, HEALTH)


def answer_by_and_by(port: int) -> None:
    """As `answer_of`, for a server that opens its own port: it is tried every millisecond."""
    deadline = time.monotonic() + 60
    while True:
        try:
            answer_of(port)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)
        else:
            return


@contextlib.contextmanager
def spawned(script: Path, port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server as a child of this process."""
    environment = {**os.environ, "PORT": str(port), "WAPORTD_WEBHOOK_URL": "", "HOME": str(folder)}
    with place.program("node", script, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as process:
        yield process
