"""Changes what is kept of a user: on disk first, then in the registry, one change of a user at a time."""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator
from typing import Any

from waportd import engines, proxies, units
from waportd.config import Config
from waportd.errors import Conflict, UnknownUser, WaportdError
from waportd.host import Host
from waportd.model import Assignment, Desired, Port, User
from waportd.registry import Instance, Registry
from waportd.runtime import Runtimes
from waportd.store import AllocationStore
from waportd.systemd.journal import log_fields

log = logging.getLogger(__name__)


class Assignments:
    """The stored side of the registry: assignments in the store, and one environment file for each."""

    def __init__(
        self, store: AllocationStore, registry: Registry, runtimes: Runtimes, config: Config, host: Host
    ) -> None:
        self._config = config
        self._host = host
        self._store = store
        self._registry = registry
        self.runtimes = runtimes
        self._writing = asyncio.Lock()
        """Held from the read of what a change starts from until the change is in the registry."""

    def reconfigure(self, config: Config) -> None:
        """Take over a new configuration."""
        self._config = config

    async def load(self) -> None:
        """Fill the registry with what is stored. Raises StoreError."""
        for assignment in await self._store.load():
            self.take_in(assignment)

    def _told(self, instance: Instance) -> Instance:
        """Return an instance with the settings for its server's next start."""
        assignment, fleet = instance.assignment, self._host.fleet
        return dataclasses.replace(
            instance,
            host=fleet.name if fleet else None,
            engine=engines.chosen(assignment, self._config),
            proxy=proxies.shown(proxies.chosen(assignment, self._config)),
        )

    def known(self, user: User) -> Instance:
        """Return the user's instance; raise UnknownUser where there is none."""
        instance = self._registry.get(user)
        if instance is None:
            raise UnknownUser(
                f"no port is assigned to user {user}", hint=f"assign one with `PUT /v1/users/{user}`"
            )
        return instance

    @contextlib.asynccontextmanager
    async def owned(self, user: User, *, moving: bool = False) -> AsyncIterator[Assignment]:
        """Hold the lock of a user who has a port and is not being deleted; give the assignment.

        Raises Conflict where a move was begun and could neither be finished nor undone, unless the caller handles it.
        """
        self.known(user)
        async with self.runtimes[user].lock:
            assignment = self.known(user).assignment
            if assignment.desired is Desired.DELETED:
                raise Conflict(f"user {user} is being deleted", hint="ask again in a moment", retry_after=1)
            if not moving:
                refuse_moving(assignment)
            yield assignment

    async def add(self, assignment: Assignment) -> None:
        """Keep a new assignment. Raises StoreError."""
        async with self._writing:
            await self._store.put([assignment])
            self.take_in(assignment)

    async def change(self, user: User, **values: Any) -> Assignment:
        """Keep other values of a user's assignment, and return it. Raises StoreError, UnknownUser."""
        async with self._writing:
            before = self.known(user).assignment
            after = dataclasses.replace(before, **values)
            if after != before:
                await self._store.put([after])
                self._registry.put(self._told(dataclasses.replace(self.known(user), assignment=after)))
            return after

    async def remove(self, assignment: Assignment) -> None:
        """Forget a user. Raises StoreError."""
        for port in assignment.ports:
            await self.remove_environment(port)
        async with self._writing:
            await self._store.remove(assignment.user)
            self._drop(assignment.user)

    def take_in(self, assignment: Assignment) -> None:
        """Know a user whose assignment the store has: one who comes from another host."""
        self.runtimes.keep(assignment.user)
        self._registry.put(self._told(Instance(assignment)))

    def let_go(self, user: User) -> None:
        """Know a user no longer, whatever the store has: one who belongs to another host."""
        self._drop(user, left=True)

    def _drop(self, user: User, *, left: bool = False) -> None:
        self._registry.remove(user, left=left)
        self.runtimes.drop(user)

    async def write_environment(self, assignment: Assignment) -> None:
        """Write the environment for the server's next start.

        Raises StoreError, Conflict during a move, and what the host raises where nothing may be started.
        """
        refuse_moving(assignment)
        environments, config = self._host.environments(), self._config
        # The accounts are looked up, too, and may be on another machine.
        await asyncio.to_thread(
            lambda: environments.write(assignment.port, units.environment(assignment, config))
        )

    async def write_environments(self) -> None:
        """Rewrite the environment of every user, and show what it says; what cannot be written is logged."""
        for user in [instance.assignment.user for instance in self._registry]:
            try:
                async with self.runtimes[user].lock:
                    instance = self._registry.get(user)
                    if instance is not None and instance.assignment.moving_to is None:
                        await self.write_environment(instance.assignment)
                        self._registry.put(self._told(self.known(user)))
            except WaportdError as error:
                log.warning("Cannot update: %s", error, extra=log_fields(user))

    async def remove_environment(self, port: Port) -> None:
        """Remove a port's environment, without which its units refuse to start. Raises StoreError."""
        await asyncio.to_thread(self._host.environments().remove, port)

    async def orphaned_ports(self) -> list[Port]:
        """Return ports that have an environment and no owner: a crash came before the store was written."""
        ports = await asyncio.to_thread(self._host.environments().ports)
        return [port for port in ports if self._registry.on_port(port) is None]


def refuse_moving(assignment: Assignment) -> None:
    """Raise Conflict while a user is between two ports."""
    if assignment.moving_to is not None:
        raise Conflict(
            f"user {assignment.user} is being moved from port {assignment.port} to {assignment.moving_to}",
            hint=f"`waportctl move {assignment.user}` continues it, and says what prevents it",
            cause="moving",
            retry_after=5,
        )
