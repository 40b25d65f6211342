"""A host of a fleet dies: how long its users are without a session. On three booted machines, with the package installed.

The servers have no browser, so this is the fleet's own part; what a browser takes stands among the sessions. Times of
the fleet are those of its tests (tests/guest/fleet_machines.py): leases of 9 s, users are taken 2 s after their end.
"""

import json
import subprocess
import sys

from bench import place
from bench.measure import Row, row, value_at_most

USERS = 30


def rows(*, quick: bool) -> list[Row]:
    """Measure it once: a second round would begin with another fleet. Needs root, and `make deb`."""
    users = 6 if quick else USERS
    [package] = (place.ROOT / "dist").glob("waportd_*_all.deb")
    # A process of its own: its modules have names that others have here.
    command = [sys.executable, place.ROOT / "tests/guest/failover.py", package, str(users)]
    took = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return [
        row(
            f"{users} users of a host that has died are ready on two others",
            "the end of its lease",
            "s",
            [took],
            target=value_at_most(15, "s"),
        )
    ]
