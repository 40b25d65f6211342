"""Several stores with the same objects: what is damaged or missing in one is read from another."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Self, TypeVar

from waportd.fleet.chunks import Damaged
from waportd.fleet.objects import ObjectMissing, Objects, Place, StoreUnavailable

T = TypeVar("T")

log = logging.getLogger(__name__)


class Copies:
    """Reads from the first store that has an object whole. One that does not answer is asked last from then on."""

    def __init__(self, stores: Mapping[str, Objects]) -> None:
        """Take the stores by name, the best first."""
        self._stores = dict(stores)

    async def read(self, place: Place, name: str, most: int, use: Callable[[bytes], Awaitable[T]]) -> T:
        """Return what ``use`` makes of an object of at most so many bytes; it raises Damaged for a wrong one.

        Raises Damaged where no store has it whole, but at least one answered; otherwise StoreUnavailable.
        """
        damage: Damaged | ObjectMissing | None = None
        silence = StoreUnavailable("no store of snapshots is known", hint="look at `copies` of the user")
        for copy, store in list(self._stores.items()):
            try:
                return await use(await store.get(place, name, most))
            except StoreUnavailable as error:
                self._stores[copy] = self._stores.pop(copy)
                silence = error
            except (Damaged, ObjectMissing) as error:
                log.warning("Cannot read a part of a snapshot from %s: %s", copy, error)
                damage = error
        if damage is None:
            raise silence
        raise Damaged(
            f"{name} of user {place.user} is whole in no copy: {damage}", hint="an older snapshot is tried"
        ) from damage


class Sending:
    """Writes objects to all stores that lack them. One that fails is left out from then on."""

    def __init__(self, place: Place, stores: Mapping[str, tuple[Objects, dict[str, int]]]) -> None:
        self._place = place
        self._stores = dict(stores)
        self._sent = dict.fromkeys(stores, 0)

    @classmethod
    async def to(cls, stores: Mapping[str, Objects], place: Place) -> Self:
        """Look at what the stores have. Raises StoreUnavailable where none answers."""
        found: dict[str, tuple[Objects, dict[str, int]]] = {}
        silence = StoreUnavailable(
            "no store of snapshots is known",
            hint="`waportctl fleet status` shows whether other hosts are there",
        )
        for copy, store in stores.items():
            try:
                found[copy] = store, dict(await store.list(place))
            except StoreUnavailable as error:
                silence = error
                log.warning("Cannot send a snapshot of user %s to %s: %s", place.user, copy, error)
        if not found:
            raise silence
        return cls(place, found)

    @property
    def copies(self) -> tuple[str, ...]:
        """The stores that have everything so far."""
        return tuple(self._stores)

    @property
    def sent_bytes(self) -> int:
        """How much was sent to one store, at most."""
        return max(self._sent.values())

    def lacks(self, name: str, size: int) -> bool:
        """Return whether a store lacks an object of that size; one of another size is not whole."""
        return any(has.get(name) != size for _, has in self._stores.values())

    async def put(self, name: str, content: bytes) -> None:
        """Store an object where it is lacking. Raises StoreUnavailable when no store is left."""
        for copy, (store, has) in list(self._stores.items()):
            if has.get(name) == len(content):
                continue
            try:
                await store.put(self._place, name, content)
            except StoreUnavailable as error:
                log.warning("Cannot send a snapshot of user %s to %s: %s", self._place.user, copy, error)
                del self._stores[copy]
                if not self._stores:
                    raise
            else:
                has[name] = len(content)
                self._sent[copy] += len(content)


async def repair(
    stores: Mapping[str, Objects], place: Place, name: str, most: int, check: Callable[[bytes], Awaitable[T]]
) -> int:
    """Replace an object wherever it is damaged or missing, and return in how many stores it was.

    Where no store has it whole, it is deleted, so that it is sent again with the next snapshot. Raises StoreUnavailable.
    """
    wrong: list[Objects] = []
    whole: bytes | None = None
    for store in stores.values():
        try:
            content = await store.get(place, name, most)
            await check(content)
            whole = content
        except (Damaged, ObjectMissing):
            wrong.append(store)
    for store in wrong:
        if whole is None:
            await store.delete(place, [name])
        else:
            await store.put(place, name, whole)
    return len(wrong)


async def sweep(
    stores: Mapping[str, Objects], user: str, up_to: int, is_needed: Callable[[int, str], bool]
) -> None:
    """Delete what is not needed under tokens up to that one; ``is_needed`` is asked with token and name.

    Nothing happens under newer tokens. Raises StoreUnavailable, after all stores were tried.
    """
    silence: StoreUnavailable | None = None
    for store in stores.values():
        try:
            for token in await store.tokens(user):
                if token <= up_to:
                    place = Place(user, token)
                    obsolete = [name for name in await store.list(place) if not is_needed(token, name)]
                    await store.delete(place, obsolete)
        except StoreUnavailable as error:
            silence = error
    if silence is not None:
        raise silence
