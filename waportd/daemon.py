"""The program ``waportd``: puts the parts together, and ends them in order."""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from waportd import __version__, accounts, engines, networks, units
from waportd.advice import advise, advise_held, advise_here, check_readable
from waportd.api.access import Access
from waportd.api.pages import Embedders
from waportd.api.server import ApiServer, make_app
from waportd.command_line import Command, Example, argument, flag, parser
from waportd.config import Address, Bus, Config, changes, load, reloaded
from waportd.connect_links import Links
from waportd.errors import ConfigError, StoreError, StoreTooNewError, WaportdError
from waportd.host import Host, SingleHost
from waportd.registry import Registry
from waportd.shortcuts import ALL, Shortcuts
from waportd.store import AllocationStore, SqliteStore
from waportd.supervisor import Supervisor
from waportd.systemd import activation, journal, notify
from waportd.systemd.dbus import DBusUnitManager
from waportd.systemd.manager import BusLost, UnitManager
from waportd.tokens import Tokens

log = logging.getLogger("waportd.daemon")

DEFAULT_CONFIG = Path("/etc/waportd/config.yaml")
_USES_INTERVAL_S = 60.0
"""Seconds from one note on disk of when tokens were used to the next."""
_BUS_LOST_PAUSE_S = 0.5
"""Seconds from the loss of D-Bus to the end of the daemon.

A unit that changes its state before systemd has noticed that dbus-daemon died makes systemd 252 connect to the
bus's socket at once, which nobody serves, and wait for an answer: for 90 s systemd does nothing at all
(manager_recheck_dbus(); measured in one of five kills when the daemon ended at once).
"""
EXIT_FAILURE = 1
EXIT_STORE = 65
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: a restart does not fix it."""


class SocketInUse(WaportdError):
    """The API socket cannot be opened."""

    code = "socket_in_use"


class Daemon:
    """One run of the daemon, from the opening of its store to its last answer."""

    def __init__(self, config: Config, config_path: Path | None, shortcuts: Shortcuts = ALL) -> None:
        self._shortcuts = shortcuts
        self._config = config
        self._config_path = config_path
        self._stop = asyncio.Event()
        self._reloads: asyncio.Queue[None] = asyncio.Queue()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises the WaportdError that keeps it from starting, and BusLost when systemd cannot be heard any more.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        async with contextlib.AsyncExitStack() as stack:
            listeners = only_named(self._config, stack.enter_context(unix_listeners(self._config.api.socket)))
            for listener in tcp_listeners(self._config, listeners):
                listeners.append(stack.enter_context(listener))
            _make_folders(self._config)
            store = await SqliteStore.open(self._config.store.database)
            stack.push_async_callback(store.close)
            manager = await DBusUnitManager.connect(self._config.systemd.bus.value)
            stack.push_async_callback(manager.close)
            if self._config.systemd.bus is Bus.SESSION and units.install_session_units(self._config):
                await manager.reload()
            if refused := await asyncio.to_thread(
                engines.refusal, self._config.instances.engine, self._config
            ):
                log.error("Cannot start servers as instances.engine says: %s; %s", *refused)
            assignments, host = await self.join(store, stack)
            supervisor = Supervisor(self._config, assignments, manager, self._shortcuts, host)
            manager.on_call = supervisor.metrics.note_call
            stack.push_async_callback(supervisor.close)
            await supervisor.start()
            tokens, links = await self.callers(store)
            links.public_url = self._config.api.public_url
            access = Access(self._config.api.allow_users, tokens, links)
            embedders = Embedders(self._config.api.frame_ancestors)
            server = ApiServer(make_app(supervisor, access, embedders))
            stack.push_async_callback(server.close)
            await server.start(listeners)
            self.listen(server, supervisor.registry, access, stack)
            self.act(supervisor, manager, stack)
            stack.push_async_callback(_cancel, asyncio.create_task(_feed_watchdog(), name="watchdog"))
            stack.push_async_callback(_keep_uses, tokens)
            stack.push_async_callback(
                _cancel, asyncio.create_task(_keep_uses_regularly(tokens), name="tokens")
            )
            loop.add_signal_handler(signal.SIGHUP, self._reloads.put_nowait, None)
            reloader = asyncio.create_task(
                self._reload_on_request(supervisor, access, embedders, server), name="reload"
            )
            stack.push_async_callback(_cancel, reloader)
            supervisor.history.start()
            _advise(self._config, supervisor)
            notify.ready(_status(supervisor))
            log.info("ready: version %s, %s", __version__, _status(supervisor))
            await self._until_stopped(manager)
            notify.stopping()
            supervisor.registry.release()
            await server.drain()

    async def join(
        self,
        store: SqliteStore,
        stack: contextlib.AsyncExitStack,  # noqa: ARG002
    ) -> tuple[AllocationStore, Host]:
        """Return where the assignments are kept, and what this host may do: on its own, everything.

        The ``stack`` closes what has to be closed at the end.
        """
        return store, SingleHost(self._config.store.instances)

    async def callers(self, store: SqliteStore) -> tuple[Tokens, Links]:
        """Return what callers over TCP show: on its own, what is good on this host. Raises StoreError."""
        tokens = Tokens(store)
        await tokens.load()
        key = await store.secret("connect links")
        return tokens, Links(key, functools.partial(store.change_secret, "connect links"))

    def listen(
        self, server: ApiServer, registry: Registry, access: Access, stack: contextlib.AsyncExitStack
    ) -> None:
        """Begin to answer other hosts: on its own, there are none."""

    def act(self, supervisor: Supervisor, manager: UnitManager, stack: contextlib.AsyncExitStack) -> None:
        """Begin what a host does beside its users' requests: on its own, nothing."""

    async def _until_stopped(self, manager: DBusUnitManager) -> None:
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            ends: set[asyncio.Future[Any]] = {stop, manager.lost}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(stop)
        if manager.lost.done() and not self._stop.is_set():
            await asyncio.sleep(_BUS_LOST_PAUSE_S)
            raise BusLost(
                "the connection to D-Bus is gone",
                hint="systemd restarts waportd; if that fails too, see `systemctl status dbus`",
            )

    async def _reload_on_request(
        self, supervisor: Supervisor, access: Access, embedders: Embedders, server: ApiServer
    ) -> None:
        while True:
            await self._reloads.get()
            notify.reloading()
            outcome = await self._reload(supervisor, access, embedders, server)
            notify.ready(outcome)

    async def _reload(
        self, supervisor: Supervisor, access: Access, embedders: Embedders, server: ApiServer
    ) -> str:
        """Apply what can be applied of a changed file; an invalid one changes nothing. Log the result."""
        if self._config_path is None:
            log.warning("Cannot reload: there is no configuration file, all is default")
            return _status(supervisor)
        try:
            config = await asyncio.to_thread(load, self._config_path)
            await asyncio.to_thread(self._check_engine, config)
        except ConfigError as error:
            log.error("Cannot reload, continuing as before:\n%s", error)  # noqa: TRY400  # no traceback: it says it all
            return "reload refused: the configuration is not valid"
        withdrawn = self.withdraw(config, server)
        changed = changes(self._config, config)
        for change in changed:
            log.info(
                "%s: %s",
                change.key,
                "taken over" if change.reloadable else "holds after `systemctl restart waportd`",
            )
        if not changed and not withdrawn:
            log.info("reloaded; nothing changed")
        self._config = config = reloaded(self._config, config)
        logging.getLogger().setLevel(config.log.level.upper())
        access.allow(config.api.allow_users)
        access.links.public_url = config.api.public_url
        embedders.allow(config.api.frame_ancestors)
        await supervisor.reconfigure(config)
        _advise(config, supervisor)
        return _status(supervisor)

    def withdraw(self, config: Config, server: ApiServer) -> bool:
        """Stop serving addresses that were removed from ``api.listen``; return whether there was one."""
        before = self._config.api
        kept = tuple(address for address in before.listen if address in config.api.listen)
        for address in before.listen:
            if address not in kept:
                server.withdraw(address)
                log.info("api.listen: %s is not served any more", address)
        self._config = dataclasses.replace(self._config, api=dataclasses.replace(before, listen=kept))
        return kept != before.listen

    def _check_engine(self, config: Config) -> None:
        """Refuse a new engine that is not there. An engine that was removed does not block other changes."""
        if config.instances.engine == self._config.instances.engine:
            return
        if refused := engines.refusal(config.instances.engine, reloaded(self._config, config)):
            raise ConfigError(f"instances.engine: {refused[0]}", hint=refused[1])


PROGRAM = Command(
    "waportd",
    "gives every user of a web app a WhatsApp Web server of their own, supervised by systemd",
    """
    Without a command it runs the daemon. Exit status 65: the store was written by a newer waportd. Exit status 78: the
    configuration is wrong. systemd does not start it again after these two.
    """,
    (
        argument(
            "--config",
            metavar="FILE",
            type=Path,
            help=f"the configuration (default: {DEFAULT_CONFIG}, if it exists)",
        ),
        flag("--check-config", help="check the configuration and exit: 0 or 78"),
        argument("--version", action="version", version=f"waportd {__version__}", help="show the version"),
    ),
    commands=(
        Command(
            "generate-units",
            "write the systemd units that fit the configuration, for the system bus",
            "Prints the name of each file that it writes. `systemctl daemon-reload` has systemd read them.",
            (
                argument("--output", metavar="DIR", type=Path, required=True, help="where to write them"),
                argument(
                    "--prefix",
                    metavar="DIR",
                    type=Path,
                    help="the folder that waportd is installed below, if it is not the one of this program",
                ),
                flag("--tcp", help="only waportd-tcp.socket, which holds the addresses of api.listen"),
            ),
            (
                Example(
                    "write the units where systemd looks for them",
                    "waportd generate-units --output /etc/systemd/system",
                ),
            ),
        ),
        Command(
            "deny-networks",
            "have systemd block instances.deny_networks for the servers, as root",
            "Prints which networks are denied, and the exceptions. The unit whatsapp-networks runs it after each change.",
            examples=(Example("apply a changed configuration", "sudo waportd deny-networks"),),
        ),
    ),
    needs_command=False,
)


def main(
    arguments: list[str] | None = None, make: Callable[[Config, Path | None, Shortcuts], Daemon] = Daemon
) -> int:
    """Run the program, with the daemon that ``make`` makes; return its exit status: 0, 1 for a failure, 2 for wrong usage, 65 and 78 for lasting faults.

    65 is the store of a newer waportd, 78 the configuration: systemd does not start it again.
    """
    options = parser(PROGRAM).parse_args(arguments)
    if options.command == "deny-networks":
        return _deny_networks(options.config)
    try:
        if options.check_config:
            _check(options.config)
            return 0
        path, config = _load(options.config)
        if options.command == "generate-units":
            for file in units.generate_units(options.output, config, options.prefix, tcp_only=options.tcp):
                print(file)
            return 0
        journal.set_up_logging(config.log.level)
        asyncio.run(make(config, path, Shortcuts.chosen()).run())
    except ConfigError as error:
        _complain(error)
        return EXIT_CONFIG
    except WaportdError as error:
        _complain(error)
        return EXIT_STORE if isinstance(error, StoreTooNewError) else EXIT_FAILURE
    return 0


def _deny_networks(path: Path | None) -> int:
    """Deny the networks; return the exit status."""
    try:
        denied, allowed = networks.apply(_load(path)[1])
    except ConfigError as error:
        _complain(error)
        networks.keep_name_servers()
        return EXIT_CONFIG
    except WaportdError as error:
        _complain(error)
        return EXIT_FAILURE
    print(f"denied: {', '.join(denied) or 'nothing'}; but for: {', '.join(allowed) or 'nothing'}")
    return 0


def _load(path: Path | None) -> tuple[Path | None, Config]:
    """Return the configuration and its file; without a file, all is default."""
    if path is None:
        if not DEFAULT_CONFIG.exists():
            return None, Config()
        path = DEFAULT_CONFIG
    return path, load(path)


def _check(path: Path | None) -> None:
    """Print whether a configuration is valid, also for the daemon's user, and possible mistakes. Raise ConfigError."""
    if path in {None, DEFAULT_CONFIG}:
        check_readable(DEFAULT_CONFIG)
    path, config = _load(path)
    print(f"{path or 'built-in defaults'}: ok")
    if path is None and accounts.daemon() is not None:
        print(f"warning: the packaged service does not start without {DEFAULT_CONFIG}", file=sys.stderr)
    found = advise_here(config)
    if path == DEFAULT_CONFIG:
        found += advise_held(config)
    for advice in found:
        print(f"warning: {advice}", file=sys.stderr)


def _advise(config: Config, supervisor: Supervisor) -> None:
    assignments = [instance.assignment for instance in supervisor.registry]
    webhooks = {each.port: each.webhook_url for each in assignments if each.webhook_url}
    for advice in advise(config, supervisor.registry.owners(), webhooks):
        log.warning("%s", advice)


def _complain(error: WaportdError) -> None:
    print(f"waportd: {error}", file=sys.stderr)
    if error.hint:
        print(error.hint, file=sys.stderr)


def _status(supervisor: Supervisor) -> str:
    count = len(supervisor.registry)
    return f"{count} user" if count == 1 else f"{count} users"


def _make_folders(config: Config) -> None:
    for folder in (config.store.directory, config.store.instances):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise WaportdError(
                f"{folder} cannot be made: {error.strerror}",
                hint="set store.directory to a folder that the daemon's user may write",
            ) from error


@contextlib.contextmanager
def unix_listeners(path: Path) -> Iterator[list[socket.socket]]:
    """Give the sockets that systemd hands over, or else one of our own at ``path``."""
    inherited = [listener for named in activation.listen_sockets().values() for listener in named]
    if inherited:
        yield inherited
        return
    listener = _bind(path)
    try:
        yield [listener]
    finally:
        path.unlink(missing_ok=True)


def _bind(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o022)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if _is_left_over(path):
            path.unlink()
        os.umask(0o117)
        listener.bind(str(path))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise SocketInUse(
            f"the API socket {path} cannot be opened: {error.strerror}",
            hint="is a second waportd running? set api.socket to a path that the daemon's user may write",
        ) from error
    finally:
        os.umask(before)
    return listener


def only_named(config: Config, inherited: list[socket.socket]) -> list[socket.socket]:
    """Return the sockets from systemd that are to be served; close addresses that ``api.listen`` does not name."""
    named = {(address.host, address.port) for address in config.api.listen}
    served = []
    for listener in inherited:
        if listener.family == socket.AF_UNIX or listener.getsockname()[:2] in named:
            served.append(listener)
            continue
        address = Address(*listener.getsockname()[:2])
        listener.close()
        log.warning(
            "Cannot serve %s, which systemd holds: api.listen does not name it; as root: %s",
            address,
            units.tcp_unit_made(config.api.listen),
        )
    return served


def tcp_listeners(config: Config, inherited: list[socket.socket]) -> Iterator[socket.socket]:
    """Yield a socket for each address of ``api.listen`` that systemd has not handed over.

    Addresses that fail are logged and left out: the unix socket is served all the same. Where systemd runs the daemon,
    systemd holds the addresses: if one were free while the daemon restarts, anybody could take it and collect tokens.
    """
    held = {listener.getsockname()[:2] for listener in inherited if listener.family != socket.AF_UNIX}
    activated = any(listener.family == socket.AF_UNIX for listener in inherited) and activation.was_used()
    for address in config.api.listen:
        if (address.host, address.port) in held:
            _warn_of_others(address)
        elif activated and config.systemd.bus is Bus.SYSTEM:
            log.error(
                "Cannot listen on %s: systemd does not hold it; as root: %s", address, units.TCP_UNIT_MADE
            )
        else:
            try:
                listener = bind_address(address)
            except SocketInUse as error:
                log.error("Cannot listen: %s; %s", error, error.hint)  # noqa: TRY400  # it says it all
                continue
            _warn_of_others(address)
            yield listener


def bind_address(address: Address) -> socket.socket:
    """Return a socket that is bound to an address and does not listen yet; raise SocketInUse."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.create_server((address.host, address.port), family=family, backlog=1024)
    except OSError as error:
        raise SocketInUse(
            f"api.listen: {address} cannot be opened: {error.strerror}",
            hint="name an address of this host and a port from 1024 on that is free; "
            f"`ss -ltnp sport = {address.port}` shows who does",
        ) from error
    return listener


def _warn_of_others(address: Address) -> None:
    if not address.is_loopback:
        log.warning(
            "api.listen: %s is open to other hosts, without TLS: put a reverse proxy in front. The packaged service "
            "takes packets from this host only; `systemctl edit waportd` with IPAddressAllow= of [Service] admits "
            "others",
            address,
        )


def _is_left_over(path: Path) -> bool:
    """Return whether there is a socket that no process listens on any more."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


async def _feed_watchdog() -> None:
    """Notify systemd's watchdog that the event loop runs, twice in its interval."""
    interval = notify.watchdog_interval()
    while interval is not None:
        notify.alive()
        await asyncio.sleep(interval / 2)


async def _keep_uses_regularly(tokens: Tokens) -> None:
    while True:
        await asyncio.sleep(_USES_INTERVAL_S)
        await _keep_uses(tokens)


async def _keep_uses(tokens: Tokens) -> None:
    """Write when tokens were last used; a failure is only logged."""
    try:
        await tokens.keep_uses()
    except StoreError as error:
        log.warning("Cannot write when tokens were last used: %s", error)


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    sys.exit(main())
