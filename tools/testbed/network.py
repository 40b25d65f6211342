"""A network for machines: a bridge, and a network namespace with an address for each, which nothing else is in.

All of it lies in namespaces of its own: the host's network is as before, and nothing collides. They end with the processes
that hold them, whatever happens to this one. Needs root.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from testbed import linux

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "10.99.0"
HUB = f"{PREFIX}.254"
"""The address of who is on the bridge itself."""
_PATIENCE_S = 10.0


class Space:
    """A network namespace, and the process that holds it."""

    def __init__(self) -> None:
        own = Path("/proc/self/ns/net").readlink()
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sleep", "infinity"],
            preexec_fn=lambda: linux.signal_on_parent_death(signal.SIGKILL),  # noqa: PLW1509  # no threads here
        )
        self.path = Path(f"/proc/{self._holder.pid}/ns/net")
        deadline = time.monotonic() + _PATIENCE_S
        while self.path.readlink() == own:
            if time.monotonic() > deadline:
                raise TimeoutError("no network namespace")
            time.sleep(0.005)

    @property
    def command(self) -> list[str]:
        """The words before a command that is to run in it."""
        return ["nsenter", f"--net={self.path}", "--"]

    def ip(self, *words: str, check: bool = True) -> None:
        """Run the program ip in it."""
        subprocess.run([*self.command, "ip", *words], check=check, capture_output=not check)

    @property
    def holder(self) -> str:
        """The process, by which ip(8) names the namespace."""
        return str(self._holder.pid)

    def end(self) -> None:
        """Let it go; it is there as long as processes run in it."""
        self._holder.kill()
        self._holder.wait()


class Port:
    """Where a machine is on the network."""

    def __init__(self, hub: Space, number: int) -> None:
        self._hub = hub
        self._name = f"port{number}"
        self.space = Space()
        """The network namespace to boot the machine in."""
        self.address = f"{PREFIX}.{number}"
        peer = ("peer", "name", "host0", "netns", self.space.holder)
        hub.ip("link", "add", self._name, "type", "veth", *peer)
        hub.ip("link", "set", self._name, "master", "bridge", "up")
        self.space.ip("address", "add", f"{self.address}/24", "dev", "host0")
        for link in ("lo", "host0"):
            self.space.ip("link", "set", link, "up")

    def unplug(self) -> None:
        """Cut the machine off from everything."""
        self._hub.ip("link", "set", self._name, "down")

    def plug(self) -> None:
        """Undo `unplug`."""
        self._hub.ip("link", "set", self._name, "up")

    def cut(self, other: str) -> None:
        """Lose what this machine sends to an address: it goes to nobody."""
        self.space.ip(
            "neigh", "replace", other, "lladdr", "02:00:00:00:00:00", "nud", "permanent", "dev", "host0"
        )

    def heal(self, other: str) -> None:
        """Undo `cut`."""
        self.space.ip("neigh", "delete", other, "dev", "host0", check=False)


class Network:
    """A bridge, and what is on it."""

    def __init__(self) -> None:
        self.hub = Space()
        """The namespace with the bridge."""
        self._ports: list[Port] = []
        # Of one address for ever: one that follows its ports cuts all of them off when a port goes.
        self.hub.ip("link", "add", "bridge", "address", "02:00:00:00:00:fe", "type", "bridge")
        self.hub.ip("address", "add", f"{HUB}/24", "dev", "bridge")
        for link in ("lo", "bridge"):
            self.hub.ip("link", "set", link, "up")

    def add(self) -> Port:
        """Make a place for one more machine, with an address of its own."""
        self._ports.append(Port(self.hub, len(self._ports) + 1))
        return self._ports[-1]

    def end(self) -> None:
        """Remove everything."""
        for port in self._ports:
            port.space.end()
        self.hub.end()


@contextlib.contextmanager
def created() -> Iterator[Network]:
    """Give a network, which is gone afterwards."""
    network = Network()
    try:
        yield network
    finally:
        network.end()
