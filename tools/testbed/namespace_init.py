"""Process 1 of a private pid namespace: starts journal, manager and command, and reaps."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import stat
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from testbed import cgroups, linux
from testbed.plan import NAME, PRIVATE, StartError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.plan import Plan

# Its own messages go to stderr: warnings are enough.
JOURNAL = ("env", "SYSTEMD_LOG_LEVEL=warning", "/lib/systemd/systemd-journald")
JOURNAL_STREAMS = "/run/systemd/journal/stdout"
MANAGER = ("/lib/systemd/systemd", "--user", "--log-target=journal")
# A manager is ready before it has its name on the bus; a call waits for the name.
BUS_PROBE = (
    *("busctl", "--user", "--timeout=10", "--quiet", "call"),
    *("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.DBus.Peer", "Ping"),
)
START_SECONDS = 30.0
STOP_SECONDS = 15.0
FORWARDED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
OUTER_DIED = signal.SIGUSR1
HANDLED = {*FORWARDED, signal.SIGCHLD, OUTER_DIED}
EXIT_BY_SIGNAL = 128  # a shell's exit code for a command that a signal ended is 128 + the signal's number

# Environment variables that describe the caller's own session or service; their beginnings.
CALLERS_OWN = (
    *("XDG_", "DBUS_", "SUDO_", "MAIL", "OLDPWD"),
    *("SYSTEMD_", "LISTEN_", "NOTIFY_", "WATCHDOG_", "INVOCATION_", "JOURNAL_", "MANAGERPID", "MAINPID"),
)

# Only what the command needs: the host's default.target would bring up its desktop services, too.
DEFAULT_TARGET = """\
[Unit]
Description=Private manager with a session bus
Requires=basic.target dbus.service
After=basic.target dbus.service
AllowIsolate=yes
"""
# As in Debian's dbus-user-session, which a bare machine does not have.
DBUS_SOCKET = """\
[Unit]
Description=D-Bus User Message Bus Socket

[Socket]
ListenStream=%t/bus
"""
DBUS_SERVICE = """\
[Unit]
Description=D-Bus User Message Bus
Requires=dbus.socket

[Service]
Type=notify
ExecStart=dbus-daemon --session --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only
Slice=session.slice
"""
# Persistent, if only on a tmpfs: no other is split by user, which is what `journalctl --user` needs.
# The kernel's auditing stays as it is: "no" would turn it off.
JOURNAL_CONFIGURATION = """\
[Journal]
Storage=persistent
SplitMode=uid
RateLimitIntervalSec=0
ReadKMsg=no
Audit=
ForwardToSyslog=no
ForwardToConsole=no
ForwardToWall=no
"""


class _OuterDiedError(Exception):
    """The outer process was killed: nobody waits for the command any more."""


def exit_code(status: int) -> int:
    """Return what a shell would make of a wait status."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else EXIT_BY_SIGNAL - code


def run(plan: Plan, group: Path, lifeline: int) -> NoReturn:
    """Carry out the plan in control groups below `group`, while the other end of `lifeline` is open."""
    code = 1
    outer_group = cgroups.own()
    try:
        os.setsid()  # out of reach of what the caller's terminal and process group get
        code = _Init(plan, group, lifeline).run()
    except _OuterDiedError:
        code = EXIT_BY_SIGNAL + signal.SIGKILL
    except StartError as error:
        print(f"{NAME}: {error}", file=sys.stderr)
    except Exception:  # noqa: BLE001 - a forked process must not return into its parent's code
        traceback.print_exc()
    finally:
        _kill_all()
        cgroups.enter(outer_group)
        cgroups.remove(group)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _reap() -> dict[int, int]:
    """Return pid and wait status of every child that has ended."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            ended[child[0]] = child[1]
    return ended


def _kill_all() -> None:
    """Kill every other process of the namespace and wait until they are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


class _Init:
    def __init__(self, plan: Plan, group: Path, lifeline: int) -> None:
        self.plan = plan
        self.lifeline = lifeline
        self.owner = plan.owner
        # From the names journald knows what is a unit of which manager (cg_get_root_path and cg_path_get_user_unit
        # of systemd's cgroup-util.c): init.scope, which holds process 1, marks the root of the tree.
        self.init_group = group / "init.scope"
        self.manager_group = group / f"user@{self.owner.uid}.service"
        self.command_group = group / "command.scope"
        self.runtime_dir = Path(f"/run/user/{self.owner.uid}")
        self.environment = self._environment()
        self.programs: list[
            subprocess.Popen[bytes]
        ] = []  # one that is forgotten would reap its process itself

    def run(self) -> int:
        """Return the exit code of the command."""
        self._mount()
        self._write_files()
        self._make_cgroups()
        self._check_access()
        self._die_with_the_outer_process()
        most = resource.getrlimit(resource.RLIMIT_NPROC)[1]  # counted over all that a uid runs anywhere
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
        manager = self._start()
        command = self._spawn(self.plan.command, self.command_group)
        code = self._attend(command)
        self._stop(manager)
        return code

    def _environment(self) -> dict[str, str]:
        """Return the caller's environment without what describes the caller's own session or service."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(CALLERS_OWN)}
        return kept | {
            "HOME": str(self.plan.home),
            "USER": self.owner.name,
            "LOGNAME": self.owner.name,
            "TMPDIR": str(PRIVATE / "tmp"),
            "XDG_RUNTIME_DIR": str(self.runtime_dir),
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self.runtime_dir}/bus",
        }

    def _mount(self) -> None:
        """Mount volatile folders and /proc of our own; keep the plan's folders in place, and reachable."""
        kept = {self.plan.checkout, *self.plan.writable}
        resolver = Path("/etc/resolv.conf").resolve()  # lies in /run where systemd-resolved is in use
        if resolver.exists():
            kept.add(resolver)
        closed = {folder for path in kept if (folder := self._closed_parent(path))}
        covers = {Path("/run"), Path("/var/log"), *closed}
        covers = {folder for folder in covers if not covers & set(folder.parents)}
        kept = {path for path in kept if covers & set(path.parents) and not kept & set(path.parents)}
        sources = {path: os.open(path, os.O_PATH) for path in kept}
        for folder in covers:
            linux.mount("tmpfs", folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0755")
        for path, source in sources.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if stat.S_ISDIR(os.fstat(source).st_mode):
                path.mkdir()
            else:
                path.touch()
            linux.mount(f"/proc/self/fd/{source}", path, flags=linux.MS_BIND | linux.MS_REC)
            os.close(source)
        if Path("/dev/shm").is_dir():
            linux.mount("tmpfs", "/dev/shm", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=1777")
        os.chdir("/")
        linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)

    def _closed_parent(self, path: Path) -> Path | None:
        """Return the outermost folder above `path` that the owner may not enter."""
        with self.owner.effective():
            return next(
                (p for p in reversed(path.parents) if not os.access(p, os.X_OK, effective_ids=True)), None
            )

    def _write_files(self) -> None:
        """Make the owner's folders, their line in /etc/passwd, and the manager's configuration."""
        # Without it the manager says "not booted with systemd" (sd_booted(3)).
        Path("/run/systemd/system").mkdir(parents=True)
        for path, text in (
            ("/run/systemd/user/default.target", DEFAULT_TARGET),
            ("/run/systemd/user/dbus.socket", DBUS_SOCKET),
            ("/run/systemd/user/dbus.service", DBUS_SERVICE),
            ("/run/systemd/journald.conf.d/99-with-systemd.conf", JOURNAL_CONFIGURATION),
            ("/run/systemd/journal/flushed", ""),  # lets journald write to /var/log at once
        ):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text)
        self.runtime_dir.parent.mkdir()
        PRIVATE.mkdir()
        for folder in (self.runtime_dir, PRIVATE / "tmp", self.plan.home):
            if not folder.exists():
                folder.mkdir(mode=0o700)
                os.chown(folder, self.owner.uid, self.owner.gid)
        self._name_owner("/etc/passwd", f"{self.owner.uid}:{self.owner.gid}::{self.plan.home}:/bin/sh")
        self._name_owner("/etc/group", f"{self.owner.gid}:")

    def _name_owner(self, database: str, fields: str) -> None:
        """Put a line for the owner in front of a private copy of /etc/passwd or /etc/group."""
        copy = PRIVATE / Path(database).name
        copy.write_text(f"{self.owner.name}:x:{fields}\n" + Path(database).read_text())
        linux.mount(copy, database, flags=linux.MS_BIND)

    def _make_cgroups(self) -> None:
        """Make groups for this process, the command and the manager, which gets its own delegated."""
        for group in (self.init_group, self.command_group, self.manager_group):
            group.mkdir(parents=True, exist_ok=True)
        cgroups.enter(self.init_group)
        cgroups.hand_down_controllers(self.manager_group.parent)
        cgroups.delegate(self.manager_group, self.owner.uid, self.owner.gid)

    def _check_access(self) -> None:
        closed_to = (
            f"is closed to uid {self.owner.uid}, which runs the command: Chromium refuses its sandbox as root"
        )
        with self.owner.effective():
            if not os.access(__file__, os.R_OK, effective_ids=True):
                checkout = self.plan.checkout
                raise StartError(f"{checkout} {closed_to}. Open it: chmod -R go+rX {checkout}")
            if not os.access(self.plan.working_directory, os.X_OK, effective_ids=True):
                raise StartError(f"{self.plan.working_directory} {closed_to}. Start from another folder.")

    def _die_with_the_outer_process(self) -> None:
        linux.signal_on_parent_death(OUTER_DIED)  # not earlier: each change of the effective uid forgets it
        dead, _, _ = select.select([self.lifeline], [], [], 0)  # at its end: too late for the signal
        if dead:
            raise _OuterDiedError

    def _start(self) -> int:
        """Start journal and manager, wait until they are ready, return the manager's pid."""
        self._await_journal(self._spawn(JOURNAL))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
            path = PRIVATE / "notify"
            notifications.bind(str(path))
            path.chmod(0o666)
            self.environment["NOTIFY_SOCKET"] = str(path)
            manager = self._spawn(MANAGER, self.manager_group)
            self._await_ready(manager, notifications)
            del self.environment["NOTIFY_SOCKET"]
        _, status = os.waitpid(self._spawn(BUS_PROBE, self.command_group), 0)
        if status != 0:
            raise StartError("systemd does not answer on the session bus.")
        return manager

    def _spawn(self, argv: Sequence[str], group: Path | None = None) -> int:
        """Start a program, with a control group as the owner; return its pid, also its process group's."""

        def prepare() -> None:
            os.setpgid(0, 0)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            if group:
                cgroups.enter(group)
                self.owner.drop_privileges()

        try:
            program = subprocess.Popen(
                argv,
                cwd=self.plan.working_directory,
                env=self.environment,
                preexec_fn=prepare,  # noqa: PLW1509
            )
        except OSError as error:
            raise StartError(f"Cannot run {argv[0]}: {error.strerror}.") from error
        self.programs.append(program)
        return program.pid

    def _await_journal(self, process: int) -> None:
        """Wait until the journal takes streams.

        Not by sd_notify(3): journald would then hand its streams to the process that it notified, and complain.
        """
        deadline = time.monotonic() + START_SECONDS
        while process not in _reap() and time.monotonic() < deadline:
            with socket.socket(socket.AF_UNIX) as stream:
                try:
                    stream.connect(JOURNAL_STREAMS)
                except (FileNotFoundError, ConnectionRefusedError):
                    time.sleep(0.01)
                else:
                    return
        raise StartError("systemd-journald did not come up.")

    def _await_ready(self, process: int, notifications: socket.socket) -> None:
        """Wait for READY=1 of sd_notify(3)."""
        deadline = time.monotonic() + START_SECONDS
        ended = os.pidfd_open(process)
        try:
            while (left := deadline - time.monotonic()) > 0:
                readable, _, _ = select.select([notifications.fileno(), ended], [], [], left)
                if ended in readable:
                    break
                if readable and b"READY=1" in notifications.recv(4096).split(b"\n"):
                    return
        finally:
            os.close(ended)
        journal = subprocess.run(
            ["journalctl", "--no-pager", "--output=cat", "--lines=20"],
            capture_output=True,
            text=True,
            check=False,
        )
        raise StartError(f"systemd did not become ready; its last messages:\n{journal.stdout or 'none'}")

    def _attend(self, command: int) -> int:
        """Reap, and pass signals on to the command's process group, until it ends; return its exit code."""
        while True:
            received = signal.sigwaitinfo(HANDLED).si_signo
            if received == OUTER_DIED:
                raise _OuterDiedError
            if received != signal.SIGCHLD:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(command, received)
            elif (status := _reap().get(command)) is not None:
                return exit_code(status)

    def _stop(self, manager: int) -> None:
        """Let the manager stop its units, which closes browsers cleanly; a further signal cuts that short."""
        deadline = time.monotonic() + STOP_SECONDS
        try:
            os.kill(manager, signal.SIGTERM)
        except ProcessLookupError:
            return
        while (left := deadline - time.monotonic()) > 0:
            received = signal.sigtimedwait(HANDLED, left)
            if received is None or received.si_signo != signal.SIGCHLD or manager in _reap():
                return
