"""systemd of this host, for commands that root calls: systemctl, and where an administrator's units lie."""

from pathlib import Path
from typing import Final

from waportd.cli import bounded
from waportd.cli.exit_status import Problem

SYSTEM_UNITS: Final = Path("/etc/systemd/system")
SYSTEMCTL_S: Final = 60.0


def systemctl(*words: str, check: bool = True) -> bool:
    """Call systemctl; return whether it succeeded. Raises Problem where it did not, unless that is only asked."""
    done = bounded.run(["systemctl", *words], seconds=SYSTEMCTL_S)
    if check and done.returncode:
        raise Problem(f"systemctl {' '.join(words)}: {done.stderr.strip()}", "see `journalctl -xe`")
    return done.returncode == 0
