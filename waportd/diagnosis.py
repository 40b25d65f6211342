"""What a unit's state means: systemd's words turned into a state, a cause and a way out."""

import asyncio
import datetime as dt
import signal
from pathlib import Path
from typing import NamedTuple

from waportd.model import Port, Process, ProcessState
from waportd.systemd.manager import UnitStatus

_EXITED = 1
_KILLED = 2
_DUMPED = 3


class Finding(NamedTuple):
    """Why a server does not run, and what mends it."""

    cause: str
    message: str
    hint: str | None


_EXIT_STATUS = {
    1: Finding("crashed", "the server ended with an error", None),
    2: Finding("server_config", "the server refused its configuration", None),
    11: Finding("browser_lost", "the browser ended without being asked to", None),
    12: Finding("page_hung", "the WhatsApp page crashed or stopped answering", None),
    13: Finding(
        "never_ready",
        "the login was accepted but WhatsApp never became ready",
        "it is tried again; if it stays so, log out and link the phone anew",
    ),
    14: Finding("disconnected", "WhatsApp ended the connection", "it is tried again by itself"),
}
"""Exit statuses of whatsapp_server.js, and below 200 of node."""

_SYSTEMD_EXIT_STATUS = {
    200: Finding("working_directory", "the working directory cannot be entered", None),
    203: Finding(
        "node_missing",
        "node cannot be executed",
        "install it (`apt install nodejs`), or set instances.node to its path and generate the units again",
    ),
    217: Finding(
        "unit_user",
        "the unit's user cannot be made",
        "check that /run has room (`df /run`); the unit's journal says more",
    ),
    226: Finding("unit_namespace", "the unit's sandbox cannot be set up on this system", None),
    238: Finding(
        "state_directory",
        "the session's state directory cannot be made",
        "check the disk and the owner of its parent folder",
    ),
    239: Finding(
        "cache_directory",
        "the session's cache directory cannot be made",
        "check the disk and the owner of its parent folder",
    ),
}
"""Exit statuses of systemd itself (systemd.exec(5), "Process Exit Codes")."""

_RESULT = {
    "timeout": Finding(
        "start_timeout", "the server did not get ready, or did not end, in the time systemd allows", None
    ),
    "watchdog": Finding(
        "hung",
        "the server or its browser stopped answering and was killed",
        "it starts again by itself; if it happens often, check memory and load of the host",
    ),
    "oom-kill": Finding(
        "out_of_memory",
        "the session used more memory than it may",
        "raise limits.memory_max, or memory_max of this user",
    ),
    "resources": Finding("resources", "systemd could not set the unit up", None),
    "protocol": Finding("protocol", "the server ended before it was ready", None),
}


def explain_exit(status: UnitStatus) -> Finding:
    """Say why the service's last run ended, going by systemd's Result and the exit status."""
    story = f"see `journalctl -u {status.name}`"
    if status.load_state == "masked":
        return Finding("masked", f"{status.name} is masked", f"`systemctl unmask {status.name}`")
    if status.load_state == "not-found":
        return Finding(
            "unit_missing",
            f"systemd knows no {status.name}",
            "install the unit files: `waportd generate-units --output /etc/systemd/system`, "
            "then `systemctl daemon-reload`",
        )
    if status.load_state not in {"loaded", ""}:
        return Finding(
            "unit_broken",
            f"systemd cannot read {status.name} ({status.load_state})",
            f"`systemd-analyze verify {status.name}` says where; a drop-in may be wrong",
        )
    finding: Finding | None = None
    if status.result == "exit-code" or (status.result == "start-limit-hit" and status.exit_code):
        if status.exit_code in {_KILLED, _DUMPED}:
            finding = _killed(status)
        else:
            finding = _SYSTEMD_EXIT_STATUS.get(status.exit_status) or _EXIT_STATUS.get(status.exit_status)
            if finding is None:
                finding = Finding("crashed", f"the server ended with exit status {status.exit_status}", None)
    elif status.result in {"signal", "core-dump"}:
        finding = _killed(status)
    else:
        finding = _RESULT.get(status.result)
    if finding is None:
        said = "did not start" if status.result == "success" else f"failed: systemd says {status.result}"
        finding = Finding("failed", f"{status.name} {said}", None)
    return finding if finding.hint else finding._replace(hint=story)


def _killed(status: UnitStatus) -> Finding:
    try:
        name = signal.Signals(status.exit_status).name
    except ValueError:
        name = f"signal {status.exit_status}"
    return Finding("killed", f"the server was ended by {name}", None)


_UNDER_WAY = {
    "active": ProcessState.RUNNING,
    "reloading": ProcessState.RUNNING,
    "refreshing": ProcessState.RUNNING,
    "activating": ProcessState.STARTING,
    "deactivating": ProcessState.STOPPING,
}
_LOGGED_OUT = 10
"""Exit status of whatsapp_server.js after a logout: success, and nothing to restart."""


def running_message(port: Port) -> str:
    """Say that the server runs."""
    return f"running on port {port}"


def describe(
    service: UnitStatus,
    socket: UnitStatus | None,
    port: Port,
    *,
    by_admin: bool,
    known: Finding | None = None,
    next_start: float | None = None,
) -> Process:
    """Turn the two units of a port into the state of its process.

    ``socket`` is None where its state is not known. ``by_admin``: the socket was stopped by somebody else.
    ``known`` is why a start failed, where that is more than the units themselves tell. ``next_start`` is when a server
    that ended again and again, and waits for that, is started next, in seconds since the epoch.
    """
    finding: Finding | None = None
    state = _UNDER_WAY.get(service.active_state)
    if next_start is not None and state not in {ProcessState.RUNNING, ProcessState.STOPPING}:
        state = ProcessState.CRASH_LOOP
        finding = known or _explain_loop(service)
        at = dt.datetime.fromtimestamp(next_start, dt.UTC).astimezone()
        message = f"{finding.message}; it is started again at {at:%H:%M:%S}"
    elif state is ProcessState.STARTING and service.sub_state.startswith("auto-restart"):
        finding = known or explain_exit(service)
        message = f"{finding.message}; systemd starts it again"
    elif state is not None:
        message = running_message(port) if state is ProcessState.RUNNING else str(state)
    elif service.load_state in {"loaded", ""} and _gave_up(service, socket):
        state = ProcessState.CRASH_LOOP
        finding = known or _explain_loop(service)
        first = f"{finding.hint}; then " if finding.hint else ""
        finding = finding._replace(hint=f"{first}start the user again")
        message = f"{finding.message}; systemd gave up"
    elif known and not by_admin:
        state = ProcessState.FAILED
        finding = known
        message = finding.message
    elif service.active_state == "failed" or service.load_state not in {"loaded", ""}:
        state = ProcessState.FAILED
        finding = explain_exit(service)
        message = finding.message
    else:
        state = ProcessState.STOPPED
        message = _why_stopped(service, socket, by_admin=by_admin)
    return Process(
        state=state,
        since=service.since,
        message=message,
        cause=finding.cause if finding else None,
        hint=finding.hint if finding else None,
        pid=service.main_pid or None,
        restarts=service.restarts,
        next_start=next_start if state is ProcessState.CRASH_LOOP else None,
    )


def _gave_up(service: UnitStatus, socket: UnitStatus | None) -> bool:
    """Tell whether a start limit was hit.

    After restarts the service keeps the result of its last run, and only its socket tells (seen on systemd 252:
    service ``exit-code``, socket ``service-start-limit-hit``).
    """
    if socket is not None and socket.active_state == "failed" and socket.result.endswith("limit-hit"):
        return True
    return service.active_state == "failed" and service.result == "start-limit-hit"


def _explain_loop(service: UnitStatus) -> Finding:
    if service.result != "success":
        return explain_exit(service)
    return Finding("crash_loop", "the server ended again and again", f"see `journalctl -u {service.name}`")


def _why_stopped(service: UnitStatus, socket: UnitStatus | None, *, by_admin: bool) -> str:
    if by_admin:
        return "stopped (by admin)"
    if service.exit_code == _EXITED and service.exit_status == _LOGGED_OUT:
        return "logged out; the session was deleted"
    if socket is not None and socket.active_state == "active":
        return "not running; the next request on its port starts it"
    return "stopped"


_PARSE_TIMEOUT = 10.0
"""Seconds for ``node --check``, which takes a tenth of one."""
_REINSTALL = "install waportd again, or mend instances.script"


async def explain_script(node: Path, script: Path) -> Finding | None:
    """Say what is wrong with the server's script itself; None where node can read it, or cannot tell."""
    if complaint := await asyncio.to_thread(_why_unreadable, script):
        return Finding("script_missing", f"{script} {complaint}", _REINSTALL)
    try:
        check = await asyncio.create_subprocess_exec(
            # Without its compiler, since the daemon may not have memory that is both written and executed.
            *(node, "--jitless", "--no-expose-wasm", "--check", script),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError:
        return _SYSTEMD_EXIT_STATUS[203]
    try:
        _, said = await asyncio.wait_for(check.communicate(), _PARSE_TIMEOUT)
    except TimeoutError:
        return None
    finally:
        if check.returncode is None:
            check.kill()
            await check.wait()
    if check.returncode != 1:
        return None
    lines = said.decode(errors="replace").splitlines()
    error = next((line for line in lines if "Error" in line), "it does not parse")
    where = lines[0] if lines else str(script)
    return Finding("script_broken", f"{where}: {error}", _REINSTALL)


def _why_unreadable(script: Path) -> str | None:
    try:
        return None if script.is_file() else "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
