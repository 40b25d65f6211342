"""What hosts of a fleet ask one another: the calls, what they answer, and how one fails.

A call is one hop. What a host does for another one, it does with what it has, and asks no third one.
"""

import contextvars
import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any, Final

from waportd.fleet.engine import Host, Lease

RENEW: Final = "/fleet/renew"
REACH: Final = "/fleet/reach"
OBJECTS: Final = "/fleet/objects/"
"""After it, the user, the token and the name of an object (`objects.Place`). The daemons answer it, the keepers the others."""
SERVERS: Final = "/fleet/servers/"
"""After it, the user, quoted, and the target of a call of the user's own server. The daemons answer it."""
LISTED: Final = "Waportd-Listed"
"""The header with the number of a list of objects, upon which some of them are deleted."""
MOST: Final = "most"
"""How many bytes an object may have for the caller."""

CALL_S: Final = 2.8
"""Seconds after which a host that has not answered is silent: less than the 3 between two renewals of a lease."""
ENGINE_S: Final = 2.0
"""Seconds that a host waits for the engine on behalf of another one, which gives it `CALL_S`."""
MAX_REQUEST_BYTES: Final = 4 * 1024
"""Bytes; a lease has some hundred."""
MAX_ANSWER_BYTES: Final = 256 * 1024
"""Bytes; a host on the list of a fleet has some fifty."""

Members = Callable[[], Mapping[str, Host]]
"""Returns the hosts of the fleet as they are known now, by name; those that have left may be among them."""

ANSWERING: contextvars.ContextVar[str | None] = contextvars.ContextVar("answering", default=None)
"""The host whose call is being answered in this context; None: no host's."""


class Renewal(enum.StrEnum):
    """What became clear when a host was asked to renew the lease of another one."""

    RENEWED = "renewed"
    """It reached the engine, and the lease is renewed."""
    UNREACHABLE = "unreachable"
    """It does not reach the engine either."""
    GONE = "gone"
    """It reached the engine, which does not have this incarnation any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reach:
    """Whether a host reaches the engine, and which lease it has."""

    host: str
    engine: bool
    incarnation: int | None
    """None: it holds no lease."""
    epoch: str | None
    """The one that it knows; None: none yet."""


def read_renewal(document: Any) -> Renewal:
    """Return what `Renewal` another host sent. Raises ValueError, TypeError, KeyError, as all that read here."""
    return Renewal(_of(document, "outcome", str))


def read_hosts(document: Any) -> dict[str, str]:
    """Return the list of hosts that came with a `Renewal`: their addresses, by name."""
    hosts = _of(document, "hosts", dict)
    return {str(name): _of(hosts, name, str) for name in hosts}


def read_lease(document: Any) -> Lease:
    """Return the lease that another host sent."""
    return Lease(
        host=_of(document, "host", str),
        id=_of(document, "id", int),
        incarnation=_of(document, "incarnation", int),
        ttl_s=_of(document, "ttl_s", int, float),
    )


def read_reach(document: Any) -> Reach:
    """Return whether another host reaches the engine."""
    return Reach(
        host=_of(document, "host", str),
        engine=_of(document, "engine", bool),
        incarnation=_of(document, "incarnation", int, type(None)),
        epoch=_of(document, "epoch", str, type(None)),
    )


def _of(document: Any, name: str, *kinds: type) -> Any:
    """Return a member of exactly one of these types: true is no number."""
    value = document[name]
    if type(value) not in kinds:
        raise TypeError(name)
    return value
