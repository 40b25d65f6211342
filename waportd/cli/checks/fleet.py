"""The fleet of this host, where it belongs to one. What looks at it is loaded there only: it needs waportd-fleet."""

from waportd.cli.checks.finding import Findings, fail
from waportd.cli.checks.host import Host

_FOLDER = "fleet"


def fleet(host: Host) -> Findings:
    """Check certificate, engine, lease, the way to the other hosts, and the copies of logins. Nothing without a fleet."""
    folder = host.config_file.parent / _FOLDER
    if not folder.is_dir():
        return
    try:
        from waportd.cli.checks import membership
    except ModuleNotFoundError as error:
        yield fail(
            f"this host belongs to a fleet, and {error.name} is not installed", "apt install waportd-fleet"
        )
        return
    yield from membership.examine(folder, host.config)
