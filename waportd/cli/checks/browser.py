"""The browser: which one there is, and whether it starts as a server starts it."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from waportd.cli import trial
from waportd.cli.checks.finding import Findings, fail, ok, skip, warn
from waportd.cli.checks.host import Host
from waportd.cli.trial import TrialError

_BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
_BROWSER_TRIAL = "browser_trial.js"
_INSTALL_BROWSER = "apt install chromium-headless-shell (where it is offered), else: apt install chromium"
SETTINGS = Path("/proc/sys")
KERNEL = Path("/proc/sys/kernel")
USERS = Path("/proc/self/uid_map")
_ALL_USERS = ["0", "0", "4294967295"]
"""What that file says outside of any container (user_namespaces(7))."""
PROFILES = Path("/sys/kernel/security/apparmor/profiles")


def browser(host: Host) -> Findings:
    """Check for a browser, and start it as a server does, if the caller may."""
    instances = host.config.instances
    wanted = instances.browser
    path = next(filter(None, map(_program, _BROWSERS if wanted == "auto" else [wanted])), None)
    if path is None:
        named = "no browser is installed" if wanted == "auto" else f"{wanted} (instances.browser) is missing"
        yield fail(named, _INSTALL_BROWSER)
        return
    if "--no-sandbox" in instances.browser_args:
        yield warn(
            "--no-sandbox lets a hostile page out of the browser", "remove it from instances.browser_args"
        )
    if not os.access(instances.node_path, os.X_OK):
        yield skip(f"without node, {path} cannot be started as a server starts it")
    elif host.system and os.geteuid() != 0:
        if obstacle := _obstacle(host, path):
            yield fail(f"{path} cannot start: {obstacle[0]}", obstacle[1])
        else:
            yield skip(f"only root can start {path} as a server starts it", "sudo waportctl doctor")
    else:
        yield from _tried(host)


def _tried(host: Host) -> Findings:
    """Start the browsers that a server would take, best first, until one does start."""
    try:
        found = trial.run(host.config, _BROWSER_TRIAL)
    except TrialError as error:
        if error.by_systemd:
            fix = _without_drop_ins(host) or error.hint
            yield fail(f"no server can start here: {error.message}", fix)
        else:
            yield skip(f"no browser could be tried: {error.message}", error.hint)
        return
    if found["error"]:
        yield fail(found["error"]["message"], found["error"]["hint"])
    good = _first_good(found)
    changed_back = None if good else _without_drop_ins(host)
    for one in found["tried"]:
        if one["error"] is None:
            yield ok(f"{one['path']}, version {one['version']}, starts as a server starts it")
        elif good:
            instead = (
                f"{good} starts: in {host.config_file}: instances: {{browser: {good}}}; then: systemctl reload "
                "waportd && waportctl restart --all"
            )
            yield fail(one["error"]["message"], instead)
        elif changed_back:
            yield fail(one["error"]["message"], changed_back)
        elif obstacle := _obstacle(host, one["path"]):
            yield fail(f"{one['error']['message']} ({obstacle[0]})", obstacle[1])
        elif re.search("sandbox|namespace", one["error"]["message"], re.IGNORECASE):
            forbidden = (
                "an ordinary user must be allowed to make user namespaces (setpriv --reuid=65534 unshare --user true): a "
                "security module forbids it, or, in a container, its host"
            )
            yield fail(one["error"]["message"], forbidden)
        else:
            yield fail(one["error"]["message"], f"{_INSTALL_BROWSER}; or name another: instances.browser")


def _first_good(found: dict[str, Any]) -> str | None:
    return next((one["path"] for one in found["tried"] if one["error"] is None), None)


def _without_drop_ins(host: Host) -> str | None:
    """Return the fix if a browser starts without the administrator's drop-ins."""
    if not re.search(r"^# /.*\.d/", host.systemctl("cat", "whatsapp@.service"), re.MULTILINE):
        return None
    try:
        good = _first_good(trial.run(host.config, _BROWSER_TRIAL, shipped=True))
    except TrialError:
        return None
    said = "it starts without the drop-ins of whatsapp@.service: check what they forbid (systemctl cat whatsapp@.service)"
    return said if good else None


def _obstacle(host: Host, path: str) -> tuple[str, str] | None:
    """Return a known obstacle to a browser's start, and its fix; None where none is known."""
    if _is_snap(path):
        return (
            "it is a snap, and snaps do not start from systemd units",
            "install a browser from a .deb, such as google-chrome-stable of Google, and name it: instances.browser",
        )
    return None if "--no-sandbox" in host.config.instances.browser_args else no_user_namespaces()


def _is_snap(path: str) -> bool:
    """Return whether a program comes from a snap: a link to snap(8), or Ubuntu's script that calls one."""
    try:
        with Path(path).open("rb") as file:
            return Path(path).resolve().name == "snap" or b"/snap/bin/" in file.read(4096)
    except OSError:
        return False


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/bin")


def no_user_namespaces() -> tuple[str, str] | None:
    """Return why a browser gets no namespaces of its own for its sandbox, and the fix; None where it gets them."""
    for setting, refusing in (("kernel.unprivileged_userns_clone", "0"), ("user.max_user_namespaces", "0")):
        try:
            value = (SETTINGS / setting.replace(".", "/")).read_text("ascii").strip()
        except OSError:
            continue
        if value == refusing:
            good = "1" if setting.startswith("kernel") else "10000"
            return f"{setting} is {value}", _set_sysctl(setting, good)
    return _refused_by_apparmor()


def _set_sysctl(setting: str, value: str) -> str:
    """Return how to change a setting of the kernel from where it can be changed: a container may not."""
    command = f"sysctl -w {setting}={value}"
    if not os.statvfs(SETTINGS).f_flag & os.ST_RDONLY:
        return f"{command} (to stay: in /etc/sysctl.d/); in a container, on its host"
    # What begins with user. is counted for each container that has users of its own (namespaces(7)).
    if setting.startswith("user.") and USERS.read_text("ascii").split() != _ALL_USERS:
        return (
            f"on its host: nsenter --target=PID --user {command}; PID is the container's first process there; to stay: change "
            "what sets it when the container starts"
        )
    return f"this is a container, so on its host: {command} # to stay: in /etc/sysctl.d/"


def _refused_by_apparmor() -> tuple[str, str] | None:
    """Return what keeps a server under Ubuntu's restriction; None where there is none, or the profile lifts it."""
    try:
        restricted = (KERNEL / "apparmor_restrict_unprivileged_userns").read_text("ascii").strip() == "1"
        profiles = PROFILES.read_text("utf-8") if restricted else ""
    except OSError:
        return None  # no such kernel; or not root, who alone sees which profiles there are
    if not restricted or "whatsapp-server (" in profiles:
        return None
    return (
        "AppArmor lets only programs with a profile make user namespaces, and the profile whatsapp-server is not loaded",
        (
            "apparmor_parser -r /etc/apparmor.d/whatsapp-server, then waportctl restart --all; or for all programs: "
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (to stay: in /etc/sysctl.d/)"
        ),
    )
