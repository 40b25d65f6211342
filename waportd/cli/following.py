"""Follows how a phone gets linked: the states one after the other, and each in words."""

import datetime as dt
import time

from waportd.client import QR, Client, Session, WaportdUnavailable

LONG_POLL_S = 25.0
ENDS = {"ready", "qr_timeout", "logged_out", "failed", "crash_loop"}
"""States that do not change automatically. An error is retried, and a passkey is a person's next step."""
_PAUSE = 0.5
"""Seconds between two tries to reach the daemon."""


class Follower:
    """The code of one user, and what comes after it. A daemon that is restarted is back within two seconds."""

    def __init__(self, client: Client, user: str, timeout: float | None) -> None:
        """``timeout`` is after how many seconds `has_time` is over; None for never."""
        self._client = client
        self._user = user
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._lost_at: float | None = None
        self.shown = QR()
        """What was shown last."""
        self.trouble: str | None = None
        """Why nothing new is shown, where the daemon does not answer."""

    @property
    def has_time(self) -> bool:
        """Whether time is not up."""
        return self._deadline is None or time.monotonic() < self._deadline

    def now(self) -> QR:
        """Return how things are."""
        self.shown = self._client.qr(self._user)
        return self.shown

    def next(self, timeout: float) -> QR:
        """Return the new state, or after ``timeout`` seconds the old one. Raises WaportdUnavailable where nobody answers for 25 s."""
        if self._deadline is not None:
            timeout = min(timeout, max(0.0, self._deadline - time.monotonic()))
        try:
            self.shown = self._client.qr(self._user, timeout, self.shown)
        except WaportdUnavailable as error:
            self._lost_at = self._lost_at or time.monotonic()
            if time.monotonic() - self._lost_at > LONG_POLL_S:
                raise
            self.trouble = f"{error.message}; retrying …"
            time.sleep(min(timeout, _PAUSE))
        else:
            self._lost_at = self.trouble = None
        return self.shown


class Step:
    """The step that is shown to a person, once."""

    def __init__(self, user: str) -> None:
        self._user = user
        self._shown = QR()
        self._step: object = None

    @staticmethod
    def is_passkey(shown: QR) -> bool:
        """Return whether this is WhatsApp's step with the passkey."""
        return shown.passkey is not None or shown.status == "passkey_required"

    @property
    def passkey(self) -> bool:
        """Whether the present step is that one."""
        return self.is_passkey(self._shown)

    def changed(self, shown: QR) -> bool:
        """Take the current state; return whether that is another step, or the same with another request."""
        passkey = shown.passkey
        step = (
            shown.status,
            passkey and (passkey.stage, passkey.code, (passkey.options or {}).get("challenge")),
            shown.cause,
        )
        self._shown, before, self._step = shown, self._step, step
        return step != before

    def words(self, link: str) -> str:
        """Return what is asked now; ``link`` says where the connect page is."""
        shown, user = self._shown, self._user
        stage = shown.passkey.stage if shown.passkey else None
        if stage == "asked":
            return (
                f"user {user}: one more step: WhatsApp wants the passkey of this account{in_time(shown)}.\n"
                "Only the person whose account it is can give it, in a browser of their own: on a computer that has "
                "the passkey, or that is beside the phone, with Bluetooth on. Open the connect page there:\n"
                f"{link}\n"
                f"Or do it without that page: waportctl passkey {user}"
            )
        if stage == "code":
            assert shown.passkey is not None
            return (
                f"user {user}: WhatsApp shows {shown.passkey.code}. If the phone shows the same letters, confirm them on "
                f"the connect page, or type them here: waportctl passkey {user} --code LETTERS\n"
                f"If it shows other letters, somebody else is being linked: waportctl passkey {user} --cancel"
            )
        return message(user, shown)


def waits_for_passkey(session: Session) -> bool:
    """Return whether the next step is a person's, for which WhatsApp gives ten minutes: nothing is broken."""
    wanted = session.answering and session.state == "passkey_required"
    return wanted and session.cause in {None, "passkey_failed"}


def message(user: str, shown: QR) -> str:
    """Return how things are in waportd's own words."""
    # While a passkey is wanted the hint is for programs: what a person does next stands in `Step.words`.
    hint = f"\n{shown.hint}" if shown.hint and shown.passkey is None else ""
    return f"user {user}: {shown.message}{hint}"


def in_time(shown: QR) -> str:
    """Return within how many minutes the passkey is wanted, as the end of a clause; empty where that is not known."""
    if shown.passkey is None or shown.passkey.expires_at is None:
        return ""
    minutes = max(1, int((shown.passkey.expires_at - dt.datetime.now(dt.UTC)).total_seconds() / 60))
    return f", within {minutes} minute{'' if minutes == 1 else 's'}"
