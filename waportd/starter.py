"""Starts servers: takes their ports, starts them few at a time, and finds out why one does not start."""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable

from waportd.admission import Admission
from waportd.assignments import Assignments
from waportd.config import Config
from waportd.diagnosis import Finding, explain_exit, explain_script
from waportd.errors import ServerFailed, ShuttingDown, TooManyRunning, WaportdError
from waportd.first_answers import FirstAnswers
from waportd.host import Host
from waportd.metrics import Metrics
from waportd.model import (
    AT_REST,
    Assignment,
    Desired,
    Port,
    ProcessState,
    SessionState,
    Turn,
    User,
    service_unit,
    socket_unit,
)
from waportd.observer import Observer
from waportd.readiness import awaits_turn, is_leaving
from waportd.registry import Registry
from waportd.runtime import NEVER, Runtime
from waportd.server_client import NOT_ANSWERING, ServerClient
from waportd.shortcuts import Shortcuts
from waportd.sockets import Sockets
from waportd.systemd.journal import last_lines, log_fields
from waportd.systemd.manager import JobFailed, UnitManager
from waportd.units import LONGEST_PAUSE_S

log = logging.getLogger(__name__)

_START_AGAIN = "start the user again"
_SHUTDOWN_GRACE_S = 15.0
"""Seconds that a server takes at most to close its browser and delete its session."""
RETRY_INTERVAL_S = 60.0
"""Seconds after a failed start before it is retried, for a linked session or for a page that polls."""
_RETRY_FACTORS = (1, 1, 2, 5)
"""The factor on that time for each retry in a row; the last one repeats. Fourteen in the first hour."""
_TURN_TAKEN_S = 5.0
"""Seconds for which a session that has its turn may still report that it waits for it."""
_QUOTED_CHARS = 200
"""Characters of a server's last words that go into an error."""


@dataclasses.dataclass(frozen=True, slots=True)
class _DeletedUser:
    """What is kept about a user who was deleted while the server could not be started."""

    until: float
    """When a poll may restart it, by the monotonic clock."""
    retried: int
    why: Finding


class Starter:
    """Starts servers. At most one start of a user is under way; further requests share it."""

    def __init__(
        self,
        config: Config,
        assignments: Assignments,
        registry: Registry,
        observer: Observer,
        sockets: Sockets,
        servers: ServerClient,
        manager: UnitManager,
        metrics: Metrics,
        on_retry: Callable[[User], None],
        shortcuts: Shortcuts,
        host: Host,
    ) -> None:
        """``on_retry`` is called when a linked session whose start failed is to be retried."""
        self._deleted: dict[User, _DeletedUser] = {}
        self.slots = asyncio.Semaphore(config.limits.start_concurrency)
        """Limits how many servers start at a time."""
        self._config = config
        self._assignments = assignments
        self._runtimes = assignments.runtimes
        self._registry = registry
        self._observer = observer
        self._sockets = sockets
        self._servers = servers
        self._admission = Admission(config, registry, self._runtimes, observer)
        self._manager = manager
        self._metrics = metrics
        self._on_retry = on_retry
        self._host = host
        self._first_answers = FirstAnswers(
            observer, manager, self._note_opened, enabled=shortcuts.first_answers
        )
        self._closing = False

    def reconfigure(self, config: Config) -> None:
        """Take over a new configuration."""
        if config.limits.start_concurrency != self._config.limits.start_concurrency:
            self.slots = asyncio.Semaphore(config.limits.start_concurrency)
        self._config = config
        self._admission.reconfigure(config)

    async def close(self) -> None:
        """Cancel starts that are under way; jobs of systemd continue."""
        self._closing = True
        starts = []
        for runtime in self._runtimes:
            if runtime.retry is not None:
                runtime.retry.cancel()
            if runtime.start is not None:
                starts.append(runtime.start)
        for start in starts:
            start.cancel()
        await asyncio.gather(*starts, return_exceptions=True)
        await self._first_answers.close()

    # Starting

    def launch(self, user: User, *, asked: bool = True, prepared: bool = False) -> asyncio.Task[None]:
        """Return the start of this user that is under way, beginning it where there is none.

        It ends when the server answers, or with the WaportdError that says why it does not. Callers that wait for it
        must not cancel it. A start that was not ``asked`` for, but comes from a page that polls or a plan, gives way
        to an administrator's stop, even a very recent one. ``prepared`` says that the environment was just written.
        """
        runtime = self._runtimes[user]
        runtime.is_asked |= asked
        if asked:
            runtime.asked_at = time.monotonic()
        runtime.is_prepared |= prepared
        if runtime.start is None:
            if self._closing:
                raise ShuttingDown("waportd is restarting", hint="ask again", retry_after=1)
            runtime.start = asyncio.create_task(self._start(runtime), name=f"start {user}")
            runtime.start.add_done_callback(lambda done: self._launched(runtime, done))
            self._observer.refresh(self._assignments.known(user).assignment.port)
        return runtime.start

    def note_failure(self, user: User) -> None:
        """Remember that a start failed. A linked session is retried automatically: there may be no polls for it."""
        runtime = self._runtimes[user]
        runtime.failed_at = time.monotonic()
        self._retry_later(runtime)

    def retry(self, user: User) -> None:
        """Start a user whose server has failed, on a poll, if it was not tried a moment ago."""
        if self.may_retry(user):
            self._runtimes[user].retried += 1
            self.launch(user, asked=False)

    def may_retry(self, user: User) -> bool:
        """Return whether a failed start was tried long enough ago to be retried."""
        runtime = self._runtimes[user]
        return time.monotonic() - runtime.failed_at >= _retry_delay(runtime.retried)

    def keep_retry_pause(self, user: User) -> None:
        """Remember for a user who is about to be deleted how long no poll may start the server.

        It holds after a new assignment, too: otherwise a caller that deletes the user each time would have servers
        started without a pause.
        """
        instance = self._registry.get(user)
        if instance is None or instance.process.state not in {ProcessState.FAILED, ProcessState.CRASH_LOOP}:
            return
        now, process, runtime = time.monotonic(), instance.process, self._runtimes[user]
        until = runtime.failed_at + _retry_delay(runtime.retried)
        if process.next_start is not None:
            until = max(until, now + min(process.next_start - time.time(), LONGEST_PAUSE_S))
        for gone in [gone for gone, left in self._deleted.items() if left.until <= now]:
            del self._deleted[gone]
        if until > now:
            # Without the time of its next start, which is different now.
            why = Finding(process.cause or "failed", process.message.partition("; ")[0], process.hint)
            self._deleted[user] = _DeletedUser(until, runtime.retried, why)

    def restore_retry_pause(self, assignment: Assignment) -> None:
        """Have a user who was deleted and is assigned again wait as before. A start on request does not wait."""
        user = assignment.user
        left = self._deleted.pop(user, None)
        if left is not None and left.until > time.monotonic():
            runtime = self._runtimes[user]
            runtime.retried = left.retried
            runtime.failed_at = left.until - _retry_delay(left.retried)
            self._observer.set_finding(assignment.port, left.why)

    async def restart(self, assignment: Assignment) -> None:
        """Restart a running server. Raises ServerFailed, SystemdError."""
        port = assignment.port
        await self._host.begin(assignment.user)
        await self._assignments.write_environment(assignment)
        await self._observer.pacer.release(port)
        self._observer.streams.begin_next(port)
        try:
            await self._manager.restart(service_unit(port))
        except JobFailed as error:
            await self._start_again(port, error)
        await self._observer.refresh_from_systemd(port)

    async def let_session_begin(self, user: User) -> bool:
        """Have a linked session load WhatsApp's page, if it waits for its turn; return whether the limits leave room."""
        instance = self._assignments.known(user)
        port = instance.assignment.port
        try:
            self._admission.admit(user)
        except TooManyRunning as full:
            with contextlib.suppress(ServerFailed):
                await self._servers.wait(port, full.limit)
            return False
        runtime = self._runtimes[user]
        runtime.is_admitted = True
        try:
            await self._servers.begin(port)
        except ServerFailed as error:
            log.info("Cannot let it begin: %s", error, extra=log_fields(port=port))
        # Its answer arrives before the event that says so.
        await self._registry.wait(user, lambda now: not awaits_turn(now), _TURN_TAKEN_S)
        if runtime.start is None:
            runtime.is_admitted = False
        return True

    def _launched(self, runtime: Runtime, task: asyncio.Task[None]) -> None:
        user = runtime.user
        runtime.start = None
        runtime.is_asked = runtime.is_prepared = runtime.is_admitted = False
        instance = self._registry.get(user)
        if instance:
            self._observer.refresh(instance.assignment.port)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            runtime.failed_at, runtime.retried = NEVER, 0
            return
        self.note_failure(user)
        code = error.code if isinstance(error, WaportdError) else WaportdError.code
        self._metrics.failed_starts.labels(code).inc()
        if isinstance(error, WaportdError):
            explains = error.cause != NOT_ANSWERING
            if explains and instance and instance.assignment.desired is Desired.RUNNING:
                self._observer.set_finding(instance.assignment.port, Finding.of(error))
            log.warning("Cannot start: %s", error, extra=log_fields(user))
        else:
            log.error("Cannot start", exc_info=error, extra=log_fields(user))

    def _retry_later(self, runtime: Runtime) -> None:
        if runtime.retry is None and not self._closing:
            wait = _retry_delay(runtime.retried)
            runtime.retry = asyncio.get_running_loop().call_later(wait, self._retry, runtime)

    def _retry(self, runtime: Runtime) -> None:
        runtime.retry = None
        if self.needs_start(runtime.user):
            runtime.retried += 1
            self._on_retry(runtime.user)

    def needs_start(self, user: User) -> bool:
        """Return whether the daemon has to start the user's server: a linked session that nothing else starts."""
        instance = self._registry.get(user)
        if instance is None:
            return False
        assignment = instance.assignment
        return (
            instance.process.state in AT_REST
            and instance.process.next_start is None
            and assignment.desired is Desired.RUNNING
            and assignment.linked
            and assignment.autostart
            and not self._observer.stopped_by_admin(assignment)
        )

    async def _start(self, runtime: Runtime) -> None:
        user, lock = runtime.user, runtime.starting
        queued = lock.locked()
        await self._wait_until_gone(user)
        assignment = self._assignments.known(user).assignment
        if not assignment.linked:
            self._observer.await_code(assignment.port)
        has_answered = has_asked = False
        if self._assignments.known(user).process.state is not ProcessState.RUNNING:
            queued = queued or lock.locked()
            async with self.slots, lock:
                assignment = self._assignments.known(user).assignment
                if queued and assignment.desired is not Desired.RUNNING:
                    raise ServerFailed("the user was stopped meanwhile", cause="canceled", hint=_START_AGAIN)
                opened_at = await self._opened_at(assignment)
                self._admission.admit(user)
                await self._host.begin(user)
                runtime.is_admitted = True
                if not runtime.is_prepared:
                    await self._assignments.write_environment(assignment)
                if not self._observer.holds(assignment.port):
                    await self._sockets.make_room(assignment.port)
                    # From here on the administrator no longer keeps the port closed.
                    await self._assignments.change(user, socket_boot=None)
                began = time.monotonic()
                try:
                    has_answered = await self._start_service(assignment)
                    has_asked = has_answered and not assignment.linked
                    self._metrics.starts.observe(time.monotonic() - began)
                    await self._yield_to_admin(assignment, opened_at)
                except ServerFailed as error:
                    if error.cause == "canceled":
                        # Not our own stop, which would have cancelled this task: an administrator's.
                        await self._note_opened(user)
                    raise
        if not has_answered:
            await self._note_opened(user)
        assignment = self._assignments.known(user).assignment
        if not has_asked and (not assignment.linked or self._waits_for_retry(user)):
            await self._servers.ask_for_code(assignment.port)

    async def _opened_at(self, assignment: Assignment) -> float | None:
        """Return since when systemd holds the port, where the start may not open it; None where it may.

        Raises ServerFailed where an administrator has closed it, or is about to. It asks systemd: when a stop ends
        the server first, its signals may have shown only the end of the server so far.
        """
        if self._runtimes[assignment.user].is_asked:
            return None
        if self._observer.stopped_by_admin(assignment):
            raise _stopped_by_admin()
        if not self._observer.holds(assignment.port):
            return None
        socket = await self._manager.status(socket_unit(assignment.port))
        if socket.active_state != "active" or socket.has_job:
            raise _stopped_by_admin()
        return socket.since

    async def _yield_to_admin(self, assignment: Assignment, opened_at: float | None) -> None:
        """Undo a start that has opened a port that an administrator closed meanwhile."""
        if opened_at is None or self._runtimes[assignment.user].is_asked:
            return
        port = assignment.port
        if (await self._manager.status(socket_unit(port))).since != opened_at:
            await self._sockets.close_port(port)
            raise _stopped_by_admin()

    def _waits_for_retry(self, user: User) -> bool:
        """Return whether the user's session waits: for its turn, or, after a failure, for a retry in some minutes."""
        instance = self._assignments.known(user)
        session = instance.session if instance.answering else None
        return session is not None and (session.state is SessionState.ERROR or session.turn is Turn.AWAITED)

    async def _wait_until_gone(self, user: User) -> None:
        """Wait until a server that ends is gone: until then it answers requests that are meant for the next one."""
        if is_leaving(self._registry.get(user)):
            await self._registry.wait(user, lambda now: not is_leaving(now), _SHUTDOWN_GRACE_S)

    async def _start_service(self, assignment: Assignment) -> bool:
        """Start the server; return whether it has answered, and was asked for a code where no phone is linked."""
        port = assignment.port
        await self._observer.pacer.release(port)
        await self._sockets.forget_failures(port)
        has_answered = False
        asked_at = time.monotonic()
        self._observer.streams.begin_next(port)
        try:
            if assignment.memory_max is not None:
                await self._manager.limit_memory(service_unit(port), assignment.memory_max)
            has_answered = await self._first_answers.start(assignment)
        except JobFailed as error:
            # A request may have joined this start when it had begun.
            asked_at = max(asked_at, self._runtimes[assignment.user].asked_at)
            await self._start_again(port, error, asked_at)
        await self._observer.note_started(port)
        return has_answered

    async def _note_opened(self, user: User) -> None:
        """Store that the port was opened in this life of systemd: from now on, closing it is a decision."""
        if self._assignments.known(user).assignment.socket_boot != self._observer.boot:
            await self._assignments.change(user, socket_boot=self._observer.boot)

    async def _was_joined(self, port: Port, asked_at: float | None) -> bool:
        """Return whether the server that has failed was started before anyone asked for it."""
        # By systemd's own record: it says nothing to anyone while it reads its unit files again.
        return asked_at is not None and 0 < await self._manager.last_start(service_unit(port)) < asked_at

    async def _start_again(self, port: Port, error: JobFailed, asked_at: float | None = None) -> None:
        """Start once more where the port was not free and now is; else raise why the start failed.

        Also where systemd had begun a start before it was ``asked_at`` that time, of the monotonic clock, and the request
        joined that start: what was in its way may have been fixed since.
        """
        # Not by the socket's state: after a few quick failures of the service the socket is down, too.
        is_port = error.result in {"dependency", "assert"}
        if is_port or (error.result == "failed" and await self._was_joined(port, asked_at)):
            try:
                if is_port:
                    await self._sockets.clear_port(port, error)
                await self._manager.start(service_unit(port))
            except JobFailed as second:
                error = second
            else:
                return
        raise (await self._explain(error)).error() from error

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
        return (
            finding._replace(message=f"{finding.message}: {lines[-1][:_QUOTED_CHARS]}") if lines else finding
        )


def _retry_delay(retried: int) -> float:
    """Return after how many seconds a failed start may be tried again."""
    return RETRY_INTERVAL_S * _RETRY_FACTORS[min(retried, len(_RETRY_FACTORS) - 1)]


def _stopped_by_admin() -> ServerFailed:
    return ServerFailed("the administrator stopped the user meanwhile", cause="canceled", hint=_START_AGAIN)
