"""The protocol of an object store: where encrypted parts of snapshots lie.

Objects lie below ``<user>/<token>/``. An owner writes under its own token only, so that a host that is an owner no longer
harms nobody.
"""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Final, Protocol

from waportd.errors import WaportdError
from waportd.model import is_user

MANIFEST: Final = "manifest-"
"""How the names of manifests begin; those of chunks have nothing before their digits."""
NAME: Final = re.compile(rf"(?:{MANIFEST})?[0-9a-f]{{64}}")
"""The name of an object: that of a chunk, or of a manifest."""


class StoreUnavailable(WaportdError):
    """A store of snapshots is away, full, or too slow. What was asked may have happened, but nothing by half."""

    code = "snapshot_store_unavailable"
    status = 503
    title = "A store of snapshots is not available"


class ObjectMissing(WaportdError):
    """The store answers, and does not have the object."""

    code = "object_missing"
    status = 404
    title = "The store does not have that object"


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where the objects of one owner of a user lie."""

    user: str
    token: int

    def __post_init__(self) -> None:
        if not is_user(self.user) or self.token < 0:
            raise ValueError(f"{self.user!r:.80}, {self.token} is no place in a store")


class Objects(Protocol):
    """A store. Every call ends within a limit of the store's own, or raises StoreUnavailable.

    Calls for one place happen one after the other, also one that was given up: the next one waits until that has ended.
    Otherwise a late deletion could take away what the next snapshot needs.
    """

    async def put(self, place: Place, name: str, content: bytes) -> None:
        """Store an object, or replace it. It is whole, or does not have its name.

        A manifest that has been stored outlives a power cut, with everything that was stored at its place before.
        """

    async def get(self, place: Place, name: str, most: int) -> bytes:
        """Return an object. Raises ObjectMissing, and Damaged where it has more bytes than ``most`` or is unreadable."""

    async def list(self, place: Place) -> Mapping[str, int]:
        """Return the names of all objects of a place, with their sizes in bytes."""

    async def tokens(self, user: str) -> Collection[int]:
        """Return the tokens under which objects of a user may lie."""

    async def delete(self, place: Place, objects: Collection[str]) -> None:
        """Delete these objects, where they are there, and what was left of calls of `put` that a crash cut off."""
