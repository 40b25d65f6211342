"""Measures how long the users of a host that dies are without a session, on three booted machines; prints seconds as JSON.

/usr/bin/python3 tests/guest/failover.py PACKAGE.deb USERS
"""

import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tools"), str(ROOT)]

from fleet_machines import fleet_on  # noqa: E402
from harness import until  # noqa: E402
from machines import installing, needed_by, shown_to  # noqa: E402
from testbed import guests  # noqa: E402

RELEASE = "trixie"


def measure(hosts, users):
    """Return the seconds from the end of a dead host's lease until all its users are ready on the others."""
    dies, *others = hosts
    for host in others:  # so that all users are made on the first one
        host.ctl("host", "drain", host.name, "--yes")
    for user in users:
        dies.site.link_light(user)
    for host in others:
        host.ctl("host", "activate", host.name)
    dies.ctl("restart", "--all", "--yes")
    enough = f"each of {len(users)} logins is on 2 other hosts"
    until(lambda: enough in dies.machine.run("waportctl", "fleet", "doctor", check=False).stdout, enough)
    for user in users:
        dies.site.until_session(user, "ready")
    dies.machine.cut_off()
    until(lambda: not is_alive(others[0], dies.name), "the end of its lease")
    gone = time.monotonic()
    until(lambda: len(ready(others)) == len(users), "all sessions on the others")
    return time.monotonic() - gone


def is_alive(host, name):
    return any(one["name"] == name and one["alive"] for one in host.site.call("GET", "/v1/hosts")["hosts"])


def ready(hosts):
    rows = [row for host in hosts for row in host.site.call("GET", "/v1/users?host=self")["users"]]
    return {row["user"] for row in rows if row["session"] and row["session"]["state"] == "ready"}


def main():
    package, count = Path(sys.argv[1]), int(sys.argv[2])
    users = [str(number) for number in range(1, count + 1)]
    with (
        tempfile.TemporaryDirectory() as folder,
        guests.prepared_root(RELEASE, needed_by(package)) as root,
        guests.prepared(root, installing(package), shown=shown_to(package)) as written,
        fleet_on([(root, written)] * 3, package, Path(folder), RELEASE) as hosts,
    ):
        json.dump(measure(hosts, users), sys.stdout)


if __name__ == "__main__":
    main()
