"""Brings facts into the registry: unit changes from systemd and reports of the servers."""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator

from waportd.builds import Builds
from waportd.diagnosis import LOGGED_OUT, Facts, Finding, describe, has_logged_out
from waportd.event_streams import EventStreams
from waportd.metrics import Metrics
from waportd.model import (
    AT_REST,
    LIFE,
    Assignment,
    Desired,
    Port,
    Process,
    ProcessState,
    Session,
    SessionState,
    Turn,
    User,
    Webhook,
    port_of_unit,
    service_unit,
    socket_unit,
)
from waportd.pacer import Pacer
from waportd.quotas import SESSION_LINES, Pace, retry_after
from waportd.registry import Instance, Registry
from waportd.runtime import Runtimes
from waportd.systemd.journal import log_fields
from waportd.systemd.manager import NoSuchUnit, UnitManager, UnitStatus

log = logging.getLogger(__name__)

_ALL_UNITS = "whatsapp@*"
_PAST_A_QUESTION = {
    SessionState.QR,
    SessionState.PAIRING,
    SessionState.AUTHENTICATED,
    SessionState.READY,
    SessionState.DISCONNECTED,
}
"""States in which a request for a code brings none."""
_LAST_WORDS = {SessionState.QR_TIMEOUT, SessionState.LOGGED_OUT}
"""Session states that stay true after the server has ended."""


@dataclasses.dataclass(slots=True)
class _Port:
    """What is known of a port, whichever user has it."""

    service: UnitStatus | None = None
    """None where systemd has reported none; so for the socket."""
    socket: UnitStatus | None = None
    finding: Finding | None = None
    """Why a start failed, where that is more than the unit's own state shows."""
    is_switching: bool = False
    """We cause the changes of its units."""
    has_answered: bool = False
    """Its server has answered, though systemd does not know yet that it is ready."""
    code_awaited: float | None = None
    """Since when, by the monotonic clock, a caller waits for a first code."""
    opened: asyncio.Event | None = None
    """Set when systemd holds the port, for those who wait for that."""
    webhook: tuple[int | None, Webhook] | None = None
    """What its server's process last said of its webhook."""


class Observer:
    """Keeps the registry in line with what systemd and the servers say. Decides nothing."""

    def __init__(
        self,
        registry: Registry,
        runtimes: Runtimes,
        manager: UnitManager,
        metrics: Metrics,
        on_link: Callable[[User, bool], None],
        on_storage: Callable[[User], None],
        on_life: Callable[[], None],
        on_failure: Callable[[User], None],
        on_turn: Callable[[User], None],
    ) -> None:
        """``on_link`` is called when a session is linked, or no longer linked, and the assignment says otherwise.

        ``on_storage`` is called when its size on disk differs from the assignment.
        ``on_turn`` is called when a session waits for its turn to load WhatsApp's page.
        ``on_life`` is called when another life of the units has begun; ``on_failure`` when a server has failed that
        systemd does not restart automatically.
        """
        self.boot = ""
        """This life of the units: a new one begins with a boot, with each start of the target of all servers, and, in a
        fleet, with each lease.

        A server that was stopped in an earlier life was stopped with all others, or before them, and may run again."""
        self.unassigned: set[Port] = set()
        """Ports whose unit runs although no user owns them; reported, never touched."""
        self.streams = EventStreams(self._on_session, self._on_silence, self._runs)
        self.held: set[Port] = set()
        """Ports that systemd holds."""
        self._registry = registry
        self._runtimes = runtimes
        self._manager = manager
        self._metrics = metrics
        self._on_link = on_link
        self._on_storage = on_storage
        self._on_life = on_life
        self._on_failure = on_failure
        self._on_turn = on_turn
        self.pacer = Pacer(manager, self.refresh)
        self._systemd_boot = ""
        self._target_life = ""
        self._lease = ""
        self._ports: dict[Port, _Port] = {}
        self._began = time.time()
        self._lines = Pace(*SESSION_LINES)
        """Lines of the journal about the session on each port."""
        self._builds = Builds()

    async def start(self) -> None:
        """Look at all units, and follow them from now on. Raises SystemdError."""
        self._systemd_boot = await self._manager.boot()
        self._name_life()
        # First the pauses: they explain the state of a server.
        await self.pacer.start()
        self._manager.watch(_ALL_UNITS, self._on_unit)
        self._manager.watch(LIFE, self._on_life_unit)
        self._note_life(await self._status(LIFE))
        for status in await self._manager.list_units(_ALL_UNITS):
            # A change that came meanwhile is newer.
            port = port_of_unit(status.name)
            if port is not None and self._known_status(status.name, port) is None:
                self._note(status, port)
        for port in {*self._ports, *self._registry.owners()}:
            self.refresh(port)

    async def refresh_from_systemd(self, port: Port) -> None:
        """Take over the state of a port's units now: signals of a finished job may still be on their way."""
        units = (socket_unit(port), service_unit(port))
        for status in await asyncio.gather(*map(self._status, units)):
            self._on_unit(status)

    async def note_started(self, port: Port) -> None:
        """Take a server that was started into the registry. Asks systemd only for what its signals have not shown."""
        service = self.service(port)
        if service.active_state in {"activating", "active"} and service.main_pid and self.holds(port):
            self.refresh(port)
        else:
            await self.refresh_from_systemd(port)

    async def _status(self, unit: str) -> UnitStatus:
        try:
            return await self._manager.status(unit)
        except NoSuchUnit:
            return UnitStatus(unit, load_state="not-found")

    def service(self, port: Port) -> UnitStatus:
        """Return what is known of the port's service."""
        return self._of(port).service or UnitStatus(service_unit(port))

    def socket(self, port: Port) -> UnitStatus:
        """Return what is known of the port's socket."""
        return self._of(port).socket or UnitStatus(socket_unit(port))

    def _known_status(self, unit: str, port: Port) -> UnitStatus | None:
        known = self._of(port)
        return known.service if unit == service_unit(port) else known.socket

    def _of(self, port: Port) -> _Port:
        known = self._ports.get(port)
        if known is None:
            known = self._ports[port] = _Port()
        return known

    def holds(self, port: Port) -> bool:
        """Return whether systemd holds the port for its owner."""
        return port in self.held

    async def until_held(self, port: Port) -> None:
        """Return when systemd holds the port."""
        while not self.holds(port):
            known = self._of(port)
            known.opened = known.opened or asyncio.Event()
            await known.opened.wait()

    def stopped_by_admin(self, assignment: Assignment) -> bool:
        """Return whether another program closed the socket: it was opened in this life, and not closed by us."""
        return (
            assignment.desired is Desired.RUNNING
            and assignment.socket_boot == self.boot
            and not self._of(assignment.port).is_switching
            and self.socket(assignment.port).active_state == "inactive"
        )

    @contextlib.contextmanager
    def switching(self, port: Port) -> Iterator[None]:
        """Count the changes of a port's units inside the block as our own, not as an administrator's."""
        self._of(port).is_switching = True
        try:
            yield
        finally:
            self._of(port).is_switching = False
            self.refresh(port)

    def note_answer(self, port: Port) -> None:
        """Count a starting server as a running one: it has answered."""
        self._of(port).has_answered = True

    def set_finding(self, port: Port, finding: Finding) -> None:
        """Remember why a start failed, where that is more than the unit's own state shows; until it runs."""
        self._of(port).finding = finding
        self.refresh(port)

    def clear_finding(self, port: Port) -> None:
        """Forget why an earlier start failed."""
        self._of(port).finding = None

    def forget(self, port: Port) -> None:
        """Forget what was known of a port's owner, who is gone. Its units stay known."""
        self.streams.unfollow(port)
        self.pacer.forget(port)
        if known := self._ports.pop(port, None):
            self._ports[port] = _Port(known.service, known.socket)

    def refresh(self, port: Port) -> None:
        """Bring the registry of a port in line with what is known of its units."""
        instance = self._registry.on_port(port)
        if instance is None:
            self._note_unassigned(port)
            return
        process = self._process(instance)
        before = instance.process
        if before.since:
            # Restarts that systemd had counted before the first look happened in another life of the daemon.
            self._metrics.restarts.inc(max(0, process.restarts - before.restarts))
        # An administrator's stop of the socket shows in two steps: first only the server is down.
        now_by_admin = process.message != before.message and self.stopped_by_admin(instance.assignment)
        if process.state is not before.state or now_by_admin:
            said = process.message
            said = said if said.startswith(process.state) else f"{process.state}: {said}"
            log.info("%s", said, extra=log_fields(instance.assignment.user, port))
        if _is_left_alone(process) and not (_is_left_alone(before) and before.since):
            self._on_failure(instance.assignment.user)
        if process.state is ProcessState.RUNNING:
            self.clear_finding(port)
            self._registry.put(dataclasses.replace(instance, process=process, held=self.holds(port)))
            self.streams.follow(port)
        else:
            self.streams.unfollow(port)
            if process.state in AT_REST:
                self._of(port).code_awaited = None
            self._registry.put(
                dataclasses.replace(
                    instance,
                    process=process,
                    session=_last_word(instance.session),
                    answering=False,
                    held=self.holds(port),
                )
            )

    def await_code(self, port: Port) -> None:
        """Note that a code was just asked for, where none is there or on its way."""
        instance = self._registry.on_port(port)
        state = instance.session.state if instance and instance.session and instance.answering else None
        under_way = instance is not None and instance.passkey is not None
        if state not in _PAST_A_QUESTION and not under_way:
            known = self._of(port)
            known.code_awaited = known.code_awaited or time.monotonic()

    def _process(self, instance: Instance) -> Process:
        assignment, before = instance.assignment, instance.process
        port = assignment.port
        known, by_admin = self._of(port), self.stopped_by_admin(assignment)
        process = describe(
            Facts(
                self.service(port),
                self.socket(port),
                port,
                by_admin=by_admin,
                known=known.finding,
                next_start=self.pacer.due(port),
                is_switching=known.is_switching,
                is_launching=self._runtimes[assignment.user].start is not None,
                has_answered=known.has_answered,
            )
        )
        if process.state is ProcessState.STOPPED and (by_admin or assignment.desired is Desired.STOPPED):
            process = dataclasses.replace(process, hint=f"`POST /v1/users/{assignment.user}/start` starts it")
        if process.state is before.state and before.since:
            return dataclasses.replace(process, since=before.since)
        return process if process.since else dataclasses.replace(process, since=time.time())

    def _note_unassigned(self, port: Port) -> None:
        if self.service(port).active_state not in {"active", "activating"}:
            self.unassigned.discard(port)
        elif port not in self.unassigned:
            self.unassigned.add(port)
            log.warning("%s runs, but port %s is not assigned to any user", service_unit(port), port)

    def _on_unit(self, status: UnitStatus) -> None:
        port = port_of_unit(status.name)
        if port is not None:
            ran = self.service(port).active_state in {"active", "deactivating"}
            self._note(status, port)
            if ran and status.name == service_unit(port) and has_logged_out(status):
                self._on_logout(port)
            known = self._of(port)
            if known.opened and self.holds(port):
                known.opened.set()
                known.opened = None
            if status.name == service_unit(port) and status.active_state != "activating":
                known.has_answered = False
            self.refresh(port)

    def _on_logout(self, port: Port) -> None:
        """Take over the last state of a server, whose stream ended before it could report it."""
        instance = self._registry.on_port(port)
        if instance is None or not instance.assignment.linked:
            return
        if instance.session is not None and instance.session.state is SessionState.LOGGED_OUT:
            return
        user = instance.assignment.user
        session = Session(SessionState.LOGGED_OUT, since=time.time(), message=LOGGED_OUT)
        self._tell_change(session, user, port)
        self._registry.put(dataclasses.replace(instance, session=session))
        self._on_link(user, session.linked)

    def _on_life_unit(self, status: UnitStatus) -> None:
        if self._note_life(status):
            self._on_life()

    def _note_life(self, unit: UnitStatus) -> bool:
        """Take over which life of the units this is; return whether it is a new one. No life begins with a stop."""
        if unit.active_state != "active":
            return False
        before, self._target_life = self.boot, f":{unit.since:.6f}"
        self._name_life()
        return self.boot != before

    def note_lease(self, lease: int | None) -> None:
        """Take over under which lease the units run from now on; None: under none, so that systemd has stopped them all."""
        self._lease = f":{lease}"
        self._name_life()
        for port in list(self._registry.owners()):
            self.refresh(port)

    def _name_life(self) -> None:
        self.boot = f"{self._systemd_boot}{self._target_life}{self._lease}"

    def _note(self, status: UnitStatus, port: Port) -> None:
        known = self._of(port)
        if status.name == service_unit(port):
            known.service = status
            self.pacer.note(status)
        if status.name == socket_unit(port):
            known.socket = status
            (self.held.add if status.active_state == "active" else self.held.discard)(port)

    def _on_session(self, port: Port, session: Session) -> None:
        instance = self._registry.on_port(port)
        if instance is None or instance.process.state is not ProcessState.RUNNING:
            return
        user = instance.assignment.user
        if instance.session is None or instance.session.state is not session.state:
            self._tell_change(session, user, port)
        if session.state is not SessionState.GENERATING:
            known = self._of(port)
            asked_at, known.code_awaited = known.code_awaited, None
            if asked_at is not None and session.state is SessionState.QR:
                self._metrics.first_codes.observe(time.monotonic() - asked_at)
        if news := self._builds.news(session.upstream):
            log.log(news.level, "%s", news.text)
        self._count_webhook(instance, session.webhook)
        self._registry.put(dataclasses.replace(instance, session=session, answering=True))
        if session.linked != instance.assignment.linked:
            self._on_link(user, session.linked)
        if session.storage not in {None, instance.assignment.storage}:
            self._on_storage(user)
        if session.turn is Turn.AWAITED:
            self._on_turn(user)

    def _tell_change(self, session: Session, user: User, port: Port) -> None:
        wait = self._lines.count(port, time.monotonic())
        if not wait:
            log.info("session %s: %s", session.state, session.message, extra=log_fields(user, port))
        elif self._lines.counted(port) == SESSION_LINES[0] + 1:
            log.warning(
                "the session changes all the time; its changes are logged again in %d s",
                retry_after(wait),
                extra=log_fields(user, port),
            )

    def _count_webhook(self, instance: Instance, now: Webhook) -> None:
        """Count what the webhook did since this process last reported, in this life of the daemon."""
        port, pid = instance.assignment.port, instance.process.pid
        known = self._of(port)
        known_pid, before = known.webhook or (None, now)
        if known_pid != pid:
            before = Webhook() if instance.process.since >= self._began else now
        known.webhook = (pid, now)
        self._metrics.note_webhook(before, now)

    def _on_silence(self, port: Port, reason: str) -> None:
        instance = self._registry.on_port(port)
        if instance is not None and instance.answering:
            log.warning("%s", reason, extra=log_fields(instance.assignment.user, port))
            self._registry.put(dataclasses.replace(instance, answering=False))

    async def _runs(self, port: Port) -> bool:
        """Return whether a call to the server would not start it."""
        return (await self._manager.status(service_unit(port))).active_state in {"active", "activating"}


def _is_left_alone(process: Process) -> bool:
    """Return whether a server has failed, and nothing is planned for it."""
    return process.state in {ProcessState.FAILED, ProcessState.CRASH_LOOP} and process.next_start is None


def _last_word(session: Session | None) -> Session | None:
    if session is None or session.state not in _LAST_WORDS:
        return None
    return dataclasses.replace(session, qr=None, expires_at=None, pairing=None, passkey=None)
