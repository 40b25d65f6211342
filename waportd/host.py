"""This host, as far as its users depend on it: on its own it may do everything, in a fleet what its lease allows."""

from pathlib import Path
from typing import Protocol

from waportd.model import Port, User
from waportd.units import EnvironmentFolder


class Environments(Protocol):
    """The environments of the units: without one, the units of a port refuse to start.

    All calls do blocking file I/O, and raise StoreError.
    """

    def write(self, port: Port, text: str) -> bool:
        """Write a port's environment (`units.environment`) as a whole; return whether it changed."""

    def remove(self, port: Port) -> None:
        """Remove a port's environment; a missing one is no error."""

    def ports(self) -> list[Port]:
        """Return the ports that have an environment, in order."""


class Host(Protocol):
    """What a host may do for its users."""

    @property
    def acts_at_once(self) -> bool:
        """Whether users may be started as soon as the daemon is there; otherwise `Supervisor.resume` says when."""

    def environments(self) -> Environments:
        """Return where the environments are now. Raises WaportdError where nothing may be started."""

    async def begin(self, user: User) -> None:
        """Return when a session of this user may begin. Raises WaportdError where it may not."""

    def elsewhere(self) -> dict[Port, str]:
        """Return the ports that users of other hosts have, each with words that follow "port N is".

        The live table: to be read, not kept or changed.
        """


class SingleHost:
    """A host that belongs to no fleet."""

    acts_at_once = True

    def __init__(self, folder: Path) -> None:
        """Have the environments in this folder."""
        self._environments = EnvironmentFolder(folder)

    def environments(self) -> Environments:
        """Return the folder."""
        return self._environments

    async def begin(self, user: User) -> None:
        """Return at once: nobody else has the user."""

    def elsewhere(self) -> dict[Port, str]:
        """Return nothing: there are no other hosts."""
        return {}
