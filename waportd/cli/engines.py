"""``engine list``, ``install``, ``pack``, ``use``, ``rollback``, ``remove``: which whatsapp-web.js the servers run."""

import dataclasses
import datetime as dt
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from waportd import engines
from waportd.cli import bounded, canary, compiled_engines, config_file, engine_files, terminal
from waportd.cli.canary import Outcome, Trial
from waportd.cli.context import Context
from waportd.cli.engine_files import History, Shelf
from waportd.cli.exit_status import Exit, Problem
from waportd.cli.locate import configuration, need_root
from waportd.client import User, WaportdUnavailable
from waportd.config import Bus, Config

RELOAD_LIMIT = 20.0
"""Seconds until a reload must have been taken over."""
_POLL = 0.1
DEFAULT = "default"
"""In place of an engine: that of the configuration."""


def list_engines(context: Context) -> Exit:
    """List what there is, and who uses it."""
    config = configuration(context.options.config)
    try:
        users = context.client.users(host="self")
    except WaportdUnavailable:
        users = None
    shown = [_shown(engine, config, users) for engine in engines.installed(config)]
    history = engine_files.read_history(config)
    if context.screen.as_json:
        context.screen.document(
            {
                "default": config.instances.engine,
                "previous": history.previous,
                "canaries": history.canaries,
                "web_version": config.instances.web_version or None,
                "folder": str(config.engines),
                "engines": shown,
            }
        )
        return Exit.OK
    rows = [
        [
            engine["engine"] + (" *" if engine["default"] else ""),
            engine["library"],
            engine["source"] or "waportd",
            terminal.age(_moment(engine["installed_at"])),
            *(("?", "?") if users is None else (str(len(engine["users"])), str(len(engine["running"])))),
            engine["integrity"],
        ]
        for engine in shown
    ]
    context.screen.table(("ENGINE", "LIBRARY", "FROM", "AGE", "USERS", "RUN IT", "INTEGRITY"), rows)
    if history.canaries:
        context.screen.text("A trial was interrupted: `waportctl engine rollback` ends it.")
    if config.instances.web_version:
        context.screen.text(
            f"All servers load a pinned page, {config.instances.web_version} (instances.web_version)."
        )
    return Exit.OK


def install(context: Context) -> Exit:
    """Install another version beside the others."""
    options, config = context.options, configuration(context.options.config)
    if (options.version is None) == (options.file is None):
        raise Problem("name a version, or a file with --file", None, Exit.USAGE, "bad_request")
    need_root(config, "install an engine")
    with engine_files.opened(config) as shelf:
        if options.version is not None:
            _say(context, f"Fetching whatsapp-web.js {options.version} …")
            made = shelf.install(options.version, options.integrity)
        else:
            made = shelf.install_file(options.file, options.integrity)
        compiled_engines.compile_engine(shelf, made.name, config)
    if context.screen.as_json:
        about = {"engine": made.name, "folder": str(made.folder), "integrity": made.integrity}
        context.screen.document({**about, "source": made.source, "pinned": made.pinned})
        return Exit.OK
    context.screen.text(f"engine {made.name}: installed in {made.folder}")
    if not made.pinned:
        whose = "as the registry has it" if made.source == "npm" else "of the file"
        context.screen.text(
            f"Its integrity, {whose}: {made.integrity}\nPass it to --integrity when you install it on other hosts."
        )
    context.screen.text(f"No server runs it yet: waportctl engine use {made.name} --canary 1")
    return Exit.OK


def compile_all(context: Context) -> Exit:
    """Compile versions for this host's node."""
    config = configuration(context.options.config)
    need_root(config, "compile an engine")
    names = context.options.engine or [engine.name for engine in engines.installed(config)]
    for name in names:
        if refused := engines.refusal(name, config):
            raise Problem(*refused, code="unknown_engine")
    with engine_files.opened(config) as shelf:
        made = {name: compiled_engines.compile_engine(shelf, name, config) for name in names}
    if context.screen.as_json:
        context.screen.document({"compiled": {name: str(path) for name, path in made.items()}})
    else:
        for name, path in made.items():
            context.screen.text(f"engine {name}: compiled, {terminal.size(path.stat().st_size)}")
    return Exit.OK


def pack(context: Context) -> Exit:
    """Write an engine into a file, for hosts that do not reach the registry; needs no daemon."""
    options, config = context.options, configuration(context.options.config)
    output = options.output or Path(f"waportd-engine-{options.version}.tgz")
    _say(context, f"Packing whatsapp-web.js {options.version} …")
    integrity = engine_files.pack(options.version, config, output, options.integrity)
    if context.screen.as_json:
        context.screen.document({"engine": options.version, "file": str(output), "integrity": integrity})
    else:
        context.screen.text(
            f"{output}: on the other host, waportctl engine install --file {output.name} --integrity {integrity}"
        )
    return Exit.OK


def use(context: Context) -> Exit:
    """Make an engine the one that servers start with: for all, for some users, or for all after a trial."""
    options, config = context.options, configuration(context.options.config)
    if options.user and options.canary:
        raise Problem(
            "--canary chooses the users: do not use it with --user", None, Exit.USAGE, "bad_request"
        )
    if options.engine == DEFAULT and not options.user:
        raise Problem("default needs users: --user USER", None, Exit.USAGE, "bad_request")
    if options.engine != DEFAULT and (refused := engines.refusal(options.engine, config)):
        raise Problem(*refused, code="unknown_engine")
    if options.user:
        return _use_for_users(context, options.user)
    need_root(config, "set the engine of all users")
    if options.engine == config.instances.engine:
        raise Problem(f"engine {options.engine} is already the default", code="no_change")
    with engine_files.opened(config) as shelf:
        if engine_files.read_history(config).canaries:
            raise Problem(
                "a trial was interrupted", "`waportctl engine rollback` ends it", code="trial_unfinished"
            )
        # Before anything restarts.
        config_file.set_key(options.config, "instances", "engine", options.engine, write=False)
        if options.canary:
            return _use_after_trial(context, config, shelf)
        if not context.agreed(f"Start all servers with engine {options.engine} from now on?"):
            return Exit.FAILED
        _set_default(context, config, shelf, options.engine)
        outcomes = _restarted(context)
    return _used(context, config, options.engine, outcomes)


def rollback(context: Context) -> Exit:
    """Go back to the engine before, or end a trial that was cut short."""
    config = configuration(context.options.config)
    need_root(config, "set the engine of all users")
    with engine_files.opened(config) as shelf:
        history = engine_files.read_history(config)
        if history.canaries:
            return _end_trial(context, config, shelf, history)
        previous = history.previous
        if previous is None:
            raise Problem(
                "there is no earlier engine",
                "`waportctl engine use` chooses one",
                code="no_previous",
            )
        if refused := engines.refusal(previous, config):
            raise Problem(*refused, code="unknown_engine")
        if not context.agreed(f"Start all servers with engine {previous} again?"):
            return Exit.FAILED
        _set_default(context, config, shelf, previous)
        outcomes = _restarted(context)
    return _used(context, config, previous, outcomes)


def remove(context: Context) -> Exit:
    """Remove an engine that nobody uses."""
    name, config = context.options.version, configuration(context.options.config)
    need_root(config, "remove an engine")
    with engine_files.opened(config) as shelf:
        if refused := engines.refusal(name, config):
            raise Problem(*refused, code="unknown_engine")
        if name == config.instances.engine:
            raise _in_use(name, "it is the default (instances.engine)", "waportctl engine use bundled")
        # Who uses it, only the daemon knows: without it nothing is removed.
        users = context.client.users(host="self")
        if chosen := [user.user for user in users if user.engine == name]:
            hint = f"waportctl engine use default {_named(chosen, '--user ')}"
            raise _in_use(name, f"it is the engine of user {_named(chosen)}", hint)
        if running := [user.user for user in users if _runs(user) == name]:
            hint = "; ".join(f"waportctl restart {user}" for user in running[:3])
            raise _in_use(name, f"the servers of user {_named(running)} run it", hint)
        if silent := [user.user for user in users if _may_run_any(user)]:
            hint = "; ".join(f"waportctl restart {user}" for user in silent[:3])
            raise _in_use(
                name, f"the servers of user {_named(silent)} do not say which engine they run", hint
            )
        shelf.remove(name)
        compiled_engines.forget(name, config)
        if engine_files.read_history(config).previous == name:
            shelf.write_history(History())
    if context.screen.as_json:
        context.screen.document({"removed": name})
    else:
        context.screen.text(f"engine {name}: removed")
    return Exit.OK


# How engines are set


def _use_for_users(context: Context, names: Sequence[str]) -> Exit:
    engine = None if context.options.engine == DEFAULT else context.options.engine
    shown = [context.client.set_options(name, engine=engine) for name in names]
    outcomes = _restarted(context, shown)
    if context.screen.as_json:
        context.screen.document({"users": [user.raw for user in shown], **_outcome_documents(outcomes)})
    elif not outcomes:
        for user in shown:
            context.screen.text(
                f"user {user.user}: engine {user.engine} from the next start: waportctl restart {user.user}"
            )
    return _status_of(outcomes)


def _use_after_trial(context: Context, config: Config, shelf: Shelf) -> Exit:
    options = context.options
    chosen = canary.candidates(context.client.users(host="self"), options.canary)
    if not chosen:
        raise canary.none_to_try()
    names = _named([user.user for user in chosen])
    few = " (all there are)" if len(chosen) < options.canary else ""
    if not context.agreed(
        f"Restart the servers of user {names}{few} with engine {options.engine}, and then use it for all?"
    ):
        return Exit.FAILED
    _say(context, f"Trying engine {options.engine} on user {names}{few} …")
    trial = Trial(context.client, options.engine, lambda text: _say(context, text))
    before = engine_files.read_history(config)
    shelf.write_history(dataclasses.replace(before, canaries=[user.user for user in chosen]))
    try:
        reached = all(trial.switch(user, options.limit, options.watch).reached for user in chosen)
        if reached:
            _set_default(context, config, shelf, options.engine)
    except BaseException:
        # After Ctrl-C, too: nothing stays half done.
        _undo(trial, shelf, before)
        raise
    if reached:
        _settle(trial, shelf, options.engine)
        return _used(context, config, options.engine, trial.outcomes)
    stuck = _undo(trial, shelf, before)
    if context.screen.as_json:
        document = {"engine": config.instances.engine, "tried": options.engine, "rolled_back": True}
        context.screen.document({**document, "not_back": stuck, **_outcome_documents(trial.outcomes)})
    elif stuck:
        context.screen.text(f"The engine is {config.instances.engine} again; check user {_named(stuck)}.")
    else:
        context.screen.text(f"Rolled back: all users have engine {config.instances.engine}, as before.")
    return Exit.ROLLED_BACK


def _settle(trial: Trial, shelf: Shelf, engine: str) -> None:
    """Have the tried users follow the configuration, which names the engine now; note those for which this fails."""
    stuck = trial.settle()
    shelf.write_history(dataclasses.replace(shelf.history, canaries=list(stuck)))
    if stuck:
        why = next(iter(stuck.values()))
        raise Problem(
            f"engine {engine} is the default now, but user {_named(list(stuck))} still has it as their own engine: "
            f"{why}",
            "`waportctl engine rollback` ends the trial; run it again to go back to the engine before",
            code="trial_unfinished",
        )


def _undo(trial: Trial, shelf: Shelf, before: History) -> list[str]:
    """Undo a trial; return the users that could not be brought back to where they were."""
    stuck = trial.undo()
    shelf.write_history(before)
    return stuck


def _end_trial(context: Context, config: Config, shelf: Shelf, history: History) -> Exit:
    """Undo the switches of a killed trial."""
    trial = Trial(context.client, "", lambda text: _say(context, text))
    known = [
        user
        for user in context.client.users(host="self")
        if user.user in history.canaries and user.own_engine
    ]
    trial.switched.extend(known)
    stuck = _undo(trial, shelf, dataclasses.replace(history, canaries=[]))
    if context.screen.as_json:
        context.screen.document(
            {"rolled_back": True, "users": [user.user for user in known], "not_back": stuck}
        )
    else:
        context.screen.text("The trial is over; all users have the engine of the configuration.")
        if history.previous not in {None, config.instances.engine}:
            context.screen.text(
                f"That is {config.instances.engine}. Back to {history.previous}: waportctl engine rollback"
            )
    return Exit.FAILED if stuck else Exit.OK


def _set_default(context: Context, config: Config, shelf: Shelf, engine: str) -> None:
    """Write the engine into the configuration, and have the daemon use it; else leave all as it was.

    The old engine is noted first: however this call ends, one rollback restores it.
    """
    before, path, noted = config.instances.engine, context.options.config, shelf.history
    shelf.write_history(dataclasses.replace(noted, previous=before))
    try:
        config_file.set_key(path, "instances", "engine", engine)
        _reload(context, config, engine)
    except BaseException:
        config_file.set_key(path, "instances", "engine", before)
        shelf.write_history(noted)
        # It may have begun to use the other one.
        _ask_to_reload(config)
        raise


def _reload(context: Context, config: Config, engine: str) -> None:
    """Have the daemon read its configuration, and return when it has. One that does not run will when it starts."""
    try:
        context.client.request("GET", "/v1/health")
    except WaportdUnavailable as error:
        if error.reason in {"no_socket", "refused"}:
            return
        raise
    refused = _ask_to_reload(config)
    deadline = time.monotonic() + RELOAD_LIMIT
    while refused is None and time.monotonic() < deadline:
        if is_taken_over(context, engine):
            return
        time.sleep(_POLL)
    raise Problem(
        f"waportd does not use the new instances.engine: {refused or 'it continues as before'}",
        "the configuration is as it was; `journalctl -u waportd` shows why",
        code="reload_failed",
    )


def _ask_to_reload(config: Config) -> str | None:
    """Ask systemd to reload the daemon; return why it does not, None where it does."""
    user = [] if config.systemd.bus is Bus.SYSTEM else ["--user"]
    try:
        done = bounded.run(["systemctl", *user, "reload", "waportd.service"], seconds=RELOAD_LIMIT)
    except subprocess.TimeoutExpired:
        return f"`systemctl reload waportd` took more than {RELOAD_LIMIT:.0f} s"
    except OSError as error:
        return f"systemctl cannot be run: {error.strerror}"
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines()
    return terminal.plain(said[-1]) if said else "it continues as before"


def is_taken_over(context: Context, engine: str) -> bool:
    """Return whether the daemon knows the engine, and has updated the units of all who follow the configuration."""
    health = context.client.request("GET", "/v1/health").json()
    return health["engine"] == engine and all(
        user.own_engine or user.engine == engine for user in context.client.users(host="self")
    )


def _restarted(context: Context, users: Sequence[User] | None = None) -> list[Outcome]:
    """With --restart, restart servers that run another engine than they should: one by one, each up to where it was."""
    if not context.options.restart:
        return []
    outcomes = []
    for user in context.client.users(host="self"):
        if (users is None or user.user in {each.user for each in users}) and _runs(user) not in {
            None,
            user.engine,
        }:
            limit = canary.limit_for(user)
            outcomes.append(canary.reach(context.client, user, limit, 0.0, user.engine))
            _say(context, str(outcomes[-1]))
    return outcomes


def _used(context: Context, config: Config, engine: str, outcomes: Sequence[Outcome]) -> Exit:
    if context.screen.as_json:
        document = {"engine": engine, "previous": config.instances.engine, "rolled_back": False}
        context.screen.document({**document, **_outcome_documents(outcomes)})
        return _status_of(outcomes)
    context.screen.text(
        f"Servers start with engine {engine} from now on. Running servers keep theirs until they restart "
        f"(waportctl restart USER). Back to {config.instances.engine}: waportctl engine rollback"
    )
    return _status_of(outcomes)


def _outcome_documents(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {"outcomes": [outcome.document for outcome in outcomes]}


def _status_of(outcomes: Sequence[Outcome]) -> Exit:
    return Exit.OK if all(outcome.reached for outcome in outcomes) else Exit.FAILED


# What is known


def _shown(engine: engines.Engine, config: Config, users: Sequence[User] | None) -> dict[str, Any]:
    return {
        "engine": engine.name,
        "library": engine.library,
        "default": engine.name == config.instances.engine,
        "source": engine.source,
        "integrity": engine.integrity,
        "installed_at": engine.installed_at,
        "users": None if users is None else [user.user for user in users if user.engine == engine.name],
        "running": None if users is None else [user.user for user in users if _runs(user) == engine.name],
    }


def _runs(user: User) -> str | None:
    """Return the engine that the user's server runs; None where none runs, or it does not say."""
    session = user.session
    if user.process.state == "stopped" or session is None or session.upstream is None:
        return None
    return session.upstream.engine


def _may_run_any(user: User) -> bool:
    """Return whether a server runs with an unknown engine: it does not answer, or is starting or stopping."""
    session = user.session
    known = session is not None and session.answering and session.upstream is not None
    return not known and (user.process.pid is not None or user.process.state in {"starting", "stopping"})


def _in_use(name: str, why: str, hint: str) -> Problem:
    return Problem(f"engine {name} is not removed: {why}", hint, code="engine_in_use")


def _named(users: Sequence[str], before: str = "") -> str:
    most = 5
    more = f" and {len(users) - most} more" if len(users) > most else ""
    return (" " if before else ", ").join(f"{before}{user}" for user in users[:most]) + more


def _moment(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)


def _say(context: Context, text: str) -> None:
    """Report progress to a person."""
    if not context.screen.as_json:
        context.screen.text(text)
