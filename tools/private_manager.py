"""A private `systemd --user` with a session bus, under an unprivileged uid, and a command beside it. Needs root.

Two processes stay for as long as the command runs:

- the *outer* one, which the caller sees: it passes signals on and ends with the command's exit code;
- the *init*, process 1 of a pid namespace of its own: it starts the manager and the command and reaps.

Whichever of the two is killed, the other one removes what is left; processes and mounts go with the namespaces.
The network is the host's.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import select
import signal
import socket
import stat
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import linux

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAME = "with-systemd"
# systemd leaves the uids 60578 to 61183 to nobody (https://systemd.io/UIDS-GIDS).
UNUSED_UID = 60578
PRIVATE = Path("/run") / NAME
CGROUPS = Path("/sys/fs/cgroup")
MANAGER = ("/lib/systemd/systemd", "--user", "--log-target=journal")
JOURNAL = ("/lib/systemd/systemd-journald",)
# A manager is ready before it has its name on the bus; a call waits for the name.
BUS_PROBE = (
    "busctl",
    "--user",
    "--timeout=10",
    "--quiet",
    "call",
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.DBus.Peer",
    "Ping",
)
START_SECONDS = 30.0
STOP_SECONDS = 15.0
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
OUTER_DIED = signal.SIGUSR1
HANDLED = {*FORWARDED, signal.SIGCHLD, OUTER_DIED}
EXIT_BY_SIGNAL = 128  # a shell's exit code for a command that a signal ended is 128 + the signal's number

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
ExecStart=/usr/bin/dbus-daemon --session --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only
Slice=session.slice
"""
# Persistent, on a tmpfs of its own: only such a journal is split by user, and `journalctl --user` reads no other.
JOURNAL_CONFIGURATION = """\
[Journal]
Storage=persistent
SplitMode=uid
RateLimitIntervalSec=0
ReadKMsg=no
Audit=no
ForwardToSyslog=no
ForwardToConsole=no
ForwardToWall=no
"""
# Environment variables that describe the caller's own session or service.
CALLERS_OWN = (
    "XDG_",
    "DBUS_",
    "SUDO_",
    "SYSTEMD_",
    "LISTEN_",
    "NOTIFY_SOCKET",
    "WATCHDOG_",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "MANAGERPID",
    "MAINPID",
    "MAIL",
    "OLDPWD",
)


class StartError(Exception):
    """The private manager could not be brought up; the text says why and what to do."""


class _OuterDiedError(Exception):
    """The outer process was killed: nobody waits for the command any more."""


@dataclass(frozen=True)
class Owner:
    """Whom the manager and the command run as."""

    uid: int
    gid: int
    name: str

    def drop_privileges(self) -> None:
        """Turn this process into the owner's, for good."""
        os.setgroups([])
        os.setgid(self.gid)
        os.setuid(self.uid)

    @contextlib.contextmanager
    def effective(self) -> Iterator[None]:
        """Act as the owner for a while."""
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)


@dataclass(frozen=True)
class Plan:
    """What to run, as whom, and what it may reach."""

    command: Sequence[str]
    working_directory: Path
    owner: Owner
    checkout: Path
    writable: Sequence[Path]
    home: Path


def owner_of(checkout: Path) -> Owner:
    """Return the owner of the checkout, or, where that is root, an id that belongs to nobody."""
    status = checkout.stat()
    if status.st_uid == 0:
        return Owner(UNUSED_UID, UNUSED_UID, NAME)
    try:
        name = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        name = NAME
    return Owner(status.st_uid, status.st_gid, name)


def give(folder: Path, owner: Owner) -> None:
    """Make all of `folder` the owner's; follows no links."""
    for root, folders, files, descriptor in os.fwalk(folder):
        os.chown(root, owner.uid, owner.gid, follow_symlinks=False)
        for name in (*folders, *files):
            os.chown(name, owner.uid, owner.gid, dir_fd=descriptor, follow_symlinks=False)


def _scope() -> str:
    return f"{NAME}-{os.getpid()}.scope"


def enter_delegated_scope() -> None:
    """Where systemd runs the machine, ask it for a control group that is ours, and start anew in there.

    systemd owns the tree of control groups: others may change only what it delegates (https://systemd.io/CGROUP_DELEGATION).
    """
    if not Path("/run/systemd/system").is_dir() or _scope() in Path("/proc/self/cgroup").read_text():
        return
    run = [
        "systemd-run",
        "--scope",
        "--quiet",
        "--collect",
        "--property=Delegate=yes",
        f"--unit={_scope()}",
        "--",
    ]
    os.execvp(run[0], [*run, sys.executable, *sys.argv])  # systemd-run --scope becomes the command: same pid


def run(plan: Plan) -> int:
    """Run the command beside a private manager; return its exit code. Raises StartError."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWIPC)
        linux.escape_chroot()
        if not CGROUPS.is_dir():
            linux.mount("sysfs", "/sys", "sysfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        linux.mount("cgroup2", CGROUPS, "cgroup2", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        linux.unshare(linux.CLONE_NEWPID)
    except OSError as error:
        raise StartError(
            f"Cannot make private namespaces: {error}. In a container, allow it CAP_SYS_ADMIN and mount(2)."
        ) from error
    group = _room_for_cgroups() / f"{NAME}-{os.getpid()}"
    ready, go = os.pipe()
    init = os.fork()
    if init == 0:
        os.close(go)
        _be_init(plan, group, ready)
    os.close(ready)
    os.write(go, b"\0")
    try:
        return _attend(init)
    finally:
        _remove_cgroup(group)


def _own_cgroup() -> Path:
    [path] = [
        line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")
    ]
    return CGROUPS / path.lstrip("/")


def _room_for_cgroups() -> Path:
    """Return a control group in which others can be made: this process's, with controllers if it is delegated."""
    own = _own_cgroup()
    if own.name == _scope():
        # A group that hands controllers down may not hold processes (cgroups(7), "no internal processes").
        supervisor = own / "supervisor"
        supervisor.mkdir()
        _enter_cgroup(supervisor)
        _hand_down_controllers(own)
    return own


def _enter_cgroup(group: Path) -> None:
    (group / "cgroup.procs").write_text("0")


def _hand_down_controllers(group: Path) -> None:
    for controller in (group / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):  # accounting only; cpu refuses beside real-time processes
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def _remove_cgroup(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(FileNotFoundError):  # the other process removes it at the same time
            Path(folder).rmdir()


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else EXIT_BY_SIGNAL - code


def _attend(init: int) -> int:
    """Pass signals on to the init until it ends; return its exit code."""
    while True:
        received = signal.sigwaitinfo({*FORWARDED, signal.SIGCHLD}).si_signo
        if received != signal.SIGCHLD:
            os.kill(init, received)
            continue
        pid, status = os.waitpid(init, os.WNOHANG)
        if pid == init:
            return _exit_code(status)


# ---- from here on: process 1 of the pid namespace --------------------------------------------------------


def _be_init(plan: Plan, group: Path, ready: int) -> NoReturn:
    code = 1
    outer_group = _own_cgroup()
    try:
        os.setsid()  # out of reach of what the caller's terminal and process group get
        linux.signal_on_parent_death(OUTER_DIED)
        if os.read(ready, 1):  # nothing comes from an outer process that was dead before
            code = _Init(plan, group).run()
    except _OuterDiedError:
        code = EXIT_BY_SIGNAL + signal.SIGKILL
    except StartError as error:
        print(f"{NAME}: {error}", file=sys.stderr)
    except Exception:  # noqa: BLE001 - a forked process must not return into its parent's code
        traceback.print_exc()
    finally:
        _kill_all()
        _enter_cgroup(outer_group)
        _remove_cgroup(group)
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
    def __init__(self, plan: Plan, group: Path) -> None:
        self.plan = plan
        self.owner = plan.owner
        # The names tell journald and others what is a unit of whose manager (cg_get_root_path, cg_path_get_user_unit
        # of systemd's cgroup-util.c): init.scope, which holds process 1, marks the root of the tree.
        self.init_group = group / "init.scope"
        self.manager_group = group / f"user@{self.owner.uid}.service"
        self.command_group = group / "command.scope"
        self.runtime_dir = Path(f"/run/user/{self.owner.uid}")
        self.environment = self._environment()

    def run(self) -> int:
        """Return the exit code of the command."""
        self._mount()
        self._write_files()
        self._make_cgroups()
        self._check_access()
        most_processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        resource.setrlimit(
            resource.RLIMIT_NPROC, (most_processes, most_processes)
        )  # counted over all of a uid's
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
        """Mount volatile folders and /proc of our own; keep the plan's folders where they are, and reachable."""
        kept = {self.plan.checkout, *self.plan.writable}
        resolver = Path("/etc/resolv.conf").resolve()  # lies in /run where systemd-resolved is in use
        if resolver.exists():
            kept.add(resolver)
        covers = {Path("/run"), Path("/var/log")} | {
            folder for path in kept if (folder := self._closed_parent(path))
        }
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
        (Path("/run/systemd/system")).mkdir(
            parents=True
        )  # without it: "not booted with systemd" (sd_booted(3))
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
        folders = {self.runtime_dir, PRIVATE / "tmp", self.plan.home}
        for folder in folders:
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
        """Make groups for this process, for the command, and one that is delegated to the manager (cgroups(7))."""
        for group in (self.init_group, self.command_group, self.manager_group):
            group.mkdir(parents=True, exist_ok=True)
        _enter_cgroup(self.init_group)
        _hand_down_controllers(self.manager_group.parent)
        for name in (".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(self.manager_group / name, self.owner.uid, self.owner.gid)

    def _check_access(self) -> None:
        with self.owner.effective():
            for path, mode in (
                (self.plan.checkout, os.R_OK | os.X_OK),
                (self.plan.working_directory, os.X_OK),
            ):
                if not os.access(path, mode, effective_ids=True):
                    raise StartError(
                        f"{path} is closed to uid {self.owner.uid}, which runs the command (Chromium refuses its "
                        f"sandbox as root). Open it with: chmod -R go+rX {path}"
                    )

    def _start(self) -> int:
        """Start journal and manager, wait until they are ready, return the manager's pid."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
            path = PRIVATE / "notify"
            notifications.bind(str(path))
            path.chmod(0o666)
            self.environment["NOTIFY_SOCKET"] = str(path)
            self._await_ready(self._spawn(JOURNAL), notifications)
            manager = self._spawn(MANAGER, self.manager_group)
            self._await_ready(manager, notifications)
            del self.environment["NOTIFY_SOCKET"]
        _, status = os.waitpid(self._spawn(BUS_PROBE, self.command_group), 0)
        if status != 0:
            raise StartError("systemd does not answer on the session bus.")
        return manager

    def _spawn(self, argv: Sequence[str], group: Path | None = None) -> int:
        """Start a program, and with a control group as the owner; return its pid, which is its process group's, too."""

        def prepare() -> None:
            os.setpgid(0, 0)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            if group:
                _enter_cgroup(group)
                self.owner.drop_privileges()

        try:
            return subprocess.Popen(
                argv,
                cwd=self.plan.working_directory,
                env=self.environment,
                preexec_fn=prepare,  # noqa: PLW1509
            ).pid
        except FileNotFoundError:
            raise StartError(f"{argv[0]} is not installed.") from None

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
        """Reap, and pass signals on to the command's process group, until the command ends; return its code."""
        while True:
            received = signal.sigwaitinfo(HANDLED).si_signo
            if received == OUTER_DIED:
                raise _OuterDiedError
            if received != signal.SIGCHLD:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(command, received)
            elif (status := _reap().get(command)) is not None:
                return _exit_code(status)

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
