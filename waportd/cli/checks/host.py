"""The host that the checks look at, and how they run programs there."""

import dataclasses
import functools
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

from waportd.cli.locate import read_config
from waportd.client import Client, User, WaportdClientError
from waportd.config import Bus, Config
from waportd.errors import ConfigError

_COMMAND_TIMEOUT = 20.0
"""Seconds for a program that takes a tenth of one."""


@dataclasses.dataclass
class Host:
    """What is looked at: this machine, with the daemon at this socket and the configuration in this file."""

    socket: str
    config_file: Path
    offline: bool = False

    @functools.cached_property
    def config(self) -> Config:
        """The configuration; the defaults where it cannot be read, which another check reports."""
        try:
            return read_config(self.config_file)
        except ConfigError:
            return Config()

    @functools.cached_property
    def users(self) -> list[User] | None:
        """All users; None where the daemon does not answer."""
        try:
            with Client(self.socket) as client:
                return client.users(host="self")
        except WaportdClientError:
            return None

    @property
    def system(self) -> bool:
        """Whether the host's systemd runs the servers, not the user's."""
        return self.config.systemd.bus is Bus.SYSTEM

    def systemctl(self, *arguments: str) -> str:
        """Return what systemctl prints; nothing where it cannot be run."""
        return _output("systemctl", *([] if self.system else ["--user"]), *arguments)


def call(
    *command: str | Path,
    folder: Path | None = None,
    user: pwd.struct_passwd | None = None,
    timeout: float = _COMMAND_TIMEOUT,
) -> tuple[int | None, str]:
    """Run a program, in a folder, as a user; return its exit status, None where it cannot be run, and what it said."""
    identity: dict[str, Any] = {}
    if user is not None:
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            **identity,
            env={**os.environ, "HOME": "/nonexistent"},  # as for the servers: no account's own settings count
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except OSError as error:
        return None, str(error.strerror)
    except subprocess.TimeoutExpired:
        return None, f"timed out after {timeout:g} s"
    return done.returncode, done.stdout or done.stderr


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def exists(path: str) -> bool:
    """Return whether there is such a file, as far as the caller can see."""
    try:
        return Path(path).exists()
    except PermissionError:
        return False  # the administrator's rules may lie where only root may look


def first_line(text: str) -> str:
    """Return the first line of what a program said."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "no output")


def last_line(text: str) -> str:
    """Return the last line of what a program said."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")
