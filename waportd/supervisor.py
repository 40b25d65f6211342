"""The use cases: a user's server is ensured, started, stopped, restarted, logged out, deleted, reconciled.

Commands go down from here to the store, the environment files and systemd. Facts come up: unit changes from
systemd and session pictures from the servers end in the `Picture`, from which every read is answered.
"""

import asyncio
import collections
import contextlib
import dataclasses
import enum
import logging
import time
import weakref
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypedDict

import psutil

from waportd import units
from waportd.config import Config, Takeover
from waportd.diagnosis import Finding, describe, explain_exit, explain_script
from waportd.errors import (
    Conflict,
    ServerFailed,
    ShuttingDown,
    StartTimeout,
    StoreError,
    TooManyRunning,
    UnknownUser,
    WaportdError,
)
from waportd.holders import Holder, end_stale_server, listeners
from waportd.model import (
    Assignment,
    Desired,
    Port,
    Process,
    ProcessState,
    Session,
    SessionState,
    Usage,
    User,
    port_of_unit,
    service_unit,
    socket_unit,
)
from waportd.picture import Instance, Picture
from waportd.ports import choose
from waportd.sessions import Sessions
from waportd.store import AllocationStore
from waportd.systemd.journal import last_lines, log_fields
from waportd.systemd.manager import JobFailed, NoSuchUnit, SystemdError, UnitManager, UnitStatus
from waportd.usage import UsageMeter

log = logging.getLogger(__name__)

_ALL_UNITS = "whatsapp@*"
_RELAY_INTERVAL = 20.0
"""Seconds between two notices to a server that somebody still asks for a code. Less than the minute after
which a server takes a question for a new one."""
_RETRY_INTERVAL = 60.0
"""Seconds after a failed start before a poll, which nobody may be looking at, tries again."""
_LOGOUT_READY = 30.0
"""Seconds that a stopped session is given to get connected, so that its phone can be unlinked."""


class Wait(enum.StrEnum):
    """How far a server must have come before `Supervisor.ensure` returns."""

    NONE = "none"
    LISTENING = "listening"
    QR = "qr"
    READY = "ready"


PATIENCE = {Wait.NONE: 0.0, Wait.LISTENING: 30.0, Wait.QR: 90.0, Wait.READY: 180.0}
"""Seconds that a caller waits who names no timeout."""

_AT_REST = {ProcessState.STOPPED, ProcessState.FAILED, ProcessState.CRASH_LOOP}
_SERVES_A_CODE = {SessionState.PAIRING, SessionState.AUTHENTICATED, SessionState.READY}
_DEAD_ENDS = {SessionState.ERROR, SessionState.QR_TIMEOUT, SessionState.PASSKEY_REQUIRED}
_LAST_WORDS = {SessionState.QR_TIMEOUT, SessionState.LOGGED_OUT}
"""What stays true of a session after its server has ended."""


class Options(TypedDict, total=False):
    """What a caller may set for a user. A member that is missing stays as it is; None means the default."""

    webhook_url: str | None
    memory_max: int | None
    autostart: bool


class PortHeld(ServerFailed):
    """Somebody else listens on the port."""

    code = "port_held"
    status = 409
    title = "The port is held by another program"

    def __init__(self, port: Port, holder: Holder | None) -> None:
        self.holder = str(holder or "another process")
        super().__init__(
            f"port {port} is held by {self.holder}",
            cause="port_held",
            hint=f"end that program, or have `waportctl port {port} --end-stale` end a left-over "
            "whatsapp_server.js of the old setup; then start the user again",
        )


class Supervisor:
    """Moves what is to what should be. One per daemon; all of it runs on the event loop."""

    def __init__(self, config: Config, store: AllocationStore, manager: UnitManager) -> None:
        self.picture = Picture()
        self.unassigned: set[Port] = set()
        """Ports whose unit runs although nobody owns them; reported, never touched."""
        self._config = config
        self._store = store
        self._manager = manager
        self._meter = UsageMeter(manager)
        self._sessions = Sessions(self._on_session, self._on_silence, self._runs)
        self._boot = ""
        self._units: dict[str, UnitStatus] = {}
        self._findings: dict[Port, Finding] = {}
        self._locks: weakref.WeakValueDictionary[User, asyncio.Lock] = weakref.WeakValueDictionary()
        self._slots = asyncio.Semaphore(config.limits.start_concurrency)
        self._choosing: dict[Port, User] = {}
        self._moving: set[Port] = set()
        self._starts: dict[User, asyncio.Task[None]] = {}
        self._failed_at: dict[User, float] = {}
        self._relayed_at: dict[User, float] = {}
        self._used_at: dict[User, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    # Life of the supervisor

    async def start(self) -> None:
        """Load the assignments, look at what runs, and begin to reconcile. Raises StoreError, SystemdError."""
        self._boot = await self._manager.boot()
        for assignment in await self._store.load():
            self.picture.put(Instance(assignment))
        self._manager.watch(_ALL_UNITS, self._on_unit)
        for status in await self._manager.list_units(_ALL_UNITS):
            self._units.setdefault(status.name, status)
        for instance in self.picture:
            self._refresh(instance.assignment.port)
        self._background(self._reconcile(), "reconcile")

    async def close(self) -> None:
        """Let go: servers and their sessions go on untouched."""
        self._closing = True
        self.picture.release()
        tasks = [*self._tasks, *self._starts.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._sessions.close()

    async def reconfigure(self, config: Config) -> None:
        """Take over a new configuration; what concerns a server holds from its next start."""
        if config.limits.start_concurrency != self._config.limits.start_concurrency:
            self._slots = asyncio.Semaphore(config.limits.start_concurrency)
        self._config = config
        await self._write_environments()

    # Use cases

    async def assign(self, user: User, options: Options | None = None) -> tuple[Instance, bool]:
        """Return the user's instance, and whether its port was assigned just now, durably.

        Raises PortsExhausted, StoreError, SystemdError.
        """
        async with self._lock(user):
            instance = self.picture.get(user)
            if instance is not None and instance.assignment.desired is Desired.DELETED:
                await self._erase(instance.assignment)
                instance = None
            if instance is None:
                return await self._assign(user, options or {}), True
            if options is not None:
                await self._save(dataclasses.replace(instance.assignment, **options))
            return self._known(user), False

    async def ensure(
        self,
        user: User,
        options: Options | None = None,
        wait: Wait = Wait.LISTENING,
        timeout: float | None = None,  # noqa: ASYNC109  # the caller's, and turned into an error of its own
    ) -> tuple[Instance, bool]:
        """Give the user a running server, and return when it is as far as ``wait`` says.

        Returns the instance, and whether the user is new. Asks for a new code where no phone is linked. Raises
        StartTimeout after ``timeout`` seconds, ServerFailed with the cause where the server does not get there,
        TooManyRunning, and what `assign` raises.
        """
        before = self.picture.get(user)
        _, created = await self.assign(user, options)
        async with self._lock(user):
            instance = self._known(user)
            await self._save(dataclasses.replace(instance.assignment, desired=Desired.RUNNING))
            if before is not None and self._needs_restart(before.assignment, instance.assignment):
                await self._restart(instance.assignment)
        return await self._bring_up(user, wait, PATIENCE[wait] if timeout is None else timeout), created

    async def start_server(
        self,
        user: User,
        wait: Wait = Wait.LISTENING,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Instance:
        """As `ensure`, for a user who has a port already. Raises UnknownUser."""
        self._known(user)
        instance, _ = await self.ensure(user, None, wait, timeout)
        return instance

    async def stop(self, user: User) -> Instance:
        """Stop the server and give up its port's socket; the login and the port stay the user's."""
        async with self._owned(user) as assignment:
            await self._save(dataclasses.replace(assignment, desired=Desired.STOPPED))
            await self._stop_units(assignment.port)
        log.info("stopped", extra=log_fields(user=user, port=assignment.port))
        return self._known(user)

    async def restart(self, user: User) -> Instance:
        """Start the server anew; requests on its port wait meanwhile."""
        async with self._owned(user) as assignment:
            await self._save(dataclasses.replace(assignment, desired=Desired.RUNNING))
            await self._restart(assignment)
        return await self._bring_up(user, Wait.LISTENING, PATIENCE[Wait.LISTENING])

    async def log_out(self, user: User) -> Instance:
        """Unlink the phone and delete the session; the port stays the user's.

        A linked session that does not run is started for it, since only a connected one can unlink its phone.
        Where it does not get connected, the session is deleted all the same and ``message`` says so.
        """
        instance = self._known(user)
        if instance.assignment.linked and instance.process.state is not ProcessState.RUNNING:
            try:
                instance = await self._bring_up(user, Wait.READY, _LOGOUT_READY)
            except WaportdError as error:
                log.warning("Cannot connect for the logout: %s", error, extra=log_fields(user=user))
        async with self._owned(user) as assignment:
            unlinked = await self._ask_to_log_out(user)
            if not unlinked:
                await self._moved(assignment.port, self._wipe(assignment.port))
                if assignment.desired is Desired.RUNNING:
                    await self._open_socket(assignment)
            await self._save(dataclasses.replace(self._known(user).assignment, linked=False))
            self._forget_session(user, unlinked=unlinked)
        log.info("logged out", extra=log_fields(user=user, port=assignment.port))
        return self._known(user)

    async def delete(self, user: User) -> None:
        """Stop the server, delete its session, free the port. Done when it returns; resumed after a crash."""
        async with self._owned(user) as assignment:
            await self._save(dataclasses.replace(assignment, desired=Desired.DELETED))
            await self._erase(assignment)
        log.info("deleted", extra=log_fields(user=user, port=assignment.port))

    async def ask(self, user: User) -> Instance:
        """Note that somebody polls for this user's code, and return the instance from memory.

        Starts a server that should run and does not. Never undoes a stop, and never repeats a failed start
        within a minute: a page that was left open asks for ever.
        """
        instance = self.picture.get(user)
        if instance is None or instance.assignment.desired is Desired.DELETED:
            instance, _ = await self.assign(user)
        self._used_at[user] = now = time.monotonic()
        match instance.process.state:
            case ProcessState.RUNNING:
                session = instance.session
                if (session is None or not session.linked) and self._due(self._relayed_at, user, _RELAY_INTERVAL):
                    self._relayed_at[user] = now
                    self._background(self._relay(instance.assignment.port), f"relay {user}")
            case ProcessState.STOPPED:
                if instance.assignment.desired is Desired.RUNNING and not self._stopped_by_admin(
                    instance.assignment
                ):
                    self._launch(user)
            case ProcessState.FAILED | ProcessState.CRASH_LOOP:
                if self._due(self._failed_at, user, _RETRY_INTERVAL):
                    self._launch(user)
        return self._known(user)

    async def usage(self, instance: Instance) -> Usage:
        """Return what the user's server uses; empty where none runs."""
        if instance.process.pid is None:
            return Usage()
        return await self._meter.measure(service_unit(instance.assignment.port))

    async def holders(self, port: Port) -> list[Holder]:
        """Return who listens on a port that is not one of ours."""
        return await listeners(port)

    # Assigning

    async def _assign(self, user: User, options: Options) -> Instance:
        held: dict[Port, str] = {}
        while True:
            owners = collections.ChainMap(self._choosing, self.picture.owners())
            choice = choose(user, self._config.ports, owners, held.get)
            assignment = Assignment(
                user, choice.port, created_at=time.time(), note=choice.note, socket_boot=self._boot, **options
            )
            # Kept from others while it is tried: they choose between our awaits.
            self._choosing[choice.port] = user
            try:
                await self._claim(assignment)
                await self._store.put([assignment])
            except PortHeld as error:
                units.remove_environment(self._instances, choice.port)
                held[choice.port] = error.holder
                continue
            finally:
                del self._choosing[choice.port]
            self.picture.put(Instance(assignment))
            self._refresh(choice.port)
            log.info(
                "assigned port %s%s",
                choice.port,
                f": {choice.note}" if choice.note else "",
                extra=log_fields(user=user, port=choice.port),
            )
            return self._known(user)

    async def _claim(self, assignment: Assignment) -> None:
        """Take a port that had no owner: nothing of an earlier session may be left on it."""
        port = assignment.port
        await self._write_environment(assignment)
        await self._make_room()
        await self._manager.clean(service_unit(port))
        await self._start_socket(port)

    async def _open_socket(self, assignment: Assignment) -> None:
        """Have systemd hold the port of an assignment, and remember in which boot it did."""
        await self._write_environment(assignment)
        await self._make_room()
        await self._start_socket(assignment.port)
        await self._save(dataclasses.replace(assignment, socket_boot=self._boot))

    async def _start_socket(self, port: Port) -> None:
        try:
            await self._manager.start(socket_unit(port))
        except JobFailed as error:
            await self._clear_port(port, error)
            await self._manager.start(socket_unit(port))
        await self._observe(socket_unit(port))

    async def _clear_port(self, port: Port, error: JobFailed) -> None:
        """Return if the port was freed and the socket can be tried again; else raise why it cannot be had."""
        await self._manager.reset_failed(socket_unit(port))
        holders = await self.holders(port)
        if not holders:
            raise ServerFailed(
                f"the socket of port {port} cannot be opened: systemd says {error.result} ({error.unit.result})",
                cause="socket_failed",
                hint=f"see `systemctl status {socket_unit(port)}`",
            ) from error
        if self._config.ports.takeover is Takeover.OWN:
            for holder in holders:
                if await end_stale_server(port, holder):
                    log.warning("ended a left-over server: %s", holder, extra=log_fields(port=port))
            holders = await self.holders(port)
        if holders:
            raise PortHeld(port, holders[0]) from error

    async def _make_room(self) -> None:
        """Keep the number of sockets within limits.max_sockets: the longest unused idle one gives way."""
        open_sockets = [
            instance
            for instance in self.picture
            if self._socket_is_active(instance.assignment.port)
        ]
        if len(open_sockets) < self._config.limits.max_sockets:
            return
        idle = [instance for instance in open_sockets if instance.process.state is ProcessState.STOPPED]
        if not idle:
            raise TooManyRunning(
                f"{len(open_sockets)} servers hold a port, which is as many as limits.max_sockets allows",
                hint="stop users who are not needed, or raise limits.max_sockets",
                retry_after=30,
            )
        oldest = min(idle, key=lambda instance: self._used_at.get(instance.assignment.user, 0.0)).assignment
        # Not an admin's stop: the next one who asks for this user opens it again.
        await self._save(dataclasses.replace(oldest, socket_boot=None))
        await self._stop_units(oldest.port)

    # Starting

    async def _bring_up(self, user: User, wait: Wait, timeout: float) -> Instance:  # noqa: ASYNC109
        deadline = time.monotonic() + timeout
        asked_at = time.time()
        launch = self._launch(user)
        if wait is Wait.NONE:
            return self._known(user)
        try:
            await asyncio.wait_for(asyncio.shield(launch), timeout)
        except TimeoutError:
            raise self._too_late(user, wait, timeout) from None
        if wait is Wait.LISTENING:
            return self._known(user)
        instance = await self.picture.wait(
            user,
            lambda now: _has_reached(now, wait) or _has_failed(now, asked_at),
            deadline - time.monotonic(),
        )
        if instance is None:
            raise UnknownUser(f"user {user} was deleted meanwhile")
        if _has_reached(instance, wait) or self._closing:
            return instance
        if _has_failed(instance, asked_at):
            raise _failure(instance)
        raise self._too_late(user, wait, timeout)

    def _launch(self, user: User) -> asyncio.Task[None]:
        """Return the one start of this user that is under way, beginning it where there is none."""
        task = self._starts.get(user)
        if task is None:
            if self._closing:
                raise ShuttingDown("waportd is restarting", hint="ask again", retry_after=1)
            task = asyncio.create_task(self._start(user), name=f"start {user}")
            self._starts[user] = task
            task.add_done_callback(lambda done: self._launched(user, done))
            self._refresh(self._known(user).assignment.port)
        return task

    def _launched(self, user: User, task: asyncio.Task[None]) -> None:
        self._starts.pop(user, None)
        if instance := self.picture.get(user):
            self._refresh(instance.assignment.port)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._failed_at.pop(user, None)
            return
        self._failed_at[user] = time.monotonic()
        if isinstance(error, WaportdError):
            log.warning("Cannot start: %s", error, extra=log_fields(user=user))
        else:
            log.error("Cannot start", exc_info=error, extra=log_fields(user=user))

    async def _start(self, user: User) -> None:
        assignment = self._known(user).assignment
        port = assignment.port
        if self._known(user).process.state is not ProcessState.RUNNING:
            async with self._slots:
                await self._admit(user)
                await self._write_environment(assignment)
                if not self._socket_is_active(port):
                    await self._make_room()
                await self._start_service(assignment)
        if assignment.socket_boot != self._boot:
            await self._save(dataclasses.replace(self._known(user).assignment, socket_boot=self._boot))
        if not self._known(user).assignment.linked:
            await self._sessions.ask_for_code(port)

    async def _start_service(self, assignment: Assignment) -> None:
        port, unit = assignment.port, service_unit(assignment.port)
        for name in (unit, socket_unit(port)):
            if self._units.get(name, UnitStatus(name)).active_state == "failed":
                await self._manager.reset_failed(name)
        self._findings.pop(port, None)
        self._meter.forget(unit)
        try:
            if assignment.memory_max is not None:
                await self._manager.limit_memory(unit, assignment.memory_max)
            await self._manager.start(unit)
        except JobFailed as error:
            await self._start_again(port, error)
        except SystemdError as error:
            self._blame(port, Finding(error.cause or error.code, error.message, error.hint))
            raise
        await self._observe(socket_unit(port))
        await self._observe(unit)

    async def _start_again(self, port: Port, error: JobFailed) -> None:
        """Start once more where it was the port that was not free and now is; else raise why it failed."""
        unit = service_unit(port)
        socket = await self._manager.status(socket_unit(port))
        if socket.active_state != "active":
            try:
                await self._clear_port(port, error)
                await self._manager.start(unit)
            except ServerFailed as held:
                self._blame(port, Finding(held.cause or held.code, held.message, held.hint))
                raise
            except JobFailed as second:
                error = second
            else:
                return
        finding = explain_exit(error.unit)
        if error.result == "canceled":
            finding = Finding("canceled", "the start was interrupted by a stop", "start the user again")
        elif finding.cause == "crashed":
            instances = self._config.instances
            finding = await explain_script(instances.node_path, instances.script_path) or await self._quote(unit, finding)
        self._blame(port, finding)
        raise ServerFailed(finding.message, cause=finding.cause, hint=finding.hint) from error

    async def _quote(self, unit: str, finding: Finding) -> Finding:
        """Add the server's last words, where the journal has them and the daemon may read it."""
        lines = await last_lines(unit, 1)
        return finding._replace(message=f"{finding.message}: {lines[-1][:200]}") if lines else finding

    async def _admit(self, user: User) -> None:
        """Raise TooManyRunning where the configuration's limits leave no room."""
        limits = self._config.limits
        active = {ProcessState.RUNNING, ProcessState.STARTING}
        if limits.max_running:
            running = sum(
                1 for instance in self.picture if instance.process.state in active and instance.assignment.user != user
            )
            if running >= limits.max_running:
                raise TooManyRunning(
                    f"{running} servers run, which is as many as limits.max_running allows",
                    hint="stop users who are not needed, or raise limits.max_running",
                    retry_after=30,
                )
        if limits.min_available_memory:
            available = psutil.virtual_memory().available
            if available < limits.min_available_memory:
                raise TooManyRunning(
                    f"the host has {available >> 20} MiB of memory left, and limits.min_available_memory keeps "
                    f"{limits.min_available_memory >> 20} MiB free",
                    hint="stop users who are not needed, or add memory",
                    retry_after=60,
                )

    def _needs_restart(self, before: Assignment, after: Assignment) -> bool:
        instance = self._known(after.user)
        return instance.process.state is ProcessState.RUNNING and (
            (before.webhook_url, before.memory_max) != (after.webhook_url, after.memory_max)
        )

    async def _restart(self, assignment: Assignment) -> None:
        port = assignment.port
        if self._known(assignment.user).process.state is not ProcessState.RUNNING:
            return
        await self._write_environment(assignment)
        if assignment.memory_max is not None:
            await self._manager.limit_memory(service_unit(port), assignment.memory_max)
        try:
            await self._manager.restart(service_unit(port))
        except JobFailed as error:
            await self._start_again(port, error)
        await self._observe(service_unit(port))

    # Stopping and deleting

    async def _stop_units(self, port: Port) -> None:
        # Stopping the socket stops the service first, as one job: nothing can start it in between.
        await self._moved(port, self._manager.stop(socket_unit(port)))
        if self._units.get(service_unit(port), UnitStatus("")).active_state not in {"inactive", "failed"}:
            # Somebody started the service without its socket.
            await self._moved(port, self._manager.stop(service_unit(port)))

    async def _wipe(self, port: Port) -> None:
        """Delete the session's state and cache, with nothing running that could write them anew."""
        await self._manager.stop(socket_unit(port))
        await self._manager.stop(service_unit(port))
        await self._manager.reset_failed(service_unit(port))
        await self._manager.clean(service_unit(port))

    async def _moved(self, port: Port, work: Coroutine[Any, Any, None]) -> None:
        """Do the work on a port's units with the unit changes it causes known to be ours."""
        self._moving.add(port)
        try:
            await work
            await self._observe(socket_unit(port))
            await self._observe(service_unit(port))
        finally:
            self._moving.discard(port)
        self._refresh(port)

    async def _erase(self, assignment: Assignment) -> None:
        port = assignment.port
        await self._moved(port, self._wipe(port))
        units.remove_environment(self._instances, port)
        await self._store.remove(assignment.user)
        self._sessions.unfollow(port)
        self.picture.remove(assignment.user)
        self._meter.forget(service_unit(port))
        self._findings.pop(port, None)
        for table in (self._failed_at, self._relayed_at, self._used_at):
            table.pop(assignment.user, None)

    async def _ask_to_log_out(self, user: User) -> bool:
        instance = self._known(user)
        session = instance.session
        if not instance.answering or session is None or session.state is not SessionState.READY:
            return False
        try:
            await self._sessions.log_out(instance.assignment.port)
        except ServerFailed as error:
            log.warning("Cannot unlink the phone: %s", error, extra=log_fields(user=user))
            return False
        return True

    def _forget_session(self, user: User, *, unlinked: bool) -> None:
        message = "logged out" if unlinked else (
            "the session was deleted here; if the phone still lists the device, remove it there"
        )
        instance = self._known(user)
        session = Session(state=SessionState.LOGGED_OUT, since=time.time(), message=message)
        self.picture.put(dataclasses.replace(instance, session=session))

    # Facts that come up

    def _on_unit(self, status: UnitStatus) -> None:
        port = port_of_unit(status.name)
        if port is None:
            return
        self._units[status.name] = status
        if self.picture.on_port(port) is None:
            self._note_unassigned(port)
        else:
            self._refresh(port)

    async def _observe(self, unit: str) -> None:
        """Take over a unit's state now: the signal of a job that is done may still be on its way."""
        try:
            self._on_unit(await self._manager.status(unit))
        except NoSuchUnit:
            self._on_unit(UnitStatus(unit, load_state="not-found"))

    def _refresh(self, port: Port) -> None:
        """Bring the picture of a port in line with what is known of its units."""
        instance = self.picture.on_port(port)
        if instance is None:
            return
        service = self._units.get(service_unit(port), UnitStatus(service_unit(port)))
        socket = self._units.get(socket_unit(port))
        by_admin = self._stopped_by_admin(instance.assignment)
        process = describe(service, socket, port, by_admin=by_admin)
        finding = self._findings.get(port)
        if process.state is ProcessState.RUNNING:
            self._findings.pop(port, None)
        elif finding is not None and not by_admin and instance.assignment.desired is Desired.RUNNING:
            state = ProcessState.FAILED if process.state is ProcessState.STOPPED else process.state
            process = dataclasses.replace(
                process, state=state, message=finding.message, cause=finding.cause, hint=finding.hint
            )
        if instance.assignment.user in self._starts and process.state in _AT_REST:
            process = Process(ProcessState.STARTING, message="waiting for its turn to start")
        before = instance.process
        if process.since == 0.0 or (process.state is before.state and process.message == before.message):
            process = dataclasses.replace(process, since=before.since or process.since or time.time())
        if process.state is not before.state:
            self._meter.forget(service.name)
            log.info("%s: %s", process.state, process.message, extra=log_fields(instance.assignment.user, port))
        if process.state is ProcessState.RUNNING:
            self.picture.put(dataclasses.replace(instance, process=process))
            self._sessions.follow(port)
        else:
            self._sessions.unfollow(port)
            self.picture.put(
                dataclasses.replace(
                    instance, process=process, session=_last_word(instance.session), answering=False
                )
            )

    def _blame(self, port: Port, finding: Finding) -> None:
        """Remember why a start failed, where that is more than systemd's own state tells."""
        self._findings[port] = finding
        self._refresh(port)

    def _on_session(self, port: Port, session: Session) -> None:
        instance = self.picture.on_port(port)
        if instance is None or instance.process.state is not ProcessState.RUNNING:
            return
        if instance.session is None or instance.session.state is not session.state:
            log.info("session %s: %s", session.state, session.message, extra=log_fields(instance.assignment.user, port))
        self.picture.put(dataclasses.replace(instance, session=session, answering=True))
        if session.linked != instance.assignment.linked:
            self._background(self._remember_link(instance.assignment.user, linked=session.linked), "remember link")

    def _on_silence(self, port: Port, reason: str) -> None:
        instance = self.picture.on_port(port)
        if instance is None or not instance.answering:
            return
        log.warning("%s", reason, extra=log_fields(instance.assignment.user, port))
        self.picture.put(dataclasses.replace(instance, answering=False))

    async def _runs(self, port: Port) -> bool:
        """Tell whether the server may be called without starting it by that."""
        try:
            return (await self._manager.status(service_unit(port))).active_state == "active"
        except SystemdError:
            return False

    def _note_unassigned(self, port: Port) -> None:
        status = self._units[service_unit(port)] if service_unit(port) in self._units else None
        if status is not None and status.active_state in {"active", "activating"}:
            if port not in self.unassigned and port not in self._choosing:
                self.unassigned.add(port)
                log.warning("%s runs, but port %s is assigned to nobody", status.name, port)
        else:
            self.unassigned.discard(port)

    def _socket_is_active(self, port: Port) -> bool:
        status = self._units.get(socket_unit(port))
        return status is not None and status.active_state == "active"

    def _stopped_by_admin(self, assignment: Assignment) -> bool:
        """Tell whether somebody else closed the socket: it was opened in this boot, and not closed by us."""
        socket = self._units.get(socket_unit(assignment.port))
        return (
            assignment.desired is Desired.RUNNING
            and assignment.socket_boot == self._boot
            and assignment.port not in self._moving
            and (socket is None or socket.active_state == "inactive")
        )

    # Reconciling

    async def _reconcile(self) -> None:
        """Move every user to the desired state, few starts at a time."""
        await self._write_environments()
        await self._sweep()
        for port in {port_of_unit(name) for name in self._units}:
            if port is not None and self.picture.on_port(port) is None:
                self._note_unassigned(port)
        assignments = [instance.assignment for instance in self.picture]
        # Linked sessions first: they have messages to receive.
        assignments.sort(key=lambda assignment: (not assignment.linked, -assignment.created_at))
        room = self._config.limits.max_sockets
        work = []
        for rank, assignment in enumerate(assignments):
            if assignment.desired is Desired.DELETED or rank < room:
                work.append(self._settle(assignment))
        await asyncio.gather(*work)
        log.info("%d users, %d servers run", len(self.picture), sum(1 for i in self.picture if i.process.pid))

    async def _settle(self, assignment: Assignment) -> None:
        user = assignment.user
        instance = self._known(user)
        try:
            if assignment.desired is Desired.DELETED:
                async with self._lock(user):
                    await self._erase(assignment)
            elif assignment.desired is Desired.STOPPED or self._stopped_by_admin(assignment):
                return
            elif assignment.linked and assignment.autostart and instance.process.state is ProcessState.STOPPED:
                await asyncio.shield(self._launch(user))
            elif not self._socket_is_active(assignment.port) and instance.process.state is ProcessState.STOPPED:
                async with self._slots, self._lock(user):
                    await self._open_socket(assignment)
        except PortHeld as error:
            self._blame(assignment.port, Finding("port_held", error.message, error.hint))
            log.warning("Cannot open the port: %s", error, extra=log_fields(user, assignment.port))
        except WaportdError as error:
            log.warning("Cannot settle: %s", error, extra=log_fields(user, assignment.port))

    async def _sweep(self) -> None:
        """Give back ports that were taken for a user whose assignment a crash kept from the store."""
        for port in await asyncio.to_thread(units.environment_ports, self._instances):
            if self.picture.on_port(port) is not None or port in self._choosing:
                continue
            status = await self._manager.status(service_unit(port))
            if status.active_state in {"inactive", "failed"}:
                await self._manager.stop(socket_unit(port))
                units.remove_environment(self._instances, port)

    # Small things

    @property
    def _instances(self) -> Path:
        return self._config.store.instances

    def _known(self, user: User) -> Instance:
        instance = self.picture.get(user)
        if instance is None:
            raise UnknownUser(
                f"no port is assigned to user {user}", hint=f"assign one with `PUT /v1/users/{user}`"
            )
        return instance

    def _lock(self, user: User) -> asyncio.Lock:
        """Return the lock under which a user's assignment changes. It lives as long as somebody holds it."""
        lock = self._locks.get(user)
        if lock is None:
            lock = self._locks[user] = asyncio.Lock()
        return lock

    @contextlib.asynccontextmanager
    async def _owned(self, user: User) -> AsyncIterator[Assignment]:
        """Hold the lock of a user who has a port and is not being deleted; give the assignment."""
        self._known(user)
        async with self._lock(user):
            assignment = self._known(user).assignment
            if assignment.desired is Desired.DELETED:
                raise Conflict(f"user {user} is being deleted", hint="ask again in a moment", retry_after=1)
            yield assignment

    async def _save(self, assignment: Assignment) -> None:
        """Keep a changed assignment, on disk first."""
        instance = self._known(assignment.user)
        if instance.assignment == assignment:
            return
        await self._store.put([assignment])
        self.picture.put(dataclasses.replace(self._known(assignment.user), assignment=assignment))
        self._refresh(assignment.port)

    async def _remember_link(self, user: User, *, linked: bool) -> None:
        async with self._lock(user):
            instance = self.picture.get(user)
            if instance is not None and instance.assignment.desired is not Desired.DELETED:
                await self._save(dataclasses.replace(instance.assignment, linked=linked))

    async def _write_environment(self, assignment: Assignment) -> None:
        try:
            await asyncio.to_thread(units.write_environment, self._instances, assignment, self._config)
        except OSError as error:
            raise StoreError(
                f"{self._instances}/{assignment.port}.env cannot be written: {error.strerror}",
                hint="check owner and mode of the folder, and that the disk is neither full nor read-only",
            ) from error

    async def _write_environments(self) -> None:
        for instance in list(self.picture):
            try:
                await self._write_environment(instance.assignment)
            except StoreError as error:
                log.warning("Cannot update: %s", error, extra=log_fields(instance.assignment.user))

    async def _relay(self, port: Port) -> None:
        try:
            await self._sessions.relay_poll(port)
        except ServerFailed as error:
            log.info("Cannot relay a question: %s", error, extra=log_fields(port=port))

    def _due(self, table: dict[User, float], user: User, interval: float) -> bool:
        return time.monotonic() - table.get(user, float("-inf")) >= interval

    def _too_late(self, user: User, wait: Wait, timeout: float) -> WaportdError:
        instance = self._known(user)
        session = f", session {instance.session.state}: {instance.session.message}" if instance.session else ""
        return StartTimeout(
            f"user {user} is not {wait} after {timeout:g} s (process {instance.process.state}{session})",
            hint="it goes on; ask again, or with a longer timeout",
            cause=(instance.session.cause if instance.session else None) or instance.process.cause,
            retry_after=5,
        )

    def _background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        if self._closing:
            work.close()
            return
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("Cannot %s: %r", task.get_name(), error, exc_info=error)


def _has_reached(instance: Instance | None, wait: Wait) -> bool:
    if instance is None:
        return False
    state = instance.session.state if instance.session and instance.answering else None
    if wait is Wait.READY:
        return state is SessionState.READY
    return state in _SERVES_A_CODE or instance.live_qr(time.time()) is not None


def _has_failed(instance: Instance | None, asked_at: float) -> bool:
    """Tell whether waiting on is of no use. A dead end from before the question does not count."""
    if instance is None:
        return True
    if instance.process.state in _AT_REST:
        return True
    session = instance.session
    if not instance.answering or session is None or session.state not in _DEAD_ENDS:
        return False
    # The server's clock is ours, and its times are cut to milliseconds.
    return session.state is SessionState.PASSKEY_REQUIRED or session.since + 0.001 >= asked_at


def _failure(instance: Instance) -> ServerFailed:
    session = instance.session
    if instance.answering and session is not None:
        return ServerFailed(session.message, cause=session.cause or str(session.state), hint=session.hint)
    process = instance.process
    return ServerFailed(process.message, cause=process.cause or str(process.state), hint=process.hint)


def _last_word(session: Session | None) -> Session | None:
    if session is None or session.state not in _LAST_WORDS:
        return None
    return dataclasses.replace(session, qr=None, expires_at=None, pairing=None)
