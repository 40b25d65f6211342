"""An engine and other members that lie in a folder: a keeper in a process of its own reads there how they answer.

    {"engine": "up" | "refuses" | "hangs" | "is newer", "lease": [id, incarnation], "ends_s": …, "members": {"b": …}}

Times are those of CLOCK_BOOTTIME. The file ``renewals`` has the begin of each renewal that succeeded.
"""

import asyncio
import contextlib
import fcntl
import json
import time

from waportd.errors import StoreTooNewError
from waportd.fleet.engine import EngineUnavailable, Lease, LeaseLost, NameTaken


def now():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Folder:
    """What engine and members share."""

    def __init__(self, path):
        self.path = path

    def begin(self):
        """Start a fleet without any lease."""
        (self.path / "renewals").write_text("")
        (self.path / "state").write_text(
            json.dumps({"engine": "up", "lease": None, "ends_s": 0, "count": 1, "members": {}})
        )

    @contextlib.contextmanager
    def state(self):
        """Hold the state; what is changed in it is kept."""
        with (self.path / "state").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            state = json.load(file)
            yield state
            file.seek(0)
            file.truncate()
            json.dump(state, file)

    def set(self, **values):
        """Have engine and members answer otherwise from now on."""
        with self.state() as state:
            state.update(values)

    def lease(self):
        """Return id and incarnation of the lease that lives; None for none."""
        with self.state() as state:
            return state["lease"] if now() < state["ends_s"] else None

    def renewals(self):
        """Return when the renewals that succeeded began."""
        return [float(line) for line in (self.path / "renewals").read_text().splitlines()]


class Engine:
    """The calls of an engine that a keeper makes."""

    def __init__(self, folder):
        self._folder = folder

    @contextlib.asynccontextmanager
    async def _answers(self):
        with self._folder.state() as state:
            how = state["engine"]
            if how == "up":
                yield state
                return
        if how == "hangs":
            await asyncio.Event().wait()
        if how == "is newer":
            raise StoreTooNewError("the fleet is one of a newer waportd", hint="upgrade this host")
        raise EngineUnavailable("the engine refuses connections")

    async def acquire(self, host, ttl_s):
        async with self._answers() as state:
            if now() < state["ends_s"] and state["lease"]:
                raise NameTaken(f"a live host is named {host}", hint="give this one another name")
            state["count"] += 1
            state["lease"] = [7, state["count"]]
            state["ends_s"] = now() + ttl_s
            return Lease(host, *state["lease"], ttl_s)

    async def renew(self, lease):
        begun = now()
        async with self._answers() as state:
            if now() >= state["ends_s"] or state["lease"] != [lease.id, lease.incarnation]:
                raise LeaseLost("the engine has no such lease", hint="a new one is taken")
            state["ends_s"] = now() + lease.ttl_s
            with (self._folder.path / "renewals").open("a") as file:
                file.write(f"{begun}\n")

    async def release(self, lease):
        async with self._answers() as state:
            if state["lease"] == [lease.id, lease.incarnation]:
                state["lease"] = None


class Peers:
    """The other members, each with the word that it answers."""

    def __init__(self, folder):
        self._folder = folder

    def others(self):
        with self._folder.state() as state:
            return tuple(state["members"])

    async def renew(self, host, lease):
        with self._folder.state() as state:
            return state["members"][host]
