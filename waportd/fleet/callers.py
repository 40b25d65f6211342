"""Which host calls: its certificate says it, and the list of members whether it may.

That is looked up for each call: a host that leaves is refused at once, also on a connection that is open.
"""

import logging
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

from waportd.errors import HostRefused
from waportd.fleet.engine import HostState
from waportd.fleet.identity import name_in
from waportd.fleet.peer_calls import Members

log = logging.getLogger(__name__)


class Callers:
    """Lets in who is a host of the fleet now."""

    def __init__(self, members: Members, *, clock: Callable[[], float] = time.time) -> None:
        """``clock`` gives seconds since the epoch."""
        self._members = members
        self._clock = clock
        self._refused: set[tuple[str, str | None]] = set()
        """Who was refused, and why, since the last call of theirs that was not: each is logged once."""

    def admit(self, certificate: Mapping[str, Any]) -> str:
        """Return the name of the host that showed a certificate (`ssl.SSLSocket.getpeercert`). Raises HostRefused."""
        caller = name_in(certificate) or ""
        try:
            self._check(caller, certificate)
        except HostRefused as error:
            if (caller, error.cause) not in self._refused:
                self._refused.add((caller, error.cause))
                log.warning("Cannot answer host %s: %s", caller, error)
            raise
        self._refused = {one for one in self._refused if one[0] != caller}
        return caller

    def _check(self, caller: str, certificate: Mapping[str, Any]) -> None:
        member = self._members().get(caller)
        if member is None:
            raise HostRefused(
                f"no host of the fleet is named {caller!r}",
                cause="unknown_host",
                hint=f"`waportctl fleet activate` on {caller} makes it one",
            )
        if member.state is HostState.LEFT:
            raise HostRefused(
                f"host {caller} has left the fleet",
                cause="left",
                hint=f"stop waportd on {caller}; to bring it back: `waportctl fleet invite {caller}`, and join there",
            )
        # The handshake may be long ago.
        if ssl.cert_time_to_seconds(certificate["notAfter"]) <= self._clock():
            raise HostRefused(
                f"the certificate of host {caller} has expired",
                cause="expired",
                hint=f"`waportctl fleet invite {caller}`, and join there",
            )
