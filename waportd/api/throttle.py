"""Counts callers' failures, so that a caller who fails again and again has to wait. Bounded in time and memory."""

import ipaddress
import logging
from typing import Final

from waportd.quotas import Pace, retry_after

log = logging.getLogger(__name__)

MOST: Final = 10
"""Failures of an address, within `WINDOW_S`, before it has to wait."""
WINDOW_S: Final = 60.0


class Failures:
    """How often each network failed lately. Times are those of one monotonic clock."""

    def __init__(self) -> None:
        self._pace = Pace(MOST, WINDOW_S)

    def count(self, address: str, now: float) -> int | None:
        """Count a failure; return for how many seconds the caller must wait; None below the limit."""
        caller = network(address)
        wait = self._pace.count(caller, now)
        if not wait:
            return None
        if self._pace.counted(caller) == MOST + 1:
            log.warning("%s calls with wrong tokens or links again and again, and has to wait", caller)
        return retry_after(wait)

    @property
    def remembered(self) -> int:
        """How many callers are remembered."""
        return self._pace.remembered


def network(address: str) -> str:
    """Return the range of addresses of one caller: an IPv4 address, or the /64 network that a host has in IPv6."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped is None:
        return str(ipaddress.ip_network((known, 64), strict=False))
    return str(getattr(known, "ipv4_mapped", None) or known)
