"""Pairing codes: whose phone one is for, and how often one may be asked for. No I/O."""

import collections
import dataclasses
import math
import re
from collections.abc import Hashable

from waportd.contract import LIMITS
from waportd.errors import TooManyRequests
from waportd.model import User
from waportd.quotas import Pace, retry_after

INTERVAL_S = 30.0
"""Seconds from one code of a user to the next one."""
PER_HOUR = 5
"""Codes of a user in an hour. WhatsApp refuses codes to an account for hours after too many requests; it does not say
how many."""
PER_HOST = 120
"""Codes that all users together may ask for in an hour."""
_HOUR_S = 3600.0
SWEPT_FROM = 1000
"""With more users than this, those whose hour is over are forgotten."""
_LEAST, _MOST = LIMITS["phone_digits"]
_BETWEEN = r"[ ().+\u00a0-]*"
PHONE_PATTERN = rf"{_BETWEEN}[1-9](?:{_BETWEEN}[0-9]){{{_LEAST - 1},{_MOST - 1}}}{_BETWEEN}"
"""A phone number with its country code, as people write it (ITU-T E.164: at most 15 digits)."""


def phone_digits(text: str) -> str | None:
    """Return the digits of a phone number with its country code; None for other texts."""
    return re.sub("[^0-9]", "", text) if re.fullmatch(PHONE_PATTERN, text) else None


@dataclasses.dataclass(slots=True)
class _Asked:
    times: collections.deque[float]
    code: Hashable = dataclasses.field(repr=False)
    until: float = math.inf
    """When the code ends; unknown until the code is there."""


class PairingLimit:
    """Limits requests to WhatsApp for codes. Times are those of one monotonic clock."""

    def __init__(self) -> None:
        self._asked: dict[User, _Asked] = {}
        self._phones = Pace(PER_HOUR, _HOUR_S)
        self._host = Pace(PER_HOST, _HOUR_S)

    def admit(self, user: User, phone: str, code: Hashable, now: float) -> None:
        """Count a request; raise TooManyRequests beyond the limit.

        ``code`` stands for its server and phone. Asking again for a code that is on its way or still
        valid is free: it is not a new one.
        """
        asked = self._asked.get(user)
        if asked is None:
            self._admit_phone(phone, now)
            if len(self._asked) >= SWEPT_FROM:
                self._sweep(now)
            self._asked[user] = _Asked(collections.deque([now]), code)
            return
        if asked.code == code and now < asked.until:
            return
        while asked.times and asked.times[0] <= now - _HOUR_S:
            asked.times.popleft()
        wait = 0.0
        if len(asked.times) >= PER_HOUR:
            wait = asked.times[0] + _HOUR_S - now
        elif asked.times:
            wait = asked.times[-1] + INTERVAL_S - now
        if wait > 0:
            raise TooManyRequests(
                f"user {user} has asked for {len(asked.times)} pairing codes within the hour, "
                f"the last one {now - asked.times[-1]:.0f} s ago",
                hint=f"wait {math.ceil(wait)} s, or scan the QR code; WhatsApp blocks accounts that ask too often",
                retry_after=math.ceil(wait),
            )
        self._admit_phone(phone, now)
        asked.times.append(now)
        asked.code, asked.until = code, math.inf

    def _admit_phone(self, phone: str, now: float) -> None:
        """Count a code for a phone, whichever user asks for it: each is shown on the phone, wanted or not."""
        wait = self._phones.count(phone, now)
        whose = f"for that phone {PER_HOUR}"
        if not wait:
            wait, whose = self._host.count(None, now), f"on this host {PER_HOST}"
        if wait:
            raise TooManyRequests(
                f"{whose} pairing codes have been asked for within the hour, which is the limit",
                hint=f"wait {retry_after(wait)} s, or scan the QR code",
                retry_after=retry_after(wait),
            )

    def settle(self, user: User, code: Hashable, until: float) -> None:
        """Note until when a code is valid: until now where none came."""
        asked = self._asked.get(user)
        if asked is not None and asked.code == code:
            asked.until = until

    def end(self, user: User, now: float) -> None:
        """Note that a code is no longer valid: the next one counts, for the same phone too."""
        if user in self._asked:
            self._asked[user].until = now

    def forget(self, user: User) -> None:
        """Drop the code of a user who is gone; that it was asked for is remembered as long as it counts."""
        if user in self._asked:
            self._asked[user].until = -math.inf

    @property
    def remembered(self) -> int:
        """How many users are remembered."""
        return len(self._asked)

    def _sweep(self, now: float) -> None:
        """Drop those who have asked for nothing within the hour."""
        for user in [user for user, asked in self._asked.items() if asked.times[-1] <= now - _HOUR_S]:
            del self._asked[user]
