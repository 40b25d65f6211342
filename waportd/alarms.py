"""Reports when many users fail in the same way: then WhatsApp or the network is at fault, not the users. Pure.

The rule counts each cause apart, of those that WhatsApp or the network can bring about:

- A user *fails* while the session, or the unit, names that cause, and for ten minutes after: a session that retries
  is in other states meanwhile. A user who gets through, or is stopped or deleted, no longer fails.
- A user *gets through* by becoming ready; where no failing user has a linked phone, a code is enough.
- The alarm is raised when at least 3 users began to fail within the last ten minutes, when at least one in twenty of the
  servers that run fails, and when as many fail as got through in these ten minutes.
- It is over when at least 3 users, and more than fail, got through within the last ten minutes, or when fewer than 3
  fail: a few who fail for ever hold up nobody. They no longer count: the next alarm needs 3 who begin to fail later.

A daemon that has just started does not know since when its users fail, and all others may have got through long ago.
So in its first ten minutes half of the servers have to fail; and users who failed then do not count later.

Times are seconds of one clock that never goes back.
"""

import collections
import dataclasses
from collections.abc import Callable

from waportd.model import Desired, ProcessState, SessionState, User
from waportd.registry import Instance

WINDOW_S = 600.0
"""Seconds within which failures belong together. A session tries again after five minutes at most."""
_MIN_USERS = 3
"""How many users an alarm is about at least, and how many must get through before it is over."""
_SHARE = 1 / 20
_SHARE_AT_FIRST = 1 / 2

_LOOK = (
    "`waportctl doctor --upstream` says what changed; a newer waportd or another engine may know the new page: see \
docs/operations.md, 'The day WhatsApp changes'"
)
_PROXY = "`waportctl doctor` tries it; see instances.proxy and `waportctl proxy USER`"
_OTHER_WAY = "take another network, or a proxy"
_PHONES = (
    "open WhatsApp on the phones: it says why; send less from this host, and only to people who asked for it"
)
_NETWORK = "check network, DNS and proxy of this host: `waportctl doctor`"
SHARED = {
    "upstream_changed": ("WhatsApp's page has changed", _LOOK),
    "never_ready": (
        "logins are accepted and never become ready: WhatsApp's page has probably changed",
        _LOOK,
    ),
    "upstream_silent": ("WhatsApp's page gives neither a code nor a login", _LOOK),
    "upstream_unreachable": ("web.whatsapp.com cannot be reached", _NETWORK),
    "browser_refused": ("WhatsApp does not accept their browser", _LOOK),
    "version_refused": ("WhatsApp does not accept the version of its page any more", _LOOK),
    "page_lost": ("WhatsApp's page does not come back when it is reloaded", _LOOK),
    "auth_failure": ("WhatsApp refuses the stored logins", _LOOK),
    "login_missing": ("WhatsApp's page shows codes although phones are linked", _LOOK),
    "unpaired": ("WhatsApp says that they are not linked, but does not report a logout", _LOOK),
    "disconnected": ("WhatsApp ends the connection", _LOOK),
    "connection_lost": ("the connection to WhatsApp is lost", _NETWORK),
    "proxy_auth": ("the proxy rejects their name and password", _PROXY),
    "proxy_refused": ("the proxy does not let them through to WhatsApp", _PROXY),
    "proxy_unreachable": ("their proxy cannot be reached", _PROXY),
    "proxy_blocked": ("WhatsApp does not accept connections from this network", _OTHER_WAY),
    "account_blocked": ("WhatsApp has blocked their accounts", _PHONES),
    "account_banned": ("WhatsApp has banned their accounts", _PHONES),
    "passkey_button_missing": ("WhatsApp's page asks for passkeys in an unknown way", _LOOK),
    "pairing_refused": ("WhatsApp gives no pairing codes", _LOOK),
    "pairing_limited": (
        "WhatsApp gives no more pairing codes for now",
        "have people scan codes, and wait an hour",
    ),
}
"""What the users have in common, and how to fix it, by their cause."""
_PASSING = {"connection_lost", "unpaired"}
"""Causes that count once the session no longer waits for the page: a short network failure is no alarm."""


@dataclasses.dataclass(frozen=True, slots=True)
class Alarm:
    """Many users fail in the same way."""

    cause: str
    """What is wrong, as `Session.cause` and `Process.cause` name it."""
    began: float
    """When the first of them began to fail."""
    users: int
    """How many fail."""
    build: str | None
    """The version of WhatsApp's page that most of them have; None where the page did not say."""
    message: str
    hint: str


@dataclasses.dataclass(slots=True)
class _Failure:
    """How a user fails."""

    cause: str
    linked: bool
    build: str | None
    began: float
    """Since when the user fails without having got through."""
    seen: float
    """When the user was last seen to fail; infinity while it does."""


class Rule:
    """Follows the state of each user, and reports whether there is an alarm."""

    def __init__(self, now: float) -> None:
        self._started = now
        self._ended = float("-inf")
        """When the last alarm ended."""
        self._alarm: Alarm | None = None
        self._failures: dict[User, _Failure] = {}
        self._through: dict[User, tuple[float, bool]] = {}
        """When a user last got through, and whether the user became ready."""
        self._reached: dict[User, SessionState | None] = {}
        """How far a user got; None for one who did not get through."""

    def forget(self, user: User) -> None:
        """Take note that a user is gone."""
        for table in (self._failures, self._through, self._reached):
            table.pop(user, None)

    def note(self, instance: Instance, now: float, clock: float) -> None:
        """Take note of a change of a user's server. ``clock`` is the same moment in seconds since the epoch."""
        user = instance.assignment.user
        if (
            instance.process.state is ProcessState.STOPPED
            and instance.assignment.desired is not Desired.RUNNING
        ):
            self.forget(user)
            return
        cause = _trouble(instance)
        reached = _reached(instance)
        failure = self._failures.get(user)
        if cause is not None and cause in SHARED:
            self._failures[user] = _failed(instance, cause, failure, now)
            self._through.pop(user, None)
        elif failure is not None and failure.seen > now:
            failure.seen = now
        if reached is not None and reached is not self._reached.get(user):
            # What a daemon hears just after its start may have happened long ago.
            age = max(0.0, clock - instance.session.since) if instance.session else 0.0
            self._through[user] = (now - age, reached is SessionState.READY)
            if failure is not None and (reached is SessionState.READY or not failure.linked):
                self._failures.pop(user, None)
        self._reached[user] = reached

    def look(self, now: float, running: Callable[[], int]) -> Alarm | None:
        """Return the alarm that holds now; None where there is none. ``running`` counts the servers that run."""
        for user in [user for user, failure in self._failures.items() if now - failure.seen > WINDOW_S]:
            del self._failures[user]
        if self._alarm is not None:
            failing = self._failing(self._alarm.cause)
            if not self._is_over(failing, now):
                self._alarm = _alarm(failing, self._alarm.began)
                return self._alarm
            self._alarm = None
            self._ended = now
        causes = collections.Counter(failure.cause for failure in self._failures.values())
        for cause, _ in causes.most_common():
            failing = self._failing(cause)
            if (fresh := self._fresh(failing, now, running)) is not None:
                self._alarm = _alarm(failing, min(failure.began for failure in fresh))
                break
        return self._alarm

    def _failing(self, cause: str) -> list[_Failure]:
        return [failure for failure in self._failures.values() if failure.cause == cause]

    def _passed(self, failing: list[_Failure], after: float) -> int:
        """Count users who got further than those that fail, after that time."""
        code_is_enough = not any(failure.linked for failure in failing)
        return sum(at > after and (ready or code_is_enough) for at, ready in self._through.values())

    def _is_over(self, failing: list[_Failure], now: float) -> bool:
        if len(failing) < _MIN_USERS:
            return True
        return self._passed(failing, now - WINDOW_S) >= max(_MIN_USERS, len(failing) + 1)

    def _fresh(
        self, failing: list[_Failure], now: float, running: Callable[[], int]
    ) -> list[_Failure] | None:
        """Return those that count for an alarm; None where they raise none."""
        settled = self._started + WINDOW_S
        share, after = (
            (_SHARE_AT_FIRST, self._ended)
            if now < settled
            else (_SHARE, max(self._ended, settled, now - WINDOW_S))
        )
        fresh = [failure for failure in failing if failure.began >= after]
        if (
            len(fresh) < _MIN_USERS
            or len(failing) < share * running()
            or len(failing) < self._passed(failing, now - WINDOW_S)
        ):
            return None
        return fresh


def _trouble(instance: Instance) -> str | None:
    """Return the cause of what is wrong with a user's server."""
    process, session = instance.process, instance.session
    if process.state is not ProcessState.RUNNING:
        return process.cause
    if session is None or not instance.answering:
        return None
    passing = session.cause in _PASSING and session.state is not SessionState.ERROR
    return None if passing else session.cause


def _reached(instance: Instance) -> SessionState | None:
    session = instance.session
    if session is None or not instance.answering or session.cause is not None:
        return None
    if session.state is SessionState.PAIRING or session.passkey is not None:
        return SessionState.QR
    return session.state if session.state in {SessionState.QR, SessionState.READY} else None


def _failed(instance: Instance, cause: str, before: _Failure | None, now: float) -> _Failure:
    known = before if before is not None and before.cause == cause else None
    upstream = instance.session.upstream if instance.session else None
    return _Failure(
        cause,
        instance.assignment.linked,
        # A unit that failed does not show which page its server had.
        (upstream.build if upstream else None) or (before.build if before else None),
        began=known.began if known else now,
        seen=float("inf"),
    )


def _alarm(failing: list[_Failure], began: float) -> Alarm:
    cause = failing[0].cause
    builds = collections.Counter(failure.build for failure in failing if failure.build)
    build = builds.most_common(1)[0][0] if builds else None
    said, hint = SHARED[cause]
    return Alarm(
        cause, began, len(failing), build, f"{len(failing)} users fail in the same way: {said}", hint
    )
