"""Which socket is called, and what the daemon's configuration says, as far as the caller may read it."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

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
