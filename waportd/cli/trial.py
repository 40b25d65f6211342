"""Runs a program of the servers' as a server would be run, and asks it one thing: its user, its restrictions."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from waportd.config import Bus, Config
from waportd.diagnosis import explain_setup
from waportd.errors import ConfigError
from waportd.model import Assignment, Port, User
from waportd.units import restrictions, server_unit, variables

LIMIT = 150.0
"""Seconds for a trial: a browser's start, a minute until there is a code, the browser's end."""
FAREWELL = 20.0
"""Seconds for one that was given up to end its browser and delete its profile."""
_MOST = 1 << 20
"""Bytes that an answer may have; it has some 10 KiB."""
BOOTED = Path("/run/systemd/system")
"""Exists where systemd runs (sd_booted(3))."""
_DYNAMIC_USERS = range(61184, 65520)
"""Ids that belong to no account (https://systemd.io/UIDS-GIDS/)."""


class TrialError(Exception):
    """No answer: the program could not be run, or failed."""

    def __init__(self, message: str, hint: str | None = None, *, by_systemd: bool = False) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint
        self.by_systemd = by_systemd
        """systemd could not set it up, and could set up no server."""


def run(config: Config, name: str, engine: str | None = None, *, shipped: bool = False) -> dict[str, Any]:
    """Ask a program of ``server/`` as ``server/answer.js`` says, and return its answer. Raise TrialError.

    ``shipped``: below the unit as it is shipped, without the administrator's drop-ins.
    """
    script = config.instances.script_path.parent / "server" / name
    if not script.is_file():
        raise TrialError(f"{script} is missing", "apt install --reinstall waportd")
    environment = variables(Assignment(User("doctor"), Port(1), engine=engine), config)
    # Nothing of the webhook, which has secrets, and no port: the program opens none.
    sent = {
        key: value
        for key, value in environment.items()
        if key.startswith("WAPORTD_") and not key.startswith("WAPORTD_WEBHOOK")
    }
    with place(config, config.instances.node_path, script, shipped=shipped) as (command, folder):
        return _ask(command, folder, sent)


@contextlib.contextmanager
def place(
    config: Config, node: Path, script: Path, *, shipped: bool = False
) -> Iterator[tuple[list[str], Path]]:
    """Give the command of a trial, and the folder in which it may leave something.

    Not as root: the browser's sandbox refuses to run so. systemd gives it a user id of its own and the restrictions of a
    server; where there is no systemd it gets an id that nobody has.
    """
    program = [str(node), str(script)]
    folder = Path(tempfile.mkdtemp(prefix="waportctl-"))
    try:
        if os.geteuid() != 0:
            yield program, folder
        elif config.systemd.bus is Bus.SYSTEM and BOOTED.is_dir():
            yield [*_below_systemd(config, shipped=shipped), "--", *program], folder
        else:
            uid = str(_free_uid())
            os.chown(folder, int(uid), int(uid))
            yield (
                [
                    "setpriv",
                    f"--reuid={uid}",
                    f"--regid={uid}",
                    "--clear-groups",
                    "--no-new-privs",
                    "--",
                    *program,
                ],
                folder,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _below_systemd(config: Config, *, shipped: bool) -> list[str]:
    try:
        limits = restrictions(server_unit(config) if shipped else _unit(config))
    except ConfigError as error:
        raise TrialError(error.message, error.hint) from error
    if not _is_for_a_user(limits):
        # It would run as root.
        raise TrialError(
            "a drop-in sets DynamicUser=no and no User= that is the same for all servers",
            "systemctl cat whatsapp@.service",
        )
    return [
        # Of type simple: for another one the exit status would not be systemd's own where it cannot set the unit up.
        *("systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--service-type=simple"),
        "--description=waportctl doctor",
        *(part for line in (*limits, f"RuntimeMaxSec={LIMIT:.0f}") for part in ("--property", line)),
    ]


def _unit(config: Config) -> str:
    """Return the unit of the servers with the administrator's drop-ins for all of them; as it is shipped, if there is none."""
    command = ("systemctl", "cat", "whatsapp@.service")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FAREWELL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return server_unit(config)
    return done.stdout if done.returncode == 0 else server_unit(config)


def _is_for_a_user(limits: list[str]) -> bool:
    said = dict(line.split("=", 1) for line in limits)
    is_dynamic = said.get("DynamicUser", "no").lower() in {"yes", "y", "true", "t", "on", "1"}
    return is_dynamic or said.get("User", "") not in {"", "root", "0"}


def _free_uid() -> int:
    """Return a user id that no account has, and no process."""
    used = {entry.pw_uid for entry in pwd.getpwall()}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            used.add(process.stat().st_uid)
    return next(uid for uid in reversed(_DYNAMIC_USERS) if uid not in used)


def _ask(command: list[str], folder: Path, asked: Mapping[str, str]) -> dict[str, Any]:
    """Run a program, and return its answer. It ends when its standard input closes, even if this process is killed."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(folder)}
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise TrialError(f"{command[0]} cannot be run: {error.strerror}") from error
        assert process.stdin
        assert process.stdout
        too_late = threading.Timer(LIMIT, _end, [process])
        too_late.start()
        try:
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.flush()
            said = process.stdout.read(_MOST)
        except (OSError, ValueError):
            said = b""
        finally:
            too_late.cancel()
            _end(process)
            process.stdout.close()
        complaints.seek(0)
        complained = complaints.read(_MOST).decode(errors="replace").strip()
    try:
        found: dict[str, Any] = json.loads(said)
    except (ValueError, RecursionError) as error:
        if why := explain_setup(process.returncode):
            raise TrialError(why.message, why.hint, by_systemd=True) from error
        last = complained.splitlines()[-1] if complained else f"it ended with status {process.returncode}"
        raise TrialError(last) from error
    return found


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Have a program delete its profile and end; kill it if it does not."""
    assert process.stdin
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(FAREWELL)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
