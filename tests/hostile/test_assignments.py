"""No sequence of calls, faults and crashes gives a port to two users, loses an assignment or hands a session over.

hypothesis drives a supervisor, and compares what it says with a model of what it promised. A crash is that of
SIGKILL: nothing that the daemon would still have done reaches the store or systemd, and a new daemon starts on what
is there.
"""

import asyncio
import contextlib
import dataclasses
import os
import tempfile
from pathlib import Path

import pytest
from fakes import FakeSystemd, MemoryStore
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from support import BASE, OVERFLOW, settled

from waportd.config import Config, PortRange
from waportd.errors import PortsExhausted, StoreError, WaportdError
from waportd.model import Desired, User, port_of_unit, service_unit, socket_unit
from waportd.readiness import Wait
from waportd.supervisor import Supervisor
from waportd.systemd.manager import BusTimeout

USERS = st.sampled_from([User(name) for name in ("1", "2", "3", "4", "2_1", "ana", "99")])
RANGE = PortRange(BASE, BASE + 2)
OTHERS = PortRange(OVERFLOW, OVERFLOW + 2)
"""Six ports for seven users: now and then there is none left."""
PORTS = st.sampled_from([*RANGE, *OTHERS])


class Killed(BaseException):
    """The daemon of this lifeline is dead."""


class Lifeline:
    """What a daemon reaches the world through; after its death nothing passes any more."""

    def __init__(self, world):
        self._world = world
        self.calls_left = None
        """Calls until the daemon is killed; None for never."""
        self.dead = False

    def __getattr__(self, name):
        member = getattr(self._world, name)
        if not asyncio.iscoroutinefunction(member):
            return member

        async def call(*arguments):
            self._beat()
            result = await member(*arguments)
            self._beat()  # done, and the daemon never hears of it
            return result

        return call

    def _beat(self):
        if self.calls_left is not None:
            self.calls_left -= 1
            self.dead = self.dead or self.calls_left < 0
        if self.dead:
            raise Killed


class Host(FakeSystemd):
    """systemd with disks: what a server links stays on its port's disk until it is cleaned."""

    def __init__(self):
        super().__init__()
        self.disks = {}
        """Whose session lies on a port's disk."""
        self.taken = set()
        """Ports that a foreign program holds."""
        self.stalls = 0
        self.prepare = self._boot_session

    def _boot_session(self, server):
        if server.port in self.disks:
            server.link(f"55119{self.disks[server.port]!s:>08}")

    async def start(self, unit):
        self._stall()
        if port_of_unit(unit) in self.taken and not self._holds(port_of_unit(unit)):
            self.fail_to_start(socket_unit(port_of_unit(unit)), result="resources")
            try:
                await super().start(socket_unit(port_of_unit(unit)))
            finally:
                self.mend(socket_unit(port_of_unit(unit)))
        await super().start(unit)

    async def stop(self, unit):
        self._stall()
        await super().stop(unit)

    async def clean(self, unit):
        self._stall()
        await super().clean(unit)
        self.disks.pop(port_of_unit(unit), None)

    async def log_out(self, port):
        """Do as a server does whose phone was unlinked: delete the session, then end."""
        self.disks.pop(port, None)
        await self.exit(port, 10)

    def _exit_soon(self, port, status):
        self._exits = asyncio.ensure_future(self.log_out(port))

    def _holds(self, port):
        return self.units.get(socket_unit(port)) and self.units[socket_unit(port)].active_state == "active"

    def _stall(self):
        if self.stalls:
            self.stalls -= 1
            raise BusTimeout("systemd did not answer")


class Disk(MemoryStore):
    """A store that is full now and then."""

    faults = 0

    async def put(self, assignments):
        self._full()
        await super().put(assignments)

    async def remove(self, user):
        self._full()
        await super().remove(user)

    def _full(self):
        if self.faults:
            self.faults -= 1
            raise StoreError("the store failed: disk is full")


class Promises(RuleBasedStateMachine):
    """The daemon, its world, and what it promised."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.host, self.disk = Host(), Disk()
        (Path(self.folder.name) / "instances").mkdir()
        defaults = Config()
        self.config = dataclasses.replace(
            defaults,
            store=dataclasses.replace(defaults.store, directory=Path(self.folder.name)),
            ports=dataclasses.replace(defaults.ports, base=BASE, range=RANGE, overflow=OTHERS),
            limits=dataclasses.replace(defaults.limits, min_available_memory=0),
        )
        self.promised = {}
        """The port of each user who was answered one, and of nobody whose deletion began."""
        self.run(self.boot())

    async def boot(self):
        self.host.forget_watchers()
        self.systemd, self.store = Lifeline(self.host), Lifeline(self.disk)
        self.supervisor = Supervisor(self.config, self.store, self.systemd)
        await self.supervisor.start()
        await settled(self.supervisor)

    def run(self, work):
        return self.loop.run_until_complete(work)

    async def attempt(self, work):
        """Do something; a crash on the way ends the daemon as SIGKILL does, and a new one starts."""
        task = asyncio.ensure_future(work)
        await asyncio.wait({task}, timeout=20)
        assert task.done(), "it hangs"
        dead = self.systemd.dead or self.store.dead
        try:
            return task.result()
        except (WaportdError, Killed, asyncio.CancelledError):
            return None
        finally:
            if dead:
                await self.bury()
                await self.boot()
            await self.settle()

    async def settle(self):
        """Let what the daemon does automatically come to an end, so that a sequence always runs the same way."""
        while starts := [runtime.start for runtime in self.supervisor.runtimes if runtime.start]:
            await asyncio.wait(starts, timeout=20)
        await settled(self.supervisor)

    async def bury(self):
        self.systemd.dead = self.store.dead = True
        with contextlib.suppress(Killed):
            await self.supervisor.close()

    # What may happen

    @rule(user=USERS)
    def ensure(self, user):
        async def call():
            instance, created = await self.supervisor.ensure(user, wait=Wait.LISTENING, timeout=10)
            assert not (created and user in self.promised), "a known user is told to be new"
            self.promise(instance)

        self.run(self.attempt(call()))

    @rule(user=USERS)
    def assign(self, user):
        async def call():
            try:
                self.promise((await self.supervisor.assign(user))[0])
            except PortsExhausted:
                free = {*RANGE, *OTHERS} - {row.port for row in self.disk.rows.values()} - self.host.taken
                assert not free & set(OTHERS), "there was a port"
                raise

        self.run(self.attempt(call()))

    @rule(first=USERS, second=USERS)
    def two_at_once(self, first, second):
        async def call():
            answers = await asyncio.gather(
                self.supervisor.assign(first),
                self.supervisor.ensure(second, timeout=10),
                return_exceptions=True,
            )
            for answer in answers:
                if isinstance(answer, tuple):
                    self.promise(answer[0])
                elif not isinstance(answer, WaportdError):
                    raise answer

        self.run(self.attempt(call()))

    @rule(user=USERS)
    def poll(self, user):
        async def call():
            self.promise(await self.supervisor.poll(user))

        self.run(self.attempt(call()))

    @rule(user=USERS, what=st.sampled_from(["stop", "restart", "log_out", "start_server", "open_port"]))
    def command(self, user, what):
        self.run(self.attempt(getattr(self.supervisor, what)(user)))

    @rule(user=USERS)
    def delete(self, user):
        async def call():
            # From here on it is being deleted, whether or not the caller hears of the end.
            promised = self.promised.pop(user, None)
            try:
                await self.supervisor.delete(user)
            except WaportdError:
                row = self.disk.rows.get(user)
                if promised and row and row.desired is not Desired.DELETED:
                    self.promised[user] = promised  # refused before it began
                raise
            assert user not in self.disk.rows

        self.run(self.attempt(call()))

    @rule(port=PORTS)
    def scan(self, port):
        instance = self.supervisor.registry.on_port(port)
        if instance is None or port not in self.host.servers:
            return

        async def link():
            self.host.disks[port] = instance.assignment.user
            self.host.servers[port].link()
            await self.supervisor.registry.wait(
                instance.assignment.user, lambda now: now is None or (now.session and now.session.linked), 1
            )
            await settled(self.supervisor)

        self.run(link())

    @rule(port=PORTS)
    def end_of_a_server(self, port):
        if port in self.host.servers:
            self.run(self.host.exit(port, 0))

    @rule(port=PORTS, stopped=st.booleans())
    def left_over_session(self, port, stopped):
        """A session without an owner, as a restored backup leaves it.

        The daemon is stopped for that. Where it is not, a port that it has just cleaned for the next user counts as
        clean, for a minute.
        """
        if any(row.port == port for row in self.disk.rows.values()) or port in self.host.servers:
            return
        if stopped:
            self.restart_in_order(meanwhile=lambda: self.host.disks.setdefault(port, "nobody"))
        elif port not in self.supervisor._sockets.ahead._cleaned:  # noqa: SLF001  # nobody else can know
            self.host.disks.setdefault(port, "nobody")

    @rule(port=PORTS)
    def another_program(self, port):
        self.host.taken ^= {port}

    @rule(calls=st.integers(0, 12), whose=st.sampled_from(["systemd", "store"]))
    def die_soon(self, calls, whose):
        getattr(self, whose).calls_left = calls

    @rule()
    def die_now(self):
        self.run(self.bury())
        self.run(self.boot())

    @rule()
    def restart_in_order(self, meanwhile=lambda: None):
        async def restart():
            await self.supervisor.close()
            meanwhile()
            await self.boot()

        if not (self.systemd.calls_left or self.store.calls_left):
            self.run(restart())

    @rule(count=st.integers(1, 3))
    def full_disk(self, count):
        self.disk.faults = count

    @rule(count=st.integers(1, 3))
    def silent_systemd(self, count):
        self.host.stalls = count

    # What must hold

    def promise(self, instance):
        user, port = instance.assignment.user, instance.assignment.port
        assert self.promised.setdefault(user, port) == port, "the port of a user changed"

    @invariant()
    def no_answered_assignment_is_lost(self):
        for user, port in self.promised.items():
            assert user in self.disk.rows, f"{user} lost port {port}"
            assert self.disk.rows[user].port == port

    @invariant()
    def no_port_has_two_owners(self):
        ports = [row.port for row in self.disk.rows.values()]
        assert len(ports) == len(set(ports))
        picture = {
            instance.assignment.user: instance.assignment.port for instance in self.supervisor.registry
        }
        if not (self.systemd.dead or self.store.dead):
            assert picture == {row.user: row.port for row in self.disk.rows.values()}

    @invariant()
    def nobody_has_the_session_of_another(self):
        owners = {row.port: row.user for row in self.disk.rows.values()}
        for port, whose in self.host.disks.items():
            assert owners.get(port, whose) == whose, f"{owners[port]} has the session of {whose} on {port}"

    @invariant()
    def who_has_no_port_has_no_open_socket(self):
        owned = {row.port for row in self.disk.rows.values()}
        if self.systemd.dead or self.store.dead or self.host.stalls:
            return
        for port in {*RANGE, *OTHERS} - owned:
            assert service_unit(port) not in self.host.units or port not in self.host.servers

    def teardown(self):
        async def end():
            await self.bury()
            await self.host.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run(end())
        self.loop.close()
        self.folder.cleanup()


# Who dies by SIGKILL closes nothing.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_promise_is_kept(monkeypatch):
    # The next port is cleaned while other things continue, which are over in no time here.
    monkeypatch.setattr("waportd.cleaning_ahead.CLEAN_NEXT_DELAY_S", 0.0)
    examples = 60 if os.environ.get("WAPORTD_FUZZ", "ci") == "ci" else 3000
    run_state_machine_as_test(Promises, settings=settings(max_examples=examples, stateful_step_count=40))
