"""What `fleet` and `host` do: the files of this host, its units, and the list in the engine."""

import asyncio
import contextlib
import dataclasses
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from waportd import accounts
from waportd.cli import bounded, etcd_member
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.cli.locate import configuration, need_root
from waportd.cli.old_session import sessions_folder
from waportd.cli.systemctl import SYSTEM_UNITS, SYSTEMCTL_S, systemctl
from waportd.config import Bus, Config
from waportd.errors import UnknownUser, WaportdError
from waportd.fleet import administration, enrolment, key_files, own_etcd, units
from waportd.fleet import bundle as bundles
from waportd.fleet.bucket import KEY_FILE, BucketKey
from waportd.fleet.bundle import Bundle
from waportd.fleet.directory import MARK, Directory
from waportd.fleet.engine import HostState, State
from waportd.fleet.etcd import Etcd
from waportd.fleet.founding import admit, found
from waportd.fleet.settings import FOLDER, Settings
from waportd.fleet.store import forget_fleet
from waportd.fleet.stores import in_bucket
from waportd.fleet.timing import Timing
from waportd.store import read_assignments

_T = TypeVar("_T")

_TAKE_OVER_S: Final = 60.0
"""Seconds for the lease and the environments of this host's users, while the engine answers."""
_POLL_S: Final = 0.2


def init(context: Context) -> Exit:
    """Begin a fleet with this host."""
    options = context.options
    config = config_for(context, "begin a fleet")
    folder = _new_folder(options.config)
    if bool(options.engine) == options.etcd:
        raise Problem(
            "a fleet needs etcd: one that is there (--engine URL), or one on its hosts (--etcd)",
            "waportctl fleet init --help",
            Exit.USAGE,
            "usage",
        )
    if options.etcd:
        etcd_member.check()
    settings = Settings(
        options.name,
        options.address,
        tuple(options.engine or ()),
        snapshots="" if options.snapshots == "none" else options.snapshots,
        forward_ports=options.forward_ports,
        folder=folder,
    )
    with reported():
        if options.etcd:
            settings = dataclasses.replace(settings, engine=(own_etcd.client_url(settings.ip),))
        settings.check()
        folder.mkdir(mode=0o755, exist_ok=True)
        enrolment.found(folder, options.fleet, options.name, [settings.ip], _owner())
        if options.etcd:
            etcd_member.begin(settings, options.fleet)
        if options.bucket_key is not None:
            key_files.write(folder / KEY_FILE, options.bucket_key.read_bytes(), owner=_owner())
        _make_store(settings)
        ask(settings, lambda engine: found(engine, options.name, options.address, config.limits.max_sockets))
        forget_fleet(config.store.database)
        settings.save()
        _activate(config, settings)
    say(
        context,
        f"This host is {options.name} of the fleet {options.fleet}.",
        "The next one: `waportctl fleet invite NAME FILE --address IP:PORT` here, then `waportctl fleet join FILE` there.",
    )
    return Exit.OK


def invite(context: Context) -> Exit:
    """Make the file with which another host joins."""
    options = context.options
    config_for(context, "invite a host")
    settings = member(options.config)
    with reported():
        invited = Settings(options.name, options.address, settings.engine, folder=settings.folder)
        invited.check()
        if (engine := etcd_member.known(settings)) != settings.engine:
            settings = dataclasses.replace(settings, engine=engine)
            settings.save()
        made = enrolment.invite(
            settings.folder,
            options.name,
            settings.engine,
            [invited.ip],
            address=options.address,
            snapshots=settings.snapshots,
            copies=settings.copies,
        )
        bundles.write(options.file, made)
    say(
        context,
        f"{options.file}: copy it to {options.name}, and there: `waportctl fleet join {options.file.name}`",
    )
    return Exit.OK


def join(context: Context) -> Exit:
    """Make this host one of a fleet."""
    options = context.options
    config = config_for(context, "join a fleet")
    folder = options.config.parent / FOLDER
    with reported():
        bundle = bundles.read(options.file)
        if Settings.load(folder) is not None:
            return _renew(context, folder, bundle)
        settings = Settings(
            bundle.certificate.host,
            bundle.address,
            bundle.engine,
            snapshots=bundle.snapshots,
            copies=bundle.copies,
            forward_ports=options.forward_ports,
            folder=folder,
        )
        settings.check()
        _check_store(settings, bundle)
        if options.etcd:
            etcd_member.check()
        folder.mkdir(mode=0o755, exist_ok=True)
        enrolment.join(folder, bundle, _owner())
        if options.etcd:
            settings = etcd_member.enter(settings)
        ask(settings, lambda engine: _enter(engine, settings, config))
        forget_fleet(config.store.database)
        settings.save()
        _activate(config, settings)
    say(context, f"This host is {settings.name} of the fleet {bundle.certificate.fleet}.")
    return Exit.OK


def _renew(context: Context, folder: Path, bundle: Bundle) -> Exit:
    """Give a host that has joined before its next certificate. Raises AlreadyInFleet for a bundle that is not its own."""
    enrolment.join(folder, bundle, _owner())
    etcd_member.renew(folder)
    # They show the certificate that they have read. No session notices.
    systemctl("reload", "waportd-lease.service")
    systemctl("restart", "waportd.service")
    certificate = bundle.certificate
    until = time.strftime("%Y-%m-%d", time.localtime(certificate.ends_at))
    say(context, f"This host is {certificate.host} of the fleet {certificate.fleet} until {until}.")
    return Exit.OK


def status(context: Context) -> Exit:
    """Show the hosts of the fleet."""
    settings, state = fleet_now(context, "see the fleet")
    members = [host for host in state.hosts if host.state is not HostState.LEFT]
    users = {host.name: sum(row.host == host.name for row in state.rows) for host in state.hosts}
    is_well = state.settled and all(host.alive for host in members)
    if context.screen.as_json:
        document = [{**dataclasses.asdict(host), "users": users[host.name]} for host in state.hosts]
        context.screen.document({"settled": state.settled, "hosts": document})
    else:
        rows = [
            [
                host.name + (" *" if host.name == settings.name else ""),
                host.address,
                host.state,
                "held" if host.alive else "none",
                f"{users[host.name]} of {host.capacity}",
                host.version,
            ]
            for host in state.hosts
        ]
        context.screen.table(("HOST", "ADDRESS", "STATE", "LEASE", "USERS", "VERSION"), rows)
        if not state.settled:
            context.screen.text(
                "The engine is new, or was restored: no session is started before all hosts have put back what they hold."
            )
    return Exit.OK if is_well else Exit.FAILED


def evict(context: Context) -> Exit:
    """Remove a host that does not come back."""
    options = context.options
    config_for(context, "evict a host")
    settings = member(options.config)
    question = f"Is {options.name} off, and does it stay off? If it still ran sessions, they would run twice."
    if not context.agreed(question, loses=True):
        return Exit.FAILED
    with reported():
        ask(settings, lambda engine: administration.evict(engine, options.name))
        etcd_member.evict(settings, options.name)
    say(context, f"{options.name} has left the fleet; its users go to other hosts.")
    return Exit.OK


def _make_store(settings: Settings) -> None:
    """Make the place of the snapshots, for the daemon. Raises OSError, ConfigError, KeyUnusable, StoreUnavailable."""
    if (folder := settings.mount) is not None:
        Directory.create(folder)
        if (owner := _owner()) is not None:
            for path in (folder, folder / MARK):
                os.chown(path, *owner)
    elif (bucket := settings.bucket) is not None:
        asyncio.run(in_bucket(bucket, BucketKey.read(settings.folder / KEY_FILE)).create())


def _check_store(settings: Settings, bundle: Bundle) -> None:
    """Raise Problem, ConfigError, KeyUnusable or StoreUnavailable where this host cannot use the place of the snapshots."""
    if settings.mount is not None:
        _check_folder(settings.mount)
    elif (bucket := settings.bucket) is not None:
        asyncio.run(in_bucket(bucket, BucketKey.parse(bundle.secrets.get(KEY_FILE, b""))).check())


def _check_folder(folder: Path) -> None:
    """Raise Problem where the daemon of this host cannot use the folder of the snapshots."""
    try:
        found = (folder / MARK).stat().st_uid
    except FileNotFoundError as error:
        raise Problem(
            f"{folder} is not the folder of the fleet's snapshots: it has no file {MARK}",
            f"mount its file system here, too: findmnt --target {folder}",
            code="no_snapshots",
        ) from error
    owner = _owner()
    if owner is not None and found != owner[0]:
        raise Problem(
            f"{folder / MARK} belongs to user id {found}, and waportd has {owner[0]} on this host",
            f"give it the same number on all hosts: systemctl stop waportd; usermod --uid {found} waportd; "
            "chown --recursive waportd: /var/lib/waportd; systemctl start waportd",
            code="other_user_id",
        )


async def _enter(engine: Etcd, settings: Settings, config: Config) -> None:
    """Put this host on the list. Raises Problem where the fleet has a user, or a port, of this host already."""
    state = await engine.state()
    if clashes := _clashes(state, settings, config):
        raise Problem(
            f"the fleet has these already: {'; '.join(clashes)}",
            "delete the users here, or on the other hosts; `waportctl move USER` gives one another port. Then join again",
            code="conflict",
        )
    await admit(engine, settings.name, settings.address, config.limits.max_sockets)


def _clashes(state: State, settings: Settings, config: Config) -> list[str]:
    if not config.store.database.exists():
        return []
    others = [row for row in state.rows if row.host != settings.name]
    users, ports = {row.user: row for row in others}, {row.port: row for row in others}
    found_here = read_assignments(config.store.database)
    return [
        *(f"user {one.user} on host {users[one.user].host}" for one in found_here if one.user in users),
        *(f"port {one.port}, of user {ports[one.port].user}" for one in found_here if one.port in ports),
    ]


def _activate(config: Config, settings: Settings) -> None:
    """Have the units of this host belong to the fleet. Sessions that run continue.

    The order matters: what is bound to a lease that is not held is stopped.
    """
    # For logins that come before the first server of this host runs. systemd takes no folder that others may enter.
    sessions = sessions_folder(config)
    for folder in (sessions.parent, sessions):
        folder.mkdir(mode=0o700, exist_ok=True)
    files = units.render_units(
        bus=config.systemd.bus,
        timing=Timing(),
        logins=units.logins_folder(config),
        store=settings.mount,
    )
    of_sessions = {name: text for name, text in files.items() if name.startswith("whatsapp@")}
    units.write(SYSTEM_UNITS, {name: text for name, text in files.items() if name not in of_sessions})
    systemctl("daemon-reload")
    systemctl("restart", "waportd.service")
    wanted = {f"{port}.env" for port in _running_ports()}
    folder = units.runtime_folder(system=True)
    deadline = time.monotonic() + _TAKE_OVER_S
    while not (systemctl("is-active", "waportd-lease.service", check=False) and wanted <= _names(folder)):
        if time.monotonic() > deadline:
            raise Problem(
                f"{settings.name} is on the list of the fleet, but the sessions here are not bound to its lease yet",
                "`journalctl -u waportd -u waportd-lease` says why; then run the same command again",
                Exit.NOT_IN_TIME,
                "not_in_time",
            )
        time.sleep(_POLL_S)
    units.write(SYSTEM_UNITS, of_sessions)
    systemctl("daemon-reload")


def _running_ports() -> set[str]:
    """Return the ports of the servers that run."""
    command = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active", "whatsapp@*.service"]
    lines = bounded.run(command, seconds=SYSTEMCTL_S).stdout.splitlines()
    return {line.split()[0].removeprefix("whatsapp@").removesuffix(".service") for line in lines}


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return set()


def ask(settings: Settings, call: Callable[[Etcd], Awaitable[_T]]) -> _T:
    """Return what a call to the engine returns."""

    async def ask() -> _T:
        engine = Etcd(settings.engine, tls=settings.tls(), prefix=settings.prefix)
        try:
            return await call(engine)
        finally:
            await engine.close()

    return asyncio.run(ask())


def config_for(context: Context, what: str) -> Config:
    """Return the configuration. Raises Problem for anyone but root, on the system bus."""
    config = configuration(context.options.config)
    need_root(config, what)
    if config.systemd.bus is not Bus.SYSTEM:
        raise Problem("a fleet needs the system's own systemd (systemd.bus)", None, Exit.USAGE, "bad_request")
    return config


def _new_folder(config: Path) -> Path:
    """Return the folder of the fleet's files. Raises Problem where this host belongs to a fleet."""
    folder = config.parent / FOLDER
    with reported():
        known = Settings.load(folder) if folder.is_dir() else None
    if known is not None:
        raise Problem(
            f"this host is {known.name} of a fleet already",
            "`waportctl fleet status` shows it",
            code="conflict",
        )
    return folder


def member(config: Path) -> Settings:
    """Return the settings of this host. Raises Problem where it belongs to no fleet."""
    folder = config.parent / FOLDER
    with reported():
        settings = Settings.load(folder) if folder.is_dir() else None
    if settings is None:
        raise Problem("this host belongs to no fleet", "`waportctl fleet init` begins one", code="no_fleet")
    return settings


def _owner() -> tuple[int, int] | None:
    daemon = accounts.daemon()
    return None if daemon is None else (daemon.pw_uid, daemon.pw_gid)


def say(context: Context, *sentences: str) -> None:
    """Say what was done."""
    if context.screen.as_json:
        context.screen.document({"done": True})
    for sentence in () if context.screen.as_json else sentences:
        context.screen.text(sentence)


def fleet_now(context: Context, what: str) -> tuple[Settings, State]:
    """Return the settings of this host, and its fleet as it is now; ``what`` is that of `config_for`. Raises Problem."""
    config_for(context, what)
    settings = member(context.options.config)
    with reported():
        return settings, ask(settings, lambda engine: engine.state())


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """End the program with the cause and the fix of an error."""
    try:
        yield
    except WaportdError as error:
        status = Exit.UNKNOWN_USER if isinstance(error, UnknownUser) else Exit.FAILED
        raise Problem(error.message, error.hint, status, error.code) from error
    except OSError as error:
        raise Problem(f"{error.filename}: {error.strerror}", "run it as root") from error
