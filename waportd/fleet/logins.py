"""The logins of this host's users: published as they change, put in place for users who come, forgotten with the others.

A server copies its login into its own folder, every few minutes and when it stops (server/snapshots.js). Only root may
open that folder: units of systemd carry the copy from there and back (`login_files`).
"""

import asyncio
import contextlib
import dataclasses
import logging
import shutil
import time
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from waportd import login_copies
from waportd.concurrency import Background, KeyedLocks
from waportd.errors import WaportdError
from waportd.fleet.chunks import Damaged
from waportd.fleet.engine import Row
from waportd.fleet.host import FleetHost
from waportd.fleet.login_files import LOGIN, MESSAGES
from waportd.fleet.snapshot_store import NoSnapshot, SnapshotStore
from waportd.fleet.units import export_unit, import_unit
from waportd.model import Port, ProcessState, User
from waportd.registry import Instance
from waportd.systemd.journal import log_fields

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""Seconds between two looks at what has changed."""
AT_ONCE: Final = 2
"""Logins that are carried at the same time: sessions and callers come first."""
COPIES_S: Final = 90.0
"""Seconds between two looks whether each login is in as many stores as it should be."""
RETRY_S: Final = 60.0
"""Seconds after which what has failed is tried again."""
_RESTORED: Final = "restored"


class NoCopy(WaportdError):
    """A user is linked, and no copy of the login was made yet."""

    code = "no_copy"
    status = 503
    title = "There is no copy of the login"


class Units(Protocol):
    """The part of `UnitManager` that is needed here."""

    async def start(self, unit: str) -> None:
        """Start a unit, and return when it is done. Raises JobFailed, NoSuchUnit."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Look:
    """What a login looks like from outside: as long as it is the same, nothing has to be published."""

    token: int
    copied_at: float | None
    """When its server copied it last."""
    runs: bool
    """Whether its server runs: it makes a last copy when it stops."""


class Logins:
    """Carries logins between the sessions of this host and the stores that other hosts reach."""

    def __init__(
        self,
        host: FleetHost,
        snapshots: SnapshotStore,
        instances: Iterable[Instance],
        units: Units,
        folder: Path,
        profile_prefix: str,
    ) -> None:
        """``folder`` is the one of the units, for what comes or goes; ``profile_prefix`` is `instances.client_id_prefix`."""
        self._host = host
        self._snapshots = snapshots
        self._instances = instances
        self._units = units
        self._folder = folder
        self._profile_prefix = profile_prefix
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._background = Background()
        self._busy: set[User] = set()
        self._locks: KeyedLocks[User] = KeyedLocks()
        """Held while the login is carried: there is one folder for it."""
        self._done: dict[User, _Look] = {}
        self._copyless: set[User] = set()
        """Whose server had made no copy when one was last asked for: they came here, and have not run yet."""
        self._incomplete: set[User] = set()
        """Whose login was in too few stores at the last look."""
        self._swept: dict[User, int] = {}
        self._later: dict[User, float] = {}
        """When what has failed is tried again, by the monotonic clock."""

    async def run(self) -> NoReturn:
        """Publish what changes until it is cancelled."""
        published = await self._host.store.read_published()
        self._done = {user: _Look(*look) for user, look in published.items()}
        copies_at = time.monotonic() + COPIES_S
        try:
            while True:
                if time.monotonic() >= copies_at:
                    self.look_at_copies()
                    copies_at = time.monotonic() + COPIES_S
                self.look()
                await asyncio.sleep(LOOK_S)
        finally:
            await self._background.close()

    def look_at_copies(self) -> None:
        """Have a login published once more that was in too few stores at two looks: who kept it may just have restarted."""
        now = {
            user
            for user, row in self._host.store.rows.items()
            if row.snapshot and user not in self._copyless and not self._snapshots.is_complete(row)
        }
        for user in now & self._incomplete:
            self._done.pop(user, None)
        self._incomplete = now

    def look(self) -> None:
        """Begin what is due. While the engine is away, nothing can be published."""
        if self._host.standing.unsettled or self._host.standing.recent:
            return
        rows = self._host.store.rows
        for instance in self._instances:
            user = instance.assignment.user
            row = rows.get(user)
            if row is None or not row.revision:
                continue
            storage = instance.storage
            look = _Look(
                row.token,
                storage.snapshot_at if storage else None,
                instance.process.state is ProcessState.RUNNING,
            )
            if not instance.assignment.linked:
                if row.snapshot:
                    self._begin(user, self._drop(row))
            elif look != self._done.get(user) and self._snapshots.has_place(row):
                self._begin(user, self._publish(user, look))
        for user, token in self._host.store.deleted.items():
            if self._swept.get(user, -1) < token and user not in rows:
                self._begin(user, self._forget(user, token))

    async def publish(self, user: User) -> bool:
        """Publish the newest copy of a user's login; return False where its server has made none.

        Raises JobFailed and what `SnapshotStore.publish` raises.
        """
        row = self._host.store.rows[user]
        folder = self._folder / str(row.port)
        async with self._turns:
            try:
                await self._units.start(export_unit(Port(row.port)))
                if not await asyncio.to_thread(folder.exists):
                    return False
                at = (await asyncio.to_thread(login_copies.verify, folder / LOGIN)).at
                lease = self._host.lease.current().lease
                published = await self._snapshots.publish(self._host.engine, lease, row, folder, at)
            finally:
                await asyncio.to_thread(_remove, folder)
        await self._host.store.note(published.row)
        return True

    async def save(self, user: User) -> None:
        """Publish the last copy of the login of a user whose session has ended, and who goes to another host.

        Raises NoCopy, JobFailed and what `SnapshotStore.publish` raises: the login would not come along.
        """
        async with self._locks[user]:
            # Who came here, and never ran here, has the copy that came along.
            if not await self.publish(user) and not self._host.store.rows[user].snapshot:
                raise NoCopy(
                    f"the server of user {user} has made no copy of the login yet",
                    hint="it makes one a minute after the session is ready, and when it stops",
                )

    async def restore(self, row: Row) -> bool:
        """Put the newest published login of a user where the server finds it; return False where there is none.

        Nothing of the user may run here. Raises StoreUnavailable and JobFailed: it may be tried again.
        """
        folder = self._folder / str(row.port)
        restored = folder.with_name(f"{row.port}.{_RESTORED}")
        async with self._turns:
            try:
                await asyncio.to_thread(_remove, folder, restored)
                await asyncio.to_thread(self._folder.mkdir, mode=0o700, exist_ok=True)
                try:
                    await self._snapshots.restore(row, restored)
                    await asyncio.to_thread(login_copies.verify, restored / LOGIN)
                except NoSnapshot:
                    return False
                except (Damaged, login_copies.Torn) as error:
                    log.error("No copy of the login can be used: %s", error, extra=log_fields(User(row.user)))  # noqa: TRY400
                    return False
                await asyncio.to_thread(self._arrange, restored, folder, row.port)
                await self._units.start(import_unit(Port(row.port)))
            finally:
                await asyncio.to_thread(_remove, folder, restored)
        log.info("the login is restored", extra=log_fields(User(row.user)))
        return True

    def _arrange(self, restored: Path, folder: Path, port: int) -> None:
        """Make of a snapshot what a server keeps."""
        auth = folder / f".wwebjs_auth_{port}"
        profile = auth / f"session-{self._profile_prefix}_{port}"
        profile.mkdir(mode=0o700, parents=True)
        (restored / LOGIN / "Default").rename(profile / "Default")
        with contextlib.suppress(FileNotFoundError):
            (restored / MESSAGES).rename(auth / MESSAGES)

    def _begin(self, user: User, work: Coroutine[Any, Any, None]) -> None:
        if user in self._busy or time.monotonic() < self._later.get(user, 0.0):
            work.close()
            return
        self._busy.add(user)
        self._background.run(self._reported(user, work), f"carry the login of {user}")

    async def _reported(self, user: User, work: Coroutine[Any, Any, None]) -> None:
        try:
            async with self._locks[user]:
                await work
            self._later.pop(user, None)
        except WaportdError as error:
            if user in self._host.store.rows:  # who has gone meanwhile took the login along
                log.warning("Cannot carry the login: %s", error, extra=log_fields(user))
                self._later[user] = time.monotonic() + RETRY_S
        finally:
            self._busy.discard(user)

    async def _publish(self, user: User, look: _Look) -> None:
        if await self.publish(user):
            self._copyless.discard(user)
        else:
            self._copyless.add(user)
        await self._host.store.note_published(user, dataclasses.astuple(look))
        self._done[user] = look

    async def _drop(self, row: Row) -> None:
        """Forget the snapshots of a user whose phone is not linked any more."""
        lease = self._host.lease.current().lease
        none = dataclasses.replace(row, snapshot=None, copies=())
        await self._host.store.note(await self._host.engine.publish(lease, none))
        await self._snapshots.forget(row)
        self._done.pop(User(row.user), None)

    async def _forget(self, user: User, token: int) -> None:
        await self._snapshots.forget(Row(user, 0, self._host.name, token=token))
        self._swept[user] = token


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
