"""Changes what is kept of a user: on disk first, then in the picture, one change of a user at a time."""

import asyncio
import contextlib
import dataclasses
import logging
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from waportd import units
from waportd.config import Config
from waportd.engines import chosen
from waportd.errors import Conflict, StoreError, UnknownUser
from waportd.model import Assignment, Desired, Port, User
from waportd.picture import Instance, Picture
from waportd.store import AllocationStore
from waportd.systemd.journal import log_fields

log = logging.getLogger(__name__)


class Assignments:
    """The stored side of the picture: assignments in the store, and one environment file for each."""

    def __init__(self, store: AllocationStore, picture: Picture, config: Config) -> None:
        self.config = config
        self._store = store
        self._picture = picture
        self._locks: weakref.WeakValueDictionary[User, asyncio.Lock] = weakref.WeakValueDictionary()
        self._writing = asyncio.Lock()
        """Held from the read of what a change starts from until the change is in the picture."""

    async def load(self) -> None:
        """Fill the picture with what is stored. Raises StoreError."""
        for assignment in await self._store.load():
            self._picture.put(Instance(assignment, engine=chosen(assignment, self.config)))

    def known(self, user: User) -> Instance:
        """Return the user's instance; raise UnknownUser where there is none."""
        instance = self._picture.get(user)
        if instance is None:
            raise UnknownUser(
                f"no port is assigned to user {user}", hint=f"assign one with `PUT /v1/users/{user}`"
            )
        return instance

    def lock(self, user: User) -> asyncio.Lock:
        """Return the lock under which a user's assignment changes. It lives as long as somebody holds it."""
        lock = self._locks.get(user)
        if lock is None:
            lock = self._locks[user] = asyncio.Lock()
        return lock

    @contextlib.asynccontextmanager
    async def owned(self, user: User) -> AsyncIterator[Assignment]:
        """Hold the lock of a user who has a port and is not being deleted; give the assignment."""
        self.known(user)
        async with self.lock(user):
            assignment = self.known(user).assignment
            if assignment.desired is Desired.DELETED:
                raise Conflict(f"user {user} is being deleted", hint="ask again in a moment", retry_after=1)
            yield assignment

    async def add(self, assignment: Assignment) -> None:
        """Keep a new assignment. Raises StoreError."""
        async with self._writing:
            await self._store.put([assignment])
            self._picture.put(Instance(assignment, engine=chosen(assignment, self.config)))

    async def change(self, user: User, **values: Any) -> Assignment:
        """Keep other values of a user's assignment, and return it. Raises StoreError, UnknownUser."""
        async with self._writing:
            before = self.known(user).assignment
            after = dataclasses.replace(before, **values)
            if after != before:
                await self._store.put([after])
                engine = chosen(after, self.config)
                self._picture.put(dataclasses.replace(self.known(user), assignment=after, engine=engine))
            return after

    async def remove(self, assignment: Assignment) -> None:
        """Forget a user. Raises StoreError."""
        await self.remove_environment(assignment.port)
        async with self._writing:
            await self._store.remove(assignment.user)
            self._picture.remove(assignment.user)

    async def write_environment(self, assignment: Assignment) -> None:
        """Write what the user's server is told at its next start. Raises StoreError."""
        with self._reported(assignment.port):
            await asyncio.to_thread(units.write_environment, self._folder, assignment, self.config)

    async def write_environments(self) -> None:
        """Write the environment of every user anew, and show what it says; what cannot be written is logged."""
        for user in [instance.assignment.user for instance in self._picture]:
            try:
                async with self.lock(user):
                    if instance := self._picture.get(user):
                        await self.write_environment(instance.assignment)
                        engine = chosen(instance.assignment, self.config)
                        self._picture.put(dataclasses.replace(self.known(user), engine=engine))
            except StoreError as error:
                log.warning("Cannot update: %s", error, extra=log_fields(user))

    async def remove_environment(self, port: Port) -> None:
        """Take a port's environment away, without which its units refuse to start. Raises StoreError."""
        with self._reported(port):
            await asyncio.to_thread(units.remove_environment, self._folder, port)

    async def orphaned_ports(self) -> list[Port]:
        """Return ports that have an environment and no owner: a crash came before the store was written."""
        ports = await asyncio.to_thread(units.environment_ports, self._folder)
        return [port for port in ports if self._picture.on_port(port) is None]

    @contextlib.contextmanager
    def _reported(self, port: Port) -> Iterator[None]:
        """Turn what keeps a port's environment from being changed into an error with a way out."""
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self._folder}/{port}.env cannot be changed: {error.strerror}",
                hint="check owner and mode of the folder, and that the disk is neither full nor read-only",
            ) from error

    @property
    def _folder(self) -> Path:
        return self.config.store.instances
