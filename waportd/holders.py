"""Who listens on a port: found with psutil, named as far as may be seen, never harmed without proof."""

import asyncio
import dataclasses
import os
import re
from pathlib import Path

import psutil

from waportd.accounts import name_of
from waportd.model import Port

_SERVER_SCRIPT = "whatsapp_server.js"
_SUPERVISED = re.compile(r"/whatsapp@[0-9]+\.service(/|$)", re.MULTILINE)
_TERM_SECONDS = 5.0
_MAX_NAME = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """A process that listens on a port. What may not be seen is None."""

    user: str | None = None
    pid: int | None = None
    command: str | None = None

    def __str__(self) -> str:
        if self.pid is None:
            return f"a process of user {self.user}" if self.user else "another process"
        return f"{self.command or 'a process'} (pid {self.pid}, user {self.user or 'unknown'})"


async def listeners(port: Port) -> list[Holder]:
    """Return who listens on that TCP port, on any address. Reads /proc on another thread."""
    return await asyncio.to_thread(_listeners, port)


async def end_stale_server(port: Port, holder: Holder, *, of_anybody: bool = False) -> bool:
    """End a left-over ``whatsapp_server.js`` that was started by hand or by the web app on exactly that port.

    Only where pid, command line, working directory and owner show that it is one: the script's name, this port
    as ``PORT`` or argument, a session folder of that port below its working directory, and the caller's own uid,
    unless ``of_anybody``, as root may say.
    Never one that a unit ``whatsapp@….service`` runs: it is somebody's live session. SIGTERM, and SIGKILL after
    five seconds. Tells whether the process was one and is gone.
    """
    if holder.pid is None:
        return False
    return await asyncio.to_thread(_end_stale_server, port, holder.pid, of_anybody=of_anybody)


def _listeners(port: Port) -> list[Holder]:
    pids = {
        connection.pid
        for connection in psutil.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
    }
    holders = [_describe(pid) for pid in pids if pid is not None]
    if None in pids:
        # Another user's process: its socket can be seen, and not whose it is.
        seen = {holder.user for holder in holders}
        holders += [Holder(user) for user in _owners(port) if user not in seen]
    return holders


def _describe(pid: int) -> Holder:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return Holder(process.username(), pid, _printable(process.name()))
    except psutil.Error:
        return Holder(pid=pid)


def _printable(name: str) -> str:
    """Return what can be stored, logged and shown of a name that any local user may choose."""
    return "".join(char if char.isprintable() else "?" for char in name[:_MAX_NAME])


def _owners(port: Port) -> list[str]:
    """Name the users whose sockets listen on the port, by the uid column of /proc/net/tcp (proc(5))."""
    listening = "0A"
    users = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == listening and int(fields[1].rpartition(":")[2], 16) == port:
                users.add(name_of(int(fields[7])))
    return sorted(users)


def _end_stale_server(port: Port, pid: int, *, of_anybody: bool) -> bool:
    try:
        process = psutil.Process(pid)
        if not (of_anybody or process.uids().real == os.getuid()) or not is_stale_server(process, port):
            return False
        # psutil checks the start time before it signals, so a pid used anew is never hit.
        process.terminate()
        try:
            process.wait(_TERM_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(_TERM_SECONDS)
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, OSError):
        return False
    return True


def is_stale_server(process: psutil.Process, port: Port) -> bool:
    """Tell whether a process is a ``whatsapp_server.js`` on that port that no unit of ours runs."""
    if _SUPERVISED.search(_control_groups(process.pid)):
        return False
    arguments = process.cmdline()
    scripts = [index for index, word in enumerate(arguments) if Path(word).name == _SERVER_SCRIPT]
    if not scripts or "node" not in Path(arguments[0]).name:
        return False
    named = process.environ().get("PORT") or (arguments[scripts[0] + 1 :] or ["5001"])[0]
    folder = Path(process.cwd())
    return named == str(port) and any(
        (folder / f".wwebjs_{kind}_{port}").is_dir() for kind in ("auth", "cache")
    )


def _control_groups(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace")
