"""etcd of both Debians for tests: fetched and unpacked, never installed. Clusters of it on loopback.

What apt installs would begin to run. So the packages are unpacked below `~/.cache/waportd/etcd`, once per release:
`tools/install-deps test` calls `python3 -m testbed.etcd` for that.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from testbed import linux
from testbed.guests import MIRROR, RELEASES
from testbed.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CACHE = Path.home() / ".cache/waportd/etcd"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = ("etcd-server", "etcd-client")
PATIENCE_S = 60.0
"""Seconds until a start or a command is given up; far more than any takes."""


class EtcdError(Exception):
    """etcd is not there, or does not start."""


def fetch(release: str) -> None:
    """Fetch and unpack the packages of a Debian release, if they are not there. apt checks that they are Debian's."""
    folder = CACHE / release
    if folder.exists():
        return
    print(f"etcd: fetching {' and '.join(PACKAGES)} of {release}", file=sys.stderr)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="unfinished-") as name:
        work, root = Path(name), Path(name, "root")
        apt = _apt(work, release)
        for command in ([*apt, "update"], [*apt, "download", *PACKAGES]):
            subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL)
        root.mkdir()
        for package in work.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
        with contextlib.suppress(FileExistsError):  # another run was faster
            (root / "usr/bin").rename(folder)


def _apt(work: Path, release: str) -> list[str]:
    """Return the start of a command line by which apt knows that release only, and leaves this machine's state alone."""
    sources = [
        f"deb [signed-by={KEYRING}] {MIRROR}/debian {release} main",
        f"deb [signed-by={KEYRING}] {MIRROR}/debian {release}-updates main",
        f"deb [signed-by={KEYRING}] {MIRROR}/debian-security {release}-security main",
    ]
    (work / "sources.list").write_text("\n".join(sources) + "\n")
    (work / "status").touch()
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    options = {
        "Dir::Etc::SourceList": work / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State": work,
        "Dir::State::Status": work / "status",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "root",  # the folder is not apt's own
        "Acquire::Languages": "none",
    }
    return ["apt-get", "--quiet=2", *(f"--option={name}={value}" for name, value in options.items())]


def program(release: str, name: str) -> Path:
    """Return the path of a program; raise EtcdError where it was not fetched."""
    path = CACHE / release / name
    if not path.exists():
        raise EtcdError(f"{path} is missing: run `tools/install-deps test`, which fetches it")
    return path


class Member:
    """One etcd of a cluster. It ends with the thread that started it (prctl(2), PR_SET_PDEATHSIG)."""

    def __init__(self, name: str, folder: Path, binary: Path, options: Sequence[str]) -> None:
        self.name = name
        self.data = folder / name
        self.port, self._peer_port, self._health_port = free_port(), free_port(), free_port()
        self._binary = binary
        self._options = options
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where it answers clients."""
        return f"{'https' if '--client-cert-auth' in self._options else 'http'}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process. Raises EtcdError where it does not run."""
        if self._process is None:
            raise EtcdError(f"{self.name} does not run")
        return self._process.pid

    @property
    def peer_url(self) -> str:
        """Where it answers the other members."""
        return f"http://127.0.0.1:{self._peer_port}"

    def start(self, cluster: Sequence[str]) -> None:
        """Start it, with options about the cluster; `wait` says when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._binary, "--name", self.name, "--data-dir", self.data, "--logger", "zap",
                    "--listen-client-urls", self.endpoint, "--advertise-client-urls", self.endpoint,
                    "--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url,
                    "--listen-metrics-urls", f"http://127.0.0.1:{self._health_port}",
                    *cluster, *self._options,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=lambda: linux.signal_on_parent_death(signal.SIGKILL),  # noqa: PLW1509  # no threads here
            )  # fmt: skip

    def wait(self) -> None:
        """Return when it answers and knows a leader. Raises EtcdError with what it said where it ends or does not."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            with contextlib.suppress(OSError):  # also an answer of status 503
                if '"true"' in self._ask("health"):
                    return
            time.sleep(0.02)
        raise EtcdError(f"{self.name} does not answer:\n{self._log.read_text(errors='replace')[-4000:]}")

    @property
    def leads(self) -> bool:
        """Whether it is the leader."""
        try:
            return "\netcd_server_is_leader 1\n" in self._ask("metrics")
        except OSError:
            return False

    def _ask(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._health_port}/{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def pause(self) -> None:
        """Have it stand still: its connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it continue."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, also while it stands still."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)

    def stop(self) -> None:
        """End it in order."""
        self._signal(signal.SIGTERM)
        assert self._process is not None
        self._process.wait(PATIENCE_S)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class Cluster:
    """An etcd cluster; `running` makes one."""

    def __init__(self, release: str, folder: Path, size: int, options: Sequence[str]) -> None:
        self._release = release
        self._folder = folder
        # Shorter than by default (100 and 1000), since tests wait for elections. One alone has nobody to wait for.
        heartbeat_ms, election_ms = (20, 200) if size == 1 else (50, 500)
        options = [
            "--heartbeat-interval", str(heartbeat_ms), "--election-timeout", str(election_ms), *options
        ]  # fmt: skip
        self.token = "first"
        binary = program(release, "etcd")
        names = [f"etcd{number}" for number in range(1, size + 1)]
        self.members = [Member(name, folder, binary, options) for name in names]

    @property
    def endpoints(self) -> list[str]:
        """Where its members answer."""
        return [member.endpoint for member in self.members]

    def start(self, *members: Member) -> None:
        """Start members, all of them by default, and return when they answer."""
        peers = ",".join(f"{member.name}={member.peer_url}" for member in self.members)
        options = ["--initial-cluster", peers, "--initial-cluster-token", self.token]
        for member in members or self.members:
            member.start(options)
        for member in members or self.members:
            member.wait()

    def restart(self) -> None:
        """End all members in order, and start them again."""
        for member in self.members:
            member.stop()
        self.start()

    def kill(self) -> None:
        """End all members at once."""
        for member in self.members:
            member.kill()

    @property
    def leader(self) -> Member:
        """The member that leads. Raises EtcdError where none does for too long."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for member in self.members:
                if member.leads:
                    return member
            time.sleep(0.05)
        raise EtcdError("no member leads")

    def save(self) -> Path:
        """Save a snapshot of all that it knows; return the file."""
        path = self._folder / f"snapshot-{time.monotonic_ns()}.db"
        self.etcdctl("snapshot", "save", str(path))
        return path

    def restore(self, snapshot: Path, token: str) -> None:
        """Replace the cluster by one with what a snapshot holds, at the same addresses, and with that cluster token."""
        self.kill()
        self.token = token
        peers = ",".join(f"{member.name}={member.peer_url}" for member in self.members)
        tool = "etcdutl" if (CACHE / self._release / "etcdutl").exists() else "etcdctl"  # from 3.5 on
        for member in self.members:
            shutil.rmtree(member.data)
            self._run(
                tool, "snapshot", "restore", str(snapshot), "--name", member.name, "--data-dir", str(member.data),
                "--initial-cluster", peers, "--initial-cluster-token", token,
                "--initial-advertise-peer-urls", member.peer_url,
            )  # fmt: skip
        self.start()

    def set_up_again(self, token: str) -> None:
        """Replace the cluster by an empty one at the same addresses."""
        self.kill()
        self.token = token
        for member in self.members:
            shutil.rmtree(member.data)
        self.start()

    @contextlib.contextmanager
    def alarm(self, kind: str) -> Iterator[None]:
        """Have an alarm be on, as if its reason were there."""
        body = json.dumps({"action": "ACTIVATE", "alarm": kind}).encode()
        request = urllib.request.Request(f"{self.members[0].endpoint}/v3/maintenance/alarm", body)
        with urllib.request.urlopen(request, timeout=PATIENCE_S):
            pass
        try:
            yield
        finally:
            self.etcdctl("alarm", "disarm")

    def want_password(self) -> None:
        """Have it answer only who gives a password."""
        for words in ("user add root:played", "role add root", "user grant-role root root", "auth enable"):
            self.etcdctl(*words.split())

    def compact(self, revision: int) -> None:
        """Forget how keys were before a revision."""
        self.etcdctl("compact", str(revision))

    def etcdctl(self, *arguments: str) -> None:
        """Run a command of etcd's own client. Raises EtcdError where it fails."""
        self._run("etcdctl", "--endpoints", self.members[0].endpoint, *arguments)

    def _run(self, name: str, *arguments: str) -> None:
        command: list[str | Path] = [program(self._release, name), *arguments]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        if answer.returncode != 0:
            raise EtcdError(f"{name} {' '.join(arguments)}: exit status {answer.returncode}\n{answer.stderr}")


@contextlib.contextmanager
def running(release: str, size: int = 1, options: Sequence[str] = ()) -> Iterator[Cluster]:
    """Run a cluster of a Debian release's etcd in memory, with further options for each member; it is gone afterwards.

    Raises EtcdError where the programs were not fetched, or do not start.
    """
    with tempfile.TemporaryDirectory(prefix="waportd-etcd-", dir=_memory()) as folder:
        cluster = Cluster(release, Path(folder), size, options)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.kill()


def _memory() -> str | None:
    """Return a folder in memory, where there is one: on a busy disk each write would take long."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    try:
        for each in RELEASES:
            fetch(each)
    except subprocess.CalledProcessError as error:
        sys.exit(f"etcd: cannot fetch it: {error}\nCheck that {MIRROR} can be reached, and run this again.")
