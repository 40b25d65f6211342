"""``fleet init --etcd`` and ``join --etcd``: an etcd on this host is a member of the fleet's cluster."""

import asyncio
import dataclasses
import functools
import pwd
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from waportd.cli.exit_status import Exit, Problem
from waportd.cli.systemctl import SYSTEM_UNITS, systemctl
from waportd.fleet import own_etcd
from waportd.fleet.engine import EngineUnavailable
from waportd.fleet.etcd import Etcd
from waportd.fleet.etcd.members import Members
from waportd.fleet.identity import Identity
from waportd.fleet.settings import Settings

_T = TypeVar("_T")

_START_S: Final = 60.0
"""Seconds for etcd to start, and for a new member to have all that the others have."""
_POLL_S: Final = 0.3
_LIMIT_S: Final = 2.0


def check() -> None:
    """Raise Problem where this host has no etcd that could be the fleet's."""
    _account()
    defaults = own_etcd.DEFAULTS
    lines = defaults.read_text(encoding="utf-8").splitlines() if defaults.exists() else []
    if any(line.strip() and not line.lstrip().startswith("#") for line in lines):
        raise Problem(
            f"etcd on this host is set up for something else: {defaults} has settings",
            "name that etcd with --engine in place of --etcd; or remove the settings",
            code="conflict",
        )


def begin(settings: Settings, fleet: str) -> None:
    """Have the etcd of this host be the first member. Raises Problem, OSError."""
    _run(settings, own_etcd.new_cluster(fleet, settings.name, settings.ip))


def enter(settings: Settings) -> Settings:
    """Have it be one more member; return the settings with it among the members. Raises Problem, EngineUnavailable, OSError."""
    own = own_etcd.peer_url(settings.ip)
    members = _ask(settings, lambda cluster: cluster.add(own))
    _run(settings, own_etcd.joined_cluster(settings.name, settings.ip, members))
    _ask(settings, lambda cluster: cluster.promote(own, _START_S))
    return dataclasses.replace(settings, engine=known(settings))


def known(settings: Settings) -> tuple[str, ...]:
    """Return the members of the fleet's cluster, this host's first, where it has one; otherwise those of the settings.

    Raises EngineUnavailable.
    """
    if not own_etcd.is_there(settings.folder):
        return settings.engine
    found = [url for one in _ask(settings, Members.all) for url in one.clients]
    first = own_etcd.client_url(settings.ip)
    return (first, *(url for url in found if url != first))


def evict(settings: Settings, host: str) -> None:
    """Remove the member on a host that does not come back, if it had one: it would count as one that is down."""
    if own_etcd.is_there(settings.folder):
        _remove(settings, host)


def renew(folder: Path) -> None:
    """Have it show the next certificate of this host. Raises Problem, OSError."""
    if own_etcd.is_there(folder):
        own_etcd.keep_certificate(folder, _account())


def leave(settings: Settings, *, is_last: bool) -> None:
    """Have it be no member any more, and be as the package has it. Raises Problem, EngineUnavailable, OSError."""
    if not own_etcd.is_there(settings.folder):
        return
    if not is_last:
        _remove(settings, settings.name)
    systemctl("disable", "--now", own_etcd.UNIT)
    own_etcd.forget(SYSTEM_UNITS)
    systemctl("daemon-reload")


def _remove(settings: Settings, host: str) -> None:
    """Remove the member of a host, by way of another one: its own would not answer to the end."""
    found = _ask(settings, Members.all)
    others = [url for one in found if one.name != host for url in one.clients]
    for one in found:
        if one.name == host:
            _ask(settings, functools.partial(Members.remove, peer_url=one.peers[0]), others)


def _ask(settings: Settings, call: Callable[[Members], Awaitable[_T]], endpoints: Sequence[str] = ()) -> _T:
    """Return what a call to the fleet's cluster returns, by way of these members, or of those that the settings name."""

    async def ask() -> _T:
        tls = Identity.load(settings.folder, settings.name).client
        cluster = Members(endpoints or settings.engine, tls)
        try:
            return await call(cluster)
        finally:
            await cluster.close()

    return asyncio.run(ask())


def _account() -> int:
    """Return the group of etcd's account. Raises Problem where the package is not installed."""
    try:
        return pwd.getpwnam(own_etcd.PROGRAM).pw_gid
    except KeyError:
        raise Problem(
            "this host has no etcd", "apt install etcd-server", Exit.FAILED, "not_installed"
        ) from None


def _run(settings: Settings, cluster: Mapping[str, str]) -> None:
    """Run it with these settings, and return when it answers."""
    values = own_etcd.environment(settings.name, settings.ip, settings.folder, cluster)
    own_etcd.write(settings.folder, SYSTEM_UNITS, values, _account())
    systemctl("daemon-reload")
    systemctl("enable", own_etcd.UNIT)
    systemctl("restart", "--no-block", own_etcd.UNIT)
    asyncio.run(_answers(settings))


async def _answers(settings: Settings) -> None:
    tls = Identity.load(settings.folder, settings.name).client
    engine = Etcd([own_etcd.client_url(settings.ip)], tls=tls, limit_s=_LIMIT_S)
    deadline = time.monotonic() + _START_S
    try:
        while True:
            try:
                await engine.alarms()
            except EngineUnavailable as error:
                if time.monotonic() > deadline:
                    raise Problem(
                        f"etcd on this host does not answer: {error.message}",
                        "`journalctl -u etcd` says why; then run the same command again",
                        Exit.NOT_IN_TIME,
                        "not_in_time",
                    ) from error
                await asyncio.sleep(_POLL_S)
            else:
                return
    finally:
        await engine.close()
