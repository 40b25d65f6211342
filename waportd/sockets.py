"""The sockets by which systemd holds the users' ports: opened, closed, cleaned, and freed of other holders."""

import logging

from waportd.assignments import Assignments
from waportd.cleaning_ahead import CleaningAhead
from waportd.config import Config, Takeover
from waportd.diagnosis import explain_exit
from waportd.errors import ServerFailed, TooManyRunning
from waportd.model import Assignment, Port, ProcessState, service_unit, socket_unit
from waportd.observer import Observer
from waportd.port_holders import Holder, end_stale_server, holding
from waportd.registry import Registry
from waportd.shortcuts import Shortcuts
from waportd.systemd.journal import log_fields
from waportd.systemd.manager import JobFailed, UnitManager

log = logging.getLogger(__name__)


class PortHeld(ServerFailed):
    """Another program holds the port."""

    code = "port_held"
    status = 409
    title = "The port is held by another program"

    def __init__(self, port: Port, holder: Holder) -> None:
        self.holder = str(holder)
        if holder.listens:
            hint = (
                f"end that program, or have `waportctl port {port} --end-stale` end a left-over "
                "whatsapp_server.js of the old setup; then start the user again"
            )
        else:
            hint = (
                "give the user another port (`waportctl move USER`), or end that program and start the user again; "
                "on Linux 6.8 and newer `ss --tcp --bound-inactive --processes` names it, as root"
            )
        super().__init__(f"port {port} is held by {self.holder}", cause="port_held", hint=hint)


class Sockets:
    """Ports as systemd holds them."""

    def __init__(
        self,
        config: Config,
        assignments: Assignments,
        registry: Registry,
        observer: Observer,
        manager: UnitManager,
        shortcuts: Shortcuts,
    ) -> None:
        self._config = config
        self._assignments = assignments
        self._runtimes = assignments.runtimes
        self._registry = registry
        self._observer = observer
        self._manager = manager
        self.ahead = CleaningAhead(self._clean, manager, enabled=shortcuts.cleaning_ahead)

    def reconfigure(self, config: Config) -> None:
        """Take over a new configuration."""
        self._config = config

    async def close(self) -> None:
        """Stop cleaning ports ahead."""
        await self.ahead.close()

    async def claim(self, assignment: Assignment) -> None:
        """Take a port that had no owner. Raises PortHeld, TooManyRunning, StoreError, SystemdError."""
        port = assignment.port
        await self._assignments.write_environment(assignment)
        await self.make_room(port)
        await self.have_cleaned(port)
        await self._open_socket(port)

    async def have_cleaned(self, port: Port) -> None:
        """Return when the port holds no data of an earlier owner's session."""
        if not await self.ahead.has_cleaned(port):
            await self._clean(port)

    async def _clean(self, port: Port) -> None:
        # A failed unit cannot be cleaned.
        await self.forget_failures(port)
        await self._manager.clean(service_unit(port))

    async def open_port(self, assignment: Assignment) -> None:
        """Have systemd hold the port of an assignment. Raises as `claim`."""
        await self._assignments.write_environment(assignment)
        await self.make_room(assignment.port)
        await self._open_socket(assignment.port)

    async def reopen(self, assignment: Assignment) -> None:
        """Have systemd hold the port of a user's assignment again. Raises as `claim`."""
        await self.open_port(assignment)
        await self._assignments.change(assignment.user, socket_boot=self._observer.boot)

    async def close_port(self, port: Port) -> None:
        """Stop the server and give up its port."""
        with self._observer.switching(port):
            # The socket's stop ends the service first, as one job, so that nothing starts it in between. The
            # service's own stop is for one that was started without its socket.
            await self._manager.stop(socket_unit(port))
            await self._manager.stop(service_unit(port))
            # One that died a moment before stays failed, as both do after a crash loop. They are stopped now, and a
            # failed one cannot be cleaned.
            for unit in (socket_unit(port), service_unit(port)):
                await self._manager.reset_failed(unit)
            await self._observer.pacer.release(port)
            await self._observer.refresh_from_systemd(port)

    async def wipe(self, port: Port) -> None:
        """Stop the server and delete its session, with nothing running that could write it again."""
        await self.close_port(port)
        await self._manager.clean(service_unit(port))

    async def _open_socket(self, port: Port) -> None:
        try:
            await self._manager.start(socket_unit(port))
        except JobFailed as error:
            await self.clear_port(port, error)
            await self._manager.start(socket_unit(port))
        if not self._observer.holds(port):
            await self._observer.refresh_from_systemd(port)

    async def clear_port(self, port: Port, error: JobFailed) -> None:
        """Return if the port was freed and the socket can be retried; else raise the reason."""
        if error.result == "assert":
            raise ServerFailed(
                f"the units of port {port} look for their environment in another folder than store.directory",
                cause="units_outdated",
                hint="regenerate the units: `waportd generate-units --output /etc/systemd/system`, "
                "then `systemctl daemon-reload`",
            ) from error
        await self._manager.reset_failed(socket_unit(port))
        service = await self._manager.status(service_unit(port))
        if service.load_state not in {"loaded", ""}:
            # systemd opens no socket for a service that cannot be started.
            raise explain_exit(service).error() from error
        holders = await holding(port)
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
            holders = await holding(port)
        if holders:
            raise PortHeld(port, holders[0]) from error

    async def make_room(self, port: Port) -> None:
        """Keep within limits.max_sockets: of the sockets without a server, the longest unused gives way."""
        if self._observer.holds(port):
            return
        held = self._observer.held
        if len(held) < self._config.limits.max_sockets:
            return
        idle = [
            instance.assignment
            for instance in map(self._registry.on_port, held)
            if instance is not None
            and instance.process.state is ProcessState.STOPPED
            and not self._runtimes[instance.assignment.user].starting.locked()
        ]
        if not idle:
            raise TooManyRunning(
                f"{len(held)} servers hold a port, which is the limit of limits.max_sockets",
                hint="stop users who are not needed, or raise limits.max_sockets",
                limit="max_sockets",
                retry_after=30,
            )
        unused = min(idle, key=lambda assignment: self._runtimes[assignment.user].used_at)
        async with self._runtimes[unused.user].no_start():
            # Not an administrator's stop: the next request for this user opens it again.
            await self._assignments.change(unused.user, socket_boot=None)
            await self.close_port(unused.port)

    async def forget_failures(self, port: Port) -> None:
        """Have systemd forget that the units of a port failed."""
        self._observer.clear_finding(port)
        for status in (self._observer.service(port), self._observer.socket(port)):
            if status.active_state == "failed":
                await self._manager.reset_failed(status.name)
