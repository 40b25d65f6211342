"""On how many other hosts the logins of a host's users are. Pure."""

import dataclasses

from waportd.fleet.engine import HostState, State


@dataclasses.dataclass(frozen=True, slots=True)
class Coverage:
    """The linked users of a host, by where their logins are."""

    wanted: int
    """On how many other hosts each should be; 0 where logins lie in a folder."""
    enough: tuple[str, ...]
    few: tuple[str, ...]
    """Those on fewer hosts that are up."""
    none: tuple[str, ...]
    """Those that were never published."""


def coverage(state: State, host: str, copies: int) -> Coverage:
    """Return where the logins of a host's users are; ``copies`` is that of the settings, 0 for a folder."""
    others = [one for one in state.hosts if one.name != host and one.state is not HostState.LEFT]
    wanted = min(copies, len(others))
    alive = {one.name for one in others if one.alive}
    enough, few, none = [], [], []
    for row in state.rows:
        if row.host != host or not row.document.get("linked"):
            continue
        if row.snapshot is None:
            none.append(row.user)
        elif wanted and len(alive & set(row.copies)) < wanted:
            few.append(row.user)
        else:
            enough.append(row.user)
    return Coverage(wanted, tuple(enough), tuple(few), tuple(none))
