"""Counts callers' failures, so that whoever tries and tries is told to wait. Bounded in time and memory."""

import collections
import ipaddress
import logging
import math
from typing import Final

log = logging.getLogger(__name__)

MOST: Final = 10
"""Failures of an address that are answered as such, within `WINDOW`."""
WINDOW: Final = 60.0
"""Seconds."""
_ADDRESSES = 4096
"""Addresses that are remembered; of more, those that failed first are forgotten first."""


class Failures:
    """How often which network failed lately. Times are those of one monotonic clock."""

    def __init__(self) -> None:
        self._counts: collections.OrderedDict[str, tuple[float, int]] = collections.OrderedDict()
        """When a network's window began, and its failures since."""

    def count(self, address: str, now: float) -> int | None:
        """Count a failure; return for how many seconds the caller shall wait, or None where it is not one too many."""
        network = _network(address)
        began, count = self._counts.get(network, (now, 0))
        if now >= began + WINDOW:
            began, count = now, 0
            self._counts.pop(network, None)
        self._counts[network] = began, count + 1
        if len(self._counts) > _ADDRESSES:
            self._counts.popitem(last=False)
        if count == MOST:
            log.warning("%s calls with wrong tokens or links again and again, and is told to wait", network)
        return math.ceil(began + WINDOW - now) if count >= MOST else None


def _network(address: str) -> str:
    """Return what one caller can call from: an IPv4 address, or the /64 network that a host has in IPv6."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped is None:
        return str(ipaddress.ip_network((known, 64), strict=False))
    return str(getattr(known, "ipv4_mapped", None) or known)
