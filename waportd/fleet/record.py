"""An assignment as the engine keeps it: the row of a user, with all that the next owner needs. No I/O."""

from collections.abc import Mapping
from typing import Any, Final

from waportd.fleet.chunks import Damaged, KeyUnusable
from waportd.fleet.engine import EngineUnavailable, Row
from waportd.fleet.sealing import Sealing
from waportd.model import Assignment
from waportd.store import COLUMNS, from_row, to_row

OF_THE_ROW: Final = frozenset({"user", "port"})
"""What has a place of its own in the row."""
OF_THIS_HOST: Final = frozenset({"socket_boot", "storage", "moving_to"})
"""What means nothing on another host: the state of its units, and sizes on its disk."""
SECRET: Final = frozenset({"webhook_url", "webhook_secret", "proxy"})
"""What only the hosts may read: passwords and tokens, or what may hold one."""
SEALED: Final = "sealed"
"""The member of the document that has them."""


def document_of(
    assignment: Assignment, known: Row | None = None, sealing: Sealing | None = None
) -> dict[str, Any]:
    """Return the document of an assignment: the values that are set, and the secret ones as ``sealing`` has them.

    What a newer waportd has written into the row that is ``known`` stays.
    """
    values = dict(zip(COLUMNS, to_row(assignment), strict=True))
    ours = set(COLUMNS) - OF_THE_ROW - OF_THIS_HOST
    given = {name: values[name] for name in ours if values[name] is not None}
    secret = {name: given.pop(name) for name in SECRET & given.keys()} if sealing else {}
    theirs = {
        name: value
        for name, value in (known.document if known else {}).items()
        if name not in {*COLUMNS, SEALED}
    }
    return theirs | given | ({SEALED: sealing.seal(assignment.user, secret)} if sealing and secret else {})


def assignment_of(row: Row, sealing: Sealing | None = None) -> Assignment:
    """Return the assignment of a row, as the owner's daemon keeps it; without ``sealing``, without what is secret.

    Raises EngineUnavailable for one that this host cannot read.
    """
    values = {"user": row.user, "port": row.port}
    said = opened(row, sealing)
    document = {name: said.get(name) for name in set(COLUMNS) - OF_THE_ROW - OF_THIS_HOST}
    try:
        return from_row([(values | document).get(name) for name in COLUMNS])
    except (TypeError, ValueError) as error:
        raise EngineUnavailable(
            f"the row of user {row.user} does not hold what this waportd writes: {error}",
            cause="unreadable",
            hint="a newer waportd, or somebody else, wrote it: upgrade waportd on this host",
        ) from error


def opened(row: Row, sealing: Sealing | None) -> Mapping[str, Any]:
    """Return the document of a row with what is sealed in it. Raises EngineUnavailable where this host cannot open it."""
    sealed = row.document.get(SEALED)
    if sealing is None or sealed is None:
        return row.document
    try:
        return {**row.document, **sealing.open(row.user, str(sealed))}
    except (Damaged, KeyUnusable) as error:
        raise EngineUnavailable(error.message, cause="unreadable", hint=error.hint) from error
