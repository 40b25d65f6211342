"""What a unit's state means: systemd's words turned into a state, a cause and a hint."""

import asyncio
import dataclasses
import datetime as dt
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from waportd.contract import EXIT_CODES
from waportd.errors import ServerFailed, WaportdError
from waportd.model import Port, Process, ProcessState
from waportd.systemd.manager import UnitStatus

_EXITED = 1
_KILLED = 2
_DUMPED = 3


class Finding(NamedTuple):
    """Why a server does not run, and how to fix it."""

    cause: str
    message: str
    hint: str | None

    @classmethod
    def of(cls, error: WaportdError) -> "Finding":
        """Return what an error says."""
        return cls(error.cause or error.code, error.message, error.hint)

    def error(self) -> ServerFailed:
        """Return it as an error."""
        return ServerFailed(self.message, cause=self.cause, hint=self.hint)


EXIT_STATUS = {
    EXIT_CODES["unexpected"]: Finding("crashed", "the server ended with an error", None),
    EXIT_CODES["configuration"]: Finding("server_config", "the server refused its configuration", None),
    EXIT_CODES["browser_lost"]: Finding("browser_lost", "the browser ended without being asked to", None),
    EXIT_CODES["page_hung"]: Finding("page_hung", "the WhatsApp page crashed or stopped answering", None),
    EXIT_CODES["never_ready"]: Finding(
        "never_ready",
        "the login was accepted but WhatsApp never became ready",
        "it is retried; if that does not help, log out and link the phone again",
    ),
    EXIT_CODES["disconnected"]: Finding(
        "disconnected", "WhatsApp ended the connection", "it is retried automatically"
    ),
}
"""Exit statuses of whatsapp_server.js, and below 200 of node."""

_SYSTEMD_EXIT_STATUS = {
    200: Finding("working_directory", "the working directory cannot be entered", None),
    203: Finding(
        "node_missing",
        "node cannot be executed",
        "install it (`apt install nodejs`), or set instances.node to its path and regenerate the units",
    ),
    217: Finding(
        "unit_user",
        "the unit's user cannot be created",
        "in a container (LXC, Proxmox): `features: nesting=1` on its host; else `df /run` must show free space. The "
        "unit's journal says more",
    ),
    226: Finding(
        "unit_namespace",
        "the unit's sandbox cannot be set up on this system",
        "in a container (LXC, Proxmox): `features: nesting=1` on its host; else the unit's journal names what is missing",
    ),
    238: Finding(
        "state_directory",
        "the session's state directory cannot be created",
        "check the disk and the owner of its parent folder",
    ),
    239: Finding(
        "cache_directory",
        "the session's cache directory cannot be created",
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
        "it restarts automatically; if it happens often, check memory and load of the host",
    ),
    "oom-kill": Finding(
        "out_of_memory",
        "the session used more memory than it may",
        "raise limits.memory_max, or memory_max of this user",
    ),
    "resources": Finding("resources", "systemd could not set the unit up", None),
    "protocol": Finding("protocol", "the server ended before it was ready", None),
}


def explain_setup(exit_status: int) -> Finding | None:
    """Say why systemd could not set a service up, by its exit status for that; None for any other."""
    return _SYSTEMD_EXIT_STATUS.get(exit_status)


def explain_exit(status: UnitStatus) -> Finding:
    """Say why the service's last run ended, by systemd's Result and the exit status."""
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
            finding = _SYSTEMD_EXIT_STATUS.get(status.exit_status) or EXIT_STATUS.get(status.exit_status)
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


_OF_THE_DAEMON = {
    ProcessState.STOPPING: "stopping",
    ProcessState.STARTING: "waiting for its turn to start",
}
"""Messages for states that the daemon knows before systemd does."""
_RUNS = {"active", "reloading", "refreshing"}
_LOGGED_OUT = EXIT_CODES["logged_out"]
"""Exit status of whatsapp_server.js after a logout: success, and nothing to restart."""


_LIMIT = "it was started too often in a short time, and systemd no longer starts it"
_LIFT = "start the user again, which lifts that limit; waportd itself does so within minutes for a linked one"


BEFORE_RESTART: Final = "before-auto-restart"
"""From systemd 254 on, the suffix of a service's sub state that has ended and that systemd itself restarts."""


def running_message(port: Port) -> str:
    """Say that the server runs."""
    return f"running on port {port}"


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """All facts that decide the state of a process."""

    service: UnitStatus
    socket: UnitStatus | None
    """None where its state is not known."""
    port: Port
    by_admin: bool = False
    """The socket was stopped by somebody else."""
    known: Finding | None = None
    """Why a start failed, where that is more than the units show."""
    next_start: float | None = None
    """When a server that keeps ending, and is paused, is started next, in seconds since the epoch."""
    is_switching: bool = False
    """The daemon is opening or closing the port."""
    is_launching: bool = False
    """The daemon's start is under way, though the unit may not show it yet."""
    has_answered: bool = False
    """The server has answered, though systemd does not know yet that it is ready."""

    @property
    def is_starting(self) -> bool:
        """Whether systemd starts it, and does not wait for that.

        From version 254 on systemd shows each restart for a moment as an end, which no poll may answer by a start.
        """
        begins = self.service.active_state == "activating" or self.service.sub_state.endswith(BEFORE_RESTART)
        return begins and self.next_start is None

    @property
    def is_loaded(self) -> bool:
        """Whether systemd has the unit, as far as is known."""
        return self.service.load_state in {"loaded", ""}


class Rule(NamedTuple):
    """A fact, and the state that follows from it."""

    fact: str
    holds: Callable[[Facts], object]
    state: ProcessState
    by_daemon: bool = False
    """What the units show is out of date."""


RULES: Final = (
    Rule("systemd runs the service", lambda now: now.service.active_state in _RUNS, ProcessState.RUNNING),
    Rule("systemd stops it", lambda now: now.service.active_state == "deactivating", ProcessState.STOPPING),
    Rule(
        "systemd starts it, and it has answered",
        lambda now: now.is_starting and now.has_answered,
        ProcessState.RUNNING,
    ),
    Rule("systemd starts it", lambda now: now.is_starting, ProcessState.STARTING),
    Rule(
        "the daemon opens or closes the port",
        lambda now: now.is_switching,
        ProcessState.STOPPING,
        by_daemon=True,
    ),
    Rule(
        "the daemon starts it, and it has answered",
        lambda now: now.is_launching and now.has_answered,
        ProcessState.RUNNING,
        by_daemon=True,
    ),
    Rule("the daemon starts it", lambda now: now.is_launching, ProcessState.STARTING, by_daemon=True),
    Rule("it waits for its next start", lambda now: now.next_start is not None, ProcessState.CRASH_LOOP),
    Rule(
        "systemd's limit of starts is reached",
        lambda now: now.is_loaded and _is_at_its_limit(now.service, now.socket),
        ProcessState.CRASH_LOOP,
    ),
    Rule("a start has failed", lambda now: now.known and not now.by_admin, ProcessState.FAILED),
    Rule(
        "the unit has failed, or cannot be loaded",
        lambda now: now.service.active_state == "failed" or not now.is_loaded,
        ProcessState.FAILED,
    ),
    Rule("none of these", lambda _: True, ProcessState.STOPPED),
)
"""The rules: the first that holds gives the state of a process. docs/architecture.md shows them."""


def describe(now: Facts) -> Process:
    """Return the state of a process, with message, cause and hint."""
    rule = next(rule for rule in RULES if rule.holds(now))
    state, service = rule.state, now.service
    if rule.by_daemon:
        return Process(state, message=_OF_THE_DAEMON.get(state) or running_message(now.port))
    finding, message = _explained(now, state)
    return Process(
        state=state,
        since=service.since,
        message=message,
        cause=finding.cause if finding else None,
        hint=finding.hint if finding else None,
        pid=service.main_pid or None,
        restarts=service.restarts,
        next_start=now.next_start if state is ProcessState.CRASH_LOOP else None,
    )


def _explained(now: Facts, state: ProcessState) -> tuple[Finding | None, str]:
    """Return what is wrong, if anything is, and a message."""
    service = now.service
    if state is ProcessState.STARTING and "auto-restart" in service.sub_state:
        finding = now.known or explain_exit(service)
        return finding, f"{finding.message}; systemd starts it again"
    if state is ProcessState.CRASH_LOOP:
        finding = now.known or _explain_loop(service)
        if now.next_start is not None:
            at = dt.datetime.fromtimestamp(now.next_start, dt.UTC).astimezone()
            return finding, f"{finding.message}; it is started again at {at:%H:%M:%S}"
        first = f"{finding.hint}; then " if finding.hint else ""
        return finding._replace(hint=f"{first}{_LIFT}"), f"{finding.message}; {_LIMIT}"
    if state is ProcessState.FAILED:
        finding = (None if now.by_admin else now.known) or explain_exit(service)
        return finding, finding.message
    if state is ProcessState.STOPPED:
        return None, _why_stopped(service, now.socket, by_admin=now.by_admin)
    return None, running_message(now.port) if state is ProcessState.RUNNING else str(state)


def _is_at_its_limit(service: UnitStatus, socket: UnitStatus | None) -> bool:
    """Return whether systemd no longer starts it, because it was started too often.

    The unit's limit is 200 times in a minute. Only without a daemon, whose pauses come between, are there so many
    starts. After restarts the service keeps the result of its last run, and only its socket shows the limit (seen on
    systemd 252: service ``exit-code``, socket ``service-start-limit-hit``).
    """
    if socket is not None and socket.active_state == "failed" and socket.result.endswith("limit-hit"):
        return True
    return service.active_state == "failed" and service.result == "start-limit-hit"


def _explain_loop(service: UnitStatus) -> Finding:
    if service.result != "success":
        return explain_exit(service)
    return Finding("crash_loop", "the server ended again and again", f"see `journalctl -u {service.name}`")


LOGGED_OUT: Final = "logged out; the session was deleted"
"""The message for a user whose server has ended like this."""


def has_logged_out(service: UnitStatus) -> bool:
    """Return whether a server has ended because its session was logged out and deleted."""
    ended = service.active_state in {"inactive", "failed"}
    return ended and service.exit_code == _EXITED and service.exit_status == _LOGGED_OUT


def _why_stopped(service: UnitStatus, socket: UnitStatus | None, *, by_admin: bool) -> str:
    if by_admin:
        return "stopped (by admin)"
    if has_logged_out(service):
        return LOGGED_OUT
    if socket is not None and socket.active_state == "active":
        return "not running; the next request on its port starts it"
    return "stopped"


PARSE_TIMEOUT_S = 10.0
"""Seconds for ``node --check``, which takes a tenth of one."""
_REINSTALL = "reinstall waportd, or correct instances.script"


async def explain_script(node: Path, script: Path) -> Finding | None:
    """Say what is wrong with the server's script itself; None where node can read it, or cannot check it."""
    if complaint := await asyncio.to_thread(_why_unreadable, script):
        return Finding("script_missing", f"{script} {complaint}", _REINSTALL)
    try:
        check = await asyncio.create_subprocess_exec(
            # Without its JIT compiler, since the daemon may not have memory that is both writable and executable.
            *(node, "--jitless", "--no-expose-wasm", "--check", script),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError:
        return _SYSTEMD_EXIT_STATUS[203]
    try:
        _, said = await asyncio.wait_for(check.communicate(), PARSE_TIMEOUT_S)
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
