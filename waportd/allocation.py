"""Which user gets which port: ports are chosen, taken, changed, given back, and cleaned ahead."""

import asyncio
import collections
import logging
import time
from collections.abc import Mapping, MutableMapping

from waportd import units
from waportd.assignments import Assignments
from waportd.config import Config
from waportd.errors import Conflict, WaportdError
from waportd.host import Host
from waportd.model import Assignment, Options, Port, User, service_unit
from waportd.mover import Mover
from waportd.observer import Observer
from waportd.port_holders import holding
from waportd.ports import choose, next_free, obstacle, taken_below
from waportd.registry import Instance, Registry
from waportd.sockets import PortHeld, Sockets
from waportd.starter import Starter
from waportd.systemd.journal import log_fields
from waportd.usage import UsageMeter

log = logging.getLogger(__name__)

_ANOTHER_PORT = "name another port, or none: waportd chooses one then"


class Allocator:
    """Hands out ports. The callers hold the user's lock."""

    def __init__(
        self,
        config: Config,
        assignments: Assignments,
        registry: Registry,
        observer: Observer,
        sockets: Sockets,
        starter: Starter,
        mover: Mover,
        meter: UsageMeter,
        host: Host,
    ) -> None:
        self._config = config
        self._assignments = assignments
        self._registry = registry
        self._observer = observer
        self._sockets = sockets
        self._starter = starter
        self._mover = mover
        self._meter = meter
        self._host = host
        self._choosing: dict[Port, User] = {}
        """Ports that are reserved for a user who does not have them yet."""
        self._taken_below = 0
        """Below which port all of the overflow range are assigned."""

    def load(self) -> None:
        """Reserve the ports of users who were being moved to them when the daemon ended."""
        for assignment in (instance.assignment for instance in self._registry):
            if assignment.moving_to is not None:
                self._choosing[assignment.moving_to] = assignment.user

    def reconfigure(self, config: Config) -> None:
        """Take over a new configuration."""
        self._config = config
        self._taken_below = 0

    def note_free(self, assignment: Assignment) -> None:
        """Mark the ports of a deleted user as free."""
        if assignment.moving_to is not None:
            del self._choosing[assignment.moving_to]
        self._taken_below = min(self._taken_below, assignment.port)

    async def assign(self, user: User, options: Options) -> Instance:
        """Give a user a port, durably. Raises PortsExhausted, TooManyRunning, StoreError, SystemdError."""
        held = self._unowned_ports()
        while True:
            owners = self._owners()
            self._taken_below = taken_below(self._config.ports, self._registry.owners(), self._taken_below)
            choice = choose(user, self._config.ports, owners, held.get, self._taken_below)
            assignment = Assignment(
                user,
                choice.port,
                created_at=time.time(),
                note=choice.note,
                socket_boot=self._observer.boot,
                **options,
            )
            # Reserved while it is tried: other callers choose between our awaits.
            self._choosing[choice.port] = user
            try:
                await self._sockets.claim(assignment)
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
            self._starter.restore_retry_pause(assignment)
            note = f": {choice.note}" if choice.note else ""
            log.info("assigned port %s%s", choice.port, note, extra=log_fields(user, choice.port))
            return self._assignments.known(user)

    async def move(self, assignment: Assignment, port: Port | None) -> None:
        """Give a user another port: that one, or the one that a new user of that name would get.

        Raises Conflict, PortsExhausted, and what the mover raises.
        """
        user, held = assignment.user, self._unowned_ports()
        while True:
            target = self._target(user, port, held)
            self._choosing[target] = user
            try:
                if said := await self._obstacle_on(target):
                    if port is not None:
                        raise Conflict(f"port {port} is {said}", hint=_ANOTHER_PORT, cause="port_taken")
                    held[target] = said
                    continue
                async with self._assignments.runtimes[user].no_start():
                    await self._mover.move(assignment, target)
            finally:
                self._settle_move(target, assignment)
            break
        await self._mover.let_go(assignment.port, self._config.limits, assignment)

    def _target(self, user: User, port: Port | None, held: Mapping[Port, str]) -> Port:
        """Return the port to which a user moves. Raises Conflict, PortsExhausted."""
        rules, owners = self._config.ports, self._owners()
        if port is None:
            return choose(user, rules, owners, held.get, self._taken_below).port
        if said := obstacle(port, rules, owners, held.get):
            raise Conflict(f"port {port} is {said}", hint=_ANOTHER_PORT, cause="port_taken")
        return port

    async def _obstacle_on(self, port: Port) -> str | None:
        """Return what would be in the way on a port that nobody owns, in words that follow "port N is"."""
        if holders := await holding(port):
            return f"held by {holders[0]}"
        if found := await asyncio.to_thread(units.drop_ins, port, self._config.systemd.bus):
            return f"that of other settings: {found[0]}"
        return None

    async def finish_move(self, assignment: Assignment) -> None:
        """Continue a move that was cut short."""
        assert assignment.moving_to is not None
        try:
            async with self._assignments.runtimes[assignment.user].no_start():
                await self._mover.finish(assignment)
        finally:
            self._settle_move(assignment.moving_to, assignment)
        await self._mover.let_go(assignment.port, self._config.limits, assignment)

    def _settle_move(self, target: Port, before: Assignment) -> None:
        """Reserve the port no longer, unless the user is still being moved to it."""
        now = self._assignments.known(before.user).assignment
        if now.moving_to is None:
            del self._choosing[target]
        if now.port != before.port:
            self._taken_below = min(self._taken_below, before.port)
            self._meter.forget(service_unit(before.port))

    def _owners(self) -> Mapping[Port, User]:
        """Return which user has, or is getting, which port."""
        return collections.ChainMap(self._choosing, self._registry.owners())

    def _unowned_ports(self) -> MutableMapping[Port, str]:
        """Return the ports that nobody here owns, and that are not free.

        Those of units that run are not ours to stop and to clean; others belong to users of other hosts.
        """
        # A ChainMap changes its first map only.
        running = {port: f"{service_unit(port)}, which nobody owns" for port in self._observer.unassigned}
        return collections.ChainMap(running, self._host.elsewhere())

    def clean_next_later(self, port: Port) -> None:
        """Clean the port that the next new user will probably get after the one who got this."""
        self._sockets.ahead.clean_later(
            lambda: next_free(port, self._config.ports, self._owners(), self._unowned_ports().get)
        )

    async def _give_back(self, port: Port) -> None:
        """Let go of a port that could not be assigned after all."""
        try:
            await self._assignments.remove_environment(port)
            await self._sockets.close_port(port)
        except WaportdError as error:
            log.warning("Cannot give the port back: %s", error, extra=log_fields(port=port))

    async def give_back_orphans(self) -> None:
        """Give back ports that were taken for a user whose assignment a crash kept from the store."""
        for port in await self._assignments.orphaned_ports():
            if port not in self._observer.unassigned:
                await self._give_back(port)
