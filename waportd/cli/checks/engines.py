"""The versions of whatsapp-web.js that users are to run, and the pinned page."""

import os
from pathlib import Path

from waportd import engines, files
from waportd.cli.checks.finding import Findings, fail, ok, warn
from waportd.cli.checks.host import Host
from waportd.cli.engine_files import folder_open

_UNSEEN = {"home", "root", "tmp", "run"}
"""Folders that a server cannot see, or has its own version of."""


def installed_engines(host: Host) -> Findings:
    """Check that the wanted versions of whatsapp-web.js are there, and safe from others; and the pinned page."""
    config, known = host.config, {engine.name: engine for engine in engines.installed(host.config)}
    name = config.instances.engine
    if refused := engines.refusal(name, config):
        yield fail(
            f"instances.engine: {refused[0]}",
            f"waportctl engine install {name}, or waportctl engine use bundled",
        )
    else:
        yield ok(f"{name} (whatsapp-web.js {known[name].library})")
    for user in host.users or []:
        if user.own_engine and user.engine not in known:
            yield fail(
                f"user {user.user} has engine {user.engine}, which is not installed",
                f"waportctl engine install {user.engine}, or waportctl engine use default --user {user.user}",
            )
    if config.engines.is_dir():
        owner = 0 if host.system else os.geteuid()
        if shared := files.open_to_others(config.engines.resolve(), owner):
            problem = folder_open(shared)
            yield fail(problem.message, problem.hint)
    if config.instances.web_version:
        yield from _pinned_page(Path(config.instances.web_version), host)


def _pinned_page(page: Path, host: Host) -> Findings:
    why = None
    if host.system and page.parts[1] in _UNSEEN:
        why = f"servers cannot see files in /{page.parts[1]}"
    else:
        try:
            shown = page.stat().st_mode & 0o004 and all(
                above.stat().st_mode & 0o001 for above in page.parents
            )
            if not page.is_file() or (host.system and not shown):
                why = "servers may not read it"
        except OSError as error:
            why = error.strerror
    if why:
        yield fail(
            f"the pinned page {page} cannot be used: {why}",
            "move it where everybody may read it, such as /etc/waportd-page.html, or remove instances.web_version",
        )
        return
    yield warn(
        f"instances.web_version: every server loads a pinned page, {page}, instead of WhatsApp's current one",
        "remove it as soon as an engine works without it: WhatsApp ends old pages without notice",
    )
