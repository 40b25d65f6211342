"""A private `systemd --user` with a session bus and a journal, and a command beside it. Needs root.

Two processes stay for as long as the command runs:

- the *outer* one, which the caller sees: it passes signals on and ends with the command's exit code;
- the *init* (namespace_init.py), process 1 of a pid namespace: it starts manager and command, and reaps.

Whichever of the two is killed, the other one removes what is left; processes and mounts go with the
namespaces. The network is the host's, unless the plan asks for a private one.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from testbed import cgroups, linux, namespace_init
from testbed.plan import NAME, StartError

if TYPE_CHECKING:
    from testbed.plan import Plan


def _scope() -> str:
    return f"{NAME}-{os.getpid()}.scope"


def enter_delegated_scope() -> None:
    """Where systemd runs the machine, ask it for a control group that is ours, and restart in there.

    The tree is systemd's: others may change only what it delegates (https://systemd.io/CGROUP_DELEGATION).
    """
    if not Path("/run/systemd/system").is_dir() or _scope() in Path("/proc/self/cgroup").read_text():
        return
    ask = ["systemd-run", "--scope", "--quiet", "--collect", "--property=Delegate=yes", f"--unit={_scope()}"]
    os.execvp(ask[0], [*ask, "--", sys.executable, *sys.argv])  # becomes the command: the pid stays


def run(plan: Plan) -> int:
    """Run the command beside a private manager; return its exit code. Raises StartError."""
    signal.pthread_sigmask(signal.SIG_BLOCK, namespace_init.HANDLED)
    try:
        linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWIPC)
        linux.escape_chroot()
        cgroups.mount_unified()
        if plan.private_network:
            linux.unshare_network()
        linux.unshare(linux.CLONE_NEWPID)
    except OSError as error:
        raise StartError(
            f"Cannot make private namespaces: {error}. In a container, allow it CAP_SYS_ADMIN and mount(2)."
        ) from error
    group = _room_for_groups() / f"{NAME}-{os.getpid()}"
    lifeline, open_while_alive = os.pipe()
    init = os.fork()
    if init == 0:
        os.close(open_while_alive)
        namespace_init.run(plan, group, lifeline)
    os.close(lifeline)
    try:
        return _attend(init)
    finally:
        cgroups.remove(group)


def _room_for_groups() -> Path:
    """Return a control group in which others can be made: ours, with controllers where it is delegated."""
    own = cgroups.own()
    if own.name == _scope():
        # A group that hands controllers down may not hold processes (cgroups(7), "no internal processes").
        supervisor = own / "supervisor"
        supervisor.mkdir()
        cgroups.enter(supervisor)
        cgroups.hand_down_controllers(own)
    return own


def _attend(init: int) -> int:
    """Pass signals on to the init until it ends; return its exit code."""
    while True:
        received = signal.sigwaitinfo(namespace_init.HANDLED).si_signo
        if received in namespace_init.FORWARDED:
            os.kill(init, received)
            continue
        pid, status = os.waitpid(init, os.WNOHANG)
        if pid == init:
            return namespace_init.exit_code(status)
