"""What daemon, servers and systemd of a user's own manager said, in the report of a failed test."""

import subprocess


def add_to(report, when):
    """Put the end of the journal into a report, unless the test held; ``when`` is the phase that it is of."""
    if report.failed and when in {"setup", "call"}:
        log = subprocess.run(
            ["journalctl", "--user", "--no-pager", "-o", "short-precise", "-n", "150"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        report.sections.append(("journal", log.stdout or log.stderr))
