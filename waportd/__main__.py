"""The program ``waportd``, also as ``python3 -m waportd``."""

import sys
from pathlib import Path

from waportd.shortcuts import Shortcuts, collector_paused

with collector_paused():
    from waportd import daemon
    from waportd.config import Config
    from waportd.errors import ConfigError


def make(config: Config, path: Path | None, shortcuts: Shortcuts) -> daemon.Daemon:
    """Return the daemon of this host. What a fleet adds is loaded where the host belongs to one."""
    settings = (path or daemon.DEFAULT_CONFIG).parent / "fleet/fleet.yaml"
    if not settings.exists():
        return daemon.Daemon(config, path, shortcuts)
    try:
        from waportd.fleet.daemon import make as make_for_fleet  # noqa: PLC0415
    except ModuleNotFoundError as error:
        # On its own it would run users who are on another host by now.
        raise ConfigError(
            f"{settings}: this host belongs to a fleet, and {error.name} is missing",
            hint="`apt install waportd-fleet`",
        ) from error
    return make_for_fleet(config, path, shortcuts)


def main() -> int:
    """Run the program; return its exit status."""
    return daemon.main(make=make)


if __name__ == "__main__":
    sys.exit(main())
