"""This host as one of a fleet: its certificate, the engine, the lease, the way to the other hosts, and its users' logins."""

import asyncio
import contextlib
import dataclasses
import os
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from waportd.advice import loopback_port
from waportd.cli.checks.finding import Finding, Findings, fail, ok, skip, warn
from waportd.config import Config
from waportd.errors import WaportdError
from waportd.fleet import addresses, enrolment
from waportd.fleet.bucket import KEY_FILE, BucketKey
from waportd.fleet.certificates import WARN_DAYS
from waportd.fleet.chunks import FleetKeys
from waportd.fleet.coverage import coverage
from waportd.fleet.engine import HostState, State
from waportd.fleet.etcd import Etcd
from waportd.fleet.identity import HOST_FILE, NEW_BUNDLE
from waportd.fleet.record import opened
from waportd.fleet.sealing import Sealing
from waportd.fleet.settings import PEERS, SNAPSHOT_KEY, Settings
from waportd.fleet.stores import in_bucket
from waportd.tcp_table import LISTENING, sockets

CONNECT_S: Final = 3.0
"""Seconds for a connection to another host, or an answer of a member of etcd."""
_NAMED: Final = 10
"""Users that are named where many have the same problem."""


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What the engine says."""

    members: Mapping[str, str | None]
    """The members of etcd by URL: None for one that answers, else why it does not."""
    alarms: Collection[str]
    """Those that etcd has raised, such as NOSPACE."""
    state: State | None
    """None where no member answers."""


def examine(folder: Path, config: Config) -> Findings:
    """Check a host whose files of the fleet are in a folder."""
    if (folder / HOST_FILE).exists() and not os.access(folder / HOST_FILE, os.R_OK):
        yield skip("only root can read the keys of the fleet", "sudo waportctl doctor")
        return
    try:
        settings = Settings.load(folder)
        if settings is None:
            return
        yield from _certificate(settings)
        look = asyncio.run(ask_engine(settings))
    except WaportdError as error:
        yield fail(error.message, error.hint)
        return
    yield from _engine(look)
    if look.state is not None:
        yield from _hosts(settings, look.state)
        yield from asyncio.run(_ways(settings, look.state))
        yield from _bucket(settings)
        yield from _copies(settings, look.state)
        yield from _webhooks(settings, config, look.state)
        yield from _held(settings, look.state)
        if settings.forward_ports:
            yield from _forwarded(settings, config, look.state)


def _certificate(settings: Settings) -> Findings:
    certificate = enrolment.installed(settings.folder)
    left = certificate.days_left()
    if certificate.host != settings.name:
        yield fail(f"the certificate is that of host {certificate.host}, not of {settings.name}", NEW_BUNDLE)
    elif left <= 0:
        yield fail("the certificate has expired: the other hosts refuse calls from here", NEW_BUNDLE)
    elif left < WARN_DAYS:
        yield warn(f"the certificate expires in {left:.0f} days", NEW_BUNDLE)
    else:
        yield ok(
            f"host {settings.name} of the fleet {certificate.fleet}, with a certificate for {left:.0f} days"
        )


async def ask_engine(settings: Settings) -> Look:
    """Ask each member of etcd, and then all of them for the state. Raises CertificateUnusable."""
    tls = settings.tls()
    members: dict[str, str | None] = {}
    for url in settings.engine:
        one = Etcd([url], tls=tls, prefix=settings.prefix, limit_s=CONNECT_S)
        try:
            await one.epoch()
        except WaportdError as error:
            members[url] = error.message
        else:
            members[url] = None
        finally:
            await one.close()
    if all(members.values()):
        return Look(members, (), None)
    engine = Etcd(settings.engine, tls=tls, prefix=settings.prefix)
    try:
        return Look(members, await engine.alarms(), await engine.state())
    finally:
        await engine.close()


def _engine(look: Look) -> Findings:
    silent = {url: why for url, why in look.members.items() if why}
    for url, why in silent.items():
        say = fail if len(silent) == len(look.members) else warn
        yield say(f"{url} does not answer: {why}", "systemctl status etcd, on that host")
    if "NOSPACE" in look.alarms:
        yield fail(
            "etcd is out of space: nobody is made, moved or started",
            "etcdctl compact REVISION; etcdctl defrag; etcdctl alarm disarm. Then a larger --quota-backend-bytes",
        )
    elif look.alarms:
        yield fail(f"etcd raises an alarm: {', '.join(sorted(look.alarms))}", "etcdctl alarm list")
    elif not silent:
        yield ok(f"all members of etcd answer: {len(look.members)}")


def _hosts(settings: Settings, state: State) -> Findings:
    members = [host for host in state.hosts if host.state is not HostState.LEFT]
    own = next((host for host in members if host.name == settings.name), None)
    if own is None:
        yield fail(
            f"{settings.name} is not on the list of the fleet",
            "`waportctl fleet leave`, and join again, if it was evicted by mistake",
        )
    elif not own.alive:
        yield fail(
            f"{settings.name} holds no lease: nothing runs here", "systemctl status waportd-lease says why"
        )
    else:
        yield ok(f"{settings.name} holds its lease")
    if not state.settled:
        yield warn(
            "the engine is new, or was restored: no session is started before all hosts have put back what they hold",
            "waportctl fleet status",
        )
    for host in members:
        if not host.alive and host is not own:
            yield warn(
                f"host {host.name} is silent: its users go to other hosts",
                f"look whether it is up; if it does not come back: waportctl host evict {host.name}",
            )
    versions = {host.version for host in members if host.alive}
    if len(versions) > 1:
        said = ", ".join(f"{host.name} {host.version}" for host in members)
        yield warn(f"the hosts have different versions of waportd: {said}", "upgrade the older ones")


async def _ways(settings: Settings, state: State) -> list[Finding]:
    """Try to reach both programs of each other host that is alive."""
    others = [
        host
        for host in state.hosts
        if host.alive and host.name != settings.name and host.state is not HostState.LEFT
    ]
    tried = [(host, program) for host in others for program in (addresses.KEEPER, addresses.DAEMON)]
    reached = await asyncio.gather(*(is_reached(host.address, program) for host, program in tried))
    findings = [
        fail(
            f"host {host.name} is not reached at {_place(host.address, program)}: "
            + (
                "calls for its users fail"
                if program == addresses.DAEMON
                else "it cannot renew this host's lease"
            ),
            f"let TCP port {_place(host.address, program).rpartition(':')[2]} through between the hosts",
        )
        for (host, program), is_open in zip(tried, reached, strict=True)
        if not is_open
    ]
    return findings or ([ok(f"the other hosts are reached: {len(others)}")] if others else [])


async def is_reached(address: str, program: int) -> bool:
    """Return whether a program of the host at an address accepts connections: `addresses.KEEPER` or `DAEMON`."""
    parts = urlsplit(f"//{address}")
    with contextlib.suppress(OSError):
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(parts.hostname, (parts.port or 0) + program)
            writer.close()
            return True
    return False


def _place(address: str, program: int) -> str:
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + program}"


def _bucket(settings: Settings) -> Findings:
    """Check the bucket of the logins, where there is one."""
    if (bucket := settings.bucket) is None:
        return
    try:
        asyncio.run(in_bucket(bucket, BucketKey.read(settings.folder / KEY_FILE)).check())
    except WaportdError as error:
        yield fail(f"logins are not kept: {error.message}", error.hint)
    else:
        yield ok(f"the bucket of the logins answers: {bucket}")


def _copies(settings: Settings, state: State) -> Findings:
    """Check whether each login of this host's users is on as many other hosts as it should be."""
    found = coverage(state, settings.name, settings.copies if settings.snapshots == PEERS else 0)
    linked = len(found.enough) + len(found.few) + len(found.none)
    if not settings.snapshots:
        if linked:
            yield warn(
                "logins stay on their hosts: users of a host that dies have to scan again",
                "`snapshots: peers` in fleet.yaml, on all hosts",
            )
        return
    if found.none:
        yield warn(
            f"the logins of these users are on no other host yet: {_users(found.none)}",
            "wait for some minutes; then `journalctl -u waportd` says why",
        )
    if found.few:
        yield warn(
            f"the logins of these users are on fewer than {found.wanted} other hosts that are up: {_users(found.few)}",
            "other hosts get them within three minutes; after that `journalctl -u waportd` says why not",
        )
    elif linked and found.wanted and not found.none:
        yield ok(f"each of {linked} logins is on {found.wanted} other hosts")


def _webhooks(settings: Settings, config: Config, state: State) -> Findings:
    """Check whether webhooks that lead to the host itself lead to a web app, wherever their users are."""
    if len([host for host in state.hosts if host.state is not HostState.LEFT]) < 2:  # noqa: PLR2004
        return
    try:
        sealing = Sealing(FleetKeys.read(settings.folder / SNAPSHOT_KEY))
        urls = {row.user: str(opened(row, sealing).get("webhook_url") or "") for row in state.rows}
    except WaportdError as error:
        yield fail(f"the secrets of users cannot be read: {error.message}", error.hint)
        return
    fix = "an address that is good on all hosts, unless the web app runs on each of them"
    own = [user for user, url in urls.items() if _leads_nowhere(url)]
    if own:
        yield warn(
            f"nothing on this host takes the webhooks of these users, if they come here: {_users(own)}", fix
        )
    if _leads_nowhere(config.instances.webhook_url):
        yield warn(
            f"nothing on this host answers at instances.webhook_url: {config.instances.webhook_url}", fix
        )


def _held(settings: Settings, state: State) -> Findings:
    """Check whether another program has ports of other hosts' users."""
    held = {port for host in state.hosts if host.name == settings.name for port in host.held}
    for row in [row for row in state.rows if row.port in held and row.host != settings.name][:_NAMED]:
        yield warn(
            f"another program has port {row.port} here, so user {row.user} of host {row.host} cannot come here",
            f"`ss -ltnp sport = {row.port}` shows which; end it, or `waportctl move {row.user}` gives the user another "
            "port",
        )


def _forwarded(settings: Settings, config: Config, state: State) -> Findings:
    """Check whether waportd itself has the ports of other hosts' users here."""
    own = config.store.directory.stat().st_uid
    listening = {one.local[1]: one.uid for one in sockets() if one.state == LISTENING}
    others = [row for row in state.rows if row.host != settings.name]
    held = {row.user: row.port for row in others if listening.get(row.port, own) != own}
    missing = [row.user for row in others if row.port not in listening]
    for user, port in sorted(held.items())[:_NAMED]:
        yield fail(
            f"another program has port {port} here: calls for user {user} reach that one",
            f"`ss -ltnp sport = {port}` shows which; end it, or `waportctl move {user}` gives the user another port",
        )
    if missing:
        yield warn(
            f"the ports of these users of other hosts do not answer here: {_users(missing)}",
            "`journalctl -u waportd` says why",
        )
    elif not held:
        yield ok(f"the ports of {len(others)} users of other hosts answer here, too")


def _leads_nowhere(url: str) -> bool:
    """Return whether a URL leads to this host, where nothing listens."""
    if (port := loopback_port(url)) is None:
        return False
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), CONNECT_S):
        return False
    return True


def _users(users: Collection[str]) -> str:
    more = len(users) - _NAMED
    return ", ".join(sorted(users)[:_NAMED]) + (f" and {more} more" if more > 0 else "")
