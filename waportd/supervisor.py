"""The use cases: a user's server is ensured, started, stopped, restarted, logged out, deleted, reconciled.

Commands go down from here, to the assignments and to the starter, which drive store and systemd. Facts come up
through the observer into the picture, from which every read is answered.
"""

import asyncio
import collections
import dataclasses
import enum
import logging
import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypedDict

from waportd import engines
from waportd.assignments import Assignments
from waportd.config import Bus, Config, Instances, Limits
from waportd.diagnosis import Finding
from waportd.errors import (
    AlreadyLinked,
    Conflict,
    ServerFailed,
    StartTimeout,
    UnknownEngine,
    UnknownUser,
    WaportdError,
)
from waportd.holders import Holder, listeners
from waportd.host import Room, measure
from waportd.lookout import Lookout, Raised
from waportd.metrics import Metrics
from waportd.model import (
    Assignment,
    Desired,
    PairingCode,
    Port,
    ProcessState,
    Session,
    SessionState,
    Usage,
    User,
    service_unit,
)
from waportd.observer import AT_REST, Observer
from waportd.pairing import PairingLimit
from waportd.picture import Instance, Picture
from waportd.ports import choose, next_free, preferring_user, taken_below
from waportd.starter import PortHeld, Starter
from waportd.store import AllocationStore
from waportd.systemd.journal import log_fields
from waportd.systemd.lines import ServerLog
from waportd.systemd.manager import UnitManager
from waportd.usage import UsageMeter

log = logging.getLogger(__name__)

_RELAY_INTERVAL = 20.0
"""Seconds between two notices to a server that somebody still asks for a code. Less than the minute after
which a server takes a question for a new one."""
_BLINK = 1.0
"""Seconds for which a server may look as if it did not run, while systemd starts it again."""
_PAUSE = 0.1
"""Seconds after an assignment until the next port is cleaned, which takes the machine some 20 ms."""
_ASKED = 60.0
"""Seconds after a question for a user within which somebody still wants to know."""
_MEASURING = 3.0
"""Seconds that whoever asks what the servers use waits for that to be measured."""
_MEASURED_AT_ONCE = 4
_MEASURED_EVERY = 30.0
"""Seconds for which a figure is served to who asks for those of all servers."""
_LOGOUT_READY = 30.0
"""Seconds that a stopped session is given to get connected, so that its phone can be unlinked."""
_TURN = 30.0
"""Seconds that a linked session is given to get connected before the next one starts, after a boot."""
_LOGOUT_END = 15.0
"""Seconds that a server is given to close its browser and delete its session."""


class Wait(enum.StrEnum):
    """How far a server must have come before `Supervisor.ensure` returns."""

    NONE = "none"
    LISTENING = "listening"
    QR = "qr"
    READY = "ready"


PATIENCE = {Wait.NONE: 0.0, Wait.LISTENING: 30.0, Wait.QR: 90.0, Wait.READY: 180.0}
"""Seconds that a caller waits who names no timeout."""

_PAIRING_ENDS = 5.0
"""Seconds until a server's answer that it shows codes to scan again has come by its event stream, too."""
_BEYOND_A_CODE = {SessionState.PAIRING, SessionState.AUTHENTICATED, SessionState.READY}
_DEAD_ENDS = {SessionState.ERROR, SessionState.QR_TIMEOUT, SessionState.PASSKEY_REQUIRED}


class Options(TypedDict, total=False):
    """What a caller may set for a user. A member that is missing stays as it is; None means the default."""

    webhook_url: str | None
    memory_max: int | None
    autostart: bool
    engine: str | None


class Supervisor:
    """Moves what is to what should be. One per daemon; all of it runs on the event loop."""

    def __init__(self, config: Config, store: AllocationStore, manager: UnitManager) -> None:
        self.picture = Picture()
        self._config = config
        self._manager = manager
        self._assignments = Assignments(store, self.picture, config)
        self.metrics = Metrics()
        self._observer = Observer(
            self.picture, manager, self.metrics, self._on_link, self._on_life, self._on_failure
        )
        self._lookout = Lookout(self.picture)
        self._starter = Starter(
            config, self._assignments, self.picture, self._observer, manager, self.metrics, self._lookout
        )
        self._meter = UsageMeter(manager)
        self._pairing = PairingLimit()
        self._turns = asyncio.Semaphore(config.limits.start_concurrency)
        """Limits how many linked sessions come back at a time."""
        self._choosing: dict[Port, User] = {}
        self._taken_below = 0
        """Below which port all of the overflow range are assigned."""
        self._relayed_at: dict[User, float] = {}
        self._measuring: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load the assignments, look at what runs, and begin to reconcile. Raises StoreError, SystemdError."""
        await self._assignments.load()
        await self._observer.start()
        self._lookout.start()
        await self._sweep()
        self._background(self._reconcile(), "reconcile")

    async def close(self) -> None:
        """Let go: servers and their sessions go on untouched."""
        self.picture.release()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._lookout.close()
        await self._starter.close()
        await self._observer.pacer.close()
        await self._observer.sessions.close()

    async def reconfigure(self, config: Config) -> None:
        """Take over a new configuration; what concerns a server holds from its next start."""
        if config.limits.start_concurrency != self._config.limits.start_concurrency:
            self._turns = asyncio.Semaphore(config.limits.start_concurrency)
        self._config = self._assignments.config = config
        self._taken_below = 0
        self._starter.reconfigure(config)
        await self._assignments.write_environments()
        # New limits may let sessions start that the old ones kept down.
        self._background(self._reconcile(), "reconcile")

    # Reading

    @property
    def unassigned(self) -> set[Port]:
        """Ports whose unit runs although nobody owns them."""
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
        """Return what was measured last of the user's server; None where that was not since its start."""
        if instance.process.pid is None:
            return None
        return self._meter.known(service_unit(instance.assignment.port), instance.process.pid)

    def preferred_by(self, port: Port) -> User | None:
        """Return the user who would get that port by number, whoever has it."""
        return preferring_user(port, self._config.ports)

    def usages(self) -> dict[User, Usage]:
        """Return what was measured last of each server that runs; no server's figure is waited for."""
        return {
            instance.assignment.user: usage
            for instance in self.picture
            if (usage := self.last_usage(instance))
        }

    async def room(self) -> Room:
        """Return what the machine has and how many more servers fit, after a look at what those that run use."""
        if self._measuring is None or self._measuring.done():
            self._measuring = self._background(self._measure_all(), "measure the servers")
        if self._measuring is not None:
            # Whoever asks gets an answer: what is not known by then is from before, or missing.
            await asyncio.wait({self._measuring}, timeout=_MEASURING)
        running = sum(instance.process.state not in AT_REST for instance in self.picture)
        memory = [usage.memory for usage in self.usages().values() if usage.memory]
        return measure(self._config.limits, running, memory)

    @property
    def limits(self) -> Limits:
        """What the configuration allows."""
        return self._config.limits

    @property
    def instances(self) -> Instances:
        """What the configuration tells each server."""
        return self._config.instances

    @property
    def metrics_per_user(self) -> bool:
        """Whether each user has series of its own."""
        return self._config.metrics.per_user

    async def holders(self, port: Port) -> list[Holder]:
        """Return who listens on a port, as far as the daemon's user may see it."""
        return await listeners(port)

    async def open_log(self, user: User) -> ServerLog:
        """Return the journal of the user's server, to be closed by the caller. Raises UnknownUser, JournalUnavailable."""
        assignment = self.known(user).assignment
        return await ServerLog.open(assignment, system=self._config.systemd.bus is Bus.SYSTEM)

    async def ask(self, user: User) -> Instance:
        """Note that somebody polls for this user's code, and return the instance from memory.

        Starts a server that should run and does not. Never undoes a stop, and never repeats a failed start
        within a minute: a page that was left open asks for ever.
        """
        instance = self.picture.get(user)
        if instance is None or instance.assignment.desired is Desired.DELETED:
            instance, _ = await self.assign(user)
        self.note_question(instance)
        return self.known(user)

    def note_question(self, instance: Instance) -> None:
        """Do what `ask` does for a user whose instance is this one: the part that takes no time."""
        assignment = instance.assignment
        user = assignment.user
        self._starter.used_at[user] = now = time.monotonic()
        match instance.process.state:
            case ProcessState.RUNNING:
                waiting = instance.session is None or not instance.session.linked
                if waiting and now - self._relayed_at.get(user, float("-inf")) >= _RELAY_INTERVAL:
                    self._relayed_at[user] = now
                    self._background(self._relay(assignment.port), f"relay a question of {user}")
            case ProcessState.STOPPED:
                if assignment.desired is Desired.RUNNING and not self._observer.stopped_by_admin(assignment):
                    self._starter.launch(user, asked=False)
            case ProcessState.FAILED | ProcessState.CRASH_LOOP:
                if assignment.desired is Desired.RUNNING and instance.process.next_start is None:
                    self._starter.retry(user)

    # Use cases

    async def assign(self, user: User, options: Options | None = None) -> tuple[Instance, bool]:
        """Return the user's instance, and whether its port was assigned just now, durably.

        Raises UnknownEngine, PortsExhausted, StoreError, SystemdError.
        """
        await self._check(options or {})
        async with self._assignments.lock(user):
            instance = self.picture.get(user)
            if instance is not None and instance.assignment.desired is Desired.DELETED:
                await self._erase(instance.assignment)
                instance = None
            if instance is None:
                return await self._assign(user, options or {}), True
            if options:
                await self._set(instance, options)
            return self.known(user), False

    async def ensure(
        self,
        user: User,
        options: Options | None = None,
        wait: Wait = Wait.LISTENING,
        timeout: float | None = None,  # noqa: ASYNC109  # the caller's, and turned into an error of its own
        *,
        undo_stop: bool = True,
    ) -> tuple[Instance, bool]:
        """Give the user a running server, and return when it is as far as ``wait`` says.

        Returns the instance, and whether the user is new. Asks for a new code where no phone is linked. Raises
        StartTimeout after ``timeout`` seconds, ServerFailed with the cause where the server does not get there,
        TooManyRunning, Conflict where somebody stopped the user and ``undo_stop`` is not given, and what `assign` raises.
        """
        _, created = await self.assign(user, options)
        async with self._assignments.owned(user) as assignment:
            if not undo_stop and self._was_stopped(assignment):
                raise Conflict(
                    f"user {user} was stopped",
                    hint="whoever runs this service has to start the user again",
                    cause="stopped",
                )
            await self._assignments.change(user, desired=Desired.RUNNING)
        instance = await self._bring_up(user, wait, timeout)
        if created:
            self._clean_next_later(instance.assignment.port)
        return instance, created

    async def set_options(self, user: User, options: Options) -> Instance:
        """Change what was asked for a user who has a port; no server starts by that.

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

    async def pairing_code(self, user: User, phone: str, *, undo_stop: bool = True) -> PairingCode:
        """Return a code to type on the phone of that number, digits only, starting the server for it.

        The same code again while it is valid. Raises AlreadyLinked, TooManyRequests, StartTimeout where WhatsApp gave
        none in time, and what `ensure` raises.
        """
        instance = self.picture.get(user)
        if instance is not None and instance.assignment.linked:
            raise AlreadyLinked(
                f"user {user} has a linked phone",
                hint=f"`POST /v1/users/{user}/logout` unlinks it; then ask again",
            )
        instance, _ = await self.ensure(user, undo_stop=undo_stop)
        port, of = instance.assignment.port, (instance.process.pid, phone)
        self._pairing.admit(user, phone, of, time.monotonic())
        ends_in = 0.0
        try:
            log.info("asking for a pairing code", extra=log_fields(user, port))
            code = await self._observer.sessions.pairing_code(port, phone)
            ends_in = code.expires_at - time.time()
        finally:
            self._pairing.settle(user, of, time.monotonic() + ends_in)
        return code

    async def end_pairing(self, user: User) -> None:
        """Have a running server make codes to scan in place of a pairing code, unless a phone has answered.

        Raises UnknownUser, ServerFailed.
        """
        instance = self.known(user)
        if instance.session is None or instance.process.state in AT_REST:
            return  # a call would wake a server that rests behind its socket
        await self._observer.sessions.end_pairing(instance.assignment.port)
        self._pairing.end(user, time.monotonic())
        await self.picture.wait(user, lambda now: now is None or not _pairs(now), _PAIRING_ENDS)

    async def stop(self, user: User) -> Instance:
        """Stop the server and give up its port's socket; the login and the port stay the user's."""
        async with self._assignments.owned(user) as assignment, self._starter.no_start(user):
            await self._assignments.change(user, desired=Desired.STOPPED)
            await self._starter.close_port(assignment.port)
            # Tells a stop that is done from one that a crash cut short.
            await self._assignments.change(user, socket_boot=None)
        return self.known(user)

    async def restart(self, user: User) -> Instance:
        """Start the server anew; requests on its port wait meanwhile."""
        async with self._assignments.owned(user):
            assignment = await self._assignments.change(user, desired=Desired.RUNNING)
            if self.known(user).process.state is ProcessState.RUNNING:
                await self._starter.restart(assignment)
        return await self._bring_up(user, Wait.LISTENING)

    async def log_out(self, user: User) -> Instance:
        """Unlink the phone and delete the session; the port stays the user's.

        A linked session that does not run is started for it, since only a connected one can unlink its phone.
        Where it does not get connected, the session is deleted all the same and its message says so.
        """
        instance = self.known(user)
        if instance.assignment.linked and not _has_reached(instance, Wait.READY):
            try:
                await self._bring_up(user, Wait.READY, _LOGOUT_READY)
            except WaportdError as error:
                log.warning("Cannot connect for the logout: %s", error, extra=log_fields(user))
        async with self._assignments.owned(user) as assignment, self._starter.no_start(user):
            unlinked = await self._unlink(user)
            runs_on = assignment.desired is Desired.RUNNING
            if not unlinked or not runs_on:
                await self._assignments.change(user, socket_boot=None)
                await self._starter.wipe(assignment.port)
            await self._assignments.change(user, linked=False)
            self._note_logout(user, unlinked=unlinked)
            if not unlinked and runs_on:
                await self._starter.reopen(self.known(user).assignment)
        return self.known(user)

    async def delete(self, user: User) -> None:
        """Stop the server, delete its session, free the port. Done when it returns.

        One that a crash or an error cut short is resumed when the daemon starts, or by another call.
        """
        async with self._assignments.lock(user):
            await self._erase(await self._assignments.change(user, desired=Desired.DELETED))

    async def open_port(self, user: User) -> Instance:
        """As `assign`, and have systemd hold the port, where nobody stopped the user. Raises PortHeld, too."""
        instance, created = await self.assign(user)
        async with self._assignments.owned(user):
            await self._reopen(user)
        if created:
            self._clean_next_later(instance.assignment.port)
        return self.known(user)

    # How they are done

    async def _assign(self, user: User, options: Options) -> Instance:
        held = self._strays()
        while True:
            owners = self._owners()
            self._taken_below = taken_below(self._config.ports, self.picture.owners(), self._taken_below)
            choice = choose(user, self._config.ports, owners, held.get, self._taken_below)
            assignment = Assignment(
                user,
                choice.port,
                created_at=time.time(),
                note=choice.note,
                socket_boot=self._observer.boot,
                **options,
            )
            # Kept from others while it is tried: they choose between our awaits.
            self._choosing[choice.port] = user
            try:
                await self._starter.claim(assignment)
                await self._assignments.add(assignment)
            except PortHeld as error:
                await self._assignments.remove_environment(choice.port)
                held[choice.port] = error.holder
                continue
            except WaportdError:
                await self._give_back(choice.port)
                raise
            finally:
                del self._choosing[choice.port]
            self._observer.refresh(choice.port)
            note = f": {choice.note}" if choice.note else ""
            log.info("assigned port %s%s", choice.port, note, extra=log_fields(user, choice.port))
            return self.known(user)

    def _owners(self) -> Mapping[Port, User]:
        """Return who has which port, or is just getting it."""
        return collections.ChainMap(self._choosing, self.picture.owners())

    def _strays(self) -> dict[Port, str]:
        """Return the ports of units that run and that nobody here owns: not ours to stop and to clean."""
        return {port: f"{service_unit(port)}, which nobody owns" for port in self.unassigned}

    def _clean_next_later(self, port: Port) -> None:
        """Have the port cleaned that the next new user may well get, once the first calls of this one are answered."""
        asyncio.get_running_loop().call_later(_PAUSE, self._clean_next, port)

    def _clean_next(self, port: Port) -> None:
        following = next_free(port, self._config.ports, self._owners(), self._strays().get)
        if following is not None:
            self._starter.clean_ahead(following)

    async def _give_back(self, port: Port) -> None:
        """Let go of a port that could not be assigned after all."""
        try:
            await self._assignments.remove_environment(port)
            await self._starter.close_port(port)
        except WaportdError as error:
            log.warning("Cannot give the port back: %s", error, extra=log_fields(port=port))

    async def _check(self, options: Options) -> None:
        """Raise UnknownEngine for one that is not installed."""
        engine = options.get("engine")
        if engine is not None and (refused := await asyncio.to_thread(engines.refusal, engine, self._config)):
            raise UnknownEngine(refused[0], hint=refused[1])

    async def _set(self, instance: Instance, options: Options) -> None:
        """Change what was asked for a user: in effect at once where its server runs, but for the engine."""
        before, user = instance.assignment, instance.assignment.user
        after = await self._assignments.change(user, **options)
        if after.memory_max != before.memory_max:
            await self._manager.limit_memory(service_unit(after.port), self._memory_max(after))
        if after.engine != before.engine:
            await self._assignments.write_environment(after)
        if after.webhook_url != before.webhook_url and self.known(user).process.state not in AT_REST:
            await self._starter.restart(after)

    def _memory_max(self, assignment: Assignment) -> int:
        return self._config.limits.memory_max if assignment.memory_max is None else assignment.memory_max

    async def _bring_up(
        self,
        user: User,
        wait: Wait,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Instance:
        timeout = PATIENCE[wait] if timeout is None else timeout
        self._starter.used_at[user] = now = time.monotonic()
        deadline = now + timeout
        asked_at = time.time()
        launch = self._starter.launch(user)
        if wait is Wait.NONE:
            return self.known(user)
        done, _ = await asyncio.wait({launch}, timeout=timeout)
        if not done:
            raise self._too_late(user, wait, timeout)
        if launch.cancelled():
            raise ServerFailed("the start was interrupted", cause="canceled", hint="start the user again")
        launch.result()
        if wait is Wait.LISTENING:
            return self.known(user)
        instance = await self._see_through(user, wait, asked_at, deadline)
        if instance is None:
            raise UnknownUser(f"user {user} was deleted meanwhile")
        if _has_reached(instance, wait) or self.picture.released:
            return instance
        if _has_failed(instance, asked_at):
            raise _failure(instance)
        raise self._too_late(user, wait, timeout)

    async def _see_through(self, user: User, wait: Wait, asked_at: float, deadline: float) -> Instance | None:
        """Return the instance once it is as far as ``wait`` says, or waiting on is of no use, or time is up.

        A server that ends meanwhile, and that systemd starts again, is waited for and asked for a code anew.
        """
        pid = self.known(user).process.pid

        def is_news(now: Instance | None) -> bool:
            return (
                now is None
                or _has_reached(now, wait)
                or _has_failed(now, asked_at)
                or now.process.pid not in {None, pid}
            )

        while True:
            instance = await self.picture.wait(user, is_news, deadline - time.monotonic())
            if instance is None or _has_reached(instance, wait):
                return instance
            if instance.process.state in {ProcessState.STOPPED, ProcessState.FAILED}:
                patience = min(_BLINK, deadline - time.monotonic())
                instance = await self.picture.wait(
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
        """Have a server that runs show a code; what keeps it from it shows in its session."""
        user, port = instance.assignment.user, instance.assignment.port
        try:
            await self._observer.sessions.ask_for_code(port)
        except ServerFailed as error:
            log.info("Cannot ask for a code: %s", error, extra=log_fields(user, port))

    def _too_late(self, user: User, wait: Wait, timeout: float) -> StartTimeout:
        instance = self.known(user)
        session = (
            f", session {instance.session.state}: {instance.session.message}" if instance.session else ""
        )
        return StartTimeout(
            f"user {user} is not {wait} after {timeout:g} s (process {instance.process.state}{session})",
            hint="it goes on; ask again, or with a longer timeout",
            cause=(instance.session.cause if instance.session else None) or instance.process.cause,
            retry_after=5,
        )

    async def _unlink(self, user: User) -> bool:
        """Have a connected server unlink its phone and delete its session; tell whether it did."""
        instance = self.known(user)
        if not _has_reached(instance, Wait.READY):
            return False
        try:
            await self._observer.sessions.log_out(instance.assignment.port)
        except ServerFailed as error:
            log.warning("Cannot unlink the phone: %s", error, extra=log_fields(user))
            return False

        def has_ended(now: Instance | None) -> bool:
            # Who polls its port may have started it anew already.
            return now is None or now.process.pid != instance.process.pid

        return has_ended(await self.picture.wait(user, has_ended, _LOGOUT_END))

    def _note_logout(self, user: User, *, unlinked: bool) -> None:
        by_hand = "the session was deleted here; if the phone still lists the device, remove it there"
        message = "logged out" if unlinked else by_hand
        session = Session(state=SessionState.LOGGED_OUT, since=time.time(), message=message)
        instance = self.known(user)
        self.picture.put(dataclasses.replace(instance, session=session))
        log.info("%s", message, extra=log_fields(user, instance.assignment.port))

    async def _erase(self, assignment: Assignment) -> None:
        port, user = assignment.port, assignment.user
        async with self._starter.no_start(user):
            await self._starter.wipe(port)
            if assignment.memory_max is not None:
                # It would hold for the port's next owner.
                await self._manager.limit_memory(service_unit(port), self._config.limits.memory_max)
            await self._assignments.remove(assignment)
            self._taken_below = min(self._taken_below, port)
        self._observer.sessions.unfollow(port)
        self._observer.absolve(port)
        self._meter.forget(service_unit(port))
        self._starter.forget(user)
        self._observer.pacer.forget(port)
        self._relayed_at.pop(user, None)
        self._pairing.forget(user)
        log.info("deleted; the port is free", extra=log_fields(user, port))

    async def _relay(self, port: Port) -> None:
        try:
            await self._observer.sessions.relay_poll(port)
        except ServerFailed as error:
            log.info("Cannot relay a question: %s", error, extra=log_fields(port=port))

    def _on_link(self, user: User, linked: bool) -> None:  # noqa: FBT001
        self._background(self._remember_link(user, linked=linked), f"remember the link of {user}")

    def _on_failure(self, user: User) -> None:
        self._starter.note_failure(user)

    def _on_life(self) -> None:
        self._background(self._reconcile(), "reconcile")

    async def _remember_link(self, user: User, *, linked: bool) -> None:
        async with self._assignments.lock(user):
            instance = self.picture.get(user)
            # What was heard before a logout that held the lock is not true any more.
            if instance is None or instance.session is None or instance.session.linked != linked:
                return
            await self._assignments.change(user, linked=linked)
        # Its login is gone without a logout, and whoever started it did not ask for a code: none seemed needed.
        asked_at = self._starter.used_at.get(user, float("-inf"))
        if instance.session.state is SessionState.GENERATING and time.monotonic() - asked_at < _ASKED:
            await self._ask_for_code(instance)

    # Reconciling

    async def _reconcile(self) -> None:
        """Move every user to the desired state, few starts at a time."""
        await self._assignments.write_environments()
        assignments = [instance.assignment for instance in self.picture]
        running = [assignment for assignment in assignments if assignment.desired is Desired.RUNNING]
        # Linked sessions first: they have messages to receive.
        running.sort(key=lambda assignment: (not assignment.linked, -assignment.created_at))
        cut_short = [
            assignment
            for assignment in assignments
            if assignment.desired is Desired.DELETED
            or (assignment.desired is Desired.STOPPED and assignment.socket_boot == self._observer.boot)
        ]
        due = cut_short + running[: self._config.limits.max_sockets]
        await asyncio.gather(*(self._settle(assignment.user) for assignment in due))
        servers = sum(1 for instance in self.picture if instance.process.pid)
        log.info("reconciled: users %d, running servers %d", len(self.picture), servers)

    async def _settle(self, user: User) -> None:
        assignment = self.known(user).assignment
        try:
            async with self._starter.slots, self._assignments.lock(user):
                instance = self.picture.get(user)
                if instance is None:
                    return
                assignment = instance.assignment
                if assignment.desired is Desired.DELETED:
                    await self._erase(assignment)
                    return
                if assignment.desired is Desired.STOPPED and assignment.socket_boot == self._observer.boot:
                    # A stop that was cut short. One that is done and was undone by hand is the administrator's.
                    await self._starter.close_port(assignment.port)
                    await self._assignments.change(user, socket_boot=None)
                elif assignment.desired is Desired.RUNNING and self._observer.holds(assignment.port):
                    # Whichever life it was opened in: who closes it from now on means it.
                    await self._assignments.change(user, socket_boot=self._observer.boot)
                due = await self._reopen(user)
            if due and assignment.linked and assignment.autostart:
                await self._wake(user)
        except PortHeld as error:
            self._observer.blame(assignment.port, Finding(error.code, error.message, error.hint))
            self._starter.note_failure(user)
            log.warning("Cannot open the port: %s", error, extra=log_fields(user, assignment.port))
        except WaportdError as error:
            log.warning("Cannot settle: %s", error, extra=log_fields(user, assignment.port))

    async def _wake(self, user: User) -> None:
        """Start a linked session when it is its turn, which lasts until it is connected, or cannot be.

        A server answers long before its browser runs, and it is the browser that takes a machine's time. A user who is
        asked for meanwhile waits for no turn.
        """
        async with self._turns:
            await self._lookout.turn()
            async with self._assignments.lock(user):
                if self.picture.get(user) is None or not await self._reopen(user):
                    return
                launch = self._starter.launch(user, asked=False)
            await asyncio.wait({launch})
            await self.picture.wait(user, _is_awake, _TURN)

    async def _reopen(self, user: User) -> bool:
        """Have systemd hold the port of a user who is neither up nor stopped; tell whether that is so."""
        instance = self.known(user)
        assignment = instance.assignment
        if (
            assignment.desired is not Desired.RUNNING
            or instance.process.state is not ProcessState.STOPPED
            or self._observer.stopped_by_admin(assignment)
        ):
            return False
        if not self._observer.holds(assignment.port):
            await self._starter.reopen(assignment)
        return True

    async def _sweep(self) -> None:
        """Give back ports that were taken for a user whose assignment a crash kept from the store."""
        for port in await self._assignments.orphaned_ports():
            if port not in self.unassigned:
                await self._give_back(port)

    async def _measure_all(self) -> None:
        """Measure what every server uses, unless that was done within the half minute."""
        few = asyncio.Semaphore(_MEASURED_AT_ONCE)

        async def measure_one(instance: Instance) -> None:
            if instance.process.pid is not None:
                async with few:
                    unit = service_unit(instance.assignment.port)
                    await self._meter.measure(unit, instance.process.pid, _MEASURED_EVERY)

        await asyncio.gather(*map(measure_one, self.picture))

    # Background work

    def _background(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
        """Do the work beside everything else; None where the daemon ends and it is not done any more."""
        if self.picture.released:
            work.close()
            return None
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("Cannot %s: %s", task.get_name(), error, exc_info=error)


def _pairs(instance: Instance) -> bool:
    """Tell whether a pairing code is on show."""
    return instance.session is not None and instance.session.pairing is not None


def _has_reached(instance: Instance | None, wait: Wait) -> bool:
    if instance is None:
        return False
    state = instance.session.state if instance.session and instance.answering else None
    if wait is Wait.READY:
        return state is SessionState.READY
    return state in _BEYOND_A_CODE or instance.live_qr(time.time()) is not None


def _is_awake(instance: Instance | None) -> bool:
    """Tell whether a linked session has got as far as it gets by itself."""
    if instance is None or not instance.assignment.linked or instance.process.state in AT_REST:
        return True
    state = instance.session.state if instance.session and instance.answering else None
    return state not in {None, SessionState.GENERATING, SessionState.AUTHENTICATED}


def _has_failed(instance: Instance | None, asked_at: float) -> bool:
    """Tell whether waiting on is of no use. A dead end from before the question does not count."""
    if instance is None or instance.process.state in AT_REST:
        return True
    session = instance.session
    if not instance.answering or session is None or session.state not in _DEAD_ENDS:
        return False
    # The server's clock is ours, and its times are cut to milliseconds. A time to come is from before the clock was
    # set back.
    is_new = asked_at <= session.since + 0.001 and session.since <= time.time()
    return session.state is SessionState.PASSKEY_REQUIRED or is_new


def _failure(instance: Instance) -> ServerFailed:
    session = instance.session
    if instance.answering and session is not None:
        return ServerFailed(session.message, cause=session.cause or str(session.state), hint=session.hint)
    process = instance.process
    return ServerFailed(process.message, cause=process.cause or str(process.state), hint=process.hint)
