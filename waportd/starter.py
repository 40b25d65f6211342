"""Gets servers up: takes their ports, starts them few at a time, and finds out why one does not start."""

import asyncio
import contextlib
import logging
import time
import weakref
from collections.abc import AsyncIterator

import psutil

from waportd.assignments import Assignments
from waportd.config import Config, Takeover
from waportd.diagnosis import Finding, explain_exit, explain_script
from waportd.errors import ServerFailed, ShuttingDown, TooManyRunning, WaportdError
from waportd.holders import Holder, end_stale_server, listeners
from waportd.lookout import Lookout
from waportd.metrics import Metrics
from waportd.model import (
    Assignment,
    Desired,
    Port,
    ProcessState,
    SessionState,
    User,
    service_unit,
    socket_unit,
)
from waportd.observer import AT_REST, Observer
from waportd.picture import Instance, Picture
from waportd.sessions import NOT_ANSWERING
from waportd.systemd.journal import last_lines, log_fields
from waportd.systemd.manager import JobFailed, SystemdError, UnitManager

log = logging.getLogger(__name__)

_DOWN = {"inactive", "failed"}
_START_AGAIN = "start the user again"
_FAREWELL = 15.0
"""Seconds that a server takes at most to close its browser and delete its session."""
RETRY_INTERVAL = 60.0
"""Seconds after a failed start before it is tried again, for a linked session or for a page that polls."""
_PATIENCE = (1, 1, 2, 5)
"""How often that time, for each retry in a row; the last one holds from then on. Fourteen in the first hour."""
_AHEAD = 60.0
"""Seconds for which a port that was cleaned ahead counts as clean, and its unit stays loaded (that takes 3 ms)."""
_QUOTED = 200
"""Characters of a server's last words that go into an error."""


class PortHeld(ServerFailed):
    """Somebody else listens on the port."""

    code = "port_held"
    status = 409
    title = "The port is held by another program"

    def __init__(self, port: Port, holder: Holder) -> None:
        self.holder = str(holder)
        super().__init__(
            f"port {port} is held by {self.holder}",
            cause="port_held",
            hint=f"end that program, or have `waportctl port {port} --end-stale` end a left-over "
            "whatsapp_server.js of the old setup; then start the user again",
        )


class Starter:
    """Starts servers. One start of a user is under way at most; whoever asks meanwhile shares it."""

    def __init__(
        self,
        config: Config,
        assignments: Assignments,
        picture: Picture,
        observer: Observer,
        manager: UnitManager,
        metrics: Metrics,
        lookout: Lookout,
    ) -> None:
        self.failed_at: dict[User, float] = {}
        """When, by the monotonic clock, a user's last start failed."""
        self._retried: dict[User, int] = {}
        """How often in a row a user's start was tried again without anybody's asking."""
        self.used_at: dict[User, float] = {}
        """When, by the monotonic clock, somebody last asked for a user."""
        self.slots = asyncio.Semaphore(config.limits.start_concurrency)
        """Limits how many servers start at a time."""
        self._config = config
        self._assignments = assignments
        self._picture = picture
        self._observer = observer
        self._manager = manager
        self._metrics = metrics
        self._lookout = lookout
        self._starts: dict[User, asyncio.Task[None]] = {}
        self._admitted: set[User] = set()
        """Users whose start has got past the limits, though their unit may not show it yet."""
        self._asked: set[User] = set()
        """Users whose start that is under way somebody asked for."""
        self._locks: weakref.WeakValueDictionary[User, asyncio.Lock] = weakref.WeakValueDictionary()
        self._retries: dict[User, asyncio.TimerHandle] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        """Starts of servers that have answered already, while systemd has not heard yet that they are ready."""
        self._cleaned: dict[Port, asyncio.Task[None]] = {}
        """Ports without an owner that were cleaned for the next one within the last minute, or are just being."""
        self._closing = False

    def reconfigure(self, config: Config) -> None:
        """Take over a new configuration."""
        if config.limits.start_concurrency != self._config.limits.start_concurrency:
            self.slots = asyncio.Semaphore(config.limits.start_concurrency)
        self._config = config

    async def close(self) -> None:
        """Give up starts that are under way; what systemd was told to do goes on."""
        self._closing = True
        for timer in self._retries.values():
            timer.cancel()
        tasks = [*self._starts.values(), *self._jobs, *self._cleaned.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Starting

    def launch(self, user: User, *, asked: bool = True) -> asyncio.Task[None]:
        """Return the start of this user that is under way, beginning it where there is none.

        It ends when the server answers, or with the WaportdError that says why it does not. Not to be cancelled
        by those who wait for it. One that nobody ``asked`` for, but a page that polls or a plan, gives way to an
        administrator who has stopped the user, and be it a moment ago.
        """
        if asked:
            self._asked.add(user)
        task = self._starts.get(user)
        if task is None:
            if self._closing:
                raise ShuttingDown("waportd is restarting", hint="ask again", retry_after=1)
            task = asyncio.create_task(self._start(user), name=f"start {user}")
            self._starts[user] = task
            self._observer.launching.add(user)
            task.add_done_callback(lambda done: self._launched(user, done))
            self._observer.refresh(self._assignments.known(user).assignment.port)
        return task

    def note_failure(self, user: User) -> None:
        """Remember that a start failed. A linked session is tried again by itself: nobody may be polling for it."""
        self.failed_at[user] = time.monotonic()
        self._retry_later(user)

    def retry(self, user: User) -> None:
        """Start a user whose server has failed, and for whom somebody polls, if it was not tried a moment ago."""
        now = time.monotonic()
        if now - self.failed_at.get(user, float("-inf")) >= self._patience(user):
            self._retried[user] = self._retried.get(user, 0) + 1
            self.launch(user, asked=False)

    def forget(self, user: User) -> None:
        """Forget a user who was deleted."""
        for table in (self.failed_at, self.used_at, self._retried):
            table.pop(user, None)

    def _patience(self, user: User) -> float:
        return RETRY_INTERVAL * _PATIENCE[min(self._retried.get(user, 0), len(_PATIENCE) - 1)]

    @contextlib.asynccontextmanager
    async def no_start(self, user: User) -> AsyncIterator[None]:
        """Give up the user's start, and let none begin inside the block: a page that polls asks all the time.

        A start that somebody asks for meanwhile goes on afterwards, if the user is still to run.
        """
        lock = self._lock(user)
        if task := self._starts.get(user):
            task.cancel()
        async with lock:
            yield

    async def restart(self, assignment: Assignment) -> None:
        """Start a running server anew. Raises ServerFailed, SystemdError."""
        port = assignment.port
        await self._assignments.write_environment(assignment)
        await self._observer.pacer.release(port)
        try:
            await self._manager.restart(service_unit(port))
        except JobFailed as error:
            await self._start_again(port, error)
        await self._observer.look_at(port)

    def _launched(self, user: User, task: asyncio.Task[None]) -> None:
        del self._starts[user]
        self._admitted.discard(user)
        self._asked.discard(user)
        self._observer.launching.discard(user)
        instance = self._picture.get(user)
        if instance:
            self._observer.refresh(instance.assignment.port)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self.failed_at.pop(user, None)
            self._retried.pop(user, None)
            return
        self.note_failure(user)
        code = error.code if isinstance(error, WaportdError) else WaportdError.code
        self._metrics.failed_starts.labels(code).inc()
        if isinstance(error, WaportdError):
            explains = error.cause != NOT_ANSWERING
            if explains and instance and instance.assignment.desired is Desired.RUNNING:
                finding = Finding(error.cause or error.code, error.message, error.hint)
                self._observer.blame(instance.assignment.port, finding)
            log.warning("Cannot start: %s", error, extra=log_fields(user))
        else:
            log.error("Cannot start", exc_info=error, extra=log_fields(user))

    def _retry_later(self, user: User) -> None:
        if user not in self._retries and not self._closing:
            timer = asyncio.get_running_loop().call_later(self._patience(user), self._retry, user)
            self._retries[user] = timer

    def _retry(self, user: User) -> None:
        del self._retries[user]
        instance = self._picture.get(user)
        if instance is None:
            return
        assignment = instance.assignment
        if (
            instance.process.state in AT_REST
            and instance.process.next_start is None
            and assignment.desired is Desired.RUNNING
            and assignment.linked
            and assignment.autostart
            and not self._observer.stopped_by_admin(assignment)
        ):
            if self._lookout.admits():
                self._retried[user] = self._retried.get(user, 0) + 1
                self.launch(user, asked=False)
            else:
                self._retry_later(user)

    async def _start(self, user: User) -> None:
        lock = self._lock(user)
        queued = lock.locked()
        await self._see_off(user)
        assignment = self._assignments.known(user).assignment
        if not assignment.linked:
            self._observer.await_code(assignment.port)
        has_asked = False
        if self._assignments.known(user).process.state is not ProcessState.RUNNING:
            queued = queued or lock.locked()
            async with self.slots, lock:
                assignment = self._assignments.known(user).assignment
                if queued and assignment.desired is not Desired.RUNNING:
                    raise ServerFailed("the user was stopped meanwhile", cause="canceled", hint=_START_AGAIN)
                opened_at = await self._opened_at(assignment)
                self._admit(user)
                self._admitted.add(user)
                await self._assignments.write_environment(assignment)
                await self._make_room(assignment.port)
                if not self._observer.holds(assignment.port):
                    # From here on it is not the administrator who keeps the port closed.
                    await self._assignments.change(user, socket_boot=None)
                began = time.monotonic()
                try:
                    has_asked = await self._start_service(assignment)
                    self._metrics.starts.observe(time.monotonic() - began)
                    await self._give_way(assignment, opened_at)
                except ServerFailed as error:
                    if error.cause == "canceled":
                        # Not from here, where this task would have been cancelled: an administrator's stop.
                        await self._note_opened(user)
                    raise
        assignment = await self._note_opened(user)
        if not has_asked and (not assignment.linked or self._waits_for_its_next_try(user)):
            await self._observer.sessions.ask_for_code(assignment.port)

    async def _opened_at(self, assignment: Assignment) -> float | None:
        """Return since when systemd holds the port, where the start may not open it; None where it may.

        Raises ServerFailed where an administrator has closed it, or is about to. Asked of systemd: of a stop that ends
        the server first, the end of the server may be all that its signals have told.
        """
        if assignment.user in self._asked:
            return None
        if self._observer.stopped_by_admin(assignment):
            raise _stopped_by_admin()
        if not self._observer.holds(assignment.port):
            return None
        socket = await self._manager.status(socket_unit(assignment.port))
        if socket.active_state != "active" or socket.has_job:
            raise _stopped_by_admin()
        return socket.since

    async def _give_way(self, assignment: Assignment, opened_at: float | None) -> None:
        """Undo a start that has opened a port which an administrator closed while it was on its way."""
        if opened_at is None or assignment.user in self._asked:
            return
        port = assignment.port
        if (await self._manager.status(socket_unit(port))).since != opened_at:
            await self.close_port(port)
            raise _stopped_by_admin()

    def _waits_for_its_next_try(self, user: User) -> bool:
        """Tell whether the user's session has failed and will try again by itself, some minutes later."""
        instance = self._assignments.known(user)
        session = instance.session
        return instance.answering and session is not None and session.state is SessionState.ERROR

    async def _see_off(self, user: User) -> None:
        """Wait until a server is gone that ends: to the last it answers questions that are meant for the next one."""
        if _leaves(self._picture.get(user)):
            await self._picture.wait(user, lambda now: not _leaves(now), _FAREWELL)

    def _lock(self, user: User) -> asyncio.Lock:
        """Return the lock that a start holds, and whoever must not be disturbed by one."""
        lock = self._locks.get(user)
        if lock is None:
            lock = self._locks[user] = asyncio.Lock()
        return lock

    async def _start_service(self, assignment: Assignment) -> bool:
        """Start the server; tell whether it was asked for a code by that."""
        port = assignment.port
        await self._observer.pacer.release(port)
        await self._forget_failures(port)
        has_answered = False
        try:
            if assignment.memory_max is not None:
                await self._manager.limit_memory(service_unit(port), assignment.memory_max)
            has_answered = await self._until_it_answers(assignment)
        except JobFailed as error:
            await self._start_again(port, error)
        await self._observer.see_up(port)
        return has_answered and not assignment.linked

    async def _until_it_answers(self, assignment: Assignment) -> bool:
        """Start the service and return when it answers, or else when systemd says that it is ready; tell which.

        An answer comes some 20 ms earlier: systemd hears of it through a program that the server runs. It is asked
        for while the server starts, and waits in the socket that systemd holds.
        """
        port = assignment.port
        job = asyncio.create_task(
            self._manager.start(service_unit(port)), name=f"job of {service_unit(port)}"
        )
        answer = asyncio.create_task(
            self._first_answer(assignment), name=f"first answer of {service_unit(port)}"
        )
        answer.add_done_callback(_take_note)
        try:
            await asyncio.wait({job, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() or answer.exception() is not None:
                await job
                return False
            if not job.done():
                self._observer.note_answer(port)
                self._jobs.add(job)
                job.add_done_callback(self._job_ended)
            return True
        finally:
            answer.cancel()
            if job not in self._jobs:
                job.cancel()

    async def _first_answer(self, assignment: Assignment) -> None:
        """Return when the server has answered. Before systemd holds the port it might be somebody else who does."""
        port, sessions = assignment.port, self._observer.sessions
        await self._observer.until_held(port)
        async with asyncio.TaskGroup() as both:
            # To note it takes no time that anybody waits for as long as the server starts.
            both.create_task(self._note_opened(assignment.user))
            # What makes an unlinked server begin with its work is as good a question as any.
            both.create_task(sessions.greet(port, ask=not assignment.linked))

    async def _note_opened(self, user: User) -> Assignment:
        """Keep that the port was opened in this life of systemd: who closes it from now on means it."""
        return await self._assignments.change(user, socket_boot=self._observer.boot)

    def _job_ended(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()):
            # What it means is seen in the unit's state.
            log.warning("Cannot complete the %s: %s", job.get_name(), error)

    async def _forget_failures(self, port: Port) -> None:
        self._observer.absolve(port)
        for status in (self._observer.service(port), self._observer.socket(port)):
            if status.active_state == "failed":
                await self._manager.reset_failed(status.name)

    async def _start_again(self, port: Port, error: JobFailed) -> None:
        """Start once more where it was the port that was not free and now is; else raise why it failed."""
        # Not by the socket's state: after a few quick failures of the service it is down, too.
        if error.result in {"dependency", "assert"}:
            try:
                await self._clear_port(port, error)
                await self._manager.start(service_unit(port))
            except JobFailed as second:
                error = second
            else:
                return
        finding = await self._explain(error)
        raise ServerFailed(finding.message, cause=finding.cause, hint=finding.hint) from error

    async def _explain(self, error: JobFailed) -> Finding:
        if error.result == "canceled":
            return Finding("canceled", "the start was interrupted by a stop", _START_AGAIN)
        finding = explain_exit(error.unit)
        if finding.cause != "crashed":
            return finding
        instances = self._config.instances
        broken = await explain_script(instances.node_path, instances.script_path)
        if broken is not None:
            return broken
        # The server's log lines hold no secret, so its last one may be shown.
        lines = await last_lines(error.unit.name, 1)
        return finding._replace(message=f"{finding.message}: {lines[-1][:_QUOTED]}") if lines else finding

    def _admit(self, user: User) -> None:
        """Raise TooManyRunning where the configuration's limits leave no room for this user's server."""
        limits = self._config.limits
        if limits.max_running:
            # Not who waits for a turn: each of many would take the others for running, and none would start.
            others = (instance.assignment for instance in self._picture if instance.assignment.user != user)
            running = sum(
                1
                for assignment in others
                if assignment.user in self._admitted
                or (
                    self._observer.service(assignment.port).active_state not in _DOWN
                    and self._observer.pacer.due(assignment.port) is None
                )
            )
            if running >= limits.max_running:
                raise TooManyRunning(
                    f"{running} servers run, which is as many as limits.max_running allows",
                    hint="stop users who are not needed, or raise limits.max_running",
                    retry_after=30,
                )
        available = psutil.virtual_memory().available
        if available < limits.min_available_memory:
            raise TooManyRunning(
                f"the host has {available >> 20} MiB of memory left, and limits.min_available_memory keeps "
                f"{limits.min_available_memory >> 20} MiB free",
                hint="stop users who are not needed, or add memory",
                retry_after=60,
            )

    # Ports

    async def claim(self, assignment: Assignment) -> None:
        """Take a port that had no owner. Raises PortHeld, TooManyRunning, StoreError, SystemdError."""
        port = assignment.port
        await self._assignments.write_environment(assignment)
        await self._make_room(port)
        await self._have_cleaned(port)
        await self._open_socket(port)

    def clean_ahead(self, port: Port) -> None:
        """Begin to delete what is left on a port without an owner: who gets it within a minute need not wait for that.

        It stays clean: without an environment its units do not start. Nobody but root could put a session there, and
        where that is done while the daemon runs (the README says to stop it) a minute is all that is missed.
        """
        if port not in self._cleaned and not self._closing:
            task = asyncio.create_task(self._clean_unowned(port), name=f"clean port {port}")
            self._cleaned[port] = task
            task.add_done_callback(lambda done: self._cleaned_ahead(port, done))

    def _cleaned_ahead(self, port: Port, task: asyncio.Task[None]) -> None:
        _take_note(task)

        def forget() -> None:
            if self._cleaned.get(port) is task:
                del self._cleaned[port]

        asyncio.get_running_loop().call_later(_AHEAD, forget)

    async def _have_cleaned(self, port: Port) -> None:
        """Return when nothing of an earlier owner's session is left on the port."""
        ahead = self._cleaned.pop(port, None)
        if ahead is not None:
            await asyncio.wait({ahead})
        if ahead is None or ahead.cancelled() or ahead.exception() is not None:
            await self._clean(port)

    async def _clean_unowned(self, port: Port) -> None:
        try:
            await self._clean(port, _AHEAD)
        except SystemdError:
            # Whoever gets the port tries again, and is told. Until then it is nobody's failure.
            await self._manager.reset_failed(service_unit(port))
            raise

    async def _clean(self, port: Port, keep: float = 0.0) -> None:
        # A failed unit cannot be cleaned.
        await self._forget_failures(port)
        await self._manager.clean(service_unit(port), keep)

    async def reopen(self, assignment: Assignment) -> None:
        """Have systemd hold the port of an assignment again. Raises as `claim`."""
        await self._assignments.write_environment(assignment)
        await self._make_room(assignment.port)
        await self._open_socket(assignment.port)
        await self._note_opened(assignment.user)

    async def close_port(self, port: Port) -> None:
        """Stop the server and give up its port."""
        with self._observer.moving(port):
            # The socket's stop ends the service first, as one job, so that nothing starts it in between. The
            # service's own is for one that somebody started without its socket.
            await self._manager.stop(socket_unit(port))
            await self._manager.stop(service_unit(port))
            # One that died a moment before stays failed, as both do after a crash loop. They are stopped now, and a
            # failed one cannot be cleaned.
            for unit in (socket_unit(port), service_unit(port)):
                await self._manager.reset_failed(unit)
            await self._observer.pacer.release(port)
            await self._observer.look_at(port)

    async def wipe(self, port: Port) -> None:
        """Stop the server and delete its session, with nothing running that could write it anew."""
        await self.close_port(port)
        await self._manager.clean(service_unit(port))

    async def _open_socket(self, port: Port) -> None:
        try:
            await self._manager.start(socket_unit(port))
        except JobFailed as error:
            await self._clear_port(port, error)
            await self._manager.start(socket_unit(port))
        if not self._observer.holds(port):
            await self._observer.look_at(port)

    async def _clear_port(self, port: Port, error: JobFailed) -> None:
        """Return if the port was freed and the socket can be tried again; else raise why it cannot be had."""
        if error.result == "assert":
            raise ServerFailed(
                f"the units of port {port} look for their environment in another folder than store.directory",
                cause="units_outdated",
                hint="generate the units again: `waportd generate-units --output /etc/systemd/system`, "
                "then `systemctl daemon-reload`",
            ) from error
        await self._manager.reset_failed(socket_unit(port))
        service = await self._manager.status(service_unit(port))
        if service.load_state not in {"loaded", ""}:
            # No socket opens for a service that cannot be started.
            finding = explain_exit(service)
            raise ServerFailed(finding.message, cause=finding.cause, hint=finding.hint) from error
        holders = await listeners(port)
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
            holders = await listeners(port)
        if holders:
            raise PortHeld(port, holders[0]) from error

    async def _make_room(self, port: Port) -> None:
        """Keep within limits.max_sockets: of the sockets without a server, the longest unused gives way."""
        if self._observer.holds(port):
            return
        held = self._observer.held
        if len(held) < self._config.limits.max_sockets:
            return
        idle = [
            instance.assignment
            for instance in map(self._picture.on_port, held)
            if instance is not None
            and instance.process.state is ProcessState.STOPPED
            and not self._lock(instance.assignment.user).locked()
        ]
        if not idle:
            raise TooManyRunning(
                f"{len(held)} servers hold a port, which is as many as limits.max_sockets allows",
                hint="stop users who are not needed, or raise limits.max_sockets",
                retry_after=30,
            )
        unused = min(idle, key=lambda assignment: self.used_at.get(assignment.user, 0.0))
        async with self.no_start(unused.user):
            # Not an administrator's stop: who asks for this user next opens it again.
            await self._assignments.change(unused.user, socket_boot=None)
            await self.close_port(unused.port)


def _stopped_by_admin() -> ServerFailed:
    return ServerFailed("the administrator stopped the user meanwhile", cause="canceled", hint=_START_AGAIN)


def _take_note(task: asyncio.Task[None]) -> None:
    """Look at why a task failed, though nobody may wait for it any more: what comes after it tells it better."""
    if not task.cancelled():
        task.exception()


def _leaves(instance: Instance | None) -> bool:
    if instance is None:
        return False
    # One whose phone was unlinked deletes its session, and ends by itself.
    logged_out = instance.session is not None and instance.session.state is SessionState.LOGGED_OUT
    state = instance.process.state
    return state is ProcessState.STOPPING or (state is ProcessState.RUNNING and logged_out)
