"""Which process holds a port: found with psutil, named as far as it may be seen, never ended without proof."""

import asyncio
import dataclasses
import errno
import os
import re
import select
import signal
import socket
from pathlib import Path

import psutil

from waportd.accounts import name_of
from waportd.model import Port
from waportd.tcp_table import LISTENING, sockets

_SERVER_SCRIPT = "whatsapp_server.js"
_SUPERVISED = re.compile(r"/whatsapp@[0-9]+\.service(/|$)", re.MULTILINE)
TERM_S = 5.0
_NAME_CHARS = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a port. Members that may not be seen are None."""

    user: str | None = None
    pid: int | None = None
    command: str | None = None
    listens: bool = True
    """A process that has only bound the port blocks it for others, and is in no table of proc(5)."""

    def __str__(self) -> str:
        if not self.listens:
            return "a process that has bound it and does not listen"
        if self.pid is None:
            return f"a process of user {self.user}" if self.user else "another process"
        return f"{self.command or 'a process'} (pid {self.pid}, user {self.user or 'unknown'})"


async def listeners(port: Port) -> list[Holder]:
    """Return the processes that listen on that TCP port, on any address. Reads /proc on another thread."""
    return await asyncio.to_thread(_listeners, port)


async def holding(port: Port) -> list[Holder]:
    """Return who blocks that port: processes that listen there; else, without a name, one that has only bound it."""
    found = await listeners(port)
    return found or ([Holder(listens=False)] if await asyncio.to_thread(is_bound, port) else [])


async def end_stale_server(port: Port, holder: Holder, *, of_anybody: bool = False) -> bool:
    """End a left-over ``whatsapp_server.js`` that was started by hand or by the web app on exactly that port.

    Only where pid, command line, working directory and owner show that it is one: the script's name, this port
    as ``PORT`` or argument, a session folder of that port below its working directory, and the caller's own uid,
    unless root says ``of_anybody``.
    Never one that a unit ``whatsapp@….service`` runs: it is a live session. SIGTERM, and SIGKILL after
    five seconds. Returns whether the process was one and is gone.
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
        # Another user's process: its socket can be seen, but not its process.
        seen = {holder.user for holder in holders}
        holders += [Holder(user) for user in _owners(port) if user not in seen]
    return holders


def is_bound(port: Port) -> bool:
    """Return whether systemd could not listen on the port; this tries it in the same way."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
        except OSError as error:  # of another kind: there is no IPv6
            if error.errno == errno.EADDRINUSE:
                return True
    return False


def _describe(pid: int) -> Holder:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return Holder(process.username(), pid, _printable(process.name()))
    except psutil.Error:
        return Holder(pid=pid)


def _printable(name: str) -> str:
    """Return what can be stored, logged and shown of a name that any local user may choose."""
    return "".join(char if char.isprintable() else "?" for char in name[:_NAME_CHARS])


def _owners(port: Port) -> list[str]:
    """Name the users whose sockets listen on the port."""
    return sorted(
        {name_of(each.uid) for each in sockets() if each.state == LISTENING and each.local[1] == port}
    )


def _end_stale_server(port: Port, pid: int, *, of_anybody: bool) -> bool:
    try:
        process = os.pidfd_open(pid)
    except OSError as error:
        return isinstance(error, ProcessLookupError)
    try:
        seen = psutil.Process(pid)
        if not (of_anybody or seen.uids().real == os.getuid()) or not is_stale_server(seen, port):
            return False
        # By the descriptor: the number may be another process by now. It has not ended, so it is the one checked.
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not _ends(process, 0.0):
                signal.pidfd_send_signal(process, number)
                _ends(process, TERM_S)
    except (psutil.Error, OSError):
        pass  # gone, or not allowed to be inspected or ended
    finally:
        gone = _ends(process, 0.0)
        os.close(process)
    return gone


def _ends(process: int, seconds: float) -> bool:
    """Return whether a process has ended by then; its descriptor is readable from its end on (pidfd_open(2))."""
    waiting = select.poll()
    waiting.register(process, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def is_stale_server(process: psutil.Process, port: Port) -> bool:
    """Return whether a process is a ``whatsapp_server.js`` on that port that no unit of ours runs."""
    if _SUPERVISED.search(control_groups(process.pid)):
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


def control_groups(pid: int) -> str:
    """Return the control groups of a process, as /proc lists them; raise OSError."""
    return Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace")
