"""Debian machines for tests: a minimal root with what a package depends on, booted by systemd-nspawn. Needs root.

A root is built once per release and list of packages, and kept; what happens in a machine is thrown away.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed import cgroups, linux

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

RELEASES = ("bookworm", "trixie")
CACHE = Path.home() / ".cache/waportd/guests"
KEPT = 14 * 86_400.0
"""Seconds for which a root is kept that nobody uses."""
MIRROR = "http://deb.debian.org"
NEEDED_HERE = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "nsenter": "util-linux",
    "dpkg-deb": "dpkg",
}
# <linux/capability.h>: for mounts, and for the loopback interface of a machine.
NEEDED_CAPABILITIES = {"CAP_SYS_ADMIN": 21, "CAP_NET_ADMIN": 12}
# What a machine needs to be one, to play the web app, and to run the stand-in for WhatsApp.
PACKAGES = "systemd-sysv, {bus}, curl, openssl, apparmor"
PATIENCE = 120.0
"""Seconds until a boot or a command is given up; far more than any takes."""

_WRITTEN = "written"
"""The folder beside a machine's disk that holds what was written to it."""
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


class GuestError(Exception):
    """A machine could not be made, or a command in it failed."""


def obstacle() -> str | None:
    """Return why no machine can be booted here, whatever is installed; None where one can."""
    if os.geteuid() != 0:
        return "only root can boot machines"
    [held] = re.findall(r"^CapEff:\t(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    missing = [name for name, number in NEEDED_CAPABILITIES.items() if not int(held, 16) & 1 << number]
    if missing:
        return f"this machine is itself a container, without {' and '.join(missing)}"
    return None


def missing_programs() -> list[str]:
    """Return the Debian packages that are needed here and not installed."""
    return [package for program, package in NEEDED_HERE.items() if not shutil.which(program)]


def field(package: Path, name: str) -> str:
    """Return a field of a .deb's control file."""
    command: list[str | Path] = ["dpkg-deb", "--field", package, name]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


@contextlib.contextmanager
def prepared_root(release: str, depends: str = "", *, bus: str = "dbus", offered: str = "") -> Iterator[Path]:
    """Give the root of a release with packages that satisfy `depends`; build it if there is none.

    `depends` is written as in debian/control, and so is `offered`: what apt can install in the machine without a
    network, with what that depends on and recommends. `bus` is the package that brings the message bus. Nothing may
    ever be changed in the root; it is kept while this lasts, and for other runs until it has not been used for long.
    """
    wanted = ", ".join(filter(None, (PACKAGES.format(bus=bus), depends)))
    key = f"{wanted}; {offered}" if offered else wanted
    root = CACHE / f"{release}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    _remove_unused()
    with _lock_file(root).open("w") as in_use:  # which also notes the time
        fcntl.flock(in_use, fcntl.LOCK_SH)
        # A lock of its own: who waits for the build must not wait for the one who built it to be done with it.
        with root.with_suffix(".building").open("w") as building:
            fcntl.flock(building, fcntl.LOCK_EX)
            if not root.exists():
                build_root(root, release, wanted, offered, building.fileno())
        yield root


def _lock_file(root: Path) -> Path:
    return root.with_suffix(".lock")


def _remove_unused() -> None:
    """Remove the roots that nobody uses, and that nobody has for long: an older version's list of packages."""
    for path in CACHE.glob("*.lock"):
        with path.open("a") as lock:
            if time.time() - path.stat().st_mtime < KEPT:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            # The lock stays: somebody may be waiting for it.
            for left in (path.with_suffix(""), path.with_suffix(".unfinished")):
                shutil.rmtree(left, ignore_errors=True)
            path.with_suffix(".building").unlink(missing_ok=True)


def build_root(root: Path, release: str, wanted: str, offered: str, lock: int) -> None:
    """Make a root below a name of its own, and give it its name when it is complete."""
    print(f"guest: building {root}", file=sys.stderr)
    unfinished = root.with_suffix(".unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    # Not --include: it knows no alternatives.
    satisfy = 'chroot "$1" apt-get satisfy -qq --yes'
    hooks = [f'{satisfy} --no-install-recommends "$WANTED"']
    if offered:
        # What fits without recommendations is not always part of what fits with them.
        hooks += [f'{satisfy} --download-only --{no}install-recommends "$OFFERED"' for no in ("no-", "")]
    subprocess.run(
        [
            "mmdebstrap", "--quiet", "--variant=minbase", *(f"--customize-hook={hook}" for hook in hooks),
            *(["--skip=cleanup/apt"] if offered else []), release, unfinished,
            f"deb {MIRROR}/debian {release} main",
            f"deb {MIRROR}/debian {release}-updates main",
            f"deb {MIRROR}/debian-security {release}-security main",
        ],
        env={**os.environ, "WANTED": wanted, "OFFERED": offered},
        stdout=subprocess.DEVNULL,
        pass_fds=[lock],  # so that the lock lasts as long as it does, whatever happens to this process
        check=True,
    )  # fmt: skip
    # An installed machine and not one that boots for the first time, which would enable every unit it finds.
    (unfinished / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    unfinished.rename(root)


@dataclass(frozen=True)
class Answer:
    """What the API answered."""

    status: int
    body: str

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Machine:
    """A machine without a network, and what was written to its disk so far."""

    def __init__(
        self, name: str, disk: Path, shown: Mapping[Path, str], options: Sequence[str], network: Path | None
    ) -> None:
        self.name = name
        self._disk = disk
        self._shown = shown
        self._options = options
        self._network = network
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._started: list[subprocess.Popen[str]] = []

    def boot(self) -> None:
        """Boot it, and return when its boot is done; raise GuestError when it does not come up."""
        command = [
            "systemd-nspawn", "--quiet", "--boot", "--console=pipe", "--register=no", "--notify-ready=yes",
            "--keep-unit", f"--machine={self.name}", f"--directory={self._disk}",
            f"--network-namespace-path={self._network}" if self._network else "--private-network",
            "--resolv-conf=off", "--timezone=off", "--link-journal=no",
            # What systemd filters packets and sockets by, where the kernel can: bpf(2).
            "--capability=CAP_BPF", "--system-call-filter=bpf",
            *(f"--bind-ro={folder}:{place}" for folder, place in self._shown.items()), *self._options,
        ]  # fmt: skip
        with (
            tempfile.TemporaryFile("w+", errors="replace") as console,
            # Closed when it is up: a full queue that nobody reads would stop nspawn.
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications,
        ):
            notifications.bind(f"\0{self.name}")
            self._nspawn = subprocess.Popen(
                command,
                env={**os.environ, "NOTIFY_SOCKET": f"@{self.name}"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                preexec_fn=lambda: _prepare(self.name),  # noqa: PLW1509  # no threads here
            )
            leader = _until_ready(notifications, self._nspawn)
            if leader is None:
                console.seek(0)
                raise GuestError(f"the machine did not come up:\n{console.read()}")
            self._leader = leader

    def power_off(self) -> None:
        """Shut it down in order, and return when it is off."""
        assert self._nspawn
        # nsenter stops itself when systemd stops all processes to end them, and would keep what it started from its end.
        while self._started:
            self._started.pop().kill()
        self.run("systemctl", "poweroff", check=False)  # it may be ended before it can answer
        self._nspawn.wait(PATIENCE)

    def cut_off(self) -> None:
        """Pull the plug."""
        if self._nspawn is None or self._nspawn.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._leader or self._nspawn.pid, signal.SIGKILL)
        try:
            self._nspawn.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()

    def run(
        self,
        *command: str | Path,
        user: str | None = None,
        given: str = "",
        check: bool = True,
        patience: float = PATIENCE,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, as root or as another user with that one's groups; it reads `given`.

        Raise GuestError when its exit status is not 0, unless `check` is off.
        """
        answer = subprocess.run(
            self._inside(command, user),
            env=_ENVIRONMENT,
            input=given,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
        if check and answer.returncode != 0:
            words = " ".join(map(str, command))
            raise GuestError(f"{words}: exit status {answer.returncode}\n{answer.stdout}{answer.stderr}")
        return answer

    def start(self, *command: str | Path, user: str | None = None) -> subprocess.Popen[str]:
        """Start a command that is written to and read from; the caller ends it, or the machine's shutdown."""
        process = subprocess.Popen(
            self._inside(command, user),
            env=_ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    @property
    def leader(self) -> int:
        """The process id that its first process has on this machine; 0 before its boot."""
        return self._leader

    def _inside(self, command: Sequence[str | Path], user: str | None) -> list[str | Path]:
        become: list[str] = [] if user is None else _identity(user)
        return ["nsenter", f"--target={self._leader}", "--all", "--", *become, *command]

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        """Return what systemctl says, without the last line feed."""
        return self.run("systemctl", "--no-pager", *arguments, check=check).stdout.rstrip("\n")

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.systemctl("show", "--value", f"--property={name}", unit)

    def journal(self, *arguments: str) -> str:
        """Return what the journal holds."""
        return self.run("journalctl", "--no-pager", "--boot", *arguments).stdout

    def curl(
        self, user: str, method: str, path: str, body: object = None, *, socket: str | None = None
    ) -> Answer:
        """Call the API as `user`: over `socket`, or the URL that `path` is.

        Raise GuestError when it could not be reached, in curl's words.
        """
        where = [path] if socket is None else ["--unix-socket", socket, f"http://localhost{path}"]
        data = [] if body is None else ["--json", json.dumps(body)]
        options = ["--silent", "--show-error", "--write-out", "\n%{http_code}", "--max-time", str(PATIENCE)]
        answer = self.run("curl", *options, "--request", method, *data, *where, user=user)
        text, _, status = answer.stdout.rpartition("\n")
        return Answer(int(status), text)


def _identity(user: str) -> list[str]:
    # In the guest, since it knows its own users.
    script = 'user=$1; shift; exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- "$@"'
    return ["sh", "-c", script, "sh", user]


@contextlib.contextmanager
def booted(
    root: Path,
    *,
    shown: Mapping[Path, str] | None = None,
    written: Path | None = None,
    on_disk: Callable[[Path], Sequence[str]] = lambda _: (),
    network: Path | None = None,
) -> Iterator[Machine]:
    """Boot a machine on a root; it is gone afterwards, with all that was written in it.

    `shown` maps folders of this machine to where they are seen there, read only. `written` is what an earlier machine
    on that root has left (see `prepared`). `on_disk` gets the folder of the disk before the boot, may change what is in
    it, and returns further options of systemd-nspawn. ``network`` is a network namespace (`testbed.network`); without
    one, the machine has none but its loopback. Raise GuestError when it does not come up.
    """
    with (
        _memory() as folder,
        _disk(folder, root, written) as disk,
        _running(disk, shown or {}, on_disk(disk), network) as machine,
    ):
        yield machine


@contextlib.contextmanager
def prepared(
    root: Path, prepare: Callable[[Machine], None], *, shown: Mapping[Path, str] | None = None
) -> Iterator[Path]:
    """Have a machine prepared and shut down, and give what was written in it, for others to be booted with.

    Nothing may ever be changed in it; it is gone afterwards. Raise GuestError when the machine does not come up.
    """
    with _memory() as folder:
        with _disk(folder, root) as disk, _running(disk, shown or {}) as machine:
            prepare(machine)
            machine.power_off()
        yield folder / _WRITTEN


@contextlib.contextmanager
def _running(
    disk: Path, shown: Mapping[Path, str], options: Sequence[str] = (), network: Path | None = None
) -> Iterator[Machine]:
    name = f"waportd-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    with _control_group(name):
        machine = Machine(name, disk, shown, options, network)
        try:
            machine.boot()
            yield machine
        finally:
            machine.cut_off()


@contextlib.contextmanager
def _memory() -> Iterator[Path]:
    """Give a folder in memory, which this process alone sees."""
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    with tempfile.TemporaryDirectory(prefix="waportd-") as name:
        linux.mount("tmpfs", Path(name), "tmpfs")
        try:
            yield Path(name)
        finally:
            linux.unmount(name)


@contextlib.contextmanager
def _disk(folder: Path, root: Path, written: Path | None = None) -> Iterator[Path]:
    """Give a copy of the root, with what was written on another; what changes is kept in the folder."""
    lower = f"{written}:{root}" if written else root
    disk, upper, work = (folder / part for part in ("disk", _WRITTEN, "work"))
    for part in (disk, upper, work):
        part.mkdir()
    # A file whose owner alone changes is not copied: a container with users of its own changes those of all.
    options = f"lowerdir={lower},upperdir={upper},workdir={work},metacopy=on"
    linux.mount("overlay", disk, "overlay", options=options)
    try:
        yield disk
    finally:
        linux.unmount(disk)


def _until_ready(notifications: socket.socket, nspawn: subprocess.Popen[bytes]) -> int | None:
    """Return the id of the machine's first process when its boot is done; None when it ended before."""
    leader = None
    deadline = time.monotonic() + PATIENCE
    notifications.settimeout(1)
    while time.monotonic() < deadline and nspawn.poll() is None:
        try:
            lines = notifications.recv(4096).decode().splitlines()
        except TimeoutError:
            continue
        said = dict(line.partition("=")[::2] for line in lines)
        leader = int(said["X_NSPAWN_LEADER_PID"]) if "X_NSPAWN_LEADER_PID" in said else leader
        if "READY" in said and leader is not None:
            return leader
    return None


@contextlib.contextmanager
def _control_group(name: str) -> Iterator[None]:
    """Remove what is left of the group that `_prepare` makes."""
    try:
        yield
    finally:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(line for line in lines if line.startswith("0::"))
        for unified in (cgroups.ROOT, cgroups.ROOT / "unified"):
            group = unified / own.removeprefix("0::/") / name
            if group.is_dir():
                cgroups.remove(group)


def _prepare(group: str) -> None:
    """Give nspawn the unified tree, a group in it, and a /run that is cleared up, whatever runs this machine."""
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("tmpfs", "/run", "tmpfs")
    cgroups.mount_unified()
    path = cgroups.own() / group
    path.mkdir(exist_ok=True)  # of an earlier boot
    cgroups.enter(path)
