"""Which port a user gets: a pure function of the rules, of what is assigned and of what is held."""

import dataclasses
from collections.abc import Callable, Mapping

from waportd.config import PortRange, Ports
from waportd.errors import PortsExhausted
from waportd.model import Port, User

REFUSED_BY_BROWSERS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190}
    | {5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080}
)
"""Ports above 1023 that browsers and node's ``fetch`` refuse to call (https://fetch.spec.whatwg.org/#port-blocking)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A port, and why it is not the preferred one."""

    port: Port
    note: str | None = None


def preferred_port(user: User, rules: Ports) -> int | None:
    """Return ``base + N - 1`` for user N, even outside the range; None for an identifier that is not a number."""
    if not (user.isascii() and user.isdecimal()) or user != str(int(user)):
        return None
    return rules.base + int(user) - 1


def preferring_user(port: Port, rules: Ports) -> User | None:
    """Return the user who prefers that port by number, whichever user has it: the inverse of `preferred_port`."""
    number = port - rules.base + 1
    return User(str(number)) if number >= 0 else None


def choose(
    user: User,
    rules: Ports,
    assigned: Mapping[Port, User],
    held: Callable[[Port], str | None],
    taken_below: int = 0,
) -> Choice:
    """Choose the port of a user who has none.

    ``held`` names the foreign holder of a port, or returns None. The caller knows that all ports of the overflow range
    below ``taken_below`` are assigned. Raises PortsExhausted.
    """
    wanted = preferred_port(user, rules)
    if wanted is None:
        note = None
    else:
        obstacle = _obstacle(wanted, rules, assigned, held)
        if obstacle is None:
            return Choice(Port(wanted))
        note = f"port {wanted} is {obstacle}"
    for number in range(max(rules.overflow.first, taken_below), rules.overflow.last + 1):
        if _obstacle(number, rules, assigned, held, within=rules.overflow) is None:
            return Choice(Port(number), note)
    raise PortsExhausted(
        f"no port is left for user {user}: {rules.overflow} are all assigned, reserved or held",
        hint="widen ports.overflow in the configuration, or delete users who are gone",
    )


def next_free(
    port: Port, rules: Ports, assigned: Mapping[Port, User], held: Callable[[Port], str | None]
) -> Port | None:
    """Return the port after this one, if the next new user may get it: most users are numbered in order."""
    number = port + 1
    within = rules.overflow if port in rules.overflow else None
    return None if _obstacle(number, rules, assigned, held, within) else Port(number)


def obstacle(
    port: Port, rules: Ports, assigned: Mapping[Port, User], held: Callable[[Port], str | None]
) -> str | None:
    """Return why that port, of either range, cannot be assigned; None where it can.

    In words that follow "port N is".
    """
    return _obstacle(port, rules, assigned, held, rules.overflow if port in rules.overflow else None)


def taken_below(rules: Ports, assigned: Mapping[Port, User], known: int = 0) -> int:
    """Return the port below which all of the overflow range are assigned; so far that was so below ``known``.

    With ten thousand users, to look at all their ports took longer than to assign one.
    """
    number = max(rules.overflow.first, known)
    while Port(number) in assigned:
        number += 1
    return number


def _obstacle(
    number: int,
    rules: Ports,
    assigned: Mapping[Port, User],
    held: Callable[[Port], str | None],
    within: PortRange | None = None,
) -> str | None:
    allowed = rules.range if within is None else within
    if number not in allowed:
        return f"outside of ports.range {allowed}"
    if number in rules.reserved:
        return "reserved (ports.reserved)"
    if number in REFUSED_BY_BROWSERS:
        return "refused by web browsers"
    port = Port(number)
    if port in assigned:
        return f"assigned to user {assigned[port]}"
    holder = held(port)
    return f"held by {holder}" if holder else None
