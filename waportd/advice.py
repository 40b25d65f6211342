"""What in a valid configuration may be a mistake. None of it keeps the daemon from running."""

import collections
import contextlib
import os
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from waportd import accounts, units
from waportd.config import Bus, Config
from waportd.errors import ConfigError
from waportd.model import Port, User
from waportd.units import TCP_UNIT, TCP_UNIT_MADE, addresses_held

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_NAMED_USERS = 5
"""How many users a message names."""
CGROUPS = Path("/sys/fs/cgroup")
SYSTEMD = Path("/run/systemd/system")
"""Exists where systemd has booted the machine: sd_booted(3)."""


class Advice(NamedTuple):
    """One possible mistake."""

    key: str
    """The key of the configuration."""
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}; {self.hint}"


def advise_here(config: Config) -> list[Advice]:
    """Return what to look at in a configuration, where users are as the environment files on this host say."""
    folder = config.store.instances
    return advise(config, units.environment_owners(folder), units.environment_webhooks(folder))


def advise(
    config: Config, owners: Mapping[Port, User], webhooks: Mapping[Port, str] = MappingProxyType({})
) -> list[Advice]:
    """Return what to look at in a configuration, where these users have these ports, and servers these webhooks."""
    found = [
        Advice(
            "api.allow_users",
            f"there is no account {name}, so this lets nobody in",
            "correct the name, or create the account and reload",
        )
        for name in config.api.allow_users
        if accounts.uid_of(name) is None
    ]
    found += [
        Advice(
            "ports.reserved",
            f"user {owners[port]} has port {port} already, and keeps it",
            f"`waportctl move {owners[port]}` gives the user another one, with the login; or change the web app's",
        )
        for port in sorted(owners)
        if port in config.ports.reserved
    ]
    if owner := owners.get(Port(loopback_port(config.instances.webhook_url) or 0)):
        found.append(
            Advice(
                "instances.webhook_url",
                f"this is the server of user {owner}, which refuses the messages of all others",
                "name the address that the web app listens on",
            )
        )
    found += _webhooks_of_users(config, owners, webhooks)
    if config.limits.memory_max and not _has_memory_controller():
        found.append(
            Advice(
                "limits.memory_max",
                "no limit holds here: the kernel gives systemd no memory controller",
                "on a Raspberry Pi: cgroup_enable=memory in cmdline.txt; in a container, the host decides",
            )
        )
    return found


def _webhooks_of_users(
    config: Config, owners: Mapping[Port, User], webhooks: Mapping[Port, str]
) -> Iterator[Advice]:
    """Yield whose webhook is a user's server. The addresses are left out: they may hold a token."""
    of_server = collections.defaultdict[User, list[User]](list)
    for port, url in sorted(webhooks.items()):
        target = owners.get(Port(loopback_port(url) or 0))
        if url != config.instances.webhook_url and target is not None and port in owners:
            of_server[target].append(owners[port])
    for target, users in sorted(of_server.items()):
        whose = f"the webhook of user {users[0]} is"
        if len(users) > 1:
            whose = f"the webhooks of users {', '.join(users[:_NAMED_USERS])}{', …' * (len(users) > _NAMED_USERS)} are"
        yield Advice(
            "webhook_url",
            f"{whose} the server of user {target}, which refuses the messages of others",
            'give them another one (PATCH /v1/users/{user} {"webhook_url": …}); one of an earlier configuration goes '
            "with a reload",
        )


def advise_held(config: Config) -> list[Advice]:
    """Return which addresses of ``api.listen`` systemd does not hold, on a machine that it runs."""
    if config.systemd.bus is not Bus.SYSTEM or not config.api.listen or not SYSTEMD.is_dir():
        return []
    shown = subprocess.run(  # noqa: S603  # nothing of it comes from anybody else
        ["/usr/bin/systemctl", "show", "--property=Listen,ActiveState", "waportd.socket", TCP_UNIT],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=30,
        check=False,
        text=True,
    ).stdout
    held = addresses_held(shown)
    return [
        Advice("api.listen", f"nobody is answered on {address}: systemd does not hold it", TCP_UNIT_MADE)
        for address in config.api.listen
        if str(address) not in held
    ]


def loopback_port(url: str) -> int | None:
    """Return the port of this host that a URL names; None for another host's, or none."""
    with contextlib.suppress(ValueError):
        parts = urllib.parse.urlsplit(url)
        return parts.port if parts.hostname in LOOPBACK else None
    return None


def check_readable(file: Path) -> None:
    """Raise ConfigError where root may read a file that the packaged daemon's user may not."""
    account = accounts.daemon()
    if os.geteuid() != 0 or account is None or not file.exists():
        return
    done = subprocess.run(  # noqa: S603  # nothing of it comes from anybody else
        ["/usr/bin/test", "-r", file],
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=os.getgrouplist(account.pw_name, account.pw_gid),
        check=False,
    )
    if done.returncode:
        raise ConfigError(
            f"{file} cannot be read by user {account.pw_name}, who runs the daemon",
            hint=f"chgrp {account.pw_name} {file} && chmod 640 {file}",
        )


def _has_memory_controller() -> bool:
    try:
        return "memory" in (CGROUPS / "cgroup.controllers").read_text("ascii").split()
    except OSError:
        return (CGROUPS / "memory").is_dir()  # of the older layout
