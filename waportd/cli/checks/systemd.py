"""systemd: its units, D-Bus, what waportd may do there, and what systemd holds and denies for it."""

import json
import os
import socket
import sys
from pathlib import Path

from waportd import networks
from waportd.accounts import daemon
from waportd.cli.checks.finding import Findings, fail, ok, skip, warn
from waportd.cli.checks.host import Host, call, exists, first_line, last_line
from waportd.systemd.rights import Refuser, refuser
from waportd.units import (
    TCP_UNIT,
    TCP_UNIT_MADE,
    addresses_held,
    tcp_unit_made,
)

_ROOT = Path(__file__).resolve().parents[3]
"""What holds the package waportd."""


_KEPT_FROM = 42
_RIGHTS_TIMEOUT_S = 40.0
"""More than the 25 s that the bus waits for a polkit that does not start."""


_CONNECT = f"""
import socket, sys
try:
    socket.create_connection(('127.0.0.1', {{port}}), 2)
except OSError:
    sys.exit({_KEPT_FROM})
"""


def units(host: Host) -> Findings:
    """Check the unit files, and whether daemon and socket are up."""
    state = host.systemctl("is-system-running")
    if not state:
        yield fail(
            "systemd does not answer", "check that this host was booted with systemd: systemctl status"
        )
        return
    templates = ["whatsapp@.service", "whatsapp@.socket", "whatsapp-pause@.service", "whatsapp-move@.service"]
    missing = [
        name for name in templates if name not in host.systemctl("list-unit-files", "--no-legend", name)
    ]
    if missing:
        yield fail(
            f"systemd knows no {' and no '.join(missing)}",
            "apt install --reinstall waportd, or: waportd generate-units --output /etc/systemd/system && "
            "systemctl daemon-reload"
            if host.system
            else "start waportd, which writes them",
        )
    elif host.systemctl("show", "whatsapp@5001.service", "--property=NeedDaemonReload", "--value") == "yes":
        yield warn("unit files changed since systemd read them", "systemctl daemon-reload")
    else:
        yield ok("the servers' unit files are installed")
    if not host.system:
        return
    for unit in ("waportd.socket", "waportd.service"):
        active = host.systemctl("is-active", unit)
        if active == "active":
            yield ok(f"{unit} is active")
        elif active == "failed":
            yield fail(f"{unit} has failed", f"journalctl -u {unit} -n 20; then: systemctl restart {unit}")
        elif active == "activating":
            yield fail(f"{unit} does not finish its start", f"journalctl -u {unit} -n 20")
        else:
            yield fail(f"{unit} is {active or 'not installed'}", f"systemctl enable --now {unit}")


def bus(host: Host) -> Findings:
    """Check D-Bus, over which the daemon talks to systemd."""
    where = ["--system"] if host.system else ["--user"]
    systemd = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
    status, said = call(
        "busctl", *where, "--timeout=5", "call", *systemd, "org.freedesktop.DBus.Peer", "Ping"
    )
    if status == 0:
        yield ok("systemd answers on D-Bus")
    else:
        yield fail(
            f"systemd does not answer on D-Bus: {first_line(said)}",
            "systemctl start dbus"
            if host.system
            else "log in by ssh, console or desktop, or: loginctl enable-linger",
        )


def rights(host: Host) -> Findings:
    """Check whether the daemon may do to its units what it does: as its user, each call is made and changes nothing."""
    if not host.system:
        return
    files = (
        ("/usr/share/polkit-1/rules.d/waportd.rules", "/etc/polkit-1/rules.d/waportd.rules"),
        ("/usr/share/dbus-1/system.d/waportd.conf", "/etc/dbus-1/system.d/waportd.conf"),
    )
    if os.geteuid() != 0:
        yield skip("only root can check what waportd may do to its units", "sudo waportctl doctor")
        return
    absent = [places[0] for places in files if not any(exists(place) for place in places)]
    if absent:
        yield fail(f"{' and '.join(absent)} are missing", "apt install --reinstall waportd")
        return
    user = daemon()
    if user is None:
        yield fail("there is no user waportd", "systemd-sysusers && systemctl reload dbus")
        return
    # In our own folder: Python imports from the current one, which may be anybody's.
    status, said = call(
        sys.executable, "-m", "waportd.systemd.rights", folder=_ROOT, user=user, timeout=_RIGHTS_TIMEOUT_S
    )
    refused: dict[str, str] = json.loads(said) if status == 0 else {}
    ways_out = {
        Refuser.BUS: "systemctl reload dbus",
        Refuser.POLKIT: "systemctl restart polkit; look for rules in /etc/polkit-1/rules.d/ that come before waportd.rules",
        Refuser.NO_POLKIT: "systemctl unmask polkit; systemctl start polkit; if it fails: journalctl -u polkit -n 20",
    }
    for who, way_out in ways_out.items():
        methods = [name for name, words in refused.items() if refuser(words) is who]
        if methods:
            why = f"{who} does not let waportd call {', '.join(methods)}: {refused[methods[0]]}"
            yield fail(why, way_out)
    if status != 0:
        yield skip(f"could not check what waportd may do: {last_line(said)}")
    elif not refused:
        yield ok("waportd may start, stop and clean its units")


def listen(host: Host) -> Findings:
    """Check whether systemd holds the addresses of ``api.listen``, which anybody could take while the daemon restarts."""
    addresses = host.config.api.listen
    if not host.system:
        yield ok("no address in TCP" if not addresses else "the daemon holds its addresses itself")
        return
    said = host.systemctl(
        "show", "--property=Id,Listen,ActiveState,UnitFileState", "waportd.socket", TCP_UNIT
    )
    held, named = addresses_held(said), [str(address) for address in addresses]
    if free := [address for address in named if address not in held]:
        yield fail(f"systemd does not hold {', '.join(free)} for api.listen", TCP_UNIT_MADE)
    elif unnamed := held.difference(named):
        yield warn(
            f"systemd holds {', '.join(sorted(unnamed))}, which api.listen does not name: clients get no answer there",
            tcp_unit_made(addresses),
        )
    else:
        yield ok(f"systemd holds {', '.join(named)}" if named else "no address in TCP")
    if held and any(
        f"Id={TCP_UNIT}" in unit and "UnitFileState=disabled" in unit for unit in said.split("\n\n")
    ):
        yield warn(
            f"{TCP_UNIT} is not enabled: after a boot systemd will not hold these addresses",
            f"systemctl enable {TCP_UNIT}",
        )


def networks_denied(host: Host) -> Findings:
    """Check whether sessions are kept from ``instances.deny_networks``: set in systemd, and enforced by the kernel."""
    wanted = networks.wanted_here(host.config)
    if not host.system or not wanted.denied:
        yield ok(
            "on a session bus no network is denied"
            if not host.system
            else "sessions are kept from no network"
        )
        return
    said = host.systemctl("show", "--property=IPAddressDeny,IPAddressAllow", networks.SLICE)
    if networks.in_force(said) != wanted:
        yield warn(
            f"sessions are not kept from {', '.join(wanted.denied)}",
            "systemctl start whatsapp-networks.path; systemctl restart whatsapp-networks",
        )
        return
    but = f", but for {', '.join(wanted.allowed)}" if wanted.allowed else ""
    denied = f"{', '.join(wanted.denied)}{but}"
    works = _kernel_filters() if os.geteuid() == 0 else None
    if works is None:
        yield ok(f"systemd keeps sessions from {denied} (run as root to check the kernel)")
    elif works:
        yield ok(f"sessions are kept from {denied}")
    else:
        yield warn(
            f"the kernel does not keep sessions from {denied}",
            "use a kernel with CONFIG_CGROUP_BPF and unified control groups, or a firewall",
        )


def _kernel_filters() -> bool | None:
    """Return whether a unit without network is kept from a listening socket; None where it cannot be tried."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connect = _CONNECT.format(port=listener.getsockname()[1])
        unit = ("systemd-run", "--quiet", "--wait", "--collect", "--pipe", "--property=IPAddressDeny=any")
        status, _ = call(*unit, sys.executable, "-I", "-c", connect)
    return {0: False, _KEPT_FROM: True}.get(status) if status is not None else None
