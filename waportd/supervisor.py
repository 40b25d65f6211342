"""The use cases: a user's server is ensured, started, stopped, restarted, logged out, deleted, reconciled.

Commands go down from here, to the assignments and to the starter, which drive store and systemd. Facts come up
through the observer into the registry, from which every read is answered.
"""

import asyncio
import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from waportd import engines
from waportd.allocation import Allocator
from waportd.assignments import Assignments, refuse_moving
from waportd.capacity import Capacity, measure
from waportd.concurrency import Background
from waportd.config import Bus, Config, Connect, Instances, Limits
from waportd.errors import (
    Conflict,
    NotLinked,
    NotRunning,
    ServerFailed,
    UnknownEngine,
    UnknownUser,
    WaportdError,
)
from waportd.history import History
from waportd.host import Fleet, Host, SingleHost
from waportd.linking import Linking
from waportd.lookout import Lookout, Raised
from waportd.metrics import Metrics
from waportd.model import (
    AT_REST,
    Assignment,
    Desired,
    Options,
    Port,
    ProcessState,
    Session,
    SessionState,
    Usage,
    User,
    service_unit,
)
from waportd.mover import Mover
from waportd.observer import Observer
from waportd.port_holders import Holder, holding
from waportd.ports import preferring_user
from waportd.quotas import STORAGE_NOTES, Pace
from waportd.readiness import (
    PATIENCE_S,
    Wait,
    failure,
    has_failed,
    has_reached,
    too_late,
)
from waportd.reconciler import Reconciler
from waportd.registry import Instance, Registry
from waportd.relay import Relay
from waportd.runtime import Runtimes
from waportd.server_client import ServerClient
from waportd.shortcuts import ALL, Shortcuts
from waportd.sockets import Sockets
from waportd.starter import Starter
from waportd.store import AllocationStore
from waportd.systemd.journal import log_fields
from waportd.systemd.manager import UnitManager
from waportd.systemd.server_log import Level, ServerLog
from waportd.usage import UsageMeter

log = logging.getLogger(__name__)

_RELAY_INTERVAL_S = 20.0
"""Seconds between two notices to a server that a code is still asked for. Less than the minute after
which a server counts a request as a new one."""
_RESTART_GRACE_S = 1.0
"""Seconds for which a server may seem not to run, while systemd restarts it."""
_RECENT_REQUEST_S = 60.0
"""Seconds after a request about a user within which somebody still waits for news."""
USAGE_WAIT_S = 3.0
"""Seconds that a request for the servers' usage waits for the measurement."""
_MAX_MEASUREMENTS = 4
_USAGE_TTL_S = 30.0
"""Seconds for which a figure is reused in requests for those of all servers."""
_LOGOUT_CONNECT_S = 30.0
"""Seconds that a stopped session has to connect, so that its phone can be unlinked."""
_LOGOUT_END_S = 15.0
"""Seconds that a server is given to close its browser and delete its session."""


_RETRY_AFTER_S = 5
"""Seconds after which it makes sense to call a server again that was down."""


_READ_AT_START = {
    *("webhook_url", "webhook_secret", "webhook_events", "ignore", "default_country", "send_rate", "proxy"),
}
"""Options that a server reads when it starts, and that must apply at once."""


class Supervisor:
    """Brings users to their desired state. One per daemon; all of it runs on the event loop."""

    def __init__(
        self,
        config: Config,
        store: AllocationStore,
        manager: UnitManager,
        shortcuts: Shortcuts = ALL,
        host: Host | None = None,
    ) -> None:
        """Act for a ``host`` of a fleet, or else for one that has its users to itself."""
        self._host: Host = host or SingleHost(config.store.instances)
        self.shortcuts = shortcuts
        self.registry = Registry()
        self._config = config
        self._manager = manager
        self.runtimes = Runtimes()
        self._assignments = Assignments(store, self.registry, self.runtimes, config, self._host)
        self.metrics = Metrics()
        self._observer = Observer(
            self.registry,
            self.runtimes,
            manager,
            self.metrics,
            self._on_link,
            self._on_storage,
            self._on_life,
            self._on_failure,
            self._on_turn,
        )
        self._servers = ServerClient()
        self._lookout = Lookout(self.registry, config.limits.start_concurrency)
        self._sockets = Sockets(config, self._assignments, self.registry, self._observer, manager, shortcuts)
        self._starter = Starter(
            config,
            self._assignments,
            self.registry,
            self._observer,
            self._sockets,
            self._servers,
            manager,
            self.metrics,
            self._on_retry,
            shortcuts,
            self._host,
        )
        self._meter = UsageMeter(manager)
        self._allocator = Allocator(
            config,
            self._assignments,
            self.registry,
            self._observer,
            self._sockets,
            self._starter,
            Mover(self._assignments, self._observer, self._sockets, manager),
            self._meter,
            self._host,
        )
        self._reconciler = Reconciler(
            config,
            self.registry,
            self._assignments,
            self._observer,
            self._sockets,
            self._starter,
            self._allocator,
            self._lookout,
            self._erase,
        )
        self.linking = Linking(self.registry, self._assignments, self._servers, self.ensure, self.note_poll)
        self.relay = Relay()
        self._storage_notes = Pace(*STORAGE_NOTES)
        self._measuring: asyncio.Task[None] | None = None
        self.history = History(self.registry, self.metrics, manager)
        self._background = Background()

    async def start(self) -> None:
        """Load the assignments, look at what runs, and begin to reconcile. Raises StoreError, SystemdError."""
        await self._assignments.load()
        self._allocator.load()
        await self._observer.start()
        self._lookout.start()
        if self._host.acts_at_once:
            await self._allocator.give_back_orphans()
            self._background.run(self._reconciler.reconcile(), "reconcile")

    async def close(self) -> None:
        """Close: servers and their sessions continue untouched."""
        self.registry.release()
        await self._background.close()
        await self.history.close()
        await self._lookout.close()
        await self._starter.close()
        await self._sockets.close()
        await self._observer.pacer.close()
        await self._observer.streams.close()
        await self._servers.close()
        await self.relay.close()

    async def idle(self) -> None:
        """Return when nothing is done in the background."""
        await self._background.idle()

    async def reconfigure(self, config: Config) -> None:
        """Take over a new configuration; settings of a server apply from its next start."""
        self._config = config
        self._lookout.reconfigure(config.limits.start_concurrency)
        self._assignments.reconfigure(config)
        self._sockets.reconfigure(config)
        self._starter.reconfigure(config)
        self._allocator.reconfigure(config)
        self._reconciler.reconfigure(config)
        await self._assignments.write_environments()
        # New limits may let sessions start that the old ones blocked.
        self._background.run(self._reconciler.reconcile(), "reconcile")

    # Reading

    @property
    def fleet(self) -> Fleet | None:
        """The hosts that share the users with this one; None for a host on its own."""
        return self._host.fleet

    @property
    def unassigned(self) -> set[Port]:
        """Ports whose unit runs although no user owns them."""
        return self._observer.unassigned

    @property
    def alarm(self) -> Raised | None:
        """The alarm, while many users fail in the same way."""
        return self._lookout.raised

    def known(self, user: User) -> Instance:
        """Return the user's instance; raise UnknownUser where there is none."""
        return self._assignments.known(user)

    async def usage(self, instance: Instance) -> Usage:
        """Return what the user's server uses; empty where none runs."""
        if instance.process.pid is None:
            return Usage()
        return await self._meter.measure(service_unit(instance.assignment.port), instance.process.pid)

    def last_usage(self, instance: Instance) -> Usage | None:
        """Return the last measurement of the user's server; None where there was none since its start."""
        if instance.process.pid is None:
            return None
        return self._meter.known(service_unit(instance.assignment.port), instance.process.pid)

    def preferred_by(self, port: Port) -> User | None:
        """Return the user who would get that port by number, whichever user has it."""
        return preferring_user(port, self._config.ports)

    def usages(self) -> dict[User, Usage]:
        """Return the last measurement of each server that runs, without waiting for a new one."""
        return {
            instance.assignment.user: usage
            for instance in self.registry
            if (usage := self.last_usage(instance))
        }

    async def capacity(self) -> Capacity:
        """Return the machine's resources and how many more servers fit, after measuring those that run."""
        if self._measuring is None or self._measuring.done():
            self._measuring = self._background.run(self._measure_all(), "measure the servers")
        if self._measuring is not None:
            # Each request gets an answer: figures that are not there in time are old, or missing.
            await asyncio.wait({self._measuring}, timeout=USAGE_WAIT_S)
        running = sum(instance.process.state not in AT_REST for instance in self.registry)
        memory = [usage.memory for usage in self.usages().values() if usage.memory]
        return measure(self._config.limits, running, memory)

    @property
    def limits(self) -> Limits:
        """What the configuration allows."""
        return self._config.limits

    @property
    def instances(self) -> Instances:
        """The servers' settings in the configuration."""
        return self._config.instances

    @property
    def connect(self) -> Connect:
        """The connect page's settings in the configuration."""
        return self._config.connect

    @property
    def metrics_per_user(self) -> bool:
        """Whether each user has series of its own."""
        return self._config.metrics.per_user

    async def holders(self, port: Port) -> list[Holder]:
        """Return which process holds a port, as far as the daemon's user may see it."""
        return await holding(port)

    async def open_log(self, user: User, level: Level = Level.ALL) -> ServerLog:
        """Return the journal of the user's server, to be closed by the caller. Raises UnknownUser, JournalUnavailable."""
        assignment = self.known(user).assignment
        system = self._config.systemd.bus is Bus.SYSTEM
        return await ServerLog.open(assignment, system=system, level=level)

    async def poll(self, user: User, on_change: Callable[[], None] = lambda: None) -> Instance:
        """Note a poll for this user's code, and return the instance from memory.

        Starts a server that should run and does not. Never undoes a stop, and never repeats a failed start
        within a minute: a page that was left open polls for ever. ``on_change`` is called before it creates a user or
        starts a server.
        """
        instance = self.registry.get(user)
        if instance is None or instance.assignment.desired is Desired.DELETED:
            on_change()
            instance, _ = await self.assign(user)
        elif self.starts_by_poll(instance):
            on_change()
        self.note_poll(instance)
        return self.known(user)

    def starts_by_poll(self, instance: Instance) -> bool:
        """Return whether a request for this user's code starts the server."""
        assignment, process = instance.assignment, instance.process
        if assignment.desired is not Desired.RUNNING:
            return False
        if process.state is ProcessState.STOPPED:
            return not self._observer.stopped_by_admin(assignment)
        has_failed = process.state in {ProcessState.FAILED, ProcessState.CRASH_LOOP}
        return has_failed and process.next_start is None and self._starter.may_retry(assignment.user)

    def note_poll(self, instance: Instance) -> None:
        """Do what `poll` does for a user whose instance is this one: the part that takes no time."""
        assignment = instance.assignment
        user = assignment.user
        runtime = self.runtimes[user]
        runtime.used_at = now = time.monotonic()
        if instance.process.state is ProcessState.RUNNING:
            waiting = instance.session is None or not instance.session.linked
            if waiting and now - runtime.relayed_at >= _RELAY_INTERVAL_S:
                runtime.relayed_at = now
                self._background.run(self._relay(assignment.port), f"relay a question of {user}")
        elif self.starts_by_poll(instance):
            if instance.process.state is ProcessState.STOPPED:
                self._starter.launch(user, asked=False)
            else:
                self._starter.retry(user)

    def reachable(self, user: User) -> Instance:
        """Return the instance of a user whose server may be called on its port.

        A server that rests behind its socket is started by the call, if a phone is linked. Raises UnknownUser,
        NotLinked, Conflict where somebody stopped the user, NotRunning where it is not up for another reason.
        """
        instance = self.known(user)
        assignment, process = instance.assignment, instance.process
        if not instance.held or assignment.moving_to is not None:
            # Another program may listen there.
            hint = f"`POST /v1/users/{user}/start` starts it"
            if self._was_stopped(assignment):
                raise Conflict(f"user {user} was stopped", hint=hint, cause="stopped")
            raise NotRunning(
                f"the server of user {user} is not up",
                hint=hint,
                cause=process.cause,
                retry_after=_RETRY_AFTER_S,
            )
        if process.state in {ProcessState.FAILED, ProcessState.CRASH_LOOP}:
            wait = (process.next_start or 0.0) - time.time()
            raise NotRunning(
                f"the server of user {user} does not run: {process.message}",
                hint=process.hint,
                cause=process.cause,
                retry_after=max(_RETRY_AFTER_S, math.ceil(wait)),
            )
        if not assignment.linked and process.state in AT_REST:
            raise NotLinked(f"user {user} has no linked phone", hint=f"`GET /v1/users/{user}/qr` is to scan")
        self.runtimes[user].used_at = time.monotonic()
        return instance

    # Use cases

    async def assign(self, user: User, options: Options | None = None) -> tuple[Instance, bool]:
        """Return the user's instance, and whether its port was assigned just now, durably.

        Raises UnknownEngine, PortsExhausted, StoreError, SystemdError.
        """
        async with self._owned_or_new(user, options) as owned:
            return owned

    async def ensure(
        self,
        user: User,
        options: Options | None = None,
        wait: Wait = Wait.LISTENING,
        timeout: float | None = None,  # noqa: ASYNC109  # the caller's, and turned into an error of its own
        *,
        undo_stop: bool = True,
    ) -> tuple[Instance, bool]:
        """Give the user a running server, and return when it has come as far as ``wait`` says.

        Returns the instance, and whether the user is new. Asks for a new code where no phone is linked. Raises
        StartTimeout after ``timeout`` seconds, ServerFailed with the cause where the server does not get there,
        TooManyRunning, Conflict where the user was stopped and ``undo_stop`` is not given, and what `assign` raises.
        """
        async with self._owned_or_new(user, options) as (instance, created):
            refuse_moving(instance.assignment)
            if not undo_stop and self._was_stopped(instance.assignment):
                raise Conflict(
                    f"user {user} was stopped",
                    hint="the operator of this service has to start the user again",
                    cause="stopped",
                )
            if instance.assignment.desired is not Desired.RUNNING:
                await self._assignments.change(user, desired=Desired.RUNNING)
        instance = await self._bring_up(user, wait, timeout, prepared=created)
        if created:
            self._allocator.clean_next_later(instance.assignment.port)
        return instance, created

    async def set_options(self, user: User, options: Options) -> Instance:
        """Change the settings of a user who has a port; this starts no server.

        Raises UnknownUser, UnknownEngine, StoreError, SystemdError.
        """
        await self._check(options)
        async with self._assignments.owned(user):
            await self._set(self.known(user), options)
        return self.known(user)

    def _was_stopped(self, assignment: Assignment) -> bool:
        return assignment.desired is Desired.STOPPED or self._observer.stopped_by_admin(assignment)

    async def start_server(
        self,
        user: User,
        wait: Wait = Wait.LISTENING,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Instance:
        """As `ensure`, for a user who has a port already. Raises UnknownUser."""
        self.known(user)
        instance, _ = await self.ensure(user, None, wait, timeout)
        return instance

    async def stop(self, user: User) -> Instance:
        """Stop the server and give up its port's socket; the login and the port stay the user's."""
        async with self._assignments.owned(user) as assignment, self.runtimes[user].no_start():
            await self._assignments.change(user, desired=Desired.STOPPED)
            await self._sockets.close_port(assignment.port)
            # Distinguishes a finished stop from one that a crash cut short.
            await self._assignments.change(user, socket_boot=None)
        return self.known(user)

    async def restart(self, user: User) -> Instance:
        """Restart the server; requests on its port wait meanwhile."""
        async with self._assignments.owned(user):
            assignment = await self._assignments.change(user, desired=Desired.RUNNING)
            if self.known(user).process.state is ProcessState.RUNNING:
                await self._starter.restart(assignment)
        return await self._bring_up(user, Wait.LISTENING)

    async def log_out(self, user: User) -> Instance:
        """Unlink the phone and delete the session; the port stays the user's.

        A linked session that does not run is started for it, since only a connected one can unlink its phone.
        If it does not connect, the session is deleted all the same and its message says so.
        """
        instance = self.known(user)
        if instance.assignment.linked and not has_reached(instance, Wait.READY):
            try:
                await self._bring_up(user, Wait.READY, _LOGOUT_CONNECT_S)
            except WaportdError as error:
                log.warning("Cannot connect for the logout: %s", error, extra=log_fields(user))
        async with self._assignments.owned(user) as assignment, self.runtimes[user].no_start():
            unlinked = await self._unlink(user)
            runs_on = assignment.desired is Desired.RUNNING
            if not unlinked or not runs_on:
                await self._assignments.change(user, socket_boot=None)
                await self._sockets.wipe(assignment.port)
            await self._assignments.change(user, linked=False, linked_at=None, storage=None)
            self._note_logout(user, unlinked=unlinked)
            if not unlinked and runs_on:
                await self._sockets.reopen(self.known(user).assignment)
        return self.known(user)

    async def delete(self, user: User) -> None:
        """Stop the server, delete its session, free the port. Done when it returns.

        A deletion that a crash or an error cut short is resumed when the daemon starts, or by another call.
        """
        async with self.runtimes[user].lock:
            await self._erase(await self._assignments.change(user, desired=Desired.DELETED))

    async def move(self, user: User, port: Port | None = None) -> Instance:
        """Give the user another port, with login, cache and drop-ins; a server that was up is started there.

        Without ``port``, the one that a new user of that name would get. A move that a crash or an error cut short is
        finished when the daemon starts, or by another call, whichever port that names. Raises UnknownUser, Conflict
        where the port is not available, PortsExhausted, StoreError, SystemdError; then the user is as before.
        """
        async with self._assignments.owned(user, moving=True) as assignment:
            was_up = self.known(user).process.state is not ProcessState.STOPPED
            try:
                if assignment.moving_to is None:
                    await self._allocator.move(assignment, port)
                else:
                    await self._allocator.finish_move(assignment)
            except WaportdError:
                if was_up and self.known(user).assignment.moving_to is None:
                    self._starter.launch(user)
                raise
        if was_up:
            # Whether or not the start succeeds, which the state shows: the move is done.
            await asyncio.wait({self._starter.launch(user)}, timeout=PATIENCE_S[Wait.LISTENING])
        return self.known(user)

    async def open_port(self, user: User, on_change: Callable[[], None] = lambda: None) -> Instance:
        """As `assign`, and have systemd hold the port, unless the user was stopped. Raises PortHeld, too.

        ``on_change`` is called before it creates a user or opens a port.
        """
        instance = self.registry.get(user)
        if instance is None or instance.assignment.desired is Desired.DELETED:
            on_change()
        async with self._owned_or_new(user) as (instance, created):
            refuse_moving(instance.assignment)
            if self._reconciler.is_to_reopen(user):
                on_change()
                await self._sockets.reopen(self.known(user).assignment)
        if created:
            self._allocator.clean_next_later(instance.assignment.port)
        return self.known(user)

    # What a fleet decides

    def pause(self) -> None:
        """Take note that this host holds no lease: systemd stops all servers, and no administrator has."""
        self._observer.note_lease(None)

    async def resume(self, lease: int) -> None:
        """Bring every user to the desired state: nothing runs that this host's former lease allowed.

        ``lease`` is the incarnation of the present one, which may be that of an earlier daemon.
        """
        self._observer.note_lease(lease)
        await self._allocator.give_back_orphans()
        await self._reconciler.reconcile()

    async def gain(self, assignment: Assignment) -> None:
        """Run a user who belongs to this host from now on; the store has the assignment."""
        self._assignments.take_in(assignment)
        self._observer.refresh(assignment.port)
        self._background.run(
            self._reconciler.reconcile_user(assignment.user), f"start {assignment.user}, who came here"
        )

    async def lose(self, user: User) -> None:
        """Stop a user who belongs to another host from now on, and know no more of the user. The files stay.

        Raises StoreError, SystemdError.
        """
        async with self.runtimes[user].lock:
            instance = self.registry.get(user)
            if instance is None:
                return
            assignment = instance.assignment
            async with self.runtimes[user].no_start():
                await self._end(assignment)
                self._assignments.let_go(user)
            self._forget(assignment)

    async def clean(self, port: Port) -> None:
        """Delete what a user who is not here has left on a port. Raises SystemdError."""
        await self._sockets.have_cleaned(port)

    async def give(self, user: User, hand_over: Callable[[], Awaitable[bool]]) -> bool:
        """Stop a user, have ``hand_over`` give the user to another host, and return what that returns: whether it did.

        Nothing of the user runs or starts meanwhile. Who stays runs again. Raises UnknownUser, Conflict, StoreError,
        SystemdError, and what ``hand_over`` raises.
        """
        is_gone = False
        try:
            async with self._assignments.owned(user) as assignment, self.runtimes[user].no_start():
                if self._observer.holds(assignment.port):
                    # Not an administrator's stop: who stays is to run again.
                    await self._assignments.change(user, socket_boot=None)
                await self._end(assignment)
                is_gone = await hand_over()
                if is_gone:
                    self._assignments.let_go(user)
                    self._forget(assignment)
        finally:
            if not is_gone:
                self.stay(user)
        return is_gone

    def stay(self, user: User) -> None:
        """Run a user again who was to leave, and belongs to this host."""
        if self.registry.get(user) is not None:
            self._background.run(self._reconciler.reconcile_user(user), f"start {user}, who stays")

    async def _end(self, assignment: Assignment) -> None:
        """Stop what runs of a user, and keep systemd from starting it."""
        for port in assignment.ports:
            await self._assignments.remove_environment(port)
            await self._sockets.close_port(port)

    # How they are done

    @contextlib.asynccontextmanager
    async def _owned_or_new(
        self, user: User, options: Options | None = None
    ) -> AsyncIterator[tuple[Instance, bool]]:
        """Hold the lock of a user, who gets a port where there is none yet, and these options.

        Gives the instance, and whether the port was assigned just now. Raises as `assign`.
        """
        await self._check(options or {})
        async with self.runtimes[user].lock:
            instance = self.registry.get(user)
            if instance is not None and instance.assignment.desired is Desired.DELETED:
                await self._erase(instance.assignment)
                instance = None
            if instance is None:
                yield await self._allocator.assign(user, options or {}), True
            else:
                if options:
                    await self._set(instance, options)
                yield self.known(user), False

    async def _check(self, options: Options) -> None:
        """Raise UnknownEngine for an engine that is not installed."""
        engine = options.get("engine")
        if engine is not None and (refused := await asyncio.to_thread(engines.refusal, engine, self._config)):
            raise UnknownEngine(refused[0], hint=refused[1])

    async def _set(self, instance: Instance, options: Options) -> None:
        """Change the settings of a user: in effect at once where the server runs, except for the engine."""
        before, user = instance.assignment, instance.assignment.user
        after = await self._assignments.change(user, **options)
        if after.memory_max != before.memory_max:
            await self._manager.limit_memory(service_unit(after.port), self._memory_max(after))
        retold = any(getattr(after, option) != getattr(before, option) for option in _READ_AT_START)
        if after.engine != before.engine or retold:
            await self._assignments.write_environment(after)
        if retold and self.known(user).process.state not in AT_REST:
            await self._starter.restart(after)

    def _memory_max(self, assignment: Assignment) -> int:
        return self._config.limits.memory_max if assignment.memory_max is None else assignment.memory_max

    async def _bring_up(
        self,
        user: User,
        wait: Wait,
        timeout: float | None = None,  # noqa: ASYNC109
        *,
        prepared: bool = False,
    ) -> Instance:
        timeout = PATIENCE_S[wait] if timeout is None else timeout
        self.runtimes[user].used_at = now = time.monotonic()
        deadline = now + timeout
        asked_at = time.time()
        launch = self._starter.launch(user, prepared=prepared)
        if wait is Wait.NONE:
            return self.known(user)
        done, _ = await asyncio.wait({launch}, timeout=timeout)
        if not done:
            raise too_late(self.known(user), wait, timeout)
        if launch.cancelled():
            raise ServerFailed("the start was interrupted", cause="canceled", hint="start the user again")
        launch.result()
        if wait is Wait.LISTENING:
            return self.known(user)
        instance = await self._wait_until_reached(user, wait, asked_at, deadline)
        if instance is None:
            raise UnknownUser(f"user {user} was deleted meanwhile")
        if has_reached(instance, wait) or self.registry.released:
            return instance
        if has_failed(instance, asked_at):
            raise failure(instance)
        raise too_late(self.known(user), wait, timeout)

    async def _wait_until_reached(
        self, user: User, wait: Wait, asked_at: float, deadline: float
    ) -> Instance | None:
        """Return the instance once it has come as far as ``wait`` says, or further waiting is useless, or time is up.

        Where the server ends meanwhile, and systemd restarts it, it waits for that and asks for a code again.
        """
        pid = self.known(user).process.pid

        def is_news(now: Instance | None) -> bool:
            return (
                now is None
                or has_reached(now, wait)
                or has_failed(now, asked_at)
                or now.process.pid not in {None, pid}
            )

        while True:
            instance = await self.registry.wait(user, is_news, deadline - time.monotonic())
            if instance is None or has_reached(instance, wait):
                return instance
            if instance.process.state in {ProcessState.STOPPED, ProcessState.FAILED}:
                patience = min(_RESTART_GRACE_S, deadline - time.monotonic())
                instance = await self.registry.wait(
                    user, lambda now: now is None or now.process.state not in AT_REST, patience
                )
                if instance is None or instance.process.state in AT_REST:
                    return instance
            elif instance.process.pid in {None, pid}:
                return instance
            else:
                pid = instance.process.pid
                if not instance.assignment.linked:
                    await self._ask_for_code(instance)

    async def _ask_for_code(self, instance: Instance) -> None:
        """Have a server that runs show a code; a failure shows in its session."""
        user, port = instance.assignment.user, instance.assignment.port
        try:
            await self._servers.ask_for_code(port)
        except ServerFailed as error:
            log.info("Cannot ask for a code: %s", error, extra=log_fields(user, port))

    async def _unlink(self, user: User) -> bool:
        """Have a connected server unlink its phone and delete its session; return whether it did."""
        instance = self.known(user)
        if not has_reached(instance, Wait.READY):
            return False
        try:
            await self._servers.log_out(instance.assignment.port)
        except ServerFailed as error:
            log.warning("Cannot unlink the phone: %s", error, extra=log_fields(user))
            return False

        def has_ended(now: Instance | None) -> bool:
            # A poll on its port may have restarted it already.
            return now is None or now.process.pid != instance.process.pid

        return has_ended(await self.registry.wait(user, has_ended, _LOGOUT_END_S))

    def _note_logout(self, user: User, *, unlinked: bool) -> None:
        by_hand = "the session was deleted here; if the phone still lists the device, remove it there"
        message = "logged out" if unlinked else by_hand
        session = Session(state=SessionState.LOGGED_OUT, since=time.time(), message=message)
        instance = self.known(user)
        self.registry.put(dataclasses.replace(instance, session=session))
        log.info("%s", message, extra=log_fields(user, instance.assignment.port))

    async def _erase(self, assignment: Assignment) -> None:
        port, user = assignment.port, assignment.user
        self._starter.keep_retry_pause(user)
        async with self.runtimes[user].no_start():
            for each in assignment.ports:
                await self._sockets.wipe(each)
            if assignment.memory_max is not None:
                # It would apply to the port's next owner.
                await self._manager.limit_memory(service_unit(port), self._config.limits.memory_max)
            await self._assignments.remove(assignment)
        self._forget(assignment)
        log.info("deleted; the port is free", extra=log_fields(user, port))

    def _forget(self, assignment: Assignment) -> None:
        """Forget what is known of a user who is not here any more."""
        self._allocator.note_free(assignment)
        self._observer.forget(assignment.port)
        self._meter.forget(service_unit(assignment.port))
        self.linking.forget(assignment.user)

    async def _relay(self, port: Port) -> None:
        try:
            await self._servers.relay_poll(port)
        except ServerFailed as error:
            log.info("Cannot relay a question: %s", error, extra=log_fields(port=port))

    def _on_link(self, user: User, linked: bool) -> None:  # noqa: FBT001
        self._background.run(self._remember_link(user, linked=linked), f"remember the link of {user}")

    def _on_storage(self, user: User) -> None:
        # A server could report its size all the time, and each note has to reach the disk.
        if not self._storage_notes.count(user, time.monotonic()):
            self._background.run(self._remember_storage(user), f"remember the size of {user}")

    def _on_failure(self, user: User) -> None:
        self._starter.note_failure(user)

    def _on_turn(self, user: User) -> None:
        self._background.run(self._reconciler.start_in_turn(user), f"let {user} begin")

    def _on_retry(self, user: User) -> None:
        self._background.run(self._reconciler.reconcile_user(user), f"start {user} again")

    def _on_life(self) -> None:
        self._background.run(self._reconciler.reconcile(), "reconcile")

    async def _remember_link(self, user: User, *, linked: bool) -> None:
        async with self.runtimes[user].lock:
            instance = self.registry.get(user)
            # A report from before a logout that held the lock is no longer true.
            if instance is None or instance.session is None or instance.session.linked != linked:
                return
            if linked != instance.assignment.linked:
                kept = {"linked_at": time.time()} if linked else {"linked_at": None, "storage": None}
                await self._assignments.change(user, linked=linked, **kept)
        # Its login is gone without a logout, and its start did not ask for a code: none seemed needed.
        asked_at = self.runtimes[user].used_at
        if (
            instance.session.state is SessionState.GENERATING
            and time.monotonic() - asked_at < _RECENT_REQUEST_S
        ):
            await self._ask_for_code(instance)

    async def _remember_storage(self, user: User) -> None:
        async with self.runtimes[user].lock:
            instance = self.registry.get(user)
            if instance is not None and instance.session is not None and instance.session.storage is not None:
                await self._assignments.change(user, storage=instance.session.storage)

    async def _measure_all(self) -> None:
        """Measure what every server uses, unless that was done within the last half minute."""
        few = asyncio.Semaphore(_MAX_MEASUREMENTS)

        async def measure_one(instance: Instance) -> None:
            if instance.process.pid is not None:
                async with few:
                    unit = service_unit(instance.assignment.port)
                    await self._meter.measure(unit, instance.process.pid, _USAGE_TTL_S)

        await asyncio.gather(*map(measure_one, self.registry))
