"""Which hosts are silent, since when, and whether this host may start or take users now. No I/O.

Nobody compares wall clocks. A host is silent from the moment at which *this process* has seen that its lease is gone.
What a process has not seen without a gap it does not know: when its contact with the engine begins (at its start, after
an outage, in a new epoch), all counts start again. A host without a lease has either stopped its sessions by then,
or all hosts that it knows have said to it that they do not reach the engine (failsafe), and it stops within 30 s.
So nothing is taken in the first minute of a contact.

Times are seconds of one monotonic clock of this process. CLOCK_BOOTTIME is best: it shows that the host was suspended.
"""

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from waportd.fleet.engine import Host, HostState, State

GAP_S: Final = 10.0
"""Seconds without a word of the engine after which the contact counts as lost."""
ESTABLISHING: Final = 3
"""A host is established when it has seen all members alive for this many times TTL plus failover time.

A lease outlives its last renewal by the TTL, by twice the TTL if the engine changes its leader. Within three times
each member has thus renewed, and with that read a list of members which has this host.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """What this host may do at one moment. Each obstacle is None, or a sentence for the log."""

    unsettled: str | None
    """Why no user may be started or taken: the engine may have forgotten who runs where."""
    recent: str | None
    """Why silence cannot be judged yet: the contact with the engine is lost, or too young."""
    newcomer: str | None
    """Why this host is not relied upon yet: some member may not know it."""
    brake: str | None
    """Why the fault may lie elsewhere: most of the members are silent."""
    settle: bool
    """This host must put on record that the epoch is settled (`Engine.settle`), and act upon a state read after that."""
    silent_for: Mapping[str, float]
    """Hosts whose users are to be taken unless there is an obstacle, with the seconds since that time."""

    @property
    def obstacle(self) -> str | None:
        """Why no users may be taken; None where they may."""
        return self.unsettled or self.recent or self.newcomer or self.brake

    @property
    def takeable(self) -> Mapping[str, float]:
        """Hosts whose users may be taken now, with the seconds since that time."""
        return {} if self.obstacle else self.silent_for


class Membership:
    """Follows the members of the fleet as this process sees them."""

    def __init__(
        self,
        host: str,
        *,
        ttl_s: float,
        failover_after_s: float,
        established: bool = False,
        remembered: Iterable[str] = (),
    ) -> None:
        """``remembered`` are the members that an earlier process knew, ``established`` is what it has found.

        A host that joins is not established, whatever an earlier host of that name was.
        """
        self._host = host
        self._failover_after_s = failover_after_s
        self._whole_s = ttl_s + failover_after_s
        """Seconds of silence after which a host's sessions are dead, whatever was seen before."""
        self._established = established
        self._remembered = frozenset(remembered)
        self._state: State | None = None
        self._heard_at = 0.0
        self._contact_since: float | None = None
        self._gone_since: dict[str, float] = {}
        self._all_alive_since: float | None = None

    @property
    def established(self) -> bool:
        """Whether all members know this host. It is kept for the next process."""
        return self._established

    @property
    def awaited(self) -> frozenset[str]:
        """Members that this process knows, also those which an engine that forgot does not list."""
        return self._remembered | _members(self._state)

    def observe(self, state: State, now: float) -> None:
        """Take note of what the engine says now. It is called at least every `GAP_S`, or `heard` is.

        A state that is older than the last one is not evidence of anything, and is left out.
        """
        if self._state is not None and _has_forgotten(state, self._state):
            self._remembered = self.awaited
            self.lose()
        elif self._state is not None and state.revision < self._state.revision:
            return
        self._touch(now)
        self._state = state
        if state.settled:
            self._remembered = frozenset()
        alive = {host.name for host in state.hosts if host.alive}
        listed = {host.name for host in state.hosts}
        gone = (self.awaited | listed | {row.host for row in state.rows}) - alive
        self._gone_since = {name: self._gone_since.get(name, now) for name in gone}
        self._follow_establishing(alive, now)

    def heard(self, now: float) -> None:
        """Take note that the engine has answered, and that nothing has changed."""
        if self._contact_since is not None and self._state is not None:
            self.observe(self._state, now)

    def lose(self) -> None:
        """Take note that the engine did not answer a call of this host, of its keeper or of its daemon.

        It must be noted *before* another host gets the answer that this host does not reach the engine: that host
        may then run its sessions for 30 s more.
        """
        self._contact_since = None

    def standing(self, now: float) -> Standing:
        """Return what this host may do now."""
        contact_since = self._contact(now)
        silent = self._gone_since if contact_since is not None else {}
        whole = {name for name, since in silent.items() if now - since >= self._whole_s}
        waited_for = self.awaited - whole - (self._state.confirmed if self._state else set())
        unsettled, newcomer = self._unsettled(waited_for), self._newcomer()
        return Standing(
            unsettled=unsettled,
            recent=self._recent(contact_since, now),
            newcomer=newcomer,
            brake=self._brake(),
            settle=unsettled is not None
            and contact_since is not None
            and not waited_for
            and newcomer is None,
            silent_for={} if contact_since is None else self._silent_for(contact_since, now),
        )

    def _contact(self, now: float) -> float | None:
        """Return since when there is contact; None where there is none."""
        return None if now - self._heard_at > GAP_S else self._contact_since

    def _touch(self, now: float) -> None:
        if self._contact(now) is None:
            self._contact_since, self._gone_since, self._all_alive_since = now, {}, None
        self._heard_at = now

    def _follow_establishing(self, alive: Collection[str], now: float) -> None:
        if self._host not in self.awaited or not self.awaited <= set(alive):
            self._all_alive_since = None
        elif self._all_alive_since is None:
            self._all_alive_since = now
        elif now - self._all_alive_since >= ESTABLISHING * self._whole_s:
            self._established = True

    def _unsettled(self, waited_for: Collection[str]) -> str | None:
        if self._state is None:
            return "the engine has not been read yet"
        if self._state.settled:
            return None
        if waited_for:
            return f"the engine is new, or was restored: waiting for what {_names(waited_for)} hold"
        return "the engine is new, or was restored: waiting until it is on record that all hosts were heard"

    def _recent(self, contact_since: float | None, now: float) -> str | None:
        if contact_since is None:
            return "the engine does not answer, or says less than it did before"
        left = contact_since + self._whole_s - now
        return (
            f"the engine has only been followed for a short time: {left:.0f} s are left" if left > 0 else None
        )

    def _newcomer(self) -> str | None:
        if self._established:
            return None
        missing = self.awaited & self._gone_since.keys()
        if missing:
            return (
                f"this host is new, and has not seen {_names(missing)}: "
                f"`waportctl host evict` removes a host that does not come back"
            )
        return "this host is new, and some member may not know it yet"

    def _brake(self) -> str | None:
        members = _members(self._state)
        silent = members & self._gone_since.keys()
        if 2 * len(silent) <= len(members):
            return None
        return (
            f"{len(silent)} of {len(members)} members are silent ({_names(silent)}): "
            f"`waportctl host evict` removes a host that does not come back"
        )

    def _silent_for(self, contact_since: float, now: float) -> dict[str, float]:
        earliest = contact_since + self._whole_s
        due = {
            name: max(since + self._failover_after_s, earliest) for name, since in self._gone_since.items()
        }
        return {name: now - at for name, at in due.items() if now >= at and name != self._host}


def _has_forgotten(state: State, last: State) -> bool:
    """Return whether the engine has forgotten what it said last: it is another one, or was set up again under its old id."""
    return state.epoch != last.epoch or (last.settled and not state.settled)


def _members(state: State | None) -> frozenset[str]:
    hosts: Iterable[Host] = () if state is None else state.hosts
    return frozenset(host.name for host in hosts if host.state != HostState.LEFT)


def _names(hosts: Collection[str]) -> str:
    """Return names for a sentence, not more than five."""
    first, rest = sorted(hosts)[:5], len(hosts) - 5
    return ", ".join(first) + (f" and {rest} more" if rest > 0 else "")
