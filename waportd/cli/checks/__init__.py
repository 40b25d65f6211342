"""What waportd needs, looked at piece by piece; nothing is changed, and no daemon is needed.

Each check is a function that yields findings: whether something is well, why not, and the command that fixes it.
"""

import concurrent.futures
from collections.abc import Callable, Collection

from waportd.cli.checks import browser, engines, fleet, logins, machine, service, software, systemd, upstream
from waportd.cli.checks.finding import Finding, Findings, Verdict
from waportd.cli.checks.host import Host

__all__ = ["CHECKS", "Finding", "Host", "Verdict", "examine"]

CHECKS: dict[str, Callable[[Host], Findings]] = {
    "configuration": service.configuration,
    "python": software.python_modules,
    "node": software.node,
    "script": software.script,
    "modules": software.node_modules,
    "engines": engines.installed_engines,
    "browser": browser.browser,
    "units": systemd.units,
    "socket": service.api,
    "listen": systemd.listen,
    "networks": systemd.networks_denied,
    "bus": systemd.bus,
    "rights": systemd.rights,
    "ports": service.ports,
    "servers": service.servers,
    "webhooks": service.webhooks,
    "memory": machine.memory,
    "disk": machine.disk,
    "growth": machine.growth,
    "snapshots": logins.snapshots,
    "fleet": fleet.fleet,
    "proxy": upstream.proxy,
    "upstream": upstream.upstream,
}
"""The checks in the order in which they are shown: what others rest on comes first."""


def examine(host: Host, names: Collection[str] = tuple(CHECKS)) -> list[tuple[str, Finding]]:
    """Make the checks of these names, side by side; return each finding with its check's name, in their order."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = pool.map(lambda name: list(CHECKS[name](host)), names)
        return [
            (name, finding) for name, findings in zip(names, results, strict=True) for finding in findings
        ]
