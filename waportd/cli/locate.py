"""Which socket is called, and what the daemon's configuration says, as far as the caller may read it."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from waportd.cli.exit_status import Exit, Problem, needs_root
from waportd.client import SOCKET

if TYPE_CHECKING:
    from waportd.config import Config

CONFIG = Path("/etc/waportd/config.yaml")
_SETS_SOCKET = re.compile(r"^\s+socket\s*:|\{.*socket", re.MULTILINE)


def find_socket(named: str | None, config: Path = CONFIG) -> str:
    """Return the socket: as named, of ``$WAPORTD_SOCKET``, of the configuration, or the packaged one."""
    if named or (named := os.environ.get("WAPORTD_SOCKET")):
        return named
    try:
        text = config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return SOCKET
    if not _SETS_SOCKET.search(text):
        return SOCKET  # without reading YAML, which would take longer than the call
    from waportd.errors import ConfigError

    try:
        return str(read_config(config).api.socket)
    except ConfigError:
        return SOCKET


def read_config(path: Path) -> "Config":
    """Return the configuration; all defaults where there is none in the usual place. Raises ConfigError."""
    from waportd.config import Config, load

    return load(path) if path != CONFIG or path.exists() else Config()


def configuration(path: Path) -> "Config":
    """As `read_config`. Raises Problem where the caller may not read it, or it has faults."""
    from waportd.errors import ConfigError

    need_readable(path)
    try:
        return read_config(path)
    except ConfigError as error:
        raise Problem(error.message, error.hint, code=error.code) from error


def configuration_for_root(path: Path, what: str) -> "Config":
    """As `configuration`. Raises Problem where only root can do ``what``, which needs the system's servers or their files."""
    if os.geteuid() != 0 and path.exists() and not os.access(path, os.R_OK):
        raise needs_root(what)
    config = configuration(path)
    need_root(config, what)
    return config


def need_readable(path: Path) -> None:
    """Raise Problem where the caller may not read a configuration that is there."""
    if path.exists() and not os.access(path, os.R_OK):
        raise Problem(
            f"{path} cannot be read by this user", "run it with sudo", Exit.NOT_PERMITTED, "permission_denied"
        )


def need_root(config: "Config", what: str) -> None:
    """Raise Problem where the servers are the system's, and the caller is not root, who alone can do ``what``."""
    from waportd.config import Bus

    if config.systemd.bus is Bus.SYSTEM and os.geteuid() != 0:
        raise needs_root(what)
