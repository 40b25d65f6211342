"""``doctor --upstream``: a look at WhatsApp's page with a browser of our own, or by a user's server."""

from typing import Any

from waportd import __version__, engines
from waportd.cli import terminal, trial
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.cli.locate import need_readable, read_config
from waportd.cli.trial import TrialError
from waportd.cli.upstream import Verdict, code_words, judge, judge_server, rows
from waportd.client import Upstream
from waportd.errors import ConfigError


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
    path, engine = context.options.config, context.options.engine
    need_readable(path)
    try:
        config = read_config(path)
    except ConfigError as error:
        raise _no_look(error.message, error.hint) from error
    if engine and (refused := engines.refusal(engine, config)):
        raise _no_look(*refused)
    if context.screen.interactive and not context.screen.as_json:
        terminal.complain("Checking web.whatsapp.com; this takes a minute at most …")
    try:
        return trial.run(config, "upstream.js", engine)
    except TrialError as error:
        why = f"WhatsApp's page could not be checked: {error.message}"
        raise _no_look(why, error.hint or "waportctl doctor") from error
