"""An assignment as the engine keeps it: the row of a user, with all that the next owner needs. No I/O."""

from typing import Any, Final

from waportd.fleet.engine import EngineUnavailable, Row
from waportd.model import Assignment
from waportd.store import COLUMNS, from_row, to_row

OF_THE_ROW: Final = frozenset({"user", "port"})
"""What has a place of its own in the row."""
OF_THIS_HOST: Final = frozenset({"socket_boot", "storage", "moving_to"})
"""What means nothing on another host: the state of its units, and sizes on its disk."""


def document_of(assignment: Assignment, known: Row | None = None) -> dict[str, Any]:
    """Return the document of an assignment: the values that are set.

    What a newer waportd has written into the row that is ``known`` stays.
    """
    values = dict(zip(COLUMNS, to_row(assignment), strict=True))
    ours = set(COLUMNS) - OF_THE_ROW - OF_THIS_HOST
    theirs = {name: value for name, value in (known.document if known else {}).items() if name not in COLUMNS}
    return theirs | {name: values[name] for name in ours if values[name] is not None}


def assignment_of(row: Row) -> Assignment:
    """Return the assignment of a row, as the owner's daemon keeps it. Raises EngineUnavailable for one it cannot read."""
    values = {"user": row.user, "port": row.port}
    document = {name: row.document.get(name) for name in set(COLUMNS) - OF_THE_ROW - OF_THIS_HOST}
    try:
        return from_row([(values | document).get(name) for name in COLUMNS])
    except (TypeError, ValueError) as error:
        raise EngineUnavailable(
            f"the row of user {row.user} does not hold what this waportd writes: {error}",
            cause="unreadable",
            hint="a newer waportd, or somebody else, wrote it: upgrade waportd on this host",
        ) from error
