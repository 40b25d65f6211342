"""``doctor --upstream``: a look at WhatsApp's page with a browser of our own, or by a user's server."""

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

from waportd import __version__, engines
from waportd.cli import terminal
from waportd.cli.exits import Exit, Problem
from waportd.cli.main import Context
from waportd.cli.settings import read_config
from waportd.cli.upstream import Verdict, code_words, judge, judge_server, rows
from waportd.client import Upstream
from waportd.config import Bus, Config
from waportd.errors import ConfigError
from waportd.model import Assignment, Port, User
from waportd.units import restrictions, variables

_LIMIT = 150.0
"""Seconds for a look: the browser's start, a minute until there is a code, the browser's end."""
_FAREWELL = 20.0
"""Seconds for a look that was given up to end its browser and delete its profile."""
_MOST = 1 << 20
"""Bytes that a look may tell; it tells some 10 KiB."""
_BOOTED = Path("/run/systemd/system")
"""Is there where systemd runs (sd_booted(3))."""
_DYNAMIC_USERS = range(61184, 65520)
"""Ids that belong to no account (https://systemd.io/UIDS-GIDS/)."""


def run(context: Context) -> int:
    """Look at WhatsApp's page with a browser of our own, or ask a user's server; return a `Verdict`."""
    user = context.options.user
    finding = judge_server(context.client.status(user)) if user else judge(_look(context))
    screen = context.screen
    if screen.as_json:
        screen.document(
            {
                "verdict": finding.verdict.name.lower(),
                "exit_status": int(finding.verdict),
                "message": finding.message,
                "hint": finding.hint,
                "waportd": __version__,
                "user": user,
                **finding.document,
            }
        )
        return finding.verdict
    upstream = finding.document["upstream"]
    found = Upstream.of(upstream) if upstream else Upstream()
    browser = finding.document.get("browser")
    screen.pairs(
        [
            ("Verdict", finding.verdict.name.lower()),
            *rows(found),
            ("Shims", ", ".join(f"{shim} {outcome}" for shim, outcome in found.shims.items()) or None),
            ("Looked at", ", ".join(found.checked) or None),
            ("Browser", f"{browser['path']} {browser['version']}" if browser else None),
            ("Code", code_words(finding.document.get("code"))),
        ]
    )
    screen.text(f"\n{finding.message}.")
    if finding.hint:
        screen.text(f"→ {finding.hint}")
    return finding.verdict


def _no_look(message: str, hint: str | None) -> Problem:
    """Return the problem that nothing can be said of the page: any other status would say something."""
    return Problem(message, hint, Exit(Verdict.UNREACHED.value), "no_look")


def _look(context: Context) -> dict[str, Any]:
    """Return what server/upstream.js finds. Raises Problem."""
    path = context.options.config
    if path.exists() and not os.access(path, os.R_OK):
        raise Problem(
            f"{path} cannot be read by this user", "run it with sudo", Exit.NOT_PERMITTED, "permission_denied"
        )
    try:
        config = read_config(path)
    except ConfigError as error:
        raise _no_look(error.message, error.hint) from error
    if context.options.engine and (refused := engines.refusal(context.options.engine, config)):
        raise _no_look(*refused)
    script = config.instances.script_path.parent / "server/upstream.js"
    if not script.is_file():
        raise _no_look(f"{script} is missing", "apt install --reinstall waportd")
    if context.screen.interactive and not context.screen.as_json:
        terminal.complain("Looking at web.whatsapp.com, for a minute at most …")
    told = variables(Assignment(User("doctor"), Port(1), engine=context.options.engine), config)
    with _place(config, config.instances.node_path, script) as (command, folder):
        return _ask(
            command, folder, {name: value for name, value in told.items() if name.startswith("WAPORTD_")}
        )


@contextlib.contextmanager
def _place(config: Config, node: Path, script: Path) -> Iterator[tuple[list[str], Path]]:
    """Give the command of a look, and the folder in which it may leave something.

    Not as root, whom the browser's sandbox refuses. systemd gives it a user id of its own and the restrictions of a
    server; where there is no systemd it gets an id that nobody has.
    """
    program = [str(node), str(script)]
    folder = Path(tempfile.mkdtemp(prefix="waportctl-"))
    try:
        if os.geteuid() != 0:
            yield program, folder
        elif config.systemd.bus is Bus.SYSTEM and _BOOTED.is_dir():
            limits = [*restrictions(config), f"RuntimeMaxSec={_LIMIT:.0f}"]
            properties = [part for line in limits for part in ("--property", line)]
            yield (
                [
                    *("systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--service-type=exec"),
                    *("--description=waportctl doctor --upstream", *properties, "--", *program),
                ],
                folder,
            )
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


def _free_uid() -> int:
    """Return a user id that no account has, and no process."""
    used = {entry.pw_uid for entry in pwd.getpwall()}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            used.add(process.stat().st_uid)
    return next(uid for uid in reversed(_DYNAMIC_USERS) if uid not in used)


def _ask(command: list[str], folder: Path, told: Mapping[str, str]) -> dict[str, Any]:
    """Run a look, and return what it tells. It ends when its standard input does, whatever becomes of us."""
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
            raise _no_look(f"{command[0]} cannot be run: {error.strerror}", "waportctl doctor") from error
        assert process.stdin
        assert process.stdout
        too_late = threading.Timer(_LIMIT, _end, [process])
        too_late.start()
        try:
            process.stdin.write(json.dumps(told).encode() + b"\n")
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
    except ValueError as error:
        last = complained.splitlines()[-1] if complained else f"it ended with status {process.returncode}"
        raise _no_look(f"the look at WhatsApp's page failed: {last}", "waportctl doctor") from error
    return found


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Have a look delete its profile and end, and end it where it does not."""
    assert process.stdin
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(_FAREWELL)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
