"""What waportd needs, looked at piece by piece; nothing is changed, and no daemon is needed.

Each check is a function that yields what it found: whether it is well, why not, and the command that mends it.
"""

import concurrent.futures
import dataclasses
import email.utils
import enum
import functools
import http.client
import importlib.util
import json
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from waportd import __version__, engines
from waportd.accounts import daemon
from waportd.advice import advise, check_readable, loopback_port
from waportd.cli import terminal
from waportd.cli.engine_files import folder_open, open_to_others
from waportd.cli.settings import CONFIG, read_config
from waportd.client import Client, User, WaportdClientError, WaportdUnavailable
from waportd.config import Bus, Config, InvalidConfig
from waportd.errors import ConfigError
from waportd.model import Port
from waportd.model import User as Owner
from waportd.systemd.rights import refused_by_bus
from waportd.units import TCP_UNIT_MADE, environment_owners

_COMMAND_TIMEOUT = 20.0
"""Seconds for a program that takes a tenth of one."""
_UPSTREAM = "web.whatsapp.com"
_UPSTREAM_TIMEOUT = 8.0
_CLOCK_SKEW = 120.0
"""Seconds that the clock may be off; certificates and logins suffer from more."""
_NODE_MIN = (18, 20)
_DISK_MIN, _DISK_LOW = 64 << 20, 1 << 30
"""Bytes: servers refuse to start below the first half of this; a session takes some 100 MiB."""
_SESSION_MEMORY = 400 << 20
"""Bytes that one session of the real thing is reported to take."""
_BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
_MODULES = {
    "aiohttp": "python3-aiohttp",
    "gi": "python3-gi",
    "prometheus_client": "python3-prometheus-client",
    "psutil": "python3-psutil",
    "pydbus": "python3-pydbus",
    "rich": "python3-rich",
    "segno": "python3-segno",
    "systemd": "python3-systemd",
    "yaml": "python3-yaml",
}
_UNSEEN = {"home", "root", "tmp", "run"}
"""Folders of which a server sees nothing, or others than everybody else."""
_ANSWERS_BADLY = 500
_PACKAGE = Path(__file__).resolve().parents[1]
_PARSE = """
for (const file of process.argv.slice(1)) {
    try {
        const text = fs.readFileSync(file, 'utf8').replace(/^#!.*/, '');
        vm.compileFunction(text, ['exports', 'require', 'module', '__filename', '__dirname'], { filename: file });
    } catch (error) {
        console.log(JSON.stringify([error.stack.split('\\n')[0], String(error)]));
    }
}
"""
"""Does what ``node --check`` does, for many files in the time of one."""


class Verdict(enum.StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    """It could not be looked at."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    verdict: Verdict
    message: str
    fix: str | None = None
    """The command, or the change, that mends it."""


Findings = Iterator[tuple[Verdict, str, str | None]]


@dataclasses.dataclass
class Site:
    """What is looked at: this machine, this socket."""

    socket: str
    config_file: Path
    offline: bool = False

    @functools.cached_property
    def config(self) -> Config:
        """The configuration; the defaults where it cannot be read, of which a check of its own tells."""
        try:
            return read_config(self.config_file)
        except ConfigError:
            return Config()

    @functools.cached_property
    def users(self) -> list[User] | None:
        """All users; None where the daemon does not tell."""
        try:
            with Client(self.socket) as client:
                return client.users()
        except WaportdClientError:
            return None

    @property
    def system(self) -> bool:
        """Whether the host's systemd runs the servers, not the user's."""
        return self.config.systemd.bus is Bus.SYSTEM

    def systemctl(self, *arguments: str) -> str:
        """Return what systemctl prints; nothing where it cannot be run."""
        return _output("systemctl", *([] if self.system else ["--user"]), *arguments)


def examine(site: Site) -> list[Finding]:
    """Make all checks, side by side; return what they found in the order of `CHECKS`."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = pool.map(lambda check: _result(site, *check), CHECKS.items())
        return [finding for findings in results for finding in findings]


def _result(site: Site, name: str, check: "Callable[[Site], Findings]") -> list[Finding]:
    return [Finding(name, *found) for found in check(site)]


def call(
    *command: str | Path,
    folder: Path | None = None,
    user: pwd.struct_passwd | None = None,
    timeout: float = _COMMAND_TIMEOUT,
) -> tuple[int | None, str]:
    """Run a program, in a folder, as a user; return its exit status, None where it cannot be run, and what it said."""
    identity: dict[str, Any] = {}
    if user is not None:
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            **identity,
            env={**os.environ, "HOME": "/nonexistent"},  # as the servers have it: nobody's own settings count
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except OSError as error:
        return None, str(error.strerror)
    except subprocess.TimeoutExpired:
        return None, f"no end after {timeout:g} s"
    return done.returncode, done.stdout or done.stderr


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def configuration(site: Site) -> Findings:
    """Check the file that the daemon reads."""
    file = site.config_file
    if file.exists() and not os.access(file, os.R_OK):
        yield (
            Verdict.SKIP,
            f"{file} cannot be read by this user; defaults are assumed below",
            "sudo waportctl doctor",
        )
        return
    try:
        if file == CONFIG:
            check_readable(file)
        read_config(file)
    except InvalidConfig as error:
        mend = "mend it, then: waportctl config check && systemctl restart waportd"
        yield Verdict.FAIL, error.message, mend
        return
    except ConfigError as error:
        yield Verdict.FAIL, error.message, error.hint
        return
    if file == CONFIG and not file.exists() and daemon() is not None:
        mend = "an empty one is enough: install -m 640 -g waportd /dev/null " + str(file)
        yield Verdict.FAIL, f"{file} is missing, and the packaged service does not start without it", mend
        return
    yield Verdict.OK, f"{file} is valid" if file.exists() else "no file: all is default", None
    owners = {Port(user.port): Owner(user.user) for user in site.users or []}
    for advice in advise(site.config, owners or environment_owners(site.config.store.instances)):
        yield Verdict.WARN, f"{advice.key}: {advice.message}", advice.hint
    if site.system and not site.config.api.allow_users:
        yield (
            Verdict.WARN,
            "every local user may call every user's server: api.allow_users names nobody",
            f"in {file}: api: {{allow_users: [www-data]}}; then: systemctl reload waportd",
        )


def python_modules(_: Site) -> Findings:
    """Check what the daemon imports."""
    missing = [package for module, package in _MODULES.items() if importlib.util.find_spec(module) is None]
    if missing:
        yield (
            Verdict.FAIL,
            f"Python modules are missing: {', '.join(missing)}",
            f"apt install {' '.join(missing)}",
        )
    else:
        yield Verdict.OK, "all Python modules are there", None


def node(site: Site) -> Findings:
    """Check the program that runs the servers."""
    path = site.config.instances.node_path
    status, said = call(path, "--version")
    if status != 0:
        yield Verdict.FAIL, f"{path} cannot be run: {_first_line(said)}", "apt install nodejs"
        return
    version = said.strip().lstrip("v")
    try:
        known = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        known = _NODE_MIN
    if known < _NODE_MIN:
        yield Verdict.FAIL, f"node {version} is too old: 18.20 is needed", "apt install nodejs"
    else:
        yield Verdict.OK, f"{path}, version {version}", None


def script(site: Site) -> Findings:
    """Check whether node can read the server's script and its parts."""
    path, program = site.config.instances.script_path, site.config.instances.node_path
    if not path.is_file():
        yield Verdict.FAIL, f"{path} is missing", "apt install --reinstall waportd"
        return
    files = [path, *sorted((path.parent / "server").glob("*.js"))]
    status, said = call(program, "-e", _PARSE, *files)
    broken = [json.loads(line) for line in said.splitlines()] if status == 0 else []
    for place, error in broken:
        yield Verdict.FAIL, f"{place}: {error}", "apt install --reinstall waportd"
    if status != 0:
        yield Verdict.SKIP, f"{path} cannot be checked without node", None
    elif not broken:
        yield Verdict.OK, f"{path} and {len(files) - 1} parts parse", None


def node_modules(site: Site) -> Findings:
    """Check for whatsapp-web.js in the version that the servers are made for."""
    folder = site.config.instances.script_path.parent
    reinstall = "apt install --reinstall waportd, or in a checkout: npm ci"
    try:
        wanted = json.loads((folder / "package.json").read_text("utf-8"))["dependencies"]["whatsapp-web.js"]
        found = json.loads((folder / "node_modules/whatsapp-web.js/package.json").read_text("utf-8"))[
            "version"
        ]
    except (OSError, ValueError, KeyError) as error:
        yield Verdict.FAIL, f"whatsapp-web.js is missing below {folder}: {error}", reinstall
        return
    if wanted != found:
        yield Verdict.FAIL, f"whatsapp-web.js is {found}, and {wanted} is needed", reinstall
        return
    # Loaded as the server loads it, so that a missing module of a module shows.
    program = site.config.instances.node_path
    status, said = call(program, "-e", "require('whatsapp-web.js')", folder=folder)
    if status is None:
        yield Verdict.SKIP, f"whatsapp-web.js {found} cannot be loaded without node", None
    elif status:
        why = next((line for line in said.splitlines() if "Error" in line), "it cannot be loaded")
        yield Verdict.FAIL, f"whatsapp-web.js {found}: {why}", reinstall
    else:
        yield Verdict.OK, f"whatsapp-web.js {found}", None


def installed_engines(site: Site) -> Findings:
    """Check that the versions of whatsapp-web.js are there that are asked for, and nobody else's; and the pinned page."""
    config, known = site.config, {engine.name: engine for engine in engines.installed(site.config)}
    name = config.instances.engine
    if refused := engines.refusal(name, config):
        yield (
            Verdict.FAIL,
            f"instances.engine: {refused[0]}",
            f"waportctl engine install {name}, or waportctl engine use bundled",
        )
    else:
        yield Verdict.OK, f"{name} (whatsapp-web.js {known[name].library})", None
    for user in site.users or []:
        if user.own_engine and user.engine not in known:
            yield (
                Verdict.FAIL,
                f"user {user.user} has engine {user.engine}, which is not there",
                f"waportctl engine install {user.engine}, or waportctl engine use default --user {user.user}",
            )
    if config.engines.is_dir():
        owner = 0 if site.system else os.geteuid()
        if shared := open_to_others(config.engines.resolve(), owner):
            problem = folder_open(shared)
            yield Verdict.FAIL, problem.message, problem.hint
    if config.instances.web_version:
        yield from _pinned_page(Path(config.instances.web_version), site)


def _pinned_page(page: Path, site: Site) -> Findings:
    why = None
    if site.system and page.parts[1] in _UNSEEN:
        why = f"servers do not see what lies in /{page.parts[1]}"
    else:
        try:
            shown = page.stat().st_mode & 0o004 and all(
                above.stat().st_mode & 0o001 for above in page.parents
            )
            if not page.is_file() or (site.system and not shown):
                why = "servers may not read it"
        except OSError as error:
            why = error.strerror
    if why:
        yield (
            Verdict.FAIL,
            f"the pinned page {page} cannot be used: {why}",
            "put it where everybody may read it, such as /etc/waportd-page.html, or take instances.web_version back",
        )
        return
    yield (
        Verdict.WARN,
        f"instances.web_version: every server loads a pinned page, {page}, and not that of the site",
        "as soon as an engine works without it, take it back: WhatsApp ends old pages without a word",
    )


def browser(site: Site) -> Findings:
    """Check for a browser, and what its sandbox needs."""
    wanted = site.config.instances.browser
    install = "apt install chromium-headless-shell (where it is offered), else: apt install chromium"
    path = next(filter(None, map(_program, _BROWSERS if wanted == "auto" else [wanted])), None)
    if path is None:
        named = (
            "no browser is installed" if wanted == "auto" else f"{wanted} (instances.browser) is not there"
        )
        yield Verdict.FAIL, named, install
    else:
        status, said = call(path, "--version")
        if status == 0:
            yield Verdict.OK, f"{path}: {_first_line(said)}", None
        else:
            yield Verdict.FAIL, f"{path} does not run: {_first_line(said)}", install
    if "--no-sandbox" in site.config.instances.browser_args:
        yield (
            Verdict.WARN,
            "--no-sandbox lets a hostile page out of the browser",
            "remove it from instances.browser_args",
        )
    elif why := _no_user_namespaces():
        yield Verdict.FAIL, f"the browser's sandbox cannot be made: {why[0]}", why[1]


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/bin")


def _no_user_namespaces() -> tuple[str, str] | None:
    for setting, refusing in (("kernel.unprivileged_userns_clone", "0"), ("user.max_user_namespaces", "0")):
        try:
            value = Path("/proc/sys", setting.replace(".", "/")).read_text("ascii").strip()
        except OSError:
            continue
        if value == refusing:
            good = "1" if setting.startswith("kernel") else "10000"
            return (
                f"{setting} is {value}",
                f"sysctl -w {setting}={good} (to stay: in /etc/sysctl.d/); in a container, on its host",
            )
    return None


def units(site: Site) -> Findings:
    """Check the unit files, and whether daemon and socket are up."""
    state = site.systemctl("is-system-running")
    if not state:
        yield (
            Verdict.FAIL,
            "systemd cannot be asked",
            "is this machine booted with systemd? see: systemctl status",
        )
        return
    templates = ["whatsapp@.service", "whatsapp@.socket", "whatsapp-pause@.service"]
    missing = [
        name for name in templates if name not in site.systemctl("list-unit-files", "--no-legend", name)
    ]
    if missing:
        yield (
            Verdict.FAIL,
            f"systemd knows no {' and no '.join(missing)}",
            "apt install --reinstall waportd, or: waportd generate-units --output /etc/systemd/system && "
            "systemctl daemon-reload"
            if site.system
            else "start waportd: it writes them by itself",
        )
    elif site.systemctl("show", "whatsapp@5001.service", "--property=NeedDaemonReload", "--value") == "yes":
        yield Verdict.WARN, "unit files changed since systemd read them", "systemctl daemon-reload"
    else:
        yield Verdict.OK, "the unit files of the servers are there", None
    if not site.system:
        return
    for unit in ("waportd.socket", "waportd.service"):
        active = site.systemctl("is-active", unit)
        if active == "active":
            yield Verdict.OK, f"{unit} is active", None
        elif active == "failed":
            yield (
                Verdict.FAIL,
                f"{unit} has failed",
                f"journalctl -u {unit} -n 20; then: systemctl restart {unit}",
            )
        elif active == "activating":
            yield Verdict.FAIL, f"{unit} starts, and does not get up", f"journalctl -u {unit} -n 20"
        else:
            yield Verdict.FAIL, f"{unit} is {active or 'not installed'}", f"systemctl enable --now {unit}"


def api(site: Site) -> Findings:
    """Check whether the daemon answers this user."""
    try:
        with Client(site.socket) as client:
            health = client.health()
    except WaportdUnavailable as error:
        yield Verdict.FAIL, error.message, error.hint
        return
    except WaportdClientError as error:
        yield Verdict.FAIL, f"{site.socket} answers: {error}", error.hint
        return
    if health.version != __version__:
        yield (
            Verdict.WARN,
            f"the daemon that runs is version {health.version}, and {__version__} is installed",
            "systemctl restart waportd (no session notices)",
        )
    else:
        yield Verdict.OK, f"{site.socket} answers, version {__version__}", None
    if alarm := health.alarm:
        build = f" (WhatsApp Web {alarm.build})" if alarm.build else ""
        yield Verdict.FAIL, f"for {terminal.age(alarm.since)}: {alarm.message}{build}", alarm.hint
    if ports := health.unassigned_ports:
        listed = ", ".join(map(str, ports))
        yield (
            Verdict.WARN,
            f"servers run that belong to nobody: ports {listed}",
            f"systemctl stop whatsapp@{ports[0]}.socket",
        )


def listen(site: Site) -> Findings:
    """Check whether systemd holds the addresses of ``api.listen``, which anybody could take while the daemon restarts."""
    addresses = site.config.api.listen
    if not addresses or not site.system:
        yield (
            Verdict.OK,
            "no address in TCP" if not addresses else "the daemon holds its addresses itself",
            None,
        )
        return
    said = site.systemctl("show", "--property=Listen,ActiveState", "waportd.socket", "waportd-tcp.socket")
    units = [unit for unit in said.split("\n\n") if "ActiveState=active" in unit.splitlines()]
    free = [str(one) for one in addresses if not any(f"Listen={one} (Stream)" in unit for unit in units)]
    if free:
        yield (
            Verdict.FAIL,
            f"systemd does not hold {', '.join(free)} for api.listen",
            TCP_UNIT_MADE,
        )
    else:
        yield Verdict.OK, f"systemd holds {', '.join(map(str, addresses))}", None


def bus(site: Site) -> Findings:
    """Check D-Bus, over which the daemon talks to systemd."""
    where = ["--system"] if site.system else ["--user"]
    systemd = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
    status, said = call(
        "busctl", *where, "--timeout=5", "call", *systemd, "org.freedesktop.DBus.Peer", "Ping"
    )
    if status == 0:
        yield Verdict.OK, "systemd answers on D-Bus", None
    else:
        yield (
            Verdict.FAIL,
            f"systemd does not answer on D-Bus: {_first_line(said)}",
            (
                "systemctl start dbus"
                if site.system
                else "log in by ssh, console or desktop, or: loginctl enable-linger"
            ),
        )


def rights(site: Site) -> Findings:
    """Check whether the daemon may do to its units what it does: as its user, each call is made and changes nothing."""
    if not site.system:
        return
    files = (
        ("/usr/share/polkit-1/rules.d/waportd.rules", "/etc/polkit-1/rules.d/waportd.rules"),
        ("/usr/share/dbus-1/system.d/waportd.conf", "/etc/dbus-1/system.d/waportd.conf"),
    )
    if os.geteuid() != 0:
        yield Verdict.SKIP, "what waportd may do to its units only root can try", "sudo waportctl doctor"
        return
    absent = [places[0] for places in files if not any(_exists(place) for place in places)]
    if absent:
        yield Verdict.FAIL, f"{' and '.join(absent)} are missing", "apt install --reinstall waportd"
        return
    user = daemon()
    if user is None:
        yield Verdict.FAIL, "there is no user waportd", "systemd-sysusers && systemctl reload dbus"
        return
    # In our own folder: Python imports from the current one, which may be anybody's.
    status, said = call(sys.executable, "-m", "waportd.systemd.rights", folder=_PACKAGE.parent, user=user)
    refused: dict[str, str] = json.loads(said) if status == 0 else {}
    ways_out = {
        "the bus": "systemctl reload dbus",
        "polkit": "systemctl restart polkit; look for rules in /etc/polkit-1/rules.d/ that come before waportd.rules",
    }
    for who, way_out in ways_out.items():
        methods = [name for name, words in refused.items() if refused_by_bus(words) == (who == "the bus")]
        if methods:
            why = f"{who} does not let waportd call {', '.join(methods)}: {refused[methods[0]]}"
            yield Verdict.FAIL, why, way_out
    if status != 0:
        yield Verdict.SKIP, f"what waportd may do could not be tried: {_last_line(said)}", None
    elif not refused:
        yield Verdict.OK, "waportd may start, stop and clean its units", None


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except PermissionError:
        return False  # rules of the administrator's lie where nobody may look


def ports(site: Site) -> Findings:
    """Check for ports that others hold, or may come to hold."""
    rules = site.config.ports
    own = loopback_port(site.config.instances.webhook_url)
    taken = {user.port for user in site.users or []}
    may_be_given = own is not None and (own in rules.range or own in rules.overflow)
    if may_be_given and own not in rules.reserved and own not in taken:
        yield (
            Verdict.WARN,
            f"the web app's port {own} may be given to a user while the web app does not run",
            f"in {site.config_file}: ports: {{reserved: [{own}]}}; then: systemctl reload waportd",
        )
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    except (OSError, ValueError):
        low = None
    if low is not None and low <= rules.overflow.last:
        yield (
            Verdict.WARN,
            f"ports.overflow ({rules.overflow}) runs into the ports of outgoing connections (from {low})",
            f'sysctl -w net.ipv4.ip_local_port_range="{rules.overflow.last + 1} 60999", or lower ports.overflow',
        )
    held = [user for user in site.users or [] if user.process.cause == "port_held"]
    for user in held:
        yield (
            Verdict.FAIL,
            f"user {user.user}: {user.process.message}",
            f"sudo waportctl port {user.port} --end-stale, then: waportctl start {user.user}",
        )
    if site.users is None:
        yield Verdict.SKIP, "which ports are held by others is not known: waportd does not answer", None
    elif not held:
        yield Verdict.OK, f"no assigned port is held by another program ({len(site.users)} assigned)", None


def servers(site: Site) -> Findings:
    """Check for users whose server or session is in trouble."""
    if site.users is None:
        return
    troubled = 0
    for user in site.users:
        process, session = user.process, user.session
        if process.cause == "port_held":
            continue  # told among the ports
        if process.state in {"failed", "crash_loop"}:
            fix = process.hint or f"waportctl logs {user.user}"
            yield Verdict.FAIL, f"user {user.user}: {process.message}", fix
        elif process.state == "running" and session is not None and not session.answering:
            yield (
                Verdict.FAIL,
                f"user {user.user}: the server does not answer",
                f"waportctl restart {user.user}",
            )
        elif session is not None and session.state in {"error", "passkey_required"} and session.answering:
            fix = session.hint or f"waportctl logs {user.user}"
            yield Verdict.FAIL, f"user {user.user}: {session.message}", fix
        elif user.linked and process.state == "stopped" and user.desired == "running":
            yield (
                Verdict.WARN,
                f"user {user.user} is linked and does not run: {process.message}",
                f"waportctl start {user.user}",
            )
        else:
            continue
        troubled += 1
    if not troubled:
        running = sum(user.process.state == "running" for user in site.users)
        yield Verdict.OK, f"{len(site.users)} users, {running} servers run", None


def memory(site: Site) -> Findings:
    """Check whether another server has room."""
    available, least = psutil.virtual_memory().available, site.config.limits.min_available_memory
    said = f"{terminal.size(available)} of memory are available"
    if available < least:
        yield (
            Verdict.FAIL,
            f"{said}; below {terminal.size(least)} no server starts",
            (
                "stop users who are not needed (waportctl list --memory), add memory, or lower "
                "limits.min_available_memory"
            ),
        )
    elif available < least + _SESSION_MEMORY:
        yield Verdict.WARN, f"{said}, which is hardly enough for one more session", "waportctl list --memory"
    else:
        yield Verdict.OK, said, None


def disk(site: Site) -> Findings:
    """Check the room for assignments, sessions and caches."""
    places = [site.config.store.directory]
    if site.system:
        places += [Path("/var/lib/whatsapp"), Path("/var/cache/whatsapp")]
    seen: set[int] = set()
    for place in places:
        there = next(path for path in (place, *place.parents) if _exists(str(path)))
        device = there.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(there).free
        said = f"{terminal.size(free)} are free on the disk of {place}"
        if free < _DISK_MIN:
            yield (
                Verdict.FAIL,
                said,
                "free some space: du -xh / | sort -h | tail; journalctl --vacuum-size=200M",
            )
        elif free < _DISK_LOW:
            yield Verdict.WARN, said, "free some space: journalctl --vacuum-size=200M; apt clean"
        else:
            yield Verdict.OK, said, None


def upstream(site: Site) -> Findings:
    """Check whether WhatsApp can be reached from here, and whether the clock is right."""
    arguments = site.config.instances.browser_args
    if site.offline:
        yield Verdict.SKIP, f"{_UPSTREAM} was not tried (--offline)", None
        return
    if any(argument.startswith(("--proxy-", "--host-resolver-rules")) for argument in arguments):
        yield (
            Verdict.SKIP,
            f"the browsers take a way of their own to {_UPSTREAM} (instances.browser_args)",
            None,
        )
        return
    connection = http.client.HTTPSConnection(_UPSTREAM, timeout=_UPSTREAM_TIMEOUT)
    try:
        connection.request("HEAD", "/", headers={"User-Agent": "Mozilla/5.0 waportctl"})
        answer = connection.getresponse()
    except socket.gaierror as error:
        yield (
            Verdict.FAIL,
            f"{_UPSTREAM} has no address: {error.strerror}",
            f"check DNS: getent hosts {_UPSTREAM}",
        )
        return
    except ssl.SSLCertVerificationError as error:
        yield (
            Verdict.FAIL,
            f"the certificate of {_UPSTREAM} is not accepted: {error.verify_message}",
            (
                "check the clock (timedatectl) and for a proxy that opens TLS; apt install --reinstall ca-certificates"
            ),
        )
        return
    except (OSError, http.client.HTTPException) as error:
        yield (
            Verdict.FAIL,
            f"{_UPSTREAM} cannot be reached: {error or type(error).__name__}",
            (
                f"check network and firewall: curl -I https://{_UPSTREAM}; with a proxy: instances.browser_args"
            ),
        )
        return
    finally:
        connection.close()
    if answer.status >= _ANSWERS_BADLY:
        yield (
            Verdict.WARN,
            f"{_UPSTREAM} answers with status {answer.status}",
            "wait: it is on WhatsApp's side",
        )
    else:
        yield Verdict.OK, f"{_UPSTREAM} answers", None
    if date := email.utils.parsedate_to_datetime(answer.headers["Date"]) if answer.headers["Date"] else None:
        skew = time.time() - date.timestamp()
        if abs(skew) > _CLOCK_SKEW:
            yield Verdict.WARN, f"the clock is off by {terminal.span(abs(skew))}", "timedatectl set-ntp true"


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it says nothing")


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "it says nothing")


CHECKS: dict[str, Callable[[Site], Findings]] = {
    "configuration": configuration,
    "python": python_modules,
    "node": node,
    "script": script,
    "modules": node_modules,
    "engines": installed_engines,
    "browser": browser,
    "units": units,
    "socket": api,
    "listen": listen,
    "bus": bus,
    "rights": rights,
    "ports": ports,
    "servers": servers,
    "memory": memory,
    "disk": disk,
    "upstream": upstream,
}
"""The checks in the order in which they are shown: what others rest on comes first."""
