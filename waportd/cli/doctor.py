"""``doctor``: all checks at once, each with its fix."""

import collections
import dataclasses
from typing import TYPE_CHECKING

from waportd.cli.arguments import CONFIG_FILE, engine
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.command_line import argument, flag

if TYPE_CHECKING:
    from waportd.cli.checks import Finding

COMMANDS = Commands()


@COMMANDS.add(
    "doctor",
    "check everything that waportd needs, and say how to fix it",
    """
    Checks the configuration, programs, systemd, the service, users, memory, disk and the way to WhatsApp; on a host of
    a fleet also certificate, engine, lease and logins. For what is wrong it shows a command or a change that fixes it.
    It changes nothing, and needs no daemon; run it as root to check all. Exit status 0: nothing failed, though there may be warnings. Exit status 1: something failed.

    With --upstream, it only checks WhatsApp's page: it loads the page in a browser of its own without a login, up to a
    code that nobody scans. Its exit statuses are special: 0 the page is as it is known, 1 some features are affected,
    2 no code or no session, 3 the page was not reached or refused this browser.
    """,
    CONFIG_FILE,
    flag("--offline", help="do not try to reach WhatsApp"),
    flag("--upstream", help="only check WhatsApp's page"),
    argument("--user", metavar="USER", help="with --upstream: what the user's server has found, logged in"),
    argument(
        "--engine",
        metavar="ENGINE",
        type=engine,
        help="with --upstream: look with this version of whatsapp-web.js (default: that of the configuration)",
    ),
    examples={
        "check everything": "sudo waportctl doctor",
        "see whether WhatsApp has changed its page": "sudo waportctl doctor --upstream",
        "see what the server of user 2 has found": "waportctl doctor --upstream --user 2",
    },
    also=("check", "diagnose"),
)
def run(context: Context) -> int:
    """Check everything; needs no daemon. Fails where a check fails, not for a warning."""
    from waportd.cli import checks, look
    from waportd.cli.checks import Host

    options = context.options
    if options.engine and (options.user or not options.upstream):
        raise Problem("--engine needs --upstream, without --user", exit_status=Exit.USAGE, code="usage")
    if options.upstream:
        return look.run(context)
    if options.user:
        raise Problem("--user needs --upstream", exit_status=Exit.USAGE, code="usage")
    return report(context, checks.examine(Host(context.socket, options.config, offline=options.offline)))


def report(context: Context, found: "list[tuple[str, Finding]]") -> Exit:
    """Show findings, each with its check's name; return FAILED where one is a failure."""
    from waportd.cli.checks import Verdict

    count = collections.Counter(finding.verdict for _, finding in found)
    status = Exit.FAILED if count[Verdict.FAIL] else Exit.OK
    if context.screen.as_json:
        findings = [{"check": check, **dataclasses.asdict(finding)} for check, finding in found]
        context.screen.document({"ok": status is Exit.OK, "findings": findings})
        return status
    context.screen.findings(
        [(finding.verdict, check, finding.message, finding.fix) for check, finding in found]
    )
    warnings = "1 warning" if count[Verdict.WARN] == 1 else f"{count[Verdict.WARN]} warnings"
    summary = [f"{count[Verdict.FAIL]} failed, {warnings}, {count[Verdict.OK]} passed"]
    if count[Verdict.SKIP]:
        summary.append(f"{count[Verdict.SKIP]} not checked")
    context.screen.text(f"\n{'; '.join(summary)}.")
    return status
