"""Facts that come up: unit changes from systemd and words of the servers, brought into the picture."""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator

from waportd.builds import Builds
from waportd.diagnosis import Finding, describe, running_message
from waportd.metrics import Metrics
from waportd.model import (
    TARGET,
    Assignment,
    Desired,
    Port,
    Process,
    ProcessState,
    Session,
    SessionState,
    User,
    Webhook,
    port_of_unit,
    service_unit,
    socket_unit,
)
from waportd.pacer import Pacer
from waportd.picture import Instance, Picture
from waportd.quotas import SESSION_LINES, Pace, retry_after
from waportd.sessions import Sessions
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
"""States in which a question for a code brings none."""
_LAST_WORDS = {SessionState.QR_TIMEOUT, SessionState.LOGGED_OUT}
"""What stays true of a session after its server has ended."""
AT_REST = {ProcessState.STOPPED, ProcessState.FAILED, ProcessState.CRASH_LOOP}
"""States in which no server runs, and none is about to within moments."""


class Observer:
    """Keeps the picture in line with what systemd and the servers say. Decides nothing."""

    def __init__(
        self,
        picture: Picture,
        manager: UnitManager,
        metrics: Metrics,
        on_link: Callable[[User, bool], None],
        on_life: Callable[[], None],
        on_failure: Callable[[User], None],
    ) -> None:
        """``on_link`` is called when a session is linked, or not any more, other than the assignment says.

        ``on_life`` is called when another life of the units has begun; ``on_failure`` when a server has failed that
        systemd does not start again by itself.
        """
        self.boot = ""
        """This life of the units: another one after a boot, and after each start of the target of all servers.

        What somebody stopped in an earlier one was stopped with all others, or before them, and may run again."""
        self.launching: set[User] = set()
        """Users whose start is under way, though their unit may not show it yet."""
        self.unassigned: set[Port] = set()
        """Ports whose unit runs although nobody owns them; reported, never touched."""
        self.sessions = Sessions(self._on_session, self._on_silence, self._runs)
        self.held: set[Port] = set()
        """Ports that systemd holds."""
        self._picture = picture
        self._manager = manager
        self._metrics = metrics
        self._on_link = on_link
        self._on_life = on_life
        self._on_failure = on_failure
        self.pacer = Pacer(manager, self.refresh)
        self._systemd_boot = ""
        self._units: dict[str, UnitStatus] = {}
        self._findings: dict[Port, Finding] = {}
        self._moving: set[Port] = set()
        self._began = time.time()
        self._webhooks: dict[Port, tuple[int | None, Webhook]] = {}
        """What each server's process last said of its webhook."""
        self._lines = Pace(*SESSION_LINES)
        """Of the journal, about the session on each port."""
        self._code_awaited: dict[Port, float] = {}
        """Since when, by the monotonic clock, a first code is waited for."""
        self._opened: dict[Port, asyncio.Event] = {}
        """Set when systemd holds a port that is waited for."""
        self._builds = Builds()
        self._up: set[Port] = set()
        """Ports whose server has answered, though systemd has not heard yet that it is ready."""

    async def start(self) -> None:
        """Look at all units, and follow them from now on. Raises SystemdError."""
        self.boot = self._systemd_boot = await self._manager.boot()
        self._manager.watch(_ALL_UNITS, self._on_unit)
        self._manager.watch(TARGET, self._on_target)
        self._note_life(await self._status(TARGET))
        await self.pacer.start()
        for status in await self._manager.list_units(_ALL_UNITS):
            # A change that came meanwhile is newer.
            port = port_of_unit(status.name)
            if status.name not in self._units and port is not None:
                self._note(status, port)
        for port in {port_of_unit(name) for name in self._units} | set(self._picture.owners()):
            if port is not None:
                self.refresh(port)

    async def look_at(self, port: Port) -> None:
        """Take over the state of a port's units now: the signals of a job that is done may still be on their way."""
        units = (socket_unit(port), service_unit(port))
        for status in await asyncio.gather(*map(self._status, units)):
            self._on_unit(status)

    async def see_up(self, port: Port) -> None:
        """Take a server that was started into the picture. Asks systemd only for what its signals have not told."""
        service = self.service(port)
        if service.active_state in {"activating", "active"} and service.main_pid and self.holds(port):
            self.refresh(port)
        else:
            await self.look_at(port)

    async def _status(self, unit: str) -> UnitStatus:
        try:
            return await self._manager.status(unit)
        except NoSuchUnit:
            return UnitStatus(unit, load_state="not-found")

    def service(self, port: Port) -> UnitStatus:
        """Return what is known of the port's service."""
        return self._units.get(service_unit(port), UnitStatus(service_unit(port)))

    def socket(self, port: Port) -> UnitStatus:
        """Return what is known of the port's socket."""
        return self._units.get(socket_unit(port), UnitStatus(socket_unit(port)))

    def holds(self, port: Port) -> bool:
        """Tell whether systemd holds the port for its owner."""
        return port in self.held

    async def until_held(self, port: Port) -> None:
        """Return when systemd holds the port."""
        while not self.holds(port):
            await self._opened.setdefault(port, asyncio.Event()).wait()

    def stopped_by_admin(self, assignment: Assignment) -> bool:
        """Tell whether somebody else closed the socket: it was opened in this life, and not closed by us."""
        return (
            assignment.desired is Desired.RUNNING
            and assignment.socket_boot == self.boot
            and assignment.port not in self._moving
            and self.socket(assignment.port).active_state == "inactive"
        )

    @contextlib.contextmanager
    def moving(self, port: Port) -> Iterator[None]:
        """Take the changes of a port's units inside the block for our own doing, not for an administrator's."""
        self._moving.add(port)
        try:
            yield
        finally:
            self._moving.discard(port)
            self.refresh(port)

    def note_answer(self, port: Port) -> None:
        """Take a starting server for a running one: it has answered."""
        self._up.add(port)

    def blame(self, port: Port, finding: Finding) -> None:
        """Remember why a start failed, where that is more than the unit's own state tells; until it runs."""
        self._findings[port] = finding
        self.refresh(port)

    def absolve(self, port: Port) -> None:
        """Forget why an earlier start failed."""
        self._findings.pop(port, None)

    def refresh(self, port: Port) -> None:
        """Bring the picture of a port in line with what is known of its units."""
        instance = self._picture.on_port(port)
        if instance is None:
            self._note_unassigned(port)
            return
        process = self._process(instance)
        before = instance.process
        if before.since:
            # What systemd had counted before it was first looked at happened in another life of the daemon.
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
            self.absolve(port)
            self._picture.put(dataclasses.replace(instance, process=process, held=self.holds(port)))
            self.sessions.follow(port)
        else:
            self.sessions.unfollow(port)
            if process.state in AT_REST:
                self._code_awaited.pop(port, None)
            self._picture.put(
                dataclasses.replace(
                    instance,
                    process=process,
                    session=_last_word(instance.session),
                    answering=False,
                    held=self.holds(port),
                )
            )

    def await_code(self, port: Port) -> None:
        """Note that a code was asked for just now, where none is there or on its way."""
        instance = self._picture.on_port(port)
        state = instance.session.state if instance and instance.session and instance.answering else None
        if state not in _PAST_A_QUESTION:
            self._code_awaited.setdefault(port, time.monotonic())

    def _process(self, instance: Instance) -> Process:
        assignment, before = instance.assignment, instance.process
        port = assignment.port
        by_admin = self.stopped_by_admin(assignment)
        process = describe(
            self.service(port),
            self.socket(port),
            port,
            by_admin=by_admin,
            known=self._findings.get(port),
            next_start=self.pacer.due(port),
        )
        if process.state in AT_REST and port in self._moving:
            # Its socket is still to go, or to come.
            process = Process(ProcessState.STOPPING, message="stopping")
        elif process.state in AT_REST and assignment.user in self.launching:
            process = Process(ProcessState.STARTING, message="waiting for its turn to start")
        elif process.state is ProcessState.STOPPED and (by_admin or assignment.desired is Desired.STOPPED):
            process = dataclasses.replace(process, hint=f"`POST /v1/users/{assignment.user}/start` starts it")
        if process.state is ProcessState.STARTING and port in self._up:
            process = dataclasses.replace(process, state=ProcessState.RUNNING, message=running_message(port))
        if process.state is before.state and before.since:
            return dataclasses.replace(process, since=before.since)
        return process if process.since else dataclasses.replace(process, since=time.time())

    def _note_unassigned(self, port: Port) -> None:
        if self.service(port).active_state not in {"active", "activating"}:
            self.unassigned.discard(port)
        elif port not in self.unassigned:
            self.unassigned.add(port)
            log.warning("%s runs, but port %s is assigned to nobody", service_unit(port), port)

    def _on_unit(self, status: UnitStatus) -> None:
        port = port_of_unit(status.name)
        if port is not None:
            self._note(status, port)
            if self.holds(port) and (opened := self._opened.pop(port, None)):
                opened.set()
            if status.name == service_unit(port) and status.active_state != "activating":
                self._up.discard(port)
            self.refresh(port)

    def _on_target(self, status: UnitStatus) -> None:
        if self._note_life(status):
            self._on_life()

    def _note_life(self, target: UnitStatus) -> bool:
        """Take over which life of the units this is; tell whether it is another one. None begins with a stop."""
        if target.active_state != "active":
            return False
        before, self.boot = self.boot, f"{self._systemd_boot}:{target.since:.6f}"
        return self.boot != before

    def _note(self, status: UnitStatus, port: Port) -> None:
        self._units[status.name] = status
        if status.name == service_unit(port):
            self.pacer.note(status)
        if status.name == socket_unit(port):
            (self.held.add if status.active_state == "active" else self.held.discard)(port)

    def _on_session(self, port: Port, session: Session) -> None:
        instance = self._picture.on_port(port)
        if instance is None or instance.process.state is not ProcessState.RUNNING:
            return
        user = instance.assignment.user
        if instance.session is None or instance.session.state is not session.state:
            self._tell_change(session, user, port)
        if session.state is not SessionState.GENERATING:
            asked_at = self._code_awaited.pop(port, None)
            if asked_at is not None and session.state is SessionState.QR:
                self._metrics.first_codes.observe(time.monotonic() - asked_at)
        if news := self._builds.news(session.upstream):
            log.log(news.level, "%s", news.text)
        self._count_webhook(instance, session.webhook)
        self._picture.put(dataclasses.replace(instance, session=session, answering=True))
        if session.linked != instance.assignment.linked:
            self._on_link(user, session.linked)

    def _tell_change(self, session: Session, user: User, port: Port) -> None:
        wait = self._lines.count(port, time.monotonic())
        if not wait:
            log.info("session %s: %s", session.state, session.message, extra=log_fields(user, port))
        elif self._lines.counted(port) == SESSION_LINES[0] + 1:
            log.warning(
                "the session changes all the time; the next of its changes are told in %d s",
                retry_after(wait),
                extra=log_fields(user, port),
            )

    def _count_webhook(self, instance: Instance, now: Webhook) -> None:
        """Count what the webhook did since this process was last heard of, in this life of the daemon."""
        port, pid = instance.assignment.port, instance.process.pid
        known_pid, before = self._webhooks.get(port, (None, now))
        if known_pid != pid:
            before = Webhook() if instance.process.since >= self._began else now
        self._webhooks[port] = (pid, now)
        self._metrics.note_webhook(before, now)

    def _on_silence(self, port: Port, reason: str) -> None:
        instance = self._picture.on_port(port)
        if instance is not None and instance.answering:
            log.warning("%s", reason, extra=log_fields(instance.assignment.user, port))
            self._picture.put(dataclasses.replace(instance, answering=False))

    async def _runs(self, port: Port) -> bool:
        """Tell whether the server may be called without starting it by that."""
        return (await self._manager.status(service_unit(port))).active_state in {"active", "activating"}


def _is_left_alone(process: Process) -> bool:
    """Tell whether a server has failed, and nothing is planned for it."""
    return process.state in {ProcessState.FAILED, ProcessState.CRASH_LOOP} and process.next_start is None


def _last_word(session: Session | None) -> Session | None:
    if session is None or session.state not in _LAST_WORDS:
        return None
    return dataclasses.replace(session, qr=None, expires_at=None, pairing=None)
