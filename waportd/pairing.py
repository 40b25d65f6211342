"""Pairing codes: whose phone one is for, and how often one may be asked for. No I/O."""

import collections
import dataclasses
import math
import re
from collections.abc import Hashable

from waportd.errors import TooManyRequests
from waportd.model import User

INTERVAL = 30.0
"""Seconds from one code of a user to the next one."""
PER_HOUR = 5
"""Codes of a user in an hour. WhatsApp refuses an account's codes for hours where too many are asked for; how many
that is it does not say."""
_HOUR = 3600.0
PHONE_PATTERN = r"[ ().+\u00a0-]*[1-9](?:[ ().+\u00a0-]*[0-9]){7,14}[ ().+\u00a0-]*"
"""A phone number with its country code, as people write it (ITU-T E.164: at most 15 digits)."""


def phone_digits(text: str) -> str | None:
    """Return the digits of a phone number with its country code; None where it is none."""
    return re.sub("[^0-9]", "", text) if re.fullmatch(PHONE_PATTERN, text) else None


@dataclasses.dataclass(slots=True)
class _Asked:
    times: collections.deque[float]
    code: Hashable = dataclasses.field(repr=False)
    until: float = math.inf
    """When the code ends. As long as it is not there, nobody knows."""


class PairingLimit:
    """Keeps anybody from asking WhatsApp for codes again and again. Times are those of one monotonic clock."""

    def __init__(self) -> None:
        self._asked: dict[User, _Asked] = {}

    def admit(self, user: User, code: Hashable, now: float) -> None:
        """Count a request; raise TooManyRequests where it is one too many.

        ``code`` stands for the server and phone that it is of. Asking again for the one that is on its way or still
        valid is free: it is no new one.
        """
        asked = self._asked.get(user)
        if asked is None:
            self._asked[user] = _Asked(collections.deque([now]), code)
            return
        if asked.code == code and now < asked.until:
            return
        while asked.times and asked.times[0] <= now - _HOUR:
            asked.times.popleft()
        wait = 0.0
        if len(asked.times) >= PER_HOUR:
            wait = asked.times[0] + _HOUR - now
        elif asked.times:
            wait = asked.times[-1] + INTERVAL - now
        if wait > 0:
            raise TooManyRequests(
                f"user {user} has asked for {len(asked.times)} pairing codes within the hour, "
                f"the last one {now - asked.times[-1]:.0f} s ago",
                hint=f"wait {math.ceil(wait)} s, or scan the QR code; WhatsApp blocks accounts that ask too often",
                retry_after=math.ceil(wait),
            )
        asked.times.append(now)
        asked.code, asked.until = code, math.inf

    def settle(self, user: User, code: Hashable, until: float) -> None:
        """Note how long a code is valid: until now where none came."""
        asked = self._asked.get(user)
        if asked is not None and asked.code == code:
            asked.until = until

    def end(self, user: User, now: float) -> None:
        """Note that a code is no longer valid: the next one counts, for the same phone too."""
        if user in self._asked:
            self._asked[user].until = now

    def forget(self, user: User) -> None:
        """Drop what is known of a user who is gone."""
        self._asked.pop(user, None)
