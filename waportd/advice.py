"""What a valid configuration does that nobody may have meant. None of it keeps the daemon from running."""

import os
import subprocess
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from waportd import accounts
from waportd.config import Config
from waportd.errors import ConfigError
from waportd.model import Port, User

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_CGROUPS = Path("/sys/fs/cgroup")


class Advice(NamedTuple):
    """One thing to look at."""

    key: str
    """Of the configuration."""
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}; {self.hint}"


def advise(config: Config, owners: Mapping[Port, User]) -> list[Advice]:
    """Return what to look at in a configuration, where these users have these ports."""
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
            f"`waportctl delete {owners[port]}` frees it, with the login; or let the web app use another port",
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
    if config.limits.memory_max and not _has_memory_controller():
        found.append(
            Advice(
                "limits.memory_max",
                "no limit holds here: the kernel gives systemd no memory controller",
                "on a Raspberry Pi: cgroup_enable=memory in cmdline.txt; in a container, the host decides",
            )
        )
    return found


def loopback_port(url: str) -> int | None:
    """Return the port of this host that a URL names; None for another host's, or none."""
    parts = urllib.parse.urlsplit(url)
    return parts.port if parts.hostname in LOOPBACK else None


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
        return "memory" in (_CGROUPS / "cgroup.controllers").read_text("ascii").split()
    except OSError:
        return (_CGROUPS / "memory").is_dir()  # of the older layout
