"""``doctor``: all checks at once, each with what mends it."""

import dataclasses

from waportd.cli import checks, look
from waportd.cli.checks import Site, Verdict
from waportd.cli.exits import Exit, Problem
from waportd.cli.main import Context


def run(context: Context) -> int:
    """Check everything; needs no daemon. Fails where a check fails, not for a warning."""
    options = context.options
    if options.engine and (options.user or not options.upstream):
        raise Problem("--engine is for --upstream without --user", exit_status=Exit.USAGE, code="usage")
    if options.upstream:
        return look.run(context)
    if options.user:
        raise Problem("--user is for --upstream", exit_status=Exit.USAGE, code="usage")
    site = Site(context.socket, context.options.config, offline=context.options.offline)
    findings = checks.examine(site)
    failed = sum(finding.verdict is Verdict.FAIL for finding in findings)
    if context.screen.as_json:
        context.screen.document(
            {"ok": not failed, "findings": [dataclasses.asdict(finding) for finding in findings]}
        )
        return Exit.FAILED if failed else Exit.OK
    context.screen.findings(
        [(str(found.verdict), found.check, found.message, found.fix) for found in findings]
    )
    warned = sum(finding.verdict is Verdict.WARN for finding in findings)
    skipped = sum(finding.verdict is Verdict.SKIP for finding in findings)
    summary = [f"{failed} failed, {warned} to look at, {len(findings) - failed - warned - skipped} fine"]
    if skipped:
        summary.append(f"{skipped} not looked at")
    context.screen.text(f"\n{'; '.join(summary)}.")
    return Exit.FAILED if failed else Exit.OK
