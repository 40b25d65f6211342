"""Tries another engine on a few users before all users get it.

Each must get as far as before in the usual time; otherwise all of them are switched back.
"""

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from waportd.cli.exit_status import Problem
from waportd.client import Client, UnknownUser, User, WaportdClientError

LEAST, _MOST = 60.0, 600.0
"""Seconds: the least and the most that the limit of a user can be."""
_UNKNOWN = 180.0
"""Seconds for a user whose usual time is not known."""
_SLOWER = 3.0
"""By what factor a start may take longer than the one before."""
_DEAD_ENDS = {"error", "qr_timeout", "logged_out"}
POLL = 0.5
"""Seconds between two looks at a server that is watched."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one user."""

    user: str
    goal: str
    """``ready``, or ``qr`` where no phone is linked."""
    reached: bool
    seconds: float
    """How long it took, or was waited for."""
    limit: float
    why: str | None = None
    """Why it was not reached."""

    def __str__(self) -> str:
        what = "connected" if self.goal == "ready" else "shows a code"
        if self.reached:
            return f"user {self.user}: {what} after {self.seconds:.0f} s"
        return f"user {self.user}: not {what.removeprefix('shows ')} after {self.seconds:.0f} s: {self.why}"

    @property
    def document(self) -> dict[str, Any]:
        """The same in JSON."""
        return {**asdict(self), "seconds": round(self.seconds, 1), "limit": round(self.limit, 1)}


def candidates(users: Sequence[User], count: int) -> list[User]:
    """Return the users that an engine is tried on; none with an engine of their own.

    First connected users, then those that show a code, then linked users that fail now: on a bad day there may be
    no others, on a good day they fail for reasons of their own.
    """

    def rank(user: User) -> int:
        return 2 if not _is_there(user) else 0 if user.linked else 1

    fit = [
        user
        for user in users
        if user.process.state == "running" and not user.own_engine and (user.linked or _is_there(user))
    ]
    return sorted(fit, key=rank)[:count]


def _is_there(user: User) -> bool:
    """Return whether a user's server is as far as it gets: connected, or showing a code."""
    session = user.session
    return user.ready or (session is not None and session.answering and session.state == "qr")


def limit_for(user: User) -> float:
    """Return the seconds in which the user's server must get as far as it is now.

    Three times what its last start took, if its times show that: 60 at least, 600 at most. For one that fails now it
    is 180.
    """
    session = user.session
    if not _is_there(user) or session is None or session.since is None or user.process.since is None:
        return _UNKNOWN
    usual = (session.since - user.process.since).total_seconds()
    return min(max(LEAST, _SLOWER * usual), _MOST)


class Trial:
    """Switches users to an engine one by one, and back where one of them fails."""

    def __init__(self, client: Client, engine: str, report: Callable[[str], None]) -> None:
        self._client = client
        self._engine = engine
        self._report = report
        self.switched: list[User] = []
        """As each was before, in the order in which they were switched."""
        self.outcomes: list[Outcome] = []

    def switch(self, user: User, limit: float | None, watch: float) -> Outcome:
        """Start the user's server with the engine, see how far it gets, and keep the outcome."""
        self.switched.append(user)
        self._client.set_options(user.user, engine=self._engine)
        outcome = reach(self._client, user, limit or limit_for(user), watch, self._engine)
        self._report(str(outcome))
        self.outcomes.append(outcome)
        return outcome

    def settle(self) -> dict[str, str]:
        """Let the users follow the configuration again, which names the engine now: nothing restarts.

        Returns those for which this failed, and why.
        """
        failed = {}
        for user in self.switched:
            try:
                self._client.set_options(user.user, engine=None)
            except UnknownUser:  # deleted meanwhile
                continue
            except WaportdClientError as error:
                failed[user.user] = getattr(error, "detail", None) or str(error)
        return failed

    def undo(self) -> list[str]:
        """Start the switched users as before; return those for which this failed."""
        failed = [user.user for user in reversed(self.switched) if not self._give_back(user)]
        self.switched.clear()
        return failed

    def _give_back(self, user: User) -> bool:
        try:
            self._client.set_options(user.user, engine=None)
            if not _is_there(user):
                self._client.restart(user.user)
                self._report(f"back: user {user.user}: not connected, as before")
                return True
            outcome = reach(self._client, user, limit_for(user), 0.0, None)
        except WaportdClientError as error:
            self._report(f"user {user.user}: not back: {error}")
            return False
        self._report(f"back: {outcome}")
        return outcome.reached


def reach(client: Client, user: User, limit: float, watch: float, engine: str | None) -> Outcome:
    """Restart a user's server, and return whether it gets connected, or to a code, within ``limit`` seconds.

    It must then stay so for ``watch`` seconds, and run the engine, where one is named.
    """
    goal = "ready" if user.linked else "qr"
    began, clock = time.monotonic(), dt.datetime.now(dt.UTC)

    def outcome(why: str | None) -> Outcome:
        return Outcome(user.user, goal, why is None, time.monotonic() - began, limit, why)

    try:
        client.restart(user.user)
        while True:
            shown = client.status(user.user)
            # What the previous server said last does not count.
            is_new = (
                shown.session is not None and shown.session.since is not None and shown.session.since >= clock
            )
            if is_new and (shown.ready or (goal == "qr" and _is_there(shown))):
                break
            if why := _given_up(shown, is_new=is_new):
                return outcome(why)
            if time.monotonic() - began > limit:
                return outcome(_words(shown))
            time.sleep(POLL)
        reached = outcome(other_engine(shown, engine))
        end = time.monotonic() + watch
        while reached.reached and time.monotonic() < end:
            time.sleep(min(POLL, watch))
            now = client.status(user.user)
            if now.process.pid != shown.process.pid:
                return outcome(f"it ended: {now.process.message}")
            if (why := _given_up(now, is_new=True)) or (goal == "ready" and not now.ready):
                return outcome(why or _words(now))
    except WaportdClientError as error:
        return outcome(getattr(error, "detail", None) or str(error))
    return reached


def other_engine(user: User, engine: str | None) -> str | None:
    """Return why a user's server does not count: it runs another engine; None where it counts, or ``engine`` is None."""
    upstream = user.session.upstream if user.session else None
    if engine is None or (upstream is not None and upstream.engine == engine):
        return None
    return f"its server runs engine {upstream.engine if upstream else 'unknown'}"


def _given_up(user: User, *, is_new: bool) -> str | None:
    """Return why a server gets no further; None where it still may."""
    dead_end = is_new and user.session is not None and user.session.state in _DEAD_ENDS
    return _words(user) if dead_end or user.process.state in {"failed", "crash_loop"} else None


def _words(user: User) -> str:
    """Return how far a server is, in words."""
    return f"{user.summary.state}: {user.summary.message}"


def none_to_try() -> Problem:
    """Return the problem of an engine that can be tried on no user."""
    return Problem(
        "there is no user to try it on: no running server has a linked phone or shows a code",
        "`waportctl qr USER` shows a code; without --canary the engine is used for all at once",
        code="no_canary",
    )
